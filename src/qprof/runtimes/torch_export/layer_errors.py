"""The numbers of every layer of a variant beside those of its baseline's, on the same inputs.

Both graphs are run node by node, so that every layer's output is seen; a compiled variant's kernels compute the same up
to the rounding of their last steps. Compared are contractions and what stands for itself beside them (norms, pools).
Where one of the two has a batch norm folded into its layer and the other has not, the other's output is that of its
batch norm, and its weights are folded, too. "cumulative": both from the inputs on; "own": the variant's layer, with
what quantizes its input, on what the baseline's layer was given; "weights": what they stand for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.runtimes.base import RecordError
from qprof.runtimes.torch_export.graph import CONTRACTIONS, CONVERSIONS, LEADING, op_type, read_graph
from qprof.runtimes.torch_export.model import ExportedModel


class LayerErrors:
    """Two loaded networks whose layers are told apart by their names; satisfies `base.LayerComparison`."""

    def __init__(self, baseline: ExportedModel, variant: ExportedModel) -> None:
        self._models = (baseline, variant)
        theirs, own = _layers(baseline), _layers(variant)
        self._pairs = [(name, theirs[name], node) for name, node in own.items() if name in theirs]
        self.ops: list[dict[str, str | None]] = [
            {"op": name, "baseline_op": name, "name": name, "type": op_type(node)} for name, _, node in self._pairs
        ]
        missing = len(own) - len(self._pairs)
        self.notes: list[str] = [f"{missing} layers of {variant.path} are none of its baseline's"] if missing else []

    def weights(self, record: RecordError) -> None:
        for name, theirs, own in self._pairs:
            reference = _weights(self._models[0].module, theirs, _folds(theirs) and not _folds(own))
            value = _weights(self._models[1].module, own, False)
            if reference is not None and value is not None and reference.shape == value.shape:
                record("weights", name, _array(reference), _array(value), None)

    def sample(self, inputs: Sequence[NDArray[Any]], record: RecordError) -> None:
        import torch

        tensors = [torch.from_numpy(np.array(array, copy=True, order="C")) for array in inputs]
        with torch.no_grad():
            reference, value = (_values(model.module, tensors) for model in self._models)
            for name, theirs, own in self._pairs:
                end = next(iter(theirs.users)) if _folds(theirs) and not _folds(own) else theirs
                if reference[end].shape != value[own].shape:
                    continue
                record("cumulative", name, _array(reference[end]), _array(value[own]), None)
                replayed = _replayed(self._models[1].module, own, reference[theirs.args[0]], value)
                if replayed is not None and replayed.shape == reference[end].shape:
                    record("own", name, _array(reference[end]), _array(replayed), None)


def _layers(model: ExportedModel) -> dict[str, Any]:
    graph = read_graph(model.module)
    wanted = [n for n in graph.nodes if CONTRACTIONS.fullmatch(op_type(n)) or op_type(n) in LEADING]
    return {graph.names[node]: node for node in wanted if op_type(node) != "batch_norm"}


def _values(module: Any, inputs: Sequence[Any]) -> dict[Any, Any]:
    """Every node's value in one inference."""
    import torch

    kept: dict[Any, Any] = {}

    class Keeping(torch.fx.Interpreter):  # type: ignore[misc]
        def run_node(self, node: Any) -> Any:
            kept[node] = super().run_node(node)
            return kept[node]

    Keeping(module, garbage_collect_values=False).run(*inputs)
    return kept


def _folds(node: Any) -> bool:
    """Whether a batch norm alone follows."""
    return len(node.users) == 1 and op_type(next(iter(node.users))) in (
        "batch_norm",
        "_native_batch_norm_legit_no_training",
    )


def _replayed(module: Any, node: Any, given: Any, value: Mapping[Any, Any]) -> Any | None:
    """A layer's output where what it reads is `given` instead, as far as conversions lead back to one tensor."""
    known: dict[Any, Any] = {}

    def of(source: Any) -> Any:
        if source in known:
            return known[source]
        if source.op == "call_function" and (CONVERSIONS.fullmatch(op_type(source)) or op_type(source) == "getitem"):
            args, kwargs = _filled(source, of)
            known[source] = source.target(*args, **kwargs)
        elif source.op == "get_attr" or not _is_real(value[source]):
            known[source] = value[source]
        else:
            known[source] = given.to(value[source].dtype) if given.shape == value[source].shape else None
        return known[source]

    first = node.args[0]
    if not hasattr(first, "op") or not _is_real(value[first]) or op_type(node) in ("matmul", "bmm"):
        return None
    replaced = of(first)
    if replaced is None:
        return None
    args, kwargs = _filled(node, lambda one: replaced if one is first else value[one])
    return node.target(*args, **kwargs)


def _filled(node: Any, of: Any) -> tuple[Any, Any]:
    import torch

    return torch.fx.node.map_arg(node.args, of), torch.fx.node.map_arg(node.kwargs, of)


def _weights(module: Any, node: Any, fold: bool) -> Any | None:
    """What a layer's weights stand for; `None` where it has none. `fold`: with the batch norm that follows."""
    import torch

    source = node.args[1] if len(node.args) > 1 and CONTRACTIONS.fullmatch(op_type(node)) else None
    if source is None or not hasattr(source, "op"):
        return None
    with torch.no_grad():
        found = _constant(module, source)
        if found is not None and not isinstance(found, torch.Tensor):  # packed
            found = torch.ops.quantized.linear_unpack(found)[0].dequantize()
        if found is None or not fold:
            return found
        norm = next(iter(node.users))
        gamma, variance = _constant(module, norm.args[1]), _constant(module, norm.args[4])
        if variance is None:
            return None
        eps = norm.args[7] if len(norm.args) > 7 else 1e-5
        scale = (torch.ones_like(variance) if gamma is None else gamma) / torch.sqrt(variance + eps)
        return found * scale.reshape(-1, *[1] * (found.dim() - 1))


def _constant(module: Any, source: Any) -> Any | None:
    from qprof.runtimes.torch_export.program import attribute

    if source is None:
        return None
    if source.op == "get_attr":
        return attribute(module, str(source.target))
    if source.op != "call_function" or not source.all_input_nodes:
        return None
    found = {one: _constant(module, one) for one in source.all_input_nodes}
    if any(one is None for one in found.values()):
        return None
    args, kwargs = _filled(source, found.__getitem__)
    return source.target(*args, **kwargs)


def _is_real(value: Any) -> bool:
    return hasattr(value, "is_floating_point") and value.is_floating_point() and value.dim() > 0


def _array(tensor: Any) -> NDArray[Any]:
    array: NDArray[Any] = tensor.detach().float().cpu().numpy()
    return array
