"""Runs whose inferences come in two phases, as a language model's: each is shown and compared by itself."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qprof.errors import StoreError
from qprof.findings.device import device_audits
from qprof.findings.difference import differ
from qprof.findings.layers import layers
from qprof.findings.summary import summarize
from qprof.record.blocks import Block, Samples
from qprof.record.machine import Machine
from qprof.record.manifest import ClockAudit, KernelFacts, Manifest, Memory, RecordedProfile, Timing, VariantEntry
from qprof.record.ops import SOURCES, OpEvents, OpMeta
from qprof.record.phases import Phase
from qprof.record.readings import SCORED_TOKENS, Reading
from qprof.record.sections import ProtocolSection
from qprof.report.difference import difference_table
from qprof.report.layers import layers_table
from qprof.report.run_export import export_run
from qprof.report.summary import summary_table
from qprof.report.table import render
from qprof.store.run import Run
from qprof.store.writer import RunWriter

PHASES = [Phase("prefill", tokens=64), Phase("decode", tokens=1, steps=4)]
ROUNDS = 6
LINEAR, NORM, DEQUANTIZE, MATMUL = 0, 1, 2, 3
#: Microseconds of an inference, and of its ops, by variant and phase. What no op accounts for: 10 us.
TIMES_US = {
    ("float", "prefill"): (1010, {LINEAR: 800, NORM: 200}),
    ("float", "decode"): (110, {LINEAR: 80, NORM: 20}),
    ("int4", "prefill"): (3010, {LINEAR: 2800, NORM: 200, DEQUANTIZE: 2000, MATMUL: 800}),
    ("int4", "decode"): (2110, {LINEAR: 2080, NORM: 20, DEQUANTIZE: 2000, MATMUL: 80}),
}


def op_list(variant: str) -> list[OpMeta]:
    found = []
    for phase in ("prefill", "decode"):
        rows = 64 if phase == "prefill" else 1

        def op(name: str, type: str, phase: str = phase, rows: int = rows, **more: Any) -> OpMeta:
            where = more.pop("where", name)
            outputs = [f"bfloat16[1,{rows},64]"]
            return OpMeta(f"{phase}/{where}", name, type, len(found), outputs=outputs, phase=phase, **more)

        linear = "model.layers.0.up_proj"
        found.append(op(linear, "Linear", kernel="torch.nn.Linear" if variant == "float" else "TorchLinear", macs=rows))
        found.append(op("model.norm", "LlamaRMSNorm"))
        if variant != "float":
            parent = f"{phase}/{linear}"
            found.append(op(f"{linear}/dequantize", "dequantize", parent=parent))
            found.append(op(linear, "Linear", where=f"{linear}/matmul", parent=parent, kernel="TorchLinear"))
    return found


def blocks(variant: str, first: int) -> list[Block]:
    made = []
    ops = op_list(variant)
    for round_ in range(ROUNDS):
        for number, (phase, kind) in enumerate((p, k) for p in ("prefill", "decode") for k in ("clean", "profiled")):
            whole, parts = TIMES_US[variant, phase]
            offset = 0 if phase == "prefill" else len(ops) // 2
            events = None
            if kind == "profiled":
                rows = [(i, offset + op, 0, us * 1000, 2) for i in range(2) for op, us in parts.items()]
                inference, number_of, start_ns, duration_ns, source = np.array(rows, np.int64).T
                small = (inference.astype(np.int32), number_of.astype(np.int32))
                events = OpEvents(*small, start_ns, duration_ns, source.astype(np.uint8))
            made.append(
                Block(
                    first + 10 * round_ + number,
                    round_,
                    variant,
                    kind,
                    samples([whole * 1000] * 2),
                    events,
                    phase=phase,
                )
            )
        tokens = Reading(SCORED_TOKENS, 0, 500.0, "tokens", "measured")
        made.append(
            Block(
                first + 10 * round_ + 5, round_, variant, "scored", samples([10**8]), readings=[tokens], phase="prefill"
            )
        )
    return made


def samples(durations_ns: Sequence[int]) -> Samples:
    count = len(durations_ns)
    return Samples(np.zeros(count, np.int32), np.arange(count), np.array(durations_ns))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    memory = Memory(peak_rss_above_runtime_bytes=5_000_000, footprint_bytes=4_000_000)
    manifest = Manifest(
        created="2026-01-01T00:00:00+00:00",
        profile=RecordedProfile(name="lm", protocol=ProtocolSection(threads=1)),
        machine=Machine(cpu_model="CPU"),
        variants=[
            VariantEntry(name=name, bytes=10**6, memory=memory, runtime="torch_lm", phases=list(PHASES))
            for name in ("float", "int4")
        ],
    )
    writer = RunWriter.create(tmp_path / "run", manifest)
    for number, name in enumerate(("float", "int4")):
        writer.save_ops(name, op_list(name))
        for block in blocks(name, 1000 * number):
            writer.save_block(block)
    writer.finalize(SOURCES)
    writer.close()
    return Run(tmp_path / "run")


def test_inferences_are_those_of_one_phase(run: Run) -> None:
    assert run.latency("float").duration_ns.tolist() == [1_010_000] * 12
    assert run.latency("float", phase="decode").duration_ns.tolist() == [110_000] * 12
    assert run.latency("int4", "profiled", "decode").duration_ns.tolist() == [2_110_000] * 12
    assert run.latency("int4", "scored").duration_ns.tolist() == [10**8] * ROUNDS
    with pytest.raises(StoreError, match="no phase 'prefil' in this run; it has prefill, decode"):
        run.latency("float", phase="prefil")


def test_layers_of_a_phase_close(run: Run) -> None:
    for phase, whole, dequantize in (("prefill", 3010, 2000), ("decode", 2110, 2000)):
        table = layers(run, "int4", phase=phase)
        assert table.phase == phase
        times = {(row.label, row.type): row.p50_us.value for row in table.rows if row.p50_us}
        assert times["model.layers.0.up_proj/dequantize", "dequantize"] == dequantize
        assert ("model.layers.0.up_proj", "Linear") in times
        assert len(times) == 3  # the linear itself holds the other two
        assert table.rest_share == pytest.approx(10 / whole)
        assert sum(row.share for row in table.rows) == pytest.approx(1 - 10 / whole)
    assert layers(run, "int4").phase == "prefill"


def test_a_quantized_linear_is_its_matmul_and_an_inserted_dequantization(run: Run) -> None:
    for phase, slower in (("prefill", 2000), ("decode", 2000)):
        table = differ(run, "float", "int4", phase)
        assert table.end_to_end.difference.value == pytest.approx(slower)
        rows = {(row.kind, row.label): row.delta_us.value for row in table.rows}
        assert rows["matched", "model.layers.0.up_proj"] == pytest.approx(0)
        assert rows["inserted", "model.layers.0.up_proj/dequantize"] == pytest.approx(2000)
        assert abs(table.closing_error_us) < 1e-9


def test_summary_tells_both_phases_in_tokens(run: Run) -> None:
    base, int4 = summarize(run)
    assert [phase.name for phase in int4.phases] == ["prefill", "decode"]
    prefill, decode = (phase.tokens_per_s for phase in int4.phases)
    assert prefill is not None and decode is not None
    assert prefill.value == pytest.approx(64e6 / 3010)
    assert decode.value == pytest.approx(1e6 / 2110)
    assert decode.low == pytest.approx(1e6 / 2110) and decode.high == pytest.approx(1e6 / 2110)
    assert int4.tokens_per_s_together == pytest.approx((64 + 4) * 1e6 / (3010 + 4 * 2110))
    assert int4.scoring_tokens_per_s == pytest.approx(5000)
    assert int4.phases[1].ratio is not None and int4.phases[1].ratio.log_ratio is not None
    assert int4.phases[1].ratio.log_ratio.value == pytest.approx(np.log(2110 / 110))
    assert base.phases[1].ratio is None
    assert (int4.footprint_bytes, int4.device_peak_bytes) == (4_000_000, None)


def test_a_variant_with_a_batch_of_its_own_counts_its_own_tokens(run: Run) -> None:
    run.variants[1].phases = [replace(phase, tokens=8 * (phase.tokens or 0)) for phase in PHASES]
    int4 = summarize(run)[1]
    assert [phase.tokens_per_s.value for phase in int4.phases] == pytest.approx([8 * 64e6 / 3010, 8e6 / 2110])
    assert int4.tokens_per_s_together == pytest.approx(8 * (64 + 4) * 1e6 / (3010 + 4 * 2110))


def test_tables_say_which_phase(run: Run) -> None:
    text = render(summary_table(run, summarize(run)), width=None, color=False)
    header = text.splitlines()[1]
    for title in ("prefill p50 [95 %] (ms)", "prefill speed", "decode p50 [95 %]", "decode speed", "footprint (MB)"):
        assert title in header, title
    assert "device peak" not in header and "arena" not in header
    assert "prefill: 64 tokens per inference; decode: 1 token per inference, 4 inferences per prompt" in text
    found = layers(run, "int4", phase="decode")
    assert "int4, decode: p50 2.11 ms clean" in render(layers_table(found, found.rows, "op"), width=None, color=False)
    difference = difference_table(differ(run, "float", "int4", "decode"), phase="decode")
    assert "float (A) -> int4 (B), decode: 110 µs -> 2.11 ms" in render(difference, width=None, color=False)


def test_export_holds_both_phases(run: Run, tmp_path: Path) -> None:
    export_run(run, tmp_path / "csv", "csv")
    with open(tmp_path / "csv/summary.csv", newline="") as stream:
        row = list(csv.DictReader(stream))[1]
    assert float(row["prefill_latency_us"]) == 3010
    assert float(row["decode_tokens_per_s"]) == pytest.approx(1e6 / 2110)
    with open(tmp_path / "csv/layers.csv", newline="") as stream:
        kept = {(row["variant"], row["phase"], row["op"]) for row in csv.DictReader(stream)}
    assert ("int4", "decode", "decode/model.norm") in kept and ("float", "prefill", "prefill/model.norm") in kept


def test_what_asynchronous_timing_would_have_shown_is_told(run: Run) -> None:
    clocks = ClockAudit(unsynchronized_us=101.0, synchronized_us=1010.0, events_us=1000.0, asynchronous_error=0.9)
    kernels = KernelFacts(launches=40.0, busy_us=808.0, span_us=1000.0, idle_share=0.2)
    run.variants[0].timing = Timing(clocks={"prefill": clocks}, kernels={"prefill": kernels})
    (audit,) = device_audits(run, {("float", "prefill"): 1010.0})
    assert (audit.variant, audit.phase, audit.kernels, audit.busy_us) == ("float", "prefill", 40.0, 808.0)
    assert audit.idle_share == pytest.approx(0.2)
    text = render(summary_table(run, summarize(run)), width=None, color=False)
    assert "float, prefill: forward 1.01 ms synchronized, 1.00 ms by events, 101 µs by the host's clock alone" in text
    assert "would lack 90.0 %); 40 kernels, device idle 20.0 % of the clean p50" in text


def test_clocks_without_kernels_and_runs_without_either(run: Run) -> None:
    assert device_audits(run, {}) == []
    clocks = ClockAudit(unsynchronized_us=1.0, synchronized_us=2.0, events_us=2.0, asynchronous_error=0.5)
    run.variants[1].timing = Timing(clocks={"decode": clocks})
    (audit,) = device_audits(run, {("int4", "decode"): 3.0})
    assert (audit.kernels, audit.busy_us, audit.idle_share) == (None, None, None)
