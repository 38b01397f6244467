"""What a profile may say of language models and of their variants."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from qprof.record.model import RunOptions
from qprof.record.sections import FilePath, FileVariantSection, MadeVariantSection, Positive

GPTQMODEL: Literal["gptqmodel"] = "gptqmodel"
AUTOGPTQ: Literal["autogptq"] = "autogptq"

DType = Literal["", "float32", "float16", "bfloat16"]
#: How a GPTQ checkpoint stores zero points: less one, or as they are.
Layout = Literal["", "gptq", "gptq_v2"]
Bits = Literal[2, 3, 4, 8]
#: -1: a group per row.
GroupSize = Annotated[int, Meta(ge=-1)]


class UnquantizedVariant(MadeVariantSection, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The model with its numbers in one float type, which is its method. `batch`: rows of a prompt, instead of the
    task's."""

    dtype: DType = ""
    batch: Positive | None = None


class GPTQVariant(MadeVariantSection, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A variant that gptqmodel quantizes. `bits` and `group_size` where the method does not name them; `desc_act` and
    `sym` as GPTQ's papers call them; `skip_layers`: linears that stay in float, by name. `kernel` of the quantized
    layers, `dtype` of the computation; `batch`: rows of a prompt, instead of the task's."""

    bits: Bits | None = None
    group_size: GroupSize | None = None
    desc_act: bool = False
    sym: bool = True
    skip_layers: list[str] = field(default_factory=list)
    kernel: str = ""
    dtype: DType = ""
    library: Literal["gptqmodel"] = GPTQMODEL
    batch: Positive | None = None


class AutoGPTQVariant(MadeVariantSection, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A variant that AutoGPTQ quantizes and runs. It chooses its kernel by itself, and skips no layers."""

    bits: Bits | None = None
    group_size: GroupSize | None = None
    desc_act: bool = False
    sym: bool = True
    dtype: DType = ""
    library: Literal["autogptq"]
    batch: Positive | None = None


class FromBaseline(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a variant takes from its `baseline`, a checkpoint's folder that is run in `dtype`. `weights`: linear of the
    variant -> linear of the baseline whose weights it has, in float; `outputs`: module -> module of the baseline whose
    output it gives out, in every inference. By the names that `qprof layers` lists."""

    baseline: FilePath
    dtype: DType = ""
    weights: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)


class CheckpointVariant(FileVariantSection, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A ready-made checkpoint, unquantized or GPTQ. `kernel`: of its quantized layers, `dtype` of the computation;
    `wide_from`: a module from which on it computes in float32. `layout`: "gptq" or "gptq_v2" to read its zero points
    so, whatever its settings say."""

    kernel: str = ""
    dtype: DType = ""
    layout: Layout = ""
    library: Literal["gptqmodel"] = GPTQMODEL
    batch: Positive | None = None
    parts: FromBaseline | None = None
    wide_from: str = ""


class AutoGPTQCheckpointVariant(FileVariantSection, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A ready-made GPTQ checkpoint, run by AutoGPTQ."""

    dtype: DType = ""
    library: Literal["autogptq"]
    batch: Positive | None = None


class TorchLMOptions(RunOptions, frozen=True, kw_only=True):
    """How torch runs a variant. `dtype` of the computation and `kernel` of quantized layers, "" for the runtime's
    choice; `library`: "autogptq" where that runs it; `parts`: what it has of another model. A prompt is `batch` rows of
    `prompt_tokens` tokens, behind which `generated_tokens` are decoded. `layout`: as which its zero points are read,
    where that is not what its settings say."""

    layout: str = ""
    dtype: str = ""
    kernel: str = ""
    library: str = ""
    batch: int = 1
    prompt_tokens: int = 64
    generated_tokens: int = 16
    parts: FromBaseline | None = None
    wide_from: str = ""
