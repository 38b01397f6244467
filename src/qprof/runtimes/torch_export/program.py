"""Exported programs: opened safely, saved, and what their graphs say of inputs and outputs."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qprof.errors import ModelError
from qprof.record.tensors import TensorSpec
from qprof.runtimes.tool_output import first_line
from qprof.runtimes.torch_export.archive import ABOUT, HOW_TO_EXPORT, checked_copy
from qprof.runtimes.torch_export.library import import_torch, quiet


@dataclass(frozen=True, slots=True)
class Network:
    """A program ready to be run or changed. `module`: a torch.fx.GraphModule whose weights are its attributes;
    `examples`: a tensor for each input, of its shape and dtype; `about`: what the file says beside its graph."""

    path: Path
    module: Any
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    examples: tuple[Any, ...]
    about: Mapping[str, Any] = field(default_factory=dict)


def load(path: Path) -> Network:
    """Open a `.pt2`. Raises `ModelError`."""
    archive, stream = checked_copy(path)
    import_torch()
    import torch

    before = os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD")
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"  # what was checked is what is loaded
    try:
        with quiet(), stream:
            program = torch.export.load(stream)
            program._guards_code = []  # Python in the file; sizes are checked by whoever feeds it
            return network(path, program, archive.about)
    except ModelError:
        raise
    except Exception as error:  # torch raises what it likes on a damaged graph
        raise ModelError(
            f"{path}: torch {torch.__version__} cannot load it: {first_line(error)}; {HOW_TO_EXPORT}"
        ) from error
    finally:
        if before is None:
            del os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"]
        else:
            os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = before


def network(path: Path, program: Any, about: Mapping[str, Any] | None = None) -> Network:
    """An exported program with its inputs' sizes fixed. Raises `ModelError` where it takes anything but tensors."""
    module = program.module(check_guards=False)
    for node in module.graph.nodes:
        node.meta.pop("from_node", None)  # names of graphs that came before
    placeholders = [node for node in module.graph.nodes if node.op == "placeholder"]
    names = list(program.graph_signature.user_inputs)
    if any(not isinstance(name, str) for name in names) or len(names) != len(placeholders):
        raise ModelError(f"{path}: takes a constant for an argument; export it with tensors alone")
    inputs = [_input(path, module, node) for node in placeholders]
    examples = tuple(_example(spec) for spec in inputs)
    output = next(node for node in module.graph.nodes if node.op == "output")
    found = _nodes(output.args[0])
    outputs = []
    for number, node in enumerate(found):
        value = node.meta.get("val")
        if value is None or not hasattr(value, "dtype"):
            raise ModelError(f"{path}: output {number} is no tensor; export it with tensors alone")
        shape, signature = _shape(value)
        name = _output_name(node, len(found), number)
        dtype = dtype_name(value)
        dtype = "float32" if dtype == "bfloat16" else dtype  # which NumPy has not
        outputs.append(TensorSpec(name, shape, dtype, shape_signature=signature))
    if not inputs or not outputs:
        raise ModelError(f"{path}: has no {'inputs' if not inputs else 'outputs'}; give a network that has")
    return Network(path, module, inputs, outputs, examples, about or {})


def reexported(module: Any, examples: Sequence[Any]) -> Any:
    """A changed graph as an exported program, without weights that nothing reads any more."""
    import torch

    for node in list(module.graph.nodes):
        if node.op == "call_function" and "_assert_tensor_metadata" in str(node.target):
            module.graph.erase_node(node)  # it would check types in every inference
    drop_unread(module)
    with quiet(), torch.no_grad():
        program = torch.export.export(module, tuple(examples))
    for node in list(program.graph.nodes):
        if "_assert_tensor_metadata" in str(node.target):
            program.graph.erase_node(node)
        for key in ("stack_trace", "from_node"):
            node.meta.pop(key, None)  # lines of whoever's sources: half of a small file
    program.graph_module.recompile()
    return program


def save(program: Any, path: Path, about: Mapping[str, Any] | None = None) -> None:
    """Write a `.pt2`. `about`: what is known of the network beside its graph (see `archive.Archive.about`)."""
    import torch

    extra = {ABOUT: json.dumps(about, sort_keys=True)} if about else {}
    with quiet():
        torch.export.save(program, str(path), extra_files=extra)


def drop_unread(module: Any) -> None:
    """Take away parameters and buffers that no node of the graph gets: quantizing leaves the float ones behind."""
    module.graph.eliminate_dead_code()
    module.recompile()
    read = {str(node.target) for node in module.graph.nodes if node.op == "get_attr"}
    for name, _ in [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]:
        if name not in read:
            owner, _, attribute = name.rpartition(".")
            delattr(module.get_submodule(owner), attribute)


def attribute(module: Any, target: str) -> Any:
    """What a get_attr node gets."""
    owner, _, name = target.rpartition(".")
    return getattr(module.get_submodule(owner), name)


def dtype_name(tensor: Any) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _nodes(value: Any) -> list[Any]:
    """The nodes in what a graph gives out, in order."""
    if isinstance(value, (list, tuple)):
        return [node for item in value for node in _nodes(item)]
    if isinstance(value, dict):
        return [node for item in value.values() for node in _nodes(item)]
    return [value] if hasattr(value, "meta") else []


def _output_name(node: Any, count: int, number: int) -> str:
    return "output" if count == 1 else f"output_{number}"


def _input(path: Path, module: Any, node: Any) -> TensorSpec:
    value = node.meta.get("val")
    if value is None or not hasattr(value, "dtype"):
        raise ModelError(f"{path}: input {node.name!r} is no tensor; export it with tensors alone")
    shape, signature = _shape(value)
    dtype = dtype_name(value)
    if dtype == "bfloat16":
        raise ModelError(f"{path}: input {node.name!r} is bfloat16, which NumPy has not; export it with float32 inputs")
    return TensorSpec(str(node.name), shape, dtype, shape_signature=signature, valid_range=_valid_range(module, node))


def _shape(value: Any) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """The sizes that are run, and what the program leaves open: an open batch is 1, another size what it was exported
    with."""
    if all(isinstance(size, int) for size in value.shape):
        return tuple(int(size) for size in value.shape), None
    sizes = []
    for axis, size in enumerate(value.shape):
        hint = getattr(getattr(size, "node", None), "hint", None)
        sizes.append(size if isinstance(size, int) else 1 if axis == 0 or hint is None else int(hint))
    return tuple(sizes), tuple(size if isinstance(size, int) else -1 for size in value.shape)


def _example(spec: TensorSpec) -> Any:
    """Numbers that any network takes: ones where they count, which are rows of any table, noise elsewhere."""
    import torch

    dtype = getattr(torch, spec.dtype)
    if not dtype.is_floating_point:
        return torch.ones(spec.shape, dtype=dtype)
    return torch.randn(spec.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float32).to(dtype)


def _valid_range(module: Any, node: Any) -> tuple[int | None, int | None] | None:
    """0 .. rows - 1 of the table that an input of integers looks up, `None` where it looks up none."""
    pending, seen = [node], set()
    while pending:
        found = pending.pop()
        for user in found.users:
            if user in seen or user.op != "call_function":
                continue
            seen.add(user)
            name = str(user.target)
            if name.startswith("aten.embedding") and len(user.args) > 1 and user.args[1] is found:
                table = user.args[0]
                value = table.meta.get("val")
                value = attribute(module, table.target) if value is None and table.op == "get_attr" else value
                return None if value is None else (0, int(value.shape[0]) - 1)
            if name.startswith(("aten.to", "aten._to_copy", "aten.view", "aten.reshape", "aten.slice", "aten.clone")):
                pending.append(user)
    return None
