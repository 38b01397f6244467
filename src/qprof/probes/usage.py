"""What the operating system counted for this process: CPU time, context switches, page faults."""

from __future__ import annotations

import resource
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
    """Counters of this process since its start (getrusage(2), RUSAGE_SELF), or the difference of two such readings."""

    cpu_s: float
    voluntary_switches: int
    involuntary_switches: int
    minor_faults: int
    major_faults: int

    def since(self, earlier: Usage) -> Usage:
        """What was counted between `earlier` and this reading."""
        return Usage(
            cpu_s=self.cpu_s - earlier.cpu_s,
            voluntary_switches=self.voluntary_switches - earlier.voluntary_switches,
            involuntary_switches=self.involuntary_switches - earlier.involuntary_switches,
            minor_faults=self.minor_faults - earlier.minor_faults,
            major_faults=self.major_faults - earlier.major_faults,
        )


def read_usage() -> Usage:
    """The counters now."""
    counted = resource.getrusage(resource.RUSAGE_SELF)
    return Usage(
        cpu_s=counted.ru_utime + counted.ru_stime,
        voluntary_switches=counted.ru_nvcsw,
        involuntary_switches=counted.ru_nivcsw,
        minor_faults=counted.ru_minflt,
        major_faults=counted.ru_majflt,
    )


#: unit of each counter, by field name
USAGE_UNITS = {
    "cpu_s": "s",
    "voluntary_switches": "count",
    "involuntary_switches": "count",
    "minor_faults": "count",
    "major_faults": "count",
}
