"""What killed processes left for the time being is removed, and what living ones have is not."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from qprof.store import files, own
from qprof.store.cache import Cache
from qprof.store.files import write_text
from qprof.store.own import OwnFolder, sweep

#: A process that makes something in a folder, says so, and would keep it for ever.
OF_A_FOLDER = """
import sys, time
from pathlib import Path
from qprof.store.own import OwnFolder
made = OwnFolder(*([Path(sys.argv[1])] if len(sys.argv) > 1 else []))
(made.path / "model.onnx").write_bytes(b"large")
print(made.path, flush=True)
time.sleep(600)
"""
OF_A_FILE = """
import sys, time
from pathlib import Path
from qprof.store.files import write_atomic
def write(stream):
    stream.write(b"half of it")
    stream.flush()
    print("writing", flush=True)
    time.sleep(600)
write_atomic(Path(sys.argv[1]) / "findings.json", write)
"""


@contextlib.contextmanager
def process(source: str, *arguments: Path, **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that has made its thing, and what it printed."""
    with subprocess.Popen(
        [sys.executable, "-c", source, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    ) as made:
        assert made.stdout is not None
        try:
            yield made, made.stdout.readline().strip()
        finally:
            made.kill()


def test_a_folder_is_left_alone_while_its_process_lives_and_removed_when_it_was_killed(tmp_path: Path) -> None:
    with process(OF_A_FOLDER, tmp_path) as (maker, told):
        sweep(tmp_path)
        assert (Path(told) / "model.onnx").read_bytes() == b"large"
        maker.kill()
        maker.wait()
        assert Path(told).is_dir()
        sweep(tmp_path)
        assert list(tmp_path.iterdir()) == []


def test_folders_lie_where_temporary_files_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with process(OF_A_FOLDER, TMPDIR=str(tmp_path)) as (_, told):
        assert Path(told).parent == tmp_path and Path(told).stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    sweep()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_goes_with_its_block_and_with_what_refers_to_it(tmp_path: Path) -> None:
    with OwnFolder(tmp_path) as folder:
        (folder / "inside").mkdir()
    assert list(tmp_path.iterdir()) == []
    held = OwnFolder(tmp_path)
    assert held.path.is_dir()
    del held
    assert list(tmp_path.iterdir()) == []


def test_only_folders_of_that_very_name_are_swept_and_no_link_is_followed(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    with OwnFolder(tmp_path) as made:
        name = made.name
    (tmp_path / name).symlink_to(mine)
    (tmp_path / f"{name[:-1]}{'1' if name[-1] == '0' else '0'}").write_text("a file")
    kept = ["qprof-scratch-results", "qprof-scratch-", f"{name}-mine", f"qprof-scratch-00000000-{name[-16:]}"]
    for other in kept:
        (tmp_path / other).mkdir()
    before = sorted(tmp_path.iterdir())
    sweep(tmp_path)
    assert sorted(tmp_path.iterdir()) == before
    assert (mine / "thesis.txt").read_text() == "years of work"


def test_sweeping_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    sweep(tmp_path / "nothing")


def test_a_folder_that_is_swept_in_the_moment_before_it_is_held_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept: list[int] = []

    def late(descriptor: int) -> None:
        if not swept:
            sweep(tmp_path)
        swept.append(descriptor)
        hold(descriptor)

    hold = own.hold
    monkeypatch.setattr(own, "hold", late)
    with OwnFolder(tmp_path) as folder:
        assert folder.is_dir() and len(swept) == 2


def test_a_file_is_made_anew_in_that_moment_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []

    def late(descriptor: int) -> None:
        if not held:
            files.drop_temporaries(tmp_path)
        held.append(descriptor)
        hold(descriptor)

    hold = own.hold
    monkeypatch.setattr(own, "hold", late)
    write_text(tmp_path / "page.html", "whole")
    assert (tmp_path / "page.html").read_text() == "whole" and len(held) == 2
    assert os.listdir(tmp_path) == ["page.html"]


def test_the_next_writer_in_a_folder_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    with process(OF_A_FILE, tmp_path) as (writer, told):
        assert told == "writing"
        (half,) = tmp_path.iterdir()
        write_text(tmp_path / "report.html", "whole")
        assert half.read_bytes() == b"half of it"
        writer.kill()
        writer.wait()
        files._drop_once.cache_clear()  # as in another process
        write_text(tmp_path / "report.html", "whole")
        assert os.listdir(tmp_path) == ["report.html"]


def test_temporary_files_of_others_and_links_are_left_alone(tmp_path: Path) -> None:
    names = (".a.0123456789abcdef.tmp", ".a.tmp", "a.qprof-0123456789abcdef.tmp", ".a.qprof-0123.tmp")
    for name in names:
        (tmp_path / name).write_text("another program's")
    (tmp_path / ".b.qprof-0123456789abcdef.tmp").symlink_to(tmp_path / names[0])
    (tmp_path / ".c.qprof-0123456789abcdef.tmp").mkdir()
    os.mkfifo(tmp_path / ".d.qprof-0123456789abcdef.tmp")
    before = {*os.listdir(tmp_path), "mine.txt"}
    write_text(tmp_path / "mine.txt", "whole")
    assert set(os.listdir(tmp_path)) == before
    assert all((tmp_path / name).read_text() == "another program's" for name in names)


def test_the_cache_removes_entries_that_killed_processes_were_making(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QPROF_CACHE", str(tmp_path))
    cache = Cache("things", lambda entry: entry)
    half = []

    def fill(entry: Path) -> None:
        half.append(entry)
        # As if that process had been killed here, and another came to make the same.
        made = OwnFolder(cache.root(), ".new-")
        (made.path / "weights").write_bytes(b"large")
        detached = made._removal.detach()
        assert detached is not None
        os.close(detached[2][1])
        half.append(made.path)

    entry = cache.store("ab" * 32, fill)
    assert entry.is_dir() and not half[0].exists() and half[1].exists()
    cache.store("cd" * 32, lambda folder: None)
    assert not half[1].exists()
