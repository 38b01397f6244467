"""A runtime in one file: chains of matrix products, as JSON. It shows what one must have, and what it may leave."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import ModelError, ProfileError
from qprof.record.manifest import VariantEntry
from qprof.record.model import Loaded, Model, RunOptions
from qprof.record.ops import SOURCES, OpEvents, OpMeta
from qprof.record.sections import FileVariantSection, MadeVariantSection, ModelSection, VariantSection
from qprof.record.tensors import TensorSpec
from qprof.runtimes.base import Calibration, LayerComparison, Made, ProfiledModel, RecordError, Runtime, Side
from qprof.runtimes.interventions import Impossible, Interventions, Section, changed
from qprof.store.cache import cache_root

_METHODS = ("float", "rounded")


class RoundedSection(MadeVariantSection, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`levels`: how many values a weight may take; `skip_layers`: layers whose weights stay as they are."""

    levels: int = 15
    skip_layers: list[str] = []  # noqa: RUF012  (msgspec copies it)


class ToyModel:
    """Layers, each a matrix product; satisfies `Model` and `ProfiledModel`."""

    def __init__(self, path: Path) -> None:
        content = json.loads(path.read_text())
        self.names = list(content["layers"])
        self._rounded = set(content.get("rounded", ()))
        self.weights = [np.array(content["layers"][name], np.float32) for name in self.names]
        wide, narrow = self.weights[0].shape[0], self.weights[-1].shape[1]
        spec, out = TensorSpec("x", (1, wide), "float32"), TensorSpec("y", (1, narrow), "float32")
        self.loaded = Loaded([spec], [out], ["PRODUCT"])
        self.run_once = self.invoke
        self.ops: list[OpMeta] = []
        self._input = np.zeros((1, wide), np.float32)
        self._output = np.zeros((1, narrow), np.float32)
        self._inference = -1
        self._events: list[tuple[int, int, int, int]] = []

    def enter(self, phase: str) -> None:
        """There is one phase."""

    def set_inputs(self, arrays: Sequence[NDArray[Any]]) -> None:
        self._input = np.array(arrays[0])

    def invoke(self) -> None:
        value = self._input
        for position, weights in enumerate(self.weights):
            begin_ns = perf_counter_ns()
            value = np.tanh(value @ weights)
            if self._inference >= 0:
                self._events.append((self._inference, position, begin_ns, perf_counter_ns() - begin_ns))
        self._output = value

    def outputs(self) -> list[NDArray[Any]]:
        return [self._output.copy()]

    def memory_bytes(self) -> dict[str, int]:
        return {"footprint": sum(weights.nbytes for weights in self.weights)}

    def discover(self) -> list[OpMeta]:
        self.ops = [
            OpMeta(
                *(str(n), name, "PRODUCT", n),
                kernel="blas",
                quantization="rounded weights" if name in self._rounded else None,
                macs=weights.size,
                weight_bytes=weights.nbytes,
            )
            for n, (name, weights) in enumerate(zip(self.names, self.weights, strict=True))
        ]
        return self.ops

    def reserve(self, inferences: int) -> None:
        """A list grows by itself."""

    def begin(self, inference: int) -> None:
        self._inference = inference

    def end(self) -> None:
        self._inference = -1

    def drain(self) -> OpEvents:
        rows, self._events = np.array(self._events, np.int64).reshape(-1, 4), []
        inference, op, start_ns, duration_ns = rows.T
        source = np.full(len(rows), SOURCES.index("node"), np.uint8)
        return OpEvents(inference.astype(np.int32), op.astype(np.int32), start_ns, duration_ns, source)

    def arena_bytes(self) -> int | None:
        return None

    def lost_events(self) -> int:
        return 0

    def timing_facts(self) -> dict[str, Any]:
        return {"facts": {"ops": len(self.ops)}}

    def audit(self) -> dict[str, Any]:
        return {}


class ToyMaker:
    """Makes variants of one model."""

    def __init__(self, model: ModelSection) -> None:
        self._source = Path(model.path)

    def float_model(self) -> Model:
        return ToyModel(self._source)

    def make(self, section: VariantSection, calibration: Calibration) -> Made:
        if isinstance(section, FileVariantSection):
            return _made(Path(section.file), "file")
        if not isinstance(section, RoundedSection):
            return _made(self._source, "float")
        content = json.loads(self._source.read_text())
        content["rounded"] = [name for name in content["layers"] if name not in section.skip_layers]
        for name in content["rounded"]:
            step = 2.0 / (section.levels - 1)
            content["layers"][name] = (np.round(np.array(content["layers"][name]) / step) * step).tolist()
        text = json.dumps(content)
        path = cache_root() / "toy" / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.toy"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return _made(path, "rounded")


def _made(path: Path, method: str) -> Made:
    content = path.read_bytes()
    return Made(path, hashlib.sha256(content).hexdigest(), len(content), method=method)


class ToyComparison:
    """The layers of two models, fed with the same numbers."""

    notes: Sequence[str] = ()

    def __init__(self, baseline: ToyModel, variant: ToyModel) -> None:
        self._pairs = list(zip(baseline.weights, variant.weights, strict=True))
        self.ops = [
            {"op": str(n), "baseline_op": str(n), "name": name, "type": "PRODUCT"}
            for n, name in enumerate(variant.names)
        ]

    def weights(self, record: RecordError) -> None:
        for number, (own, other) in enumerate(self._pairs):
            record("weights", str(number), own, other, None)

    def sample(self, inputs: Sequence[NDArray[Any]], record: RecordError) -> None:
        straight = whole = inputs[0]
        for number, (own, other) in enumerate(self._pairs):
            record("own", str(number), np.tanh(straight @ own), np.tanh(straight @ other), None)
            straight, whole = np.tanh(straight @ own), np.tanh(whole @ other)
            record("cumulative", str(number), straight, whole, None)


class ToyInterventions(Interventions):
    """Layers can be left as they are; nothing else can be changed."""

    def not_made_anew(self, entry: VariantEntry) -> str | None:
        return "it is a ready-made file" if entry.section.get("file") else None

    def layers_in_float(self, section: Section, names: Sequence[str], what: str) -> Section | Impossible:
        return changed(section, what, skip_layers=sorted({*section.get("skip_layers", ()), *names}))


class ToyRuntime(Runtime):
    """`.toy` files."""

    name = "toy"
    default_variants = _METHODS
    expects = "a .toy file"
    interventions = ToyInterventions()

    def accepts(self, path: Path) -> bool:
        return path.suffix == ".toy"

    def variant_section(self, keys: Mapping[str, Any]) -> type[VariantSection]:
        if keys.get("file"):
            return FileVariantSection
        method = str(keys.get("method") or keys["name"])
        if method not in _METHODS:
            raise ProfileError(f"there is no method {method!r} for a toy; there are {', '.join(_METHODS)}")
        return RoundedSection if method == "rounded" else MadeVariantSection

    def load(self, path: Path, options: RunOptions) -> Model:
        return ToyModel(path)

    def instrument(self, model: Model, path: Path, options: RunOptions) -> ProfiledModel:
        return ToyModel(path)

    def maker(self, model: ModelSection, device: str) -> ToyMaker:
        return ToyMaker(model)

    def compare_layers(self, baseline: Side, variant: Side, pairs: Sequence[tuple[str, str]]) -> LayerComparison:
        if not isinstance(baseline.model, ToyModel) or not isinstance(variant.model, ToyModel):
            raise ModelError("these are no toys")
        return ToyComparison(baseline.model, variant.model)


RUNTIME: Runtime = ToyRuntime()
