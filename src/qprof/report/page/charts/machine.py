"""The roofline, errors beside costs, and power over time."""

from __future__ import annotations

import math
from typing import Any

from qprof.report.page.charts.base import (
    COLOURS,
    LEGEND,
    NEUTRAL,
    Spec,
    Width,
    colour,
    dashes,
    framed,
    labels,
    place_labels,
    quantitative,
)
from qprof.report.page.data import RunReport
from qprof.report.page.data_drawn import LayerCosts, PowerBlock, Roofline

#: What binds an op -> colour and shape.
BOUNDS = {
    "compute": (COLOURS[0], "circle"),
    "memory": (COLOURS[1], "square"),
    "dispatch": (COLOURS[3], "triangle-up"),
    "neither": (NEUTRAL, "diamond"),
    "not known": (NEUTRAL, "cross"),
}
#: The same op may be marked in every chart; see the page's table of ops.
_LONGEST_NAME = 34
PICKED: Spec = {"name": "picked", "value": []}
_IS_PICKED = "indexof(picked, datum.op) >= 0"
_DIMMED = "length(picked) > 0 && indexof(picked, datum.op) < 0"


def roofline(found: Roofline, width: Width = "container") -> Spec:
    """Each op by its multiplications per byte and per second, under what the machine does at most."""
    values: list[dict[str, Any]] = [
        {
            "kind": "op",
            "label": point.label,
            "op": point.op,
            "type": point.type,
            "intensity": point.intensity_mac_per_byte,
            "rate": point.gmac_per_s,
            "time": point.time_us,
            "bound": point.bound,
        }
        for point in found.points
    ]
    xs, ys = [v["intensity"] for v in values], [v["rate"] for v in values]
    left, right = min(xs) / 2, max(xs) * 2
    tops = [line.value for line in found.ceilings if line.kind == "compute"]
    for line in found.ceilings:
        ends = [(left, line.value), (right, line.value)]
        if line.kind == "memory":
            top = max(tops, default=max(ys) * 2)
            knee = min(right, max(left, top / line.value))
            ends = [(left, left * line.value), (knee, knee * line.value)]
        name = f"{line.name}: {line.value:.3g} {line.unit}" + (" (disturbed)" if line.disturbed else "")
        values += [{"kind": "line", "ceiling": name, "intensity": x, "rate": y, "line": line.kind} for x, y in ends]
        # What moves bytes is named where its line begins, what multiplies where its line ends.
        at = ends[0] if line.kind == "memory" else ends[1]
        values.append({"kind": "name", "ceiling": name, "intensity": at[0], "rate": at[1], "line": line.kind})
    low = min([*ys, *(v["rate"] for v in values if v["kind"] == "line" and v["line"] == "compute")])
    high = max([*ys, *tops]) * 1.6
    _part_names([value for value in values if value["kind"] == "name"], low / 2, high)
    x_scale = {"type": "log", "domain": [left, right], "nice": False}
    y_scale = {"type": "log", "domain": [low / 2, high], "nice": False, "clamp": True}
    x = quantitative(
        "intensity", "multiplications per byte moved (MAC/byte)", scale=x_scale, axis={"format": "~g", "tickCount": 6}
    )
    y = quantitative("rate", "GMAC/s", scale=y_scale, axis={"format": "~g", "tickCount": 5})
    names = [name for name in BOUNDS if any(value.get("bound") == name for value in values)]
    bound: Spec = {"field": "bound", "type": "nominal", "title": "bound by"}
    layers: list[Spec] = [
        *(
            {
                "transform": [{"filter": f"datum.kind == 'line' && datum.line == '{kind}'"}],
                "mark": {"type": "line", "strokeWidth": 1, "clip": True, "color": NEUTRAL, "strokeDash": dash},
                "encoding": {"x": x, "y": y, "detail": {"field": "ceiling"}},
            }
            for kind, dash in (("compute", [1, 0]), ("memory", [4, 3]))
        ),
        *(
            {
                "transform": [{"filter": f"datum.kind == 'name' && datum.line == '{kind}'"}],
                "mark": {"type": "text", "align": align, "dx": dx, "dy": {"expr": "datum.dy"}, "fontSize": 10},
                "encoding": {"x": x, "y": y, "text": {"field": "ceiling"}},
            }
            for kind, align, dx in (("compute", "right", 0), ("memory", "left", 4))
        ),
        {
            "transform": [{"filter": "datum.kind == 'op'"}],
            "mark": {"type": "point", "filled": True, "cursor": "pointer"},
            "encoding": {
                "x": x,
                "y": y,
                "size": quantitative("time", "time (µs)", scale={"range": [18, 420]}, legend=None),
                "opacity": {"condition": {"test": _DIMMED, "value": 0.15}, "value": 0.75},
                "stroke": {"condition": {"test": _IS_PICKED, "value": "#000000"}, "value": None},
                "color": {
                    **bound,
                    "scale": {"domain": names, "range": [BOUNDS[name][0] for name in names]},
                    "legend": LEGEND,
                },
                "shape": {
                    **bound,
                    "scale": {"domain": names, "range": [BOUNDS[name][1] for name in names]},
                    "legend": LEGEND,
                },
                "tooltip": [
                    {"field": "label", "title": "op"},
                    {"field": "type", "title": "type"},
                    {"field": "time", "title": "time (µs)", "format": ".4~g"},
                    {"field": "rate", "title": "GMAC/s", "format": ".3~g"},
                    {"field": "intensity", "title": "MAC/byte", "format": ".3~g"},
                    {"field": "bound", "title": "bound by"},
                ],
            },
        },
    ]
    phase = "" if found.phase == "inference" else f", {found.phase}"
    said = ", ".join(f"{kind} {share:.0%}" for kind, share in found.shares.items() if share >= 0.005)
    return framed(
        {"height": _HEIGHT_PX, "params": [PICKED], "layer": layers},
        values,
        f"Roofline of {found.variant}{phase}. Time bound by {said}.",
        width,
    )


_HEIGHT_PX, _LINE_PX = 330, 12.0


def _part_names(names: list[dict[str, Any]], low: float, high: float) -> None:
    """Names of lines that lie close together stand above each other: each value gets a "dy"."""
    for kind in ("compute", "memory"):
        above = -math.inf
        for name in sorted((one for one in names if one["line"] == kind), key=lambda one: -float(one["rate"])):
            at = _HEIGHT_PX * (1.0 - math.log(max(name["rate"], low) / low) / math.log(high / low))
            place = at - 7.0 if at - 7.0 - above >= _LINE_PX else max(at + 9.0, above + _LINE_PX)
            name["dy"], above = place - at, place


def error_cost(found: LayerCosts, width: Width = "container") -> Spec | None:
    """Each layer's own error against its part of the time; `None` where no layer has both."""
    values: list[dict[str, Any]] = [
        {
            "label": point.label,
            "op": point.op,
            "type": point.type,
            "error": point.own_sqnr_db,
            "share": point.share,
            "weights": point.weight_bytes or 0.0,
        }
        for point in found.points
        if point.own_sqnr_db is not None and point.share is not None and math.isfinite(point.own_sqnr_db)
    ]
    if not values:
        return None
    worst = sorted(values, key=lambda value: value["error"])[:5]
    _place_worst(values, worst, 760.0 if width == "container" else float(width))
    x = quantitative("share", "part of the time of an inference", axis={"format": ".1~%", "tickCount": 6})
    y = quantitative("error", "error of its own: SQNR (dB, worse is lower)", scale={"zero": False, "padding": 12})
    body: Spec = {
        "height": 280,
        "params": [PICKED],
        "layer": [
            {
                "mark": {"type": "point", "filled": True, "color": COLOURS[0], "cursor": "pointer"},
                "encoding": {
                    "x": x,
                    "y": y,
                    "size": quantitative("weights", "weights (bytes)", scale={"range": [22, 340]}, legend=None),
                    "opacity": {"condition": {"test": _DIMMED, "value": 0.15}, "value": 0.7},
                    "stroke": {"condition": {"test": _IS_PICKED, "value": "#000000"}, "value": None},
                    "tooltip": [
                        {"field": "label", "title": "layer"},
                        {"field": "type", "title": "type"},
                        {"field": "error", "title": "SQNR (dB)", "format": ".3~g"},
                        {"field": "share", "title": "part of the time", "format": ".2%"},
                        {"field": "weights", "title": "weights (bytes)", "format": ",d"},
                    ],
                },
            },
            *labels(values, "short", x, y),
        ],
    }
    said = "; ".join(f"{value['label']} {value['error']:.1f} dB" for value in worst)
    return framed(
        body, values, f"Error of each layer of {found.variant} against its time; the worst are {said}.", width
    )


def _place_worst(values: list[dict[str, Any]], worst: list[dict[str, Any]], width: float) -> None:
    """Names of the worst layers, from their ends, where they cover nothing."""
    height = 280.0
    most = max(value["share"] for value in values) or 1.0
    low, high = min(value["error"] for value in values), max(value["error"] for value in values)

    def place(value: dict[str, Any]) -> tuple[float, float]:
        up = (value["error"] - low) / (high - low) if high > low else 0.5
        return value["share"] / most * 0.95 * width, height * (0.95 - 0.9 * up)

    for value in worst:
        name = value["label"]
        value["short"] = name if len(name) <= _LONGEST_NAME else f"…{name[1 - _LONGEST_NAME :]}"
    place_labels(worst, "short", [place(value) for value in values], [place(value) for value in worst], (width, height))


def power(run: RunReport, phase: str, channel: str, width: Width = "container") -> Spec | None:
    """What the blocks of each variant drew; the window of a block is shaded."""
    found = [one for one in run.power if (one.phase, one.channel) == (phase, channel)]
    if not found:
        return None
    names = [one.name for one in run.variants if any(block.variant == one.name for block in found)]
    values = [point for one in found for point in _points(one)]
    values.append({"kind": "window", "from": 0.0, "to": max(one.window_s for one in found)})
    seconds = "seconds from the start of the block"
    layers: list[Spec] = [
        {
            "transform": [{"filter": "datum.kind == 'window'"}],
            "mark": {"type": "rect", "color": NEUTRAL, "opacity": 0.13},
            "encoding": {"x": quantitative("from", seconds), "x2": {"field": "to"}},
        },
        {
            "transform": [{"filter": "datum.kind == 'power'"}],
            "mark": {"type": "line", "strokeWidth": 1.2, "opacity": 0.85},
            "encoding": {
                "x": quantitative("t", seconds, axis={"tickCount": 8}),
                "y": quantitative("watts", f"power, {found[0].provenance} (W)", axis={"tickCount": 5}),
                "detail": {"field": "round"},
                "color": colour(names, run.baseline, legend=LEGEND),
                "strokeDash": dashes(names, legend=LEGEND),
                "tooltip": [
                    {"field": "variant", "title": "variant"},
                    {"field": "round", "title": "round"},
                    {"field": "watts", "title": "power (W)", "format": ".4~g"},
                ],
            },
        },
    ]
    said = f"Power over time ({channel}) in the energy blocks of {', '.join(names)}."
    return framed({"height": 200, "layer": layers}, values, said, width)


def _points(block: PowerBlock) -> list[dict[str, Any]]:
    return [
        {"kind": "power", "variant": block.variant, "round": block.round, "t": point.t_s, "watts": point.watts}
        for point in block.points
    ]
