"""The sensor readings of a run, by block and channel: the one reader of `readings.parquet`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.store.op_scan import column_of


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """Readings of one channel in one block, in the order of their times: `t_ns` int64[n], `values` float64[n]."""

    t_ns: NDArray[np.int64]
    values: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.t_ns)

    def each_time_once(self) -> Series:
        """Without readings that have the time of the one before them."""
        once = np.concatenate([[True], np.diff(self.t_ns) > 0])
        return Series(self.t_ns[once], self.values[once])


class Readings:
    """All readings of a run, sorted once: `table` is `readings.parquet` as an Arrow table."""

    def __init__(self, table: Any) -> None:
        self._table = table

    @property
    def channels(self) -> list[str]:
        """Names of the channels that have any reading."""
        return sorted(self._by_channel)

    def series(self, block: int, channel: str) -> Series | None:
        """What a channel told in a block, `None` where it told nothing."""
        return self._by_channel.get(channel, {}).get(block)

    def of_channel(self, channel: str) -> dict[int, Series]:
        """block -> what a channel told in it."""
        return self._by_channel.get(channel, {})

    def of_block(self, block: int) -> dict[str, Series]:
        """channel -> what it told in a block."""
        return self._by_block.get(block, {})

    def total(self, channel: str, blocks: list[int]) -> float | None:
        """The sum of a channel's readings over some blocks; `None` where there is none."""
        found = [series for block in blocks if (series := self.series(block, channel)) is not None]
        return float(np.concatenate([series.values for series in found]).sum()) if found else None

    @cached_property
    def provenances(self) -> dict[str, str]:
        """channel -> the provenance of its readings."""
        probes, found = (column_of(self._table[name]) for name in ("probe", "provenance"))
        places = np.unique(np.stack([probes.codes, found.codes]), axis=1).T.tolist()
        return {probes.names[probe]: found.names[provenance] for probe, provenance in places}

    @cached_property
    def _by_channel(self) -> dict[str, dict[int, Series]]:
        found: dict[str, dict[int, Series]] = {}
        for channel, block, series in self._sorted():
            found.setdefault(channel, {})[block] = series
        return found

    @cached_property
    def _by_block(self) -> dict[int, dict[str, Series]]:
        found: dict[int, dict[str, Series]] = {}
        for channel, blocks in self._by_channel.items():
            for block, series in blocks.items():
                found.setdefault(block, {})[channel] = series
        return found

    def _sorted(self) -> Iterator[tuple[str, int, Series]]:
        if not self._table.num_rows:
            return
        probes, block, t_ns, value = (column_of(self._table[name]) for name in ("probe", "block", "t_ns", "value"))
        names, codes = probes.names, probes.codes
        order = np.lexsort((t_ns, block, codes))
        codes, block, t_ns, value = codes[order], block[order], t_ns[order], value[order]
        new = np.flatnonzero((np.diff(codes) != 0) | (np.diff(block) != 0)) + 1
        for first, last in zip([0, *new.tolist()], [*new.tolist(), len(codes)], strict=True):
            series = Series(t_ns[first:last].astype(np.int64), value[first:last].astype(np.float64))
            yield names[codes[first]], int(block[first]), series
