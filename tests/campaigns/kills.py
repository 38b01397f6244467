"""Kills runs at random moments and resumes them: no block may be lost, doubled or measured again.

    python tests/campaigns/kills.py --parents 50 --workers 50 --signals 20 --disks 20

A run of two tiny models is killed (its parent by SIGKILL; a worker by SIGKILL; its parent by SIGINT, SIGTERM or
SIGHUP; or its disk is full after some bytes) at a moment drawn uniformly over the time that a whole run takes, and
resumed. What is held: how the command ends, that it leaves no process and no temporary file, that the resumed run is
complete, that its tables have the blocks of an undisturbed run, each once, and that a block that was on the disk when
the run was killed is in the tables as it was. Prints a line for each failure, and the counts.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import tflite_builder
from command_line import QUICK, CommandLine
from qprof.errors import StoreError
from qprof.store.blocks import block_files, read_block
from qprof.store.run import Run

#: A block of a run: its number, variant and kind.
Planned = tuple[int, str, str]

#: A command that takes longer hangs; on a machine that is loaded tenfold one takes minutes.
_PATIENCE_S = 400.0


@dataclass
class Stage:
    """Two models, a command line, and what an undisturbed run of them looks like."""

    line: CommandLine
    models: tuple[Path, ...]
    wall_s: float = 0.0
    plan: list[Planned] = field(default_factory=list)
    resumptions: int = 0
    kept: int = 0  # blocks that were on the disk when their run was ended

    @classmethod
    def set_up(cls, folder: Path) -> Stage:
        files = {
            "a.tflite": tflite_builder.tiny_conv_net(size=32, channels=8),
            "b.tflite": tflite_builder.tiny_int8_net(size=32, channels=8),
        }
        for name, content in files.items():
            (folder / name).write_bytes(content)
        stage = cls(CommandLine(folder, patience_s=_PATIENCE_S), tuple(folder / name for name in files))
        stage.line("run", *stage.arguments("first"))  # fills the caches of the disk
        began = time.monotonic()
        done = stage.line("run", *stage.arguments("whole"))
        stage.wall_s = time.monotonic() - began
        if done.code != 0:
            raise SystemExit(f"an undisturbed run fails: {done.err}")
        stage.plan = blocks_of(Run(folder / "whole"))
        return stage

    def arguments(self, output: str) -> list[str | Path]:
        return [*self.models, *QUICK, "--set=protocol.rounds=4", "-o", output]


def blocks_of(run: Run) -> list[Planned]:
    """The blocks in a run's table of samples, in order; a block that is there twice is here twice."""
    table = run.samples.select(["block", "variant", "kind"]).to_pylist()
    found: list[Planned] = []
    for row in table:
        block = (row["block"], row["variant"], row["kind"])
        if not found or found[-1] != block:
            found.append(block)
    return sorted(found)


def starts(run: Run) -> dict[int, list[int]]:
    """Block -> when its inferences began."""
    found: dict[int, list[int]] = {}
    for row in run.samples.select(["block", "start_ns"]).to_pylist():
        found.setdefault(row["block"], []).append(row["start_ns"])
    return found


def on_disk(folder: Path) -> dict[int, list[int]]:
    """The same of the block files that a killed run left. A damaged one is none that was written."""
    found = {}
    for path in block_files(folder / "parts"):
        block = read_block(path)
        found[block.number] = block.samples.start_ns.tolist()
    return found


def debris(folder: Path) -> list[str]:
    """Temporary files, which only a SIGKILL may leave."""
    return [str(path.relative_to(folder)) for path in folder.rglob("*.tmp")]


Kill = Callable[[Stage, "subprocess.Popen[str]", random.Random], None]


def parent_by(number: int) -> Kill:
    def kill(stage: Stage, process: subprocess.Popen[str], rng: random.Random) -> None:
        process.send_signal(number)

    return kill


def a_worker(stage: Stage, process: subprocess.Popen[str], rng: random.Random) -> None:
    """A child of the run; where it has none at that moment, the next one."""
    deadline = time.monotonic() + stage.wall_s
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            if children:
                os.kill(int(rng.choice(children)), signal.SIGKILL)
                return
        time.sleep(0.002)


def disturb(stage: Stage, name: str, kill: Kill, codes: set[int], rng: random.Random) -> list[str]:
    """One killed and resumed run; what is wrong with it."""
    process = stage.line.start("run", *stage.arguments(name))
    time.sleep(rng.uniform(0.0, stage.wall_s))
    ended_before = process.poll() is not None
    kill(stage, process, rng)
    try:
        _, err = process.communicate(timeout=_PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return [f"did not end within {_PATIENCE_S:.0f} s of being killed"]
    hard = process.returncode == -signal.SIGKILL
    over = ended_before or "\nfinished: " in err  # the signal came after the work
    return after(stage, name, process.returncode, err, codes | ({0} if over else set()), may_leave_tmp=hard)


def after(stage: Stage, name: str, code: int, err: str, codes: set[int], *, may_leave_tmp: bool = False) -> list[str]:
    """What is wrong with a run that was ended, and with its resumption."""
    folder = stage.line.folder / name
    wrong = [] if code in codes else [f"exit code {code}, not of {sorted(codes)}: {err[-300:]}"]
    if "Traceback" in err:
        wrong.append(f"a traceback: {err[-600:]}")
    if left := stage.line.left_behind():
        wrong.append(f"left processes {left}")
    if folder.exists() and not may_leave_tmp and (found := debris(folder)):
        wrong.append(f"left {found}")
    if not (folder / "manifest.json").is_file():
        return wrong  # killed before there was a run: nothing was measured that could be lost
    kept = starts(Run(folder)) if Run(folder).complete else on_disk(folder)
    return wrong + resumed(stage, folder, kept)


def resumed(stage: Stage, folder: Path, kept: dict[int, list[int]]) -> list[str]:
    stage.resumptions += 1
    stage.kept += len(kept)
    done = stage.line("run", "--resume", folder.name)
    if done.code != 0:
        return [f"--resume ends with {done.code}: {done.err[-400:]}"]
    try:
        run = Run(folder)
        found, measured = blocks_of(run), starts(run)
    except StoreError as error:
        return [f"the resumed run cannot be read: {error}"]
    wrong = []
    if not run.complete or (folder / "parts").exists() or debris(folder):
        wrong.append(f"not complete, or parts left: {run.manifest.status}, {sorted(os.listdir(folder))}")
    twice = [block for block, count in collections.Counter(found).items() if count > 1]
    if twice:
        wrong.append(f"blocks in the table twice: {twice[:5]}")
    # A worker that died and was started anew warms up again, under a number behind the planned ones.
    planned = [block for block in stage.plan if block[2] != "warmup"]
    if [block for block in found if block[2] != "warmup"] != planned:
        wrong.append(f"blocks: {sorted(set(planned) ^ set(found))[:6]} are lost or not planned")
    kinds = {block[0]: block[2] for block in found}
    changed = [number for number, began in kept.items() if kinds.get(number) != "warmup" and measured[number] != began]
    if changed:
        wrong.append(f"blocks that were on the disk are in the table with other inferences: {changed[:6]}")
    if any(entry.failed or entry.unscored for entry in run.variants):
        wrong.append("a variant is still failed after --resume")
    return wrong


def full_disk(stage: Stage, name: str, rng: random.Random) -> list[str]:
    """A run whose files may not grow beyond a few kilobytes, which fails as a full disk does."""
    most = int(2 ** rng.uniform(6, 16))
    process = subprocess.Popen(
        stage.line.arguments("run", *stage.arguments(name)),
        cwd=stage.line.folder,
        env=stage.line.variables(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most)),
    )
    _, err = process.communicate(timeout=_PATIENCE_S)
    return [f"{text} (files up to {most} bytes)" for text in after(stage, name, process.returncode, err, {0, 1, 2})]


@contextlib.contextmanager
def small_disk(size_bytes: int) -> Iterator[Path | None]:
    """A file system of that size; `None` where none may be mounted."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "none", folder]
        try:
            mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
        except OSError:
            mounted = False
        try:
            yield Path(folder) if mounted else None
        finally:
            if mounted:
                subprocess.run(["umount", folder], check=True)


def full_tmpfs(stage: Stage, name: str, rng: random.Random) -> list[str] | None:
    """A run whose file system fills up; it is moved to another one to be resumed. `None`: nothing can be mounted."""
    size = 4096 * round(2 ** rng.uniform(0, 7))
    with small_disk(size) as disk:
        if disk is None:
            return None
        (disk / name).mkdir()
        done = stage.line("run", *stage.arguments(str(disk / name)))
        wrong = [] if done.code in (0, 1, 2) else [f"exit code {done.code}: {done.err[-300:]}"]
        shutil.copytree(disk / name, stage.line.folder / name)
    return wrong + [f"{x} (disk of {size} bytes)" for x in after(stage, name, done.code, done.err, {0, 1, 2})]


def campaign(stage: Stage, kind: str, count: int, one: Callable[[str], list[str] | None]) -> int:
    """So many of one kind; how many of them failed."""
    failed = done = 0
    before, kept = stage.resumptions, stage.kept
    for number in range(count):
        name = f"{kind.replace(' ', '-')}-{number}"
        try:
            wrong = one(name)
        except subprocess.TimeoutExpired as error:
            wrong = [f"hangs: {error}"]
        if wrong is None:
            print(f"{kind}: cannot be tried here", flush=True)
            return 0
        done += 1
        failed += bool(wrong)
        for text in wrong:
            print(f"{name}: {text}", flush=True)
        if not wrong:
            shutil.rmtree(stage.line.folder / name, ignore_errors=True)
    print(
        f"{kind}: {done} times, {failed} of them wrong; {stage.resumptions - before} had begun a run and were resumed, "
        f"with {stage.kept - kept} blocks kept",
        flush=True,
    )
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parents", type=int, default=50, help="SIGKILLs of the parent")
    parser.add_argument("--workers", type=int, default=50, help="SIGKILLs of a worker")
    parser.add_argument("--signals", type=int, default=20, help="of each of SIGINT, SIGTERM, SIGHUP")
    parser.add_argument("--disks", type=int, default=20, help="full disks of each sort")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="qprof-kills-") as folder:
        stage = Stage.set_up(Path(folder))
        print(f"an undisturbed run: {stage.wall_s:.1f} s, {len(stage.plan)} blocks", flush=True)
        failed = run_all(stage, rng, options.parents, options.workers, options.signals, options.disks)
    return int(failed > 0)


def run_all(stage: Stage, rng: random.Random, parents: int, workers: int, signals: int, disks: int) -> int:
    def killed(kill: Kill, codes: set[int]) -> Callable[[str], list[str]]:
        return lambda name: disturb(stage, name, kill, codes, rng)

    failed = campaign(stage, "SIGKILL of the parent", parents, killed(parent_by(signal.SIGKILL), {-signal.SIGKILL}))
    failed += campaign(stage, "SIGKILL of a worker", workers, killed(a_worker, {0, 1, 2}))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        failed += campaign(stage, number.name, signals, killed(parent_by(number), {130, -number}))
    failed += campaign(stage, "full disk by RLIMIT_FSIZE", disks, lambda name: full_disk(stage, name, rng))
    failed += campaign(stage, "full disk by tmpfs", disks, lambda name: full_tmpfs(stage, name, rng))
    return failed


if __name__ == "__main__":
    sys.exit(main())
