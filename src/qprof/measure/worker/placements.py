"""A variant's place in memory, drawn anew for every block.

Where the buffers of a model lie decides which of them share cache sets and pages. Of a hundred loads of one file in one
process some are 4 % slower than the others, for as long as they stay loaded: a run that loads each variant once takes
that for a difference between them, and its intervals cannot know. Loaded anew for every block, a variant has the place
of a single round, and the rounds' intervals hold what places do. (Mytkowicz et al., Producing wrong data without doing
anything obviously wrong, ASPLOS 2009; Curtsinger and Berger, STABILIZER, ASPLOS 2013.)
"""

from __future__ import annotations

import random
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import QprofError
from qprof.measure.worker.histories import same_outputs
from qprof.record.model import Model, RunOptions
from qprof.runtimes.base import Runtime

#: A variant is loaded anew only where that takes this part of a block at most: what is slow to load is also large, and
#: spreads over so many pages that their places even out.
_SHARE = 0.5
#: Larger files are not tried: two of them are in memory until the first is let go of.
_LARGEST_BYTES = 100_000_000
#: So many bytes at most are set aside four times before a variant is loaded, and kept until the next time: an allocator
#: gives out what it was given back, and a model went back and forth between three places.
_SET_ASIDE = 1_000_000

_Stamp = tuple[tuple[int, ...], ...]


class Placements:
    """Loads a variant anew where that is quick, where its file is the one that was loaded first, and where it then
    computes the same.

    Args:
        runtime, path, options: how the variant is loaded. Made before it is loaded first.
    """

    def __init__(self, runtime: Runtime, path: Path, options: RunOptions) -> None:
        self._runtime, self._path, self._options = runtime, path, options
        self._files = [] if path.is_dir() else [path]  # what is in a folder is not read again
        self._stamp = _stamp(self._files)
        self._load_ns = 0
        self._set_aside: Sequence[NDArray[np.uint8]] = ()
        self._tried = self._ended = False

    def moved(self, model: Model, block_ns: int, inputs: Sequence[NDArray[Any]]) -> tuple[Model, int | None]:
        """`model`, loaded anew for a block that lasts so long, and the nanoseconds that took; where it is to stay where
        it is, `model` and `None`. `inputs`: some that it is tried with the first time."""
        if self._ended or self._load_ns > _SHARE * block_ns:
            return model, None
        self._ended = True  # unless all goes well
        if model.loaded.keeps_state or not (self._tried or self._small()) or not self._unchanged():
            return model, None
        began_ns = perf_counter_ns()
        set_aside = [np.empty(random.randrange(1, _SET_ASIDE), np.uint8) for _ in range(4)]
        try:
            # While the other is there, or it would be given the place of that.
            again = self._runtime.load_again(model, self._path, self._options)
            took_ns = perf_counter_ns() - began_ns
            self._load_ns = min(took_ns, self._load_ns or took_ns)  # others may have had the processor
            alike = again is not None and (self._tried or _alike(model, again, inputs))
        except (QprofError, MemoryError):
            return model, None  # which serves
        if again is None or not alike or not self._unchanged():
            return model, None
        self._set_aside = set_aside
        self._tried, self._ended = True, False
        return again, took_ns

    def _small(self) -> bool:
        try:
            beside = self._runtime.files_beside(self._path) if self._files else ()
        except QprofError:
            return False
        self._files += beside
        self._stamp += _stamp(beside)
        return sum(size for *_, size in self._stamp) <= _LARGEST_BYTES

    def _unchanged(self) -> bool:
        """Whether the files are those of the first load, by what the file system knows of them."""
        now = _stamp(self._files)
        return now == self._stamp and len(now) == len(self._files)


def _stamp(files: Iterable[Path]) -> _Stamp:
    """What changes with every writing to a file, of those that are files; its size comes last."""
    found = []
    for file in files:
        try:
            status = file.stat()
        except OSError:
            continue
        if stat.S_ISREG(status.st_mode):
            found.append((status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size))
    return tuple(found)


def _alike(model: Model, again: Model, inputs: Sequence[NDArray[Any]]) -> bool:
    """Whether both compute the same, to the last bit, in every phase."""
    for phase in model.loaded.phases:
        found = []
        for one in (model, again):
            one.enter(phase.name)
            one.set_inputs(inputs)
            one.invoke()
            found.append(one.outputs())
        if not same_outputs(*found):
            return False
    return True
