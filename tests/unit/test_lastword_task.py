"""The last-word task as a run uses it, on a model whose answers a test writes down."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bound_models import described
from lastword_models import BOS, TableModel, byte_tokenizer
from qprof.errors import DataError
from qprof.record.model import LanguageModel
from qprof.tasks.base import Task
from qprof.tasks.lastword import LastWordTask, Source
from qprof.tasks.lastword.data import digest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

WORDS = ["Ġdog", "Ġthe", "the", "Ġbarks", "Ġmi", "lk", "dog", "Ġcat"]
TOKENIZER = byte_tokenizer(WORDS)

TEXTS = [
    "the cat and the dog",  # one token
    "the cat drank the milk",  # two
    "one",  # no context
    "the dog barks",
    "see the dog",
    "the cat and the dog",  # as the first
    "the milk",
    "a cat",
    " ",
    "the last dog barks",
]

#: Rows that have a last word.
SCORED = [text for text in TEXTS if " " in text.strip()]


@pytest.fixture
def rows(tmp_path: Path) -> Callable[..., Source]:
    def write(*texts: str, name: str = "rows.jsonl") -> Source:
        path = tmp_path / name
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        return Source(str(path))

    return write


def single(token: str) -> int:
    found: int = TOKENIZER.convert_tokens_to_ids(token)
    return found


def answers(prefix: tuple[int, ...]) -> NDArray[np.float32]:
    """ " dog" first and "." second behind everything, but behind " mi" it is "lk"."""
    logits = np.full(len(TOKENIZER), -8.0, np.float32)
    logits[[single("Ġdog"), single(".")]] = 2.0, 1.0
    if prefix[-1] == single("Ġmi"):
        logits[single("lk")] = 4.0
    return logits


def scattered(prefix: tuple[int, ...]) -> NDArray[np.float32]:
    """Logits that depend on the whole prefix."""
    seed = zlib.crc32(np.array(prefix, np.int64).tobytes())
    return np.random.default_rng(seed).normal(size=len(TOKENIZER)).astype(np.float32)


def test_it_is_a_task_that_predicts_in_passes_of_its_own(rows: Callable[..., Source]) -> None:
    task: Task = LastWordTask(rows(*TEXTS))
    assert isinstance(task, Task)
    assert (task.name, task.sample_count(), task.scored_count()) == ("lastword", 8, len(SCORED))
    assert isinstance(TableModel(TOKENIZER, answers), LanguageModel)


def test_a_model_of_something_else_is_refused(rows: Callable[..., Source]) -> None:
    with pytest.raises(DataError, match="a lastword task needs a language model; name a folder"):
        LastWordTask(rows(*TEXTS)).bind(described([], []))


def test_scores_by_hand(rows: Callable[..., Source]) -> None:
    task = LastWordTask(rows(*TEXTS[:4]))
    model = TableModel(TOKENIZER, answers)
    predictions, _ = task.predict(model, range(3))
    scores = task.score(predictions)
    others = (len(TOKENIZER) - 2) * math.exp(-8)
    dog = 2 - math.log(math.exp(2) + math.exp(1) + others)
    milk = (-8 - math.log(math.exp(2) + math.exp(1) + others)) + (
        4 - math.log(math.exp(4) + math.exp(2) + math.exp(1) + others - math.exp(-8))
    )
    barks = -8 - math.log(math.exp(2) + math.exp(1) + others)
    assert [predictions[n]["target"] for n in range(3)] == ["dog", "milk", "barks"]
    assert scores.per_sample["log_likelihood"] == pytest.approx([dog, milk, barks], abs=1e-5)
    third = pytest.approx(1 / 3)
    assert scores.summary == {
        "accuracy": third,
        "perplexity": pytest.approx(math.exp(-(dog + milk + barks) / 3), rel=1e-5),
        "top1": third,
        "top5": third,
        "naive_top1": third,
        "naive_top5": third,
        "last_token_top1": pytest.approx(2 / 3),  # " dog", and "lk" behind " mi"
        "last_token_top5": pytest.approx(2 / 3),
        "naive_ceiling": pytest.approx(2 / 3),  # no token says "milk"
        "multi_token": third,
        "miss_punctuation": 0.0,
        "miss_fragment": 0.0,
        "miss_other": pytest.approx(2 / 3),  # " dog"
        "top5_punctuation": pytest.approx(4 / 5),  # "." and what lies at -8 with the lowest ids: <s>, </s>, "!"
        "top5_fragment": 0.0,
        "not_finite": 0.0,
    }
    assert scores.per_sample["correct"].tolist() == [1, 0, 0]
    assert scores.per_sample["target_tokens"].tolist() == [1, 2, 1]
    assert (scores.samples, scores.notes) == ([0, 1, 2], [])


def test_the_protocol_leads_the_columns_and_changes_no_figure(rows: Callable[..., Source]) -> None:
    model = TableModel(TOKENIZER, answers)
    found = {}
    for protocol in ("lambada_openai", "next-token"):
        task = LastWordTask(rows(*TEXTS), protocol=protocol)
        found[protocol] = task.score(task.predict(model, range(task.scored_count()))[0])
    assert found["lambada_openai"].columns[:2] == ("accuracy", "perplexity")
    assert found["next-token"].columns[:2] == ("naive_top1", "naive_top5")
    assert found["lambada_openai"].summary == found["next-token"].summary
    for scores in found.values():
        assert set(scores.columns) <= set(scores.summary)


def test_batches_change_no_prediction(rows: Callable[..., Source]) -> None:
    source = rows(*TEXTS)
    found = []
    for batch_tokens in (1, 20, 4096):
        task = LastWordTask(source, batch_tokens=batch_tokens)
        model = TableModel(TOKENIZER, scattered)
        predictions, batches = task.predict(model, range(task.scored_count()))
        assert sorted(sample for batch in batches for sample in batch.samples) == list(range(len(SCORED)))
        assert [batch.rows for batch in batches] == [n for n, _ in model.passes]
        taken_in = [sum(predictions[sample]["tokens"] for sample in batch.samples) for batch in batches]
        assert [batch.tokens for batch in batches] == taken_in
        assert all(n == 1 or n * m <= batch_tokens for n, m in model.passes)
        assert [batch.first_sample for batch in batches] == [batch.samples[0] for batch in batches]
        assert all(batch.duration_ns > 0 for batch in batches)
        assert [batch.start_ns for batch in batches] == sorted(batch.start_ns for batch in batches)
        found.append((len(batches), predictions))
    assert found[0][1] == found[1][1] == found[2][1]
    assert found[0][0] == len(SCORED) > found[2][0]


def test_parts_give_the_predictions_of_the_whole(rows: Callable[..., Source]) -> None:
    task = LastWordTask(rows(*TEXTS), bos="add")
    model = TableModel(TOKENIZER, scattered)
    whole, _ = task.predict(model, range(task.scored_count()))
    order = task.scoring_order()
    assert sorted(order) == list(range(len(SCORED)))
    lengths = [whole[sample]["tokens"] for sample in order]
    assert lengths == sorted(lengths, reverse=True)
    parts = [task.predict(model, order[n : n + 3])[0] for n in range(0, len(order), 3)]
    assert {sample: row for part in parts for sample, row in part.items()} == whole


def test_predictions_survive_json_and_are_scored_without_a_model(rows: Callable[..., Source]) -> None:
    source = rows(*TEXTS)
    task = LastWordTask(source)

    def broken(prefix: tuple[int, ...]) -> NDArray[np.float32]:
        return np.full(len(TOKENIZER), np.nan, np.float32) if prefix[-1] == single("Ġdog") else answers(prefix)

    predictions, _ = task.predict(TableModel(TOKENIZER, broken), range(task.scored_count()))
    kept = {int(n): row for n, row in json.loads(json.dumps(predictions, allow_nan=False)).items()}
    scores = LastWordTask(source).score(kept)
    assert scores.summary == task.score(predictions).summary
    # "the dog barks" and "the last dog barks"
    assert scores.summary["not_finite"] == pytest.approx(2 / len(SCORED))
    assert scores.summary["perplexity"] is None
    assert scores.summary["accuracy"] == pytest.approx(3 / len(SCORED))
    assert np.isnan(scores.per_sample["log_likelihood"]).sum() == 2
    assert np.isnan(scores.per_sample["first_rank"]).sum() == 2
    assert scores.per_sample["top5"].sum() == 3
    assert scores.notes == [
        "2 of 8 rows have logits that are not finite: they count as wrong, and there is no perplexity; compute the "
        "variant in a wider dtype, or look for overflow in its layers"
    ]


def test_a_perplexity_beyond_all_numbers(rows: Callable[..., Source]) -> None:
    def certain(prefix: tuple[int, ...]) -> NDArray[np.float32]:
        return np.where(np.arange(len(TOKENIZER)) == 5, 1e4, 0).astype(np.float32)

    task = LastWordTask(rows("the dog"))
    scores = task.score(task.predict(TableModel(TOKENIZER, certain), [0])[0])
    assert scores.summary["perplexity"] is None
    assert scores.summary["not_finite"] == 0
    assert "perplexity is too large for a float" in scores.notes[0]


def test_no_predictions_have_no_score(rows: Callable[..., Source]) -> None:
    assert set(LastWordTask(rows(*TEXTS)).score({}).summary.values()) == {None}


def test_predictions_of_other_rows_are_refused(rows: Callable[..., Source]) -> None:
    task = LastWordTask(rows(*TEXTS))
    predictions, _ = task.predict(TableModel(TOKENIZER, answers), [0, 1])
    with pytest.raises(DataError, match=r"the prediction of row 1 is of another text: .*rows\.jsonl or the limit"):
        task.score({1: predictions[0]})
    with pytest.raises(DataError, match="the prediction of row 8 is of another text"):
        task.score({8: predictions[0]})


def test_rows_without_a_last_word_are_left_out_and_named(rows: Callable[..., Source]) -> None:
    task = LastWordTask(rows(*TEXTS))
    assert task.scored_count() == 8
    (note,) = task.notes()
    assert "2 rows of " in note and "(line 3, 9)" in note
    assert LastWordTask(rows(*TEXTS), limit=2).notes() == []  # behind the rows that are scored
    assert LastWordTask(rows(*TEXTS), limit=3).scored_count() == 3
    assert "(line 1, 2, 3, ...)" in LastWordTask(rows("a", "b", "c", "d", "the dog")).notes()[0]
    with pytest.raises(DataError, match="none of its 2 rows has a word behind a space"):
        LastWordTask(rows("one", " two"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": 9}, r"rows\.jsonl: 9 rows are to be scored, but it has 8 with a last word: set limit to at most 8"),
        ({"limit": 0}, "limit = 0 leaves no row"),
        ({"protocol": "naive"}, "protocol = 'naive' is not one of lambada_openai, next-token"),
        ({"bos": "yes"}, "bos = 'yes' is not one of auto, add, none"),
        ({"batch_tokens": 0}, "batch_tokens = 0 leaves nothing to run"),
        ({"samples": 0}, "samples = 0 leaves nothing to run"),
        ({"prompt_tokens": 0}, "prompt_tokens = 0 leaves nothing to run"),
    ],
)
def test_options_that_cannot_be(rows: Callable[..., Source], options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        LastWordTask(rows(*TEXTS), **options)


def test_digest_is_that_of_the_rows_scored(rows: Callable[..., Source]) -> None:
    assert LastWordTask(rows(*TEXTS)).digest() == digest(SCORED)
    assert LastWordTask(rows(*TEXTS), limit=2).digest() == digest(SCORED[:2])


def test_prompts_are_consecutive_text_of_an_exact_length(rows: Callable[..., Source]) -> None:
    task = LastWordTask(rows(*TEXTS), samples=4, batch=2, prompt_tokens=12, bos="add")
    task.bind(TableModel(TOKENIZER, answers))
    assert task.sample_count() == 4
    prompts = [task.inputs(sample)[0] for sample in range(4)]
    assert all(prompt.shape == (2, 12) and prompt.dtype == np.int64 for prompt in prompts)
    text = "\n\n".join([*SCORED, *SCORED])
    begins = set()
    for row in np.concatenate(prompts):
        assert row[0] == BOS
        found = TOKENIZER.decode(row[1:])
        assert found in text
        begins.add(found)
    assert begins == {TOKENIZER.decode(row[1:]) for row in np.concatenate([task.inputs(n)[0] for n in range(4)])}
    # eight prompts begin with the eight texts, of which two are the same and go on alike
    assert all(any(found.startswith(one) or one.startswith(found) for one in SCORED) for found in begins)
    assert len(begins) == 7
    with pytest.raises(DataError, match="sample 4 does not exist: there are 4"):
        task.inputs(4)


def test_prompts_that_data_or_model_are_too_short_for(rows: Callable[..., Source]) -> None:
    task = LastWordTask(rows("the dog", "the cat"), prompt_tokens=9)
    task.bind(TableModel(TOKENIZER, answers))
    with pytest.raises(DataError, match=r"prompts of 9 tokens need that much text, 2 rows have 8 tokens: lower prompt"):
        task.inputs(0)
    task = LastWordTask(rows("the dog", "the cat"), prompt_tokens=8)
    task.bind(TableModel(TOKENIZER, answers))
    assert TOKENIZER.decode(task.inputs(7)[0][0]) == "the cat\n\nthe dog\n\n"  # round the end
    task.bind(TableModel(TOKENIZER, answers, max_tokens=7))
    with pytest.raises(DataError, match="prompt_tokens = 8, but the model takes 7 tokens"):
        task.inputs(0)


def test_what_a_model_puts_behind_a_prompt(rows: Callable[..., Source]) -> None:
    task = LastWordTask(rows(*TEXTS), batch=2)
    task.bind(TableModel(TOKENIZER, answers))
    assert task.decode(0, [np.stack([answers((5,)), answers((single("Ġmi"),))])]) == {"next": [" dog", "lk"]}


def test_long_rows_are_cut_to_the_model(rows: Callable[..., Source]) -> None:
    task = LastWordTask(rows("the" + " cat" * 30 + " dog"))
    model = TableModel(TOKENIZER, answers, max_tokens=10)
    predictions, (batch,) = task.predict(model, [0])
    assert (predictions[0]["tokens"], batch.tokens, model.passes) == (10, 10, [(1, 11)])
    with pytest.raises(DataError, match=r"rows\.jsonl, line 1: last word 'dog' has 2 tokens"):
        LastWordTask(rows("the cat  dog")).bind(TableModel(TOKENIZER, answers, max_tokens=1))
    # another model: its limit counts
    assert task.predict(TableModel(TOKENIZER, answers), [0])[0][0]["tokens"] == 31


def test_a_tokenizer_of_another_model(rows: Callable[..., Source]) -> None:
    task = LastWordTask(rows(*TEXTS))
    model = TableModel(TOKENIZER, answers)
    model.vocabulary = single("Ġmi")
    with pytest.raises(DataError, match=rf"line 1: the tokenizer gives token \d+, the model has {model.vocabulary}"):
        task.bind(model)


def test_nothing_works_before_a_model_is_bound(rows: Callable[..., Source]) -> None:
    task = LastWordTask(rows(*TEXTS))
    for use in (lambda: task.inputs(0), task.scoring_order, lambda: next(task.calibration(1))):
        with pytest.raises(DataError, match="bound to no model: call bind first"):
            use()


def texts_of(samples: Any) -> list[str]:
    found = []
    for (ids,) in samples:
        assert ids.dtype == np.int64 and ids.shape[0] == 1
        found.append(TOKENIZER.decode(ids[0]))
    return found


def test_calibration_takes_the_rows_behind_those_scored(rows: Callable[..., Source]) -> None:
    task = LastWordTask(rows(*TEXTS), limit=2)
    task.bind(TableModel(TOKENIZER, answers))
    # not line 6, which has the text of line 1, nor line 9, which has none; a single word will do
    assert texts_of(task.calibration(6)) == ["one", TEXTS[3], TEXTS[4], TEXTS[6], TEXTS[7], TEXTS[9]]
    assert texts_of(task.calibration(3)) == ["one", TEXTS[4], TEXTS[7]]  # spread evenly
    assert any(
        "1 calibration rows" in note and "rows that are scored have the same text" in note for note in task.notes()
    )
    with pytest.raises(
        DataError, match="calibration needs 7 rows, but of 10 rows 6 are neither scored nor empty and lie"
    ):
        next(task.calibration(7))
    assert len({task.calibration_digest(3), task.calibration_digest(4)}) == 2


def test_calibration_has_nothing_left_where_all_rows_are_scored(rows: Callable[..., Source]) -> None:
    task = LastWordTask(rows(*TEXTS))
    with pytest.raises(DataError, match=r"calibration needs 1 rows, but of 10 rows 0 are .*: lower limit, or set"):
        task.calibration_digest(1)


def test_calibration_from_a_file_of_its_own(rows: Callable[..., Source]) -> None:
    other = rows("a dog of its own", TEXTS[0], "and a cat", TEXTS[1], TEXTS[0], name="train.jsonl")
    task = LastWordTask(rows(*TEXTS), calibration=other, calibration_tokens=4)
    model = TableModel(TOKENIZER, answers)
    task.bind(model)
    found = list(task.calibration(2))
    assert [ids.shape for (ids,) in found] == [(1, 4), (1, 4)]
    cut = [TOKENIZER.decode(TOKENIZER.encode(text)[:4]) for text in ("a dog of its own", "and a cat")]
    assert texts_of(found) == cut
    (note,) = [note for note in task.notes() if "train.jsonl" in note]
    assert note.startswith("3 calibration rows of ")
    with pytest.raises(DataError, match=r"train\.jsonl: calibration needs 3 rows, but of 5 rows 2 .*: give more rows"):
        next(task.calibration(3))
    task.bind(TableModel(TOKENIZER, answers, max_tokens=3))
    assert next(task.calibration(1))[0].shape == (1, 3)
    # digests: of texts and of how they become samples
    assert task.calibration_digest(2) != LastWordTask(rows(*TEXTS), calibration=other).calibration_digest(2)


def test_calibration_begins_as_the_rows_do(rows: Callable[..., Source]) -> None:
    task = LastWordTask(rows(*TEXTS), limit=2, bos="add")
    task.bind(TableModel(TOKENIZER, answers))
    assert next(task.calibration(1))[0][0, 0] == BOS


def test_without_a_limit_the_last_rows_are_left_to_calibration(rows: Callable[..., Source]) -> None:
    texts = [f"the dog {'barks ' * n}milk" for n in range(10)]
    task = LastWordTask(rows(*texts), reserve=3)
    assert task.scored_count() == 7
    assert [note for note in task.notes() if note.startswith("the last 3 rows of ")]
    task.bind(TableModel(TOKENIZER, answers))
    kept = [TOKENIZER.decode(ids[0]) for (ids,) in task.calibration(3)]
    assert kept == texts[7:]
    assert LastWordTask(rows(*texts), reserve=3, limit=9).scored_count() == 9


def test_rows_that_cannot_calibrate_do_not_count_as_left_to_it(rows: Callable[..., Source]) -> None:
    texts = [f"the dog {'barks ' * n}milk" for n in range(8)]
    task = LastWordTask(rows(*texts, texts[0], texts[1], " "), reserve=3)
    assert task.scored_count() == 5
    task.bind(TableModel(TOKENIZER, answers))
    assert [TOKENIZER.decode(ids[0]) for (ids,) in task.calibration(3)] == texts[5:]


def test_too_few_rows_to_leave_any(rows: Callable[..., Source]) -> None:
    with pytest.raises(DataError, match="has 3 rows with a last word, and 3 are to be left to calibration"):
        LastWordTask(rows("a dog", "the dog", "my dog"), reserve=3)
