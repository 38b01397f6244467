"""Reports whose names are what a hostile model file could hold, and a browser to look at pages with."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qprof.report.page.data import (
    REPORT_VERSION,
    Alarm,
    Answer,
    Cause,
    EvidenceItem,
    MechanismRow,
    OpRow,
    Pair,
    Report,
    RunReport,
    Variant,
)
from qprof.report.page.data_drawn import (
    Box,
    CeilingLine,
    Curve,
    CurvePoint,
    Distribution,
    Example,
    FlameTree,
    LatencyPoint,
    LayerCosts,
    LayerPoint,
    Picture,
    PowerBlock,
    PowerPoint,
    Roofline,
    RooflinePoint,
    RoundMedian,
    Said,
)
from qprof.report.page.data_tables import Amount, Fact, Grid, GridColumn

#: Markup, an end of the script that holds the data, line separators of JavaScript, a place of the template, control and
#: bidirectional characters, an expression of Vega.
HOSTILE = (
    "</script><script>window.hacked=1</script>",
    '<img src=x onerror="window.hacked=1">',
    "a\u2028b\u2029c",
    "{{scripts}}",
    "\x1b[31mred\x00",
    "\u202eevil",
    "'+window.alert(1)+'",
    "datum['x']",
    '"><svg onload=window.hacked=1>',
    "&lt;b&gt;",
)

#: One red pixel.
PIXEL = "data:image/png;base64," + (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
)


def report_of(names: tuple[str, ...] = HOSTILE) -> Report:
    """A report of two variants, every text of which is one of `names` in turn."""
    count = 0

    def name() -> str:
        nonlocal count
        count += 1
        return names[count % len(names)]

    base, other = names[0] + " A", names[1] + " B"

    def amount(value: float) -> Amount:
        return Amount(
            value=value,
            low=value - 1.0,
            high=value + 1.0,
            text=f"{value:+.1f} µs [{value - 1:+.1f} µs, {value + 1:+.1f} µs]",
        )

    ops = [
        OpRow(
            label=f"{name()} {n}",
            op=f"op {n} {name()}",
            kind="matched",
            type="CONV" if n % 2 else name(),
            delta_us=amount(5.0 - n),
            a_us=10.0,
            b_us=15.0 - n,
            mechanism="rate",
            flags=[name()],
        )
        for n in range(12)
    ]
    causes = [
        Cause(
            name=f"c{n}",
            title=name(),
            status=status,
            claim=f"claim {n} {name()}",
            costs=costs,
            because=name(),
            intervention=name(),
            scale="us",
            predicted=Amount(value=-3.0, low=-4.0, high=-2.0, text="-3"),
            measured=Amount(value=-3.1, low=-3.4, high=-2.8, text="-3.1"),
            evidence=[EvidenceItem(what=name(), value="1", source=name())],
            ops=[name()],
            command=f"qprof explain {name()}",
        )
        for n, (status, costs) in enumerate(
            [
                ("confirmed", {"latency": 30.0, "energy": 2.0}),
                ("refuted", {"latency": 60.0}),
                ("hypothesis", {"latency": 40.0, "energy": 3.0}),
                ("counted", {"size": -1000.0}),
                ("inconclusive", {"accuracy": -0.02}),
            ]
        )
    ]
    pair = Pair(
        baseline=base,
        variant=other,
        phase="inference",
        title=f"{base} → {other}",
        verdict="worse",
        baseline_us=100.0,
        variant_us=130.0,
        difference_us=amount(30.0),
        rows=[
            MechanismRow(mechanism=name(), delta_us=amount(35.0), sentence=name()),
            MechanismRow(mechanism="unattributed", delta_us=amount(-5.0), sentence=name()),
        ],
        causes=causes,
        not_applicable=[name()],
        ops=ops,
        command="qprof explain",
    )
    times = [
        Distribution(
            variant=who,
            phase="inference",
            count=6,
            p50_us=amount(at),
            least_us=at - 2,
            p5_us=at - 1.5,
            p25_us=at - 1,
            p75_us=at + 1,
            p95_us=at + 1.5,
            most_us=at + 2,
            points=[LatencyPoint(round=n, at_s=n, us=at + n) for n in range(1, 4)],
            rounds=[RoundMedian(round=n, us=at + n) for n in range(1, 4)],
        )
        for who, at in ((base, 100.0), (other, 130.0))
    ]
    flame = FlameTree(
        title=name(),
        kind="model",
        phase="inference",
        variant=base,
        unit="µs",
        source=name(),
        names=["root", name(), "leaf"],
        parent=[-1, 0, 1, 0],
        name=[0, 1, 2, 2],
        value=[100.0, 70.0, 30.0, 20.0],
        notes=[name()],
    )
    roofline = Roofline(
        variant=other,
        phase="inference",
        ceilings=[
            CeilingLine(kind="compute", name=name(), value=50.0, unit="GMAC/s"),
            CeilingLine(kind="memory", name=name(), value=10.0, unit="GB/s", disturbed=True),
        ],
        points=[
            RooflinePoint(
                label=op.label,
                op=op.op,
                type=name(),
                intensity_mac_per_byte=1.0 + n,
                gmac_per_s=4.0 + n,
                time_us=10.0,
                bound="compute" if n % 2 else "memory",
            )
            for n, op in enumerate(ops)
        ],
        shares={"compute": 0.5, "memory": 0.5},
    )
    layers = LayerCosts(
        variant=other,
        points=[
            LayerPoint(
                label=op.label, op=op.op, type=name(), own_sqnr_db=20.0 + n, share=0.01 * (n + 1), weight_bytes=10
            )
            for n, op in enumerate(ops)
        ],
        table=Grid(title=name(), columns=[GridColumn(title="op", key="op", numeric=False)], rows=[{"op": name()}]),
    )
    power = [
        PowerBlock(
            variant=who,
            phase="inference",
            round=n,
            channel="sensor." + name(),
            provenance="measured",
            window_s=5.0,
            points=[PowerPoint(t_s=0.5 * t - 0.5, watts=30.0 + (t * 7 + n) % 5) for t in range(13)],
        )
        for who in (base, other)
        for n in (1, 2)
    ]
    curves = [
        Curve(
            name="ap-iou" if ordered else "ap-area",
            title=name(),
            x=name(),
            y="AP",
            ordered=ordered,
            points=[CurvePoint(variant=who, x=x, y=0.5) for who in (base, other) for x in ("0.5", "0.75")],
        )
        for ordered in (True, False)
    ]
    box = Box(label=name(), x=0.1, y=0.1, width=0.3, height=0.4, score=0.9, matched=True)
    example = Example(
        title=name(),
        truth=name(),
        picture=Picture(image=PIXEL, width_px=1, height_px=1, truth=[box]),
        said=[Said(variant=who, outcome=name(), answers=[name()], boxes=[box], missed=[box]) for who in (base, other)],
        flipped={other: name()},
    )
    grid = Grid(
        title=name(),
        columns=[
            GridColumn(title="variant", key="variant", numeric=False),
            GridColumn(title="p50", key="p50", unit="µs"),
            GridColumn(title=name(), key="note", numeric=False, minor=True),
        ],
        rows=[{"variant": base, "p50": "100 [99, 101]"}, {"variant": other, "p50": "130 [129, 131]", "note": name()}],
        notes=[name()],
        command="qprof show",
    )
    variants = [
        Variant(name=who, score=score, latency_us=amount(us), size_bytes=1e6 * score, memory_bytes=2e6, on_front=True)
        for who, score, us in ((base, 0.7, 100.0), (other, 0.6, 130.0))
    ]
    run = RunReport(
        name=name(),
        created="2026-01-02T03:04:05",
        status="complete",
        baseline=base,
        metric="AP",
        score_name="AP",
        phases=["inference"],
        answer=Answer(
            deploy=base,
            sentences=[f"Deploy {base}: {name()}", name()],
            doubts=[name()],
            trades=[Fact(name=base, value=name()), Fact(name=other, value=name())],
        ),
        alarms=[Alarm(level="stop", title=name(), lines=[name()]), Alarm(level="doubt", title=name())],
        variants=variants,
        tables={"summary": grid},
        pairs=[pair],
        distributions=times,
        rooflines=[roofline],
        layers=[layers],
        power=power,
        curves=curves,
        flames=[flame],
        examples=[example],
        machine=[Fact(name="CPU model", value=name())],
    )
    return Report(report_version=REPORT_VERSION, qprof="1", title=name(), runs=[run])


def browser_binaries() -> tuple[str, str] | None:
    """Chromium and its driver, where both are installed, and selenium too."""
    try:
        import selenium  # noqa: F401
    except ImportError:
        return None
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    return (chromium, driver) if chromium and driver else None


@contextmanager
def browser(dark: bool = False) -> Iterator[Any]:
    """A headless Chromium that keeps what pages log and what they ask the network for."""
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    binaries = browser_binaries()
    assert binaries is not None  # the tests that use it are skipped otherwise
    options = Options()
    options.binary_location = binaries[0]
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--window-size=1280,900",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(binaries[1]))
    try:
        driver.execute_cdp_cmd("Network.enable", {})
        theme = "dark" if dark else "light"
        # Without motion: a click must not meet a page that is still scrolling.
        features = [
            {"name": "prefers-color-scheme", "value": theme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        yield driver
    finally:
        driver.quit()


def opened(driver: Any, page: Path) -> None:
    """Open a page and wait until it has drawn all that is in sight."""
    from selenium.webdriver.support.ui import WebDriverWait

    for log in ("browser", "performance"):
        driver.get_log(log)  # what was before is of another page
    driver.get(page.resolve().as_uri())
    wait = WebDriverWait(driver, 60)
    wait.until(lambda d: d.execute_script("return document.documentElement.dataset.ready === 'true'"))
    drawn(driver)


def drawn(driver: Any) -> None:
    """Wait until every chart that is not folded away is drawn."""
    from selenium.webdriver.support.ui import WebDriverWait

    left = "return [...document.querySelectorAll('.chart[data-drawn=false]')].filter(c => c.checkVisibility()).length"
    WebDriverWait(driver, 60).until(lambda d: d.execute_script(left) == 0)
