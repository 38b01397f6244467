"""Simulated runs of two variants: interleaved blocks on a machine that drifts, remembers, or is disturbed."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from qprof.stats.schedule import interleaved

#: What the blocks of a run share besides their own noise, as an addition to the logarithm of the latency.
MACHINES = ("quiet", "drift", "ar 0.5", "ar 0.9", "walk", "spikes", "cauchy", "two speeds")


def machine(rng: np.random.Generator, name: str, runs: int, blocks: int) -> NDArray[np.float64]:
    """State of the machine in each block, in time order: float64[runs, blocks], log of a factor."""
    shape = (runs, blocks)
    if name == "quiet":
        return rng.normal(0.0, 0.02, shape)
    if name == "drift":  # 30 % over the run
        return rng.normal(0.0, 0.01, shape) + 0.3 * np.arange(blocks) / blocks
    if name.startswith("ar "):
        return _ar1(rng.normal(0.0, 0.03, shape), float(name.removeprefix("ar ")))
    if name == "walk":
        return np.cumsum(rng.normal(0.0, 0.01, shape), axis=1)
    if name == "spikes":  # every seventh block is disturbed, by 20 % or several times over
        return rng.normal(0.0, 0.01, shape) + (rng.random(shape) < 0.15) * rng.lognormal(-1.5, 1.0, shape)
    if name == "cauchy":
        return np.minimum(0.005 * np.abs(rng.standard_cauchy(shape)), 3.0)
    if name == "two speeds":  # stays in one of two speeds, 15 % apart, for five blocks on average
        switches = rng.random(shape) < 0.2
        return rng.normal(0.0, 0.01, shape) + 0.15 * (np.cumsum(switches, axis=1) % 2)
    raise ValueError(name)


def _ar1(noise: NDArray[np.float64], correlation: float) -> NDArray[np.float64]:
    state = noise.copy()
    for block in range(1, noise.shape[1]):
        state[:, block] = correlation * state[:, block - 1] + math.sqrt(1.0 - correlation**2) * noise[:, block]
    return state


def simulate(
    rng: np.random.Generator, name: str, runs: int, rounds: int, inferences: int = 5, effect: float = 0.0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Latencies in us of A and B, float64[runs, rounds, inferences]; B is slower by the factor exp(`effect`)."""
    state = machine(rng, name, runs, 2 * rounds)
    seeds = rng.integers(0, 2**31, runs).tolist()
    orders = np.array([interleaved(2, rounds, seed) for seed in seeds])  # [runs, rounds, turn] -> variant
    when = 2 * np.arange(rounds) + np.argmax(orders[..., None] == np.arange(2), axis=2).transpose(2, 0, 1)
    sides = []
    for variant in range(2):
        block = np.take_along_axis(state, when[variant], axis=1)[..., None]
        # Latencies have a floor and a right tail.
        noise = 0.02 * rng.standard_gamma(1.0, (runs, rounds, inferences))
        sides.append(100.0 * np.exp(block + noise + variant * effect))
    return sides[0], sides[1]


def log_ratios(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Per-round log-ratios of the medians: float64[runs, rounds]."""
    return np.asarray(np.log(np.median(b, axis=2) / np.median(a, axis=2)))
