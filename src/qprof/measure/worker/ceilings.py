"""The ceilings of this machine through one runtime, measured in a worker process of their own."""

from __future__ import annotations

import msgspec

from qprof.errors import ModelError
from qprof.measure.requests import CeilingsAnswer, MeasureCeilings
from qprof.runtimes import registry


def measure_ceilings(request: MeasureCeilings) -> CeilingsAnswer:
    """Measure in this process. Raises `ModelError`."""
    runtime = registry.get(request.runtime)
    if runtime.ceilings is None:
        raise ModelError(f"no ceilings are measured for runtime {request.runtime!r}")
    options = msgspec.convert(request.options, runtime.options_type)
    return CeilingsAnswer(ceilings=runtime.ceilings.measure(options))
