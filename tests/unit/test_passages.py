"""The generated passages: repeatable, in one split only, and not to be solved without reading them."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from qprof.errors import DataError
from qprof.tasks.lastword import passages
from qprof.tasks.lastword.passage_words import POOLS, RELATIONS
from qprof.tasks.lastword.passages import SENTENCES, SPLITS, WORDS, render_exercise, render_passage, write_split

KIND = {word: kind for kind, words in POOLS.items() for word in words}


@pytest.fixture(scope="module")
def train() -> list[str]:
    return list(passages.passages("train", 12000))


@pytest.fixture(scope="module")
def test() -> list[str]:
    return list(passages.passages("test", 500))


def answer(text: str) -> str:
    return text.rpartition(" ")[2]


def sentences(text: str) -> list[str]:
    return re.split(r"(?<=\.) ", text)


def words(text: str) -> list[str]:
    return [word.lower() if word.lower() in KIND else word for word in re.findall(r"[A-Za-z-]+", text)]


@pytest.mark.parametrize("split", SPLITS)
def test_a_passage_is_a_function_of_split_and_index(split: str) -> None:
    assert render_passage(split, 7) == render_passage(split, 7) == list(passages.passages(split, 8))[7]
    assert render_passage(split, 7) != render_passage(split, 8)


def test_the_text_is_pinned() -> None:
    # Weights and measured accuracy ship with the package: a passage must not change unnoticed.
    assert render_passage("test", 0) == (
        "The cook had travelled a great deal. The sun was already low. The best thing in Bombay is the salad, and the "
        "best thing in Berlin is the cherries. The best thing in Dublin is the fish. The best thing in Krakow is the "
        "potatoes. It was only a small matter, but it was true that the best thing in Krakow is the potatoes"
    )


def test_no_text_can_be_in_two_splits(train: list[str], test: list[str]) -> None:
    owned = [bucket for buckets in SPLITS.values() for bucket in buckets]
    assert sorted(owned) == list(range(passages._BUCKETS))
    calibration = set(passages.passages("calibration", 500))
    exercises = {render_exercise(index).text for index in range(500)}
    assert not calibration & set(test) and not set(train) & (calibration | set(test))
    for split, texts in (("train", {*train[:500], *exercises}), ("test", test), ("calibration", calibration)):
        assert all(passages._belongs(text, split) for text in texts)
        assert not any(passages._belongs(text, other) for text in texts for other in SPLITS if other != split)


def test_hardly_a_passage_is_told_twice(train: list[str]) -> None:
    assert len(set(train)) >= 0.999 * len(train)


def test_a_passage_is_a_few_plain_sentences(test: list[str]) -> None:
    for text in test:
        assert WORDS[0] <= len(text.split(" ")) <= WORDS[1]
        assert SENTENCES[0] <= len(sentences(text)) <= SENTENCES[1]
        assert all(re.match(r'[A-Z"]', sentence) for sentence in sentences(text))
        assert text.isascii() and "{" not in text and "  " not in text
        assert re.search(r" [A-Za-z][A-Za-z-]+$", text), "ends in its last word, without punctuation"


def test_there_is_variety() -> None:
    assert len(RELATIONS) >= 12
    assert len(KIND) == sum(map(len, POOLS.values())) > 400  # no word of two kinds
    assert len({fact for relation in RELATIONS for fact in relation.facts}) > 35
    for relation in RELATIONS:
        assert all("{key}" in fact and "{value}" in fact for fact in relation.facts)
        assert all(fact.endswith((" {value}", " {key}")) for fact in relation.facts)


def test_the_answer_was_introduced_and_is_not_the_only_one_of_its_kind(test: list[str]) -> None:
    for text in test:
        *before, _ = sentences(text)
        introduced = words(" ".join(before))
        assert answer(text) in introduced
        assert len({word for word in introduced if KIND.get(word) == KIND[answer(text)]}) >= 2


def test_the_answer_is_what_the_facts_say(test: list[str]) -> None:
    for text in test:
        *before, last = sentences(text)
        clauses = [words(clause) for clause in re.split(r"\. |, (?:and|while|but) ", " ".join(before))]
        holds = [clause for clause in clauses if answer(text) in clause]
        asked = [word for word in words(last)[:-1] if word in KIND and any(word in clause for clause in holds)]
        assert asked, text


def test_mostly_the_key_alone_tells_the_facts_apart(test: list[str]) -> None:
    """The words between the key and the answer stand in other facts of the passage as well."""
    shared = 0
    for text in test:
        *before, last = sentences(text)
        told = " ".join(before).lower()
        phrase = " " + " ".join(last.split(" ")[-2:-1]).lower() + " "
        shared += told.count(phrase) >= 2
    assert shared / len(test) > 0.6


def test_the_last_sentence_alone_does_not_decide(train: list[str]) -> None:
    answers: dict[str, list[str]] = defaultdict(list)
    for text in train:
        answers[" ".join(text.split(" ")[-4:-1])].append(answer(text))
    repeated = [found for found in answers.values() if len(found) >= 5]
    assert len(repeated) > 100
    assert all(len(set(found)) >= 2 for found in repeated)
    assert sum(len(set(found)) / len(found) for found in repeated) / len(repeated) > 0.6


def baseline(train: list[str], test: list[str], known: int) -> float:
    """Accuracy of the answer that most often follows the last `known` words in the train split."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for text in train:
        for length in range(known + 1):
            counts[" ".join(text.split(" ")[-1 - length : -1])][answer(text)] += 1
    right = 0
    for text in test:
        ends = (" ".join(text.split(" ")[-1 - length : -1]) for length in range(known, -1, -1))
        right += next(counts[end] for end in ends if end in counts).most_common(1)[0][0] == answer(text)
    return right / len(test)


def test_frequencies_do_not_solve_it(train: list[str], test: list[str]) -> None:
    for known in (0, 1, 2, 6):
        assert baseline(train, test, known) < 0.2


def test_the_first_or_last_of_its_kind_does_not_solve_it(test: list[str]) -> None:
    for place in (0, -1):
        right = 0
        for text in test:
            introduced = words(" ".join(sentences(text)[:-1]))
            right += [word for word in introduced if KIND.get(word) == KIND[answer(text)]][place] == answer(text)
        assert right / len(test) < 0.5


def test_an_exercise_asks_for_every_pair() -> None:
    for index in range(200):
        exercise = render_exercise(index)
        asked = [exercise.text[start:end] for start, end in exercise.answers]
        assert 2 <= len(asked) <= 4 and exercise.text.endswith(asked[-1])
        assert len(set(asked)) == len(asked)
        assert all(words(exercise.text).count(word) >= 2 and word in KIND for word in asked)
        assert all(exercise.text[end : end + 1] in ("", ".") for _, end in exercise.answers)


def test_a_split_is_written_as_lines_of_json(tmp_path: Path) -> None:
    path = write_split(tmp_path / "new" / "data", "calibration", 20)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [{"text": text} for text in passages.passages("calibration", 20)]
    assert path == tmp_path / "new" / "data" / "calibration.jsonl"
    assert write_split(path.parent, "calibration", 3) == path  # replaces what is there
    assert len(path.read_text(encoding="utf-8").splitlines()) == 3
    assert [entry.name for entry in path.parent.iterdir()] == ["calibration.jsonl"]


def test_what_cannot_be_written_is_a_data_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="no split 'dev' of the generated passages: use one of test, calibration"):
        write_split(tmp_path, "dev", 3)
    with pytest.raises(DataError, match="cannot write 0 passages"):
        write_split(tmp_path, "test", 0)
    with pytest.raises(DataError, match="index -1 of split 'test' is negative"):
        render_passage("test", -1)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(DataError, match=r"cannot write the generated passages to .*file"):
        write_split(file, "test", 1)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("qprof.store.files.os.replace", full)
    with pytest.raises(DataError, match="No space left on device"):
        write_split(tmp_path, "test", 1)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
