"""What this machine has for measuring: sensors, runtimes, the compiled core; what is missing, and what enables it."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from qprof.errors import MissingExtraError
from qprof.probes.base import Probe
from qprof.probes.carbon import find_codecarbon
from qprof.probes.host import open_host
from qprof.probes.memory import reset_peak
from qprof.probes.nvml import open_nvml
from qprof.probes.rapl import open_rapl
from qprof.probes.stacks import find_py_spy
from qprof.runtimes import registry

#: Compiled modules of `qprof.core`, and what is done without them.
_CORE = {
    "_op_profiler": "per-op timing inside LiteRT",
    "_layers": "per-layer timing of language models (a slower timer takes its place)",
    "_coco": "COCO scoring (pycocotools takes its place)",
    "_coco_json": "reading of COCO files (json takes its place)",
    "_topk": "scoring of logits",
}
_REBUILD = "pip install qprof again, on a machine with a C++ compiler"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that measuring uses. `group`: "sensor", "runtime" or "core"; `detail` says what it gives where it is
    there, `reason` and `remedy` are set where it is not."""

    group: str
    name: str
    present: bool
    detail: str = ""
    reason: str | None = None
    remedy: str | None = None


def diagnose() -> list[Finding]:
    """Look at everything once; nothing is measured, and no model library is imported."""
    return [*_sensors(), *_runtimes(), *_core()]


def _sensors() -> Iterator[Finding]:
    for probe in (open_nvml(), open_rapl(), open_host(os.getpid())):
        with contextlib.closing(probe):
            yield from probe_findings(probe)
    peak = reset_peak()
    yield _sensor("memory.peak", "peak resident memory of each variant", peak.reason, "run on Linux")
    found = find_py_spy()
    absent = None if found else "py-spy is not installed"
    yield _sensor("stacks", f"host stacks by {found}", absent, "pip install 'qprof[energy]'")
    version = find_codecarbon()
    modelled = f"energy of processor (estimated) and memory, CO2e (modelled) by CodeCarbon {version}"
    absent = None if version else "CodeCarbon is not installed"
    yield _sensor("codecarbon", modelled, absent, "pip install 'qprof[energy]'")


def _sensor(name: str, detail: str, reason: str | None, remedy: str) -> Finding:
    """A sensor that is there, or, where there is a reason, is not."""
    if reason is None:
        return Finding("sensor", name, True, detail)
    return Finding("sensor", name, False, "", reason, remedy)


def probe_findings(probe: Probe) -> list[Finding]:
    """A probe's channels in one line, and every part of it that is missing."""
    there = []
    if probe.channels:
        kinds = ", ".join(sorted({channel.provenance for channel in probe.channels}))
        names = ", ".join(channel.name.removeprefix(f"{probe.name}.") for channel in probe.channels)
        there = [Finding("sensor", probe.name, True, f"{len(probe.channels)} figures, {kinds}: {names}")]
    gone = [Finding("sensor", part.probe, False, "", part.reason, part.remedy) for part in probe.missing]
    return there + gone


def _runtimes() -> Iterator[Finding]:
    for name in registry.names():
        runtime = registry.get(name)
        try:
            runtime.require()
        except MissingExtraError as error:
            reason, _, remedy = str(error).partition(": ")
            yield Finding("runtime", name, False, "", reason, remedy or None)
        else:
            yield Finding("runtime", name, True, f"uses {', '.join(_installed(runtime.packages))}")


def _installed(packages: Sequence[str]) -> list[str]:
    from qprof.probes.machine import packages as versions

    return [f"{name} {version}" for name, version in versions(packages).items() if version]


def _core() -> Iterator[Finding]:
    for name, what in _CORE.items():
        try:
            importlib.import_module(f"qprof.core.{name}")
        except ImportError as error:
            yield Finding("core", name, False, "", f"not built ({error})", _REBUILD)
        else:
            yield Finding("core", name, True, what)
