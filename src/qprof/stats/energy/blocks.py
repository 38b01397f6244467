"""Joules per inference over blocks, and why two variants differ in them: the time, the power, or both."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qprof.stats.energy.figures import Energy
from qprof.stats.energy.idle import Idle
from qprof.stats.energy.rule import LEAST_PERIODS, EnergyVerdict, energy_rule, phase_shifts
from qprof.stats.intervals import Interval, Method, checked_blocks, percentile_interval, resample_weights

_JOULES_PER_KWH = 3.6e6
#: Share of a block's energy that may be uncertain: what two edges are in a window of the fewest periods allowed.
_MOST_ERROR = 2.0 / LEAST_PERIODS


@dataclass(frozen=True, slots=True, eq=False)
class BlockEnergy:
    """The energy of one block and the starts int64[n] of its n repetitions (inferences)."""

    energy: Energy
    starts_ns: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PerInference:
    """Joules per inference with an interval over blocks; `None` where the rule refuses them, see `verdict`.

    `net` is `None` without an idle. `gross_error_j`, `net_error_j` bound what the sensor's edges, and the idle, can add
    to every block alike (`None`: no bound can be given); the bounds of `net` contain the idle's. `blocks` were used;
    `left_out` gives the position and the reason of those whose energy was refused or is too uncertain.
    """

    gross: Interval | None
    net: Interval | None
    gross_error_j: float | None
    net_error_j: float | None
    verdict: EnergyVerdict
    blocks: int
    left_out: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class VariantRounds:
    """What one variant used in each round: float64[n] joules and seconds, int64[n] repetitions and round numbers."""

    rounds: ArrayLike
    joules: ArrayLike
    seconds: ArrayLike
    repetitions: ArrayLike


@dataclass(frozen=True, slots=True)
class EnergySplit:
    """Why an inference of b costs another energy than one of a: `energy` = `time` + `power`, as natural logarithms.

    `energy`: ln of the ratio of the joules per inference (b / a); `time`: of the seconds per inference; `power`: of the
    mean power. `rounds` hold both variants; `left_out` names those that hold one only.
    """

    energy: Interval
    time: Interval
    power: Interval
    rounds: int
    left_out: tuple[int, ...] = ()


def joules_per_inference(
    blocks: list[BlockEnergy],
    period_ns: float | None,
    *,
    idle: Idle | None = None,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    method: Method = "expanded",
) -> PerInference:
    """Joules of all blocks over their inferences, resampling whole blocks (see `qprof.stats.intervals`).

    `period_ns`: the update period of the sensor. The rule is asked of the shortest window and the fewest repetitions of
    any block that is used; the phases are those of all of them. Where it fails there is no figure. `idle` gives the net
    figure, its interval widened by the error of the idle, which no resampling of blocks can show.
    """
    reasons = [_unfit(block.energy) for block in blocks]
    used = [(block, block.energy.joules or 0.0) for block, reason in zip(blocks, reasons, strict=True) if not reason]
    left_out = tuple((i, reason) for i, reason in enumerate(reasons) if reason)
    if not used:
        reason = f"no block has an energy ({left_out[0][1]})" if left_out else "no blocks"
        return PerInference(None, None, None, None, EnergyVerdict(False, (reason,)), 0, left_out)
    counts = np.array([len(block.starts_ns) for block, _ in used], np.int64)
    verdict = _judged([block for block, _ in used], counts, period_ns)
    if not verdict.ok:
        return PerInference(None, None, None, None, verdict, len(used), left_out)
    joules = np.array([value for _, value in used], np.float64)
    seconds = np.array([block.energy.seconds for block, _ in used], np.float64)
    weights = resample_weights(len(used), resamples, seed)

    def interval(total: NDArray[np.float64]) -> Interval:
        replicates = (weights @ total) / (weights @ counts)
        return percentile_interval(float(total.sum() / counts.sum()), replicates, level, len(used), method)

    errors = [block.energy.error_j for block, _ in used]
    bounded = [error for error in errors if error is not None]
    error = sum(bounded) / float(counts.sum()) if len(bounded) == len(errors) else None
    net, net_error = None, None
    if idle is not None and idle.watts is not None:
        net = interval(joules - idle.watts * seconds)
        if idle.error_w is None:
            net = Interval(net.value, None, None, level, "the error of the idle has no bound")
        else:
            common = idle.error_w * float(seconds.sum() / counts.sum())
            net = _widened(net, common)
            net_error = None if error is None else error + common
    return PerInference(interval(joules), net, error, net_error, verdict, len(used), left_out)


def _unfit(energy: Energy) -> str | None:
    """Why a block's energy cannot be used: it was refused, or is less certain than the rule allows."""
    if energy.joules is None:
        return energy.reason or "refused"
    if energy.error_j is not None and energy.error_j > _MOST_ERROR * abs(energy.joules):
        return f"uncertain by {energy.error_j:.3g} of {energy.joules:.3g} J"
    return None


def _judged(blocks: list[BlockEnergy], counts: NDArray[np.int64], period_ns: float | None) -> EnergyVerdict:
    shortest = min(block.energy.end_ns - block.energy.start_ns for block in blocks)
    starts = np.concatenate([block.starts_ns for block in blocks])
    phases = phase_shifts(starts, period_ns) if period_ns is not None else 0
    return energy_rule(shortest, int(counts.min()), phases, period_ns)


def _widened(interval: Interval, by: float) -> Interval:
    if interval.low is None or interval.high is None:
        return interval
    return Interval(interval.value, interval.low - by, interval.high + by, interval.level)


def split_energy_ratio(
    a: VariantRounds,
    b: VariantRounds,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    method: Method = "expanded",
) -> EnergySplit:
    """Split ln(E_b / E_a), the energy per inference, into ln(t_b / t_a) + ln(P_b / P_a), rounds resampled jointly.

    Energy is time times power, and only logarithms of factors add up without a cross term (Ang, "Decomposition
    analysis for policymaking in energy", Energy Policy 32(9), 2004: the logarithmic split leaves no residual). The
    three values add up exactly, and so does every replicate; their bounds do not, and need not.
    Raises `ValueError` for bad arrays, for quantities that are not positive, and where no round holds both variants.
    """
    a_ids, a_totals = _round_totals(a)
    b_ids, b_totals = _round_totals(b)
    ids, a_at, b_at = np.intersect1d(a_ids, b_ids, assume_unique=True, return_indices=True)
    if not len(ids):
        raise ValueError("no round holds both variants")
    weights = resample_weights(len(ids), resamples, seed)

    def logs(totals: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """ln(joules / repetition) and ln(seconds / repetition), of the last axis: joules, seconds, repetitions."""
        return np.log(totals[..., 0] / totals[..., 2]), np.log(totals[..., 1] / totals[..., 2])

    a_energy, a_time = logs(np.vstack([a_totals[a_at].sum(axis=0), weights @ a_totals[a_at]]))
    b_energy, b_time = logs(np.vstack([b_totals[b_at].sum(axis=0), weights @ b_totals[b_at]]))

    def interval(ratio: NDArray[np.float64]) -> Interval:
        return percentile_interval(float(ratio[0]), ratio[1:], level, len(ids), method)

    energy, time = b_energy - a_energy, b_time - a_time
    left_out = tuple(int(number) for number in np.setxor1d(a_ids, b_ids))
    return EnergySplit(interval(energy), interval(time), interval(energy - time), len(ids), left_out)


def _round_totals(variant: VariantRounds) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The rounds of a variant, ascending, and float64[rounds, 3]: joules, seconds and repetitions of each."""
    columns = []
    for name in ("joules", "seconds", "repetitions"):
        values, ids, index = checked_blocks(getattr(variant, name), variant.rounds)
        if not np.all(values > 0):
            raise ValueError(f"{name} must be positive in every round: the logarithm of a ratio is asked for")
        columns.append(np.bincount(index, weights=values))
    return ids, np.column_stack(columns)


def co2e_g(energy_j: float, grid_g_per_kwh: float) -> float:
    """Grams of CO2 equivalent that a grid of so many grams per kWh emits for an energy.

    Raises `ValueError` for a factor that is negative or not finite; the caller names where the factor is from.
    """
    if not (math.isfinite(grid_g_per_kwh) and grid_g_per_kwh >= 0):
        raise ValueError(f"a grid factor must be a number of grams per kWh, got {grid_g_per_kwh}")
    return energy_j / _JOULES_PER_KWH * grid_g_per_kwh
