"""How a finished GPTQ checkpoint is read: what its settings say, beside what its tensors say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qprof.runtimes.torch_lm import library, packed
from qprof.runtimes.torch_lm.checkpoint import FORMATS, Checkpoint, QuantizedFormat, normalised

#: What "gptq" stores is less by one than what a weight's zero point is; "gptq_v2" stores it as it is.
V1, V2 = FORMATS


@dataclass(frozen=True, slots=True)
class Reading:
    """`folder`: what the kernels' library loads; `form`: as the tensors are, which decides what kernels take them;
    `facts`, `notes`: for the manifest; `run`: options of the run that are not what the settings say."""

    folder: Path
    form: QuantizedFormat
    facts: Mapping[str, Any]
    run: Mapping[str, Any]
    notes: list[str]


def reading(checkpoint: Checkpoint, form: QuantizedFormat, layout: str = "") -> Reading:
    """How to read a GPTQ checkpoint; `layout`: see `checkpoint.normalised`. Raises `ModelError`."""
    library.require(("safetensors",))
    said, notes = form.checkpoint_format or V1, list[str]()
    read_as = layout or said
    moved = None if form.desc_act else packed.out_of_order(checkpoint.weight_files, form.group_size)
    if moved is not None:
        notes.append(
            f"its settings say desc_act = false, and the columns of {moved} do not lie in the order of their groups: "
            "run as desc_act = true; correct the settings, or kernels that believe them compute something else"
        )
    facts: dict[str, Any] = {"layout": read_as, "layout_said": said}
    zeros = packed.zero_points(checkpoint.weight_files, form.bits)
    if zeros is not None:
        facts["zero_points"] = {"values": list(zeros.values[:16]), "mean": zeros.mean, "linears": zeros.linears}
        stored_as = symmetric_layout(form.bits, zeros.values)
        facts["layout_of_zero_points"] = stored_as
        if stored_as is not None and stored_as != read_as:
            notes.append(
                f"read as {read_as}, and all of its zero points are stored as {zeros.values[0]}, which is the middle "
                f"of {form.bits} bits in {stored_as}: every weight is then one step off; layout = '{stored_as}' reads "
                "it so"
            )
        if read_as == V1 and zeros.spilled and not zeros.borrowed:
            notes.append(
                f"{zeros.spilled:.2%} of its packed zero points hold one that was stored as -1 and has wiped out those "
                "beside it: the file itself is damaged (AutoGPTQ with sym = false); quantize it again by gptqmodel"
            )
    folder = normalised(checkpoint, layout, moved is not None)
    other = {"layout": read_as} if read_as != said else {}
    return Reading(folder, replace(form, desc_act=form.desc_act or moved is not None), facts, other, notes)


def symmetric_layout(bits: int, values: tuple[int, ...]) -> str | None:
    """The layout in which one and the same stored zero point everywhere is the middle of the range, as symmetric
    quantization has it; `None` for others, which do not tell."""
    middle = 2 ** (bits - 1)
    stored = values[0] if len(values) == 1 else None
    return {middle - 1: V1, middle: V2}.get(stored) if stored is not None else None


def other_layout(layout: str) -> str:
    """The one of the two that this is not."""
    return V1 if layout == V2 else V2
