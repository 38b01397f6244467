"""Perplexity of running text against a reference of the test's own, and against lm-evaluation-harness's figures."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from checkpoints import save_llama
from lastword_models import BOS, TableModel, byte_tokenizer
from qprof.errors import DataError
from qprof.measure.command_line import profile_for
from qprof.tasks.lastword import Source
from qprof.tasks.perplexity import PerplexityTask, windows_of
from qprof.tasks.perplexity.documents import held_back, read_documents

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TEXT = "the dog barks at the cat\nand the cat runs\n\naway from  the dog "


def logits_of(vocabulary: int) -> Callable[[tuple[int, ...]], NDArray[np.float32]]:
    """What a model of the test's own says behind a prefix: of its last three tokens, and how many there are."""

    def logits(prefix: tuple[int, ...]) -> NDArray[np.float32]:
        seed = hash((prefix[-3:], len(prefix))) % 2**32
        return np.random.default_rng(seed).normal(size=vocabulary).astype(np.float32)

    return logits


def model(max_tokens: int | None, **tokenizer: Any) -> TableModel:
    made = byte_tokenizer(["Ġdog", "Ġthe", "Ġcat"], **tokenizer)
    return TableModel(made, logits_of(len(made)), max_tokens=max_tokens)


def reference(one: TableModel, text: str, length: int) -> list[float]:
    """Log-likelihoods of a text's tokens, each by itself: what it is predicted from are the tokens before it, back to
    the last multiple of `length`, and one more; where the text ends before a window is full, the last `length`."""
    ids = one.tokenizer(text)["input_ids"]
    whole = [BOS if one.tokenizer.bos_token_id is not None else one.tokenizer.eos_token_id, *ids]
    found = []
    for position in range(1, len(whole)):
        begin = (position - 1) // length * length
        if begin + length > len(ids) and begin:  # the last window, not full
            begin = len(ids) - length
        row = one._logits(tuple(whole[begin:position])).astype(np.float64)
        found.append(float(row[whole[position]] - np.log(np.exp(row).sum())))
    return found


def scored(one: Any, path: Path, **options: Any) -> tuple[PerplexityTask, dict[int, Any], Any]:
    task = PerplexityTask(Source(str(path)), **options)
    task.bind(one)
    predictions, _ = task.predict(one, range(task.scored_count()))
    return task, predictions, task.score(predictions)


@pytest.mark.parametrize("length", [4, 7, 32, 500])
@pytest.mark.parametrize("bos", [False, True])
def test_every_token_is_predicted_once_from_what_stands_before_it(tmp_path: Path, length: int, bos: bool) -> None:
    (tmp_path / "a.txt").write_text(TEXT)
    one = model(length, bos=bos)
    expected = reference(one, TEXT, length)
    _, predictions, scores = scored(one, tmp_path / "a.txt")
    assert sum(row["log_likelihood"] for row in predictions.values()) == pytest.approx(sum(expected), abs=1e-4)
    assert sum(row["tokens"] for row in predictions.values()) == len(expected)
    words, n_bytes = len(re.split(r"\s+", TEXT)), len(TEXT.encode())
    assert scores.summary["word_perplexity"] == pytest.approx(math.exp(-sum(expected) / words), rel=1e-5)
    assert scores.summary["byte_perplexity"] == pytest.approx(math.exp(-sum(expected) / n_bytes), rel=1e-5)
    assert scores.summary["bits_per_byte"] == pytest.approx(-sum(expected) / n_bytes / math.log(2), rel=1e-6)
    assert scores.summary["token_perplexity"] == pytest.approx(math.exp(-sum(expected) / len(expected)), rel=1e-5)


def test_windows_are_no_longer_than_the_model_takes_and_the_last_is_filled_up() -> None:
    found = list(windows_of(0, range(10), 99, 4))
    assert [(one.tokens, one.start) for one in found] == [
        ([99, 0, 1, 2, 3], 1),
        ([3, 4, 5, 6, 7], 1),
        ([5, 6, 7, 8, 9], 3),
    ]
    assert list(windows_of(0, [], 99, 4)) == []


def test_documents_of_a_table_and_of_titles(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"text": text}) + "\n" for text in ("one two", " ", "three")))
    assert [one.text for one in read_documents(Source(str(rows)), "auto")] == ["one two", "three"]
    wiki = tmp_path / "wiki.test.raw"
    wiki.write_text(" \n = First = \n\n text \n = = Part = = \n more \n = Second one = \n\n end \n")
    texts = [one.text for one in read_documents(Source(str(wiki)), "auto")]
    assert len(texts) == 2 and texts[0].startswith(" = First = ") and "= = Part = =" in texts[0]
    assert len(read_documents(Source(str(wiki)), "whole")) == 1
    (tmp_path / "plain.txt").write_text("no title here")
    with pytest.raises(DataError, match='set documents to "whole"'):
        read_documents(Source(str(tmp_path / "plain.txt")), "titles")


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "holds no text"), (b" \n\n", "holds no text"), (b"\xff\xfe\x00a", "is no text in UTF-8")],
)
def test_files_that_are_no_text(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(DataError, match=says):
        PerplexityTask(Source(str(tmp_path / "a.txt")))
    with pytest.raises(DataError, match="cannot be read"):
        PerplexityTask(Source(str(tmp_path / "missing.txt")))


def test_a_text_is_cut_between_words_to_calibrate_on_its_end(tmp_path: Path) -> None:
    text = " ".join(["word"] * 100)
    (tmp_path / "a.txt").write_text(text)
    scored_, behind = held_back(read_documents(Source(str(tmp_path / "a.txt")), "auto"), 0.2)
    assert scored_[0].text + behind[0].text == text and 0.15 < len(behind[0].text) / len(text) < 0.25
    one = model(16)
    task = PerplexityTask(Source(str(tmp_path / "a.txt")), hold_back=True, calibration_tokens=8)
    task.bind(one)
    pieces = [array for (array,) in task.calibration(4)]
    assert [piece.shape for piece in pieces] == [(1, 8)] * 4
    assert "left to calibration" in task.notes()[0]
    alone = PerplexityTask(Source(str(tmp_path / "a.txt")))
    alone.bind(one)
    with pytest.raises(DataError, match="calibration_data"):
        next(alone.calibration(4))


def test_logits_that_are_not_finite_leave_no_perplexity(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(TEXT)
    one = model(8)
    sound = one._logits

    def broken(prefix: tuple[int, ...]) -> NDArray[np.float32]:
        return sound(prefix) * (np.float32("nan") if len(prefix) == 5 else np.float32(1))

    one._logits = broken
    _, _, scores = scored(one, tmp_path / "a.txt")
    assert scores.summary["word_perplexity"] is None and scores.summary["not_finite"] is not None
    assert scores.summary["not_finite"] > 0 and "not finite" in scores.notes[0]


def test_a_window_longer_than_the_model_is_refused_and_a_short_one_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(TEXT)
    with pytest.raises(DataError, match="max_length = 9, but the model takes 8"):
        PerplexityTask(Source(str(tmp_path / "a.txt")), max_length=9).bind(model(8))
    task = PerplexityTask(Source(str(tmp_path / "a.txt")))
    task.bind(model(4096))
    assert "windows of 2048 tokens" in task.notes()[0]


# -- lm-evaluation-harness 0.4.13: HFLM(pretrained=llama_stories260K/hf, dtype float32, batch_size=1), whose
# loglikelihood_rolling was given the first 60 rows of lambada_test.jsonl, every 7 joined by "\n" into one document.

HARNESS = {
    "word_perplexity": 9909.724720822387,
    "byte_perplexity": 5.3684874996643455,
    "bits_per_byte": 2.424515685214346,
}
# fmt: off
HARNESS_LIKELIHOODS = [
    -4169.165344238281, -3582.3618774414062, -4123.216491699219, -3543.7976684570312, -3588.27978515625,
    -3894.0057983398438, -3334.5567932128906, -4533.732421875, -2208.2421264648438,
]
# fmt: on


@pytest.mark.skipif("QPROF_DATA" not in os.environ, reason="QPROF_DATA is not set")
def test_the_figures_of_the_harness(tmp_path: Path) -> None:
    data = Path(os.environ["QPROF_DATA"])
    lines = (data / "lambada" / "lambada_test.jsonl").read_text().splitlines()[:60]
    rows = [json.loads(line)["text"] for line in lines]
    texts = ["\n".join(rows[n : n + 7]) for n in range(0, len(rows), 7)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    checkpoint = _Checkpoint(data / "llama_stories260K" / "hf")
    _, predictions, scores = scored(checkpoint, tmp_path / "rows.jsonl")
    found = [0.0] * len(texts)
    for row in predictions.values():
        found[row["document"]] += row["log_likelihood"]
    assert found == pytest.approx(HARNESS_LIKELIHOODS, abs=1e-3)
    for name, value in HARNESS.items():
        assert scores.summary[name] == pytest.approx(value, rel=1e-6)


class _Checkpoint(TableModel):
    """A real model with nothing else to it."""

    def __init__(self, folder: Path) -> None:
        self.module = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
        super().__init__(
            transformers.AutoTokenizer.from_pretrained(folder),
            lambda prefix: np.zeros(0, np.float32),
            max_tokens=self.module.config.max_position_embeddings,
        )
        self.vocabulary = self.module.config.vocab_size

    def target_logits(self, tokens: NDArray[np.int64], starts: Sequence[int], ends: Sequence[int] | None = None) -> Any:
        with torch.inference_mode():
            logits = self.module(torch.from_numpy(tokens[:, :-1]), use_cache=False).logits
        assert ends is not None
        return torch.cat([logits[row, start - 1 : ends[row] - 1] for row, start in enumerate(starts)])


@pytest.mark.parametrize(
    ("data", "overrides", "kind"),
    [
        ("wiki.test.raw", (), "perplexity"),
        ("notes.txt", (), "perplexity"),
        ("rows.jsonl", (), "lastword"),
        ("rows.jsonl", ("task.kind=perplexity",), "perplexity"),
    ],
)
def test_running_text_on_the_command_line_is_scored_by_its_perplexity(
    tmp_path: Path, data: str, overrides: Sequence[str], kind: str
) -> None:
    folder = save_llama(tmp_path / "llama")
    profile = profile_for([str(folder)], data=str(tmp_path / data), overrides=overrides)
    assert (profile.task.kind, profile.task.data) == (kind, str(tmp_path / data))  # type: ignore[attr-defined]
