"""Real cases: models and machines with one known thing planted in them, really run, and what qprof says of them.

    python tests/real/suite.py [--only NAME ...] [--slice ci] [--busy] [--again] --out FOLDER

For every case: make its files, measure the truth, `qprof run`, `qprof explain --verify`, and judge (`judge.py`). A case
whose result lies in FOLDER is not run again (`--again` judges it again from its recorded findings); one that fails is
noted, and the next goes on. `--busy` does all of it beside a neighbour that takes half of the core.
"""

from __future__ import annotations

import argparse
import dataclasses
import fcntl
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from case import Case, Load  # noqa: E402
from cases import CASES  # noqa: E402
from judge import judge  # noqa: E402
from neighbour import busy  # noqa: E402
from table import calibration, totals, written  # noqa: E402

#: Enough to tell a few percent apart, and short: a case takes well under two minutes.
PROTOCOL = {
    "rounds": 8,
    "block_ms": 40,
    "profiled_block_ms": 30,
    "warmup_max_s": 2,
    "energy": "off",
    "stacks_s": 0,
    "layer_errors": 0,
}
SCENES = 60
#: Predictions are to be off by as much as they say; of fewer than these nothing can be said, and a run of all cases has
#: more.
CALIBRATED, LEAST_POINTS = (0.6, 1.7), 10
STEP_TIMEOUT_S = 300


@dataclasses.dataclass(frozen=True)
class Place:
    """Where cases are run: the core that is measured on, and the file whose lock stands for the quiet machine."""

    core: int
    lock: Path | None
    out: Path

    @contextmanager
    def quiet(self) -> Iterator[None]:
        with ExitStack() as stack:
            if self.lock is not None:
                fcntl.flock(stack.enter_context(self.lock.open("a")), fcntl.LOCK_EX)
            yield


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--slice", choices=["ci"])
    parser.add_argument("--busy", action="store_true")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    parser.add_argument("--lock", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(arguments)
    unknown = set(given.only) - {case.name for case in CASES}
    if unknown:
        parser.error(f"no case {', '.join(sorted(unknown))}: there are {', '.join(case.name for case in CASES)}")
    place = Place(given.core, given.lock and given.lock.resolve(), given.out.resolve())
    results = []
    for case in CASES:
        if (given.only and case.name not in given.only) or (given.slice and not case.slice):
            continue
        if given.busy and case.load is None:
            case = dataclasses.replace(case, load=Load(0.5))
        result = one(case, place, given.again)
        print(written([result]), flush=True)
        results.append(result)
    place.out.mkdir(parents=True, exist_ok=True)
    (place.out / "results.json").write_text(json.dumps(results, indent=1))
    print(written(results, head=True))
    print(totals(results))
    return 0 if calibrated(results, whole=not given.only and not given.slice) else 1


def calibrated(results: Sequence[dict[str, Any]], whole: bool) -> bool:
    """Whether predictions are off by as much as they say. Those that say no more than a direction have no error: where
    too few others are left of a `whole` run, it is not."""
    if sum(len(result.get("points", [])) for result in results) < LEAST_POINTS:
        return not whole
    return CALIBRATED[0] <= calibration(results) <= CALIBRATED[1]


def one(case: Case, place: Place, again: bool = False) -> dict[str, Any]:
    """The result of one case, from its folder where it lies there."""
    folder = place.out / case.name
    kept = folder / "result.json"
    if kept.exists() and not again:
        found: dict[str, Any] = json.loads(kept.read_text())
        return found
    start = time.monotonic()
    try:
        result = _carried_out(case, place, folder, again)
    except Exception as error:
        if isinstance(error, subprocess.CalledProcessError):
            reason = f"{' '.join(str(part) for part in error.cmd[1:4])}: {(error.stderr or '')[-800:]}"
        else:
            reason = traceback.format_exc()[-800:]
        return {"name": case.name, "failed": reason}
    result["seconds"] = round(time.monotonic() - start, 1)
    kept.write_text(json.dumps(result, indent=1))
    return result


def _carried_out(case: Case, place: Place, folder: Path, again: bool) -> dict[str, Any]:
    run = folder / "run"
    if not (again and (run / "findings.json").exists() and (folder / "truth.json").exists()):
        if not (folder / "made").exists():
            folder.mkdir(parents=True, exist_ok=True)
            case.make(folder)
            (folder / "made").touch()
        profile = _profile(case, folder, place)
        with place.quiet():
            _truth(case, folder, place)
            _run(case, profile, run, place)
    truth = json.loads((folder / "truth.json").read_text())
    findings = json.loads((run / "findings.json").read_text())
    return judge(case, truth, findings) | {"variants": truth["variants"], "difference": _differences(findings)}


def _truth(case: Case, folder: Path, place: Place) -> None:
    result = folder / "truth.json"
    if result.exists():
        return
    pairs = [{"kind": type(p.truth).__name__, **dataclasses.asdict(p.truth)} for p in case.planted]
    job = {
        "pairs": [_placed(pair, folder) for pair in pairs],
        "variants": [_placed(variant, folder) for variant in case.variants if "file" in variant],
        "time_variants": all("file" in variant for variant in case.variants),
        "share": case.load.share if case.load else 1.0,
        "language": case.task.get("kind") == "lastword",
        "texts": "",
        "scenes": "",
    }
    if any(pair["kind"] == "Scored" for pair in pairs):
        from data import scenes, texts

        job |= {"texts": str(texts(place.out))} if job["language"] else {"scenes": str(scenes(place.out, SCENES))}
    (folder / "job.json").write_text(json.dumps(job, indent=1))
    partial = folder / "truth.partial.json"
    _command([str(HERE / "truth.py"), str(folder / "job.json"), str(partial)], case, place)
    partial.rename(result)


def _placed(table: dict[str, Any], folder: Path) -> dict[str, Any]:
    """`table` with its files taken from `folder`."""
    placed = {key: _placed(value, folder) if isinstance(value, dict) else value for key, value in table.items()}
    return placed | {key: str(folder / table[key]) for key in ("file", "images") if key in table}


def _run(case: Case, profile: Path, run: Path, place: Place) -> None:
    load = case.load
    around = {
        phase: load if load and load.during in (phase, "both") and not load.late else None
        for phase in ("run", "verify")
    }
    tool = [str(HERE / "tool.py")]
    if run.exists():
        subprocess.run(["rm", "-r", str(run)], check=True)
    with busy(place.core, around["run"].share) if around["run"] else nullcontext():
        command = [*tool, "run", str(profile), "-o", str(run)]
        if load and load.late:
            _with_late_load(command, case, place)
        else:
            _command(command, case, place)
    with busy(place.core, around["verify"].share) if around["verify"] else nullcontext():
        said = _command([*tool, "explain", str(run), "--verify"], case, place)
    (run.parent / "explain.txt").write_text(said)


def _command(command: list[str], case: Case, place: Place) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        preexec_fn=lambda: _pin(case, place),
        capture_output=True,
        text=True,
        timeout=STEP_TIMEOUT_S,
        check=True,
    )
    return done.stdout


def _with_late_load(command: list[str], case: Case, place: Place) -> None:
    """Run `command`, with a neighbour from the middle of its blocks on."""
    assert case.load is not None
    process = subprocess.Popen(
        [sys.executable, *command],
        preexec_fn=lambda: _pin(case, place),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = []
    with ExitStack() as stack:
        for line in process.stderr:
            said.append(line)
            if line.startswith("measuring:"):
                protocol = PROTOCOL | case.protocol
                round_ms = len(case.variants) * (protocol["block_ms"] + protocol["profiled_block_ms"])
                time.sleep(protocol["rounds"] * round_ms / 2e3)
                stack.enter_context(busy(place.core, case.load.share))
        if process.wait(STEP_TIMEOUT_S) != 0:
            raise subprocess.CalledProcessError(process.returncode, [sys.executable, *command], stderr="".join(said))


def _pin(case: Case, place: Place) -> None:
    os.sched_setaffinity(0, {place.core} if case.cores == 1 else set(range(os.cpu_count() or 1)))


def _profile(case: Case, folder: Path, place: Place) -> Path:
    from data import filled

    lines = [f"name = {json.dumps(case.name.replace('_', '-'))}"]
    if case.model:
        lines += ["[model]", f"path = {json.dumps(str(folder / case.model))}"]
    for variant in case.variants:
        lines.append("[[variants]]")
        lines += _keys(variant)
    for section, keys in (
        ("task", filled(case.task, folder, place.out, SCENES)),
        ("protocol", PROTOCOL | case.protocol),
    ):
        plain = {key: value for key, value in keys.items() if not isinstance(value, dict)}
        lines += [f"[{section}]", *_keys(plain)]
        for key, value in keys.items():
            if isinstance(value, dict):
                lines += [f"[{section}.{key}]", *_keys(value)]
    path = folder / "profile.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def _keys(table: dict[str, Any]) -> list[str]:
    return [f"{key} = {json.dumps(value)}" for key, value in table.items()]


def _differences(findings: dict[str, Any]) -> dict[str, float | None]:
    return {
        f"{item['variant']} {item.get('phase', '')}".strip(): (item.get("difference_us") or {}).get("value")
        for item in findings.get("comparisons", [])
    }


if __name__ == "__main__":
    raise SystemExit(main())
