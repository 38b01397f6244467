"""What all charts share: colours, marks and the frame of a specification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

Spec = dict[str, Any]
Width = int | Literal["container"]

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
#: Told apart with every common colour blindness, and on white and on black alike (P. Tol, "Colour schemes", SRON/EPS/
#: TN/09-002, bright, darkened for text-sized marks). The baseline is grey; each variant has a shape as well.
BASELINE_COLOUR = "#7d8590"
COLOURS = ("#4477aa", "#ee7733", "#228833", "#aa3377", "#33bbee", "#ccbb44", "#ee6677", "#997700")
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left")
DASHES = ([1, 0], [7, 2], [3, 2], [1, 2], [7, 2, 1, 2], [7, 2, 3, 2])
#: Of a difference: slower or worse, and faster or better; orange and blue, which no one takes for each other.
WORSE, BETTER, NEUTRAL = "#d1652a", "#3b78b8", "#8b949e"

#: Above the plot, in as many columns as fit.
LEGEND: Spec = {"orient": "top", "columns": {"expr": "max(1, floor(width / 100))"}}

#: Static files, for print: what the page takes from its theme.
PAPER_CONFIG: Spec = {
    "background": "white",
    "font": "Liberation Sans, Helvetica, Arial, sans-serif",
    "axis": {
        "labelColor": "#222222",
        "titleColor": "#222222",
        "domainColor": "#444444",
        "tickColor": "#444444",
        "gridColor": "#e4e4e4",
        "labelFontSize": 10,
        "titleFontSize": 10,
        "titleFontWeight": "normal",
    },
    "legend": {"labelColor": "#222222", "titleColor": "#222222", "labelFontSize": 10, "titleFontSize": 10},
    "text": {"color": "#222222"},
    "rule": {"color": "#444444"},
    "tick": {"color": "#222222"},
    "view": {"stroke": None},
    "title": {"fontSize": 11, "fontWeight": "bold", "anchor": "start", "color": "#222222"},
}


def palette(names: Sequence[str], baseline: str) -> dict[str, str]:
    """Variant -> colour, the same in every chart of a report."""
    others = [name for name in names if name != baseline]
    return {baseline: BASELINE_COLOUR} | {name: COLOURS[n % len(COLOURS)] for n, name in enumerate(others)}


def colour(names: Sequence[str], baseline: str, **more: Any) -> Spec:
    """The encoding channel of a field "variant"."""
    colours = palette(names, baseline)
    scale = {"domain": list(names), "range": [colours[name] for name in names]}
    return {"field": "variant", "type": "nominal", "scale": scale, "title": None} | more


def shape(names: Sequence[str], **more: Any) -> Spec:
    """The same as a shape, so that no colour is needed."""
    scale = {"domain": list(names), "range": [SHAPES[n % len(SHAPES)] for n in range(len(names))]}
    return {"field": "variant", "type": "nominal", "scale": scale, "title": None} | more


def dashes(names: Sequence[str], **more: Any) -> Spec:
    """The same as the dashes of a line."""
    scale = {"domain": list(names), "range": [DASHES[n % len(DASHES)] for n in range(len(names))]}
    return {"field": "variant", "type": "nominal", "scale": scale, "title": None} | more


def framed(body: Mapping[str, Any], values: Sequence[Mapping[str, Any]], description: str, width: Width) -> Spec:
    """A whole specification with its data inside. `description`: for who cannot see it."""
    return {
        "$schema": SCHEMA,
        "description": description,
        "autosize": {"type": "fit-x", "contains": "padding"} if width == "container" else {"type": "pad"},
        "data": {"values": list(values)},
        "width": width,
        **body,
    }


def quantitative(field: str, title: str, **more: Any) -> Spec:
    """A channel for a number."""
    return {"field": field, "type": "quantitative", "title": title} | more


#: About what a character of a label measures, and where a label stands from its point, the best place first.
_CHARACTER_PX, _LINE_PX = 6.3, 13.0
_Align = Literal["left", "right"]
_SIDES: tuple[tuple[_Align, int], ...] = (("left", 9), ("right", -9))
_PLACES = [(align, dx, dy) for align, dx in _SIDES for dy in (-9, 11)]
_PLACES += [(align, dx, dy) for dy in (-22, 24, -35, 37) for align, dx in _SIDES]
_Box = tuple[float, float, float, float]


def place_labels(
    labelled: Sequence[dict[str, Any]],
    label: str,
    points: Sequence[tuple[float, float]],
    of: Sequence[tuple[float, float]],
    size: tuple[float, float],
) -> None:
    """Give each labelled value an "align", "dx" and "dy" so that labels neither cover each other nor points.

    `label`: the key of the text; `of`: where the labelled values are, `points`: where all are, in pixels from the upper
    left; `size`: of the plot.
    """
    taken: list[_Box] = [(x - 6, y - 6, x + 6, y + 6) for x, y in points]
    for value, (x, y) in zip(labelled, of, strict=True):
        width = _CHARACTER_PX * len(str(value[label]))
        found: list[tuple[float, _Align, int, int, _Box]] = []
        for align, dx, dy in _PLACES:
            left = x + dx if align == "left" else x + dx - width
            box = (left, y + dy - _LINE_PX / 2, left + width, y + dy + _LINE_PX / 2)
            outside = max(0.0, box[2] - size[0], -box[0]) + max(0.0, box[3] - size[1], -box[1])
            found.append((sum(_overlap(box, other) for other in taken) + 20.0 * outside, align, dx, dy, box))
        _, value["align"], value["dx"], value["dy"], box = min(found, key=lambda one: one[0])
        taken.append(box)


def labels(values: Sequence[Mapping[str, Any]], label: str, x: Spec, y: Spec) -> list[Spec]:
    """The layers that draw what `place_labels` placed; values without a place have no label."""
    return [
        {
            "transform": [{"filter": f"datum.align == '{align}'"}],
            "mark": {"type": "text", "align": align, "dx": {"expr": "datum.dx"}, "dy": {"expr": "datum.dy"}},
            "encoding": {"x": x, "y": y, "text": {"field": label}},
        }
        for align in dict.fromkeys(value["align"] for value in values if "align" in value)
    ]


def _overlap(a: _Box, b: _Box) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
