"""Variants on request: whatever the source is, made once and taken from the cache ever after."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qprof.errors import DataError, QprofError
from qprof.runtimes.base import Calibration
from qprof.runtimes.litert import cache, convert, float_model, objects, quantize
from qprof.runtimes.litert import calibrate as calibration_module
from qprof.runtimes.litert.calibrate import ActivationRanges
from qprof.runtimes.litert.flatbuffer import read_model
from qprof.runtimes.litert.variant import MadeVariant, file_sha256, refuse_unloadable
from qprof.store.own import OwnFolder

#: The method of a file that is run as it is, already quantized or not.
FILE = "file"

#: Part of every key: raise it where a change of this package changes the bytes that are made.
_REVISION = "2"


@dataclass(frozen=True, slots=True)
class MakeRequest:
    """One variant to make: `source` is a .tflite, a SavedModel folder or a Keras file; `method` is "file" (run it as
    it is) or as in `quantize.make`, which also describes the options. `batch` is the size given to the open batch of
    a SavedModel or Keras model, `None` to leave it open; `signature`: the one that is converted of it."""

    source: Path
    method: str
    calibration: Calibration | None = None
    ops: Sequence[str] | None = None
    skip_ops: Sequence[str] | None = None
    skip_layers: Sequence[str] | None = None
    io: str | None = None
    granularity: str | None = None
    ranges: str = calibration_module.RANGES[0]
    batch: int | None = 1
    threads: int | None = None
    signature: str = ""


def make_variant(request: MakeRequest) -> MadeVariant:
    """Make one variant, or take it from the cache.

    Raises:
        ModelError: the source is unreadable, an option does not fit, or the tool failed.
        DataError: a static method lacks calibration samples, or they do not fit.
        MissingExtraError: the source needs TensorFlow and it is not installed.
        StoreError: the cache cannot be written.
    """
    return VariantMaker().make(request)


def make_variants(requests: Sequence[MakeRequest]) -> list[MadeVariant | QprofError]:
    """Make several variants in this process; the error of one takes the place of its result and stops no other.

    Static variants of one source with the same samples share one calibration.
    """
    maker = VariantMaker()
    results: list[MadeVariant | QprofError] = []
    for request in requests:
        try:
            results.append(maker.make(request))
        except QprofError as error:
            results.append(error)
    return results


class VariantMaker:
    """Makes variants and keeps the activation ranges it has collected."""

    def __init__(self) -> None:
        self._ranges: dict[tuple[str, str, str], ActivationRanges] = {}

    def make(self, request: MakeRequest) -> MadeVariant:
        if request.method == FILE:
            return _as_it_is(request)
        quantize.parse_method(request.method)
        if convert.is_convertible(request.source) or request.source.is_dir():
            if _converter_knows(request):
                if not self._crashes_converter(request):
                    return self._cached(request, convert.versions(), self._convert)
                request = replace(request, ranges="min-max")  # as the converter would
            return self.make(replace(request, source=self._float32(request).path))
        if request.method == "float32":
            return _float_as_it_is(request)
        versions = {name: importlib.metadata.version(name) for name in (quantize.TOOL, "ai-edge-litert")}
        return self._cached(request, versions, self._quantize)

    def _float32(self, request: MakeRequest) -> MadeVariant:
        return self.make(MakeRequest(request.source, "float32", batch=request.batch, signature=request.signature))

    def _crashes_converter(self, request: MakeRequest) -> bool:
        """Whether the converter would take this process with it: TensorFlow 2.21 calibrates no model with loops (a
        recurrent layer of Keras) without a segmentation fault."""
        if quantize.parse_method(request.method)[0].how != "static":
            return False
        made = read_model(self._float32(request).path)
        return any(op.subgraphs for graph in made.subgraphs for op in graph.ops)

    def _cached(
        self,
        request: MakeRequest,
        versions: dict[str, str],
        maker: Callable[[MakeRequest, Path], MadeVariant],
    ) -> MadeVariant:
        method, _ = quantize.parse_method(request.method)
        calibrated = request.calibration if method.needs_calibration else None
        key = cache.key(
            request.source,
            request.method,
            _settings(request),
            calibrated.digest if calibrated else None,
            versions | {"qprof variants": _REVISION},
        )
        if stored := cache.lookup(key):
            return stored
        with OwnFolder() as folder:
            return cache.store(key, maker(request, folder / "model.tflite"))

    def _quantize(self, request: MakeRequest, destination: Path) -> MadeVariant:
        method, _ = quantize.parse_method(request.method)
        ranges, seconds = self._activation_ranges(request) if method.needs_calibration else (None, 0.0)
        made = quantize.make(
            request.method,
            request.source,
            destination,
            calibration=ranges,
            ops=request.ops,
            skip_ops=request.skip_ops,
            skip_layers=request.skip_layers,
            io=request.io,
            granularity=request.granularity,
            ranges=request.ranges,
            threads=request.threads,
        )
        return replace(made, seconds=made.seconds + seconds)

    def _activation_ranges(self, request: MakeRequest) -> tuple[ActivationRanges, float]:
        """The ranges, and the seconds that were spent on them now (0 where an earlier request paid)."""
        calibration = _calibration(request)
        known = (file_sha256(request.source), calibration.digest, request.ranges)
        if known in self._ranges:
            return self._ranges[known], 0.0
        started = time.perf_counter()
        model = float_model.read(request.source)
        ranges = calibration_module.calibrate(
            model, calibration.samples(), ranges=request.ranges, threads=request.threads
        )
        self._ranges[known] = ranges
        return ranges, time.perf_counter() - started

    def _convert(self, request: MakeRequest, destination: Path) -> MadeVariant:
        method, _ = quantize.parse_method(request.method)
        return convert.convert(
            request.method,
            request.source,
            destination,
            calibration=_calibration(request).samples() if method.needs_calibration else None,
            io=request.io,
            batch=request.batch,
            signature=request.signature,
        )


def _converter_knows(request: MakeRequest) -> bool:
    """Whether TensorFlow's converter can do the request by itself; it knows fewer methods and no selections."""
    selects = request.ops or request.skip_ops or request.skip_layers or request.granularity
    return request.method in convert.METHODS and not selects and request.ranges == calibration_module.RANGES[0]


def _calibration(request: MakeRequest) -> Calibration:
    if request.calibration is None:
        raise DataError(
            f"{request.source}: method {request.method} needs calibration samples; name a data set that has them"
        )
    return request.calibration


def _settings(request: MakeRequest) -> dict[str, Any]:
    return {
        "ops": sorted(request.ops) if request.ops is not None else None,
        "skip_ops": sorted(request.skip_ops or ()),
        "skip_layers": sorted(request.skip_layers or ()),
        "io": request.io,
        "granularity": request.granularity,
        "ranges": request.ranges,
        "batch": request.batch,
    } | ({"signature": request.signature} if request.signature else {})


def _as_it_is(request: MakeRequest) -> MadeVariant:
    started = time.perf_counter()
    content = objects.read_content(request.source)
    refuse_unloadable(content, str(request.source), float_model.UNLOADABLE)
    return _untouched(request, started)


def _float_as_it_is(request: MakeRequest) -> MadeVariant:
    """Checked to be float: a baseline that is quantized would make every comparison with it wrong."""
    started = time.perf_counter()
    float_model.read(request.source)
    return _untouched(request, started)


def _untouched(request: MakeRequest, started: float) -> MadeVariant:
    return MadeVariant(
        path=request.source,
        sha256=file_sha256(request.source),
        bytes=request.source.stat().st_size,
        method=request.method,
        seconds=time.perf_counter() - started,
        tool="none",
        tool_version="",
    )
