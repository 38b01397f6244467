"""The shipped language model: small, loadable from its folder alone, quantizable, and good at the passages."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qprof
from qprof.tasks.lastword import passages
from qprof.tasks.lastword.passage_words import POOLS

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
safetensors = pytest.importorskip("safetensors")

FOLDER = Path(qprof.__file__).parent / "embedded" / "passages_lm"
FILES = {
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "training.json",
}
#: Passages scored here; passages or weights that have drifted apart fall far below the floor.
PASSAGES = 60
FLOOR = 0.95


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return transformers.AutoTokenizer.from_pretrained(FOLDER, local_files_only=True, trust_remote_code=False)


@pytest.fixture(scope="module")
def model() -> Any:
    loaded = transformers.AutoModelForCausalLM.from_pretrained(FOLDER, local_files_only=True, dtype=torch.float32)
    return loaded.eval()


@pytest.fixture(scope="module")
def training() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((FOLDER / "training.json").read_text(encoding="utf-8"))
    return loaded


def test_the_folder_holds_weights_as_safetensors_alone_and_is_small() -> None:
    assert {entry.name for entry in FOLDER.iterdir()} == FILES
    assert (FOLDER / "model.safetensors").stat().st_size < 4_000_000
    assert sum(entry.stat().st_size for entry in FOLDER.iterdir()) < 5_000_000


def test_the_record_is_of_these_weights(training: dict[str, Any], model: Any) -> None:
    content = (FOLDER / "model.safetensors").read_bytes()
    assert training["sha256"] == hashlib.sha256(content).hexdigest()
    assert training["bytes"] == len(content)
    assert training["parameters"] == model.num_parameters()
    assert training["test"]["last_word_accuracy"] >= FLOOR
    assert training["training"]["seed"] > 0 and training["training"]["seconds_taken"] > 60


def test_the_weights_are_bfloat16_and_of_a_llama(model: Any) -> None:
    with safetensors.safe_open(FOLDER / "model.safetensors", "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.bfloat16}  # noqa: SIM118
    assert type(model).__name__ == "LlamaForCausalLM"
    assert all(weight.isfinite().all() for weight in model.parameters())
    assert all(torch.equal(weight, weight.bfloat16().float()) for weight in model.parameters())


def test_every_linear_can_be_quantized_in_groups_of_64(model: Any) -> None:
    linears = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    assert len(linears) == 7 * model.config.num_hidden_layers + 1
    assert all(linear.in_features % 64 == 0 and linear.out_features % 32 == 0 for linear in linears.values())
    assert model.config.max_position_embeddings >= 256


def test_the_tokenizer_takes_any_text_and_gives_it_back(tokenizer: Any, model: Any) -> None:
    assert len(tokenizer) == model.config.vocab_size
    samples = ['The lamp\'s here.\n\n"Oh," said Zoë: 5 € for ½', *passages.passages("test", 20)]
    for text in samples:
        ids = tokenizer(text)["input_ids"]
        assert tokenizer.decode(ids) == text
        assert max(ids) < len(tokenizer) and tokenizer.bos_token_id not in ids


def test_there_is_a_beginning_of_text_for_those_who_want_it(tokenizer: Any, model: Any) -> None:
    assert tokenizer.bos_token == "<s>" and tokenizer.bos_token_id == model.config.bos_token_id
    assert tokenizer("<s>The")["input_ids"][0] == tokenizer.bos_token_id
    assert tokenizer.pad_token_id == model.config.pad_token_id not in (None, tokenizer.bos_token_id)


def test_targets_are_of_one_token_and_of_several(tokenizer: Any) -> None:
    lengths = [len(tokenizer(" " + text.split(" ")[-1])["input_ids"]) for text in passages.passages("test", 200)]
    assert 0.03 < np.mean(np.array(lengths) > 1) < 0.5
    # The context is tokenized alike with and without the target, so that the two can be told apart.
    for text in passages.passages("test", 50):
        context = text[: text.rindex(" ")]
        assert tokenizer(text)["input_ids"][: len(tokenizer(context)["input_ids"])] == tokenizer(context)["input_ids"]


def right(model: Any, tokenizer: Any, texts: list[str], begin: list[int]) -> float:
    """Share of last words that are predicted whole, one text at a time: slow and plain on purpose."""
    found = 0
    for text in texts:
        ids = begin + tokenizer(text)["input_ids"]
        start = len(begin) + len(tokenizer(text[: text.rindex(" ")])["input_ids"])
        with torch.inference_mode():
            best = model(input_ids=torch.tensor([ids])).logits[0].argmax(-1)
        found += best[start - 1 : -1].tolist() == ids[start:]
    return found / len(texts)


@pytest.mark.parametrize("begin", [False, True])
def test_it_predicts_last_words(model: Any, tokenizer: Any, begin: bool) -> None:
    texts = list(passages.passages("test", PASSAGES))
    assert right(model, tokenizer, texts, [tokenizer.bos_token_id] if begin else []) >= FLOOR


def test_it_reads_the_whole_passage(model: Any, tokenizer: Any) -> None:
    """The last sentence alone, without what was said before, leaves it guessing."""
    alone = [text.split(". ")[-1] for text in passages.passages("test", PASSAGES)]
    assert right(model, tokenizer, alone, []) < 0.2


def test_the_trainers_accuracy_is_the_plain_one(model: Any, tokenizer: Any) -> None:
    from language_model import accuracy

    texts = list(passages.passages("calibration", PASSAGES))
    assert accuracy(model, tokenizer, texts) == pytest.approx(right(model, tokenizer, texts, []), abs=1e-9)


def test_two_steps_of_training_make_a_whole_folder(tmp_path: Path) -> None:
    from language_model import Settings, train

    settings = Settings(steps=2, batch=8, vocabulary=512, layers=2, tokenizer_passages=200, test_passages=20, threads=1)
    before = torch.get_num_threads()
    try:
        measured = train(settings, tmp_path / "out")
    finally:
        torch.set_num_threads(before)
    assert {entry.name for entry in (tmp_path / "out").iterdir()} == FILES
    record = json.loads((tmp_path / "out" / "training.json").read_text(encoding="utf-8"))
    assert record["training"]["steps_done"] == 2 and record["test"]["last_word_accuracy"] == measured
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", local_files_only=True)
    assert loaded.dtype == torch.bfloat16 and loaded.config.vocab_size == 512


def test_answers_weigh_most_and_padding_nothing() -> None:
    from language_model import Settings, batches, train_tokenizer

    settings = Settings(batch=16, vocabulary=512, tokenizer_passages=200, others=0.5, other_weight=0.1)
    tokenizer = train_tokenizer(settings)
    batch = next(batches(tokenizer, settings))
    assert batch.weights.shape == (16, batch.tokens.shape[1] - 1)
    assert np.unique(batch.weights.astype(float).round(6)).tolist() == [0.0, 0.2, 1.0]
    for row, weights in zip(batch.tokens, batch.weights, strict=True):
        runs = np.split(np.arange(len(weights)), np.flatnonzero(np.diff(weights == 1.0)) + 1)
        answers = [tokenizer.decode(row[1:][run]).strip() for run in runs if weights[run[0]] == 1.0]
        assert answers and set(answers) <= {word for words in POOLS.values() for word in words}
        assert (weights[row[1:] == 0] == 0.0).all()


def test_the_training_begins_with_heads_that_look_back() -> None:
    """Before any step: in the first layer, head h looks h + 1 tokens back, whatever the tokens are."""
    from language_model import Settings, build_model, train_tokenizer

    settings = Settings(vocabulary=512, tokenizer_passages=200)
    model = build_model(train_tokenizer(settings), settings).eval()
    tokens = torch.from_numpy(np.random.default_rng(0).integers(2, 512, (1, 60)))
    with torch.inference_mode():
        seen = model(input_ids=tokens, output_attentions=True).attentions[0][0]
    for head in range(4):
        offset = torch.arange(20, 60) - seen[head, 20:].argmax(-1)
        assert (offset == head + 1).float().mean() > 0.9
