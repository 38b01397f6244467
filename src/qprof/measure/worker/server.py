"""What a worker does for each request, one at a time; state (the loaded variant) lives between them.

A request that fails is answered with a `Failure`; only the death of the process ends the conversation.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from functools import singledispatchmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from qprof.errors import QprofError, WorkerError
from qprof.measure import requests
from qprof.measure.channel import Channel, decoded

if TYPE_CHECKING:
    from qprof.measure.worker.bench import Bench
    from qprof.measure.worker.prepared_inputs import PreparedInputs
    from qprof.probes.carbon import CarbonEstimator, NoCarbon


class Server:
    """What one worker can be asked. Libraries are imported where they are needed: its memory is its variant's, or
    theirs, where it holds several."""

    def __init__(self) -> None:
        self._benches: dict[str, Bench] = {}
        self._prepared: PreparedInputs | None = None
        self._estimator: CarbonEstimator | NoCarbon | None = None

    @singledispatchmethod
    def answer(self, request: Any) -> Any:
        """The answer to a request, of the type that it names. Raises whatever goes wrong."""
        raise WorkerError(f"asked for {type(request).__name__}, which a worker does not do")

    @answer.register
    def _prepare(self, request: requests.PrepareTask) -> requests.PreparedAnswer:
        from qprof.measure.worker.making import prepare_task

        return prepare_task(request)

    @answer.register
    def _make(self, request: requests.MakeVariant) -> requests.MadeAnswer:
        from qprof.measure.worker.making import make_variant

        return make_variant(request)

    @answer.register
    def _preload(self, request: requests.Preload) -> requests.Done:
        from qprof.runtimes import registry

        registry.get(request.runtime).preload(request.run)
        return requests.Done()

    @answer.register
    def _load(self, request: requests.LoadVariant) -> requests.LoadedAnswer:
        from qprof.measure.worker.bench import Bench
        from qprof.measure.worker.prepared_inputs import PreparedInputs

        self._benches.pop(request.name, None)
        self._prepared = self._prepared or PreparedInputs()
        bench = self._benches[request.name] = Bench(request, self._prepared)
        return bench.describe()

    @answer.register
    def _instrument(self, request: requests.Instrument) -> requests.InstrumentedAnswer:
        return self._loaded(request).instrument()

    @answer.register
    def _warm_up(self, request: requests.WarmUp) -> requests.WarmedUpAnswer:
        return self._loaded(request).warm_up(request.phase, request.max_s)

    @answer.register
    def _block(self, request: requests.MeasureBlock) -> requests.BlockAnswer:
        return self._loaded(request).block(request)

    @answer.register
    def _notes(self, request: requests.CollectNotes) -> requests.NotesAnswer:
        return self._loaded(request).notes(request.decoding)

    @answer.register
    def _forget(self, request: requests.Forget) -> requests.Done:
        from qprof.measure.worker.memory_growth import let_go

        self._benches.clear()
        self._prepared = None
        let_go()
        return requests.Done()

    @answer.register
    def _score(self, request: requests.ScoreVariant) -> requests.ScoredAnswer:
        from qprof.measure.worker.scoring import score_variant

        return score_variant(request)

    @answer.register
    def _tabulate(self, request: requests.Tabulate) -> requests.TabulatedAnswer:
        from qprof.store.writer import write_tables

        blocks = write_tables(Path(request.folder), request.variants, request.sources)
        return requests.TabulatedAnswer(blocks=blocks)

    @answer.register
    def _compare_layers(self, request: requests.CompareLayers) -> requests.ComparedAnswer:
        from qprof.measure.worker.layer_errors import measure_layer_errors

        return measure_layer_errors(request)

    @answer.register
    def _compare_outputs(self, request: requests.CompareOutputs) -> requests.OutputsAnswer:
        from qprof.measure.worker.output_distances import measure_output_distances

        return measure_output_distances(request)

    @answer.register
    def _try_alternatives(self, request: requests.TryAlternatives) -> requests.PlausibilityAnswer:
        from qprof.measure.worker.plausibility import try_alternatives

        return try_alternatives(request)

    @answer.register
    def _ceilings(self, request: requests.MeasureCeilings) -> requests.CeilingsAnswer:
        from qprof.measure.worker.ceilings import measure_ceilings

        return measure_ceilings(request)

    @answer.register
    def _preload_estimator(self, request: requests.PreloadEstimator) -> requests.Done:
        from qprof.probes.carbon import preload

        preload()
        return requests.Done()

    @answer.register
    def _open_estimator(self, request: requests.OpenEstimator) -> requests.EstimatorAnswer:
        from qprof.probes.carbon import open_carbon

        self._estimator = open_carbon(request.country or None)
        return requests.EstimatorAnswer(missing=list(self._estimator.missing), facts=self._estimator.facts())

    @answer.register
    def _begin_estimate(self, request: requests.BeginEstimate) -> requests.Done:
        self._opened().begin()
        return requests.Done()

    @answer.register
    def _end_estimate(self, request: requests.EndEstimate) -> requests.EstimatorAnswer:
        from qprof.probes.carbon import to_readings

        estimator = self._opened()
        readings = to_readings(estimator.end(), time.perf_counter_ns())
        return requests.EstimatorAnswer(missing=list(estimator.missing), readings=readings)

    def _loaded(self, request: requests.OfVariant[Any]) -> Bench:
        if request.name not in self._benches:
            raise WorkerError("asked to measure before a variant was loaded")
        return self._benches[request.name]

    def _opened(self) -> CarbonEstimator:
        if self._estimator is None or self._estimator.facts() is None:
            raise WorkerError("asked for an estimate of CodeCarbon, which is not open")
        return cast("CarbonEstimator", self._estimator)


def serve(channel: Channel, answer: Callable[[Any], Any] | None = None) -> None:
    """Answer requests until the parent closes its end. `answer`: of a `Server`, unless given."""
    answer = answer or Server().answer
    while True:
        try:
            envelope = channel.receive()
        except (EOFError, OSError):
            return
        try:
            channel.send(answer(decoded(envelope, requests.AnyRequest)))  # type: ignore[arg-type]
        except QprofError as error:
            _fail(channel, type(error).__name__, str(error))
        except MemoryError:
            _fail(channel, "WorkerError", "out of memory")
        except Exception as error:  # the parent must learn of any failure; the traceback goes to this worker's log
            traceback.print_exc()
            _fail(channel, type(error).__name__, str(error))


def _fail(channel: Channel, kind: str, text: str) -> None:
    channel.send(requests.Failure(type=kind, text=text), failed=True)
