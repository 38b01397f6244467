"""What a sampler has read of one channel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qprof.probes.base import ProbeError
from qprof.record.sensors import Channel


@dataclass(frozen=True, slots=True)
class ChannelTrace:
    """Readings of one channel in the order they were taken: int64 nanoseconds, float64 values."""

    channel: Channel
    t_ns: NDArray[np.int64]
    values: NDArray[np.float64]


def forgotten(channel: Channel) -> ProbeError:
    """What a window raises that begins before the oldest reading that is kept."""
    return ProbeError(
        f"{channel.name}: readings of the window's start were forgotten; "
        "cut windows out earlier, or give the sampler more memory"
    )
