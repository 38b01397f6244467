"""The variants of several runs beside each other."""

from __future__ import annotations

from typing import Any

from qprof.report.page.charts.base import COLOURS, SHAPES, Spec, Width, framed, quantitative
from qprof.report.page.data import Across, RunReport

#: Height of one point of a variant and between variants, in pixels.
_STEP_PX = 18


def side_by_side(runs: list[RunReport], across: Across, phase: str, width: Width = "container") -> Spec | None:
    """p50 of every variant with its interval, one point per run. `None` where no time is known."""
    found = [
        (one.name, letter, one.phases_us[phase])
        for run, letter in zip(runs, across.letters, strict=True)
        for one in run.variants
        if phase in one.phases_us
    ]
    if not found:
        return None
    size, unit = (1e3, "ms") if max(amount.value for _, _, amount in found) >= 1e3 else (1.0, "µs")
    values: list[dict[str, Any]] = [
        {
            "variant": name,
            "run": letter,
            "p50": amount.value / size,
            "low": (amount.value if amount.low is None else amount.low) / size,
            "high": (amount.value if amount.high is None else amount.high) / size,
            "says": amount.text,
        }
        for name, letter, amount in found
    ]
    letters, names = list(across.letters), list(dict.fromkeys(name for name, _, _ in found))
    x: Spec = {"scale": {"zero": True, "nice": True}, "axis": {"tickCount": 6}}
    tint: Spec = {
        "field": "run",
        "type": "nominal",
        "scale": {"domain": letters, "range": list(COLOURS[: len(letters)])},
        "legend": {"orient": "top", "title": "run"},
    }
    form: Spec = {
        "field": "run",
        "type": "nominal",
        "scale": {"domain": letters, "range": list(SHAPES[: len(letters)])},
        "legend": {"orient": "top", "title": "run"},
    }
    layers: list[Spec] = [
        {
            "mark": {"type": "rule", "strokeWidth": 2},
            "encoding": {
                "x": quantitative("low", f"p50 ({unit})", **x),
                "x2": {"field": "high"},
                "color": tint,
            },
        },
        {
            "mark": {"type": "point", "filled": True, "size": 80, "opacity": 1},
            "encoding": {
                "x": quantitative("p50", f"p50 ({unit})", **x),
                "color": tint,
                "shape": form,
                "tooltip": [
                    {"field": "variant", "title": "variant"},
                    {"field": "run", "title": "run"},
                    {"field": "says", "title": "p50"},
                ],
            },
        },
    ]
    places: Spec = {
        "y": {
            "field": "variant",
            "type": "nominal",
            "sort": names,
            "title": None,
            "axis": {"grid": True, "tickBand": "extent", "domain": False, "ticks": False, "labelLimit": 220},
        },
        "yOffset": {"field": "run", "type": "nominal", "sort": letters},
    }
    said = "; ".join(f"{v['variant']} in {v['run']} {v['p50']:.4g}" for v in values)
    height = _STEP_PX * (len(letters) + 0.5) * len(names)
    body: Spec = {"height": height, "encoding": places, "layer": layers}
    return framed(body, values, f"p50 ({unit}) of each variant in each run: {said}.", width)
