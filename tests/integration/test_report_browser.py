"""The page of a report in a real browser: drawn under its policy, without the network, and used by keyboard too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from qprof.report.page.build import clean
from qprof.report.page.data import Answer, RunReport
from qprof.report.page.files import write_page
from report_pages import browser, browser_binaries, drawn, opened, report_of

pytestmark = pytest.mark.skipif(browser_binaries() is None, reason="needs chromium, chromedriver and selenium")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page with plain names, one with hostile ones as they come, and that as it is written."""
    folder = tmp_path_factory.mktemp("pages")
    reports = {"plain": report_of(("plain", "other")), "hostile": report_of(), "clean": clean(report_of())}
    bare = report_of(("plain", "other")).runs[0]
    answer = Answer(deploy=None, sentences=["x"])
    empty = RunReport(name="e", created=bare.created, status="running", baseline="a", metric=None, answer=answer)
    reports["empty"] = msgspec.structs.replace(reports["plain"], runs=[empty])
    for name, report in reports.items():
        write_page(folder / f"{name}.html", report)
    return {name: folder / f"{name}.html" for name in reports}


@pytest.fixture(scope="module")
def window() -> Iterator[Any]:
    with browser() as driver:
        yield driver


def script(driver: Any, text: str, *values: Any) -> Any:
    return driver.execute_script(text, *values)


def cells(driver: Any, table: str, column: int) -> list[str]:
    """Texts of a column (from 1) of a table, top to bottom."""
    found = script(
        driver,
        f"return [...document.querySelectorAll('{table} tbody tr > :nth-child({column})')].map(c => c.textContent)",
    )
    return list(found)


def complaints(driver: Any) -> list[str]:
    return [entry["message"] for entry in driver.get_log("browser")]


def requests(driver: Any) -> list[str]:
    """What the page asked for since it was opened, besides itself and data inside it."""
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    return [url for url in asked if not url.startswith(("file:", "data:"))]


def test_a_run_of_which_nothing_is_known_has_all_sections(window: Any, pages: dict[str, Path]) -> None:
    opened(window, pages["empty"])
    assert complaints(window) == []
    sections = script(window, "return [...document.querySelectorAll('main > section')].map(s => s.id)")
    told = script(window, "return [...document.querySelectorAll('.empty')].map(e => e.closest('section').id)")
    assert len(sections) == 14
    assert {
        "difference",
        "causes",
        "trade",
        "latency",
        "ops",
        "roofline",
        "layers",
        "power",
        "flames",
        "examples",
    } <= set(told)
    assert "undefined" not in script(window, "return document.getElementById('app').textContent")


@pytest.mark.parametrize("name", ["plain", "hostile", "clean"])
def test_it_draws_under_its_policy_and_asks_nobody(window: Any, pages: dict[str, Path], name: str) -> None:
    opened(window, pages[name])
    marks = script(
        window,
        "return [...document.querySelectorAll('.chart')].map(c => [...c.querySelectorAll('svg [class^=mark-]:not("
        ".role-axis *):not(.role-legend *) > *')].filter(m => m.getBoundingClientRect().width > 1).length)",
    )
    assert len(marks) >= 11 and min(marks) >= 2  # no chart is empty
    assert complaints(window) == [] and requests(window) == []
    assert script(window, "return window.hacked") is None
    assert script(window, "return document.querySelectorAll('main script, main img, main iframe').length") == 0


def test_the_policy_is_in_force(window: Any, pages: dict[str, Path]) -> None:
    opened(window, pages["plain"])
    for attack in (
        "const s = document.createElement('script'); s.textContent = 'window.hacked = 1'; document.body.append(s)",
        "document.body.setAttribute('onclick', 'window.hacked = 1'); document.body.click()",
        "const i = new Image(); i.src = 'https://example.org/x.png'; document.body.append(i)",
    ):
        script(window, attack)
    assert script(window, "return window.hacked") is None
    refused = " ".join(complaints(window))
    assert refused.count("Content Security Policy") >= 3
    assert "script-src" in refused and "img-src" in refused


def test_the_sections_come_in_their_order(window: Any, pages: dict[str, Path]) -> None:
    opened(window, pages["plain"])
    found = script(window, "return [...document.querySelectorAll('main > section')].map(s => s.id)")
    assert found == [
        "answer", "doubts", "difference", "causes", "trade", "latency", "ops", "roofline", "layers", "power", "flames",
        "examples", "audits", "about",
    ]  # fmt: skip
    links = script(window, "return [...document.querySelectorAll('nav a')].map(a => a.getAttribute('href').slice(1))")
    assert links == found


def test_a_table_sorts_by_its_headings_and_says_so(window: Any, pages: dict[str, Path]) -> None:
    opened(window, pages["plain"])
    head = "#ops th[data-key=delta]"
    button = window.find_element("css selector", f"{head} button")
    first = cells(window, "#ops table.ops", 2)
    button.click()
    assert window.find_element("css selector", head).get_attribute("aria-sort") == "descending"
    assert cells(window, "#ops table.ops", 2) == first  # as they come: the largest first
    button.click()
    assert window.find_element("css selector", head).get_attribute("aria-sort") == "ascending"
    assert cells(window, "#ops table.ops", 2) == first[::-1]


def test_a_table_sorts_by_keyboard(window: Any, pages: dict[str, Path]) -> None:
    from selenium.webdriver.common.keys import Keys

    opened(window, pages["plain"])
    button = window.find_element("css selector", "#answer th[data-key=p50] button")
    script(window, "arguments[0].focus()", button)
    window.switch_to.active_element.send_keys(Keys.ENTER)
    assert cells(window, "#answer table", 2)[0].startswith("130")
    window.switch_to.active_element.send_keys(Keys.SPACE)
    assert cells(window, "#answer table", 2)[0].startswith("100")


def test_ops_are_searched_filtered_and_added_up(window: Any, pages: dict[str, Path]) -> None:
    opened(window, pages["plain"])
    search = window.find_element("css selector", "#ops input[type=search]")
    search.send_keys("op 3 ")
    assert len(cells(window, "#ops table.ops", 2)) == 1
    assert "1 of 12 rows" in window.find_element("css selector", "#ops .toolbar [role=status]").text
    script(window, "arguments[0].value = ''; arguments[0].dispatchEvent(new Event('input'))", search)
    boxes = window.find_elements("css selector", "#ops tbody input[type=checkbox]")
    assert len(boxes) == 12
    boxes[0].click()  # B - A of op n is 5 - n
    boxes[1].click()
    told = window.find_element("css selector", "#ops output").text
    assert told.startswith("+9.00 µs in 2 rows, 30.0 % of the difference")
    window.find_element("css selector", "#ops output button").click()
    assert not any(box.is_selected() for box in boxes)


def test_a_point_of_a_chart_picks_its_op_and_picks_show_in_charts(window: Any, pages: dict[str, Path]) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    opened(window, pages["plain"])
    point = "#roofline .mark-symbol.layer_3_marks path, #roofline .mark-symbol path"
    faint = f"return [...document.querySelectorAll('{point}')].filter(p => p.getAttribute('opacity') === '0.15').length"
    assert script(window, faint) == 0
    window.find_elements("css selector", "#ops tbody input[type=checkbox]")[2].click()
    WebDriverWait(window, 20).until(lambda d: script(d, faint) == 11)
    window.find_element("css selector", "#ops output button").click()
    WebDriverWait(window, 20).until(lambda d: script(d, faint) == 0)
    script(window, f"document.querySelectorAll('{point}')[5].dispatchEvent(new MouseEvent('click', {{bubbles: true}}))")
    told = WebDriverWait(window, 20).until(
        lambda d: (text := d.find_element("css selector", "#ops output").text).startswith(("+", "0")) and text
    )
    assert "in 1 row" in told


def test_a_filter_of_ops_that_finds_nothing_says_so(window: Any, pages: dict[str, Path]) -> None:
    opened(window, pages["plain"])
    window.find_element("css selector", "#ops input[type=search]").send_keys("no such op at all")
    assert window.find_element("css selector", "#ops tbody").text == "No op matches."


def test_causes_are_sorted_by_the_figure_that_is_asked_for(window: Any, pages: dict[str, Path]) -> None:
    opened(window, pages["plain"])

    def costs() -> list[str]:
        return list(
            script(window, "return [...document.querySelectorAll('.cards > .card .cost')].map(c => c.textContent)")
        )

    assert costs() == ["+40.0 µs", "+30.0 µs"]  # the refuted one is folded, whatever it would cost
    folded = window.find_element("css selector", ".cards > .folded")
    assert folded.find_element("css selector", "summary").text == "1 refuted"
    window.find_element("css selector", "#causes [data-key=energy]").click()
    assert costs() == ["+3.00 J", "+2.00 J"]
    window.find_element("css selector", "#causes [data-key=size]").click()
    assert costs() == ["\N{MINUS SIGN}1.00 kB"]
    assert window.find_element("css selector", "#causes [data-key=size]").get_attribute("aria-pressed") == "true"


def test_the_title_of_a_cause_turns_with_its_outcome(window: Any, pages: dict[str, Path]) -> None:
    opened(window, pages["plain"])
    titles = script(
        window,
        "return Object.fromEntries([...document.querySelectorAll('#causes .card')].map(c => [c.dataset.status, "
        "c.querySelector('.claim').firstChild.textContent]))",
    )
    assert titles["confirmed"].startswith("claim 0") and titles["refuted"].startswith("It is not so: claim 1")
    assert titles["hypothesis"].startswith("Not tested: claim 2")


def test_the_theme_is_set_before_the_first_paint_and_kept(pages: dict[str, Path]) -> None:
    with browser(dark=True) as window:
        opened(window, pages["plain"])
        assert script(window, "return document.documentElement.dataset.theme") == "dark"
        order = script(
            window,
            "return [...document.head.children].map(e => e.tagName).filter(t => t === 'SCRIPT' || t === 'STYLE')",
        )
        assert order == ["SCRIPT", "STYLE"]
        dark = script(window, "return getComputedStyle(document.body).backgroundColor")
        window.find_element("css selector", "button.theme").click()
        assert script(window, "return document.documentElement.dataset.theme") == "light"
        assert script(window, "return getComputedStyle(document.body).backgroundColor") != dark
        opened(window, pages["plain"])
        assert script(window, "return document.documentElement.dataset.theme") == "light"
        assert complaints(window) == []


def test_charts_take_the_colours_of_the_theme(window: Any, pages: dict[str, Path]) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    opened(window, pages["plain"])
    text = "return document.querySelector('#difference .chart text').getAttribute('fill')"
    light = script(window, text)
    window.find_element("css selector", "button.theme").click()
    WebDriverWait(window, 20).until(lambda d: script(d, text) != light)
    script(window, "localStorage.clear()")


def test_a_flame_is_walked_by_keyboard(window: Any, pages: dict[str, Path]) -> None:
    from selenium.webdriver.common.keys import Keys

    opened(window, pages["plain"])
    flame = window.find_element("css selector", "svg.flame")
    script(window, "arguments[0].focus()", flame)
    says = "return document.querySelector('#flames p.frame').textContent"
    assert script(window, says).startswith("root: 100 µs, 100.0 %")
    window.switch_to.active_element.send_keys(Keys.ARROW_DOWN)
    assert ": 70.0 µs, 70.0 %" in script(window, says)
    window.switch_to.active_element.send_keys(Keys.ENTER)
    width = "return Number(document.querySelectorAll('svg.flame g.at rect')[0].getAttribute('width'))"
    assert script(window, width) > 1000  # as wide as the whole
    window.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert script(window, says).startswith("root")


def test_everything_to_press_has_a_name_and_headings_nest(window: Any, pages: dict[str, Path]) -> None:
    opened(window, pages["plain"])
    nameless = script(
        window,
        "return [...document.querySelectorAll('button, select, input, a')].filter(e => !(e.textContent.trim() || "
        "e.getAttribute('aria-label'))).map(e => e.outerHTML)",
    )
    assert nameless == []
    assert script(window, "return document.querySelectorAll('table:not(:has(caption))').length") == 0
    assert script(window, "return document.querySelectorAll('figure:not([aria-label]):not(.test)').length") == 0
    levels = [
        int(tag[1])
        for tag in script(window, "return [...document.querySelectorAll('h1,h2,h3,h4')].map(e => e.tagName)")
    ]
    assert levels[0] == 1 and all(b - a <= 1 for a, b in pairwise(levels))
    assert script(window, "return document.querySelectorAll('h1').length") == 1


def test_it_is_no_wider_than_a_telephone(window: Any, pages: dict[str, Path]) -> None:
    opened(window, pages["plain"])
    size = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    window.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        assert script(window, "return document.documentElement.scrollWidth") <= 390
    finally:
        window.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_run_as_it_was_measured_is_drawn(window: Any, small_run: Path) -> None:
    opened(window, small_run / "report.html")
    script(window, "document.querySelectorAll('#difference details').forEach(one => { one.open = true; })")
    drawn(window)  # what was folded is drawn when it is opened
    assert complaints(window) == [] and requests(window) == []
    assert script(window, "return document.querySelectorAll('#difference .chart[data-drawn=true] svg').length") == 2
    names = script(
        window, "return [...document.querySelectorAll('#answer > .grid tbody th')].map(c => c.firstChild.textContent)"
    )
    assert names == ["a", "b", "loop"]
    assert script(window, "return performance.getEntriesByName('ready').length") == 1
