"""A variant's place in memory, drawn anew for every block.

Where the buffers of a model lie decides which of them share cache sets and pages. Of a hundred loads of one file in one
process some are 4 % slower than the others, for as long as they stay loaded: a run that loads each variant once takes
that for a difference between them, and its intervals cannot know. Loaded anew for every block, a variant has the place
of a single round, and the rounds' intervals hold what places do. (Mytkowicz et al., Producing wrong data without doing
anything obviously wrong, ASPLOS 2009; Curtsinger and Berger, STABILIZER, ASPLOS 2013.)
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from time import perf_counter_ns

from qprof.errors import QprofError
from qprof.record.model import LanguageModel, Model, RunOptions
from qprof.runtimes.base import Runtime

#: A variant is loaded anew only where that takes this part of a block at most: what is slow to load is also large, and
#: spreads over so many pages that their places even out.
_SHARE = 0.5
#: A first load that took longer, imports and all, is not tried again.
_LONGEST_NS = 1_000_000_000

_Stamp = tuple[tuple[int, ...], ...]


class Placements:
    """Loads a variant anew where that is quick, and its file is the one that was loaded first.

    Args:
        runtime, path, options: how the variant is loaded.
    """

    def __init__(self, runtime: Runtime, path: Path, options: RunOptions) -> None:
        self._runtime, self._path, self._options = runtime, path, options
        self._files = [path]
        self._stamp = _stamp(self._files)
        self._load_ns = 0
        self._ended = False

    def loaded(self, took_ns: int) -> None:
        """The variant was loaded for the first time, which took so long."""
        self._ended = took_ns > _LONGEST_NS
        if self._ended:
            return
        try:
            beside = self._runtime.files_beside(self._path)
        except QprofError:
            self._ended = True
            return
        self._files += beside
        self._stamp += _stamp(beside)

    def moved(self, model: Model, block_ns: int) -> tuple[Model, int | None]:
        """`model`, loaded anew for a block that lasts so long, and the nanoseconds that took; where it is to stay where
        it is, `model` and `None`."""
        if self._ended or self._load_ns > _SHARE * block_ns:
            return model, None
        if isinstance(model, LanguageModel) or model.loaded.keeps_state or not self._unchanged():
            self._ended = True
            return model, None
        began_ns = perf_counter_ns()
        try:
            # While the other is there, or it would be given the place of that.
            again = self._runtime.load_again(model, self._path, self._options)
        except QprofError:
            again = None  # the one that is loaded serves
        self._load_ns = perf_counter_ns() - began_ns
        self._ended = again is None or not self._unchanged()
        return (model, None) if again is None or self._ended else (again, self._load_ns)

    def _unchanged(self) -> bool:
        """Whether the files are those of the first load, by what the file system knows of them."""
        return bool(self._stamp) and _stamp(self._files) == self._stamp


def _stamp(files: Iterable[Path]) -> _Stamp:
    """What changes with every writing to a file; nothing where one of them is none."""
    found = []
    for file in files:
        try:
            status = file.stat()
        except OSError:
            return ()
        if not file.is_file():
            return ()
        found.append((status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    return tuple(found)
