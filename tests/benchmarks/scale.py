"""Runs of the size that long measurements have: CPU seconds and peak memory of every command that reads them, and of
the process that writes their tables.

    python tests/benchmarks/scale.py [--rows 8200000] [--only ops|scores|list] [--folder FOLDER]

Three runs are made by the store's own writer: one of so many op events (four variants, ten rounds, 120 ops and sensor
traces at 100 Hz), one of 100,000 scored rows and 20 variants, and a folder of 1,000 runs. Reach: 500 MB for every
process; of the first 3 s of CPU time for show, layers and diff and 6 s for explain; 0.3 s beyond Python's start for
list. `--folder` keeps what is made, and uses what is there. Each command's memory is sampled while it runs: the last
column shows it from the start to the end of the process, one character for each tenth of its time, 9 being its peak.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

OPS, ROUNDS, VARIANTS = 120, 10, ("float32", "float16", "int8", "int8-dynamic")
SCORED_ROWS, SCORED_VARIANTS, LISTED = 100_000, 20, 1_000
MOST_BYTES = 500_000_000
#: CPU seconds of a command, imports included.
REACH_S = {"show": 3.0, "layers": 3.0, "diff": 3.0, "explain": 6.0, "list": 0.3}
_BETWEEN_S = 0.02


@dataclass(frozen=True)
class Cost:
    """What a process took: CPU seconds of its own, its largest memory, and its memory over its time."""

    status: int
    seconds: float
    peak_bytes: int
    over_time: Sequence[int]


def cost(command: Sequence[str], folder: Path) -> Cost:
    """Run a command to its end."""
    with open(folder / "output.txt", "wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    sampled = []
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        sampled.append(_memory_bytes(process.pid))
        time.sleep(_BETWEEN_S)
    process.returncode = status
    if status:
        sys.stdout.write((folder / "output.txt").read_text(errors="replace")[-2000:])
    return Cost(status, usage.ru_utime + usage.ru_stime, max([*sampled, usage.ru_maxrss * 1024]), sampled)


def _memory_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):  # it has ended
        return 0


# -- what is read -------------------------------------------------------------------------------------------------


def make_ops(folder: Path, rows: int) -> None:
    """An unfinished run of so many op events, all of its blocks in place."""
    import numpy as np

    from planted.world import PlantedOp, PlantedVariant, World, _Recording
    from qprof.record.blocks import Block
    from qprof.record.readings import SensorTrace
    from qprof.store.manifests import read_manifest
    from qprof.store.writer import RunWriter

    channels = [("rapl.package.power", "W"), ("rapl.core.power", "W"), ("rapl.dram.power", "W"), ("host.busy", "1")]
    rng = np.random.default_rng(7)
    variants = [
        PlantedVariant(
            name,
            [
                PlantedOp(f"block{i}/conv", "CONV_2D" if i % 3 else "ADD", factor * (10.0 + i), "XNNPACK", "gemm", "d")
                for i in range(OPS - 1)
            ]
            + [PlantedOp("d", "DELEGATE", factor * 9000.0, "XNNPACK")],
            section={"method": name},
        )
        for name, factor in zip(VARIANTS, (1.0, 0.99, 0.6, 0.7), strict=True)
    ]
    inferences = -(-rows // (len(VARIANTS) * OPS * ROUNDS))
    world = World(variants, rounds=ROUNDS, inferences=inferences)
    with tempfile.TemporaryDirectory() as small:
        replace(world, inferences=1).record(Path(small) / "run")
        manifest = read_manifest(Path(small) / "run")
    manifest.status, manifest.blocks = "running", []
    writer = RunWriter.create(folder, manifest)
    with tempfile.TemporaryDirectory() as small:
        ops = replace(world, inferences=1).record(Path(small) / "run").op_meta
    for name, found in ops.items():
        writer.save_ops(name, found)

    def sensed(block: Block) -> Block:
        begin, end = int(block.samples.start_ns[0]), int(block.samples.start_ns[-1])
        t_ns = np.arange(begin, end, 10_000_000)
        made = [SensorTrace(name, unit, "measured", t_ns, rng.normal(9.0, 0.1, len(t_ns))) for name, unit in channels]
        return replace(block, traces=made)

    phases = [phase.name for phase in world.phases]
    for block in _Recording(world, manifest.profile.protocol, variants, phases, 0).blocks():
        writer.save_block(sensed(block) if block.kind == "clean" else block)
    writer.close()


def make_scores(folder: Path) -> None:
    """An unfinished run whose variants were all scored on as many rows as a large data set of last words has."""
    import numpy as np

    from planted.world import PlantedOp, PlantedVariant, World, _Recording
    from qprof.record.rows import ScoreRow
    from qprof.store.manifests import read_manifest
    from qprof.store.writer import RunWriter, save_scores

    variants = [
        PlantedVariant(f"variant{number}", [PlantedOp("matmul", "Linear", 900.0)], section={"method": "float32"})
        for number in range(SCORED_VARIANTS)
    ]
    world = World(variants, inferences=20)
    with tempfile.TemporaryDirectory() as small:
        run = world.record(Path(small) / "run")
        manifest, ops = read_manifest(Path(small) / "run"), run.op_meta
    manifest.status, manifest.blocks, manifest.score_columns = "running", [], ["accuracy"]
    writer = RunWriter.create(folder, manifest)
    for name, found in ops.items():
        writer.save_ops(name, found)
    for block in _Recording(world, manifest.profile.protocol, variants, ["inference"], 0).blocks():
        writer.save_block(block)
    rng = np.random.default_rng(8)
    for variant in variants:
        right = rng.random(SCORED_ROWS) < 0.7
        columns = {
            "correct": right.astype(float),
            "log_likelihood": rng.normal(-2.0, 1.0, SCORED_ROWS),
            "first_rank": rng.integers(0, 50, SCORED_ROWS).astype(float),
            "target_tokens": rng.integers(1, 4, SCORED_ROWS).astype(float),
        }
        rows = [
            ScoreRow(variant.name, metric, sample, value)
            for metric, values in columns.items()
            for sample, value in enumerate(values.tolist())
        ]
        save_scores(folder, variant.name, [ScoreRow(variant.name, "accuracy", None, float(right.mean())), *rows])
    writer.close()


def make_list(folder: Path) -> None:
    """A folder of many runs, manifests alone."""
    from planted.world import PlantedOp, PlantedVariant, World

    variants = [PlantedVariant(name, [PlantedOp("conv", "CONV_2D", 90.0)]) for name in VARIANTS]
    World(variants, inferences=1).record(folder / "20260101-000000-planted")
    content = (folder / "20260101-000000-planted" / "manifest.json").read_bytes()
    for number in range(1, LISTED):
        (folder / f"20260101-{number:06d}-planted").mkdir()
        (folder / f"20260101-{number:06d}-planted" / "manifest.json").write_bytes(content)


def finalize(folder: Path) -> None:
    """Write the tables of an unfinished run, as its parent has it done."""
    from qprof.record.ops import SOURCES
    from qprof.store.writer import RunWriter

    writer = RunWriter.resume(folder)
    writer.finalize(SOURCES)
    writer.close()


# -- reading it ---------------------------------------------------------------------------------------------------


def ops_commands(run: Path) -> Iterator[tuple[str, list[str]]]:
    yield "show", ["show", str(run)]
    yield "layers", ["layers", str(run), "--variant", "int8"]
    yield "diff", ["diff", str(run), "float32", "int8"]
    yield "explain", ["explain", str(run)]
    yield "flame", ["flame", str(run), "--output", str(run.parent / "flame.svg")]
    yield "energy", ["energy", str(run)]
    yield "export", ["export", str(run), "--output", str(run.parent / "exported")]


def scores_commands(run: Path) -> Iterator[tuple[str, list[str]]]:
    yield "show", ["show", str(run)]
    yield "show --scores", ["show", str(run), "--scores"]
    yield "diff", ["diff", str(run), "variant0", "variant1"]
    yield "explain", ["explain", str(run)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=8_200_000, help="op events of the large run")
    parser.add_argument("--only", choices=("ops", "scores", "list"))
    parser.add_argument("--folder", type=Path, help="where to make the runs, and to keep them")
    parser.add_argument("--make", choices=("ops", "scores", "list", "finalize"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        sys.path.insert(0, str(Path(__file__).parents[1]))
        makers = {"ops": lambda place: make_ops(place, options.rows), "scores": make_scores, "list": make_list}
        (makers | {"finalize": finalize})[options.make](options.folder)
        return 0
    if options.folder:
        options.folder.mkdir(parents=True, exist_ok=True)
        return measured(options.folder, options)
    with tempfile.TemporaryDirectory() as folder:
        return measured(Path(folder), options)


def measured(folder: Path, options: argparse.Namespace) -> int:
    """Make what is not there and measure everything; 1 where something is out of reach."""
    missed = 0
    print(f"{'run':8}{'command':16}{'CPU s':>8}{'reach':>7}{'peak MB':>9}{'reach':>7}  memory over time")
    bare = cost([sys.executable, "-c", "pass"], folder)
    for what in ("ops", "scores", "list"):
        if options.only not in (None, what):
            continue
        place = folder / what
        if not place.exists():
            script = [sys.executable, __file__, "--rows", str(options.rows), "--folder", str(place), "--make"]
            subprocess.run([*script, what], check=True)
            if what != "list":
                missed += shown(what, "finalize", cost([*script, "finalize"], folder))
        commands = {"ops": ops_commands, "scores": scores_commands, "list": list_commands}[what](place)
        for name, arguments in commands:
            found = cost([sys.executable, "-m", "qprof.cli.main", *arguments], folder)
            missed += shown(what, name, replace(found, seconds=found.seconds - bare.seconds * (name == "list")))
    return int(missed > 0)


def list_commands(folder: Path) -> Iterator[tuple[str, list[str]]]:
    yield "list", ["list", str(folder)]


def shown(what: str, name: str, found: Cost) -> int:
    """Print a line; returns whether it is out of reach."""
    reach = None if what == "scores" else REACH_S.get(name)
    peak = max(found.peak_bytes, 1)
    over = [found.over_time[i * len(found.over_time) // 10] for i in range(10)] if found.over_time else []
    curve = "".join(str(min(9, 9 * each // peak)) for each in over)
    print(
        f"{what:8}{name:16}{found.seconds:8.2f}{'' if reach is None else f'{reach:g}':>7}"
        f"{peak / 1e6:9.0f}{MOST_BYTES / 1e6:7.0f}  {curve}",
        flush=True,
    )
    return int(bool(found.status) or peak > MOST_BYTES or (reach is not None and found.seconds > reach))


if __name__ == "__main__":
    sys.exit(main())
