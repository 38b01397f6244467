"""What the layers of a torch model do in one inference: which ATen ops, on which tensors, how many products."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from qprof.runtimes.torch_lm import forms

#: Packages whose modules are quantized linears, told by where the class or one of its bases is defined.
_QUANTIZED_LINEARS = ("gptqmodel.nn_modules.qlinear", "auto_gptq.nn_modules.qlinear")

#: ATen ops that contract a dimension -> which operand's last dimension that is.
_CONTRACTIONS = {"mm": 0, "bmm": 0, "matmul": 0, "linear": 0, "mv": 0, "dot": 0, "addmm": 1, "baddbmm": 1, "addmv": 1}
#: All experts of a list at once: each row is multiplied with the matrix of its own expert.
_CONTRACTIONS |= {"_grouped_mm": 0, "grouped_mm_fallback": 0}

#: ATen ops that multiply nothing: that neither are nor contain a product, a power or a function of one.
_NO_PRODUCT = re.compile(
    r"(abs|add|all|any|arange|argmax|bitwise_(and|not|or)|cat|eq|embedding|gather|ge|gt|le|logical_(and|not)|lt|max|min|ne"
    r"|neg|sub|sum|where|index(_select)?|masked_fill|scatter|(new_)?(empty|full|ones|zeros)(_like)?|scalar_tensor|roll"
    r"|alias|as_strided|chunk|clone|contiguous|copy|detach|expand|fill|lift_fresh|narrow|permute|repeat(_interleave)?"
    r"|reshape|select|slice|stack|t|tril|triu|to|(_?to)_copy|transpose|unbind|(un)?squeeze|(_unsafe_)?view"
    r"|(unsafe_)?split(_with_sizes)?)_?"
)

#: torch's CPU attention: rows of queries that it takes at once, by the number of queries, and keys it takes at once.
_CPU_QUERY_BLOCKS = ((768, 256), (192, 64), (0, 32))
_CPU_KEY_BLOCK = 512


@dataclass(frozen=True, slots=True)
class Layer:
    """One module that is timed. `contains`: other timed modules run inside it, so that only its own time is its own."""

    name: str
    module: Any
    contains: bool

    @property
    def type(self) -> str:
        return "Linear" if is_linear(self.module) else type(self.module).__name__


@dataclass(slots=True)
class Observation:
    """What one inference told of a layer: its calls, the tensors that came and went, the ops that were its own."""

    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    calls: int = 0
    rows: int = 0  # of the first input, over all calls
    outside_bytes: int = 0  # of the inputs and outputs of all calls
    own_bytes: int = 0  # of the tensors that its own ops read and write, weights left out
    macs: int = 0  # of its own contractions
    multiplies: bool = False  # whether it does so elsewhere than in contractions
    contractions: list[str] = field(default_factory=list)


def is_quantized_linear(module: Any) -> bool:
    """Whether a module is a linear with packed weights, of whichever library."""
    if module._buffers.get("qweight") is not None:
        return True
    if any(base.__module__.startswith(_QUANTIZED_LINEARS) for base in type(module).__mro__):
        return True
    return forms.form_of(module) is not None


def is_linear(module: Any) -> bool:
    """Whether a module is a linear, quantized or not."""
    import torch

    return isinstance(module, torch.nn.Linear) or is_transposed_linear(module) or is_quantized_linear(module)


def is_transposed_linear(module: Any) -> bool:
    """Whether a module is GPT-2's kind of linear: "Conv1D", weights [in, out]."""
    kind = type(module)
    return kind.__name__ == "Conv1D" and kind.__module__ == "transformers.pytorch_utils"


def observe(layers: Sequence[Layer], run: Callable[[], object]) -> dict[int, Observation]:
    """Run one inference and tell what it does: position in `layers` -> observation, in the order of the first calls.

    Every op goes through a dispatch mode, which is slow: nothing is timed here.
    """
    observer = _Observer(layers)
    with hooked([layer.module for layer in layers], observer.enter, observer.leave), dispatched(observer.op):
        run()
    return observer.found


# -- what one inference does ------------------------------------------------------------------------------------------


@contextmanager
def hooked(
    modules: Sequence[Any], enter: Callable[[int, Any, Any], None], leave: Callable[[int, Any], None]
) -> Iterator[None]:
    """Call `enter(number, args, kwargs)` and `leave(number, result)` around every call of the modules' `forward`."""
    handles: list[Any] = []
    try:
        for number, module in enumerate(modules):
            handles.append(module.register_forward_pre_hook(lambda _, a, k, n=number: enter(n, a, k), with_kwargs=True))
            handles.append(module.register_forward_hook(lambda _, a, r, n=number: leave(n, r), always_call=True))
        yield
    finally:
        for handle in handles:
            handle.remove()


def dispatched(handle: Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]) -> AbstractContextManager[Any]:
    """A context in which every ATen op is run by `handle(op, args, kwargs)`."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Mode(TorchDispatchMode):  # type: ignore[misc]
        def __torch_dispatch__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            return handle(func, args, kwargs or {})

    mode: AbstractContextManager[Any] = Mode()
    return mode


def tensors_in(value: Any) -> list[Any]:
    """The tensors in nested tuples, lists and mappings; what is inside other objects (a cache) stays there."""
    import torch

    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, tuple | list):
        return [tensor for item in value for tensor in tensors_in(item)]
    return []


def storage_key(tensor: Any) -> int:
    """What views of the same memory have in common, for as long as one of them lives."""
    return int(tensor.untyped_storage()._cdata)


class _Observer:
    def __init__(self, layers: Sequence[Layer]) -> None:
        self.found: dict[int, Observation] = {}
        constants = [tensor for layer in layers for tensor in forms.tensors_of(layer.module)]
        self._constants = {storage_key(tensor) for tensor in constants}
        # Of each call under way: its layer, and the storages that its own ops touched, kept so that none is reused.
        self._stack: list[tuple[int, dict[int, tuple[Any, int]]]] = []

    def enter(self, number: int, args: Any, kwargs: Any) -> None:
        seen = self.found.setdefault(number, Observation())
        tensors = tensors_in((args, kwargs))
        if not seen.calls:
            seen.inputs = tuple(label(tensor) for tensor in tensors)
        seen.calls += 1
        seen.outside_bytes += _distinct_bytes(tensors)
        if tensors and tensors[0].dim():
            seen.rows += tensors[0].numel() // max(1, tensors[0].shape[-1])
        self._stack.append((number, {}))

    def leave(self, number: int, result: Any) -> None:
        number, touched = self._stack.pop()
        seen = self.found[number]
        tensors = tensors_in(result)
        seen.outputs = seen.outputs or tuple(label(tensor) for tensor in tensors)
        seen.outside_bytes += _distinct_bytes(tensors)
        seen.own_bytes += sum(size for _, size in touched.values())

    def op(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = func(*args, **kwargs)
        if self._stack:
            number, touched = self._stack[-1]
            self._count(self.found[number], func, args, kwargs, result)
            before, after = tensors_in((args, kwargs)), tensors_in(result)
            if is_view(func, before, after):
                return result
            for tensor in (*before, *after):
                key, size = storage_key(tensor), tensor.numel() * tensor.element_size()
                if key not in self._constants:
                    known = touched[key][1] if key in touched else 0
                    storage = tensor.untyped_storage()
                    touched[key] = (storage, max(known, min(size, storage.nbytes())))
        return result

    @staticmethod
    def _count(seen: Observation, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        name = op_name(func)
        short = name.split("::")[-1]
        if short in _CONTRACTIONS:
            seen.macs += result.numel() * args[_CONTRACTIONS[short]].shape[-1]
            seen.contractions.append(name)
        elif "scaled_dot_product" in short:
            seen.macs += attention_macs(bound(func, args, kwargs))
            seen.contractions.append(name)
        elif not _NO_PRODUCT.fullmatch(short):
            seen.multiplies = True


def op_name(func: Any) -> str:
    """An ATen op's name without its overload: "aten::mm"."""
    return str(func._schema.name)


def is_view(func: Any, before: Sequence[Any], after: Sequence[Any]) -> bool:
    """Whether an op has computed nothing: it wrote nothing, and all that it returns is memory that it was given."""
    if func._schema.is_mutable:
        return False
    keys = {storage_key(tensor) for tensor in before}
    return bool(after) and all(storage_key(tensor) in keys for tensor in after)


def attention_macs(arguments: Mapping[str, Any]) -> int:
    """Multiply-accumulates of QK^T and AV as torch's kernel computes them.

    Everything, where no mask is known to the kernel or one is handed to it. With `is_causal` the CPU kernel computes
    whole blocks (queries 32, 64 or 256 at once, keys 512 at once) up to the diagonal: up to 512 keys that is
    everything too (aten/src/ATen/native/cpu/FlashAttentionKernel.cpp). Elsewhere the pairs that the mask leaves.
    """
    query, key, value = arguments["query"], arguments["key"], arguments["value"]
    rows, keys = query.shape[-2], key.shape[-2]
    pairs = rows * keys
    if arguments.get("is_causal"):
        pairs = _cpu_causal_pairs(rows, keys) if query.device.type == "cpu" else _causal_pairs(rows, keys)
    return int(math.prod(query.shape[:-2]) * pairs * (query.shape[-1] + value.shape[-1]))


def _cpu_causal_pairs(rows: int, keys: int) -> int:
    block = next(size for least, size in _CPU_QUERY_BLOCKS if rows >= least)
    pairs = 0
    for first in range(0, rows, block):
        taken = min(block, rows - first)
        until = min(first + taken, keys)
        pairs += taken * min(keys, math.ceil(until / _CPU_KEY_BLOCK) * _CPU_KEY_BLOCK)
    return pairs


def _causal_pairs(rows: int, keys: int) -> int:
    return sum(min(row + 1, keys) for row in range(rows))


def bound(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """An op's arguments by name; those left to their defaults are missing."""
    names = [argument.name for argument in func._schema.arguments]
    return dict(zip(names, args, strict=False)) | dict(kwargs)


def label(tensor: Any) -> str:
    """ "bfloat16[1,64,576]"."""
    return f"{str(tensor.dtype).removeprefix('torch.')}[{','.join(str(size) for size in tensor.shape)}]"


def itemsize(dtype: str) -> int:
    import torch

    return int(getattr(torch, dtype).itemsize)


def _distinct_bytes(tensors: Sequence[Any]) -> int:
    distinct = {(tensor.data_ptr(), tensor.shape): tensor.numel() * tensor.element_size() for tensor in tensors}
    return sum(distinct.values())
