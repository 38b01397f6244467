"""Latency distributions: box plots on a log scale with raw points, and the median of every round."""

from __future__ import annotations

from typing import Any

from qprof.report.page.charts.base import LEGEND, Spec, Width, colour, framed, quantitative, shape
from qprof.report.page.data import RunReport
from qprof.report.page.data_drawn import Distribution

_ROW_PX = 46


def _unit(found: list[Distribution]) -> tuple[float, str]:
    most = max(one.p50_us.value for one in found)
    return (1.0, "µs") if most < 1e3 else (1e3, "ms") if most < 1e6 else (1e6, "s")


def times(run: RunReport, phase: str, width: Width = "container") -> Spec | None:
    """Boxes hold the quartiles, whiskers the 5th and 95th percentile; each point is an inference."""
    found = [one for one in run.distributions if one.phase == phase]
    if not found:
        return None
    scale, unit = _unit(found)
    names = [one.variant for one in found]
    values: list[dict[str, Any]] = []
    for one in found:
        box = {
            "p5": one.p5_us / scale,
            "p25": one.p25_us / scale,
            "p50": one.p50_us.value / scale,
            "p75": one.p75_us / scale,
            "p95": one.p95_us / scale,
        }
        values.append({"kind": "box", "variant": one.variant, "says": one.p50_us.text, "count": one.count, **box})
        rounds = max(1, len(one.rounds))
        for n, point in enumerate(one.points):
            # Rounds lie side by side inside a row, so that one that is off stands out.
            place = (point.round - 0.5) / max(rounds, point.round) + 0.02 * ((n * 7919) % 11 - 5) / 5
            values.append(
                {
                    "kind": "point",
                    "variant": one.variant,
                    "time": point.us / scale,
                    "place": place,
                    "round": point.round,
                }
            )
    least = min(min(one.p5_us for one in found), *(min(p.us for p in one.points) for one in found)) / scale
    most = max(max(one.p95_us for one in found), *(max(p.us for p in one.points) for one in found)) / scale
    log = {"type": "log", "nice": False, "domain": [least * 0.97, most * 1.03]}
    x = f"time of an inference ({unit}, log scale)"
    row: Spec = {
        "field": "variant",
        "type": "nominal",
        "sort": names,
        "title": None,
        "axis": {"domain": False, "ticks": False},
    }
    tint = colour(names, run.baseline, legend=None)

    def across(field: str) -> Spec:
        return quantitative(field, x, scale=log, axis={"format": "~g", "tickCount": 8})

    layers: list[Spec] = [
        {
            "transform": [{"filter": "datum.kind == 'point'"}],
            "mark": {"type": "point", "filled": True, "size": 8, "opacity": 0.3},
            "encoding": {
                "x": across("time"),
                "yOffset": {"field": "place", "type": "quantitative", "scale": {"domain": [0, 1]}},
                "color": tint,
                "tooltip": [
                    {"field": "variant", "title": "variant"},
                    {"field": "time", "title": f"time ({unit})", "format": ".4~g"},
                    {"field": "round", "title": "round"},
                ],
            },
        },
        {
            "transform": [{"filter": "datum.kind == 'box'"}],
            "mark": {"type": "rule", "strokeWidth": 1.5},
            "encoding": {"x": across("p5"), "x2": {"field": "p95"}},
        },
        {
            "transform": [{"filter": "datum.kind == 'box'"}],
            "mark": {"type": "bar", "height": 24, "fillOpacity": 0.55, "strokeWidth": 1.5},
            "encoding": {
                "x": across("p25"),
                "x2": {"field": "p75"},
                "color": tint,
                "stroke": {**tint},
                "tooltip": [
                    {"field": "variant", "title": "variant"},
                    {"field": "says", "title": "p50 [95 %]"},
                    {"field": "p5", "title": f"5th percentile ({unit})", "format": ".4~g"},
                    {"field": "p95", "title": f"95th percentile ({unit})", "format": ".4~g"},
                    {"field": "count", "title": "inferences"},
                ],
            },
        },
        {
            "transform": [{"filter": "datum.kind == 'box'"}],
            "mark": {"type": "tick", "thickness": 2, "height": 34},
            "encoding": {"x": across("p50")},
        },
    ]
    said = "; ".join(f"{one.variant} {one.p50_us.text}" for one in found)
    body: Spec = {"height": _ROW_PX * len(names), "encoding": {"y": row}, "layer": layers}
    return framed(body, values, f"Times of the inferences, {phase}: p50 of {said}.", width)


def drift(run: RunReport, phase: str, width: Width = "container") -> Spec | None:
    """The median of every round, over that variant's median of all rounds: what drifts leaves 0 %."""
    found = [one for one in run.distributions if one.phase == phase and len(one.rounds) > 1]
    rounds = sorted({median.round for one in found for median in one.rounds})
    if not found:
        return None
    names = [one.variant for one in found]
    values = [
        {
            "variant": one.variant,
            "round": median.round,
            "change": median.us / one.p50_us.value - 1.0,
            "at": f"{median.us:.5g} µs",
        }
        for one in found
        for median in one.rounds
    ]
    body: Spec = {
        "height": 150,
        "encoding": {
            "x": {
                "field": "round",
                "type": "quantitative",
                "title": "round",
                "axis": {"format": "d", "tickMinStep": 1, "grid": False}
                | ({"values": rounds} if len(rounds) <= 20 else {}),
                "scale": {"nice": False, "padding": 8},
            },
            "y": quantitative("change", "median of the round against p50", axis={"format": "+.1%", "tickCount": 5}),
            "color": colour(names, run.baseline, legend=LEGEND),
        },
        "layer": [
            {"mark": {"type": "line", "strokeWidth": 1.2, "opacity": 0.75}},
            {
                "mark": {"type": "point", "filled": True, "size": 32, "opacity": 1},
                "encoding": {
                    "shape": shape(names, legend=LEGEND),
                    "tooltip": [
                        {"field": "variant", "title": "variant"},
                        {"field": "round", "title": "round"},
                        {"field": "at", "title": "median"},
                        {"field": "change", "title": "against p50", "format": "+.2%"},
                    ],
                },
            },
        ],
    }
    return framed(body, values, f"Median of every round against the p50 of all, {phase}.", width)
