"""What it costs and gains to leave a variant's worst layers in float: predicted, and measured on models made anew."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from qprof.errors import ModelError, StoreError
from qprof.findings.comparison import interventions_of
from qprof.findings.effects import LATENCY, effect
from qprof.findings.energy import energy_table
from qprof.findings.float_layers import LayerError, error_rows, layer_errors, not_made_anew, section_in_float
from qprof.findings.layers import layers
from qprof.findings.summary import summarize
from qprof.findings.verify import Verification, carry_out, measured_again, profile_again
from qprof.measure.progress import ProgressDisplay
from qprof.runtimes.interventions import Impossible, Section
from qprof.stats.intervals import Interval
from qprof.store.run import Run

_BEST_PROVENANCE = ("measured", "estimated", "modelled")


@dataclass(frozen=True, slots=True)
class LayerCost:
    """One op of a variant by all that is known of it; `None`: not known.

    `own_sqnr_db`: its own error, `sqnr_db`: with that of all before it, `weight_sqnr_db`: of its weights alone.
    `share`: of the profiled time of an inference; of a layer timed in parts, that of all its parts. `energy_j`:
    that share of the inference's joules, since no sensor sees a layer: modelled, from joules that are `energy_source`.
    """

    op: str
    name: str
    type: str
    own_sqnr_db: float | None
    sqnr_db: float | None
    weight_sqnr_db: float | None
    own_saturated_share: float | None
    p50_us: Interval | None
    share: float | None
    weight_bytes: int | None
    activation_bytes: int | None
    energy_j: float | None
    energy_source: str | None


@dataclass(frozen=True, slots=True)
class FloatLayers:
    """A variant with its `count` worst layers in float, as it was predicted and as it was measured.

    `layers`: by name, the worst first; `skip_layers`: all ops that stay in float with them. `noise_share`: the part of
    all these in the noise of all layers, the powers of which are taken to add up (`LayerError.noise`). `predicted`:
    what the leading score gains by that, its loss taken to be in proportion to the noise; `gained`: what it gained,
    both against the variant itself. `latency_change_us`: against the variant. `reason`: why there are no figures.
    """

    variant: str
    count: int
    layers: tuple[str, ...]
    skip_layers: tuple[str, ...]
    noise_share: float
    predicted: float | None
    score: float | None = None
    gained: Interval | None = None
    latency_us: Interval | None = None
    latency_change_us: Interval | None = None
    file_bytes: int | None = None
    reason: str | None = None


def layer_rows(run: Run, variant: str) -> list[LayerCost]:
    """Every op of a variant that was timed or compared, in the order of its op list (first phase).

    Raises `StoreError` where neither was done.
    """
    errors = {row.op: row for row in error_rows(run, variant)}
    metas = {op.op: op for op in run.ops_of(variant)}
    try:
        timed = {row.meta.op: row for row in layers(run, variant).rows if row.meta is not None}
    except StoreError:
        if not errors:
            raise
        timed = {}
    joules, source = _joules(run, variant)
    parts: dict[str, float] = {}
    for row in timed.values():
        if row.meta is not None and row.meta.parent is not None:
            parts[row.meta.parent] = parts.get(row.meta.parent, 0.0) + row.share
    found = []
    for op in [*(op for op in metas if op in timed or op in errors), *(op for op in errors if op not in metas)]:
        meta, error, time = metas.get(op), errors.get(op), timed.get(op)
        # A layer that was taken apart has no time of its own, and those of its parts; a container has one, or no error.
        share = time.share if time else parts.get(op) if error and error.own_sqnr_db is not None else None
        named = meta or error
        assert named is not None  # the op is of one of them
        found.append(
            LayerCost(
                op=op,
                name=named.name,
                type=named.type,
                own_sqnr_db=error.own_sqnr_db if error else None,
                sqnr_db=error.sqnr_db if error else None,
                weight_sqnr_db=error.weight_sqnr_db if error else None,
                own_saturated_share=error.own_saturated_share if error else None,
                p50_us=time.p50_us if time else None,
                share=share,
                weight_bytes=meta.weight_bytes if meta else None,
                activation_bytes=meta.activation_bytes if meta else None,
                energy_j=share * joules if share is not None and joules is not None else None,
                energy_source=source if share is not None else None,
            )
        )
    return found


def _joules(run: Run, variant: str) -> tuple[float | None, str | None]:
    """Joules of an inference of the first phase by the best sensor, and their provenance."""
    rows = [row for row in energy_table(run, run.phase()).rows if row.variant == variant]
    for provenance in _BEST_PROVENANCE:
        for row in rows:
            if row.provenance == provenance and row.gross.value is not None:
                return row.gross.value, f"{provenance}: {row.sensor}"
    return None, None


def float_layer_pareto(
    run: Run, variant: str, progress: ProgressDisplay, most_layers: int = 8, samples: int | None = None
) -> list[FloatLayers]:
    """Leave the 1, 2, 4, ... worst layers of a variant in float, make each of these models and measure them beside the
    variant, in one run inside the run's folder; one that was made before is taken from there. The first row is the
    variant as it is.

    `samples`: how many are scored, `None` for as many as in the run. Raises `StoreError` where the run has no errors of
    the variant's layers, `ModelError` where it cannot be made anew, and what `qprof run` raises.
    """
    known = layer_errors(run, variant)
    usable = [layer for layer in known if layer.skip_layers]
    if not usable:
        raise StoreError(
            f"{run.folder}: no errors of quantized layers of {variant}; run it with protocol.layer_errors above 0"
        )
    obstacle = not_made_anew(run, variant)
    if obstacle is not None:
        raise ModelError(f"{variant}: {obstacle}")
    entry = run.variant(variant)
    steps = {}
    for count in _doubling(min(most_layers, len(usable))):
        step = section_in_float(entry, interventions_of(entry), usable[:count], f"{count}-in-float")
        if isinstance(step, Impossible):
            raise ModelError(f"{variant}: {step.reason}")
        steps[count] = step
    verified = carry_out(run, _verification(run, variant, list(steps.values()), samples), progress)
    metric = verified.metric
    planned = [_planned(run, variant, known, usable[:count], after) for count, after in steps.items()]
    start = FloatLayers(variant, 0, (), tuple(entry.section.get("skip_layers", ())), 0.0, None)
    return [_measured(verified, variant, metric, row) for row in (start, *planned)]


def _doubling(most: int) -> Iterator[int]:
    count = 1
    while count <= most:
        yield count
        count *= 2


def _verification(run: Run, variant: str, sections: Sequence[Section], samples: int | None) -> Verification:
    data = profile_again(run)
    data["variants"] = [dict(run.variant(run.baseline).section), dict(run.variant(variant).section), *sections]
    data["name"] = f"{data['name']}-float-layers"
    data["protocol"] = {**measured_again(data["protocol"]), "scored": True}
    if samples is not None:
        if "limit" not in data["task"]:
            raise ModelError(f"{variant}: a {data['task']['kind']} task has no limit of samples")
        data["task"]["limit"] = samples
    return Verification("float-layers", data, ())


def _planned(
    run: Run, variant: str, known: Sequence[LayerError], chosen: Sequence[LayerError], after: Section
) -> FloatLayers:
    skipped = set(after["skip_layers"])
    # Neighbours that stay in float with a layer make no noise either.
    quiet = [layer for layer in known if layer in chosen or layer.name in skipped]
    share = sum(layer.noise for layer in quiet) / sum(layer.noise for layer in known)
    metric = run.metric
    lost = None if metric is None else effect(run, metric, variant, run.baseline)
    return FloatLayers(
        variant=after["name"],
        count=len(chosen),
        layers=tuple(layer.name for layer in chosen),
        skip_layers=tuple(after["skip_layers"]),
        noise_share=share,
        predicted=None if lost is None else share * lost.value,
    )


def _measured(verified: Run, variant: str, metric: str | None, row: FloatLayers) -> FloatLayers:
    """The row with its figures."""
    entry = verified.variant(row.variant)
    figures: dict[str, Any] = {"file_bytes": entry.bytes}
    if entry.failed:
        figures["reason"] = str(entry.reason)
    else:
        summary = next(one for one in summarize(verified) if one.name == row.variant)
        figures["latency_us"] = summary.latency_us
        figures["score"] = None if metric is None else verified.score(row.variant, metric)
        if row.variant != variant:
            gained = None if metric is None else effect(verified, metric, variant, row.variant)
            slower = effect(verified, LATENCY, variant, row.variant, verified.phase())
            figures["gained"] = gained.interval() if gained else None
            figures["latency_change_us"] = slower.interval() if slower else None
    return replace(row, **figures)
