"""The energy table as text: what is shown, in which rows, with which notes; power over time as a chart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from energy_runs import TWO, Recording, Variant, a100, h100
from qprof.findings.energy import Change, Figure, PowerTrace, energy_table
from qprof.report.energy import energy_report, split_text
from qprof.report.power import power_charts
from qprof.report.table import Table, render
from qprof.report.units import MISSING

MODELS = {"codecarbon.cpu.energy": (11.0, "estimated"), "codecarbon.ram.energy": (8.0, "modelled")}
#: As a wide terminal has them.
HEADINGS = "variant sensor source power per net vs time per CO2e/1M window inferences updates integral"


def report(recording: Recording, folder: Path) -> Table:
    run = recording.write(folder / "run")
    return energy_report(run, energy_table(run))


def piped(table: Table) -> list[list[str]]:
    """Heading and rows of the plain form, field by field."""
    lines = [line for line in render(table, width=None, color=False).splitlines() if not line.startswith("#")]
    return [[field.strip() for field in line.split("  ") if field.strip()] for line in lines]


def test_a_measured_run(tmp_path: Path) -> None:
    table = report(a100(), tmp_path)
    assert [column.title.split()[0] for column in table.columns] == HEADINGS.split()
    a, b = table.rows
    assert (a["variant"], a["scope"], a["provenance"], a["change"]) == ("a", "nvml.0", "measured", None)
    assert a["window"] == "5.06 s x 8" and a["repetitions"] == "360" and a["period"] == "100 ms"
    assert str(a["gross"]).startswith("26.3") and "[26." in str(a["gross"])
    assert str(b["change"]).startswith("-30.4 % [-30.")
    assert str(b["split"]).startswith("-28.0 % shorter, -3.") and str(b["split"]).endswith("lower power")
    assert str(a["check"]).startswith("agree (-")
    assert table.title == "run: energy"
    text = "\n".join(table.notes)
    assert "b, nvml.0 against a, per inference: -30.4 % [-30.4, -30.3]: -28.0 % [-28.0, -28.0] shorter, -3.3 %" in text
    assert "nvml.0: NVIDIA A100-SXM4-80GB (GPU-11111111-aaaa) energy (measured); counter first" in text
    assert "updates every 100 ms" in text and "nvml.0: idle 60.0 W within" in text
    assert "modelled, 380 g per kWh for DEU, a source" in text
    assert ": per inference: " not in text  # nothing is refused


def test_no_width_loses_the_figure_or_its_source(tmp_path: Path) -> None:
    table = report(h100(models=MODELS), tmp_path)
    for width in (20, 40, 60, 80, 120, 200, None):
        text = render(table, width=width, color=False)
        assert width is None or max(map(len, text.splitlines())) <= width
        for word in ("measured", "estimated", "modelled", "26.3", "nvml.0", "codecarbon.ram"):
            assert word in text


def test_rows_of_different_sources_stay_apart(tmp_path: Path) -> None:
    rows = piped(report(a100(models=MODELS), tmp_path))[1:]
    assert [row[:3] for row in rows] == [
        [name, scope, source]
        for name in TWO
        for scope, source in (("nvml.0", "measured"), ("codecarbon.cpu", "estimated"), ("codecarbon.ram", "modelled"))
    ]


def test_an_idle_that_is_as_busy_as_work_is_told(tmp_path: Path) -> None:
    table = report(Recording({"a": Variant(0.004)}, models=MODELS, kind="clean", seconds=0.1), tmp_path)
    told = [note for note in table.notes if "as much power idle as at work" in note]
    assert len(told) == 1 and told[0].startswith("a, codecarbon.cpu: ")  # a constant model cannot tell
    assert not any("as much power idle" in note for note in report(a100(rounds=5), tmp_path / "busy").notes)


def test_phases_are_named_where_there_are_several(tmp_path: Path) -> None:
    language = {"phases": ("prefill", "decode"), "tokens": 16, "task": "lastword"}
    table = report(a100(rounds=5, **language), tmp_path)
    assert piped(table)[0][:3] == ["variant", "phase", "sensor"]
    assert [row[1] for row in piped(table)[1:]] == ["prefill", "prefill", "decode", "decode"]
    assert any(note.startswith("b decode, nvml.0 against a, per inference: -30.") for note in table.notes)


def test_a_refused_figure_is_a_dash_with_its_reason(tmp_path: Path) -> None:
    table = report(a100(seconds=2.0, variants={"a": Variant(0.0625)}), tmp_path)
    (row,) = table.rows
    assert row["gross"] is None and row["power"] is None
    assert piped(table)[1][:4] == ["a", "nvml.0", "measured", MISSING]
    reasons = (
        "a, nvml.0: per inference, net, CO2e: the window of 2.00 s is shorter than 5 s; protocol.energy_block_s = 5"
    )
    assert any(note.startswith(reasons) for note in table.notes)
    assert "a, nvml.0: power: the window of 2.00 s is shorter than 5 s" in table.notes


def test_no_sensor_at_all_is_a_line_each_with_its_remedy(tmp_path: Path) -> None:
    missing = [{"probe": name, "reason": f"no {name}", "remedy": f"get {name}"} for name in ("nvml", "rapl")]
    variants = {"a": Variant(0.004)}
    table = report(Recording(variants, kind="clean", seconds=0.1, grid=None, missing=missing), tmp_path)
    assert table.rows == []
    assert table.notes == [
        "no energy blocks: protocol.energy is off",
        "nvml: no nvml: get nvml",
        "rapl: no rapl: get rapl",
    ]
    bare = Recording(variants, kind="clean", seconds=0.1, grid=None)
    assert any("qprof doctor" in note for note in report(bare, tmp_path / "bare").notes)


def test_left_out_blocks_are_told_but_not_without_end(tmp_path: Path) -> None:
    def reset_often(t: np.ndarray, v: np.ndarray, blocks: list[Any]) -> tuple[np.ndarray, np.ndarray]:
        for block in [block for block in blocks if block.variant][:5]:
            inside = (t >= block.start_ns - 900_000_000) & (t < block.end_ns + 900_000_000)
            # A reset, a stop, or nothing read at the end: three kinds of reasons.
            v = np.where(inside & (t > block.start_ns + 10**9), v - 6e6, v)
        return t, v

    table = report(a100(variants={"a": Variant(0.1125)}, faults={"nvml.0.energy": reset_often}), tmp_path)
    told = [note for note in table.notes if "left out" in note]
    assert told == [
        "a, nvml.0: left out: the counter went backwards inside the window (a reset?) (block 1, 2, 3, 4, 5)"
    ]
    assert "a, nvml.0: backwards in 5 of 8 blocks" in table.notes
    assert table.rows[0]["flags"] == "backwards"


def figure(value: float, low: float | None = None, high: float | None = None) -> Figure:
    return Figure(value, low, high, "1", "measured", "a sensor", 5.0)


@pytest.mark.parametrize(
    ("time", "power", "text"),
    [
        (figure(-0.28, -0.29, -0.27), figure(-0.042), "-28.0 % [-29.0, -27.0] shorter, -4.2 % lower power"),
        (
            figure(0.1, 0.05, 0.15),
            figure(0.02, -0.01, 0.05),
            "+10.0 % [+5.0, +15.0] longer, +2.0 % [-1.0, +5.0] in power",
        ),
        (
            figure(-0.001, -0.01, 0.01),
            figure(0.3, 0.2, 0.4),
            "-0.1 % [-1.0, +1.0] in time, +30.0 % [+20.0, +40.0] higher",
        ),
    ],
)
def test_the_split_in_words(time: Figure, power: Figure, text: str) -> None:
    change = Change(figure(-0.31, -0.32, -0.3), time, power, "a", 8)
    assert split_text(change).startswith(f"-31.0 % [-32.0, -30.0]: {text}")
    assert "[" not in split_text(change, bounds=False)


# Power over time.


def trace(t_s: Any, watts: Any, *, from_counter: bool = False, window_s: float = 8.0) -> PowerTrace:
    times, power = np.array(t_s, np.float64), np.array(watts, np.float64)
    return PowerTrace("a", "prefill", 2, 7, "nvml.0.power_instant", "measured", from_counter, window_s, times, power)


def bars(text: str) -> list[str]:
    """The four lines of a chart, without the scale."""
    return [line.partition("|")[2] for line in text.splitlines() if "|" in line]


def test_a_square_wave_is_drawn_to_scale() -> None:
    t = np.arange(-1.0, 9.0, 0.05)
    watts = np.where((t >= 0) & (t < 4), 400.0, 100.0)
    text = power_charts([trace(t, watts)], 46, ascii_only=True)
    title, second, *lines = text.splitlines()
    lines = [f"{title} {second}", *lines]
    assert max(len(title), len(second)) <= 46
    assert lines[0] == "a prefill, round 3: nvml.0.power_instant, as read (measured)"
    assert max(map(len, lines[1:])) <= 46 and text.isascii()
    assert lines[1].startswith("400 W |") and lines[5].startswith("  0 W +")
    top, _, _, bottom = bars("\n".join(lines))
    columns = 46 - 7
    assert bottom == "#" * columns
    assert [i for i, char in enumerate(top) if char == "#"] == list(range(4, 19))
    edges = [i for i, char in enumerate(lines[5][7:]) if char == "^"]
    assert edges == [round(1 / 9.95 * (columns - 1)), round(9 / 9.95 * (columns - 1))] and "0 s" in lines[6]
    assert lines[6].endswith("8.00 s")


def test_all_charts_have_one_scale_and_eighths_are_drawn() -> None:
    t = np.arange(0.0, 8.0, 0.1)
    text = power_charts([trace(t, np.full(80, 320.0)), trace(t, np.full(80, 90.0))], 60)
    first, second = text.split("\n\n")
    assert first.splitlines()[1].endswith("█" * 53) and second.splitlines()[1].strip() == "320 W │"
    assert second.splitlines()[3].count("▁") == 53 and second.splitlines()[4].count("█") == 53


def test_a_hole_is_left_empty_and_a_counter_holds_between_its_updates() -> None:
    t = np.concatenate([np.arange(0.0, 3.0, 0.05), np.arange(5.0, 8.0, 0.05)])
    bottom = bars(power_charts([trace(t, np.full(len(t), 50.0))], 46, ascii_only=True))[-1]
    assert bottom[:14] == "#" * 14 and bottom[16:23].strip() == "" and bottom[26:38] == "#" * 12
    counter = trace(np.arange(0.0, 8.5, 1.0), [80.0] * 5 + [20.0] * 4, from_counter=True)
    top, _, _, bottom = bars(power_charts([counter], 46, ascii_only=True))
    assert bottom == "#" * 38 and top == "#" * 20  # the update at 4 s tells of the second before it


def test_readings_that_failed_leave_the_chart_standing() -> None:
    t = np.arange(0.0, 8.0, 0.1)
    assert "nan" not in power_charts([trace(t, np.full(80, np.nan))], 60)
    assert "0 W" in power_charts([trace(t, np.zeros(80))], 60)


def test_a_hostile_variant_name_is_escaped() -> None:
    found = PowerTrace("a\x1b[2J", "inference", 0, 1, "c", "measured", False, 1.0, np.arange(2.0), np.ones(2))
    assert "\x1b" not in power_charts([found], 60)
