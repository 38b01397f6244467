"""From a run's tables to the time of each op, and the figures that `layers` and `show` draw from it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qprof.errors import StoreError
from qprof.findings.difference import differ
from qprof.findings.layers import layers
from qprof.findings.measured import leaves, measured_variant, op_list, op_matrix
from qprof.findings.summary import summarize
from qprof.record.blocks import Block, Samples
from qprof.record.manifest import Manifest, Memory, RecordedProfile, VariantEntry
from qprof.record.ops import FUSED, SOURCES, OpEvents, OpMeta
from qprof.record.rows import ScoreRow
from qprof.record.sections import ProtocolSection
from qprof.report.layers import selected
from qprof.store.run import Latencies, OpTimes, Run
from qprof.store.writer import RunWriter, save_scores


def latencies(block: Sequence[int], inference: Sequence[int], duration_ns: Sequence[int]) -> Latencies:
    n = len(block)
    zeros = np.zeros(n, np.int32)
    return Latencies(
        np.array(block, np.int32),
        zeros,
        np.array(inference, np.int32),
        zeros,
        np.zeros(n, np.int64),
        np.array(duration_ns, np.int64),
    )


def op_times(rows: Sequence[tuple[int, int, int, int]]) -> OpTimes:
    """(block, inference, op, duration_ns) each."""
    block, inference, op, duration = np.array(rows, np.int32).reshape(-1, 4).T
    zeros = np.zeros(len(block), np.int32)
    return OpTimes(block, zeros, inference, op, np.zeros(len(block), np.int64), duration.astype(np.int64))


def test_op_matrix_of_two_blocks_with_repeated_and_missing_ops() -> None:
    inferences = latencies([3, 3, 8], [0, 1, 0], [100, 100, 100])
    events = op_times([(8, 0, 2, 5), (3, 0, 0, 7), (3, 0, 0, 2), (3, 1, 1, 4), (3, 0, 2, 1)])
    assert op_matrix(inferences, events, 3).tolist() == [[9, 0, 1], [0, 4, 0], [0, 0, 5]]


def test_op_matrix_follows_the_order_of_the_inferences() -> None:
    events = op_times([(1, 0, 0, 10), (2, 0, 0, 20), (2, 1, 0, 21)])
    assert op_matrix(latencies([2, 1, 2], [1, 0, 0], [0, 0, 0]), events, 1).tolist() == [[21], [10], [20]]


def test_op_matrix_without_events_or_inferences() -> None:
    assert op_matrix(latencies([1], [0], [5]), op_times([]), 2).tolist() == [[0, 0]]
    assert op_matrix(latencies([], [], []), op_times([]), 2).shape == (0, 2)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 2), st.integers(0, 10**9)), max_size=40))
def test_op_matrix_is_the_sum_over_the_events(rows: list[tuple[int, int, int, int]]) -> None:
    grid = [(block, inference) for block in range(4) for inference in range(5)]
    expected = np.zeros((len(grid), 3))
    for block, inference, op, duration in rows:
        expected[grid.index((block, inference)), op] += duration
    inferences = latencies([b for b, _ in grid], [i for _, i in grid], [0] * len(grid))
    assert np.array_equal(op_matrix(inferences, op_times(rows), 3), expected)


def op(name: str, type: str, index: int, **more: Any) -> OpMeta:
    return OpMeta(op=name, name=f"{name}/x", type=type, index=index, **more)


OPS = [
    op("p0", "DELEGATE", 0, delegate="XNNPACK", partition=0),
    op("conv", "CONV_2D", 1, delegate="XNNPACK", partition=0, parent="p0", kernel="IGEMM", macs=2000, weight_bytes=8),
    op("pad", "PAD", 2, delegate="XNNPACK", partition=0, parent="p0", kernel=FUSED, macs=0),
    op("conv2", "CONV_2D", 3, kernel="builtin", macs=500, weight_bytes=4),
    op("loop", "WHILE", 4, kernel="builtin", macs=0),
    op("step", "ADD", 5, subgraph=1, parent="loop", kernel="builtin", macs=30),
    op("empty", "DELEGATE", 6, delegate="XNNPACK", partition=1),
]


def test_leaves_are_the_ops_whose_own_times_add_up() -> None:
    kept = [meta.op for meta, leaf in zip(OPS, leaves(OPS), strict=True) if leaf]
    assert kept == ["conv", "pad", "conv2", "loop", "step"]
    assert leaves([]).tolist() == []


#: Nanoseconds of conv, conv2, one pass of step (it runs twice, and the loop takes 70 more), and of the whole profiled
#: inference.
PROFILED = [(4000, 1000, 500, 8000), (4400, 1200, 600, 8800), (4100, 900, 500, 8200)]
CLEAN = [7000, 7200, 7100]


def profiled_block(number: int, round_: int, variant: str, scale: int = 1) -> Block:
    rows = []
    for i, (conv, conv2, step, _) in enumerate(PROFILED):
        rows += [(i, 0, 0, conv, 0), (i, 1, 0, conv, 1), (i, 3, 0, conv2, 0), (i, 4, 0, 2 * step + 70, 0)]
        rows += [(i, 5, 0, step, 0), (i, 5, 0, step, 0)]
    events = np.array(rows, np.int64)
    events[:, 3] *= scale
    return Block(
        number,
        round_,
        variant,
        "profiled",
        samples([total * scale for *_, total in PROFILED]),
        OpEvents(*events.T),
    )


def samples(durations: Sequence[int]) -> Samples:
    n = len(durations)
    return Samples(np.zeros(n, np.int32), np.arange(n), np.array(durations))


def entry(name: str, **more: Any) -> VariantEntry:
    memory = Memory(peak_rss_above_runtime_bytes=5, pss_above_runtime_bytes=4)
    return VariantEntry(name=name, **{"bytes": 10, "memory": memory, "arena_bytes": 3, **more})


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """a and b (twice as slow) over two rounds; c failed after one clean block, d before any."""
    killed = "the worker was killed by SIGSEGV"
    manifest = Manifest(
        created="2026",
        profile=RecordedProfile(name="profile"),
        op_sources=list(SOURCES),
        score_columns=["AP"],
        variants=[
            entry("a"),
            entry("b", notes=["a remark"]),
            entry("c", status="failed", reason=killed, memory=Memory(), arena_bytes=None),
            VariantEntry(name="d", status="failed", reason="not a .tflite file"),
        ],
    )
    writer = RunWriter.create(tmp_path / "run", manifest)
    number = 0
    for round_ in range(2):
        for scale, name in enumerate(("a", "b"), start=1):
            writer.save_block(Block(number, round_, name, "clean", samples([t * scale for t in CLEAN])))
            writer.save_block(profiled_block(number + 1, round_, name, scale))
            number += 2
    writer.save_block(Block(number, 0, "c", "clean", samples(CLEAN)))
    for name in ("a", "b", "c"):
        writer.save_ops(name, OPS)
    save_scores(writer.folder, "a", [ScoreRow("a", "AP", None, 0.25)])
    writer.finalize(SOURCES)
    writer.close()
    return Run(tmp_path / "run")


def test_measured_variant(run: Run) -> None:
    measured = measured_variant(run, "a")
    assert [meta.op for meta in measured.ops] == ["conv", "pad", "conv2", "loop", "step"]
    assert measured.op_us.tolist() == [[c / 1e3, 0, d / 1e3, 0.07, 2 * s / 1e3] for c, d, s, _ in PROFILED] * 2
    assert measured.profiled_us.tolist() == [8.0, 8.8, 8.2] * 2
    assert measured.profiled_round.tolist() == [0, 0, 0, 1, 1, 1]
    assert measured.clean_us.tolist() == [7.0, 7.2, 7.1] * 2
    assert measured.clean_round.tolist() == [0, 0, 0, 1, 1, 1]
    assert op_list(run, "a")[1].macs == 2000


def test_layers_of_known_times(run: Run) -> None:
    table = layers(run, "a")
    by_label = {row.label: row for row in table.rows}
    assert list(by_label) == ["conv/x", "pad/x", "conv2/x", "loop/x", "step/x"]
    conv, pad = by_label["conv/x"], by_label["pad/x"]
    assert conv.p50_us is not None
    assert conv.p50_us.value == pytest.approx(4.1)
    assert conv.gflop_per_s == pytest.approx(2 * 2000 / 4.1 / 1e3)
    # Of the six inferences one of the two fastest (8.0 us) and one of the two slowest (8.8 us) are left out.
    assert conv.share == pytest.approx((4000 + 4100 + 4100 + 4400) / (8000 + 8200 + 8200 + 8800))
    assert (pad.p50_us, pad.share, pad.gflop_per_s) == (None, 0, None)
    assert "fused" in (pad.reason or "")
    assert by_label["step/x"].macs == 2 * 30 and by_label["step/x"].runs == 2.0, "counts are those of both passes"
    assert by_label["loop/x"].share == pytest.approx(4 * 70 / 33_200)
    assert by_label["step/x"].share == pytest.approx(2 * (500 + 500 + 500 + 600) / 33_200)
    assert table.end_to_end_us.value == pytest.approx(8.2)
    assert table.clean_us.value == pytest.approx(7.1)
    assert table.inferences == 6
    assert table.partitions == {"XNNPACK": 2}


@pytest.mark.parametrize("by", ["op", "type", "delegate", "kernel"])
@pytest.mark.parametrize("variant", ["a", "b"])
def test_shares_and_rest_make_one(run: Run, variant: str, by: Any) -> None:
    table = layers(run, variant, by)
    assert sum(row.share for row in table.rows) + table.rest_share == pytest.approx(1, abs=1e-12)
    assert sum(row.ops for row in table.rows) == 5


@pytest.mark.parametrize(
    ("by", "groups"),
    [
        ("type", {"CONV_2D": ["conv/x", "conv2/x"], "PAD": ["pad/x"], "WHILE": ["loop/x"], "ADD": ["step/x"]}),
        ("delegate", {"XNNPACK": ["conv/x", "pad/x"], "none (builtin kernels)": ["conv2/x", "loop/x", "step/x"]}),
        ("kernel", {"IGEMM": ["conv/x"], FUSED: ["pad/x"], "builtin": ["conv2/x", "loop/x", "step/x"]}),
    ],
)
def test_groups_are_the_sums_of_their_ops(run: Run, by: Any, groups: dict[str, list[str]]) -> None:
    single = {row.label: row for row in layers(run, "a").rows}
    rows = {row.label: row for row in layers(run, "a", by).rows}
    assert rows.keys() == groups.keys()
    for label, members in groups.items():
        assert rows[label].ops == len(members)
        assert rows[label].share == pytest.approx(sum(single[name].share for name in members))
        assert rows[label].macs == sum(single[name].macs or 0 for name in members)
        assert rows[label].meta is None


def test_group_time_is_the_median_of_the_sums(run: Run) -> None:
    conv = next(row for row in layers(run, "a", "type").rows if row.label == "CONV_2D")
    assert conv.p50_us is not None
    assert conv.p50_us.value == pytest.approx(np.median([5.0, 5.6, 5.0]))
    assert conv.weight_bytes == 12
    assert conv.activation_bytes is None  # unknown for one is unknown for the sum, never 0
    assert conv.gflop_per_s == pytest.approx(2 * 2500 / 5.0 / 1e3)


def test_selected_rows(run: Run) -> None:
    table = layers(run, "a")

    def labels(**how: Any) -> list[str]:
        return [row.label for row in selected(table, **how)]

    assert labels() == ["conv/x", "pad/x", "conv2/x", "loop/x", "step/x"]
    assert labels(sort="time") == ["conv/x", "conv2/x", "step/x", "loop/x", "pad/x"]
    assert labels(sort="macs")[:2] == ["conv/x", "conv2/x"]
    assert labels(sort="bytes", top=1) == ["conv/x"]
    assert labels(text="XNNPACK") == ["conv/x", "pad/x"]
    assert labels(text="conv_2d") == ["conv/x", "conv2/x"]
    assert labels(text="nothing like it") == []
    assert labels(top=100) == labels()


def test_ops_that_were_not_timed_say_why(run: Run, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"the ops of d were not timed \(not a .tflite file\)"):
        layers(run, "d")
    with pytest.raises(StoreError, match=r"c has no finished clean and profiled blocks \(the worker was killed by"):
        layers(run, "c")
    run.op_meta.pop("b")
    with pytest.raises(StoreError, match=r"the ops of b were not timed \(a remark\)"):
        op_list(run, "b")
    untimed = msgspec.structs.replace(run.manifest.profile, protocol=ProtocolSection(profiled=False))
    run.manifest.profile = untimed
    with pytest.raises(StoreError, match=r"protocol\.profiled is off"):
        op_list(run, "b")


def test_differ_closes(run: Run) -> None:
    table = differ(run, "a", "b")
    assert abs(table.closing_error_us) < 1e-9
    assert table.end_to_end.difference.value == pytest.approx(7.1)
    assert {row.label: row.delta_us.value for row in table.rows if row.a is not None}["conv/x"] == pytest.approx(
        (4.0 + 4.1 + 4.1 + 4.4) / 4
    )
    assert table.profiled_rounds == 2
    assert differ(run, "a", "a").end_to_end.difference.value == 0


def test_summary(run: Run) -> None:
    a, b, *_ = summarize(run)
    assert (a.name, a.status, a.ratio) == ("a", "ok", None)
    (phase,) = a.phases
    assert (phase.name, phase.inferences, phase.blocks, phase.tokens_per_s) == ("inference", 6, 2, None)
    assert a.latency_us is not None
    assert a.latency_us.value == pytest.approx(7.1)
    assert (a.file_bytes, a.peak_memory_bytes, a.pss_bytes, a.arena_bytes) == (10, 5, 4, 3)
    assert phase.overhead == pytest.approx(8.2 / 7.1 - 1)
    assert (a.scores, b.scores) == ({"AP": 0.25}, {"AP": None})
    assert b.ratio is not None
    assert b.ratio.log_ratio is not None
    assert b.ratio.log_ratio.value == pytest.approx(np.log(2))
    assert b.notes == ["a remark"]


def test_summary_of_failed_variants(run: Run) -> None:
    _, _, c, d = summarize(run)
    assert c.status == "failed"
    assert c.reasons == {"status": "the worker was killed by SIGSEGV"}
    assert c.latency_us is not None
    assert c.latency_us.low is None  # one block has no spread
    assert c.phases[0].inferences == 3
    assert (c.phases[0].overhead, c.peak_memory_bytes, c.arena_bytes) == (None, None, None)
    assert d.reasons == {"status": "not a .tflite file", "latency": "no clean block is finished"}
    assert (d.latency_us, d.ratio, d.file_bytes) == (None, None, None)
    assert (d.phases[0].inferences, d.phases[0].blocks) == (0, 0)
