"""`qprof report RUN1 RUN2`: what differs around the runs, variants side by side, op against op, both pages."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from command_line import CommandLine
from qprof.report.page.files import published_schema
from report_pages import HOSTILE, browser, browser_binaries, drawn, opened

PROCESSOR = "a slow one " + "".join(HOSTILE[:2])
needs_browser = pytest.mark.skipif(browser_binaries() is None, reason="needs chromium, chromedriver and selenium")


def slower(run: Path, variant: str, times: int) -> None:
    """Every inference and op of a variant takes that many times as long."""
    for name in ("samples", "ops"):
        table = pq.read_table(run / f"{name}.parquet")
        of_it = np.array([one == variant for one in table["variant"].to_pylist()])
        at = table.schema.get_field_index("duration_ns")
        longer = np.asarray(table["duration_ns"]) * np.where(of_it, times, 1)
        pq.write_table(table.set_column(at, table.schema.field(at), pa.array(longer)), run / f"{name}.parquet")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, small_run: Path) -> Path:
    """A folder of a run, "here", and of the same on another machine, "there", where variant b takes twice as long and
    the third variant has another name and another file."""
    folder = tmp_path_factory.mktemp("two")
    for name in ("here", "there"):
        shutil.copytree(small_run, folder / name)
    manifest = json.loads((folder / "there/manifest.json").read_text())
    manifest["machine"]["cpu_model"] = PROCESSOR
    manifest["packages"]["numpy"] = "0.1"
    next(one for one in manifest["variants"] if one["name"] == "b")["sha256"] = "0" * 64
    (folder / "there/manifest.json").write_text(json.dumps(manifest))
    (folder / "there/findings.json").unlink(missing_ok=True)
    slower(folder / "there", "b", 2)
    return folder


@pytest.fixture(scope="module")
def page(two: Path) -> Path:
    command = CommandLine(two)
    done = command("report", two / "here", two / "there", "-o", "both.html")
    assert (done.code, done.out) == (0, "both.html\n"), done.err
    return two / "both.html"


def test_its_data_say_what_differs_and_by_how_much(page: Path, two: Path) -> None:
    data = json.loads((two / "here/report-with-there.json").read_text())
    assert list(jsonschema.Draft202012Validator(published_schema()).iter_errors(data)) == []
    assert [run["name"] for run in data["runs"]] == ["here", "there"]
    across = data["across"]
    told = {(row["topic"], row["what"]): (row["A"], row["B"]) for row in across["differs"]["rows"]}
    assert told.keys() == {("machine", "processor"), ("versions", "numpy"), ("b", "model file (SHA-256)")}
    assert told["machine", "processor"][1] == PROCESSOR and told["b", "model file (SHA-256)"][1] == "0" * 12
    rows = {(row["variant"], row["run"]): row for row in across["variants"]["rows"]}
    assert list(rows) == [(name, run) for name in ("a", "b", "loop") for run in "AB"]
    assert rows["b", "B"]["change"].startswith("+100") and rows["a", "B"]["change"].startswith(("+0.0", "-0.0", "0.0"))
    assert rows["b", "A"]["change"] == ""
    pair = across["pairs"][1]
    assert pair["sides"] == ["A", "B"] and pair["title"] == "b in A → b in B"
    assert pair["difference_us"]["value"] == pytest.approx(pair["baseline_us"], rel=1e-6)
    assert sum(op["delta_us"]["value"] for op in pair["ops"]) == pytest.approx(pair["difference_us"]["value"], rel=1e-9)
    assert pair["ops_command"] == f"qprof diff {two / 'here'}:b {two / 'there'}:b"


def test_it_is_drawn_again_from_its_data_alone(qprof: CommandLine, page: Path, two: Path) -> None:
    shutil.copy(two / "here/report-with-there.json", qprof.folder / "alone.json")
    assert qprof("report", "alone.json").out == "alone.html\n"
    assert (qprof.folder / "alone.html").read_bytes() == page.read_bytes()


def test_a_run_is_not_beside_itself(qprof: CommandLine, two: Path) -> None:
    done = qprof("report", two / "here", two / "here")
    assert done.code == 2 and "here is named twice" in done.err and len(done.err.splitlines()) == 1


@pytest.fixture(scope="module")
def window() -> Iterator[Any]:
    with browser() as driver:
        yield driver


def shown(driver: Any) -> list[str]:
    """Ids of the sections in sight."""
    return list(
        driver.execute_script(
            "return [...document.querySelectorAll('main > section')].filter(s => s.checkVisibility()).map(s => s.id)"
        )
    )


def complaints(driver: Any) -> list[str]:
    return [entry["message"] for entry in driver.get_log("browser")]


@needs_browser
def test_what_differs_comes_first_as_text(window: Any, page: Path) -> None:
    opened(window, page)
    assert complaints(window) == [] and window.execute_script("return window.hacked") is None
    assert shown(window) == ["across-differs", "across-doubts", "across-variants", "across-ops"]
    text = window.find_element("css selector", "table.differs").text
    assert "processor" in text and PROCESSOR in text
    marks = "return document.querySelectorAll('#across-variants .chart svg .mark-symbol path').length"
    assert window.execute_script(marks) >= 6
    assert window.execute_script("return document.querySelectorAll('#across-variants tr.first').length") == 3


@needs_browser
def test_tabs_are_walked_by_keyboard(window: Any, page: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    opened(window, page)
    window.execute_script("document.getElementById('tab-0').focus()")
    window.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    drawn(window)
    assert shown(window)[0] == "run-a-answer" and len(shown(window)) == 14
    window.switch_to.active_element.send_keys(Keys.END)
    drawn(window)
    assert shown(window)[0] == "run-b-answer"
    states = "return [...document.querySelectorAll('[role=tab]')].map(t => t.getAttribute('aria-selected'))"
    assert window.execute_script(states) == ["false", "false", "true"]
    window.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert shown(window)[0] == "across-differs"
    ids = window.execute_script("return [...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    assert complaints(window) == []


@needs_browser
def test_ops_picked_in_one_run_are_not_picked_in_another(window: Any, page: Path) -> None:
    opened(window, page)
    boxes = window.find_elements("css selector", "#across-ops tbody input[type=checkbox]")
    boxes[0].click()
    assert "in 1 row" in window.find_element("css selector", "#across-ops output").text
    window.find_element("css selector", "#tab-1").click()
    drawn(window)
    assert "in 1 row" not in window.find_element("css selector", "#run-a-ops output").text


@needs_browser
def test_an_address_of_a_section_opens_its_tab(window: Any, page: Path) -> None:
    opened(window, page)
    window.execute_script("location.hash = '#run-b-about'")
    drawn(window)
    assert shown(window)[-1] == "run-b-about"


@needs_browser
def test_it_is_no_wider_than_a_telephone(window: Any, page: Path) -> None:
    opened(window, page)
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    window.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        assert window.execute_script("return document.documentElement.scrollWidth") <= 390
    finally:
        window.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
