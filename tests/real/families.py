"""Every family of language models from beginning to end on the command line, and a table of what came of it.

    python tests/real/families.py [--only NAME ...] [--variants NAME ...] --out FOLDER

A tiny model of each (`tests/lm_families.py`) goes through `qprof run` with an unquantized and a quantized variant, then
through `show`, `layers` of both, `diff` and `explain`. A family whose run lies in FOLDER is not
run again; what the other commands say of it is told anew.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from command_line import CommandLine, Done
from lm_families import FAMILIES, save_family
from qprof.cli.main import main as qprof_main

VARIANTS = ("bfloat16", "gptq-4bit-g32")
WORDS = ("dog", "cat", "sees", "the", "and", "then", "a", "very", "old", "red")
ROWS, PATIENCE_S = 12, 600.0
SETTINGS = {
    "protocol.threads": 1,
    "protocol.rounds": 2,
    "protocol.block_ms": 20,
    "protocol.profiled_block_ms": 20,
    "protocol.warmup_max_s": 0.2,
    "protocol.energy": "off",
    "protocol.stacks_s": 0,
    "protocol.ceilings": "false",
    "task.calibration_samples": 4,
    "task.samples": 2,
    "task.prompt_tokens": 16,
    "task.generated_tokens": 4,
    "task.limit": ROWS,
}
OK = "ok"
#: What stands in a comparison that went through and yet says something wrong of one model in two widths.
WRONG = ("not the same model", "NOT ONE MODEL")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="*", default=list(FAMILIES))
    parser.add_argument("--variants", nargs=2, default=list(VARIANTS), metavar=("BASELINE", "VARIANT"))
    parser.add_argument("--group-size", type=int, help="of the variant: -1 for a group per row")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    texts = write_texts(args.out / "texts.jsonl", 2 * ROWS)
    for name in args.only:
        found = one_family(args.out / name, name, texts, args.variants, args.group_size)
        (args.out / f"{name}.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
        print(f"{name:20}", *(f"{column}: {found.get(column, '-')}" for column in found), sep=" | ", flush=True)


def write_texts(path: Path, count: int) -> Path:
    rng = np.random.default_rng(0)
    lines = [" ".join([*rng.choice(WORDS[2:], 9), str(rng.choice(WORDS[:2]))]) for _ in range(count)]
    path.write_text("".join(json.dumps({"text": line}) + "\n" for line in lines), encoding="utf-8")
    return path


def one_family(folder: Path, name: str, texts: Path, variants: Sequence[str], group_size: int | None) -> dict[str, str]:
    """What each command said: "ok", or the line that it failed with."""
    kept = folder / "run.txt"
    if not kept.is_file():
        kept.write_text(measured(folder, name, texts, variants, group_size), encoding="utf-8")
    found, run = {"run": kept.read_text(encoding="utf-8")}, str(folder / "r")
    baseline, variant = variants
    for column, words in (
        ("show", ["show", run]),
        ("layers", ["layers", run, "-v", baseline]),
        ("layers of it", ["layers", run, "-v", variant, "--phase", "decode"]),
        ("diff", ["diff", run, baseline, variant, "--phase", "decode"]),
        ("explain", ["explain", run]),
    ):
        done = here(words)
        (folder / f"{column}.txt").write_text(done.out + done.err, encoding="utf-8")
        found[column] = said(done)
    return found


def measured(folder: Path, name: str, texts: Path, variants: Sequence[str], group_size: int | None) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    line = CommandLine(folder, patience_s=PATIENCE_S)
    model, rows = save_family(folder / "model", name), FAMILIES[name].rows
    settings = [f"--set={key}={value}" for key, value in {**SETTINGS, "task.batch": rows}.items()]
    made = "".join(f'[[variants]]\nname = "{variant}"\n' for variant in variants)
    made += "" if group_size is None else f"group_size = {group_size}\n"
    data = f'[model]\npath = "{model}"\n[task]\nkind = "lastword"\ndata = "{texts}"\n'
    (folder / "p.toml").write_text(f'name = "{name}"\n{made}{data}', encoding="utf-8")
    try:
        return said(line("run", "-q", "p.toml", *settings, "-o", "r"))
    except subprocess.TimeoutExpired:
        return f"took more than {PATIENCE_S:.0f} s"


def here(words: Sequence[str]) -> Done:
    """A command that only reads, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = qprof_main(list(words))
    return Done(code, out.getvalue(), err.getvalue())


def said(done: Done) -> str:
    if done.code:
        lines = [text for text in done.err.splitlines() if text.strip()]
        return f"rc={done.code}: {lines[-1].strip() if lines else 'nothing said'}"
    return next((f"WRONG: {text.strip()}" for text in done.out.splitlines() if any(w in text for w in WRONG)), OK)


if __name__ == "__main__":
    main()
