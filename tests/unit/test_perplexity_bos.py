"""The token that begins a text, tried both ways where a text is scored by its perplexity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lastword_models import BOS, TableModel, byte_tokenizer
from qprof.errors import DataError
from qprof.tasks.lastword import Source
from qprof.tasks.perplexity import PerplexityTask
from qprof.tasks.perplexity.kind import KIND, PerplexitySection

TEXT = "dog cat dog cat dog"


def model(*, needs_one: bool, **tokenizer: Any) -> TableModel:
    """One that is sure of what comes next, its text known, where a text begins with exactly one token for it, or, the
    other way round, with none."""
    made = byte_tokenizer([], **tokenizer)
    ids = made(TEXT, add_special_tokens=False)["input_ids"]

    def logits(prefix: tuple[int, ...]) -> NDArray[np.float32]:
        found = np.zeros(len(made), np.float32)
        begins = prefix[:1] == (BOS,) and prefix[1:2] != (BOS,) if needs_one else prefix[0] != BOS
        behind = sum(token != BOS for token in prefix)
        if begins and behind < len(ids):
            found[ids[behind]] = 20.0
        return found

    return TableModel(made, logits)


def task(folder: Path, **options: Any) -> PerplexityTask:
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    return PerplexityTask(Source(str(folder / "text.txt")), **options)


def by_byte(one: Any, bound: TableModel) -> float:
    predictions, _ = one.predict(bound, range(one.scored_count()))
    parts = one.trial_parts(predictions)
    assert parts.whole.sum() == pytest.approx(len(TEXT))
    return float(parts.part.sum() / parts.whole.sum())


def test_a_second_token_that_disturbs_is_found(tmp_path: Path) -> None:
    """The tokenizer puts one, and as the harness does there is another before it."""
    bound = model(needs_one=True, bos=True)
    plain = task(tmp_path)
    plain.bind(bound)
    found = {one.setting: by_byte(one.task, bound) for one in plain.alternatives()}
    assert set(found) == {'task.bos = "add"', 'task.bos = "none"'}
    assert found['task.bos = "add"'] > -0.01 > -1.0 > by_byte(plain, bound)
    assert found['task.bos = "none"'] < -1.0


def test_one_that_should_not_be_there_is_left_out(tmp_path: Path) -> None:
    bound = model(needs_one=False)
    plain = task(tmp_path)
    plain.bind(bound)
    (none,) = plain.alternatives()  # "add" is what it does already
    assert none.setting == 'task.bos = "none"'
    assert by_byte(none.task, bound) > -0.01 > -1.0 > by_byte(plain, bound)


def test_the_rule_is_a_key_of_the_profile(tmp_path: Path) -> None:
    bound = model(needs_one=False)
    one = task(tmp_path, bos="none")
    one.bind(bound)
    assert BOS not in one.sequence(0)[0]
    with pytest.raises(DataError, match="bos = 'both' is not one of auto, add, none"):
        task(tmp_path, bos="both")
    section = PerplexitySection(data=str(tmp_path / "text.txt"), bos="none", calibration_samples=0)
    built = KIND.build(section, ())
    built.bind(bound)
    assert built.sequence(0) == one.sequence(0)
    assert KIND.settings_tried
