"""Runs of known energy, written to a run directory and read back: figures within 2 %, and refusals where none hold."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from energy_runs import TWO, Placed, Recording, Variant, a100, h100
from energy_traces import MS, SECOND, Counter, Power
from qprof.errors import StoreError
from qprof.findings.energy import EnergyRow, energy_table, power_traces
from qprof.record.manifest import VariantEntry
from qprof.record.sensors import SensorFacts
from qprof.store.readings import Readings
from qprof.store.run import Run

SMALL = {"a": Variant(0.004), "b": Variant(0.003)}
MODELS = {"codecarbon.cpu.energy": (11.0, "estimated"), "codecarbon.ram.energy": (8.0, "modelled")}
#: A counter that wraps every 5 kJ, about three blocks.
WRAPS_AT = 5e6


def rows_of(recording: Recording, folder: Path) -> dict[tuple[str, str], EnergyRow]:
    """(variant, scope) -> row"""
    table = energy_table(recording.write(folder / "run"))
    return {(row.variant, row.scope): row for row in table.rows}


def busy(recording: Recording) -> list[Placed]:
    return [block for block in recording.placed() if block.variant]


# Figures that hold.


@pytest.mark.parametrize("make", [a100, h100])
@pytest.mark.parametrize("finished", [True, False])
def test_joules_per_inference_are_within_2_percent(make: Any, finished: bool, tmp_path: Path) -> None:
    rows = rows_of(make(finished=finished), tmp_path)
    assert set(rows) == {("a", "nvml.0"), ("b", "nvml.0")}
    for name, variant in TWO.items():
        row = rows[name, "nvml.0"]
        assert (row.source, row.provenance, row.kind, row.blocks) == ("counter", "measured", "energy", 8)
        assert row.gross.value == pytest.approx(variant.joules, rel=0.02)
        assert abs(row.gross.value - variant.joules) <= row.gross.error
        net = variant.joules - 60.0 * variant.inference_s
        assert row.net.value == pytest.approx(net, rel=0.02) and row.net.low <= net <= row.net.high
        assert row.power.value == pytest.approx(variant.watts, rel=0.02)
        assert row.period.period_ns == pytest.approx(100 * MS, rel=0.01) and row.period.resolved
        assert row.repetitions == 8 * math.ceil(5.0 / variant.inference_s)
        assert row.window_s == pytest.approx(math.ceil(5.0 / variant.inference_s) * variant.inference_s)
        assert row.idle.watts == pytest.approx(60.0, rel=0.01) and not row.idle.drifted
        assert row.per_item["image"] == row.gross
        assert row.flags == [] and row.left_out == [] and row.gross.reason is None
        assert row.gross.window_s == row.window_s and "nvml" not in row.gross.unit and row.gross.unit == "J"


def test_the_difference_is_split_into_time_and_power(tmp_path: Path) -> None:
    rows = rows_of(a100(), tmp_path)
    change = rows["b", "nvml.0"].change
    assert rows["a", "nvml.0"].change is None
    assert (change.baseline, change.rounds) == ("a", 8)
    time = TWO["b"].inference_s / TWO["a"].inference_s
    power = TWO["b"].watts / TWO["a"].watts
    assert change.time.value == pytest.approx(time - 1, abs=1e-6)
    assert change.power.value == pytest.approx(power - 1, abs=0.005)
    assert change.energy.value == pytest.approx(time * power - 1, abs=0.005)
    assert (1 + change.time.value) * (1 + change.power.value) == pytest.approx(1 + change.energy.value)
    assert change.power.low < change.power.value < change.power.high < 0.0


def test_repetitions_are_counted_by_the_facts_where_samples_are_thinned(tmp_path: Path) -> None:
    recording = a100(variants={"a": Variant(0.0001, duty=1.0)}, rounds=5)
    row = rows_of(recording, tmp_path)["a", "nvml.0"]
    assert row.repetitions == 5 * 50_000
    assert row.gross.value == pytest.approx(350.0 * 0.0001, rel=0.02)


def test_a_counter_that_wraps_around_is_followed(tmp_path: Path) -> None:
    counter = Counter(100 * MS, 41 * MS, first=WRAPS_AT - 1e6, wraps_at=WRAPS_AT)
    row = rows_of(a100(sensors={"nvml.0.energy": counter}), tmp_path)["a", "nvml.0"]
    assert row.blocks == 8 and row.gross.value == pytest.approx(TWO["a"].joules, rel=0.02)
    assert [(flagged.flag, flagged.of) for flagged in row.flags] == [("wrapped", 8)]


def test_rapl_needs_no_power_channel(tmp_path: Path) -> None:
    sensors = {"rapl.package-0.energy": Counter(MS, 0), "rapl.dram.energy": Counter(MS, 0)}
    recording = a100(sensors=sensors, rate_hz=20.0)
    rows = rows_of(recording, tmp_path)
    assert len(rows) == 4
    row = rows["a", "rapl.package-0"]
    assert row.gross.value == pytest.approx(TWO["a"].joules, rel=0.02) and row.checks == []
    assert not row.period.resolved and row.period.period_ns == pytest.approx(50 * MS, rel=0.05)


def test_without_a_counter_the_integral_is_the_figure(tmp_path: Path) -> None:
    sensors = {
        "nvml.0.power_instant": Power(update_ns=20 * MS, phase_ns=3 * MS),
        "nvml.0.power_average": Power(SECOND, 100 * MS, 41 * MS),
    }
    row = rows_of(a100(sensors=sensors, device="NVIDIA L40S"), tmp_path)["a", "nvml.0"]
    assert (row.source, row.checks) == ("power", [])
    assert row.sensor.endswith("power_average")
    assert row.gross.value == pytest.approx(TWO["a"].joules, rel=0.02)
    assert [flagged.flag for flagged in row.flags] == ["averaged"]


def test_part_time_power_alone_has_no_bound(tmp_path: Path) -> None:
    sensors = {"nvml.0.power_instant": a100().sensors["nvml.0.power_instant"]}
    row = rows_of(a100(sensors=sensors), tmp_path)["a", "nvml.0"]
    assert [flagged.flag for flagged in row.flags] == ["part-time"]
    assert row.gross.value == pytest.approx(TWO["a"].joules, rel=0.05) and row.gross.error is None
    assert row.net.value is not None and row.net.low is None and "no bound" in row.net.reason


# The cross-check.


def test_counter_and_integral_are_compared_by_channel_and_at_idle(tmp_path: Path) -> None:
    row = rows_of(h100(), tmp_path)["a", "nvml.0"]
    found = {(check.channel.rpartition(".")[2], check.what): check for check in row.checks}
    assert [check.channel for check in row.checks[:2]] == ["nvml.0.power_average", "nvml.0.power_instant"]
    assert set(found) == {(name, what) for name in ("power_average", "power_instant") for what in ("blocks", "idle")}
    assert found["power_average", "blocks"].verdict == "agree" and found["power_average", "blocks"].windows == 8
    assert abs(found["power_average", "blocks"].mismatch) < 0.02 and found["power_average", "blocks"].error < 0.05
    assert found["power_instant", "blocks"].error is None  # it is blind three quarters of the time
    assert found["power_average", "idle"].windows == 2 and found["power_average", "idle"].verdict == "agree"


def test_a_power_channel_that_lies_disagrees(tmp_path: Path) -> None:
    faults = {"nvml.0.power_average": lambda t, v, blocks: (t, v * 1.75)}
    row = rows_of(h100(faults=faults), tmp_path)["a", "nvml.0"]
    check = row.checks[0]
    assert check.verdict == "disagree" and check.mismatch == pytest.approx(0.74, abs=0.02)
    assert row.gross.value == pytest.approx(TWO["a"].joules, rel=0.02)  # the counter stays the figure


# Refusals.


def refused(recording: Recording, folder: Path) -> EnergyRow:
    row = rows_of(recording, folder)["a", "nvml.0"]
    for figure in (row.gross, row.net, row.co2e):
        assert figure.value is None and figure.low is None and figure.reason
    return row


def test_short_windows_are_refused_with_what_would_do(tmp_path: Path) -> None:
    row = refused(a100(seconds=2.0, variants={"a": Variant(0.0625)}), tmp_path)
    assert row.gross.reason == "the window of 2.00 s is shorter than 5 s; protocol.energy_block_s = 5 gives one"
    assert row.power.value is None and "shorter than 5 s" in row.power.reason


def test_a_slow_counter_needs_longer_windows(tmp_path: Path) -> None:
    counter = Counter(700 * MS, 41 * MS)
    faults = {"nvml.0.energy": lambda t, v, blocks: (t, v)}
    row = refused(a100(sensors={"nvml.0.energy": counter}, faults=faults, seconds=6.0, rate_hz=40.0), tmp_path)
    assert "update periods of 7" in row.gross.reason or "no update" in row.gross.reason


def test_too_few_repetitions_are_refused_but_the_power_stands(tmp_path: Path) -> None:
    row = refused(a100(variants={"a": Variant(0.3037)}), tmp_path)
    assert "17 repetitions: at least 32 are needed; protocol.energy_block_s = 10 gives one" in row.gross.reason
    assert row.power.value == pytest.approx(TWO["a"].watts, rel=0.02)


def test_inferences_in_step_with_the_sensor_are_refused(tmp_path: Path) -> None:
    row = refused(a100(variants={"a": Variant(0.1)}, unphased=True), tmp_path)
    assert "phases" in row.gross.reason and row.gross.reason.endswith("protocol.energy_rounds")


def test_clean_blocks_are_refused_and_the_remedy_is_named(tmp_path: Path) -> None:
    recording = a100(kind="clean", seconds=0.1, variants=SMALL)
    row = refused(recording, tmp_path)
    assert row.kind == "clean" and row.blocks == 0 and len(row.left_out) == 8
    assert row.gross.reason.endswith('blocks that are long enough come with protocol.energy = "on"')
    assert energy_table(recording.write(tmp_path / "again")).no_blocks == "protocol.energy is off"


def test_clean_blocks_of_a_fast_sensor_are_refused_by_the_rule(tmp_path: Path) -> None:
    sensors = {"nvml.0.power_instant": Power(update_ns=5 * MS)}
    recording = a100(kind="clean", seconds=0.2, variants=SMALL, sensors=sensors, device="NVIDIA L4", rate_hz=1e3)
    row = refused(recording, tmp_path)
    assert row.blocks == 8 and "the window of 0.20 s is shorter than 5 s" in row.gross.reason
    assert row.power.value is None


def reset_at(position: int) -> Any:
    """The counter starts anew in the middle of a block (of those that have a variant)."""

    def fault(t: np.ndarray, v: np.ndarray, blocks: list[Placed]) -> tuple[np.ndarray, np.ndarray]:
        block = [block for block in blocks if block.variant][position]
        middle = (block.start_ns + block.end_ns) // 2
        return t, np.where(t < middle, v, v - v[np.searchsorted(t, middle)])

    return fault


def test_a_counter_that_goes_backwards_costs_that_block_alone(tmp_path: Path) -> None:
    counter = Counter(100 * MS, 41 * MS, first=7e6)
    recording = a100(sensors={"nvml.0.energy": counter}, faults={"nvml.0.energy": reset_at(4)})
    row = rows_of(recording, tmp_path)["a", "nvml.0"]
    assert row.blocks == 7 and row.gross.value == pytest.approx(TWO["a"].joules, rel=0.02)
    number = recording.placed().index(busy(recording)[4])
    assert [block for block, _ in row.left_out] == [number] and "backwards" in row.left_out[0][1]
    assert [(flagged.flag, flagged.windows) for flagged in row.flags] == [("backwards", 1)]
    change = energy_table(recording.write(tmp_path / "again")).rows[1].change
    assert change.rounds == 7


def without(first_s: float, last_s: float, position: int = 0) -> Any:
    """No readings between two times of a block, in seconds from its start."""

    def fault(t: np.ndarray, v: np.ndarray, blocks: list[Placed]) -> tuple[np.ndarray, np.ndarray]:
        start = [block for block in blocks if block.variant][position].start_ns
        kept = (t < start + first_s * SECOND) | (t > start + last_s * SECOND)
        return t[kept], v[kept]

    return fault


def test_a_counter_bridges_drop_outs_inside_the_window_and_flags_them(tmp_path: Path) -> None:
    row = rows_of(a100(faults={"nvml.0.energy": without(1.0, 3.0)}), tmp_path)["a", "nvml.0"]
    assert row.blocks == 8 and row.gross.value == pytest.approx(TWO["a"].joules, rel=0.02)
    assert [(flagged.flag, flagged.windows) for flagged in row.flags] == [("drop-outs", 1)]


def test_a_drop_out_over_an_edge_costs_the_block(tmp_path: Path) -> None:
    row = rows_of(a100(faults={"nvml.0.energy": without(3.0, 8.0)}), tmp_path)["a", "nvml.0"]
    assert row.blocks == 7 and len(row.left_out) == 1
    assert row.gross.value == pytest.approx(TWO["a"].joules, rel=0.02)


def test_power_with_holes_is_refused_block_by_block(tmp_path: Path) -> None:
    average = {"nvml.0.power_average": Power(SECOND, 100 * MS, 41 * MS)}
    faults = {"nvml.0.power_average": without(1.0, 3.0)}
    row = rows_of(a100(sensors=average, faults=faults), tmp_path)["a", "nvml.0"]
    assert row.blocks == 7 and "readings cover" in row.left_out[0][1]
    assert "drop-outs" in [flagged.flag for flagged in row.flags]


def test_a_driver_that_vanishes_leaves_what_was_measured_before(tmp_path: Path) -> None:
    def vanish(t: np.ndarray, v: np.ndarray, blocks: list[Placed]) -> tuple[np.ndarray, np.ndarray]:
        kept = t < [block for block in blocks if block.variant][12].start_ns - SECOND
        return t[kept], v[kept]

    lost = {"probe": "nvml", "reason": "lost while reading", "remedy": "see the driver"}
    recording = a100(faults=dict.fromkeys(a100().sensors, vanish), missing=[lost])
    table = energy_table(recording.write(tmp_path / "run"))
    row = table.rows[0]
    assert row.blocks == 6 and row.gross.value == pytest.approx(TWO["a"].joules, rel=0.02)
    assert len(row.left_out) == 2
    assert row.idle.after_w is None and "stands alone" in row.idle.reason and row.net.value is not None
    assert table.missing == [lost]


def test_without_idle_there_is_no_net(tmp_path: Path) -> None:
    row = rows_of(a100(idle=False), tmp_path)["a", "nvml.0"]
    assert row.gross.value is not None
    assert row.net.value is None and "no idle block before" in row.net.reason


def test_few_blocks_give_a_figure_without_interval(tmp_path: Path) -> None:
    row = rows_of(a100(rounds=3), tmp_path)["a", "nvml.0"]
    assert row.gross.value is not None and row.gross.low is None and "3 blocks" in row.gross.reason


# What happened meanwhile.


def test_clocks_that_were_held_down_are_flagged(tmp_path: Path) -> None:
    def throttle(blocks: list[Placed]) -> tuple[np.ndarray, np.ndarray]:
        t = np.arange(0, blocks[-1].end_ns, 200 * MS)
        masks = np.ones(len(t))  # bit 0, idle, is none of the reasons
        for block in [block for block in blocks if block.variant == "a"][:3]:
            masks[(t >= block.start_ns) & (t <= block.end_ns)] = 0x24
        return t, masks

    rows = rows_of(a100(throttle=throttle), tmp_path)
    (flagged,) = rows["a", "nvml.0"].flags
    assert (flagged.flag, flagged.windows, flagged.of) == ("throttled", 3, 8)
    assert flagged.detail == "software power cap, software thermal slowdown"
    assert rows["b", "nvml.0"].flags == []


def test_an_idle_that_drifts_is_told(tmp_path: Path) -> None:
    def warmer(t: np.ndarray, v: np.ndarray, blocks: list[Placed]) -> tuple[np.ndarray, np.ndarray]:
        after = blocks[-1].start_ns - 500 * MS
        return t, v + np.where(t > after, (t - after) * 1e-9 * 30e3, 0.0)  # 30 W more

    idle = rows_of(a100(faults={"nvml.0.energy": warmer}), tmp_path)["a", "nvml.0"].idle
    assert idle.drifted and idle.drift_w == pytest.approx(30.0, rel=0.02)


def test_the_sensor_of_another_gpu_is_left_out(tmp_path: Path) -> None:
    recording = a100(rounds=2)
    run = recording.write(tmp_path / "run")
    run.manifest.sensors = msgspec.structs.replace(run.manifest.sensors, device_uuid="GPU-2222")
    table = energy_table(run)
    assert table.rows == [] and table.remarks == ["nvml.0: left out, the variants ran on another device"]


# Estimates and models.


def test_a_model_gives_the_windows_part_of_its_energy(tmp_path: Path) -> None:
    rows = rows_of(Recording(SMALL, models=MODELS, kind="clean", seconds=0.1, rounds=30), tmp_path)
    for name, variant in SMALL.items():
        cpu, ram = rows[name, "codecarbon.cpu"], rows[name, "codecarbon.ram"]
        assert cpu.gross.value == pytest.approx(11.0 * variant.inference_s)
        assert ram.gross.value == pytest.approx(8.0 * variant.inference_s)
        assert (cpu.provenance, ram.provenance) == ("estimated", "modelled")
        assert (cpu.gross.provenance, ram.gross.provenance) == ("estimated", "modelled")
        assert (cpu.source, cpu.kind, cpu.period, cpu.checks) == ("model", "clean", None, [])
        assert cpu.idle.watts == pytest.approx(11.0) and cpu.net.value == pytest.approx(0.0, abs=1e-12)
        assert ram.net.value is None and "the same at all times" in ram.net.reason
        assert cpu.gross.low == cpu.gross.value == cpu.gross.high
        assert "CodeCarbon 3.3.2, cpu: load of the machine" in cpu.sensor
    change = rows["b", "codecarbon.ram"].change
    assert change.power.value == 0.0 and change.time.value == pytest.approx(-0.25)


def test_decoding_between_inferences_is_not_theirs(tmp_path: Path) -> None:
    recording = Recording(SMALL, models=MODELS, kind="clean", seconds=0.1, rounds=30)
    whole = rows_of(recording, tmp_path / "whole")["a", "codecarbon.cpu"]
    recording.write(tmp_path / "half")
    manifest = json.loads((tmp_path / "half" / "manifest.json").read_text())
    for block in manifest["blocks"]:
        begin, end = block["window_ns"]
        block["spent_ns"] = (end - begin) // 2
    (tmp_path / "half" / "manifest.json").write_text(json.dumps(manifest))
    half = next(row for row in energy_table(Run(tmp_path / "half")).rows if row.scope == "codecarbon.cpu")
    assert half.gross.value == pytest.approx(whole.gross.value / 2, rel=1e-3)
    assert half.power.value == pytest.approx(whole.power.value)


def test_the_net_of_an_estimate_is_as_uncertain_as_its_idle(tmp_path: Path) -> None:
    models = {"codecarbon.cpu.energy": (11.0, "estimated")}
    recording = Recording(SMALL, models=models, kind="clean", seconds=0.1, idle_models=(3.0, 5.0))
    row = rows_of(recording, tmp_path)["a", "codecarbon.cpu"]
    assert (row.idle.before_w, row.idle.after_w) == (pytest.approx(3.0), pytest.approx(5.0)) and row.idle.drifted
    assert row.net.value == pytest.approx((11.0 - 4.0) * 0.004)
    assert (row.net.low, row.net.high) == (pytest.approx(6.0 * 0.004), pytest.approx(8.0 * 0.004))


def test_a_model_that_says_0_is_refused(tmp_path: Path) -> None:
    models = {"codecarbon.cpu.energy": (0.0, "estimated")}
    row = rows_of(Recording(SMALL, models=models, kind="clean", seconds=0.1), tmp_path)["a", "codecarbon.cpu"]
    assert row.gross.value is None and row.power.value is None
    assert "CodeCarbon reports 0 J" in row.gross.reason


def test_kinds_of_figures_never_share_a_row(tmp_path: Path) -> None:
    alone = rows_of(a100(), tmp_path / "alone")
    both = rows_of(a100(models=MODELS), tmp_path / "both")
    assert len(both) == 6
    for name in TWO:
        assert both[name, "nvml.0"] == alone[name, "nvml.0"]
    assert {row.provenance for row in both.values()} == {"measured", "estimated", "modelled"}
    assert both["a", "codecarbon.cpu"].kind == "energy"


# Per token, per answer, CO2e.


def test_per_token_and_per_correct_answer(tmp_path: Path) -> None:
    recording = a100(scored_s=6.0, correct=[1.0, 0.0, 1.0, 1.0], tokens=16, task="lastword")
    rows = rows_of(recording, tmp_path)
    for name, variant in TWO.items():
        row = rows[name, "nvml.0"]
        assert list(row.per_item) == ["token"]
        assert row.per_item["token"].value == pytest.approx(variant.joules / 16, rel=0.02)
        batches = 8 * math.ceil(6.0 / variant.inference_s - 1e-9)
        assert row.per_correct.value == pytest.approx(variant.joules * batches / 3, rel=0.02)
        assert row.per_correct.low < row.per_correct.value < row.per_correct.high


def test_phases_have_rows_of_their_own_and_answers_belong_to_none(tmp_path: Path) -> None:
    language = {"phases": ("prefill", "decode"), "tokens": 16, "task": "lastword"}
    recording = a100(rounds=5, scored_s=6.0, correct=[1.0], **language)
    run = recording.write(tmp_path / "run")
    rows = energy_table(run).rows
    order = [("prefill", "a"), ("prefill", "b"), ("decode", "a"), ("decode", "b")]
    assert [(row.phase, row.variant) for row in rows] == order
    assert all(row.blocks == 5 and row.gross.value == pytest.approx(TWO[row.variant].joules, rel=0.02) for row in rows)
    assert [row.per_correct is None for row in rows] == [False, False, True, True]
    assert [row.variant for row in energy_table(run, "decode").rows] == ["a", "b"]
    assert {trace.phase for trace in power_traces(run, "a")} == {"prefill", "decode"}
    assert {trace.phase for trace in power_traces(run, "a", "decode")} == {"decode"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"scored_s": 6.0, "correct": [0.0, 0.0]}, "no answer was right"),
        ({"scored_s": 6.0, "correct": [1.0], "finished": False}, "nothing is scored before the run is finished"),
        ({"scored_s": 1.0, "correct": [1.0]}, "more scored samples in each block"),
        (
            {"scored_s": 6.0, "correct": [1.0], "faults": {"nvml.0.energy": without(3.0, 8.0, 1)}},
            "1 of 5 scored blocks",
        ),
    ],
)
def test_answers_without_an_energy(changes: dict[str, Any], reason: str, tmp_path: Path) -> None:
    row = rows_of(a100(variants={"a": Variant(0.1125)}, rounds=5, **changes), tmp_path)["a", "nvml.0"]
    assert row.gross.value is not None
    assert row.per_correct.value is None and reason in row.per_correct.reason


def test_co2e_is_modelled_with_the_grids_factor(tmp_path: Path) -> None:
    table = energy_table(a100().write(tmp_path / "run"))
    row = table.rows[0]
    assert row.co2e.value == pytest.approx(row.gross.value / 3.6e6 * 380.0)
    assert (row.co2e.unit, row.co2e.provenance, row.gross.provenance) == ("g", "modelled", "measured")
    assert row.co2e.low == pytest.approx(row.gross.low / 3.6e6 * 380.0)
    assert table.grid == {"grid_g_per_kwh": 380.0, "grid_source": "a source", "country": "DEU"}
    without_grid = energy_table(a100(grid=None).write(tmp_path / "none"))
    assert without_grid.grid is None and "set protocol.country" in without_grid.rows[0].co2e.reason


# Runs with little in them.


def test_a_machine_without_sensors_has_reasons_and_no_rows(tmp_path: Path) -> None:
    missing = [{"probe": name, "reason": "none", "remedy": "get one"} for name in ("nvml", "rapl.dram", "codecarbon")]
    others = [{"probe": "host.frequency", "reason": "none", "remedy": "get one"}]
    recording = Recording(SMALL, kind="clean", seconds=0.1, grid=None, missing=missing + others)
    table = energy_table(recording.write(tmp_path / "run"))
    assert (table.rows, table.missing, table.grid) == ([], missing, None)


def test_a_run_from_before_its_sensors_were_described(tmp_path: Path) -> None:
    run = Recording(SMALL, kind="clean", seconds=0.1, rounds=1, finished=False).write(tmp_path / "run")
    run.manifest.sensors, run.manifest.energy = SensorFacts(), None
    assert energy_table(run).rows == []


def test_tables_of_several_chunks_read_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = a100(rounds=2).write(tmp_path / "run")
    whole = energy_table(run)
    import pyarrow as pa

    table = run.readings_table
    third = len(table) // 3
    parts = [table.slice(0, third), table.slice(third)]
    # Each part with a dictionary of its own, in another order.
    names = [part["probe"].cast("string").dictionary_encode() for part in reversed(parts)]
    parts = [part.set_column(5, "probe", name) for part, name in zip(parts, reversed(names), strict=True)]
    chunked = pa.concat_tables(parts)
    assert chunked["probe"].num_chunks == 2
    monkeypatch.setattr(run, "readings", Readings(chunked))
    assert energy_table(run) == whole
    plain = table.set_column(5, "probe", table["probe"].cast("string"))
    monkeypatch.setattr(run, "readings", Readings(plain))
    assert energy_table(run) == whole, "a file need not keep names as places in a dictionary"


def test_a_variant_without_blocks_is_named(tmp_path: Path) -> None:
    run = a100(variants={"a": Variant(0.1125)}, rounds=5).write(tmp_path / "run")
    run.manifest.variants.append(VariantEntry(name="c", status="failed", reason="out of memory"))
    assert energy_table(run).remarks == ["c: no energy (out of memory)"]


def test_an_unknown_phase_is_refused(tmp_path: Path) -> None:
    run = a100(rounds=1).write(tmp_path / "run")
    assert {row.phase for row in energy_table(run, "inference").rows} == {"inference"}
    with pytest.raises(StoreError, match="no phase 'decode'"):
        energy_table(run, "decode")


# Power over time.


def test_traces_of_a_counter_and_of_power(tmp_path: Path) -> None:
    recording = h100(rounds=2, variants={"a": Variant(0.1125, duty=1.0)})
    traces = power_traces(recording.write(tmp_path / "run"), "a")
    assert len(traces) == 2 * 3 and [trace.from_counter for trace in traces[:3]] == [True, False, False]
    counter = traces[0]
    inside = (counter.t_s > 0.2) & (counter.t_s < counter.window_s)
    assert counter.watts[inside] == pytest.approx(350.0, rel=0.12)  # each update is seen up to 11 ms late
    assert np.mean(counter.watts[inside]) == pytest.approx(350.0, rel=0.01)
    assert counter.t_s[0] < 0.0 and counter.t_s[-1] > counter.window_s
    assert traces[2].channel == "nvml.0.power_instant"
    assert traces[2].watts[(traces[2].t_s > 0.2) & (traces[2].t_s < 5.0)] == pytest.approx(350.0)


def test_the_trace_of_a_counter_that_wraps_stays_positive(tmp_path: Path) -> None:
    counter = Counter(100 * MS, 41 * MS, first=WRAPS_AT - 1e6, wraps_at=WRAPS_AT)
    run = a100(sensors={"nvml.0.energy": counter}, rounds=4, variants={"a": Variant(0.1125, duty=1.0)}).write(
        tmp_path / "run"
    )
    traces = power_traces(run, "a")
    assert all(np.diff(trace.t_s).max() < 0.15 for trace in traces)  # the step that wrapped is there
    watts = np.concatenate([trace.watts for trace in traces])
    assert watts.min() > 50.0 and watts.max() < 400.0


@pytest.mark.parametrize(
    ("recording", "variant", "match"),
    [
        (a100(rounds=1), "z", "no variant 'z'"),
        (Recording(SMALL, kind="clean", seconds=0.1, rounds=1, models=MODELS), "a", "protocol.energy is off"),
        (Recording(TWO, rounds=1, models=MODELS), "a", "no sensor was read during a's energy blocks"),
    ],
)
def test_traces_that_are_not_there(recording: Recording, variant: str, match: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=match):
        power_traces(recording.write(tmp_path / "run"), variant)
