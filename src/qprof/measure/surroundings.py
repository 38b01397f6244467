"""What figures depend on beside the profile: did it stay the same between two recordings?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import qprof
from qprof.probes.machine import describe_machine, packages
from qprof.record.machine import Machine
from qprof.record.manifest import Manifest

#: Facts of a machine that change its figures, in words. Those that move by themselves (load, frequency limits) are
#: read block by block.
_FACTS = {
    "cpu_model": "processor",
    "architecture": "architecture",
    "logical_cpus": "logical processors",
    "physical_cores": "cores",
    "affinity": "processors that it may use",
    "cgroup_cpus": "processors' worth of time that its cgroup allows",
    "governor": "frequency governor",
    "boost": "frequency boost",
    "python": "Python",
}


def machine_changes(before: Machine, after: Machine, sides: tuple[str, str] = ("then", "now")) -> Iterator[str]:
    """What differs between two machines, or one at two times, that figures depend on. A fact that one of them does not
    tell is not compared. `sides`: what the two are called."""
    for name, words in _FACTS.items():
        then, now = getattr(before, name), getattr(after, name)
        if then is not None and now is not None and then != now:
            yield f"{words}: {fact_text(then)} {sides[0]}, {fact_text(now)} {sides[1]}"


def machine_facts(machine: Machine) -> Iterator[tuple[str, str]]:
    """What figures depend on, in words: name, value; what is not known is left out."""
    for name, words in _FACTS.items():
        value = getattr(machine, name)
        if value is not None:
            yield words, fact_text(value)


def versions_of(manifest: Manifest) -> dict[str, str | None]:
    """What a run was made with: distribution -> its version, qprof's own among them."""
    return {**manifest.packages, "qprof": manifest.qprof}


def version_changes(
    before: Mapping[str, str | None], after: Mapping[str, str | None], sides: tuple[str, str] = ("then", "now")
) -> Iterator[str]:
    """Distributions whose version differs, of those that both name. `sides`: what the two are called."""
    for name in sorted(before.keys() & after.keys()):
        if before[name] != after[name]:
            yield f"{name}: {before[name] or 'not installed'} {sides[0]}, {after[name] or 'not installed'} {sides[1]}"


def changes_since(manifest: Manifest) -> list[str]:
    """What differs now from when a run began."""
    now = {**packages(manifest.packages), "qprof": qprof.__version__}
    return [*machine_changes(manifest.machine, describe_machine()), *version_changes(versions_of(manifest), now)]


def fact_text(value: object) -> str:
    """A recorded value in words."""
    return ", ".join(str(one) for one in value) if isinstance(value, list) else str(value)
