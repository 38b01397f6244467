"""The ways to make a variant of an exported float network: from a graph to a graph."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import DataError, ModelError
from qprof.runtimes.tool_output import first_line
from qprof.runtimes.torch_export.graph import Graph, module_path, op_type, read_graph
from qprof.runtimes.torch_export.library import import_pt2e, quiet
from qprof.runtimes.torch_export.program import Network, attribute, reexported

#: The largest number of bfloat16: a mask's -3.4e38 of float32 would become infinite.
_BFLOAT16_MOST = 3.3895313892515355e38


def refuse_quantized(network: Network) -> None:
    """Raise `ModelError` for a network that is quantized already."""
    found = [node for node in network.module.graph.nodes if str(node.target).startswith("quantized_decomposed.")]
    if found:
        raise ModelError(
            f"{network.path}: is quantized already ({len(found)} conversions), so nothing can be made of it; name the "
            "float network as model.path, and this one as a variant's file"
        )


def bfloat16(network: Network) -> Any:
    """Weights and activations in bfloat16; inputs and outputs stay as they are. Raises `ModelError`."""
    import torch

    module = network.module.to(torch.bfloat16)
    graph = module.graph
    for node in list(graph.nodes):
        if node.op == "placeholder" and node.meta["val"].dtype == torch.float32:
            with graph.inserting_after(node):
                cast = graph.call_function(torch.ops.aten.to.dtype, (node, torch.bfloat16))
            node.replace_all_uses_with(cast, delete_user_cb=lambda user, cast=cast: user is not cast)
        elif node.op == "call_function":
            node.args = torch.fx.node.map_aggregate(node.args, _in_bfloat16)
            node.kwargs = torch.fx.node.map_aggregate(node.kwargs, _in_bfloat16)
        elif node.op == "output":
            with graph.inserting_before(node):
                node.args = torch.fx.node.map_arg(
                    node.args,
                    lambda one: (
                        graph.call_function(torch.ops.aten.to.dtype, (one, torch.float32)) if _is_float(one) else one
                    ),
                )
    for node in [one for one in graph.nodes if op_type(one) == "_assert_tensor_metadata"]:
        graph.erase_node(node)  # of the types that were
    graph.lint()
    module.recompile()
    return _exported(network, module, "bfloat16")


def int8_static(
    network: Network, samples: Iterable[Sequence[NDArray[Any]]], skip_layers: Sequence[str]
) -> tuple[Any, int]:
    """PT2E by torchao's quantizer for x86 and inductor: weights by channel, activations as a whole. Also returns how
    many samples calibrated it. Raises `ModelError`, `DataError`."""
    prepared = _prepared(network, skip_layers, dynamic=False)
    count = 0
    for sample in samples:
        _feed(network, prepared, sample, count)
        count += 1
    if not count:
        raise DataError(f"{network.path}: int8 needs calibration samples, and the task gives none; raise their number")
    return _converted(network, prepared, "int8"), count


def int8_dynamic(network: Network, skip_layers: Sequence[str]) -> Any:
    """PT2E of the linears alone: weights by channel, activations as they come. Raises `ModelError`."""
    prepared = _prepared(network, skip_layers, dynamic=True)
    _feed(network, prepared, [example.numpy() for example in network.examples], 0)
    return _converted(network, prepared, "int8-dynamic")


def int8_eager(network: Network, skip_layers: Sequence[str]) -> Any:
    """The weights of linears as `torch.ao.quantization.quantize_dynamic` rounds them, as a whole; `lowering` makes its
    kernels of them. Raises `ModelError`."""
    import torch
    from torch.ao.quantization import default_dynamic_qconfig

    graph = read_graph(network.module)
    skipped = _skipped(network, graph, skip_layers)
    changed = 0
    for node in graph.nodes:
        weights = node.args[1] if op_type(node) == "linear" else None
        if weights is None or weights.op != "get_attr" or module_path(node) in skipped:
            continue
        values = attribute(network.module, str(weights.target)).detach().float()
        observer = default_dynamic_qconfig.weight()
        observer(values)
        scale, zero_point = observer.calculate_qparams()
        with quiet():  # it warns of its end
            whole = torch.quantize_per_tensor(values, float(scale), int(zero_point), torch.qint8)
        name = f"_int8_{changed}"
        network.module.register_buffer(name, whole.int_repr())
        with network.module.graph.inserting_before(node):
            stored = network.module.graph.get_attr(name)
            real = network.module.graph.call_function(
                torch.ops.quantized_decomposed.dequantize_per_tensor.default,
                (stored, float(scale), int(zero_point), -128, 127, torch.int8),
            )
        node.args = (node.args[0], real, *node.args[2:])
        changed += 1
    if not changed:
        raise ModelError(f"{network.path}: has no linear to be quantized as it runs; take int8, which quantizes more")
    return _exported(network, network.module, "int8-eager")


def _prepared(network: Network, skip_layers: Sequence[str], dynamic: bool) -> Any:
    import_pt2e()
    import torch
    from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    quantizer = x86.X86InductorQuantizer()
    config = x86.get_default_x86_inductor_quantization_config(is_dynamic=dynamic)
    if dynamic:  # a convolution would only get conversions around it: there is no such kernel
        quantizer.set_function_type_qconfig(torch.nn.functional.linear, config)
    else:
        quantizer.set_global(config)
    for name in _skipped(network, read_graph(network.module), skip_layers):
        quantizer.set_module_name_qconfig(name, None)
    _say_sources(network.module)
    with quiet(), torch.no_grad():
        return prepare_pt2e(network.module, quantizer)


def _say_sources(module: Any) -> None:
    """Let every op say that it comes of torch's own module for it, by which the quantizer knows it: one of a subclass
    or of a function ("class Conv2dSame(nn.Conv2d)", "F.conv2d") would stay in float without a word."""
    import operator

    from torch import nn

    sources: dict[str, Any] = {
        "conv1d": nn.Conv1d,
        "conv2d": nn.Conv2d,
        "linear": nn.Linear,
        "relu": nn.ReLU,
        "hardtanh": nn.Hardtanh,
        "relu6": nn.ReLU6,
        "hardswish": nn.Hardswish,
        "silu": nn.SiLU,
        "gelu": nn.GELU,
        "add": operator.add,
    }
    for node in module.graph.nodes:
        source = sources.get(op_type(node).removesuffix("_")) if node.op == "call_function" else None
        if source is not None:
            node.meta["source_fn_stack"] = [(str(node.name), source)]


def left_in_float(program: Any) -> list[str]:
    """The convolutions and linears of a quantized program whose weights are not dequantized ones."""
    graph = read_graph(program.module(check_guards=False))
    layers = [node for node in graph.nodes if op_type(node) in ("conv1d", "conv2d", "conv3d", "linear")]
    return [graph.names[node] for node in layers if not op_type_is(node.args[1], "dequantize")]


def _skipped(network: Network, graph: Graph, skip_layers: Sequence[str]) -> set[str]:
    """The modules of layers that are to stay in float."""
    paths = {graph.names[node]: module_path(node) for node in graph.nodes}
    unknown = [name for name in skip_layers if not paths.get(name)]
    if unknown:
        raise ModelError(
            f"{network.path}: skip_layers names {unknown[0]!r}, which is no layer of it; take names of qprof layers"
        )
    return {paths[name] for name in skip_layers}


def _feed(network: Network, prepared: Any, sample: Sequence[NDArray[Any]], number: int) -> None:
    import torch

    arrays = [np.asarray(array) for array in sample]
    if len(arrays) != len(network.inputs):
        raise DataError(f"{network.path}: calibration sample {number} has {len(arrays)} arrays for "
                        f"{len(network.inputs)} inputs; give one for each")  # fmt: skip
    for array in arrays:
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise DataError(f"{network.path}: calibration sample {number} holds NaN or infinity; check it")
    try:
        with quiet(), torch.no_grad():
            prepared(*(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays))
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        raise ModelError(f"{network.path}: calibration fails at sample {number}: {first_line(error)}") from error


def _converted(network: Network, prepared: Any, method: str) -> Any:
    import torch
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e

    with quiet(), torch.no_grad():
        module = convert_pt2e(prepared)
    if not any(str(node.target).startswith("quantized_decomposed.") for node in module.graph.nodes):
        raise ModelError(f"{network.path}: {method} quantizes none of its ops; it has none that the quantizer knows")
    return _exported(network, module, method)


def _exported(network: Network, module: Any, method: str) -> Any:
    _name_weights(module)
    try:
        return reexported(module, network.examples)
    except Exception as error:  # torch raises what it likes
        raise ModelError(f"{network.path}: {method} cannot be exported: {first_line(error)}") from error


#: What a quantized weight and what belongs to it is called in the module of its layer, by its place in `dequantize`.
_QUANTIZED_WEIGHT = ("weight", "weight_scale", "weight_zero_point")


def _name_weights(module: Any) -> None:
    """Give the integer weights the names of the layers that read them, instead of numbers."""
    for node in list(module.graph.nodes):
        if not op_type_is(node, "dequantize") or node.args[0].op != "get_attr":
            continue
        layers = {module_path(user) for user in node.users}
        if len(layers) != 1 or not (layer := layers.pop()):
            continue
        try:
            owner = module.get_submodule(layer)
        except AttributeError:
            continue
        for source, name in zip(node.args[:3], _QUANTIZED_WEIGHT, strict=True):
            if getattr(source, "op", "") != "get_attr" or str(source.target).startswith(layer):
                continue
            tensor = attribute(module, str(source.target)).detach()
            if hasattr(owner, name):
                delattr(owner, name)
            owner.register_buffer(name, tensor)
            source.target = f"{layer}.{name}"


def op_type_is(node: Any, start: str) -> bool:
    return node.op == "call_function" and op_type(node).startswith(start)


def _in_bfloat16(value: Any) -> Any:
    import torch

    if value is torch.float32:
        return torch.bfloat16
    if isinstance(value, float) and abs(value) > _BFLOAT16_MOST and abs(value) != float("inf"):
        return _BFLOAT16_MOST if value > 0 else -_BFLOAT16_MOST
    return value


def _is_float(node: Any) -> bool:
    value = node.meta.get("val")
    return value is not None and value.dtype.is_floating_point
