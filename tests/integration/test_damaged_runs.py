"""A run directory that was damaged, or doctored, is told of in one line that names the file; what can be shown is."""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qprof.cli.main import main
from qprof.errors import StoreError
from qprof.findings.verify import VERIFY, Verification, carry_out, profile_again
from qprof.measure.progress import SilentProgress
from qprof.store.run import Run

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "campaigns"))

import run_folders

#: Table -> a command that reads it.
TABLES = {
    "samples.parquet": ["show", "r"],
    "ops.parquet": ["layers", "r", "-v", "b"],
    "op_meta.parquet": ["layers", "r", "-v", "b"],
    "readings.parquet": ["show", "r"],
    "scores.parquet": ["show", "r"],
}

COMMANDS = (
    ["show", "r"],
    ["layers", "r", "-v", "b"],
    ["diff", "r", "a", "b"],
    ["explain", "-q", "r"],
    ["energy", "r"],
    ["check", "r", "--max-p50", "1s"],
    ["export", "r", "--format", "json"],
)

ODD: list[Any] = [None, -1, 0, 1e308, 10**30, "", "x" * 5000, "\x1b[31m\u202e", [], {}, [[]], True, "NaN", {"a": 1}]


@pytest.fixture
def damaged(tmp_path: Path, small_run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a finished run, in the folder that commands are given in."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(small_run, tmp_path / "r")
    return tmp_path / "r"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for place in range(len(content) - 60, len(content) - 8, 7):  # the footer
        content[place] ^= 0x10
    path.write_bytes(content)


def without_a_column(path: Path) -> None:
    pq.write_table(pq.read_table(path).drop_columns(["variant"]), path)


def of_another_type(path: Path) -> None:
    table = pq.read_table(path)
    place = table.column_names.index("variant")
    pq.write_table(table.set_column(place, "variant", pa.array(range(table.num_rows))), path)


def with_a_gap(path: Path) -> None:
    table = pq.read_table(path)
    place = table.column_names.index("variant")
    pq.write_table(table.set_column(place, "variant", pa.nulls(table.num_rows, pa.string())), path)


@pytest.mark.parametrize("damage", [cut, flipped, without_a_column, of_another_type, with_a_gap, Path.unlink])
@pytest.mark.parametrize("name", TABLES)
def test_a_damaged_table_is_named(
    damaged: Path, capsys: pytest.CaptureFixture[str], name: str, damage: Callable[[Path], None]
) -> None:
    damage(damaged / name)
    assert main(TABLES[name]) == 2
    told = capsys.readouterr().err
    assert f"r/{name}: " in told and told.count("\n") == 1
    assert "damaged" in told or "missing" in told


def test_a_column_that_is_not_known_does_no_harm(damaged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in TABLES:
        table = pq.read_table(damaged / name)
        pq.write_table(table.add_column(0, "of_a_later_version", pa.nulls(table.num_rows)), damaged / name)
    for command in COMMANDS:
        assert main(command) == 0, (command, capsys.readouterr().err)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value inside a JSON document."""
    entries = value.items() if isinstance(value, dict) else enumerate(value[:20]) if isinstance(value, list) else ()
    for key, inner in entries:
        yield (*path, key)
        yield from places(inner, (*path, key))


@pytest.mark.parametrize("seed", range(60))
def test_a_manifest_with_anything_in_it_ends_no_command_in_a_traceback(
    damaged: Path, capsys: pytest.CaptureFixture[str], seed: int
) -> None:
    """What is wrong is told in one line, or does not matter to the command; nothing reaches the terminal unescaped."""
    rng = random.Random(seed)
    manifest = json.loads((damaged / "manifest.json").read_text())
    *way, last = rng.choice(list(places(manifest)))
    inner = manifest
    for key in way:
        inner = inner[key]
    if rng.random() < 0.25:
        del inner[last]
    else:
        inner[last] = rng.choice(ODD)
    (damaged / "manifest.json").write_text(json.dumps(manifest))
    for command in rng.sample(COMMANDS, 3):
        code = main(command)
        told = capsys.readouterr()
        assert code in (0, 1, 2)
        assert code != 2 or told.err.count("\n") == 1, told.err
        assert not set("\x1b\u202e") & set(told.out + told.err)


# -- links in a stranger's run directory --------------------------------------------------------------------------


def interrupted(run: Path) -> None:
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["status"] = "interrupted"
    (run / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("place", ["parts", "logs", "predictions", "logs/score.log"])
def test_a_run_is_not_resumed_through_links(
    damaged: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, place: str
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    for left in (damaged / "logs", damaged / "predictions", damaged / "parts"):
        shutil.rmtree(left, ignore_errors=True)
    (damaged / place).parent.mkdir(exist_ok=True)
    (damaged / place).symlink_to(mine / "thesis.txt" if "." in place else mine)
    for complete in (True, False):
        if not complete:
            interrupted(damaged)
        assert main(["run", "--resume", "r"]) == 2
        told = capsys.readouterr().err
        assert f"r/{place}: is a link" in told and told.count("\n") == 1
    assert [path.name for path in mine.iterdir()] == ["thesis.txt"]
    assert (mine / "thesis.txt").read_text() == "years of work"


def test_a_lock_that_is_a_link_is_not_written_through(damaged: Path, tmp_path: Path) -> None:
    """Reading commands take the lock, too, to tell whether a run goes on."""
    (tmp_path / "thesis.txt").write_text("years of work")
    (damaged / ".lock").unlink(missing_ok=True)
    (damaged / ".lock").symlink_to(tmp_path / "thesis.txt")
    interrupted(damaged)
    for command in (["show", "r"], ["run", "--resume", "r"], ["list"]):
        main(command)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_parts_that_a_kill_left_in_a_finished_run_are_dropped(
    damaged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (damaged / "parts").mkdir()
    (damaged / "parts/block-000000.npz").write_bytes(b"of the tables that stand")
    assert main(["run", "--resume", "r"]) == 0
    assert "nothing is left to run" in capsys.readouterr().err
    assert not (damaged / "parts").exists()


@pytest.mark.parametrize("what", ["pipe", "device", "folder"])
@pytest.mark.parametrize("name", ["manifest.json", "samples.parquet", "ops.parquet", "report.json"])
def test_what_is_no_file_is_not_read(damaged: Path, capsys: pytest.CaptureFixture[str], name: str, what: str) -> None:
    """A pipe never ends, and what a link to a device gives has no end."""
    if name == "report.json":
        assert main(["report", "r"]) == 0
        capsys.readouterr()
    (damaged / name).unlink()
    if what == "pipe":
        os.mkfifo(damaged / name)
    elif what == "device":
        (damaged / name).symlink_to("/dev/zero")
    else:
        (damaged / name).mkdir()
    commands = {"report.json": ["plot", "r", "latency", "-o", "f.svg"], "ops.parquet": ["layers", "r", "-v", "b"]}
    code = main(commands.get(name, ["show", "r"]))
    told = capsys.readouterr().err
    if name == "report.json":
        assert code in (0, 2)  # the figure may be drawn from the run itself
    else:
        # A folder without a manifest that is a file is no run.
        assert code == 2 and told.count("\n") == 1 and (name in told or "no such run" in told)


def test_a_page_is_not_written_through_a_link_in_the_run(damaged: Path, tmp_path: Path) -> None:
    thesis, named = tmp_path / "thesis.txt", tmp_path / "named.html"
    thesis.write_text("years of work")
    for place in ("report.html", "report.json", "findings.json"):
        (damaged / place).unlink(missing_ok=True)
        (damaged / place).symlink_to(thesis)
    assert main(["report", "r"]) == 0
    assert main(["explain", "-q", "r"]) == 0
    assert thesis.read_text() == "years of work"
    page = damaged / "report.html"
    assert not page.is_symlink() and page.read_text().lower().startswith("<!doctype html>")
    named.symlink_to(tmp_path / "page.html")  # one that somebody names is followed, as ever
    assert main(["report", "r", "-o", str(named)]) == 0
    assert named.is_symlink() and (tmp_path / "page.html").is_file()


def test_verifications_are_not_made_behind_a_link(
    damaged: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    shutil.rmtree(damaged / VERIFY, ignore_errors=True)
    (damaged / VERIFY).symlink_to(tmp_path / "mine")
    run = Run(damaged)
    with pytest.raises(StoreError, match="verify: is a link"):
        carry_out(run, Verification("1", profile_again(run), ()), SilentProgress())
    assert list((tmp_path / "mine").iterdir()) == []


def test_events_of_inferences_that_are_not_there_are_told(damaged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = pq.read_table(damaged / "samples.parquet")
    places = enumerate(zip(table["kind"].to_pylist(), table["variant"].to_pylist(), strict=True))
    last = max(place for place, of in places if of == ("profiled", "b"))
    kept = [place for place in range(table.num_rows) if place != last]
    pq.write_table(table.take(kept), damaged / "samples.parquet")
    assert main(["layers", "r", "-v", "b"]) == 2
    told = capsys.readouterr().err
    assert "samples.parquet: damaged (it lacks inferences" in told and told.count("\n") == 1


@pytest.mark.parametrize("content", [b"{}", b"[]", b'{"schema_version": "5"}', b'{"schema_version": 99}'])
def test_a_manifest_of_no_version_that_is_known_is_named(
    damaged: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    (damaged / "manifest.json").write_bytes(content)
    assert main(["show", "r"]) == 2
    told = capsys.readouterr().err
    assert "r/manifest.json: " in told and told.count("\n") == 1
    assert ("schema version 99" if b"99" in content else "damaged (schema_version is no number)") in told


def test_a_slice_of_the_campaign(small_run: Path) -> None:
    """tests/campaigns/run_folders.py, on few copies."""
    found = run_folders.campaign(small_run, run_folders.COMMANDS, 3, seed=0)
    assert [text for text in found if text.startswith(("WRONG", "DIED"))] == []
    assert found


def test_a_command_that_reads_no_whole_run_tests_nothing(small_run: Path) -> None:
    with pytest.raises(SystemExit, match="plot r latency of a whole run: refused"):
        run_folders.campaign(small_run, [["plot", "r", "latency"]], 1, seed=0)
