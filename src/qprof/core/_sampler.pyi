"""Reads sensors at steady rates on one thread without Python; sources in csrc/sampler/. Used by `probes.compiled`.

A sampler has probes, a probe has groups, and a group has parts: what `JoinedProbe`, `PartsProbe` and `Part` are in
`qprof.probes.base`. Channels and parts are numbered over all groups of a probe, in the order in which they were added.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

class State(NamedTuple):
    """How a probe does.

    `cpu_ns`: its part of the threads' CPU time, by how long its turns took; `wall_ns`: from the start to the last turn;
    `longest_late_ns`: from a deadline to the reading that it was for; `skipped`: deadlines that had passed by the time
    that the turn before them ended; `lost`: why it is read no more.
    """

    reads: int
    failed: int
    skipped: int
    in_a_row: int
    read_ns: int
    longest_read_ns: int
    longest_late_ns: int
    cpu_ns: int
    wall_ns: int
    lost: Literal["", "hung", "gone", "failing", "no memory", "not ended"]
    last_failing_group: int

class PartFailures(NamedTuple):
    """Failures of a part. `times`: how many; `first`: its place among the parts of the probe that failed, from 1 on.

    Of the last one: `code` is an errno ("system"), or what NVML returned ("driver"); `which` the file, or the field
    from 1 on; `content` the first 4096 bytes of what the file held instead ("form"); `gone`: it is read no more.
    """

    times: int
    first: int
    fault: Literal["", "system", "form", "driver"]
    code: int
    which: int
    content: bytes
    gone: bool

class Sampler:
    """All times in nanoseconds of CLOCK_MONOTONIC. Methods that add raise `RuntimeError` once it has started."""

    def __init__(self, *, timeout_ns: int, failures_in_a_row: int, first_readings: int, most_readings: int) -> None:
        """Readings are kept up to `most_readings` of a channel; the older half is forgotten then."""

    def add_probe(self, period_ns: int) -> int:
        """Its number."""

    def drop_last_probe(self) -> None:
        """As if it had never been added."""

    def add_group(self, probe: int) -> None: ...
    def add_files(
        self,
        probe: int,
        form: Literal["number", "cpu_ticks", "process", "pressure", "frequencies", "listing"] | str,
        descriptors: Sequence[int],
        *,
        scale: float,
        every_ns: int,
    ) -> int:
        """A part of the last group; descriptors are duplicated. Gives the number of its channels.

        Raises `ValueError` for a form or a number of files that it does not know, `RuntimeError` where no descriptor
        is left.
        """

    def add_nvml(
        self,
        probe: int,
        figure: Literal["counter", "gauge", "of_sort", "fields", "utilization", "memory"] | str,
        *,
        library: str,
        function: str,
        device: int,
        numbers: Sequence[int],
        scale: float,
        gone: Sequence[int],
        every_ns: int,
    ) -> int:
        """A part of the last group: `function` of a library that dlopen finds and that is initialized already.

        `numbers` are clocks, sensors or fields; `gone` codes from 0 to 31. Raises `RuntimeError` where library or
        function are not found.
        """

    def start(self) -> None:
        """Each probe is read at once, then at its deadlines. Raises `RuntimeError` where it was started before."""

    def ask_to_stop(self) -> None: ...
    def wait_for_end(self, patience_ns: int) -> bool:
        """Whether nothing is read any more; what is being read when patience ends is lost ("not ended")."""

    def wait_for_all(self) -> None:
        """Until every thread has ended, also one that was left behind in a reading that hangs."""

    def read_once(self, probe: int) -> None:
        """One turn on the calling thread, in place of `start`."""

    def state(self, probe: int) -> State: ...
    def failures(self, probe: int) -> list[PartFailures]:
        """Of each part; an empty list before the start."""

    def between(
        self, probe: int, channel: int, start_ns: int, end_ns: int, neighbours: int = 0
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]] | None:
        """Times and values with start_ns <= t_ns <= end_ns, and so many before and after; `None` where readings that
        old were forgotten."""

    def forget(self, probe: int, channel: int, before_ns: int) -> None: ...
