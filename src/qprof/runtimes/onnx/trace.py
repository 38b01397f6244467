"""The profile that ONNX Runtime writes of a session: one JSON file of all its inferences, read when it is closed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from qprof.errors import ModelError
from qprof.runtimes.onnx.op_types import Told
from qprof.runtimes.tool_output import first_line

_KERNEL = "_kernel_time"
_INFERENCE = "model_run"


class Arguments(msgspec.Struct, frozen=True):
    """What is told of a kernel's run; sizes are bytes, as text."""

    op_name: str = ""
    provider: str = ""
    input_type_shape: Sequence[Told] = ()
    output_type_shape: Sequence[Told] = ()
    activation_size: str = ""
    parameter_size: str = ""
    output_size: str = ""


class Event(msgspec.Struct, frozen=True):
    """`ts` and `dur`: whole microseconds, rounded down; `ts` since the session's profile began."""

    name: str = ""
    cat: str = ""
    ts: int = 0
    dur: int = 0
    args: Arguments = Arguments()

    @property
    def node(self) -> str:
        return self.name.removesuffix(_KERNEL)


@dataclass(frozen=True, slots=True)
class Inference:
    """Its kernels, in the order in which they began, and how long it took as a whole."""

    duration_us: int
    kernels: Sequence[Event]


def read_inferences(path: Path) -> list[Inference]:
    """All inferences of a session. Raises `ModelError`."""
    try:
        events = msgspec.json.decode(path.read_bytes(), type=list[Event], strict=False)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ModelError(f"ONNX Runtime's profile cannot be read ({first_line(error)}); ops are not timed") from error
    runs = sorted((event for event in events if event.name == _INFERENCE), key=lambda event: event.ts)
    kernels = sorted(
        (event for event in events if event.cat == "Node" and event.name.endswith(_KERNEL)),
        key=lambda event: (event.ts, -event.dur),
    )
    found: list[list[Event]] = [[] for _ in runs]
    at = 0
    for event in kernels:
        # An inference holds what begins after it did and before the next one does.
        while at + 1 < len(runs) and event.ts >= runs[at + 1].ts:
            at += 1
        if runs and event.ts >= runs[at].ts:
            found[at].append(event)
    return [Inference(run.dur, events) for run, events in zip(runs, found, strict=True)]
