"""From the raw output of a classifier to what is kept of one sample, enough to score it as whatever it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from qprof.errors import DataError
from qprof.record.quantization import dequantize, is_quantized, real_range
from qprof.record.tensors import TensorSpec
from qprof.tasks import topk

#: What the numbers of an output are.
Kind = Literal["auto", "logits", "probabilities"]

#: Classes that a prediction names.
TOP = 5

#: Ops that change nothing about what the numbers in front of them mean.
_PASSING = frozenset({"DEQUANTIZE", "QUANTIZE", "RESHAPE", "CAST", "SQUEEZE", "DELEGATE"})


class Prediction(TypedDict):
    """What a variant said of one sample. `None` where an output is not finite.

    `file`: the sample's place in the data; `label`: its class as the data have it, `target`: the output that stands for
    it. `says`: the output that leads, `tied`: how many others are as high; `rank`: outputs ahead of the target, of
    equals those of a lower index. `top`: output and value of the highest. `value`: the target's; `log_likelihood`: of
    the target by softmax. Over all outputs: `sum`, `low`, `high`, `least` above 0, `squares` (their sum), `log_sum`
    (log-sum-exp), `soft_squares` (sum of squares of the softmax). `step`: of a quantized output, 0 for floats.
    """

    file: str
    label: str
    target: int
    outputs: int
    step: float
    says: int | None
    tied: int
    rank: int | None
    top: list[tuple[int, float]]
    value: float | None
    log_likelihood: float | None
    sum: float | None
    low: float | None
    high: float | None
    least: float | None
    squares: float | None
    log_sum: float | None
    soft_squares: float | None


@dataclass(slots=True)
class Output:
    """The output of a model that holds a number for each class. Raises `DataError` where that is not clear.

    A lone number is a classifier of two: the probability of class 1, or its logit.
    """

    specs: Sequence[TensorSpec]
    op_types: Sequence[str]
    name: str = ""
    kind: Kind = "auto"
    wanted: Sequence[int] = ()
    position: int = field(init=False)
    classes: int = field(init=False)
    notes: list[str] = field(init=False, default_factory=list)
    _lone_logit: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.position = self._chosen()
        spec = self.specs[self.position]
        count = int(np.prod(spec.shape, dtype=np.int64))
        self.classes = max(2, count)
        if count == 1:
            self._lone_logit = self._is_lone_logit(spec)
            what = "logit" if self._lone_logit else "probability"
            self.notes.append(
                f"output {spec.name!r} is a single number, taken for the {what} of class 1 of two: set output_values "
                "if it is the other"
            )

    def vector(self, outputs: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """A real number for each class: float32[classes]."""
        spec = self.specs[self.position]
        real = dequantize(outputs[self.position], spec).astype(np.float32, copy=False).reshape(-1)
        if real.size != 1:
            return real
        return np.array([0.0, real[0]] if self._lone_logit else [1.0 - real[0], real[0]], np.float32)

    @property
    def step(self) -> float:
        """Between neighbouring values of a quantized output, 0 for floats."""
        spec = self.specs[self.position]
        return float(spec.scale or 0.0) if is_quantized(spec) else 0.0

    def _chosen(self) -> int:
        told = ", ".join(f"{spec.name} {list(spec.shape)}" for spec in self.specs)
        if self.name:
            named = [n for n, spec in enumerate(self.specs) if spec.name == self.name]
            if len(named) != 1:
                raise DataError(f"the model has no output {self.name!r}, but {told}: set output to one of them")
            self._refuse_other_shapes(self.specs[named[0]])
            return named[0]
        vectors = [n for n, spec in enumerate(self.specs) if _is_vector(spec)]
        if len(vectors) > 1:
            vectors = [n for n in vectors if int(np.prod(self.specs[n].shape)) in self.wanted] or vectors
        if len(vectors) > 1:
            raise DataError(f"the model has several outputs that may hold classes ({told}): set output to one of them")
        if not vectors:
            raise DataError(
                f"no output of the model holds one number for each class ({told}): give a classifier, or another task"
            )
        return vectors[0]

    def _refuse_other_shapes(self, spec: TensorSpec) -> None:
        if not _is_vector(spec):
            raise DataError(f"output {spec.name!r} of {list(spec.shape)} holds more than one number for each class")

    def _is_lone_logit(self, spec: TensorSpec) -> bool:
        if self.kind != "auto":
            return self.kind == "logits"
        if is_quantized(spec):
            low, high = real_range(spec)
            return low < -0.01 or high > 1.01
        behind = [op for op in self.op_types if op not in _PASSING]
        return not behind or behind[-1] != "LOGISTIC"


def _is_vector(spec: TensorSpec) -> bool:
    return bool(spec.shape) and sum(size != 1 for size in spec.shape) <= 1 and min(spec.shape) > 0


def prediction(values: NDArray[np.float32], target: int, step: float, file: str, label: str) -> Prediction:
    """See `Prediction`. `values`: float32[classes]."""
    found: Prediction = {
        "file": file,
        "label": label,
        "target": target,
        "outputs": len(values),
        "step": step,
        "says": None,
        "tied": 0,
        "rank": None,
        "top": [],
        "value": None,
        "log_likelihood": None,
        "sum": None,
        "low": None,
        "high": None,
        "least": None,
        "squares": None,
        "log_sum": None,
        "soft_squares": None,
    }
    if not np.isfinite(values).all():
        return found
    scored = topk.score(values[None], np.array([target], np.int64), k=(1,), threads=1)
    assert scored.log_likelihood is not None  # asked for by default
    wide = values.astype(np.float64)
    highest = float(wide.max())
    shifted = np.exp(wide - highest)
    total = float(shifted.sum())
    found["says"] = int(scored.argmax[0])
    found["tied"] = int(np.count_nonzero(values == values.max())) - 1
    found["rank"] = int(scored.rank[0])
    found["top"] = [(int(n), float(wide[n])) for n in np.argsort(-wide, kind="stable")[:TOP]]
    found["value"] = float(wide[target])
    found["log_likelihood"] = float(scored.log_likelihood[0])
    found["sum"], found["low"], found["high"] = float(wide.sum()), float(wide.min()), highest
    found["least"] = float(wide[wide > 0].min()) if highest > 0 else None
    found["squares"] = float(np.square(wide).sum())
    found["log_sum"] = highest + float(np.log(total))
    found["soft_squares"] = float(np.square(shifted / total).sum())
    return found
