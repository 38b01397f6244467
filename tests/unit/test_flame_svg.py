"""Flames as files: SVG that holds hostile names as text and whose widths add up, and speedscope's format."""

from __future__ import annotations

import json
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from qprof.findings.flame import Flame, FlameNode, flame_difference
from qprof.report.flame import difference_svg, flame_svg
from qprof.report.speedscope import speedscope

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "</title><script>alert(1)</script>\"'&]]>\x00\x1b[31m\u202e\ud800"


def flame(root: FlameNode, unit: str = "µs", title: str = "v", **more: object) -> Flame:
    return Flame(root, title, unit, "width: mean time", **more)  # type: ignore[arg-type]


def tree() -> FlameNode:
    linear = FlameNode("up_proj", 60, [FlameNode("dequantize", 40, [FlameNode("K", 40)]), FlameNode("matmul", 15)])
    return FlameNode("v", 100, [linear, FlameNode("norm", 30), FlameNode("outside the ops", 10)])


def frames(svg: str) -> dict[str, ElementTree.Element]:
    """The frames by the beginning of their titles."""
    groups = ElementTree.fromstring(svg).findall(f"{SVG}g")
    return {str(group.findtext(f"{SVG}title")).rsplit(": ", 1)[0].split(": ")[0]: group for group in groups}


def rectangle(group: ElementTree.Element) -> tuple[float, float, float, str]:
    rect = group.find(f"{SVG}rect")
    assert rect is not None
    return float(rect.attrib["x"]), float(rect.attrib["width"]), float(rect.attrib["y"]), rect.attrib["fill"]


def texts(svg: str) -> str:
    return "\n".join(ElementTree.fromstring(svg).itertext())


def test_widths_are_the_values_and_children_lie_within_their_parent() -> None:
    found = {name: rectangle(group) for name, group in frames(flame_svg(flame(tree()))).items()}
    whole = found["v"][1]
    assert whole == 1180
    widths = {name: box[1] / whole for name, box in found.items()}
    expected = {"v": 1, "up_proj": 0.6, "dequantize": 0.4, "K": 0.4, "matmul": 0.15, "norm": 0.3}
    assert widths == pytest.approx({**expected, "outside the ops": 0.1}, abs=1e-5)
    assert found["norm"][0] == pytest.approx(found["up_proj"][0] + found["up_proj"][1], abs=0.002)
    assert found["matmul"][0] == pytest.approx(found["dequantize"][0] + found["dequantize"][1], abs=0.002)
    assert found["v"][2] < found["up_proj"][2] == found["norm"][2] < found["matmul"][2]
    assert found["dequantize"][3] == found["K"][3] != found["matmul"][3]


def test_every_frame_tells_value_and_share() -> None:
    svg = flame_svg(flame(tree(), notes=["a remark"]))
    titles = [group.findtext(f"{SVG}title") for group in frames(svg).values()]
    assert "dequantize: 40.0 µs, 40.0 % of all, 66.7 % of the frame above" in titles
    assert "width: mean time" in texts(svg) and "all: 100 µs" in texts(svg) and "a remark" in texts(svg)


def test_hostile_names_are_text() -> None:
    root = FlameNode("v", 4, [FlameNode(HOSTILE, 3), FlameNode("x" * 100_000, 1)])
    for svg in (
        flame_svg(flame(root, title=HOSTILE, notes=[HOSTILE])),
        difference_svg(flame_difference(flame(root), flame(FlameNode(HOSTILE, 2, [FlameNode(HOSTILE, 1)])))),
    ):
        parsed = ElementTree.fromstring(svg.encode("utf-8"))
        assert len(list(parsed.iter(f"{SVG}script"))) == 1
        assert "<script>alert(1)</script>" in texts(svg)
        assert "\u202e" not in svg and "\x1b" not in svg and "\\u202e" in svg
        assert len(svg) < 20_000
        assert not {key for node in parsed.iter() for key in node.attrib if key.startswith("on") or "href" in key}


def test_what_cannot_be_seen_is_left_out_and_counted() -> None:
    root = FlameNode("v", 100_000, [FlameNode("wide", 99_990)] + [FlameNode(f"n{i}", 1) for i in range(10)])
    svg = flame_svg(flame(root))
    assert set(frames(svg)) == {"v", "wide"}
    assert "10 frames narrower than 0.1 px left out" in texts(svg)


def test_deep_stacks_are_drawn() -> None:
    root = inner = FlameNode("f0", 2)
    for depth in range(1, 3000):
        inner.children = [FlameNode(f"f{depth}", 2)]
        inner = inner.children[0]
    assert len(frames(flame_svg(flame(root, unit="samples")))) == 3000


def test_nothing_took_time() -> None:
    assert frames(flame_svg(flame(FlameNode("v", 0)))) == {}


def test_a_difference_is_coloured_by_change() -> None:
    a = FlameNode(
        "a", 100, [FlameNode("same", 40), FlameNode("slower", 10), FlameNode("gone", 50, [FlameNode("g", 9)])]
    )
    b = FlameNode("b", 100, [FlameNode("same", 40), FlameNode("slower", 40), FlameNode("new", 20)])
    svg = difference_svg(flame_difference(flame(a, title="A1"), flame(b, title="B1")))
    found = frames(svg)
    assert set(found) == {"a -> b", "same", "slower", "new"}
    assert rectangle(found["slower"])[3] == "#e34a33"
    assert rectangle(found["same"])[3] == "#f0f0ec"
    assert rectangle(found["new"])[3] == "#f2d24e"
    assert rectangle(found["slower"])[1] == pytest.approx(0.4 * 1180)
    title = found["slower"].findtext(f"{SVG}title")
    assert title == "slower: 40.0 µs, 40.0 % of all, 40.0 % of the frame above; A: 10.0 µs (+300.0 %)"
    assert "not in A" in str(found["new"].findtext(f"{SVG}title"))
    assert "only in A, and so not drawn: 1 frame, 50.0 µs in all" in texts(svg)
    assert "50.0 µs: gone" in texts(svg)


def test_a_few_samples_are_no_change() -> None:
    a = FlameNode("a", 1000, [FlameNode("few", 3), FlameNode("many", 300), FlameNode("rest", 697)])
    b = FlameNode("b", 1000, [FlameNode("few", 8), FlameNode("many", 600), FlameNode("new", 4), FlameNode("rest", 388)])
    found = frames(difference_svg(flame_difference(flame(a, "samples"), flame(b, "samples"))))
    fills = {name: rectangle(group)[3] for name, group in found.items()}
    assert (fills["few"], fills["new"], fills["many"]) == ("#f0f0ec", "#f0f0ec", "#e34a33")


def test_host_frames_tell_samples_and_seconds() -> None:
    root = FlameNode("v", 30, [FlameNode("f (a.py:1)", 20), FlameNode("gemm (libtorch_cpu.so)", 10)])
    found = frames(flame_svg(flame(root, unit="samples", seconds_per_sample=0.01)))
    assert "20 samples (200 ms), 66.7 % of all" in str(found["f (a.py:1)"].findtext(f"{SVG}title"))
    assert rectangle(found["gemm (libtorch_cpu.so)"])[3] == "#f0a884" != rectangle(found["f (a.py:1)"])[3]


def test_the_script_zooms_and_finds(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("the script runs in a browser; without node there is nothing to run it here")
    root = ElementTree.fromstring(flame_svg(flame(tree())))
    data = [dict(g.attrib) for g in root.findall(f"{SVG}g")]
    script = next(root.iter(f"{SVG}script")).text
    harness = """
const data = DATA, made = {};
function element(a) { return {a: {...a}, style: {}, on: {}, textContent: "", kids: {},
  getAttribute(n) { return String(this.a[n]); }, setAttribute(n, v) { this.a[n] = v; },
  querySelector(n) { return this.kids[n] = this.kids[n] || element({}); },
  addEventListener(n, f) { this.on[n] = f; } }; }
const all = data.map(element);
const window = {prompt: () => "mat"};
const document = {querySelectorAll: () => all, getElementById: n => made[n] = made[n] || element({})};
SCRIPT
all[1].on.click();
const zoomed = all.map(g => [g.a["data-n"], g.style.display, (g.kids.rect || g).a.width]);
made.search.on.click();
made.reset.on.click();
const whole = all.map(g => [g.a["data-n"], g.style.display, (g.kids.rect || g).a.width]);
console.log(JSON.stringify({zoomed, whole, found: made.found.textContent}));
"""
    path = tmp_path / "zoom.js"
    path.write_text(harness.replace("DATA", json.dumps(data)).replace("SCRIPT", script or ""))
    done = subprocess.run([node, path], capture_output=True, text=True, check=True, timeout=60)
    told = json.loads(done.stdout)
    zoomed = {name: (shown, width) for name, shown, width in told["zoomed"]}
    assert zoomed["v"] == ("", 1180) and zoomed["up_proj"] == ("", 1180)
    assert zoomed["norm"][0] == "none" and zoomed["outside the ops"][0] == "none"
    assert zoomed["dequantize"][1] == pytest.approx(1180 * 40 / 60)
    assert {name: width for name, _, width in told["whole"]}["norm"] == pytest.approx(1180 * 0.3)
    assert told["found"] == "15.0 % found"


def test_speedscope_holds_several_profiles_of_shared_frames() -> None:
    host = FlameNode("w", 3, [FlameNode("f (a/b.py:12)", 2), FlameNode("g (libc.so.6)", 1)])
    document = speedscope([flame(tree(), title="v, decode"), flame(host, "samples", seconds_per_sample=0.01)], "run")
    assert document["$schema"] == "https://www.speedscope.app/file-format-schema.json"
    model, stacks = document["profiles"]
    shared = document["shared"]["frames"]
    assert (model["type"], model["name"], model["unit"]) == ("sampled", "v, decode", "microseconds")
    stacked = [
        (";".join(shared[i]["name"] for i in s), w) for s, w in zip(model["samples"], model["weights"], strict=True)
    ]
    assert stacked == [
        ("v;up_proj", 5),
        ("v;up_proj;dequantize;K", 40),
        ("v;up_proj;matmul", 15),
        ("v;norm", 30),
        ("v;outside the ops", 10),
    ]
    assert model["startValue"] == 0 and model["endValue"] == sum(model["weights"]) == 100
    assert stacks["unit"] == "seconds" and stacks["weights"] == pytest.approx([0.02, 0.01])
    assert {"name": "f", "file": "a/b.py", "line": 12} in shared and {"name": "g", "file": "libc.so.6"} in shared
    json.dumps(document, allow_nan=False)


def test_kernels_in_brackets_are_no_files() -> None:
    root = FlameNode("v", 1, [FlameNode("Add (ND)", 1)])
    assert {"name": "Add (ND)"} in speedscope([flame(root)], "run")["shared"]["frames"]
