"""The rows of a run's tables. The columns of every table are derived from these types (`qprof.record.columns`)."""

from __future__ import annotations

from dataclasses import dataclass

from qprof.record.columns import Int32, columns
from qprof.record.ops import OpMeta


@dataclass(frozen=True, slots=True)
class OfVariant:
    """Which variant a row is of."""

    variant: str


@dataclass(frozen=True, slots=True)
class InBlock:
    """Which block a row is of; see `qprof.record.blocks.Block`."""

    variant: str
    block: Int32
    round: Int32
    kind: str
    phase: str


@dataclass(frozen=True, slots=True)
class SampleRow(InBlock):
    """One inference (`samples.parquet`)."""

    inference: Int32
    sample: Int32
    start_ns: int
    duration_ns: int


@dataclass(frozen=True, slots=True)
class OpRow(InBlock):
    """One op event (`ops.parquet`); `source` is one of `qprof.record.ops.SOURCES`."""

    inference: Int32
    sample: Int32
    op: str
    start_ns: int
    duration_ns: int
    source: str


@dataclass(frozen=True, slots=True)
class ReadingRow(InBlock):
    """One sensor reading (`readings.parquet`)."""

    probe: str
    t_ns: int
    value: float
    unit: str
    provenance: str


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """A score of one sample, or of the whole data set where `sample` is `None` (`scores.parquet`)."""

    variant: str
    metric: str
    sample: Int32 | None
    value: float | None


#: `LayerErrorRow.type` of an input that a variant stores in rounded numbers: what its steps and range lose.
INPUT = "INPUT"


def input_id(position: int) -> str:
    """`LayerErrorRow.op` of the input at a position."""
    return f"input:{position}"


@dataclass(frozen=True, slots=True)
class LayerErrorRow:
    """How far one op of a variant, or one of its quantized inputs (`INPUT`), is from the baseline's
    (`layer_errors.parquet`).

    Without prefix: the variant runs from its inputs on, as it is in use; `own_`: the op is given the baseline's inputs;
    `weight_`, `bias_`: what its constants stand for. See `qprof.stats.quantization_error`.
    `weight_offset_share` is not in runs of before there was such a column.
    """

    variant: str
    op: str
    baseline_op: str | None
    name: str
    type: str
    sqnr_db: float | None
    identical: bool | None
    cosine: float | None
    max_error: float | None
    max_error_of_range: float | None
    saturated_share: float | None
    nonfinite: int | None
    own_sqnr_db: float | None
    own_identical: bool | None
    own_cosine: float | None
    own_max_error_of_range: float | None
    own_saturated_share: float | None
    weight_sqnr_db: float | None
    weight_identical: bool | None
    bias_sqnr_db: float | None
    bias_identical: bool | None
    count: int | None
    samples: Int32
    weight_offset_share: float | None = None


@dataclass(frozen=True, slots=True)
class PlausibilityRow:
    """What one sample adds to the baseline's score under one change of the task's settings (`plausibility.parquet`).

    `setting`: the change as a profile has it, "" for none; `says`: what it means. The score is sum(part) / sum(whole);
    which score, `qprof.record.manifest.PlausibilityFacts` tells.
    """

    variant: str
    setting: str
    says: str
    sample: Int32
    part: float
    whole: float


@dataclass(frozen=True, slots=True)
class OutputDistanceRow:
    """How far one output of a variant is from the baseline's on one input (`output_distances.parquet`).

    `meaning`: what the output was taken for, "probabilities", "logits", "values" or "exact"; the figures are those of
    `qprof.stats.output_distance.OutputDistance`.
    """

    variant: str
    output: str
    baseline_output: str
    meaning: str
    sample: Int32
    elements: int
    identical: bool
    nonfinite: int
    relative_error: float
    signal: float | None
    noise: float | None
    cosine: float | None
    rows: int | None
    same_top: int | None
    tied: int | None
    baseline_top: int | None
    kl: float | None


IN_BLOCK_COLUMNS = columns(InBlock)
SAMPLE_COLUMNS = columns(SampleRow)
OP_COLUMNS = columns(OpRow)
READING_COLUMNS = columns(ReadingRow)
SCORE_COLUMNS = columns(ScoreRow)
LAYER_ERROR_COLUMNS = columns(LayerErrorRow)
PLAUSIBILITY_COLUMNS = columns(PlausibilityRow)
OUTPUT_DISTANCE_COLUMNS = columns(OutputDistanceRow)
#: Of `op_meta.parquet`: an op of one variant.
OP_META_COLUMNS = {"variant": "string", **columns(OpMeta)}
