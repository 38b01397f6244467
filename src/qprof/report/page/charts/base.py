"""What all charts share: colours, marks and the frame of a specification."""

from __future__ import annotations

import math
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
#: Points nearer than this have their labels in one block.
_NEAR_PX = 9.0
_Box = tuple[float, float, float, float]


def place_labels(
    labelled: Sequence[dict[str, Any]],
    label: str,
    points: Sequence[tuple[float, float]],
    of: Sequence[tuple[float, float]],
    size: tuple[float, float],
    avoid: Sequence[tuple[float, float, float, float]] = (),
) -> None:
    """Give each labelled value an "align", "dx" and "dy" so that labels neither cover each other nor points.

    `label`: the key of the text; `of`: where the labelled values are, `points`: where all are, in pixels from the upper
    left; `size`: of the plot; `avoid`: boxes (left, top, right, bottom) of what else is drawn.
    """
    taken: list[_Box] = [*((x - 6, y - 6, x + 6, y + 6) for x, y in points), *avoid]
    for group in _near(of):
        x, y = of[group[0]]
        width = _CHARACTER_PX * max(len(str(labelled[n][label])) for n in group)
        height = _LINE_PX * (len(group) - 1)
        found: list[tuple[float, _Align, int, float, _Box]] = []
        for rank, (align, dx, dy) in enumerate(_places(height)):
            left = x + dx if align == "left" else x + dx - width
            box = (left, y + dy - _LINE_PX / 2, left + width, y + dy + height + _LINE_PX / 2)
            outside = max(0.0, box[2] - size[0], -box[0]) + max(0.0, box[3] - size[1], -box[1])
            covered = sum(_overlap(box, other) for other in taken)
            found.append((covered + 20.0 * outside + 2.0 * rank, align, dx, dy, box))
        _, align, dx, dy, box = min(found, key=lambda one: one[0])
        for line, n in enumerate(group):
            labelled[n].update(align=align, dx=dx, dy=round(dy + line * _LINE_PX, 1))
        taken.append(box)


def _near(of: Sequence[tuple[float, float]]) -> list[list[int]]:
    """Which of the points stand so close together that their labels make one block, in the order of their height."""
    groups: list[list[int]] = []
    for n, (x, y) in enumerate(of):
        beside = (g for g in groups if all(math.hypot(x - of[m][0], y - of[m][1]) < _NEAR_PX for m in g))
        group = next(beside, None)
        if group is None:
            groups.append([n])
        else:
            group.append(n)
    return groups


def _places(height: float) -> list[tuple[_Align, int, float]]:
    """Where the first line of a block of that height may stand from its point, the best place first."""
    rows = (-9.0 - height, 11.0, -height / 2, -22.0 - height, 24.0, -35.0 - height, 37.0)
    return [(align, dx, dy) for dy in rows for align, dx in _SIDES]


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
