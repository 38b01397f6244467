"""The cache of entries that are folders: whole or absent, and addressed by what shapes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from qprof.errors import ModelError, StoreError
from qprof.store.cache import Cache, content_sha256, files_sha256, json_sha256


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("QPROF_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "things"


def read(entry: Path) -> str | None:
    """An entry is two files that belong together."""
    try:
        one, two = ((entry / name).read_text() for name in ("one", "two"))
    except OSError:
        return None
    return one if one == two else None


def fill_with(text: str) -> object:
    def fill(folder: Path) -> None:
        for name in ("one", "two"):
            (folder / name).write_text(text)

    return fill


CACHE: Cache[str] = Cache("things", read, "cached thing")


def test_an_entry_is_a_folder_with_all_that_was_written(root: Path) -> None:
    assert CACHE.lookup("ab12") is None
    assert CACHE.store("ab12", fill_with("x")) == "x"
    assert CACHE.lookup("ab12") == "x"
    assert sorted(path.name for path in (root / "ab" / "ab12").iterdir()) == ["one", "two"]
    assert CACHE.entry("ab12") == root / "ab" / "ab12"


def test_the_first_entry_stays() -> None:
    CACHE.store("ab12", fill_with("first"))
    assert CACHE.store("ab12", fill_with("second")) == "first"


def test_a_damaged_entry_is_removed_and_made_again(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    CACHE.store("ab12", fill_with("x"))
    (root / "ab" / "ab12" / "two").write_text("y")
    assert CACHE.lookup("ab12") is None
    assert "the cached thing is damaged" in caplog.text
    assert not (root / "ab" / "ab12").exists()
    assert CACHE.store("ab12", fill_with("z")) == "z"


@pytest.mark.parametrize("error", [ModelError("no"), KeyboardInterrupt()])
def test_a_making_that_fails_leaves_nothing(root: Path, error: BaseException) -> None:
    def fill(folder: Path) -> None:
        (folder / "one").write_text("half")
        raise error

    with pytest.raises(type(error)):
        CACHE.store("ab12", fill)
    assert CACHE.lookup("ab12") is None
    assert list(root.glob(".*")) == list(root.glob("ab/*")) == []


def test_an_entry_that_is_never_intact_is_no_endless_loop() -> None:
    def fill(folder: Path) -> None:
        (folder / "one").write_text("alone")

    with pytest.raises(StoreError, match="was damaged as soon as it was written"):
        CACHE.store("ab12", fill)


def test_a_full_disk_says_where_else() -> None:
    def fill(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(StoreError, match=r"No space left on device\); set QPROF_CACHE"):
        CACHE.store("ab12", fill)


def test_kinds_do_not_share_entries() -> None:
    CACHE.store("ab12", fill_with("x"))
    assert Cache("others", read).lookup("ab12") is None


def test_digests_of_facts_and_of_chosen_files(tmp_path: Path) -> None:
    assert json_sha256({"a": 1, "b": None}) == json_sha256({"b": None, "a": 1}) != json_sha256({"a": 1})
    for name, content in {"a": b"1", "b": b"2", "c": b"3"}.items():
        (tmp_path / name).write_bytes(content)
    some = files_sha256(tmp_path, [tmp_path / "b", tmp_path / "a"])
    assert some == files_sha256(tmp_path, [tmp_path / "a", tmp_path / "b"])
    assert files_sha256(tmp_path, [tmp_path / "a", tmp_path / "b", tmp_path / "c"]) == content_sha256(tmp_path) != some
