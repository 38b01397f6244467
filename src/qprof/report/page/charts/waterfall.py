"""The waterfall: from the baseline's p50 to the variant's, one bar per row of the decomposition."""

from __future__ import annotations

from typing import Any

from qprof.report.page.charts.base import BETTER, NEUTRAL, WORSE, Spec, Width, framed, quantitative
from qprof.report.page.data import Pair

_ROW_PX = 26


def waterfall(pair: Pair, width: Width = "container") -> Spec | None:
    """`None` where the difference was not taken apart."""
    if not pair.rows or pair.baseline_us is None or pair.difference_us is None:
        return None
    scale, unit = _unit(max(pair.baseline_us, pair.baseline_us + pair.difference_us.value))
    values: list[dict[str, Any]] = []
    at = pair.baseline_us

    def bar(label: str, start: float, end: float, kind: str, text: str, sentence: str) -> None:
        values.append(
            {
                "row": label,
                "from": start / scale,
                "to": end / scale,
                "kind": kind,
                "text": text,
                "sentence": sentence,
                "edge": max(start, end) / scale,
            }
        )

    bar(pair.baseline, 0.0, at, "whole", f"{at / scale:.4g} {unit}", "p50 of the clean inferences")
    for row in pair.rows:
        kind = "slower" if row.delta_us.value > 0 else "faster"
        told = row.delta_us.text.partition(" [")[0]
        bar(row.mechanism, at, at + row.delta_us.value, kind, told, row.sentence)
        values[-1]["interval"] = row.delta_us.text
        at += row.delta_us.value
    bar(pair.variant, 0.0, at, "whole", f"{at / scale:.4g} {unit}", "the baseline's p50 and all rows")
    order = [value["row"] for value in values]
    low = min(min(v["from"], v["to"]) for v in values if v["kind"] != "whole")
    high = max(v["edge"] for v in values)
    # Small steps from a large start are drawn from near that start, and the axis says so.
    cut = low - 0.5 * (high - low) if low > 0.8 * high else 0.0
    for value in values:
        if value["kind"] == "whole":
            value["from"] = max(cut, 0.0)
    y: Spec = {
        "field": "row",
        "type": "nominal",
        "sort": order,
        "title": None,
        "axis": {"domain": False, "ticks": False, "labelLimit": 220, "labelPadding": 8},
    }
    # Parts that save more than the whole reach below 0, until others give it back.
    least = min(max(cut, 0.0), low)
    domain = [least, high + 0.14 * (high - least)]
    x = quantitative(
        "from",
        f"time of an inference ({unit})",
        scale={"zero": cut == 0.0, "nice": False, "domain": domain},
        axis={"tickCount": 7},
    )
    fill: Spec = {
        "field": "kind",
        "type": "nominal",
        "legend": None,
        "scale": {"domain": ["whole", "slower", "faster"], "range": [NEUTRAL, WORSE, BETTER]},
    }
    tooltip = [
        {"field": "row", "title": "row"},
        {"field": "interval", "title": "part [95 %]"},
        {"field": "sentence", "title": "what happened"},
    ]
    body: Spec = {
        "height": _ROW_PX * len(values),
        "encoding": {"y": y},
        "layer": [
            {
                "mark": {"type": "bar", "height": 15, "cornerRadius": 2},
                "encoding": {"x": x, "x2": {"field": "to"}, "color": fill, "tooltip": tooltip},
            },
            {
                "mark": {"type": "text", "align": "left", "dx": 6},
                "encoding": {"x": {"field": "edge", "type": "quantitative"}, "text": {"field": "text"}},
            },
        ],
    }
    cut_note = " The axis does not begin at 0." if cut > 0 else ""
    description = f"Waterfall from {pair.baseline} to {pair.variant}: " + "; ".join(
        f"{value['row']} {value['text']}" for value in values
    )
    return framed(body, values, description + "." + cut_note, width)


def _unit(us: float) -> tuple[float, str]:
    return (1.0, "µs") if us < 1e3 else (1e3, "ms") if us < 1e6 else (1e6, "s")
