"""What a form of quantized linears is: how its checkpoints are told, loaded and weighed, and what stands in the place
of a linear."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from qprof.errors import MissingExtraError, ModelError
from qprof.runtimes.torch_lm.kernels import DEQUANTIZED
from qprof.runtimes.torch_lm.safetensors_header import StoredTensor

Role = Literal["weight", "scales"]


@dataclass(frozen=True, slots=True)
class Settings:
    """How a checkpoint's linears are quantized, as its own settings say. `group_size` -1: one group per row; `scheme`:
    the numbers, "int8" or "nf4"; `sym`: whether they lie alike on both sides of 0."""

    bits: int
    group_size: int
    scheme: str
    sym: bool = True


class Form(ABC):
    """Linears as one library quantizes them, the object `FORM` of its module.

    `quant_methods`: what a checkpoint's settings call its method; `kernels`: what a variant may ask for beside the
    library's own choice.
    """

    library: str
    title: str  # for sentences
    quant_methods: Sequence[str] = ()
    modules: Sequence[str] = ()  # that are imported
    packages: Sequence[str] = ()  # distributions
    extra: str = "gptq"
    kernels: Sequence[str] = ()

    def require(self) -> None:
        """Raise `MissingExtraError` where a package is not installed."""
        missing = [name for name in self.modules if importlib.util.find_spec(name) is None]
        if missing:
            raise MissingExtraError(f"{self.title} needs {', '.join(missing)}: pip install 'qprof[{self.extra}]'")

    def preload(self) -> None:  # noqa: B027  (gptqmodel is imported for every variant)
        """Import the library, so that nothing else in the process changes."""

    # -- a checkpoint -------------------------------------------------------------------------------------------------

    @abstractmethod
    def settings(self, found: Mapping[str, Any]) -> Settings:
        """What a checkpoint's `quantization_config` says. Raises `KeyError`, `TypeError`, `ValueError` where it lacks
        something."""

    @abstractmethod
    def linears(self, files: Sequence[Path], tensors: Mapping[str, StoredTensor]) -> dict[str, tuple[int, int]]:
        """The quantized linears: name -> (in_features, out_features)."""

    @abstractmethod
    def stored_as(self, tensor: str) -> tuple[str, Role] | None:
        """The linear that a stored tensor may be of, and what it is of it; `None` for a name that none has."""

    @abstractmethod
    def load(self, path: Path, *, device: str, dtype: str, kernel: str) -> Any:
        """The model of a checkpoint's folder, as torch module. What the library raises is for the caller."""

    def kernel_for(self, requested: str, device: str, group_size: int, linears: Mapping[str, tuple[int, int]]) -> str:
        """The kernel that a checkpoint is run with; "" for the library's own choice. Raises `ModelError` where there is
        none of that name, or it does not take these layers or this device."""
        if requested not in ("", DEQUANTIZED, *self.kernels):
            raise ModelError(
                f"{self.title} has no kernel {requested!r}; it has {', '.join([*self.kernels, DEQUANTIZED])}, or leave "
                "it out"
            )
        return requested

    def notes(self, model: Any) -> list[str]:
        """What a reader must know of a loaded model."""
        return []

    # -- a module in the place of a linear ----------------------------------------------------------------------------

    def owns(self, module: Any) -> bool:
        """Whether a module is a linear of this form."""
        return False

    def scheme(self, module: Any) -> str:
        """Its numbers: "nf4 weights, group 64"."""
        raise NotImplementedError

    def kernel(self, module: Any) -> str:
        """What computes it."""
        return type(module).__name__

    def tensors(self, module: Any) -> list[Any]:
        """All tensors that it holds, plain ones."""
        return plain_tensors([*module.parameters(), *module.buffers()])

    def weight(self, module: Any) -> Any:
        """What its weights stand for, in float, [out, in], by the library's own account."""
        raise NotImplementedError

    def unpack(self, module: Any) -> Callable[[], object] | None:
        """What unpacks its weights in every inference, to be timed alone; `None` where nothing does."""
        return None


def plain_tensors(tensors: Sequence[Any]) -> list[Any]:
    """Tensors, and in the place of such as are made of others (a subclass with packed numbers) those others."""
    found: list[Any] = []
    waiting = list(tensors)
    while waiting:
        tensor = waiting.pop(0)
        if tensor is None:
            continue
        if hasattr(tensor, "__tensor_flatten__"):
            waiting += [getattr(tensor, name) for name in tensor.__tensor_flatten__()[0]]
        else:
            found.append(tensor)
    return found


def storage_bytes(tensors: Sequence[Any]) -> int:
    """Bytes of the memory of some plain tensors, what several share counted once."""
    storages = {tensor.untyped_storage()._cdata: tensor for tensor in tensors}
    return sum(tensor.untyped_storage().nbytes() for tensor in storages.values())


def per_row(group_size: int, in_features: int) -> str:
    """ "group 64", or "one group per row"."""
    return "one group per row" if group_size in (-1, in_features) else f"group {group_size}"
