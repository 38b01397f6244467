"""Run -> findings: attribution, causes with their tests, verdicts, the choice of a variant.

The package is also the API's verb, as `qprof.run` is: `qprof.explain(run)` is `qprof.api.explain(run)`.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


class _CallableModule(ModuleType):
    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """See `qprof.api.explain`."""
        from qprof.api import explain

        return explain(*arguments, **options)


sys.modules[__name__].__class__ = _CallableModule
