"""draw where the time of one variant nests, or how it differs between two

The model's own parts by recorded time (--kind model), or the sampled stacks of the process that ran it (--kind host).
FILE.svg opens in a browser, FILE.speedscope.json in https://www.speedscope.app, FILE.folded in flamegraph tools.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from qprof.cli.common import add_run_argument

if TYPE_CHECKING:
    from qprof.findings.flame import Flame
    from qprof.store.run import Run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run_argument(parser)
    parser.add_argument("-v", "--variant", help="variant to draw (default: the baseline; of speedscope: all)")
    parser.add_argument("--kind", choices=["model", "host"], default="model", help="what is drawn (default: model)")
    parser.add_argument("--phase", help="of a language model: prefill or decode (default: both, side by side)")
    parser.add_argument("--diff", nargs=2, metavar=("A", "B"), help="B as it is, coloured by its change from A")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: flame-VARIANT.svg, here")


def run(options: argparse.Namespace) -> int:
    from qprof.errors import QprofError
    from qprof.findings.flame import flame_difference
    from qprof.report.export import write_json
    from qprof.report.flame import difference_svg, flame_svg
    from qprof.report.speedscope import speedscope
    from qprof.store.files import write_text
    from qprof.store.run import Run, find_run

    if options.diff and options.variant:
        raise QprofError("qprof flame takes --variant V or --diff A B, not both")
    found = Run(find_run(options.reference))
    chosen = options.diff or [options.variant or found.baseline]
    target = options.output or Path(_default_name(options, chosen))
    if target.name.endswith(".svg"):
        flames = [_flame(found, name, options) for name in chosen]
        write_text(target, difference_svg(flame_difference(*flames)) if options.diff else flame_svg(flames[0]))
    elif target.name.endswith((".speedscope.json", ".json")):
        profiles = _profiles(found, options.diff or ([options.variant] if options.variant else None), options)
        write_json(target, speedscope(profiles, f"qprof {found.name}"), indent=None)
    elif target.name.endswith(".folded") and not options.diff:
        write_text(target, "\n".join(_flame(found, chosen[0], options).root.folded()) + "\n")
    else:
        raise QprofError(f"{target}: a flame is written as .svg, .speedscope.json or (without --diff) .folded")
    print(target)
    return 0


def _flame(run: Run, variant: str, options: argparse.Namespace) -> Flame:
    from qprof.findings.flame import host_flame, model_flame

    return (
        host_flame(run, variant, options.phase) if options.kind == "host" else model_flame(run, variant, options.phase)
    )


def _profiles(run: Run, variants: list[str] | None, options: argparse.Namespace) -> list[Flame]:
    """One flame per variant and phase; of all variants, those that have any."""
    from qprof.errors import StoreError
    from qprof.findings.flame import host_flame, model_flame

    phases = [options.phase] if options.phase else [phase.name for phase in run.phases()]
    found, refused = [], None
    for name in variants or [entry.name for entry in run.variants]:
        try:
            found += [(host_flame if options.kind == "host" else model_flame)(run, name, phase) for phase in phases]
        except StoreError as error:
            refused = refused or error
            if variants:
                raise
    if not found and refused:
        raise refused
    return found


def _default_name(options: argparse.Namespace, chosen: list[str]) -> str:
    """In the current folder, whatever the names hold; the run directory is left as it was recorded."""
    parts = [*chosen, *(["host"] if options.kind == "host" else []), *([options.phase] if options.phase else [])]
    return f"flame-{re.sub(r'[^A-Za-z0-9._-]', '_', '-'.join(parts))}.svg"
