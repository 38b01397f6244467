"""What the figures depend on: the machine, the versions, the protocol."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from qprof.report.page.data_tables import Fact
from qprof.report.units import size, span
from qprof.store.run import Run

#: Facts that are long and that nobody reads in a page.
_LEFT_OUT = {"cpu_flags", "missing", "cpu_vendor", "cpu_capacities"}


def about(run: Run) -> tuple[list[Fact], list[Fact], list[Fact]]:
    """Machine, versions and protocol."""
    manifest = run.manifest
    versions = [Fact(name="qprof", value=manifest.qprof)]
    versions += [
        Fact(name=name, value=version)
        for name, version in sorted(manifest.packages.items())
        if version and name != "qprof"
    ]
    return list(_facts(msgspec.to_builtins(manifest.machine))), versions, list(_protocol(run))


def _facts(found: dict[str, Any]) -> Iterator[Fact]:
    for name, value in found.items():
        if name in _LEFT_OUT:
            continue
        if value is None:
            continue
        yield Fact(name=_title(name), value=_text(name, value))
    for name, why in found.get("missing", {}).items():
        yield Fact(name=f"{_title(name)} (not known)", value=why)


def _protocol(run: Run) -> Iterator[Fact]:
    manifest = run.manifest
    task = manifest.task.section if manifest.task is not None else manifest.profile.task
    if manifest.samples is not None:
        scored = len({row.sample for row in run.scores if row.sample is not None})
        told = f"{scored} samples scored, {manifest.samples} timed"
        if scored in (0, manifest.samples):
            told = f"{manifest.samples} samples"
        yield Fact(name="task", value=f"{task.get('kind', 'unknown')}, {told}")
    for name, value in msgspec.to_builtins(manifest.profile.protocol).items():
        if value is not None and value != "":
            yield Fact(name=_title(name), value=_text(name, value))
    for entry in manifest.living():
        for phase, found in entry.warmup.items():
            where = "" if phase == "inference" else f", {phase}"
            yield Fact(name=f"warm-up of {entry.name}{where}", value=f"{found.inferences} inferences; {found.reason}")


def _title(name: str) -> str:
    for unit in ("_bytes", "_hz", "_ms", "_s"):
        name = name.removesuffix(unit)
    words = name.replace("_", " ")
    return words.replace("cpu", "CPU").replace("smt", "SMT")


def _text(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name.endswith("_bytes"):
        return ", ".join(f"{k} {size(v)}" for k, v in value.items()) if isinstance(value, dict) else size(value)
    if name.endswith("_hz"):
        return f"{value / 1e9:.2f} GHz"
    if name.endswith("_ms"):
        return f"{value:g} ms"
    if name.endswith("_s"):
        return span(value)
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)
