"""The Python face of the commands.

import qprof

run = qprof.run("float.tflite", "int8.tflite", output="runs/pair")
for variant in qprof.summarize(run):
    print(variant.name, variant.latency_us)
print(qprof.differ(run, "float", "int8").end_to_end.difference)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from qprof.findings.choice import Limits
from qprof.findings.difference import differ
from qprof.findings.explanation import Explanation
from qprof.findings.explanation import explain as _explain
from qprof.findings.layers import layers
from qprof.findings.summary import summarize
from qprof.measure.command_line import profile_for
from qprof.measure.input_options import InputOptions
from qprof.measure.parent.execution import new_run_folder, start
from qprof.measure.parent.execution import resume as _resume
from qprof.measure.progress import ProgressDisplay, SilentProgress
from qprof.store.run import Run, find_run

__all__ = ["Explanation", "Limits", "Run", "differ", "explain", "layers", "open_run", "resume", "run", "summarize"]


def run(
    *targets: str | Path,
    variants: Sequence[str] = (),
    inputs: Sequence[str | Path] = (),
    calibration_inputs: Sequence[str | Path] = (),
    random: Mapping[str, str] | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
    signature: str = "",
    bits: Sequence[int] = (),
    group_size: int | None = None,
    data: str | Path = "",
    images: str | Path = "",
    labels: str | Path = "",
    truth: str | Path = "",
    overrides: Sequence[str] = (),
    output: str | Path | None = None,
    progress: ProgressDisplay | None = None,
) -> Run:
    """Measure, as `qprof run` does: a profile, model files, a language model's folder or hub id, or (no target) the
    quickstart's detector; its language model is the profile "quickstart-lm".

    `random`: input -> recipe, such as {"ids": "tokens:30522"}; `shapes`: input -> shape. `overrides`:
    "section.key=value"; `output`: the run directory to create. A variant that fails is recorded with its
    reason (`Run.variants`) while the others go on. Raises `QprofError` for bad input, or if no variant could be
    measured.
    """
    profile = profile_for(
        [str(target) for target in targets],
        variants=variants,
        inputs=InputOptions(
            files=[str(name) for name in inputs],
            calibration=[str(name) for name in calibration_inputs],
            random=random or {},
            shapes=shapes or {},
            signature=signature,
        ),
        bits=bits,
        group_size=group_size,
        data=str(data),
        images=str(images),
        labels=str(labels),
        truth=str(truth),
        overrides=overrides,
    )
    folder = Path(output) if output is not None else new_run_folder(profile)
    start(profile, folder, progress or SilentProgress())
    return Run(folder)


def resume(
    reference: str | Path,
    progress: ProgressDisplay | None = None,
    *,
    budget_s: float | None = None,
    samples: int | None = None,
) -> Run:
    """Go on with an interrupted run, named as on the command line; with `budget_s` seconds of measuring in all, or
    `samples` samples, with one that is finished and had less. Raises `QprofError`."""
    folder = find_run(str(reference))
    _resume(folder, progress or SilentProgress(), budget_s=budget_s, samples=samples)
    return Run(folder)


def explain(
    run: Run, *, verify: bool = False, limits: Limits | None = None, progress: ProgressDisplay | None = None
) -> Explanation:
    """Verdicts, causes and what became of their tests, and the variant to deploy, as `qprof explain` does.

    With `verify` the interventions are carried out in the run's folder; those kept there are used in any case. Raises
    `StoreError` for a run that cannot be read.
    """
    return _explain(run, verify=verify, limits=limits, progress=progress)


def open_run(reference: str | Path = "latest") -> Run:
    """A run, by its path, the beginning of its name, or "latest". Raises `StoreError`."""
    return Run(find_run(str(reference)))
