"""The ways to make a variant of a language model: one module each, found by its object `METHOD`; to add one is to add
a file."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from qprof.errors import ProfileError
from qprof.runtimes.interventions import method as method_of
from qprof.runtimes.torch_lm.methods.base import FILE, Method


@cache
def all_methods() -> Sequence[Method[Any]]:
    """Every method, by the name of its module."""
    modules = (importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__))
    return [module.METHOD for module in modules if hasattr(module, "METHOD")]


def method_for(keys: Mapping[str, Any]) -> Method[Any]:
    """The method that makes the variant that a profile gives these keys. Raises `ProfileError` where there is none."""
    name = FILE if keys.get("file") else method_of(keys)
    for method in all_methods():
        if method.claims(name, keys):
            return method
    spelled = [text for method in all_methods() for text in method.spelled]
    plain = {_example(text): text for text in spelled}
    nearest = difflib.get_close_matches(_example(name), plain, n=1)
    hint = f"did you mean {nearest[0]!r}?" if nearest else "e.g. gptq-4bit or gptq-4bit-g128"
    raise ProfileError(
        f"there is no method {name!r} for a language model; there are {', '.join(spelled)}"
        f"{'; ' if nearest else ', '}{hint}"
    )


def _example(spelled: str) -> str:
    """ "gptq-4bit" of "gptq-<bits>bit[-g<group size>]"."""
    return re.sub(r"\[.*\]", "", spelled).replace("<bits>", "4")
