"""How often each way to compare two variants claims a difference: between equals, and where one is planted.

For every machine and number of rounds, the share of runs in which a difference is claimed at 5 %: first with no
difference (should be 5 % at most), then with B slower by `--effect` (the more the better). Columns: the pooled medians
(`tests/pooled_medians.py`), the midmeans of `paired_midmean_intervals`, a Student t-test and a signed-rank test on the
log-ratios of the rounds (scipy), Student's t on the means of pairs of rounds, and `RoundEffect`, which verdicts use.
With `--margin`, also how often `judge` says equivalent, of B that is equal and of B that is slower by just the margin.

    python tests/benchmarks/verdict_calibration.py --runs 10000 --resampled 1000
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pooled_medians import pooled_log_ratio
from qprof.stats.intervals import Interval
from qprof.stats.midmean import conditional_midmean, paired_midmean_intervals
from qprof.stats.rounds import RoundEffect
from qprof.stats.verdict import judge
from simulated_rounds import MACHINES, log_ratios, simulate

COLUMNS = ("pooled", "midmean", "t", "signed-rank", "t of pairs", "qprof")


def claims(a: np.ndarray, b: np.ndarray, resampled: int) -> list[float]:
    """Share of runs in which each method claims a difference; the two bootstraps on the first `resampled` only."""
    from scipy import stats

    ratios = log_ratios(a, b)
    rounds = np.repeat(np.arange(a.shape[1]), a.shape[2])
    pooled, midmeans = [], []
    for run in range(min(resampled, len(a))):
        x, y = a[run].ravel(), b[run].ravel()
        pooled.append(excludes_zero(pooled_log_ratio(x, rounds, y, rounds, resamples=1000, seed=run)))
        sides = [conditional_midmean(side[:, None], side, rounds) for side in (x, y)]
        total = paired_midmean_intervals(*sides, resamples=1000, seed=run, method="expanded").total
        midmeans.append(excludes_zero(total))
    even = a.shape[1] // 2 * 2
    pairs = ratios[:, :even].reshape(len(a), -1, 2).mean(axis=2)
    ours = [judge(RoundEffect(row)).detectable for row in ratios]
    p_values = [
        stats.ttest_1samp(ratios, 0.0, axis=1).pvalue,
        stats.wilcoxon(ratios, axis=1, method="exact" if a.shape[1] <= 50 else "approx").pvalue,
        stats.ttest_1samp(pairs, 0.0, axis=1).pvalue,
    ]
    rates = [float(np.mean(column)) for column in (pooled, midmeans, *(p <= 0.05 for p in p_values), ours)]
    return rates


def excludes_zero(interval: Interval) -> bool:
    assert interval.low is not None and interval.high is not None
    return not interval.low <= 0.0 <= interval.high


def equivalences(name: str, rounds: int, runs: int, inferences: int, margin: float, effect: float) -> float:
    a, b = simulate(np.random.default_rng(2), name, runs, rounds, inferences, effect)
    return float(np.mean([judge(RoundEffect(row), margin).kind == "equivalent" for row in log_ratios(a, b)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=4000)
    parser.add_argument("--resampled", type=int, default=400, help="runs of the two bootstraps, which take long")
    parser.add_argument("--rounds", type=int, nargs="+", default=[5, 10, 12, 30])
    parser.add_argument("--inferences", type=int, default=5, help="of a variant in a block")
    parser.add_argument("--effect", type=float, default=0.02, help="the planted log-ratio")
    parser.add_argument("--margin", type=float, default=0.02, help="of equivalence, as a log-ratio")
    parser.add_argument("--machines", nargs="+", default=list(MACHINES), choices=MACHINES)
    options = parser.parse_args()
    for effect in (0.0, options.effect):
        print(f"claimed in %, effect {math.expm1(effect):.1%}, {options.runs} runs of {options.inferences} inferences")
        print(f"{'machine':12}{'rounds':>8}" + "".join(f"{name:>12}" for name in COLUMNS))
        for name in options.machines:
            for rounds in options.rounds:
                rng = np.random.default_rng(rounds)
                a, b = simulate(rng, name, options.runs, rounds, options.inferences, effect)
                rates = claims(a, b, options.resampled)
                print(f"{name:12}{rounds:8}" + "".join(f"{100 * rate:12.1f}" for rate in rates), flush=True)
    print(f"called equivalent in %, margin {math.expm1(options.margin):.1%}")
    print(f"{'machine':12}{'rounds':>8}{'equal':>12}{'at margin':>12}")
    for name in options.machines:
        for rounds in options.rounds:
            rates = [
                equivalences(name, rounds, options.runs, options.inferences, options.margin, effect)
                for effect in (0.0, options.margin)
            ]
            print(f"{name:12}{rounds:8}" + "".join(f"{100 * rate:12.1f}" for rate in rates), flush=True)


if __name__ == "__main__":
    main()
