"""Scores by what they depend on: AP by IoU threshold and by size, AR by size."""

from __future__ import annotations

from qprof.report.page.charts.base import LEGEND, Spec, Width, colour, framed, quantitative, shape
from qprof.report.page.data import RunReport
from qprof.report.page.data_drawn import Curve


def curve(run: RunReport, found: Curve, width: Width = "container") -> Spec:
    """A line per variant where x is a number, groups of bars otherwise."""
    names = [one.name for one in run.variants if any(point.variant == one.name for point in found.points)]
    values = [
        {"variant": point.variant, "x": float(point.x) if found.ordered else point.x, "y": point.y}
        for point in found.points
    ]
    order = list(dict.fromkeys(point.x for point in found.points))
    tooltip = [
        {"field": "variant", "title": "variant"},
        {"field": "x", "title": found.x},
        {"field": "y", "title": found.y, "format": ".3f"},
    ]
    y = quantitative("y", found.y, axis={"tickCount": 5})
    tint = colour(names, run.baseline, legend=LEGEND)
    said = f"{found.title} of {', '.join(names)}."
    if found.ordered:
        body: Spec = {
            "height": 220,
            "encoding": {
                "x": quantitative(
                    "x", found.x, scale={"zero": False, "nice": False, "padding": 10}, axis={"tickCount": 5}
                ),
                "y": y,
                "color": tint,
            },
            "layer": [
                {"mark": {"type": "line", "strokeWidth": 1.4}},
                {
                    "mark": {"type": "point", "filled": True, "size": 36, "opacity": 1},
                    "encoding": {"shape": shape(names, legend=LEGEND), "tooltip": tooltip},
                },
            ],
        }
        return framed(body, values, said, width)
    body = {
        "height": 220,
        "mark": {"type": "bar", "cornerRadius": 1},
        "encoding": {
            "x": {"field": "x", "type": "nominal", "sort": order, "title": found.x, "axis": {"labelAngle": 0}},
            "xOffset": {"field": "variant", "type": "nominal", "sort": names},
            "y": y,
            "color": tint,
            "tooltip": tooltip,
        },
    }
    return framed(body, values, said, width)
