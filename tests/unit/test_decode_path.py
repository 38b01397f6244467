"""A model one token at a time: what it keeps, and whether it says what it was scored on."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from checkpoints import save_llama
from qprof.findings.decode_path import decode_says, decodes_otherwise, otherwise
from qprof.record.decoding import DecodeCheck
from qprof.record.manifest import VariantEntry
from qprof.tasks.lastword import Source
from qprof.tasks.perplexity import PerplexityTask

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from qprof.measure.worker.decode_check import between_tokens, check_decoding  # noqa: E402
from qprof.runtimes import registry  # noqa: E402
from qprof.runtimes.torch_lm.model import CausalLM  # noqa: E402
from qprof.runtimes.torch_lm.sections import TorchLMOptions  # noqa: E402
from qprof.runtimes.torch_lm.stepwise import Stepwise, tensor_bytes  # noqa: E402

PROMPT, GENERATED, BATCH = 6, 3, 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture
def model(folder: Path) -> CausalLM:
    options = TorchLMOptions(dtype="float32", batch=BATCH, prompt_tokens=PROMPT, generated_tokens=GENERATED)
    return CausalLM.load(folder, options)


@pytest.fixture
def task(tmp_path: Path, model: CausalLM) -> PerplexityTask:
    rows = [{"text": f"the dog and the cat number {n} run away, and away"} for n in range(4)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = PerplexityTask(Source(str(tmp_path / "rows.jsonl")), max_length=32)
    made.bind(model)
    return made


def entry(check: DecodeCheck | None) -> VariantEntry:
    return VariantEntry(name="a", decoding=check)


def test_keys_and_values_are_counted_by_hand(model: CausalLM) -> None:
    """Two layers, keys and values, two heads of 16 numbers, four bytes each."""
    each = 2 * 2 * 2 * 16 * 4 * BATCH
    assert Stepwise(model).state_bytes() == {"prompt": PROMPT * each, "generated": (PROMPT + GENERATED) * each}


def test_bytes_of_whatever_holds_tensors() -> None:
    shared = torch.zeros(10)
    state = SimpleNamespace(
        ssm=[torch.zeros(4, 8), None], conv={0: shared, 1: shared[:3]}, module=torch.nn.Linear(9, 9)
    )
    state.itself = state
    assert tensor_bytes({"cache_params": state}) == 4 * 8 * 4 + 10 * 4
    assert tensor_bytes(None) == 0


def test_a_sound_model_decodes_as_it_is_scored(model: CausalLM, task: PerplexityTask) -> None:
    found = check_decoding(task, model, Stepwise(model), "float32")
    assert found is not None and found.rows == task.scored_count() and found.tokens == 8 * found.rows
    assert found.logits_error is not None and found.logits_error < 1e-5
    assert found.most_nats is not None and found.most_nats < 1e-4
    assert decodes_otherwise(entry(found)) is None and "8" in str(decode_says(entry(found)))


def test_a_kernel_that_is_wrong_for_one_row_alone_is_seen(model: CausalLM, task: PerplexityTask) -> None:
    wrong = model.module.model.layers[1].mlp.down_proj
    sound = wrong.forward

    def forward(rows: Any) -> Any:
        return sound(rows) * (1.5 if rows.shape[-2] == 1 else 1.0)

    wrong.forward = forward
    kept, found, notes = between_tokens(registry.get("torch_lm"), model, task, True)
    assert kept is not None and notes == [] and found is not None
    ((name, says),) = otherwise([entry(found)])
    assert name == "a" and "one token at a time" in says and "kernel for one row" in says


def test_numbers_that_are_not_finite_are_told(model: CausalLM, task: PerplexityTask) -> None:
    wrong = model.module.model.norm
    sound = wrong.forward
    wrong.forward = lambda rows: sound(rows) * (float("nan") if rows.shape[-2] == 1 else 1.0)
    found = check_decoding(task, model, Stepwise(model), "float32")
    assert found is not None and found.logits_error is None
    assert "not finite" in str(decodes_otherwise(entry(found)))


def test_what_cannot_be_run_so_is_told_and_not_raised(model: CausalLM, task: PerplexityTask) -> None:
    sound = model.module.forward
    model.module.forward = lambda **given: SimpleNamespace(logits=sound(input_ids=given["input_ids"]).logits)
    kept, found, notes = between_tokens(registry.get("torch_lm"), model, task, True)
    assert (kept, found) == (None, None) and "keeps nothing between tokens" in notes[0]


def test_nothing_is_said_of_what_was_not_checked_and_of_other_types() -> None:
    assert decodes_otherwise(entry(None)) is None and decode_says(entry(None)) is None
    check = DecodeCheck(rows=1, tokens=1, mean_nats=0.0, most_nats=0.0, logits_error=0.5, dtype="float8", seconds=0.1)
    assert decodes_otherwise(entry(check)) is None
    assert np.isfinite(check.logits_error or 0.0)
