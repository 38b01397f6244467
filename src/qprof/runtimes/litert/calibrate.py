"""Calibration: the range of every activation of a float model over a set of samples."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import DataError, ModelError
from qprof.probes.machine import available_cores
from qprof.runtimes.litert.float_model import FloatModel
from qprof.runtimes.tool_output import first_line, tool_output_to_log

_log = logging.getLogger(__name__)

#: How the ranges of the samples become one range. "moving-average" is the quantizer's own way: an exponential moving
#: average with smoothing 0.95 (ai-edge-quantizer 0.10.0, `qsv_utils.py`), which clips rare extremes and depends on
#: the order of the samples. "min-max" takes the extremes over all samples, as tf.lite.TFLiteConverter does.
RANGES = ("moving-average", "min-max")


@dataclass(frozen=True, slots=True)
class ActivationRanges:
    """The quantizer's statistics by tensor name ("min", "max"), from `samples` samples in `seconds`.

    They do not depend on the bit width, so one calibration serves int8 and int16x8.
    """

    by_tensor: dict[str, Any]
    samples: int
    seconds: float
    ranges: str


def calibrate(
    model: FloatModel,
    samples: Iterable[Sequence[NDArray[Any]]],
    *,
    ranges: str = RANGES[0],
    threads: int | None = None,
) -> ActivationRanges:
    """Run the float model over `samples` (each one array per model input, in the order of the inputs).

    Samples are taken one at a time, so a generator over a large set needs the memory of one sample. The interpreter's
    calibration profiler collects the extremes in C++, about five times as fast as reading every tensor back; the
    slower way is taken where the profiler misses a tensor. `threads` defaults to the processors of this process.

    Raises:
        DataError: there is no sample, or one does not fit the model or holds a value that is not finite.
        ModelError: the interpreter cannot run the model; `ranges` is unknown.
    """
    if ranges not in RANGES:
        raise ModelError(f"{model.path}: unknown calibration ranges {ranges!r}; use one of {', '.join(RANGES)}")
    started = time.perf_counter()
    threads = threads or available_cores()
    collector: Any = None
    count = 0
    for number, arrays in enumerate(samples):
        feed = _feed(model, arrays, number)
        try:
            with tool_output_to_log():
                if collector is None:
                    collector = _collector(model, feed, ranges, threads)
                else:
                    _collect(collector, model, feed)
        except Exception as error:
            raise ModelError(
                f"{model.path}: calibration failed at sample {number}: {first_line(error)}; "
                "check that the samples have the shape and type of the model's inputs"
            ) from error
        count += 1
    if collector is None:
        raise DataError(f"{model.path}: calibration got no sample; give the data set's calibration images or inputs")
    return ActivationRanges(dict(collector.get_model_qsvs()), count, time.perf_counter() - started, ranges)


def _feed(model: FloatModel, arrays: Sequence[NDArray[Any]], number: int) -> dict[str, NDArray[Any]]:
    if len(arrays) != len(model.arguments):
        raise DataError(
            f"{model.path}: calibration sample {number} has {len(arrays)} arrays, the model has "
            f"{len(model.arguments)} inputs; give one array per input"
        )
    for array, name in zip(arrays, model.arguments, strict=True):
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            raise DataError(
                f"{model.path}: calibration sample {number} holds NaN or infinity for input {name!r}; "
                "check the preprocessing"
            )
    return {name: np.ascontiguousarray(array) for name, array in zip(model.arguments, arrays, strict=True)}


def _collector(model: FloatModel, feed: dict[str, NDArray[Any]], ranges: str, threads: int) -> Any:
    """A calibrator that has seen the first sample and covers every activation of the model."""
    from ai_edge_quantizer import calibrator  # type: ignore[import-untyped,unused-ignore]
    from ai_edge_quantizer.utils import qsv_utils  # type: ignore[import-untyped,unused-ignore]

    update = qsv_utils.min_max_update if ranges == "min-max" else qsv_utils.moving_average_update
    modes = calibrator.CalibrationMode
    collector: Any = None
    for mode in (modes.CALIBRATION_PROFILER_BASED, modes.CALIBRATION_PRESERVE_ALL_TENSORS):
        collector = calibrator.Calibrator(model.content, num_threads=threads, mode=mode, qsv_update_func=update)
        _collect(collector, model, feed)
        missing = model.activations - collector.get_model_qsvs().keys()
        if not missing:
            break
        _log.debug("%s: %s reports no range for %s", model.path, mode.name, ", ".join(sorted(missing)))
    return collector


def _collect(collector: Any, model: FloatModel, feed: dict[str, NDArray[Any]]) -> None:
    from ai_edge_quantizer import recipe, recipe_manager

    rules = recipe_manager.RecipeManager()
    rules.load_quantization_recipe(recipe.static_wi8_ai8())
    collector.calibrate({model.signature: [feed]}, rules)
