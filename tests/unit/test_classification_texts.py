"""Tables of texts: how they are told from lists of files, and what of them a model is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from qprof.errors import DataError
from qprof.record.tensors import TensorSpec
from qprof.tasks.classification.data.source import read_examples
from qprof.tasks.classification.data.texts import TextSamples

SPECS = [TensorSpec("input_ids", (1, 4), "int64"), TensorSpec("attention_mask", (1, 4), "int64")]


class LetterTokenizer:
    """A token for each letter, as a Hugging Face tokenizer is called."""

    pad_token = "?"

    def __call__(self, text: str, *, truncation: bool, max_length: int, padding: str) -> dict[str, Any]:
        assert truncation and padding == "max_length"
        ids = [ord(letter) for letter in text][:max_length]
        rest = max_length - len(ids)
        return {"input_ids": ids + [0] * rest, "attention_mask": [1] * len(ids) + [0] * rest}


def read(path: Path, content: str) -> TextSamples:
    path.write_text(content, encoding="utf-8")
    found = read_examples(str(path))
    assert isinstance(found, TextSamples)
    return found


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'text,label\n"one, two",pos\nthree,neg\n'),
        ("a.tsv", "label\tsentence\npos\tone, two\nneg\tthree\n"),
        ("a.jsonl", '{"text": "one, two", "label": "pos"}\n\n{"text": "three", "label": "neg"}\n'),
        ("a.csv", '\ufefftext,label\n"one, two",pos\n\nthree,neg\n'),
    ],
)
def test_texts_are_read(tmp_path: Path, name: str, content: str) -> None:
    found = read(tmp_path / name, content)
    assert list(found.texts) == ["one, two", "three"]
    assert found.labels.names == ["neg", "pos"] and list(found.labels.numbers) == [1, 0]
    assert found.content(0) == b"one, two"


def test_a_text_of_several_lines_is_one(tmp_path: Path) -> None:
    assert list(read(tmp_path / "a.csv", 'text,label\n"one\ntwo",0\n').texts) == ["one\ntwo"]


def test_a_model_is_given_tokens(tmp_path: Path) -> None:
    found = read(tmp_path / "a.csv", "text,label\nabcdef,0\na,1\n")
    assert found.arrays(0)["text"] == "abcdef"  # before there is a model
    found.tokenize_with(LetterTokenizer(), SPECS)
    assert found.arrays(0)["input_ids"].tolist() == [97, 98, 99, 100]
    assert found.arrays(1)["attention_mask"].tolist() == [1, 0, 0, 0]


def test_what_is_missing_is_told(tmp_path: Path) -> None:
    found = read(tmp_path / "a.csv", "text,label\none,0\n")
    with pytest.raises(DataError, match="brings no tokenizer"):
        found.tokenize_with(None, SPECS)
    with pytest.raises(DataError, match="differ in length"):
        found.tokenize_with(LetterTokenizer(), [*SPECS, TensorSpec("other", (1, 9), "int64")])
    for content, told in (
        ("text,label\none\n", "row 2: has no text or no label"),
        ("text,label\n", "holds no texts"),
    ):
        with pytest.raises(DataError, match=told):
            read(tmp_path / "a.csv", content)
    with pytest.raises(DataError, match="line 2: has other keys"):
        read(tmp_path / "a.jsonl", '{"text": "a", "label": 0}\n{"words": "b"}\n')


def test_lists_of_files_and_of_ids_are_what_they_were(tmp_path: Path) -> None:
    (tmp_path / "ids.jsonl").write_text('{"ids": [1, 2], "label": 0}\n{"ids": [3], "label": 1}\n')
    found = read_examples(str(tmp_path / "ids.jsonl"))
    assert not isinstance(found, TextSamples) and found.arrays(1)["ids"].tolist() == [3]
