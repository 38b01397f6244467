"""The suite's results as text: a line per planted thing, and the totals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

_HEAD = (
    f"{'case':26} {'planted':12} {'truth':>20} {'named by':26} {'confirmed':9} {'false':5} {'share':>6} {'error':>6} "
    f"{'model':5}  said"
)


def written(results: Sequence[dict[str, Any]], head: bool = False) -> str:
    lines = [_HEAD] if head else []
    for result in results:
        if "failed" in result:
            lines.append(f"{result['name']:26} FAILED {' '.join(result['failed'].split())[-220:]}")
            continue
        things = result["planted"] or [None]
        for index, thing in enumerate(things):
            lines.append(_line(result, thing, index == 0))
    return "\n".join(lines)


def _line(result: dict[str, Any], thing: dict[str, Any] | None, first: bool) -> str:
    if thing is None:
        ratios = ", ".join(f"x{item['ratio']:.4f}" for item in result["variants"].values())
        what, truth, named, confirmed = "nothing", ratios, "-", "-"
    else:
        what = thing["figure"] if thing["established"] else f"({thing['figure']})"
        truth = _truth(thing["truth"])
        named = ", ".join(dict.fromkeys(thing["by"])) if thing["named"] else "NO"
        confirmed = "yes" if thing["confirmed"] else "no"
    share = f"{result['share']:.2f}" if result["share"] is not None else "-"
    error = f"{sum(result['errors']) / len(result['errors']):.1f}" if result["errors"] else "-"
    model = {None: "-", True: "ok", False: "WRONG"}[result["same_model"]]
    said = "; ".join(item[:70] for item in result["said"][:2])
    if not first:
        return f"{'':26} {what:12} {truth:>20} {named:26} {confirmed:9}"
    return (
        f"{result['name']:26} {what:12} {truth:>20} {named:26} {confirmed:9} {len(result['false']):5} "
        f"{share:>6} {error:>6} {model:5}  {said}"
    )


def _truth(truth: dict[str, float]) -> str:
    if "points" in truth:
        return f"{truth['points']:+.1f} pt"
    return f"x{truth['ratio']:.3f} {truth['delta_us']:+.0f} us"


def totals(results: Sequence[dict[str, Any]]) -> str:
    """Recall, false confirmations, mean share and mean error over the cases that did not fail."""
    judged = [result for result in results if "failed" not in result]
    listed = [thing for result in judged for thing in result["planted"]]
    things = [thing for thing in listed if thing["established"]]
    shares = [result["share"] for result in judged if result["share"] is not None]
    errors = [error for result in judged for error in result["errors"]]
    models = [result["same_model"] for result in judged if result["same_model"] is not None]
    closed = [result["closed"] for result in judged if result.get("closed") is not None]
    named, confirmed = (sum(bool(thing[key]) for thing in things) for key in ("named", "confirmed"))
    causes = [thing for thing in things if thing["figure"] in ("latency", "score")]
    points = [point for result in judged for point in result.get("points", [])]
    lines = [
        f"{len(judged)} cases, {len(results) - len(judged)} failed; {len(things)} things planted, and "
        f"{len(listed) - len(things)} more that the truth does not establish",
        f"named: {named} of {len(things)} ({_share(named, len(things))})",
        f"confirmed: {confirmed} of {len(things)}; of latency and score: "
        f"{sum(thing['confirmed'] for thing in causes)} of {len(causes)}",
        f"false confirmations: {sum(len(result['false']) for result in judged)}",
        f"share of the difference explained: {_mean(shares)} (mean of {len(shares)})",
        f"|predicted - measured|: {_mean(errors)} % of latency (mean of {len(errors)})",
        f"of these, points that claim a part of a difference and were tried on the same machine: "
        f"{_mean([point['percent'] for point in points])} % (mean of {len(points)}); "
        f"{calibration(results):.2f} of their own standard error (root mean square)",
        f"same model or not, rightly said: {sum(models)} of {len(models)}",
        f"decompositions that add up: {sum(closed)} of {len(closed)}",
    ]
    return "\n".join(lines)


def calibration(results: Sequence[dict[str, Any]]) -> float:
    """Root mean square of how far measurements lie from predictions, in standard errors of the two: 1 where those are
    right; 1 as well where there is no prediction to judge them by."""
    off = [point["errors"] for result in results for point in result.get("points", [])]
    return math.sqrt(sum(value * value for value in off) / len(off)) if off else 1.0


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "-"


def _mean(values: Sequence[float]) -> str:
    return f"{sum(values) / len(values):.2f}" if values else "-"
