"""The protocol: profile -> plan -> workers -> Run. The only layer that measures.

The package is also the API's verb: `qprof.run("profile.toml")` is `qprof.api.run("profile.toml")`. A module is made
callable by giving it a class of its own ("Customizing module attribute access" in the Python reference).
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _CallableModule(ModuleType):
    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """See `qprof.api.run`."""
        from qprof.api import run

        return run(*arguments, **options)


sys.modules[__name__].__class__ = _CallableModule
