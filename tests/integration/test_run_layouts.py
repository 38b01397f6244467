"""Whole runs of checkpoints as people have them: by an id of the hub, and as a GGUF file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from command_line import QUICK, CommandLine
from qprof.store.run import Run

pytest.importorskip("torch")
pytest.importorskip("gptqmodel")

from checkpoints import save_llama
from gguf_files import write_gguf
from gptq_folders import float_llama, write_gptq
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


def test_an_id_of_a_quantized_model_is_run_as_it_is(qprof: CommandLine) -> None:
    pytest.importorskip("gptqmodel")
    source = float_llama(qprof.folder / "float")
    model = qprof.folder / "hub" / "models--org--Tiny-GPTQ"
    write_gptq(source, model / "snapshots" / COMMIT, inside={"bits": 4, "group_size": 32, "quant_method": "gptq"})
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(COMMIT)
    qprof.environment |= {"HF_HUB_CACHE": str(model.parent), "HF_HUB_OFFLINE": "1"}
    data = write_texts(qprof.folder / "texts.jsonl")
    done = qprof("run", "org/Tiny-GPTQ", "--data", data, *SHORT)
    assert done.code == 0, done.err
    (entry,) = Run(qprof.folder / "r").variants
    assert (entry.name, entry.status, entry.making.facts["bits"]) == ("Tiny-GPTQ", "ok", 4)
    refused = qprof("run", "org/Tiny-GPTQ", "--bits", "4", "--data", data, *SHORT)
    assert refused.code == 2 and "are run as they are" in refused.err


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
