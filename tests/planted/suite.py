"""Planted causes: every case of `cases_*.py`, what is found in its world, and how much of it is right.

A module that cannot be imported, a cause that raises and a case that raises are errors of the suite, never skipped.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import qprof.findings.causes
from planted.world import World
from qprof.findings.causes.base import Cause, Finding

#: (name of a cause, name of the variant that it is about)
Key = tuple[str, str]


@dataclass(frozen=True)
class Case:
    """A world and what is true in it: `planted` has to be confirmed, `allowed` may be, and nothing else."""

    world: World
    planted: set[Key] = field(default_factory=set)
    allowed: set[Key] = field(default_factory=set)


@dataclass(frozen=True)
class Outcome:
    """What was found in a case, and what that is worth; `error`: why nothing was."""

    name: str
    planted: set[Key]
    allowed: set[Key]
    findings: Sequence[tuple[str, Finding]] = ()
    seconds: float = 0.0
    error: str | None = None

    @property
    def confirmed(self) -> set[Key]:
        return {
            (f.hypothesis.cause, variant) for variant, f in self.findings if f.status in ("confirmed", "consistent")
        }

    @property
    def missed(self) -> set[Key]:
        return self.planted - self.confirmed

    @property
    def false(self) -> set[Key]:
        return self.confirmed - self.planted - self.allowed


_CASES: dict[str, Callable[[], Case]] = {}


def case(name: str) -> Callable[[Callable[[], Case]], Callable[[], Case]]:
    """Registers what makes a case, under a name of its own."""

    def register(make: Callable[[], Case]) -> Callable[[], Case]:
        known = _CASES.get(name)
        if known is not None and known.__module__ != make.__module__:
            raise ValueError(f"two cases are called {name!r}, in {known.__module__} and {make.__module__}")
        _CASES[name] = make
        return make

    return register


def discovered() -> tuple[dict[str, Callable[[], Case]], dict[str, str]]:
    """All cases by name, in the order of their modules; and modules of cases that are broken, with the reason."""
    broken: dict[str, str] = {}
    for found in sorted(Path(__file__).parent.glob("cases_*.py")):
        _try_import(f"planted.{found.stem}", broken)
    return dict(_CASES), broken


def loaded_causes() -> tuple[list[Cause], dict[str, str]]:
    """Every cause that can be imported; and those that cannot, with the reason."""
    broken: dict[str, str] = {}
    package = qprof.findings.causes
    for found in pkgutil.iter_modules(package.__path__):
        _try_import(f"{package.__name__}.{found.name}", broken)
    modules = [sys.modules.get(f"{package.__name__}.{found.name}") for found in pkgutil.iter_modules(package.__path__)]
    return [module.CAUSE for module in modules if module is not None and hasattr(module, "CAUSE")], broken


def _try_import(name: str, broken: dict[str, str]) -> None:
    try:
        importlib.import_module(name)
    except Exception as error:  # whatever a module that is being written may raise
        broken[name] = f"{type(error).__name__}: {error}"


def run_case(name: str, make: Callable[[], Case], causes: Sequence[Cause], seed: int | None = None) -> Outcome:
    """Record the world of a case, explain it as `qprof explain` does, interventions included; with another seed."""
    begin = time.perf_counter()
    planted: set[Key] = set()
    allowed: set[Key] = set()
    try:
        made = make()
        planted, allowed = made.planted, made.allowed
        world = made.world if seed is None else replace(made.world, seed=made.world.seed + seed)
        with tempfile.TemporaryDirectory() as folder:
            claims, found = world.claims_and_findings(Path(folder), causes=causes)
    except Exception:  # a case that raises is an outcome, and the others go on
        return Outcome(name, planted, allowed, (), time.perf_counter() - begin, traceback.format_exc(limit=-4))
    pairs = [(claim.comparison.variant, finding) for claim, finding in zip(claims, found, strict=True)]
    return Outcome(name, planted, allowed, pairs, time.perf_counter() - begin)


def recall(outcomes: Iterable[Outcome]) -> float:
    """Share of the planted causes that were confirmed; 1 where none was planted."""
    kept = list(outcomes)
    planted = sum(len(o.planted) for o in kept)
    return 1.0 - sum(len(o.missed) for o in kept) / planted if planted else 1.0


def precision(outcomes: Iterable[Outcome]) -> float:
    """Share of the confirmed causes that were planted or are allowed; 1 where none was confirmed."""
    kept = list(outcomes)
    confirmed = sum(len(o.confirmed) for o in kept)
    return 1.0 - sum(len(o.false) for o in kept) / confirmed if confirmed else 1.0


def table(outcomes: Sequence[Outcome]) -> str:
    """A line per case: planted, confirmed, false, missed; and the two shares."""
    width = max([len(o.name) for o in outcomes] + [4])
    lines = [f"{'case':{width}}  planted  confirmed  false  missed  seconds"]
    for o in outcomes:
        counts = f"{len(o.planted):7}  {len(o.confirmed):9}  {len(o.false):5}  {len(o.missed):6}  {o.seconds:7.2f}"
        remarks = [f"error: {o.error.strip().splitlines()[-1]}"] if o.error else []
        remarks += [f"false: {cause} of {variant}" for cause, variant in sorted(o.false)]
        remarks += [
            f"missed: {cause} of {variant} ({_became(o, cause, variant)})" for cause, variant in sorted(o.missed)
        ]
        lines.append(f"{o.name:{width}}  {counts}  {'; '.join(remarks)}".rstrip())
    errors = sum(o.error is not None for o in outcomes)
    seconds = sum(o.seconds for o in outcomes)
    lines.append(
        f"{len(outcomes)} cases, {sum(len(o.planted) for o in outcomes)} planted: recall {recall(outcomes):.3f}, "
        f"precision {precision(outcomes):.3f}, {errors} errors, {seconds:.1f} s"
    )
    return "\n".join(lines)


def _became(outcome: Outcome, cause: str, variant: str) -> str:
    found = [f.status for v, f in outcome.findings if (f.hypothesis.cause, v) == (cause, variant)]
    return ", ".join(found) or "no hypothesis"
