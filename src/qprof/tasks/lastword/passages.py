"""Generated passages whose last word only the whole passage decides, so that a language model can be scored offline.

In the manner of LAMBADA (Paperno et al., arXiv 1606.06031): a few plain sentences bind names, things and places to each
other, several of a kind; the last sentence takes one of them up again and ends in what was bound to it, without a full
stop. Every passage is a pure function of (split, index), and the checksum of its text decides which split may hold it:
none is in two.
"""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from qprof.errors import DataError, StoreError
from qprof.store.files import write_atomic
from qprof.tasks.lastword.passage_words import FILLERS, LEADS, POOLS, RELATIONS

#: Which sixteenths of all checksums a split owns: no text can belong to two.
SPLITS = {"test": range(0, 2), "calibration": range(2, 4), "train": range(4, 16)}
_BUCKETS = 16
#: Bounds of a passage, in words and in sentences.
WORDS = (25, 70)
SENTENCES = (2, 6)


@dataclass(frozen=True, slots=True)
class Passage:
    """A text and where its answers stand: (start, end) of characters, the last one at the end of the text."""

    text: str
    answers: tuple[tuple[int, int], ...]


class _Draw:
    """Random choices. Only `random.Random.random` is used: its sequence is the same in every version of Python."""

    def __init__(self, seed: str) -> None:
        self.random = random.Random(seed).random

    def one(self, options: Sequence[str]) -> str:
        return options[int(self.random() * len(options))]

    def several(self, options: Sequence[str], count: int) -> list[str]:
        """`count` different ones, in random order."""
        found: dict[str, None] = {}
        while len(found) < count:
            found[self.one(options)] = None
        return list(found)


@dataclass(slots=True)
class _Story:
    """What a passage tells: its sentences, and the facts that they state, each a clause that ends in its answer."""

    sentences: list[str]
    facts: list[str]


def _story(draw: _Draw) -> _Story:
    relation = RELATIONS[int(draw.random() * len(RELATIONS))]
    count = 2 + (draw.random() < 0.7) + (draw.random() < 0.3)
    keys = draw.several(POOLS[relation.key], count)
    values = draw.several([value for value in POOLS[relation.value] if value not in keys], count)
    # Mostly one way of putting it for all of them: then it is the key alone that tells them apart.
    alike = draw.one(relation.facts) if draw.random() < 0.7 else None
    facts = [
        (alike or draw.one(relation.facts)).format(key=key, value=value)
        for key, value in zip(keys, values, strict=True)
    ]
    sentences = _told(draw, facts)
    if draw.random() < 0.85:
        town = draw.one([town for town in POOLS["town"] if town not in (*keys, *values)])
        sentences.insert(0, draw.one(relation.openings).format(town=town))
    if draw.random() < 0.4:
        sentences.insert(1 + int(draw.random() * len(sentences)), draw.one(FILLERS))
    return _Story(sentences, facts)


def _told(draw: _Draw, facts: Sequence[str]) -> list[str]:
    """Sentences of one or two facts each."""
    told: list[str] = []
    left = list(facts)
    while left:
        clause = left.pop(0)
        if left and draw.random() < 0.5:
            clause += draw.one((", and ", ", while ", ", but ")) + left.pop(0)
        told.append(f"{clause[0].upper()}{clause[1:]}.")
    return told


def _fits(sentences: int, text: str) -> bool:
    return SENTENCES[0] <= sentences <= SENTENCES[1] and WORDS[0] <= text.count(" ") + 1 <= WORDS[1]


def _belongs(text: str, split: str) -> bool:
    return zlib.crc32(text.encode()) % _BUCKETS in SPLITS[split]


def render_passage(split: str, index: int) -> str:
    """Passage number `index` (>= 0) of `split` ("test", "calibration" or "train"); raise `DataError` otherwise."""
    if split not in SPLITS:
        raise DataError(f"no split {split!r} of the generated passages: use one of {', '.join(SPLITS)}")
    if index < 0:
        raise DataError(f"passage index {index} of split {split!r} is negative: passages are numbered from 0")
    draw = _Draw(f"{split} passage {index}")
    while True:
        story = _story(draw)
        text = " ".join((*story.sentences, f"{draw.one(LEADS)} {draw.one(story.facts)}"))
        if _fits(len(story.sentences) + 1, text) and _belongs(text, split):
            return text


def render_exercise(index: int) -> Passage:
    """Exercise number `index`: a story that takes up every one of its facts again, to learn more from.

    By its checksum, the text is of the train split, so that it is no passage of another.
    """
    draw = _Draw(f"exercise {index}")
    while True:
        story = _story(draw)
        sentences, answers = [*story.sentences], []
        for fact in draw.several(story.facts, len(story.facts)):
            lead = f"{draw.one(LEADS)} " if draw.random() < 0.3 else ""
            clause = f"{lead}{fact}"
            sentences.append(f"{clause[0].upper()}{clause[1:]}.")
            end = sum(len(sentence) + 1 for sentence in sentences) - 2
            answers.append((end - len(fact.rpartition(" ")[2]), end))
        text = " ".join(sentences)[:-1]
        if _belongs(text, "train"):
            return Passage(text, tuple(answers))


def passages(split: str, count: int) -> Iterator[str]:
    """Passages 0 .. count-1 of `split`. Raises `DataError` for an unknown split."""
    for index in range(count):
        yield render_passage(split, index)


def write_split(folder: Path, split: str, count: int) -> Path:
    """Write passages 0 .. count-1 of `split` and return the file, `folder`/SPLIT.jsonl: one {"text": ...} a line.

    The file appears complete or not at all. Raises `DataError` for an unknown split, a count below 1, or a file that
    cannot be written.
    """
    if count < 1:
        raise DataError(f"cannot write {count} passages to {folder}: ask for at least 1")
    lines = "".join(json.dumps({"text": text}) + "\n" for text in passages(split, count))
    path = folder / f"{split}.jsonl"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(path, lambda stream: stream.write(lines.encode()))
    except (OSError, StoreError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__  # a StoreError speaks of a run
        told = getattr(cause, "strerror", None) or error
        raise DataError(f"cannot write the generated passages to {path}: {told}") from error
    return path
