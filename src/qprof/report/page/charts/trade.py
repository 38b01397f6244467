"""Accuracy against latency, memory, size and energy: one point per variant, with intervals, and the same as bars."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from qprof.report.page.charts.base import Spec, Width, colour, framed, labels, place_labels, quantitative, shape
from qprof.report.page.data import RunReport, Variant
from qprof.report.page.data_tables import Amount

_HEIGHT_PX = 230


@dataclass(frozen=True, slots=True)
class Axis:
    """One figure of a variant: `of` gives it with its bounds, in the unit of the title."""

    key: str
    title: str
    of: Callable[[Variant], Amount | None]


def _count(value: float | None, size: float) -> Amount | None:
    return None if value is None else Amount(value=value / size)


def _scaled(found: Amount | None, size: float) -> Amount | None:
    if found is None:
        return None
    low, high = (None if bound is None else bound / size for bound in (found.low, found.high))
    return Amount(value=found.value / size, low=low, high=high, text=found.text)


def _score(one: Variant) -> Amount | None:
    """The bounds are those of the difference from the baseline, which is what a verdict goes by."""
    if one.score is None:
        return None
    change = one.score_change
    if change is None or change.low is None or change.high is None:
        return Amount(value=one.score)
    base = one.score - change.value
    return Amount(value=one.score, low=base + change.low, high=base + change.high)


def axes(run: RunReport) -> dict[str, Axis]:
    """By name: latency, memory, size, energy, accuracy; units that suit the run's own figures."""
    times = [one.latency_us.value for one in run.variants if one.latency_us is not None]
    time, time_unit = (1e3, "ms") if times and max(times) >= 1e3 else (1.0, "µs")
    if times and max(times) >= 1e6:
        time, time_unit = 1e6, "s"
    joules = [one.energy_j.value for one in run.variants if one.energy_j is not None]
    joule, joule_unit = (1.0, "J") if joules and max(joules) >= 1.0 else (1e-3, "mJ")
    source = next((one.energy_source for one in run.variants if one.energy_source), "")
    request = " of a request" if len(run.phases) > 1 else " (p50)"
    return {
        "latency": Axis("latency", f"time{request} ({time_unit})", lambda one: _scaled(one.latency_us, time)),
        "memory": Axis("memory", "peak memory (MB)", lambda one: _count(one.memory_bytes, 1e6)),
        "size": Axis("size", "size on disk (MB)", lambda one: _count(one.size_bytes, 1e6)),
        "energy": Axis("energy", f"energy, {source} ({joule_unit})", lambda one: _scaled(one.energy_j, joule)),
        "accuracy": Axis("accuracy", run.score_name or "accuracy", _score),
    }


def trade(run: RunReport, x: str, y: str, width: Width = "container") -> Spec | None:
    """A scatter with intervals; a line joins the variants that no other surpasses in both figures, by the estimates.
    `None` with fewer than two points."""
    known = axes(run)
    across, up = known[x], known[y]
    values: list[dict[str, Any]] = []
    for one in run.variants:
        a, b = across.of(one), up.of(one)
        if a is None or b is None:
            continue
        values.append(
            {
                "variant": one.name,
                "x": a.value,
                "x_low": a.value if a.low is None else a.low,
                "x_high": a.value if a.high is None else a.high,
                "y": b.value,
                "y_low": b.value if b.low is None else b.low,
                "y_high": b.value if b.high is None else b.high,
                "says": one.beaten or "not beaten by another variant",
            }
        )
    if len(values) < 2:
        return None
    _mark_front(values, higher_is_better=y == "accuracy")
    _place_labels(values)
    names = [one.name for one in run.variants]
    x_channel = quantitative("x", across.title, scale={"zero": False, "padding": 24}, axis={"tickCount": 6})
    y_channel = quantitative("y", up.title, scale={"zero": False, "padding": 14}, axis={"tickCount": 5})
    tint = colour(names, run.baseline, legend=None)
    layers: list[Spec] = [
        {
            "transform": [{"filter": "datum.front"}],
            "mark": {"type": "line", "strokeDash": [3, 3], "strokeWidth": 1, "color": "#8b949e"},
            "encoding": {"x": x_channel, "y": y_channel, "order": {"field": "x", "type": "quantitative"}},
        },
        {
            "mark": {"type": "rule", "strokeWidth": 1.5},
            "encoding": {
                "x": quantitative("x_low", across.title),
                "x2": {"field": "x_high"},
                "y": y_channel,
                "color": tint,
            },
        },
        {
            "mark": {"type": "rule", "strokeWidth": 1.5},
            "encoding": {
                "y": quantitative("y_low", up.title),
                "y2": {"field": "y_high"},
                "x": x_channel,
                "color": tint,
            },
        },
        {
            "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1},
            "encoding": {
                "x": x_channel,
                "y": y_channel,
                "color": tint,
                "shape": shape(names, legend=None),
                "tooltip": [
                    {"field": "variant", "title": "variant"},
                    {"field": "x", "title": across.title, "format": ".4~g"},
                    {"field": "y", "title": up.title, "format": ".4~g"},
                    {"field": "says", "title": "front"},
                ],
            },
        },
        *labels(values, "variant", x_channel, y_channel),
    ]
    said = "; ".join(f"{v['variant']} {v['x']:.4g}, {v['y']:.4g}" for v in values)
    return framed({"height": _HEIGHT_PX, "layer": layers}, values, f"{up.title} against {across.title}: {said}.", width)


def _mark_front(values: list[dict[str, Any]], higher_is_better: bool) -> None:
    sign = -1.0 if higher_is_better else 1.0
    points = [(value["x"], sign * value["y"]) for value in values]
    for value, (x, y) in zip(values, points, strict=True):
        value["front"] = not any(a <= x and b <= y and (a, b) != (x, y) for a, b in points)


#: About what a chart of the page measures.
_WIDTH_PX = 380.0


def _place_labels(values: list[dict[str, Any]]) -> None:
    """Labels side by side, where points lie close together."""

    def position(axis: str, bound: str, size: float) -> list[float]:
        found = [value[axis + bound] for value in values]
        low, high = min(value[f"{axis}_low"] for value in values), max(value[f"{axis}_high"] for value in values)
        return [0.06 * size + 0.88 * size * ((one - low) / (high - low) if high > low else 0.5) for one in found]

    xs, lefts, rights = (position("x", bound, _WIDTH_PX) for bound in ("", "_low", "_high"))
    ys, bottoms, tops = ([_HEIGHT_PX - y for y in position("y", bound, _HEIGHT_PX)] for bound in ("", "_low", "_high"))
    points = list(zip(xs, ys, strict=True))
    rules = [(left, y - 3, right, y + 3) for left, right, y in zip(lefts, rights, ys, strict=True)]
    rules += [(x - 3, top, x + 3, bottom) for top, bottom, x in zip(tops, bottoms, xs, strict=True)]
    place_labels(values, "variant", points, points, (_WIDTH_PX, _HEIGHT_PX), rules)


def bars(run: RunReport, figure: str, width: Width = "container") -> Spec | None:
    """One figure as bars with intervals."""
    axis = axes(run)[figure]
    found = [(one.name, amount) for one in run.variants if (amount := axis.of(one)) is not None]
    if not found:
        return None
    values = [
        {
            "variant": name,
            "value": amount.value,
            "low": amount.value if amount.low is None else amount.low,
            "high": amount.value if amount.high is None else amount.high,
        }
        for name, amount in found
    ]
    names = [one.name for one in run.variants]
    y: Spec = {
        "field": "variant",
        "type": "nominal",
        "sort": names,
        "title": None,
        "axis": {"domain": False, "ticks": False},
    }
    layers: list[Spec] = [
        {
            "mark": {"type": "bar", "height": 14, "cornerRadius": 2},
            "encoding": {"x": quantitative("value", axis.title), "color": colour(names, run.baseline, legend=None)},
        },
        {
            "mark": {"type": "rule", "strokeWidth": 1.5},
            "encoding": {"x": quantitative("low", axis.title), "x2": {"field": "high"}},
        },
    ]
    body: Spec = {"height": 26 * len(values), "encoding": {"y": y}, "layer": layers}
    said = "; ".join(f"{v['variant']} {v['value']:.4g}" for v in values)
    return framed(body, values, f"{axis.title}: {said}.", width)
