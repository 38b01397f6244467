"""Rows of text: what is read, where it is split, and what a bad file is told."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from qprof.errors import DataError
from qprof.tasks.lastword.data import Source, digest, read_rows, split_last_word


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a stone of signs", ("a stone of", "signs")),
        ("two  spaces", ("two ", "spaces")),  # the space before the last one stays in the context
        ('he said "no', ("he said", '"no')),
        ("in front of\n\nPower rises", ("in front of\n\nPower", "rises")),
        ("in front of\n\nPower", ("in front", "of\n\nPower")),  # at spaces alone, as lm-evaluation-harness splits
        ("ends in a newline\n", ("ends in a", "newline\n")),
        ("one", None),
        ("", None),
        (" word", None),
        ("\n word", None),
        ("word ", None),
        ("tab\tbed", None),
    ],
)
def test_split_at_the_last_space(text: str, parts: tuple[str, str] | None) -> None:
    assert split_last_word(text) == parts


def test_lines_of_a_file_keep_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes('{"text": "one two", "id": 7}\n\n{"text": "zw\u00f6lf drei"}\r\n   \n{"text": ""}'.encode())
    rows = read_rows(Source(str(path)))
    assert [(row.place, row.text) for row in rows.rows] == [(1, "one two"), (3, "zw\u00f6lf drei"), (5, "")]
    assert rows.unit == "line"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n  \n", "is empty"),
        (b'{"text": "a b"}\n{"text": ', "line 2: is not JSON"),
        (b'{"text": "a b"}\n\n{"words": "a b"}', "line 3: is an object with ['words'], without \"text\""),
        (b'["a b"]', 'line 1: is a list, without "text"'),
        (b'{"text": 5}', 'line 1: "text" is int, not a string'),
        (b'{"text": null}', 'line 1: "text" is NoneType, not a string'),
        (b'{"text": "\xff"}', "line 1: is not JSON"),
        (b'{"text": "\\ud800 a"}', 'line 1: "text" holds half a character'),
        (b"[" * 100_000, "line 1: is not JSON"),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_rows(Source(str(path)))
    assert str(path) in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_strange_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no\.jsonl: cannot be read \(No such file or directory\)"):
        read_rows(Source(str(tmp_path / "no.jsonl")))
    (tmp_path / "text.csv").write_text("text\na b\n")
    with pytest.raises(DataError, match=r"ends in \.csv; give a \.jsonl or \.parquet file"):
        read_rows(Source(str(tmp_path / "text.csv")))


def test_parquet_file(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "rows.parquet"
    parquet.write_table(pa.table({"text": ["one two", "three four"], "n": [1, 2]}), path)
    rows = read_rows(Source(str(path)))
    assert [(row.place, row.text) for row in rows.rows] == [(1, "one two"), (2, "three four")]
    assert rows.unit == "row"
    parquet.write_table(pa.table({"text": ["one two", None]}), path)
    with pytest.raises(DataError, match=r'row 2: "text" is NoneType'):
        read_rows(Source(str(path)))
    parquet.write_table(pa.table({"words": ["one two"]}), path)
    with pytest.raises(DataError, match=r"has the columns \['words'\], but no \"text\""):
        read_rows(Source(str(path)))
    path.write_bytes(b"PAR1")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        read_rows(Source(str(path)))
    parquet.write_table(pa.table({"text": ["one two", "three four"]}), path, compression="none", use_dictionary=False)
    path.write_bytes(path.read_bytes().replace(b"one", b"\xff\xfe\xff"))
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        read_rows(Source(str(path)))


@pytest.fixture
def hub_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as the hub lays data sets out: two configurations, of which one has two splits."""
    pytest.importorskip("datasets")
    pa = pytest.importorskip("pyarrow")
    import datasets.config
    from pyarrow import parquet

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    folder = tmp_path / "lambada"
    (folder / "data" / "de").mkdir(parents=True)
    (folder / "data" / "en").mkdir()
    parquet.write_table(pa.table({"text": ["one two", "three four"]}), folder / "data" / "en" / "test.parquet")
    parquet.write_table(pa.table({"text": ["train this"]}), folder / "data" / "en" / "train.parquet")
    parquet.write_table(pa.table({"text": ["eins zwei"], "id": [3]}), folder / "data" / "de" / "test.parquet")
    configs = [
        {
            "config_name": "default",
            "data_files": [{"split": split, "path": f"data/en/{split}.parquet"} for split in ("test", "train")],
        },
        {"config_name": "de", "data_files": [{"split": "test", "path": "data/de/test.parquet"}]},
    ]
    (folder / "README.md").write_text(f"---\nconfigs: {json.dumps(configs)}\n---\n")
    return folder


def test_folder_in_the_layout_of_the_hub(hub_folder: Path) -> None:
    rows = read_rows(Source(str(hub_folder)))
    assert [(row.place, row.text) for row in rows.rows] == [(1, "one two"), (2, "three four")]
    assert [row.text for row in read_rows(Source(str(hub_folder), split="train")).rows] == ["train this"]
    assert [row.text for row in read_rows(Source(str(hub_folder), config="de")).rows] == ["eins zwei"]


def test_folder_of_jsonl(hub_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "lines"
    folder.mkdir()
    (folder / "test.jsonl").write_text('{"id": 3, "text": "one two"}\n{"id": 4, "text": "three four"}\n')
    assert [row.text for row in read_rows(Source(str(folder))).rows] == ["one two", "three four"]


def test_split_and_configuration_that_do_not_exist(hub_folder: Path) -> None:
    with pytest.raises(DataError, match=r"split 'val' of configuration 'default' cannot be loaded \(Unknown split"):
        read_rows(Source(str(hub_folder), split="val"))
    with pytest.raises(DataError, match=r"configuration 'fr' cannot be loaded \(BuilderConfig 'fr' not found"):
        read_rows(Source(str(hub_folder), config="fr"))


def test_a_folder_with_a_script_is_not_run(hub_folder: Path, tmp_path: Path) -> None:
    scripted = tmp_path / "scripted"
    scripted.mkdir()
    (scripted / "scripted.py").write_text("raise SystemExit('it ran')\n")
    with pytest.raises(DataError, match="cannot be loaded"):
        read_rows(Source(str(scripted)))


@pytest.mark.parametrize("name", ["lambada", "/a", "a/", "a/b/c", "a/b@", "../x", "a/..", "a/b@../c", "a/b\n"])
def test_hub_names_that_are_none(name: str) -> None:
    with pytest.raises(DataError, match="is not hf://datasets/ORG/NAME"):
        read_rows(Source(f"hf://datasets/{name}"))


def test_a_hub_data_set_is_asked_for_by_name_split_and_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    asked = {}

    def load(path: str, **options: object) -> object:
        asked.update(options, path=path)
        raise ConnectionError("Couldn't reach 'org/name' on the Hub\n(offline)")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(DataError, match=r"Couldn't reach 'org/name' on the Hub \(offline\)") as caught:
        read_rows(Source("hf://datasets/org/name@v1", split="validation", config="en"))
    # With the prefix: a folder ./org/name is another thing.
    assert asked == {"path": "hf://datasets/org/name", "name": "en", "split": "validation", "revision": "v1"}
    assert "\n" not in str(caught.value)


def test_digest_depends_on_texts_their_order_and_their_bounds() -> None:
    expected = hashlib.sha256(b"\x01" + bytes(7) + b"a" + b"\x02" + bytes(7) + "\u00e9".encode()).hexdigest()
    assert digest(["a", "\u00e9"]) == expected
    assert len({digest(["ab", "c"]), digest(["a", "bc"]), digest(["c", "ab"]), digest(["abc"])}) == 4


def test_a_hub_name_never_means_a_local_folder(
    hub_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "org").mkdir()
    hub_folder.rename(tmp_path / "org" / "lambada")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"hf://datasets/org/lambada: split 'test' .* cannot be loaded"):
        read_rows(Source("hf://datasets/org/lambada"))
    assert len(read_rows(Source("org/lambada")).rows) == 2  # which is what a path means
