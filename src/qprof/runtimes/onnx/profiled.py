"""An ONNX model whose every op is timed, by ONNX Runtime's own profile: the instrumented twin of `OnnxModel`.

A session's profile has no switch: it is in memory until the session is told to end it, and then never begins again. So
each block has a session of its own, made outside of every clock, and a long block several.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from time import perf_counter_ns, time_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import ModelError
from qprof.record.ops import SOURCES, OpEvents, OpMeta
from qprof.runtimes.onnx import model_file
from qprof.runtimes.onnx.names import SourceGraph, distinct_names
from qprof.runtimes.onnx.ops import PARTITION, OpList, OptimizedNode, describe_ops, optimized_nodes
from qprof.runtimes.onnx.own_time import own_times, profile_cost, slowness
from qprof.runtimes.onnx.sections import OnnxOptions
from qprof.runtimes.onnx.session import OnnxModel, runtime_errors
from qprof.runtimes.onnx.trace import Inference, read_inferences
from qprof.store.own import OwnFolder

_SOURCE = SOURCES.index("kernel")

#: Events of one session, at most: ONNX Runtime keeps some 300 bytes of each, writes 1 kB, and stops at a million.
_MOST_EVENTS = 100_000
#: Untimed inferences of a session that takes over in the middle of a block.
_LEAD_IN = 3
#: A model with more bytes than these is not written once more only to be looked at.
_MOST_WRITTEN = 1 << 30


def _closed() -> None:
    raise ModelError("an inference was asked for between two sessions")


class ProfiledOnnxModel(OnnxModel):
    """A `.onnx` under ONNX Runtime's profile. Latency is never taken from it: that is `OnnxModel`'s part.

    Raises `ModelError`, also where the profile cannot be written or read.
    """

    def __init__(self, path: Path, options: OnnxOptions) -> None:
        self._folder = OwnFolder()
        proto = model_file.read(path)
        # Two nodes of one name cannot be told apart in the profile.
        renamed = distinct_names(proto)
        self._model: str | bytes = str(path) if renamed is None else renamed
        self._nodes = sum(1 for _ in model_file.nodes_of(proto.graph))
        self._writable = path.stat().st_size < _MOST_WRITTEN and not model_file.external_files(path, proto)
        self._runs, self._numbers = 0, {}  # type: int, dict[int, tuple[int, int]]
        self._kept: list[OpEvents] = []
        self._taken_ns: dict[int, int] = {}
        self.timing_ns: NDArray[np.int64] = np.zeros(0, np.int64)
        self._unknown = 0
        self._last: list[NDArray[Any]] = []
        self._list = OpList([], {}, 0)
        self.ops: list[OpMeta] = []
        super().__init__(path, options)

    def _open(self, model: str | bytes, **settings: Any) -> Any:
        """As `OnnxModel`, with the profile on; the first session also writes the graph that it runs."""
        # ONNX Runtime puts the second behind it: two sessions of one second would write into one file.
        prefix = str(self._folder.path / f"profile-{secrets.token_hex(8)}")
        writes = self._folder.path / "optimized.onnx"
        first = self._writable and not writes.exists() and self.options.provider in ("cpu", "cuda")
        more = {"optimized_model_filepath": str(writes)} if first else {}
        session = super()._open(self._model, enable_profiling=True, profile_file_prefix=prefix, **more)
        self._runs, self._numbers = 0, {}
        return session

    def _graphs(self) -> tuple[SourceGraph, dict[str, OptimizedNode]]:
        """The file's graph and the one that is run, which is empty where it could not be written. Read when they are
        asked for: with them go all constants, which would count as the variant's memory."""
        proto = model_file.read(self.path)
        distinct_names(proto)
        written = self._folder.path / "optimized.onnx"
        return SourceGraph(proto), optimized_nodes(model_file.read(written)) if written.exists() else {}

    def _bind(self) -> None:
        super()._bind()
        bare = self.run_once

        def counted() -> None:
            self._runs += 1
            bare()

        self.run_once = counted

    # -- the profile --------------------------------------------------------------------------------------------------

    def discover(self) -> list[OpMeta]:
        """Run one inference on the present inputs and learn what ran; returns the op list."""
        self._kept, self._taken_ns = [], {}
        self.begin(0)
        self.invoke()
        inferences, _ = self._ended()
        events = inferences[-1].kernels if inferences else []
        if not events:
            raise ModelError(f"{self.path}: ONNX Runtime's profile holds no kernel; ops are not timed")
        source, optimized = self._graphs()
        profile_cost(self.options.threads)  # known before anything is measured
        self._list = describe_ops(events, optimized, source)
        self.ops = self._list.ops
        self._reopen()
        return self.ops

    @property
    def positions(self) -> Mapping[str, int]:
        """Op -> its node in the file, of those that were found there."""
        return self._list.positions

    def outputs(self) -> list[NDArray[Any]]:
        """As `OnnxModel.outputs`, of the last inference, whichever session it was in."""
        return super().outputs() if self._runs else [array.copy() for array in self._last]

    def reserve(self, inferences: int) -> None:
        """Nothing: ONNX Runtime's profile grows by itself."""

    def begin(self, inference: int) -> None:
        """Count the inferences from now on under that number; a session whose profile is full is replaced first."""
        if self.ops and (self._runs + 1) * max(1, self._list.nodes) > _MOST_EVENTS:
            self._collect()
            for _ in range(_LEAD_IN):
                self.invoke()
        # The profile is on the clock on the wall, which may be set; both are read here, before every inference.
        self._numbers[self._runs] = inference, perf_counter_ns() - time_ns()

    def end(self) -> None:
        """Nothing: what runs without a number is left out."""

    def drain(self) -> OpEvents:
        """Op events since the last call; `op` indexes `ops`. `discover` must have been called."""
        if not self.ops:
            raise ModelError(f"{self.path}: ops are timed before they were discovered")
        self._collect()
        kept, self._kept = self._kept, []
        taken, self._taken_ns = self._taken_ns, {}
        self.timing_ns = np.array([taken.get(n, 0) for n in range(max(taken, default=-1) + 1)], np.int64)
        names = ("inference", "op", "start_ns", "duration_ns", "source")
        return OpEvents(**{name: np.concatenate([getattr(part, name) for part in kept]) for name in names})

    def _collect(self) -> None:
        """End the profile, keep its numbered inferences, and go on with a new session."""
        inferences, began_ns = self._ended()
        self._kept.append(self._events(inferences, began_ns))
        self._reopen()

    def _ended(self) -> tuple[list[Inference], int]:
        with runtime_errors(self.path, "profile"):
            began_ns = int(self.session.get_profiling_start_time_ns())
            file = Path(self.session.end_profiling())
        try:
            inferences = read_inferences(file)
        finally:
            file.unlink(missing_ok=True)
        if len(inferences) != self._runs:
            raise ModelError(
                f"{self.path}: ONNX Runtime's profile tells of {len(inferences)} inferences, and {self._runs} were "
                "run; ops are not timed"
            )
        return inferences, began_ns

    def _reopen(self) -> None:
        if self._runs:
            self._last = super().outputs()
        # In this order: a binding must be gone before the session that it is of.
        self.run_once = _closed
        self._binding = self.session = None
        self.session = self._open("")
        self._bind()

    def _events(self, inferences: Sequence[Inference], began_ns: int) -> OpEvents:
        numbers: list[int] = []
        ops: list[int] = []
        times: list[tuple[int, int]] = []
        places, cost = self._list.places, profile_cost(self.options.threads)
        # What a provider has compiled is called otherwise in every session; its order stays.
        partitions = [place for place, op in enumerate(self.ops) if op.type == PARTITION]
        factors = slowness([inferences[run] for run in self._numbers], cost)
        for (run, (inference, offset_ns)), factor in zip(self._numbers.items(), factors, strict=True):
            compiled = iter(partitions)
            own = own_times(inferences[run], cost.times(float(factor)))
            self._taken_ns[inference] = own.taken_ns
            for event, start_ns, duration_ns in zip(
                inferences[run].kernels, own.start_ns, own.duration_ns, strict=True
            ):
                unnamed = partitions and event.node.startswith(event.args.provider)
                place = next(compiled, None) if unnamed else places.get(event.node)
                if place is None:
                    self._unknown += 1
                    continue
                numbers.append(inference)
                ops.append(place)
                times.append((began_ns + offset_ns + start_ns, duration_ns))
        both: NDArray[np.int64] = np.array(times, np.int64).reshape(-1, 2)
        return OpEvents(
            inference=np.array(numbers, np.int32),
            op=np.array(ops, np.int32),
            start_ns=both[:, 0],
            duration_ns=both[:, 1],
            source=np.full(len(both), _SOURCE, np.uint8),
        )

    # -- facts --------------------------------------------------------------------------------------------------------

    def arena_bytes(self) -> int | None:
        """`None`: ONNX Runtime tells the bytes of its arena in its profile alone, with those of the profile."""
        return None

    def lost_events(self) -> int:
        """Events of nodes that were not in the op list."""
        return self._unknown

    def timing_facts(self) -> dict[str, Any]:
        """What the manifest keeps of the instrumentation."""
        cost = profile_cost(self.options.threads)
        providers = sorted({op.delegate or "CPU" for op in self.ops if op.kernel != "(fused)"})
        return {
            "facts": {
                "clock": "ONNX Runtime's profile, whole microseconds",
                "nodes_of_the_file": self._nodes,
                "nodes_that_run": self._list.nodes,
                "providers": providers,
                "lost_events": self._unknown,
                "profile_costs_us": {key: round(value, 3) for key, value in asdict(cost).items()},
            }
        }

    def audit(self) -> dict[str, Any]:
        """Nothing: ONNX Runtime on a CPU is synchronous, and there is no second clock to hold against the first."""
        return {}
