"""Whole runs of language models: quantized, timed in both phases, taken apart, scored, and what goes wrong there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from command_line import QUICK, CommandLine
from lm_families import save_family
from qprof.findings.difference import differ
from qprof.findings.layers import layers
from qprof.findings.summary import summarize
from qprof.store.run import Run

pytest.importorskip("torch")
pytest.importorskip("gptqmodel")

WORDS = ["apple", "river", "stone", "cloud", "garden", "bottle", "window", "silver"]
#: Small enough to be quantized in a second, and with the shapes that the kernels ask for.
FAST = (*QUICK, "--set=protocol.threads=1", "--set=task.calibration_samples=4", "--set=task.samples=2")
FAST = (*FAST, "--set=task.prompt_tokens=8", "--set=task.generated_tokens=3")


def write_checkpoint(folder: Path, **changed: Any) -> Path:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from lastword_models import byte_tokenizer

    tokenizer = byte_tokenizer([f"\u0120{word}" for word in WORDS])
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=changed.get("intermediate_size", 128),
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        bos_token_id=0,
        eos_token_id=1,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_texts(path: Path, count: int) -> Path:
    rng = np.random.default_rng(0)
    lines = [" ".join(rng.choice(WORDS, int(rng.integers(5, 12)))) for _ in range(count)]
    path.write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("lm") / "tiny")


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_texts(tmp_path_factory.mktemp("texts") / "texts.jsonl", 40)


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    found = CommandLine(tmp_path_factory.mktemp("line"))
    yield found
    assert found.left_behind() == []


@pytest.fixture(scope="module")
def run(line: CommandLine, checkpoint: Path, texts: Path) -> Run:
    done = line("run", checkpoint, "--bits", "8,4", "--data", texts, *FAST, "--set=task.limit=20", "-o", "r")
    assert done.code == 0, done.err
    return Run(line.folder / "r")


def test_every_variant_is_measured_in_both_phases(run: Run) -> None:
    assert [v.name for v in run.variants] == ["bfloat16", "gptq-8bit", "gptq-4bit"]
    for summary in summarize(run):
        assert [phase.name for phase in summary.phases] == ["prefill", "decode"]
        for phase in summary.phases:
            assert phase.latency_us is not None and phase.latency_us.value > 0
            assert phase.tokens_per_s is not None and phase.overhead is not None
        prefill = run.latency(summary.name)
        decode = run.latency(summary.name, phase="decode")
        assert set(prefill.sample.tolist()) == set(decode.sample.tolist()) == {0, 1}
        assert len(decode.sample) % 3 == 0
        assert summary.footprint_bytes is not None and summary.file_bytes is not None
        assert summary.dtype == "bfloat16"
        assert summary.kernel == ("torch" if summary.name.startswith("gptq") else None)


def test_fewer_bits_are_fewer_bytes(run: Run) -> None:
    sizes = [entry.memory.footprint_bytes or 0 for entry in run.variants]
    files = [entry.bytes or 0 for entry in run.variants]
    assert min(sizes) > 0 and min(files) > 0
    assert sizes == sorted(sizes, reverse=True) and files == sorted(files, reverse=True)
    assert len(set(sizes)) == 3


def test_rows_are_scored_once_and_under_both_protocols(run: Run) -> None:
    for variant in ("bfloat16", "gptq-4bit"):
        rows = [r for r in run.scores if r.variant == variant and r.metric == "correct" and r.sample is not None]
        assert sorted(r.sample for r in rows if r.sample is not None) == list(range(20))
        assert run.score(variant, "accuracy") == pytest.approx(np.mean([r.value for r in rows]))
        assert run.sample_scores(variant, "correct") == {r.sample: r.value for r in rows}
        assert run.score(variant, "perplexity") is not None and run.score(variant, "naive_top1") is not None
        kept = json.loads((run.folder / f"predictions/{variant}.json").read_text())
        assert len(kept) == 20 and kept["0"]["target"] in WORDS and len(kept["0"]["top5"]) == 5
    summary = summarize(run)[1]
    assert summary.scoring_tokens_per_s is not None
    tokens = sum(kept[str(i)]["tokens"] for i in range(20))
    seconds = run.latency("gptq-4bit", "scored").duration_ns.sum() / 1e9
    assert summarize(run)[2].scoring_tokens_per_s == pytest.approx(tokens / seconds)


def test_quantized_linears_are_taken_apart(run: Run) -> None:
    for phase in ("prefill", "decode"):
        table = layers(run, "gptq-4bit", phase=phase)
        types = {row.type for row in table.rows}
        assert {"Linear", "dequantize", "other in linear", "LlamaAttention", "LlamaRMSNorm"} <= types
        assert 0 <= table.rest_share < 0.5
        assert table.split is not None and table.split.how == "in situ"
        assert sum(table.split.dequantize_ops.values()) == pytest.approx(1)
        plain = layers(run, "bfloat16", phase=phase)
        assert "dequantize" not in {row.type for row in plain.rows} and plain.split is None


def test_the_difference_closes_and_names_the_dequantization(run: Run) -> None:
    table = differ(run, "bfloat16", "gptq-8bit", "decode")
    assert abs(table.closing_error_us) < 1e-6
    assert len([row for row in table.rows if row.kind == "inserted" and row.label.endswith("/dequantize")]) == 14
    matched = {row.label for row in table.rows if row.kind == "matched"}
    assert {"model.layers.0.mlp.up_proj", "model.layers.1.self_attn", "model.norm", "lm_head"} <= matched
    assert not [row for row in table.rows if row.kind == "removed"]


@pytest.mark.parametrize("words", [["show"], ["layers"], ["layers", "--phase", "decode", "--by", "type"]])
def test_commands_draw_it(line: CommandLine, run: Run, words: list[str]) -> None:
    done = line(*words[:1], run.folder, *words[1:])
    assert done.code == 0, done.err
    assert "bfloat16" in done.out


def test_diff_of_a_phase_and_export(line: CommandLine, run: Run, tmp_path: Path) -> None:
    done = line("diff", run.folder, "bfloat16", "gptq-4bit", "--phase", "decode", "--by", "type")
    assert done.code == 0 and "dequantize" in done.out and ", decode:" in done.out
    assert line("export", run.folder, "-o", tmp_path / "out").code == 0
    text = (tmp_path / "out/layers.csv").read_text()
    assert "decode" in text and "dequantize" in text


def test_made_variants_are_taken_from_the_cache(line: CommandLine, run: Run, checkpoint: Path, texts: Path) -> None:
    words = ["run", checkpoint, "--bits", "8", "--data", texts, *FAST, "--set=task.limit=20", "-o", "again"]
    assert line(*words).code == 0
    again = Run(line.folder / "again")
    assert again.variant("gptq-8bit").path == run.variant("gptq-8bit").path
    made, kept = again.variant("gptq-8bit").making.make_seconds, run.variant("gptq-8bit").making.make_seconds
    assert made is not None
    assert made == kept


def failures(line: CommandLine, *words: Any) -> tuple[int, dict[str, str], str]:
    """Exit code, reason of every variant that failed, and stderr."""
    done = line("run", *words, *FAST)
    folder = line.folder / "runs"
    latest = max(folder.glob("*"), key=lambda path: path.stat().st_mtime_ns, default=None) if folder.exists() else None
    entries = Run(latest).variants if latest else []
    return done.code, {e.name: str(e.reason) for e in entries if e.failed}, done.err


def test_a_variant_that_cannot_be_made_does_not_stop_the_others(
    line: CommandLine, checkpoint: Path, texts: Path
) -> None:
    wanted = [{"name": "bfloat16"}, {"name": "uneven", "bits": 4, "method": "gptq", "group_size": 48}]
    wanted += [{"name": "no-kernel", "method": "gptq-2bit", "kernel": "torch-aten"}]
    profile = line.folder / "p.toml"
    variants = "".join(
        "[[variants]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in variant.items())
        for variant in wanted
    )
    task = f'[task]\nkind = "lastword"\ndata = "{texts}"\nlimit = 20\n'
    profile.write_text(f'name = "p"\n{variants}[model]\npath = "{checkpoint}"\n{task}')
    code, reasons, _ = failures(line, profile)
    assert code == 1
    assert set(reasons) == {"uneven", "no-kernel"}
    assert "48" in reasons["uneven"] and "torch-aten" in reasons["no-kernel"]


def test_a_variant_that_nobody_asked_for_and_that_cannot_be_made_is_left_out(
    line: CommandLine, texts: Path, tmp_path: Path
) -> None:
    odd = save_family(tmp_path / "odd", "openai_gpt")  # gptqmodel does not know it
    words = ["--data", texts, *FAST, "--set=task.limit=20", "--set=task.samples=1"]
    done = line("run", odd, *words, "-o", "by-default")
    assert done.code == 0, done.err
    assert "gptq-4bit is left out: " in done.err and "Unsupport model_type" in done.err
    asked = line("run", odd, "--bits", "4", *words, "-o", "asked")
    assert asked.code == 1 and "tries gptq-4bit again" in asked.err


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (["--set=task.limit=41"], "41 rows are to be scored, but it has 40"),
        (["--set=task.prompt_tokens=500"], "more than the 128 positions"),
        (["--data", "absent.jsonl"], "absent.jsonl: cannot be read"),
        (["--bits", "5"], "--bits 5: GPTQ quantizes to 8, 4, 3, 2 bits"),
    ],
)
def test_bad_input_is_one_line(line: CommandLine, checkpoint: Path, texts: Path, change: list[str], says: str) -> None:
    done = line("run", "-q", checkpoint, "--bits", "8", "--data", texts, *FAST, "--set=task.limit=20", *change)
    assert done.code == 2
    (told,) = done.err.splitlines()
    assert says in told


def test_a_folder_without_weights_and_one_with_a_pickle(line: CommandLine, checkpoint: Path, tmp_path: Path) -> None:
    for name, weights, says in (("empty", None, "weights"), ("pickled", "pytorch_model.bin", "pickle")):
        folder = tmp_path / name
        folder.mkdir()
        for path in checkpoint.glob("*.json"):
            (folder / path.name).write_bytes(path.read_bytes())
        if weights:
            (folder / weights).write_bytes(b"\x80\x04K\x01.")
        done = line("run", "-q", folder, "--bits", "8", *FAST)
        assert done.code == 2
        assert says in done.err and len(done.err.splitlines()) == 1
