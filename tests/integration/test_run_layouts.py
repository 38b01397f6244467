"""Whole runs of checkpoints as people have them: by an id of the hub, as a GGUF file, and read by the wrong rule."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from command_line import QUICK, CommandLine
from qprof import embedded
from qprof.store.run import Run

pytest.importorskip("torch")
pytest.importorskip("gptqmodel")

from checkpoints import save_llama
from gguf_files import write_gguf
from gptq_folders import write_gptq
from lastword_models import byte_tokenizer

SHORT = (*QUICK, "--set=protocol.threads=1", "--set=task.prompt_tokens=8", "--set=task.generated_tokens=2", "-o", "r")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def write_texts(path: Path) -> Path:
    path.write_text("".join(json.dumps({"text": f"the {word} saw a dog"}) + "\n" for word in ("cat", "fox", "cow")))
    return path


def test_an_id_without_org_is_taken_from_the_cache_of_the_hub(qprof: CommandLine) -> None:
    model = qprof.folder / "hub" / "models--gpt2"
    save_llama(model / "snapshots" / COMMIT)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(COMMIT)
    (qprof.folder / "gpt2").mkdir()  # not what the name means
    qprof.environment |= {"HF_HUB_CACHE": str(model.parent), "HF_HUB_OFFLINE": "1"}
    data = write_texts(qprof.folder / "texts.jsonl")
    done = qprof("run", "gpt2", "--variants", "float32", "--data", data, "--set=task.calibration_samples=1", *SHORT)
    assert done.code == 0, done.err
    (entry,) = Run(qprof.folder / "r").variants
    assert entry.path == str(model / "snapshots" / COMMIT) and entry.status == "ok"


def test_a_gguf_file_beside_a_float_model(qprof: CommandLine) -> None:
    pytest.importorskip("gguf")
    source = save_llama(qprof.folder / "float", hidden=256, inner=256, dtype="bfloat16")
    file = qprof.folder / "model.gguf"
    write_gguf(file, "Q8_0", tokenizer=byte_tokenizer(["Ġdog", "Ġcat"]))
    done = qprof("run", source, file, "--data", write_texts(qprof.folder / "texts.jsonl"), *SHORT)
    assert done.code == 0, done.err
    run = Run(qprof.folder / "r")
    entry = run.variant("model.gguf")
    assert (entry.bytes, entry.making.facts["format"]) == (file.stat().st_size, "gguf")
    assert any("its speed, memory and energy are a float model's" in note for note in entry.notes)
    assert {op.type for op in run.op_meta["model.gguf"]} >= {"Linear"}
    assert "float model's" in qprof("show", "r").out


def test_a_file_read_by_the_wrong_rule_is_read_by_the_other(qprof: CommandLine) -> None:
    source = qprof.folder / "float"
    shutil.copytree(embedded.path("passages_lm"), source)
    settings = {"bits": 4, "group_size": 64, "desc_act": False, "sym": True, "quant_method": "gptq"}
    write_gptq(source, qprof.folder / "packed", group=64, layout="gptq_v2", beside=settings)
    words = [word for word in SHORT if "layer_errors" not in word]
    told = ("--set=protocol.layer_errors=1", "--set=task.limit=40")
    done = qprof("run", source, qprof.folder / "packed", *words, *told)
    assert done.code == 0, done.err
    run = Run(qprof.folder / "r")
    shares = [row.weight_offset_share for row in run.layer_errors if row.weight_offset_share is not None]
    assert len(shares) == 28 and min(shares) > 0.5
    assert (run.score("float", "accuracy") or 0.0) > 0.9 > 0.5 > (run.score("packed", "accuracy") or 0.0)
    done = qprof("explain", "r", "--verify", "--json")
    assert done.code == 0, done.err
    text = json.dumps(json.loads(done.out))
    assert "packed is read as gptq, and its file is gptq_v2: the weights of 28 of 28 layers are off" in text
    verified = [Run(path.parent) for path in (qprof.folder / "r").glob("verify/*/manifest.json")]
    (again,) = [one for one in verified if "packed+as-gptq_v2" in {entry.name for entry in one.variants}]
    assert (again.score("packed+as-gptq_v2", "accuracy") or 0.0) > 0.9
    confirmed = json.loads(done.out)
    assert "confirmed" in json.dumps(confirmed)
