"""Pages of a language model's run, which has two phases and passages, and of three runs, in a real browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from command_line import CommandLine
from planted.world import PlantedOp, PlantedVariant, World
from qprof.report.page.data import Report
from qprof.report.page.data_drawn import Example, Said
from qprof.report.page.data_tables import Amount
from qprof.report.page.files import write_page
from report_pages import browser, browser_binaries, drawn, opened, report_of

pytestmark = pytest.mark.skipif(browser_binaries() is None, reason="needs chromium, chromedriver and selenium")
PHASES = ("prefill", "decode")
MARKS = (
    "return [...document.querySelectorAll('.chart')].filter(c => c.checkVisibility()).map(c => [...c.querySelectorAll("
    "'svg [class^=mark-]:not(.role-axis *):not(.role-legend *) > *')]"
    ".filter(m => m.getBoundingClientRect().width > 1).length)"
)


def language_report() -> Report:
    """Every figure by phase, decode ten times as far from the baseline, and passages with the words that came first."""
    report = report_of(("plain", "other"))
    run = report.runs[0]
    base, other = (one.name for one in run.variants)
    pairs = [replace(run.pairs[0], phase=phase, title=f"{run.pairs[0].title}, {phase}") for phase in PHASES]
    pairs[1] = replace(pairs[1], difference_us=Amount(value=300.0, low=299.0, high=301.0, text="+300 µs"))
    passages = [
        Example(
            title=f"passage {n}",
            truth="nuts",
            text="Nathan asked for",
            said=[
                Said(variant=base, outcome="right", answers=["nuts", "milk"], right=True),
                Said(variant=other, outcome="its first token is no. 2", answers=["milk", "nuts"], right=False),
            ],
            flipped={other: "right → its first token is no. 2"} if n == 0 else {},
        )
        for n in range(3)
    ]
    run = replace(
        run,
        phases=list(PHASES),
        pairs=pairs,
        distributions=[replace(one, phase=phase) for phase in PHASES for one in run.distributions],
        rooflines=[replace(one, phase=phase) for phase in PHASES for one in run.rooflines],
        flames=[replace(one, phase=phase) for phase in PHASES for one in run.flames],
        examples=passages,
        curves=[],
    )
    return replace(report, runs=[run])


@pytest.fixture(scope="module")
def language_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    page = tmp_path_factory.mktemp("language") / "report.html"
    write_page(page, language_report())
    return page


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of three runs; an inference of `int8` takes 30, 60 and 90 us of its op in them."""
    folder = tmp_path_factory.mktemp("three")
    for n, name in enumerate(("here", "there", "yonder"), start=1):
        float32 = PlantedVariant("float32", [PlantedOp("conv", "CONV_2D", 100.0), PlantedOp("add", "ADD", 20.0)])
        int8 = PlantedVariant("int8", [PlantedOp("conv", "CONV_2D", 30.0 * n), PlantedOp("add", "ADD", 20.0)])
        World([float32, int8], rounds=6, inferences=4, seed=n).record(folder / name)
    done = CommandLine(folder)("report", "here", "there", "yonder", "-o", "three.html")
    assert done.code == 0, done.err
    return folder / "three.html"


@pytest.fixture(scope="module")
def window() -> Iterator[Any]:
    with browser(dark=True) as driver:
        yield driver


def quiet(driver: Any) -> bool:
    """Whether the page neither complained nor asked anyone for anything since it was opened."""
    said = [entry["message"] for entry in driver.get_log("browser")]
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    return True


def texts(driver: Any, selector: str) -> list[str]:
    found = f"return [...document.querySelectorAll({json.dumps(selector)})].map(e => e.textContent)"
    return list(driver.execute_script(found))


def first_choices(driver: Any, section: str) -> list[str]:
    """What the first list of a section offers."""
    return list(
        driver.execute_script(f"return [...document.querySelector('{section} select').options].map(o => o.textContent)")
    )


def test_a_language_model_s_page_has_every_phase(window: Any, language_page: Path) -> None:
    opened(window, language_page)
    window.execute_script("document.querySelectorAll('#difference details').forEach(one => { one.open = true; })")
    drawn(window)
    marks = window.execute_script(MARKS)
    assert len(marks) >= 9 and min(marks) >= 2
    assert texts(window, "#latency article h3") == list(PHASES)
    assert window.execute_script("return document.querySelectorAll('#difference .chart svg').length") == 2
    choices = first_choices(window, "#ops")
    assert [choice.rpartition(", ")[2] for choice in choices] == list(PHASES)
    chosen = window.execute_script("return document.querySelector('#ops select').selectedIndex")
    assert chosen == 1  # what differs most
    assert quiet(window)


def test_passages_that_flipped_come_first_with_both_answers(window: Any, language_page: Path) -> None:
    opened(window, language_page)
    first = window.find_element("css selector", "#examples .example").text
    assert "passage 0" in first and "its first token is no. 2" in first and "nuts" in first and "milk" in first


def test_a_language_model_s_ops_are_sorted_and_filtered_by_keyboard(window: Any, language_page: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    opened(window, language_page)
    window.execute_script("document.querySelector('#ops th[data-key=a_us] button').focus()")
    window.execute_script("document.querySelector('#ops th[data-key=b_us] button').focus()")
    window.switch_to.active_element.send_keys(Keys.ENTER)
    head = window.find_element("css selector", "#ops th[data-key=b_us]")
    assert head.get_attribute("aria-sort") == "descending"
    times = [float(text) for text in texts(window, "#ops tbody tr > :nth-child(5)")]
    assert times == sorted(times, reverse=True) and len(set(times)) > 5
    window.find_element("css selector", "#ops input[type=search]").send_keys("op 7 ")
    assert len(texts(window, "#ops tbody tr")) == 1


def test_the_theme_is_the_reader_s_and_changes(window: Any, language_page: Path) -> None:
    back = "return getComputedStyle(document.body).backgroundColor"
    opened(window, language_page)
    dark = window.execute_script(back)
    window.find_element("css selector", "header button").click()
    light = window.execute_script(back)
    assert dark != light and light == "rgb(255, 255, 255)"
    window.find_element("css selector", "header button").click()
    assert window.execute_script(back) == dark


def test_three_runs_stand_side_by_side(window: Any, three: Path) -> None:
    opened(window, three)
    assert texts(window, "[role=tab]")[0] == "Side by side" and len(texts(window, "[role=tab]")) == 4
    assert min(window.execute_script(MARKS)) >= 6
    rows = "#across-variants tbody tr"
    assert [text[-1] for text in texts(window, f"{rows} > :nth-child(2)")] == ["A", "B", "C"] * 2
    wanted = [f"{name} in A → {name} in {run}" for name in ("float32", "int8") for run in "BC"]
    assert first_choices(window, "#across-ops") == wanted
    assert quiet(window)


def test_three_runs_are_sorted_and_each_has_its_tab(window: Any, three: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    opened(window, three)
    window.execute_script("document.querySelector('#across-ops th[data-key=label] button').focus()")
    window.switch_to.active_element.send_keys(Keys.ENTER)
    labels = texts(window, "#across-ops tbody th")
    assert labels == sorted(labels) and {"add", "conv"} <= set(labels)
    window.execute_script("document.getElementById('tab-0').focus()")
    window.switch_to.active_element.send_keys(Keys.END)
    drawn(window)
    shown = "return [...document.querySelectorAll('main > section')].filter(s => s.checkVisibility()).map(s => s.id)"
    assert window.execute_script(shown)[0] == "run-c-answer"
    assert quiet(window)
