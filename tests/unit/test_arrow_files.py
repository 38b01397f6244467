"""Arrow reads files of a run by itself: where its threads call back into Python, one of them may do so at the end."""

from __future__ import annotations

import io
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qprof.errors import StoreError
from qprof.store import op_scan, tables


class Watched(io.FileIO):
    """A file that knows which threads read it."""

    threads: set[int]

    def read(self, size: int | None = -1, /) -> bytes:
        self.threads.add(threading.get_native_id())
        return super().read(size)

    def readinto(self, buffer: object, /) -> int | None:
        self.threads.add(threading.get_native_id())
        return super().readinto(buffer)  # type: ignore[arg-type]

    def seek(self, place: int, whence: int = 0, /) -> int:
        self.threads.add(threading.get_native_id())
        return super().seek(place, whence)


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The threads that read files of a run through Python."""
    found: set[int] = set()

    def opened(path: Path) -> Watched:
        file = Watched(path)
        file.threads = found
        return file

    monkeypatch.setattr(tables, "open_file", opened)
    return found


def test_no_other_thread_reads_a_table_through_python(tmp_path: Path, threads: set[int]) -> None:
    """One that does when the interpreter ends aborts the process ("terminate called without an active exception")."""
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"variant": ["a", "b"] * 500, "n": range(1000)}), path, row_group_size=100)
    assert tables.read_table(path).num_rows == 1000
    with op_scan.opened(path) as file:
        assert file.read_row_group(0).num_rows == 100
    assert threads <= {threading.get_native_id()}


@pytest.mark.parametrize("name", ["s3:x", "caf\udce9", "a b"])
def test_folders_of_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Neither an address, nor bytes that are no UTF-8, stand in the way."""
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    with open(Path(name) / "t.parquet", "wb") as stream:
        pq.write_table(pa.table({"n": [1]}), stream)
    assert tables.read_table(Path(name) / "t.parquet").num_rows == 1
    with pytest.raises(StoreError, match="missing"):
        tables.read_table(Path(name) / "none.parquet")
