"""Layers of a variant by their own error, and the variant made again with some of them left in float.

A layer of LiteRT is in float only where the tensors that it reads and writes are: an op between quantized neighbours is
given rounded numbers and hands rounded numbers on. So its neighbours in the graph stay in float with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from qprof.errors import ModelError
from qprof.findings.causes.base import Evidence, Hypothesis, Intervention, Prediction
from qprof.findings.comparison import Comparison, interventions_of
from qprof.findings.effects import effect
from qprof.findings.margins import SCORE_MARGIN
from qprof.record.distances import DECIDING
from qprof.record.manifest import VariantEntry
from qprof.record.perplexities import LOWER_IS_BETTER
from qprof.record.rows import INPUT, LayerErrorRow
from qprof.runtimes.interventions import Impossible, Interventions, Section
from qprof.stats.intervals import Interval
from qprof.stats.verdict import judge
from qprof.store.run import Run

#: More layers than these are no few, and leaving them all in float would give back any loss: three, or a tenth of a
#: model's.
_MOST_LAYERS, _MOST_OF = 3, 10
#: Of fewer layers, none can be told from "the others".
FEWEST_LAYERS = 8
#: A calibration that clips rare extremes saturates up to a few elements in a thousand of a sound layer.
SATURATED_SHARE = 0.01
#: A layer that is not quantized computes what the baseline's does, but for its own rounding: with more error than this
#: of its own it has other weights, or was spoiled.
SPOILED_DB = 30.0
#: What a layer that computes the same bit by bit counts as: no quantizer comes near it. No figure to be told.
IDENTICAL_DB = 200.0
#: The cause whose layers cut off what they give (`causes.saturated_activations`).
_SATURATED = "saturated_activations"
#: Part of the loss that must come back: half of it, or the loss is elsewhere; above all of it for the scatter.
BACK = (0.5, 1.3)
_LONGEST_LABEL = 48


def most_layers(compared: int) -> int:
    """How many of the layers that were compared are still a few."""
    return max(_MOST_LAYERS, compared // _MOST_OF)


@dataclass(frozen=True, slots=True)
class LayerError:
    """A layer and its own error: what it adds itself, given the baseline's inputs.

    `baseline_name`: of its counterpart, "" where it has none. `skip_layers`: what stays in float where this layer does,
    by the names of the float model; empty where a conversion was inserted and the model's file is not there to tell for
    what.
    """

    op: str
    name: str
    baseline_name: str
    type: str
    own_sqnr_db: float
    saturated_share: float | None
    skip_layers: tuple[str, ...]

    @property
    def noise(self) -> float:
        """Power of the layer's own error as a share of its signal."""
        return float(10.0 ** (-self.own_sqnr_db / 10.0))

    @property
    def label(self) -> str:
        """The name, its middle left out where it is long."""
        half = _LONGEST_LABEL // 2
        return self.name if len(self.name) <= _LONGEST_LABEL else f"{self.name[:half]}…{self.name[-half:]}"


def error_rows(run: Run, variant: str) -> list[LayerErrorRow]:
    """Rows of `layer_errors.parquet` of a variant; none for a run from before there was such a table."""
    return [row for row in run.layer_errors if row.variant == variant]


def layer_errors(run: Run, variant: str, all_float: bool = False) -> list[LayerError]:
    """The quantized layers of a variant whose own error is known, and those that were spoiled, the worst first; with
    `all_float` all layers of a variant that has no quantized one. Empty where none was compared."""
    rows = error_rows(run, variant)
    if not rows:
        return []
    quantized = {op.op for op in run.op_meta.get(variant, []) if op.quantization is not None}
    entry = run.variant(variant)
    names, beside = _names(run, variant, rows), interventions_of(entry).beside(entry)
    own, baseline = ({op.op: op.name for op in run.op_meta.get(one, [])} for one in (variant, run.baseline))
    found = []
    for row in rows:
        own_db = IDENTICAL_DB if row.own_identical else row.own_sqnr_db
        if row.type == INPUT or own_db is None:
            continue
        if row.op not in quantized and own_db >= SPOILED_DB and (quantized or not all_float):
            continue
        together = [] if row.baseline_op is None else [row.op]
        together += beside.get(row.op, [])
        skipped = tuple(dict.fromkeys(names[op] for op in together if op in names))
        name, counterpart = own.get(row.op, row.name), baseline.get(row.baseline_op or "", "")
        error = LayerError(row.op, name, counterpart, row.type, own_db, row.own_saturated_share, skipped)
        found.append(error)
    return sorted(found, key=lambda layer: layer.own_sqnr_db)


def _names(run: Run, variant: str, rows: Sequence[LayerErrorRow]) -> dict[str, str]:
    """Op of the variant -> its name in the model that variants are made from, which is the baseline's."""
    baseline = {op.op: op.name for op in run.op_meta.get(run.baseline, [])}
    names = {op.op: op.name for op in run.op_meta.get(variant, [])} | {row.op: row.name for row in rows}
    return names | {row.op: baseline[row.baseline_op] for row in rows if row.baseline_op in baseline}


def saturated(layers: Sequence[LayerError]) -> list[LayerError]:
    """All layers whose range cuts off a part of their numbers, with a larger error than the middle one: a calibration
    on other data spoils many."""
    if len(layers) < FEWEST_LAYERS:
        return []
    middle = median(layer.own_sqnr_db for layer in layers)
    found = [layer for layer in layers if (layer.saturated_share or 0.0) >= SATURATED_SHARE]
    return [layer for layer in found if layer.own_sqnr_db < middle]


def lost_score(comparison: Comparison) -> tuple[str, Interval] | None:
    """The leading score and its difference to the baseline's, where it is worse by more than what counts as none."""
    run = comparison.run
    metric = run.metric
    if not comparison.leads or metric is None or metric in LOWER_IS_BETTER:
        return None
    found = effect(run, metric, comparison.baseline, comparison.variant)
    if found is None:
        return None
    verdict = judge(found, SCORE_MARGIN, lower_is_better=False)
    return (metric, verdict.effect) if verdict.kind == "worse" else None


def loses(comparison: Comparison) -> str:
    """What is told of a variant whose leading score fell: without labels, nobody knows its accuracy."""
    if comparison.run.metric in DECIDING:
        return f"{comparison.variant} moves away from {comparison.baseline}'s outputs"
    return f"{comparison.variant} loses its accuracy"


def section_in_float(
    entry: VariantEntry, interventions: Interventions, layers: Sequence[LayerError], what: str
) -> Section | Impossible:
    """The section of a variant with these layers left in float, called "NAME+WHAT"."""
    skipped = sorted({name for layer in layers for name in layer.skip_layers})
    return interventions.layers_in_float(entry.section, skipped, what)


def not_made_anew(run: Run, variant: str) -> str | None:
    """Why a variant cannot be made again with layers left in float; `None` where it can."""
    entry = run.variant(variant)
    return interventions_of(entry).not_made_anew(entry)


def hypothesis(
    comparison: Comparison, cause: str, layers: Sequence[LayerError], claim: str, evidence: tuple[Evidence, ...]
) -> Hypothesis | None:
    """That these layers cost the leading score what it lost: with them in float, half of it or more must come back.
    `None` where no score was lost."""
    lost = lost_score(comparison)
    if lost is None:
        return None
    metric, change = lost
    intervention, untestable = None, comparison.interventions.not_made_anew(comparison.b)
    if untestable is not None:
        return _patched(comparison, cause, layers, claim, evidence, lost)
    if not all(layer.skip_layers for layer in layers):
        untestable = "which ops read the converted tensor is not known, since the model's file is gone; run anew"
    if untestable is None:
        what = f"without-{cause.replace('_', '-')}"
        after = section_in_float(comparison.b, comparison.interventions, layers, what)
        if isinstance(after, Impossible):
            raise ModelError(after.reason)  # `not_made_anew` would have said so
        low, high = (-change.value * share for share in BACK)
        count = len(after["skip_layers"]) - len(comparison.b.section.get("skip_layers", ()))
        intervention = Intervention(
            does=f"make {comparison.variant} again with {count} ops left in float: the layers named, and what they "
            "read from and write to",
            prediction=Prediction(metric, comparison.variant, after["name"], low, high),
            variants=(after,),
            replaces=count,
        )
    return _hypothesis(cause, claim, evidence, lost, intervention, untestable)


def _patched(
    comparison: Comparison,
    cause: str,
    layers: Sequence[LayerError],
    claim: str,
    evidence: tuple[Evidence, ...],
    lost: tuple[str, Interval],
) -> Hypothesis:
    """A finished model: the baseline's activations in the running graph, once in place of what the layers are given
    and once in place of what they give. What comes back by the second alone is theirs: a layer near the model's end
    would else give back what all those before it lost. A range that cuts off would cut off the baseline's activations
    as well, so these are put behind what reads it.
    """
    metric, change = lost
    known = counterparts(comparison)
    replaced = _weights_of_baseline(comparison, cause, layers, known, lost)
    if replaced is None:
        replaced = _ops_of_baseline(comparison, cause, layers, known, lost)
    if replaced is not None:
        return _hypothesis(cause, claim, evidence, lost, replaced, None)
    sides = comparison.interventions.by_side(comparison.b)
    given: list[str] = []
    gives = [layer.op for layer in layers]
    for layer in layers:
        before, behind = sides.get(layer.op, ((), ()))
        given += before
        gives += behind if cause == _SATURATED else ()
    outside = [op for op in dict.fromkeys(given) if op in known and op not in gives]
    after = comparison.interventions.patched(comparison.b, comparison.a, [known[op] for op in gives if op in known])
    if not all(layer.baseline_name for layer in layers):
        after = Impossible("the baseline has no layer in the place of one of them, so nothing can be put there")
    if isinstance(after, Impossible):
        return _hypothesis(cause, claim, evidence, lost, None, after.reason)
    before_them = (
        comparison.interventions.patched(comparison.b, comparison.a, [known[op] for op in outside])
        if outside
        else comparison.b.section
    )
    if isinstance(before_them, Impossible):
        return _hypothesis(cause, claim, evidence, lost, None, before_them.reason)
    low, high = (-change.value * share for share in BACK)
    against = ", against the same in place of what they are given" if outside else ""
    intervention = Intervention(
        does=f"put the baseline's activations in place of what {len(layers)} layer{'s' * (len(layers) > 1)} of "
        f"{comparison.variant} give{'s' * (len(layers) == 1)}{against}",
        prediction=Prediction(metric, before_them["name"], after["name"], low, high),
        variants=(before_them, after) if outside else (after,),
        replaces=len(gives),
    )
    return _hypothesis(cause, claim, evidence, lost, intervention, None)


def _weights_of_baseline(
    comparison: Comparison,
    cause: str,
    layers: Sequence[LayerError],
    known: Mapping[str, tuple[str, str]],
    lost: tuple[str, Interval],
) -> Intervention | None:
    """The baseline's weights in the layers of a finished model of modules: the least that can be changed about them.
    `None` where the layers are not linears of both, and where it is not their weights that cut off."""
    if comparison.b.structure != "modules" or cause == _SATURATED or not all(layer.op in known for layer in layers):
        return None
    after = comparison.interventions.constants_from(comparison.b, comparison.a, [known[one.op] for one in layers])
    does = weights_into(comparison, len(layers))
    return _with_baselines(comparison, does, after, len(layers), lost)


def weights_into(comparison: Comparison, layers: int) -> str:
    """What is done to the variant whose layers are given the baseline's weights."""
    return f"put {comparison.baseline}'s weights into {layers} layer{'s' * (layers != 1)} of {comparison.variant}"


def _ops_of_baseline(
    comparison: Comparison,
    cause: str,
    layers: Sequence[LayerError],
    known: Mapping[str, tuple[str, str]],
    lost: tuple[str, Interval],
) -> Intervention | None:
    """The baseline's ops, with their weights and settings, in place of layers that are not quantized. The rest of the
    model is given what it was: where one of them follows on another, activations put before it would give back what
    the first lost, as if that were not theirs. `None` where the runtime or the ops do not allow it."""
    quantized = {op.op for op in comparison.ops(comparison.variant) if op.quantization is not None}
    if comparison.b.structure == "modules" or cause == _SATURATED:
        return None
    if not all(layer.op in known and layer.op not in quantized for layer in layers):
        return None
    after = comparison.interventions.ops_from(comparison.b, comparison.a, [known[one.op] for one in layers])
    its = "op in place of 1 layer" if len(layers) == 1 else f"ops in place of {len(layers)} layers"
    does = f"put {comparison.baseline}'s {its} of {comparison.variant}"
    return _with_baselines(comparison, does, after, len(layers), lost)


def _with_baselines(
    comparison: Comparison, does: str, after: Section | Impossible, replaces: int, lost: tuple[str, Interval]
) -> Intervention | None:
    """The experiment with a part of the baseline in the variant, against the variant as it is."""
    if isinstance(after, Impossible):
        return None
    metric, change = lost
    low, high = (-change.value * share for share in BACK)
    return Intervention(
        does=does,
        prediction=Prediction(metric, comparison.variant, str(after["name"]), low, high),
        variants=(after,),
        replaces=replaces,
    )


def counterparts(comparison: Comparison) -> dict[str, tuple[str, str]]:
    """Op of the variant -> its name and that of its counterpart in the baseline, where it has one."""
    baseline = {op.op: op.name for op in comparison.run.op_meta.get(comparison.baseline, [])}
    names = {op.op: op.name for op in comparison.run.op_meta.get(comparison.variant, [])}
    return {
        row.op: (names.get(row.op, row.name), baseline[row.baseline_op])
        for row in error_rows(comparison.run, comparison.variant)
        if row.baseline_op in baseline
    }


def _hypothesis(
    cause: str,
    claim: str,
    evidence: tuple[Evidence, ...],
    lost: tuple[str, Interval],
    intervention: Intervention | None,
    untestable: str | None,
) -> Hypothesis:
    metric, change = lost
    return Hypothesis(
        cause=cause,
        claim=f"{claim}; {metric} {change.value:+.3f}",
        figure=metric,
        effect=change,
        evidence=(Evidence(f"{metric} lost", change.value, "1", "scores.parquet", change), *evidence),
        intervention=intervention,
        untestable=untestable,
    )
