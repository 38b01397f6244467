"""Flames as SVG: the root on top, each frame below the one that holds it, as wide as its value.

A file of ours alone: valid XML, no font, style sheet or script from elsewhere. Names are untrusted and appear as text
only. A small script zooms into a frame that is clicked and searches; without scripts, every frame still has its title.
"""

from __future__ import annotations

import colorsys
import math
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

from qprof.findings.flame import OUTSIDE, DiffNode, Flame, FlameDifference, FlameNode
from qprof.report.op_names import short_names
from qprof.report.terminal import printable, shorten_middle
from qprof.report.units import duration, percent, significant

WIDTH_PX = 1200
_MARGIN_PX = 10
_ROW_PX = 18
_LINE_PX = 17
_FONT_PX = 11
_CHARACTER_PX = 0.64 * _FONT_PX  # the usual monospaced fonts have 0.60 to 0.63
_CHARACTERS = int((WIDTH_PX - 2 * _MARGIN_PX) / _CHARACTER_PX)  # of a line
_NARROWEST_PX = 0.1  # what is narrower cannot be seen, and a deep profile has tens of thousands of them
_GONE_SHOWN = 8
_NAME_SHOWN = 300  # characters of a frame's name; a model may hold names of megabytes

_GREY, _DEQUANTIZE, _NATIVE, _NEW = "#c9c9c9", "#9db8f2", "#f0a884", "#f2d24e"
_RED, _BLUE, _SAME = (227, 74, 51), (49, 130, 189), (240, 240, 236)
_NATIVE_FRAME = re.compile(r"\([^()]*(?:\.so\b|\.(?:c|cc|cpp|cxx|h|hpp|S|rs)(?::\d+)?\)$|\[v)[^()]*\)?$")

_SCRIPT = """
(function () {
  var frames = Array.prototype.slice.call(document.querySelectorAll("g.f"));
  var area = SPAN, left = MARGIN, character = CHARACTER, tiny = 1e-7;
  function number(g, name) { return parseFloat(g.getAttribute(name)); }
  function place(g, x, w) {
    var rect = g.querySelector("rect"), text = g.querySelector("text"), name = g.getAttribute("data-n");
    var room = Math.floor((w * area - 6) / character);
    rect.setAttribute("x", left + x * area); rect.setAttribute("width", w * area);
    text.setAttribute("x", left + x * area + 3);
    text.textContent = room < 3 ? "" : name.length <= room ? name : name.slice(0, room - 1) + "\\u2026";
  }
  function zoom(to) {
    var x0 = number(to, "data-x"), w0 = number(to, "data-w"), d0 = number(to, "data-d");
    frames.forEach(function (g) {
      var x = number(g, "data-x"), w = number(g, "data-w"), d = number(g, "data-d");
      var holds = d <= d0 && x <= x0 + tiny && x + w >= x0 + w0 - tiny;
      var inside = d > d0 && x >= x0 - tiny && x + w <= x0 + w0 + tiny;
      g.style.display = holds || inside ? "" : "none";
      g.style.opacity = d < d0 ? 0.6 : 1;
      if (holds) { place(g, 0, 1); } else if (inside) { place(g, (x - x0) / w0, w / w0); }
    });
  }
  function search() {
    var wanted = window.prompt("Frames whose name contains:", ""), end = -1, found = 0;
    if (wanted === null) { return; }
    wanted = wanted.toLowerCase();
    frames.forEach(function (g) {
      var hit = wanted !== "" && g.getAttribute("data-n").toLowerCase().indexOf(wanted) >= 0;
      var x = number(g, "data-x"), w = number(g, "data-w");
      g.querySelector("rect").style.stroke = hit ? "#000" : "";
      g.querySelector("rect").style.strokeWidth = hit ? "2" : "";
      if (hit && x >= end - tiny) { found += w; end = x + w; }
    });
    document.getElementById("found").textContent = wanted === "" ? "" : (100 * found).toFixed(1) + " % found";
  }
  frames.forEach(function (g) { g.addEventListener("click", function () { zoom(g); }); });
  document.getElementById("reset").addEventListener("click", function () { zoom(frames[0]); });
  document.getElementById("search").addEventListener("click", search);
})();
"""


@dataclass(frozen=True, slots=True)
class _Box:
    """A frame in its place: `start` and `width` as parts of the whole, `share` of the frame that holds it."""

    name: str
    value: float
    before: float | None
    start: float
    width: float
    share: float
    depth: int
    fill: str


def flame_svg(flame: Flame) -> str:
    """The flame as the text of an SVG file; an empty one where nothing took time."""
    boxes, narrow = _visible(_boxes(flame.root, _plain_fill(flame)))
    kinds = [(_DEQUANTIZE, "dequantization"), (_GREY, OUTSIDE)] if flame.unit == "µs" else [(_NATIVE, "native frames")]
    legend = [*kinds, ("#f5d08a", "all other frames (the shades tell neighbours apart)")]
    value = _value_text(flame)
    heads = [flame.title, flame.source, f"all: {value(flame.root.value)}"]
    return _document(heads, legend, boxes, value, [*flame.notes, *narrow])


def difference_svg(found: FlameDifference) -> str:
    """B's flame, coloured by how its frames changed from A; what only A has is told below."""
    sampled = found.b.unit == "samples"
    boxes, narrow = _visible(_boxes(found.root, lambda node, _: _change_fill(node, found.scaled if sampled else None)))
    value = _value_text(found.b)
    change = _change(found.root.before, found.root.after)
    heads = [
        f"{found.a.title} (A) -> {found.b.title} (B)",
        found.b.source.replace("width:", "width (B):", 1),
        f"all: A {value(found.root.before)}, B {value(found.root.after)} ({change}); colour: change of a frame from A",
    ]
    scales = [
        (_mixed(t), text)
        for t, text in (
            (-1.0, "half of A or less"),
            (-0.4, "less"),
            (0.0, "as A, or within chance" if sampled else "as A"),
        )
    ]
    scales += [(_mixed(t), text) for t, text in ((0.4, "more"), (1.0, "twice A or more"))]
    notes = [f"A: {note}" for note in found.a.notes] + [f"B: {note}" for note in found.b.notes] + _gone(found, value)
    if sampled:
        notes.insert(0, f"A's samples are scaled by {significant(found.scaled)}, to B's total: shares are compared")
    return _document(heads, [*scales, (_NEW, "only in B")], boxes, value, [*notes, *narrow])


def _gone(found: FlameDifference, value: Callable[[float], str]) -> list[str]:
    if not found.gone:
        return []
    total = math.fsum(amount for _, amount in found.gone)
    shown = [f"{value(amount)}: {_tail(path)}" for path, amount in found.gone[:_GONE_SHOWN]]
    more = len(found.gone) - len(shown)
    head = f"only in A, and so not drawn: {_frames(len(found.gone))}, {value(total)} in all"
    return [head, *(f"    {line}" for line in shown), *([f"    and {more} more"] if more else [])]


def _tail(path: Sequence[str]) -> str:
    """The innermost frames of a path, as many as tell it apart from others in a line."""
    return " > ".join([*(["…"] if len(path) > 4 else []), *(shorten_middle(_name(name), 48) for name in path[-4:])])


def _frames(count: int) -> str:
    return f"{count} frame{'' if count == 1 else 's'}"


def _boxes(root: FlameNode | DiffNode, fill: Callable[[FlameNode | DiffNode, str | None], str]) -> Iterator[_Box]:
    """Every frame in its place, each after the one that holds it. `fill` takes a frame and its holder's colour."""
    whole = _size(root)
    pending: list[tuple[FlameNode | DiffNode, float, float, int, str | None]] = [(root, 0.0, whole, 0, None)]
    while pending and whole > 0:
        node, start, held_by, depth, outer = pending.pop()
        size = _size(node)
        before = node.before if isinstance(node, DiffNode) else None
        colour = fill(node, outer)
        yield _Box(node.name, size, before, start / whole, size / whole, size / held_by, depth, colour)
        inner: list[tuple[FlameNode | DiffNode, float, float, int, str | None]] = []
        for child in node.children:
            if _size(child) > 0:
                inner.append((child, start, size, depth + 1, colour))
                start += _size(child)
        pending += reversed(inner)


def _visible(boxes: Iterator[_Box]) -> tuple[list[_Box], list[str]]:
    """The frames wide enough to be seen, and a note on the others."""
    shown, narrow = [], 0
    for box in boxes:
        if box.width * _span_px() >= _NARROWEST_PX:
            shown.append(box)
        else:
            narrow += 1
    return shown, [f"{_frames(narrow)} narrower than {_NARROWEST_PX} px left out"] if narrow else []


def _size(node: FlameNode | DiffNode) -> float:
    return node.after if isinstance(node, DiffNode) else node.value


def _span_px() -> float:
    return WIDTH_PX - 2 * _MARGIN_PX


def _plain_fill(flame: Flame) -> Callable[[FlameNode | DiffNode, str | None], str]:
    host = flame.unit == "samples"

    def fill(node: FlameNode | DiffNode, outer: str | None) -> str:
        if host and _NATIVE_FRAME.search(node.name):
            return _NATIVE
        if not host and (node.name.lower() == "dequantize" or outer == _DEQUANTIZE):
            return _DEQUANTIZE
        return _GREY if not host and node.name == OUTSIDE else _warm(node.name)

    return fill


def _warm(name: str) -> str:
    """A pale yellow to orange that is the same for a name in every file."""
    seed = zlib.crc32(name.encode("utf-8", "surrogatepass"))
    hue, light = 38 + seed % 20, 0.70 + (seed // 32 % 12) / 100
    return "#" + "".join(f"{round(255 * part):02x}" for part in colorsys.hls_to_rgb(hue / 360, light, 0.85))


def _change_fill(node: FlameNode | DiffNode, scaled: float | None) -> str:
    """`scaled`: of samples, what A's counts were multiplied by. Counts vary by their root (Poisson): a difference
    within two standard deviations is none."""
    if isinstance(node, DiffNode) and scaled is not None:
        spread = math.sqrt(node.after + scaled * node.before)
        if abs(node.after - node.before) <= 2 * spread:
            return _mixed(0.0)
    if not isinstance(node, DiffNode) or node.before <= 0:
        return _NEW
    return _mixed(math.log2(node.after / node.before))


def _mixed(change: float) -> str:
    """Blue at -1 (half), nearly white at 0, red at 1 (double) and beyond."""
    strength, end = min(1.0, abs(change)), _RED if change > 0 else _BLUE
    return "#" + "".join(f"{round(a + (b - a) * strength):02x}" for a, b in zip(_SAME, end, strict=True))


def _change(before: float, after: float) -> str:
    return percent(after / before - 1, signed=True) if before > 0 else "not in A"


def _value_text(flame: Flame) -> Callable[[float], str]:
    def text(value: float) -> str:
        if flame.unit == "µs":
            return duration(value)
        seconds = "" if flame.seconds_per_sample is None else f" ({duration(value * flame.seconds_per_sample * 1e6)})"
        return f"{value:.10g} samples{seconds}" if value == round(value) else f"{value:.1f} samples{seconds}"

    return text


def _document(
    heads: Sequence[str],
    legend: Sequence[tuple[str, str]],
    boxes: Sequence[_Box],
    value: Callable[[float], str],
    notes: Sequence[str],
) -> str:
    top = 28 + _LINE_PX * len(heads)
    bottom = top + _ROW_PX * (1 + max((box.depth for box in boxes), default=0)) + 6
    height = bottom + _LINE_PX * max(1, len(notes)) + 6
    labels = short_names(box.name for box in boxes if "/" in box.name and " " not in box.name)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH_PX}" height="{height}" '
        f'viewBox="0 0 {WIDTH_PX} {height}" font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" '
        f'font-size="{_FONT_PX}">',
        f"<title>{_text(heads[0])}</title>",
        f'<rect width="{WIDTH_PX}" height="{height}" fill="#ffffff"/>',
        f'<text x="{_MARGIN_PX}" y="20" font-size="15" font-weight="bold">{_text(heads[0])}</text>',
        *(_line(text, 20 + _LINE_PX * number) for number, text in enumerate(heads[1:], 1)),
        *_legend(legend, 20 + _LINE_PX * len(heads)),
        *_buttons(),
        *(_frame(box, top, labels.get(box.name, box.name), value) for box in boxes),
        *(_line(note, bottom + _LINE_PX * number + 10) for number, note in enumerate(notes)),
        f"<script><![CDATA[{_script()}]]></script>" if boxes else "",
        "</svg>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _frame(box: _Box, top: int, label: str, value: Callable[[float], str]) -> str:
    x, width, y = _MARGIN_PX + box.start * _span_px(), box.width * _span_px(), top + box.depth * _ROW_PX
    told = f"{value(box.value)}, {percent(box.width)} of all, {percent(box.share)} of the frame above"
    if box.before is not None:
        told += f"; A: {value(box.before)} ({_change(box.before, box.value)})" if box.before > 0 else "; not in A"
    label, room = _name(label), int((width - 6) / _CHARACTER_PX)
    return (
        f'<g class="f" data-x="{box.start:.9f}" data-w="{box.width:.9f}" data-d="{box.depth}" data-n="{_text(label)}">'
        f"<title>{_text(_name(box.name))}: {_text(told)}</title>"
        f'<rect x="{x:.3f}" y="{y}" width="{width:.3f}" height="{_ROW_PX - 1}" rx="1" fill="{box.fill}" '
        f'stroke="#ffffff" stroke-width="{0.5 if width > 2 else 0}"/>'
        f'<text x="{x + 3:.3f}" y="{y + 12.5}" pointer-events="none">'
        f"{_text(_fitted(label, room))}</text></g>"
    )


def _fitted(label: str, room: int) -> str:
    """What of a label fits into a frame: its beginning, and its end where there is room for both."""
    if room < 3:
        return ""
    if not label.isascii() or room >= 14:  # others than ASCII may be two cells wide
        return shorten_middle(label, room)
    return label if len(label) <= room else f"{label[: room - 1]}…"


def _legend(entries: Sequence[tuple[str, str]], y: int) -> Iterator[str]:
    x: float = _MARGIN_PX
    for fill, text in entries:
        yield f'<rect x="{x:.1f}" y="{y - 9}" width="10" height="10" fill="{fill}" stroke="#777777"/>'
        yield f'<text x="{x + 15:.1f}" y="{y}">{_text(text)}</text>'
        x += 35 + len(text) * _CHARACTER_PX


def _buttons() -> Iterator[str]:
    yield '<text id="found" x="1050" y="20" text-anchor="end"/>'
    for name, x, text in (("search", 1064, "search"), ("reset", 1124, "zoom out")):
        yield f'<text id="{name}" x="{x}" y="20" text-decoration="underline" cursor="pointer">{text}</text>'


def _line(text: str, y: int) -> str:
    return (
        f'<text x="{_MARGIN_PX}" y="{y}" xml:space="preserve">{_text(shorten_middle(_name(text), _CHARACTERS))}</text>'
    )


def _script() -> str:
    values = {"SPAN": _span_px(), "MARGIN": _MARGIN_PX, "CHARACTER": _CHARACTER_PX}
    return re.sub("SPAN|MARGIN|CHARACTER", lambda found: f"{values[found[0]]:g}", _SCRIPT)


def _name(text: str) -> str:
    """A name in one line, with what could hide or reorder text spelled out, and no longer than is of use."""
    shown = printable(text)
    return shown if len(shown) <= _NAME_SHOWN else f"{shown[: _NAME_SHOWN - 1]}…"


def _text(text: str) -> str:
    """Text as XML holds it; `printable` leaves nothing that XML 1.0 has no form for."""
    return escape(printable(text), quote=True)
