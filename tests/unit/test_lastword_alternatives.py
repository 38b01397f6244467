"""The token that begins a text, tried with and without on language models whose logits hang on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lastword_models import BOS, TableModel, byte_tokenizer
from qprof.errors import DataError
from qprof.tasks.base import Alternative
from qprof.tasks.lastword import LastWordTask, Source
from qprof.tasks.lastword.protocols import Encoder

WORDS = ["Ġdog", "Ġcat"]


def task(folder: Path, **options: Any) -> LastWordTask:
    (folder / "rows.jsonl").write_text('{"text": "I saw a dog"}\n{"text": "you saw a cat"}\n')
    return LastWordTask(Source(str(folder / "rows.jsonl")), **options)


def model(tokenizer: Any, sure: Callable[[tuple[int, ...]], bool]) -> TableModel:
    """One that knows both animals where it is `sure` of a prefix, and nothing elsewhere."""
    animals = [tokenizer.convert_tokens_to_ids(word) for word in WORDS]

    def logits(prefix: tuple[int, ...]) -> np.ndarray[Any, np.dtype[np.float32]]:
        found = np.zeros(len(tokenizer), np.float32)
        found[animals] = 10.0 if sure(prefix) else 0.0
        return found

    return TableModel(tokenizer, logits)


def likelihoods(one: LastWordTask | Alternative, bound: TableModel) -> list[float]:
    trial = one.task if isinstance(one, Alternative) else one
    predictions, _ = trial.predict(bound, [0, 1])
    parts = trial.trial_parts(predictions)
    assert parts.whole.tolist() == [1.0, 1.0]
    return parts.part.tolist()


def begins_once(prefix: Sequence[int]) -> bool:
    return prefix[0] == BOS and prefix[1] != BOS


def test_a_token_that_is_missing_is_tried(tmp_path: Path) -> None:
    bound = model(byte_tokenizer(WORDS), begins_once)
    plain = task(tmp_path)
    plain.bind(bound)
    (add,) = plain.alternatives()
    assert add.setting == 'task.bos = "add"' and not add.same_inputs
    assert max(likelihoods(plain, bound)) < -5.0 < -1.0 < min(likelihoods(add, bound))


def test_a_token_that_disturbs_is_left_out(tmp_path: Path) -> None:
    bound = model(byte_tokenizer(WORDS, bos=True), lambda prefix: prefix[0] != BOS)
    as_tokenized = task(tmp_path)
    as_tokenized.bind(bound)
    (none,) = as_tokenized.alternatives()  # "add" would give the same tokens
    assert none.setting == 'task.bos = "none"'
    assert max(likelihoods(as_tokenized, bound)) < -5.0 < -1.0 < min(likelihoods(none, bound))


def doubling(words: Sequence[str]) -> Any:
    """A tokenizer that begins every text twice, as one whose template and whose configuration both do."""
    from tokenizers import processors

    tokenizer = byte_tokenizer(words, bos=True)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> <s> $A", special_tokens=[("<s>", BOS)]
    )
    return tokenizer


def test_a_doubled_token_is_mended_by_one(tmp_path: Path) -> None:
    bound = model(doubling(WORDS), begins_once)
    doubled = task(tmp_path)
    doubled.bind(bound)
    found = {one.setting: one for one in doubled.alternatives()}
    assert found.keys() == {'task.bos = "add"', 'task.bos = "none"'}
    assert max(likelihoods(doubled, bound)) < -5.0 < -1.0 < min(likelihoods(found['task.bos = "add"'], bound))
    assert max(likelihoods(found['task.bos = "none"'], bound)) < -5.0


def test_one_token_means_one() -> None:
    encoder = Encoder(doubling(WORDS), "add")
    (ids,) = encoder.encode(["a dog"])
    assert ids[0] == BOS and BOS not in ids[1:]


def test_a_tokenizer_without_such_a_token_leaves_nothing_to_try(tmp_path: Path) -> None:
    bound = model(byte_tokenizer(WORDS, special=False), lambda _: True)
    plain = task(tmp_path)
    plain.bind(bound)
    assert plain.alternatives() == []


def test_the_task_itself_keeps_its_rule(tmp_path: Path) -> None:
    bound = model(byte_tokenizer(WORDS), begins_once)
    plain = task(tmp_path)
    plain.bind(bound)
    before = likelihoods(plain, bound)
    likelihoods(plain.alternatives()[0], bound)
    assert likelihoods(plain, bound) == before


def test_logits_that_are_not_finite_are_no_score(tmp_path: Path) -> None:
    tokenizer = byte_tokenizer(WORDS)
    bound = TableModel(tokenizer, lambda _: np.full(len(tokenizer), np.nan, np.float32))
    plain = task(tmp_path)
    plain.bind(bound)
    with pytest.raises(DataError, match="2 of 2 rows have logits that are not finite"):
        likelihoods(plain, bound)
