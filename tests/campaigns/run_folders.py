"""Damages run directories and folders of searches in every way that a stranger could, and gives them to commands.

    python tests/campaigns/run_folders.py --count 1000 [--seed 0] [--keep FOLDER]

Of a whole run with its findings, report and verifications (and of a finished search), one file at a time is changed:
values of its JSON, cells, columns and bytes of its tables, or what it is (a link out of the run, a folder, a pipe, a
device, nothing). One command reads it, in a forked child with a limit of memory and a time limit. A command may show
what can be shown, or end with 1 or with 2 and one line. Wrong are: a traceback, a hang, a death, more than one line,
a raw escape on the terminal, and a file changed or made outside the run. Prints one of each, and the counts.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import hashlib
import io
import json
import os
import random
import resource
import shutil
import sys
import tempfile
import time
import traceback
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mutations import Late, limited, mutated

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

_BATCH = 20
_LIMIT_S = 120
_LIMIT_BYTES = 8 << 30

#: Of a run with variants a and b. FILE stands for a new file outside the run.
COMMANDS: list[list[str]] = [
    ["show", "r"],
    ["show", "r", "--scores"],
    ["show", "r", "--json"],
    ["layers", "r", "-v", "b"],
    ["layers", "r", "-v", "b", "--errors"],
    ["diff", "r", "a", "b"],
    ["explain", "-q", "r"],
    ["explain", "-q", "--json", "r"],
    ["energy", "r"],
    ["flame", "r", "-v", "b", "-o", "FILE.svg"],
    ["report", "r"],
    ["report", "r", "-o", "FILE"],
    ["report", "r/report.json", "-o", "FILE"],
    ["plot", "r", "latency-bars", "-o", "FILE.svg"],
    *(["export", "r", "--format", form, "-o", "FILE"] for form in ("json", "csv", "markdown", "perfetto", "parquet")),
    ["sql", "r"],
    ["sql", "r", "select count(*) from samples"],
    ["list", "."],
    ["check", "r", "--max-p50", "1s"],
    ["check", "r", "--against", "whole"],
    ["run", "--resume", "r", "-q"],
]
SEARCH_COMMANDS = [["search", "--resume", "r", "-q"], ["search", "--resume", "r", "-q", "--json"], ["list", "."]]

#: What is told in the place of a run.
_WOULD_RUN = "a run would begin here"

#: Characters that a terminal acts on.
RAW = set("\x1b\u202e\x07\x9b")


# -- what is damaged ----------------------------------------------------------------------------------------------


def make_run(folder: Path) -> Path:
    """A finished run of two models with all that commands add to it."""
    import tflite_builder
    from command_line import QUICK, CommandLine

    line = CommandLine(folder, patience_s=600)
    (folder / "a.tflite").write_bytes(tflite_builder.tiny_conv_net(size=32, channels=8))
    (folder / "b.tflite").write_bytes(tflite_builder.tiny_int8_net(size=32, channels=8))
    for words in (["run", "a.tflite", "b.tflite", *QUICK, "-o", "whole"], ["explain", "whole", "--verify", "-q"]):
        done = line(*words)
        if done.code != 0:
            raise SystemExit(f"{words}: {done.err}")
    return folder / "whole"


def make_search(folder: Path) -> Path:
    """A search of layers in float that is over."""
    from colour_models import colour_net, write_colours
    from command_line import QUICK, CommandLine

    (folder / "net.tflite").write_bytes(colour_net())
    write_colours(folder / "data", each=20)
    line = CommandLine(folder, patience_s=600)
    given = ("net.tflite", "--images", "data", "--figure", "size", "--budget", "1s", "-q")
    done = line("search", *given, "-o", "search", *QUICK, "--set=task.calibration_samples=8")
    if done.code != 0:
        raise SystemExit(f"search: {done.err}")
    return folder / "search"


def damaged(run: Path, rng: random.Random, outside: Path) -> tuple[Path, str]:
    """Change one thing of a run; returns where, and what."""
    files = sorted(path for path in run.rglob("*") if path.is_file() and path.name != ".lock")
    kinds: dict[str, list[Path]] = collections.defaultdict(list)
    for path in files:
        kinds[path.suffix if path.parent == run else "inside"].append(path)
    path = rng.choice(kinds[rng.choice(sorted(kinds))])
    if rng.random() < 0.3:
        path = rng.choice([path, *(parent for parent in path.parents if run in parent.parents)])
        return path, _replaced(path, rng, outside)
    if path.suffix == ".parquet" and rng.random() < 0.6:
        return path, _cells_changed(path, rng)
    path.write_bytes(mutated(path.read_bytes() or b"\0", rng, path.suffix == ".json"))
    return path, f"bytes of {path.relative_to(run)}"


def _replaced(path: Path, rng: random.Random, outside: Path) -> str:
    was_folder = path.is_dir()
    if was_folder:
        shutil.rmtree(path)
    else:
        path.unlink()
    how = rng.choice(
        ("link to a file", "link to a folder", "link to itself", "pipe", "device", "folder", "file", "gone")
    )
    if how == "link to a file":
        path.symlink_to(outside / "mine.json")
    elif how == "link to a folder":
        path.symlink_to(outside)
    elif how == "link to itself":
        path.symlink_to(path)
    elif how == "pipe":
        os.mkfifo(path)
    elif how == "device":
        path.symlink_to("/dev/zero")
    elif how == "folder":
        path.mkdir()
    elif how == "file":
        path.write_bytes(b"")
    return f"{path.name}: {how}"


def _cells_changed(path: Path, rng: random.Random) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    name = rng.choice(table.column_names)
    place = table.column_names.index(name)
    how = rng.choice(("drop", "text", "gaps", "numbers", "odd", "fewer", "twice"))
    if how == "drop":
        table = table.drop_columns([name])
    elif how == "text":
        table = table.set_column(place, name, pa.array(["\x1b[31mx"] * table.num_rows, pa.string()))
    elif how == "gaps":
        table = table.set_column(place, name, pa.nulls(table.num_rows))
    elif how == "numbers":
        table = table.set_column(place, name, pa.array(range(table.num_rows), pa.int64()))
    elif how == "odd":
        values = table[name].to_pylist()
        odd: list[Any] = [-5, 0, 2**31 - 1] if values and isinstance(values[0], int) else ["zzz", "", "../../x"]
        if values and isinstance(values[0], float):
            odd = [float("nan"), float("inf"), -1.0]
        values = [rng.choice(odd) if rng.random() < 0.2 else value for value in values]
        with contextlib.suppress(pa.ArrowException):
            table = table.set_column(place, name, pa.array(values))
    elif how == "fewer":
        table = table.slice(0, rng.choice((0, 1, table.num_rows // 2)))
    else:
        table = pa.concat_tables([table, table])
    pq.write_table(table, path)
    return f"{path.name}: {how} of {name}"


# -- what commands make of it -------------------------------------------------------------------------------------


def outcome(command: list[str], name: str, what: str, watched: Callable[[], str]) -> str:
    """How one command ended, in a word, or what is wrong with it."""
    from qprof.cli.main import main

    before = watched()
    out, err = io.StringIO(), io.StringIO()
    try:
        with limited(_LIMIT_S), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(command)
    except SystemExit as error:
        code = int(error.code or 0)
    except Late:
        return f"WRONG: {command[0]} takes more than {_LIMIT_S} s ({what})"
    except BaseException as error:
        own = [frame for frame in traceback.extract_tb(error.__traceback__) if "/qprof/" in frame.filename]
        at = f"{Path(own[-1].filename).name}:{own[-1].lineno}" if own else "?"
        return f"WRONG: {command[0]}: {type(error).__name__} at {at} ({what}): {str(error)[:100]}"
    told = err.getvalue()
    if RAW & set(out.getvalue() + told):
        return f"WRONG: {command[0]} prints an escape ({what})"
    if code not in (0, 1, 2):
        return f"WRONG: {command[0]} ends with {code} ({what}): {told[-200:]}"
    if code == 2 and told.count("\n") != 1:
        return f"WRONG: {command[0]} tells {told.count(chr(10))} lines ({what}): {told[:200]}"
    # A folder without its manifest is no run at all; and a run that would be made anew is not made here.
    told_so = name in told or (name == "manifest.json" and "no such run" in told) or _WOULD_RUN in told
    if code == 2 and not told_so:
        return f"WRONG: {command[0]} does not name {name} ({what}): {told[:200]}"
    if watched() != before:
        return f"WRONG: {command[0]} changes files outside of the run ({what})"
    return ("read", "ended with 1", "refused")[code]


def state_of(folder: Path) -> str:
    """A digest of all that lies in a folder."""
    found = [(str(path), path.read_bytes() if path.is_file() else b"") for path in sorted(folder.rglob("*"))]
    return hashlib.sha256(repr(found).encode()).hexdigest()


#: A seed of which nothing is damaged.
_WHOLE = -1


def _child(place: Path, whole: Path, commands: list[list[str]], seeds: range) -> list[str]:
    """What became of each seed's commands, up to the one that killed the child, if one did."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        resource.setrlimit(resource.RLIMIT_AS, (_LIMIT_BYTES, _LIMIT_BYTES))
        _start_nothing()
        with os.fdopen(writer, "w") as told:
            for seed in seeds:
                for text in _one(place, whole, commands, seed):
                    told.write(text.replace("\n", " ") + "\n")
                told.write("done\n")
                told.flush()
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as told:
        found = told.read().splitlines()
    _, status = os.waitpid(pid, 0)
    if found.count("done") < len(seeds):
        found += [f"DIED: status {status} (seed {seeds[found.count('done')]})", "done"]
    return found


def _one(place: Path, whole: Path, commands: list[list[str]], seed: int) -> list[str]:
    """What became of the commands that read one damaged copy; of all of them, of one that is whole."""
    rng = random.Random(f"run {seed}")
    outside = place / "outside"
    for left in (place / "here", outside):
        shutil.rmtree(left, ignore_errors=True)
    outside.mkdir()
    (outside / "mine.json").write_text("{}")
    (place / "here").mkdir()
    os.chdir(place / "here")
    os.environ |= {"QPROF_RUNS": str(place / "here"), "QPROF_CACHE": str(place / "cache")}
    shutil.copytree(whole, place / "here" / "r", symlinks=True)
    (place / "here" / "whole").symlink_to(whole)
    path, told = (Path(), "nothing") if seed == _WHOLE else damaged(place / "here" / "r", rng, outside)
    what = f"seed {seed}: {told}"
    chosen = commands if seed == _WHOLE else rng.sample(commands, 1)
    made = [
        [word.replace("FILE", str(place / "here" / f"made-{number}")) for word in command]
        for number, command in enumerate(chosen)
    ]
    return [outcome(command, path.name, what, lambda: state_of(outside) + state_of(whole)) for command in made]


def _preload() -> None:
    """What commands import, which else every child would import anew."""
    import qprof.findings.explanation
    import qprof.findings.search.outcome
    import qprof.measure.parent.execution
    import qprof.report.page.build
    import qprof.report.page.plot
    import qprof.report.sql
    import qprof.store.frames  # noqa: F401


def _start_nothing() -> None:
    """A search that goes on would measure: here it proposes what to try, and tells of what it has. And the library that
    draws figures sets more addresses aside than a command may take here: it is given what it would draw."""
    from qprof.errors import QprofError
    from qprof.findings.search import search, trials

    def nothing(*arguments: Any, **more: Any) -> None:
        raise QprofError(_WOULD_RUN)

    def proposes_nothing(*arguments: Any) -> None:
        proposes(*arguments)

    proposes = search.propose
    trials.start = trials.resume = nothing  # type: ignore[assignment]
    search.propose = proposes_nothing  # type: ignore[assignment]
    sys.modules["vl_convert"] = types.ModuleType("vl_convert")
    sys.modules["vl_convert"].vegalite_to_svg = lambda spec, **options: json.dumps(spec)  # type: ignore[attr-defined]


def campaign(whole: Path, commands: list[list[str]], count: int, seed: int) -> collections.Counter[str]:
    """So many damaged copies; what became of the commands that read them. Each must be one that reads a whole run:
    else all that follows would be refused for another reason."""
    found: collections.Counter[str] = collections.Counter()
    _preload()
    with tempfile.TemporaryDirectory(prefix="qprof-run-folders-") as place:
        for command, told in zip(commands, _child(Path(place), whole, commands, range(_WHOLE, 0)), strict=False):
            if told != "read":
                raise SystemExit(f"{' '.join(command)} of a whole run: {told}")
        done = 0
        while done < count:
            told = _child(Path(place), whole, commands, range(seed + done, seed + min(done + _BATCH, count)))
            done += told.count("done")
            for text in told:
                if text.startswith(("WRONG", "DIED")):
                    print(f"    {text}", flush=True)
            found.update(text for text in told if text != "done")
    return found


def report(name: str, found: collections.Counter[str], took_s: float) -> int:
    """Print what became of them; returns how many were wrong."""
    wrong = [text for text in found.elements() if text.startswith(("WRONG", "DIED"))]
    counts = ", ".join(f"{n} {text}" for text, n in found.most_common() if not text.startswith(("WRONG", "DIED")))
    print(f"{name}: {counts}; {len(wrong)} wrong; {took_s:.0f} s", flush=True)
    alike: dict[str, list[str]] = collections.defaultdict(list)
    for text in wrong:
        alike[text.partition(" (seed")[0]].append(text)
    for texts in sorted(alike.values(), key=len, reverse=True):
        print(f"    {len(texts)} times: {texts[0]}", flush=True)
    return len(wrong)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", choices=[[], "runs", "searches"], help="by default both")
    parser.add_argument("--count", type=int, default=1000, help="damaged copies of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="where the whole ones are made, and kept for another time")
    options = parser.parse_args()
    wrong = 0
    with contextlib.ExitStack() as stack:
        keep = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        keep.mkdir(parents=True, exist_ok=True)
        for kind, make, commands in (("runs", make_run, COMMANDS), ("searches", make_search, SEARCH_COMMANDS)):
            if options.kinds and kind not in options.kinds:
                continue
            place = keep.resolve() / kind
            whole = place / ("whole" if kind == "runs" else "search")
            if not whole.exists():
                place.mkdir()
                make(place)
            began = time.monotonic()
            found = campaign(whole, commands, options.count, options.seed)
            wrong += report(kind, found, time.monotonic() - began)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
