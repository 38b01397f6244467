"""Kills runs at random moments and resumes them: no block may be lost, doubled or measured again.

    python tests/campaigns/kills.py --parents 50 --workers 50 --signals 50 --disks 50 [--of verify] [--minutes 30]

A run of two tiny models, or the verification of its causes (`--of verify`, see kills_verify.py), is killed (its parent
by SIGKILL; a worker by SIGKILL; its parent by SIGINT, SIGTERM or SIGHUP; or its disk is full after some bytes) at a
moment drawn uniformly over the time that a whole one takes, as the machine is then, and resumed. What is held: how the
command ends, that it leaves no process and no temporary file (after a SIGKILL: that the resumed one leaves none), that
the resumed run is complete, that its tables have the blocks of an undisturbed run, each once, and that a block that was
on the disk when the run was killed is in the tables as it was.
One of each kind follows the other, so that a campaign that is cut short has tried all alike; a trial is drawn from the
seed, its kind and its number alone. Prints a line for each failure, and the counts.
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

#: How often a command is begun that ends before it can be killed.
_TRIES = 4

#: The folder for temporary files of all commands, in that of the campaign.
_TEMPORARY = "tmp"


@dataclass
class Stage:
    """Two models, a command line, and what an undisturbed run of them looks like. `wall_s`: how long the command that
    is killed takes when nothing disturbs it."""

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
        (folder / _TEMPORARY).mkdir()
        line = CommandLine(folder, {"TMPDIR": str(folder / _TEMPORARY)}, patience_s=_PATIENCE_S)
        stage = cls(line, tuple(folder / name for name in files))
        stage.line("run", *stage.arguments("first"))  # fills the caches of the disk
        began = time.monotonic()
        done = stage.line("run", *stage.arguments("whole"))
        stage.wall_s = time.monotonic() - began
        if done.code != 0:
            raise SystemExit(f"an undisturbed run fails: {done.err}")
        stage.plan = blocks_of(Run(folder / "whole"))
        return stage

    def arguments(self, output: str) -> list[str | Path]:
        return [*self.models, *QUICK, "--set=protocol.rounds=4", "--set=protocol.output_samples=10", "-o", output]

    def command(self, name: str) -> list[str | Path]:
        """What is killed, in a folder of that name."""
        return ["run", *self.arguments(name)]

    def ready(self, name: str) -> None:
        """Put in place what the command needs."""

    def ended_within(self, process: subprocess.Popen[str], fraction: float) -> bool:
        """Wait for a part of the time that the command takes; whether it has ended by itself meanwhile, for the machine
        is faster than it was: what the command takes is known anew then."""
        began = time.monotonic()
        while (waited := time.monotonic() - began) < fraction * self.wall_s:
            if process.poll() is not None:
                self.wall_s = waited
                return True
            time.sleep(0.005)
        return process.poll() is not None

    def finished(self, out: str, err: str) -> bool:
        """Whether the command had done its work before the signal came, by what it printed."""
        return "\nfinished: " in err

    def scratch_left(self) -> list[str]:
        """Folders for temporary files that a killed process left, and that were to be removed since."""
        return sorted(path.name for path in (self.line.folder / _TEMPORARY).glob("qprof-*"))

    def wrong_after(self, name: str) -> list[str]:
        """What is wrong with the folder that a command left which was ended, and with its resumption."""
        folder = self.line.folder / name
        if not (folder / "manifest.json").is_file():
            return []  # killed before there was a run: nothing was measured that could be lost
        kept = starts(Run(folder)) if Run(folder).complete else on_disk(folder)
        return resumed(self, folder, kept)


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


def interrupted_by(number: int) -> set[int]:
    """The exit codes of a command that a signal ended. `python -m` ends itself by SIGINT, which a shell calls 130 as
    well, where the KeyboardInterrupt came while a text was being run, as dataclasses do: that it was caught later does
    not count."""
    return {130, -number, -signal.SIGINT}


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
    fraction = rng.random()
    for left in reversed(range(_TRIES)):
        stage.ready(name)
        process = stage.line.start(*stage.command(name))
        ended_before = stage.ended_within(process, fraction)
        if not ended_before or not left:
            break
        process.communicate()
        shutil.rmtree(stage.line.folder / name)
    kill(stage, process, rng)
    killed = time.monotonic()
    try:
        out, err = process.communicate(timeout=_PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return [f"did not end within {_PATIENCE_S:.0f} s of being killed"]
    hard, took = process.returncode == -signal.SIGKILL, time.monotonic() - killed
    over = ended_before or stage.finished(out, err)  # the signal came after the work
    wrong = after(stage, name, process.returncode, err, codes | ({0} if over else set()), may_leave_tmp=hard)
    return [f"{text} ({took:.1f} s after the signal)" for text in wrong]


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
    return wrong + stage.wrong_after(name)


def resumed(stage: Stage, folder: Path, kept: dict[int, list[int]]) -> list[str]:
    stage.resumptions += 1
    stage.kept += len(kept)
    done = stage.line("run", "--resume", folder.name)
    if done.code != 0:
        return [f"--resume ends with {done.code}: {done.err[-400:]}"]
    left = [f"temporary folders left: {found}"] if (found := stage.scratch_left()) else []
    return left + wrong_with(folder, stage.plan, kept)


def wrong_with(folder: Path, plan: list[Planned], kept: dict[int, list[int]]) -> list[str]:
    """What is wrong with a run that was resumed to its end. `kept`: what was on the disk before."""
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
    planned = [block for block in plan if block[2] != "warmup"]
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
    stage.ready(name)
    process = subprocess.Popen(
        stage.line.arguments(*stage.command(name)),
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
    """A command whose file system fills up; its folder is moved to another one to be resumed. `None`: nothing can be
    mounted."""
    stage.ready(name)
    place = stage.line.folder / name
    taken = sum(4096 * -(-path.stat().st_size // 4096) + 4096 for path in place.rglob("*"))
    size = taken + 4096 * round(2 ** rng.uniform(0, 7))
    with small_disk(size) as disk:
        if disk is None:
            return None
        if place.exists():
            shutil.move(place, disk / name)
        else:
            (disk / name).mkdir()
        done = stage.line(*stage.command(str(disk / name)))
        wrong = [] if done.code in (0, 1, 2) else [f"exit code {done.code}: {done.err[-300:]}"]
        shutil.copytree(disk / name, place)
    return wrong + [f"{x} (disk of {size} bytes)" for x in after(stage, name, done.code, done.err, {0, 1, 2})]


#: One trial in a folder of that name: what is wrong, `None` where it cannot be tried here.
Trial = Callable[[str, random.Random], list[str] | None]


@dataclass
class Tally:
    """How often one kind was tried, and what came of it. `tried` is counted up to `count`."""

    count: int
    trial: Trial
    tried: int = 0
    failed: int = 0
    resumed: int = 0
    kept: int = 0


def try_one(stage: Stage, kind: str, tally: Tally, seed: int) -> None:
    """One more trial of a kind."""
    name = f"{kind.replace(' ', '-')}-{tally.tried}"
    before, kept = stage.resumptions, stage.kept
    try:
        wrong = tally.trial(name, random.Random(f"{seed} {name}"))
    except subprocess.TimeoutExpired as error:
        wrong = [f"hangs: {error}"]
    if wrong is None:
        print(f"{kind}: cannot be tried here", flush=True)
        tally.count = 0
        return
    tally.tried += 1
    tally.failed += bool(wrong)
    tally.resumed += stage.resumptions - before
    tally.kept += stage.kept - kept
    for text in wrong:
        print(f"{name}: {text}", flush=True)
    if not wrong:
        shutil.rmtree(stage.line.folder / name, ignore_errors=True)


def campaign(stage: Stage, tallies: dict[str, Tally], seed: int, minutes: float) -> int:
    """One trial of each kind after the other, until all are done or the time is over; how many of them failed."""
    end = time.monotonic() + 60 * minutes
    while time.monotonic() < end and (left := [kind for kind, one in tallies.items() if one.tried < one.count]):
        for kind in left:
            if time.monotonic() < end:
                try_one(stage, kind, tallies[kind], seed)
    for kind, one in tallies.items():
        print(
            f"{kind}: {one.tried} times, {one.failed} of them wrong; {one.resumed} had begun a run and were resumed, "
            f"with {one.kept} blocks kept",
            flush=True,
        )
    return sum(one.failed for one in tallies.values())


def trials(stage: Stage, parents: int, workers: int, signals: int, disks: int) -> dict[str, Tally]:
    """Every kind of trial, and how many of it."""

    def killed(kill: Kill, codes: set[int]) -> Trial:
        return lambda name, rng: disturb(stage, name, kill, codes, rng)

    found = {
        "SIGKILL of the parent": Tally(parents, killed(parent_by(signal.SIGKILL), {-signal.SIGKILL})),
        "SIGKILL of a worker": Tally(workers, killed(a_worker, {0, 1, 2})),
    }
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        found[number.name] = Tally(signals, killed(parent_by(number), interrupted_by(number)))
    found["full disk by RLIMIT_FSIZE"] = Tally(disks, lambda name, rng: full_disk(stage, name, rng))
    found["full disk by tmpfs"] = Tally(disks, lambda name, rng: full_tmpfs(stage, name, rng))
    return found


def main() -> int:
    import kills_verify

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--of", choices=["run", "verify"], default="run", help="what is killed (default: run)")
    parser.add_argument("--parents", type=int, default=50, help="SIGKILLs of the parent")
    parser.add_argument("--workers", type=int, default=50, help="SIGKILLs of a worker")
    parser.add_argument("--signals", type=int, default=20, help="of each of SIGINT, SIGTERM, SIGHUP")
    parser.add_argument("--disks", type=int, default=20, help="full disks of each sort")
    parser.add_argument("--minutes", type=float, default=1e9, help="end after so many, however many are left")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP):  # not as nohup, or a shell's "&", has it: what is killed inherits it
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="qprof-kills-") as folder:
        stage = (Stage if options.of == "run" else kills_verify.VerifyStage).set_up(Path(folder))
        print(f"undisturbed: {stage.wall_s:.1f} s, {len(stage.plan)} blocks", flush=True)
        tallies = trials(stage, options.parents, options.workers, options.signals, options.disks)
        return int(campaign(stage, tallies, options.seed, options.minutes) > 0)


if __name__ == "__main__":
    sys.exit(main())
