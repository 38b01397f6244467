"""`qprof report` and `qprof plot` as commands, and what `qprof run` leaves behind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jsonschema
import pytest

from command_line import QUICK, CommandLine
from qprof.report.page.files import published_schema


def test_a_run_ends_with_the_place_of_its_report(qprof: CommandLine, models: Path) -> None:
    done = qprof("run", models / "a.tflite", models / "b.tflite", *QUICK, "-o", "pair")
    assert done.code == 0, done.err
    assert done.out.splitlines()[-1] == "pair/report.html"
    assert (qprof.folder / "pair/report.html").read_text().startswith("<!doctype html>")


def test_its_data_keep_to_the_published_schema(small_run: Path) -> None:
    data = json.loads((small_run / "report.json").read_text())
    assert list(jsonschema.Draft202012Validator(published_schema()).iter_errors(data)) == []
    (run,) = data["runs"]
    assert [one["name"] for one in run["variants"]] == ["a", "b", "loop"]
    for pair in run["pairs"]:
        total = sum(row["delta_us"]["value"] for row in pair["rows"])
        assert total == pytest.approx(pair["difference_us"]["value"], abs=1e-6)
        ops = sum(op["delta_us"]["value"] for op in pair["ops"])
        assert ops == pytest.approx(pair["difference_us"]["value"], abs=1e-6)


def test_the_page_is_drawn_again_from_its_data_alone(qprof: CommandLine, small_run: Path) -> None:
    alone = qprof.folder / "alone"
    alone.mkdir()
    shutil.copy(small_run / "report.json", alone)
    for given in ("alone/report.json", "alone"):
        done = qprof("report", given)
        assert (done.code, done.out) == (0, "alone/report.html\n"), done.err
        assert (alone / "report.html").read_bytes() == (small_run / "report.html").read_bytes()
        (alone / "report.html").unlink()


def test_a_report_names_the_run_as_it_was_called(qprof: CommandLine, small_run: Path) -> None:
    copy = qprof.folder / "a copy"
    shutil.copytree(small_run, copy)
    assert qprof("report", "a copy", "-o", "page.html").out == "page.html\n"
    (run,) = json.loads((copy / "report.json").read_text())["runs"]
    assert run["tables"]["summary"]["command"] == "qprof show 'a copy'"
    assert run["pairs"][0]["ops_command"] == "qprof diff 'a copy' a b"


def test_figures_are_drawn_into_files(qprof: CommandLine, small_run: Path) -> None:
    pytest.importorskip("vl_convert", reason="the extra plot is not installed")
    done = qprof("plot", small_run, "waterfall", "-v", "b", "-o", "w.pdf")
    assert (done.code, done.out) == (0, "w.pdf\n"), done.err
    assert (qprof.folder / "w.pdf").read_bytes().startswith(b"%PDF")
    assert qprof("plot", small_run, "times").out == "times.svg\n"
    assert "loop" in (qprof.folder / "times.svg").read_text()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("waterfal",), "did you mean waterfall?"),
        (("waterfall", "-v", "nobody"), "no variant 'nobody'"),
        (("roofline",), "has nothing to draw as roofline"),
        (("waterfall", "-o", "a.gif"), "a.gif: a figure is written as"),
    ],
)
def test_what_cannot_be_drawn_is_told_in_a_line(
    qprof: CommandLine, small_run: Path, words: tuple[str, ...], says: str
) -> None:
    done = qprof("plot", small_run, *words)
    assert done.code == 2 and says in done.err and len(done.err.splitlines()) == 1


def test_figures_are_listed(qprof: CommandLine) -> None:
    assert "waterfall: where the time of --variant went" in qprof("plot", "--list").out


def test_damaged_data_are_told_in_a_line(qprof: CommandLine) -> None:
    (qprof.folder / "report.json").write_text("{}")
    done = qprof("report", "report.json")
    assert done.code == 2 and done.err.startswith("qprof: report.json: is no report's data")
