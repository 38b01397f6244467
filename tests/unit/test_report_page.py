"""The page of a report: one file that runs its own scripts alone, whatever the names in it are."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path

import jsonschema
import msgspec
import pytest

from qprof.errors import MissingExtraError, QprofError, StoreError
from qprof.report.page import files
from qprof.report.page.build import clean
from qprof.report.page.charts.all import charts
from qprof.report.page.charts.base import palette
from qprof.report.page.data import REPORT_VERSION, Report
from qprof.report.page.html import embedded, page
from qprof.report.page.plot import KINDS, Wanted, figure, write_figure
from report_pages import HOSTILE, report_of

ASSETS = resources.files("qprof.report.page").joinpath("assets")


class Parts(HTMLParser):
    """The scripts, styles and attributes of a page, as a browser reads them."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.styles: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._open: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._open = tag
            self.scripts.append((dict(attrs), "")) if tag == "script" else self.styles.append("")

    def handle_data(self, data: str) -> None:
        if self._open == "script":
            attributes, text = self.scripts[-1]
            self.scripts[-1] = (attributes, text + data)
        elif self._open == "style":
            self.styles[-1] += data

    def handle_endtag(self, tag: str) -> None:
        self._open = None if tag == self._open else self._open


def parts_of(report: Report) -> Parts:
    parts = Parts()
    parts.feed(page(report))
    return parts


def policy_of(parts: Parts) -> str:
    return next(
        a["content"] or ""
        for tag, a in parts.tags
        if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy"
    )


def hashed(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_the_policy_lets_through_what_is_in_the_file_and_nothing_else() -> None:
    parts = parts_of(report_of())
    policy = dict(entry.strip().split(" ", 1) for entry in policy_of(parts).split(";"))
    assert policy["default-src"] == "'none'" and policy["img-src"] == "data:"
    running = [text for attributes, text in parts.scripts if attributes.get("type") != "application/json"]
    assert policy["script-src"].split() == [hashed(text) for text in running]
    assert policy["style-src"].split() == [hashed(text) for text in parts.styles]
    assert not [a for _, a in parts.tags if any(name.startswith("on") or name in ("src", "style") for name in a)]


def test_hostile_names_stay_inside_the_data() -> None:
    report = report_of()
    parts = parts_of(report)
    plain = parts_of(report_of(("a", "b")))
    assert [tag for tag, _ in parts.tags] == [tag for tag, _ in plain.tags]
    data = next(text for attributes, text in parts.scripts if attributes.get("id") == "report-data")
    assert "<" not in data and "\u2028" not in data and "\u2029" not in data
    assert msgspec.json.decode(data, type=Report) == report


def test_what_json_holds_is_escaped_and_says_the_same() -> None:
    text = json.dumps({"a": "</script>\u2028\u2029&"}, ensure_ascii=False)
    assert embedded(text) == '{"a": "\\u003c/script\\u003e\\u2028\\u2029\\u0026"}'
    assert json.loads(embedded(text)) == json.loads(text)


def test_control_and_bidirectional_characters_are_shown_and_not_obeyed() -> None:
    text = msgspec.json.encode(clean(report_of(("\u202eevil\x1b", "two\nlines")))).decode()
    assert "\u202e" not in text and "\x1b" not in text
    assert "\\\\u202eevil\\\\x1b" in text and "two\\nlines" in text
    assert "data:image/png" in text


def test_the_title_is_text() -> None:
    report = msgspec.structs.replace(report_of(), title="</title><b>x")
    assert "&lt;/title&gt;&lt;b&gt;x" in page(report)


def test_the_page_names_no_place_outside() -> None:
    text = page(report_of(("a", "b")))
    own = text.replace(ASSETS.joinpath("vega.js").read_text(encoding="utf-8"), "")
    found = set(re.findall(r"https?://[\w./-]+", own))
    # Names of XML and of a schema, which nobody asks the network for.
    assert found <= {"http://www.w3.org/2000/svg", "https://vega.github.io/schema/vega-lite/v6.json"}


def test_scripts_make_elements_of_text_alone() -> None:
    for name in ("dom", "table", "charts", "causes", "ops", "flame", "examples", "main", "theme"):
        text = ASSETS.joinpath(f"{name}.js").read_text(encoding="utf-8")
        for dangerous in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
            assert dangerous not in text, (name, dangerous)


def test_the_schema_that_ships_is_that_of_the_types() -> None:
    """To write it anew: json.dumps(qprof.report.page.files.schema(), indent=1, sort_keys=True)."""
    assert files.published_schema() == files.schema()


def test_data_keep_to_the_schema() -> None:
    schema = files.published_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    data = json.loads(msgspec.json.encode(report_of()))
    assert list(validator.iter_errors(data)) == []
    data["runs"][0]["pairs"][0]["causes"][0]["status"] = "certain"
    assert list(validator.iter_errors(data)) != []


def test_data_are_written_and_read(tmp_path: Path) -> None:
    files.write_data(tmp_path / "report.json", report_of())
    assert files.read_data(tmp_path / "report.json") == report_of()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "is no report's data"),
        ("[]", "is no report's data"),
        (json.dumps({"report_version": REPORT_VERSION + 1}), "of a newer qprof"),
        (json.dumps({"report_version": 1, "qprof": "1", "title": "a", "runs": [{}]}), r"\$\.runs\[0\]"),
        ("[" * 100_000, "is no report's data"),
    ],
)
def test_damaged_data_are_refused_in_a_line(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(content)
    with pytest.raises(StoreError, match=says) as refused:
        files.read_data(path)
    assert str(path) in str(refused.value) and "\n" not in str(refused.value)


def test_data_that_are_not_there_say_how_to_make_them(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="qprof report"):
        files.read_data(tmp_path / "none.json")


def test_every_variant_has_a_colour_and_the_baseline_is_grey() -> None:
    found = palette(["b", "a", "c"], "a")
    assert len(set(found.values())) == 3 and found["a"] == "#7d8590"


# -- charts -----------------------------------------------------------------------------------------------------------


def test_the_waterfall_begins_and_ends_at_the_two_times() -> None:
    bars = [v for v in charts(report_of(("a", "b")))[0]["waterfall-0"]["data"]["values"]]
    steps = [bar for bar in bars if bar["kind"] != "whole"]
    assert bars[0]["to"] == 100.0 and bars[-1]["to"] == 130.0
    assert steps[0]["from"] == 100.0 and steps[0]["to"] == 135.0 and steps[-1]["to"] == 130.0
    assert [bar["kind"] for bar in steps] == ["slower", "faster"]


def test_the_front_holds_what_no_other_surpasses_in_both() -> None:
    values = {v["variant"]: v for v in charts(report_of(("a", "b")))[0]["trade-latency"]["data"]["values"]}
    assert {name: one["front"] for name, one in values.items()} == {"a A": True, "b B": False}


def test_charts_compile_with_hostile_names() -> None:
    vl_convert = pytest.importorskip("vl_convert", reason="the extra plot is not installed")
    found = charts(report_of())[0]
    assert {"waterfall-0", "trade-latency", "times-inference", "drift-inference"} <= set(found)
    for name, spec in found.items():
        vega = vl_convert.vegalite_to_vega(spec, vl_version="6.4")
        assert "marks" in vega, name


def test_the_bundle_is_what_its_libraries_make() -> None:
    """To make it anew: write what this test expects into the file."""
    vl_convert = pytest.importorskip("vl_convert", reason="the extra plot is not installed")
    if vl_convert.__version__ != "1.9.0":
        pytest.skip(f"vl-convert is {vl_convert.__version__}: the bundle that ships is of 1.9.0")
    head, text = ASSETS.joinpath("vega.js").read_text(encoding="utf-8").split("\n", 1)
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version="6.4")
    assert head.startswith("/*! Vega") and "licences" in head
    assert text == '(function(){"use strict";' + bundle + "})();\n"


def test_the_licences_of_the_bundle_ship() -> None:
    text = ASSETS.joinpath("vega.LICENSE").read_text(encoding="utf-8")
    assert "University of Washington Interactive Data Lab" in text and "Mike Bostock" in text


# -- figures for paper ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".svg", ".pdf", ".png"])
def test_figures_are_files(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("vl_convert", reason="the extra plot is not installed")
    spec = figure(report_of(("a", "b")).runs[0], "waterfall", Wanted(None, "inference", 300))
    write_figure(tmp_path / f"a{suffix}", spec)
    begins = {".svg": b"<svg", ".pdf": b"%PDF", ".png": b"\x89PNG"}[suffix]
    assert (tmp_path / f"a{suffix}").read_bytes().startswith(begins)


def test_a_figure_of_names_with_markup_is_valid_xml(tmp_path: Path) -> None:
    import xml.etree.ElementTree as ElementTree

    pytest.importorskip("vl_convert", reason="the extra plot is not installed")
    report = clean(report_of())
    write_figure(tmp_path / "a.svg", figure(report.runs[0], "latency-accuracy", Wanted(None, "inference", 300)))
    tree = ElementTree.parse(tmp_path / "a.svg")
    assert not [one for one in tree.iter() if one.tag.endswith(("script", "image", "foreignObject"))]
    assert any(HOSTILE[0] in (one.text or "") for one in tree.iter())


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    run = report_of(("a", "b")).runs[0]
    with pytest.raises(QprofError, match="nothing to draw as roofline of b"):
        figure(run, "roofline", Wanted("b", "inference", 300))
    with pytest.raises(QprofError, match="is written as"):
        write_figure(tmp_path / "a.gif", {})


def test_without_the_extra_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "vl_convert", None)
    with pytest.raises(MissingExtraError, match=r"qprof\[plot\]"):
        write_figure(tmp_path / "a.svg", {})


def test_every_kind_of_figure_can_be_drawn(tmp_path: Path) -> None:
    vl_convert = pytest.importorskip("vl_convert", reason="the extra plot is not installed")
    run = report_of(("a", "b")).runs[0]
    missing = {"energy-accuracy", "energy-bars", "ar-area"}  # of which the report holds nothing
    for kind in KINDS.keys() - missing:
        assert "<path" in vl_convert.vegalite_to_svg(
            figure(run, kind, Wanted(None, "inference", 300)), vl_version="6.4"
        )
    for kind in missing:
        with pytest.raises(QprofError, match=kind):
            figure(run, kind, Wanted(None, "inference", 300))


def test_every_kind_of_figure_says_what_it_shows() -> None:
    assert all(shows and name.islower() for name, (shows, _) in KINDS.items())
