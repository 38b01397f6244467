"""The forms that linears are quantized in beside GPTQ's: one module a library, found by its object `FORM`; to add one
is to add a file."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from functools import cache
from typing import Any

from qprof.runtimes.torch_lm.forms.base import Form, plain_tensors, storage_bytes

__all__ = ["Form", "footprint_bytes", "form_by", "form_named", "form_of", "packages", "storage_bytes", "tensors_of"]


@cache
def all_forms() -> Sequence[Form]:
    """Every form, by the name of its module."""
    modules = (importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__))
    return [module.FORM for module in modules if hasattr(module, "FORM")]


def form_of(module: Any) -> Form | None:
    """The form of a quantized linear, `None` for every other module (those of GPTQ's libraries, too)."""
    return next((form for form in all_forms() if form.owns(module)), None)


def form_named(quant_method: str) -> Form | None:
    """The form of checkpoints whose settings call their method so."""
    return next((form for form in all_forms() if quant_method in form.quant_methods), None)


def form_by(library: str) -> Form | None:
    """The form whose variants are run by this library."""
    return next((form for form in all_forms() if form.library == library), None)


def packages() -> Sequence[str]:
    """The distributions of all of them."""
    return list(dict.fromkeys(package for form in all_forms() for package in form.packages))


def tensors_of(module: Any) -> list[Any]:
    """The plain tensors that a module itself holds; of a quantized linear all that stands for its weights."""
    form = form_of(module)
    if form is not None:
        return form.tensors(module)
    return plain_tensors([*module.parameters(), *module.buffers()])


def footprint_bytes(model: Any) -> int:
    """Bytes of all parameters and buffers of a model, and of what libraries keep beside them for a quantized linear."""
    inside = [module for module in model.modules() if form_of(module) is not None]
    if not inside:
        return int(model.get_memory_footprint())
    tensors = [tensor for module in inside for tensor in tensors_of(module)]
    owned = {id(tensor) for module in inside for tensor in [*module.parameters(), *module.buffers()]}
    others = [tensor for tensor in [*model.parameters(), *model.buffers()] if id(tensor) not in owned]
    return storage_bytes([*tensors, *plain_tensors(others)])
