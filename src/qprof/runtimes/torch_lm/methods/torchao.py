"""int8 and int4 by torchao: weights alone, or int8 with activations quantized on the fly."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import field

from qprof.errors import ModelError
from qprof.record.sections import MadeVariantSection, Positive
from qprof.runtimes.base import Calibration, Made
from qprof.runtimes.torch_lm.forms import stored
from qprof.runtimes.torch_lm.forms import torchao as form
from qprof.runtimes.torch_lm.methods import by_form
from qprof.runtimes.torch_lm.methods.base import Method, Source
from qprof.runtimes.torch_lm.sections import DType, GroupSize

_METHOD = re.compile(r"torchao-(?P<scheme>int8-weight-only|int8-dynamic|int4-weight-only)(?:-g(?P<group>\d+))?\Z")

#: What torch's int4 product on a CPU takes.
_GROUPS, _OUT_MULTIPLE = (32, 64, 128), 16


class TorchAOVariant(MadeVariantSection, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A variant that torchao quantizes. `group_size`: of int4, where the method does not name it; `skip_layers`:
    linears that stay in float; `kernel`: "" or "dequantized"; `dtype` of the computation; `batch`: rows of a prompt,
    instead of the task's."""

    group_size: GroupSize | None = None
    skip_layers: list[str] = field(default_factory=list)
    kernel: str = ""
    dtype: DType = ""
    batch: Positive | None = None


class TorchAOMethod(Method[TorchAOVariant]):
    """torchao-int8-weight-only, torchao-int8-dynamic, torchao-int4-weight-only[-g<group size>]."""

    section = TorchAOVariant
    spelled = ("torchao-int8-weight-only", "torchao-int8-dynamic", "torchao-int4-weight-only[-g<group size>]")

    def claims(self, method: str, keys: Mapping[str, Any]) -> bool:
        match = _METHOD.match(method)
        return match is not None and (match["group"] is None or match["scheme"].startswith("int4"))

    def make(self, source: Source, section: TorchAOVariant, calibration: Calibration) -> Made:
        method = section.method or section.name
        match = _METHOD.match(method)
        if match is None:
            raise ModelError(f"variant {section.name}: {method!r} is no method of torchao")
        scheme, checkpoint = match["scheme"], source.checkpoint()
        linears = by_form.linears_to_quantize(checkpoint, section.skip_layers)
        if not scheme.startswith("int4"):
            if section.group_size is not None:
                raise ModelError(f"variant {section.name}: group_size is for int4; {method} has one scale per row")
            return self._make(source, section, scheme, linears, [], -1)
        if source.device != "cpu":
            raise ModelError(f"variant {section.name}: {method} is packed for a CPU; choose device = 'cpu'")
        if section.dtype not in ("", "bfloat16"):
            raise ModelError(
                f"variant {section.name}: torch's int4 product is fast in bfloat16 alone (30 times slower in float32); "
                "leave dtype out"
            )
        named = None if match["group"] is None else int(match["group"])
        group, notes = by_form.group_size(section, named, checkpoint, _GROUPS)
        unfit = [name for name, (_, out) in linears.items() if out % _OUT_MULTIPLE]
        left = {name: features for name, features in linears.items() if name not in unfit}
        by_form.refuse_undivided(checkpoint, left, group, _GROUPS)
        return self._make(source, section, scheme, left, unfit, group, notes)

    def _make(
        self,
        source: Source,
        section: TorchAOVariant,
        scheme: str,
        linears: Mapping[str, tuple[int, int]],
        unfit: list[str],
        group: int,
        notes: Sequence[str] = (),
    ) -> Made:
        checkpoint = source.checkpoint()
        dtype = "bfloat16" if scheme.startswith("int4") else by_form.storage_dtype(checkpoint)

        def write(folder: Path) -> None:
            if scheme.startswith("int4"):
                _write_int4(by_form.float_model(checkpoint, dtype), folder, linears, group)
            else:
                _write_int8(checkpoint, folder, scheme, linears, dtype)

        left = by_form.left_in_float(unfit, f"torch's int4 product takes outputs in multiples of {_OUT_MULTIPLE}")
        return by_form.made_by(
            form.FORM,
            source,
            {"method": scheme, "group_size": group, "linears": sorted(linears), "dtype": dtype},
            write,
            method=section.method or section.name,
            section=section,
            facts={"scheme": scheme, "left_in_float": unfit},
            notes=[*notes, *left],
        )


def _write_int8(checkpoint: Any, folder: Path, scheme: str, linears: Mapping[str, Any], dtype: str) -> None:
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, Int8WeightOnlyConfig
    from transformers import TorchAoConfig

    kinds = {"int8-weight-only": Int8WeightOnlyConfig, "int8-dynamic": Int8DynamicActivationInt8WeightConfig}
    # By default it changes how torch compiles everything in this process.
    config = kinds[scheme](set_inductor_config=False)
    skipped = by_form.names_beside(by_form.float_model(checkpoint, dtype), linears)
    # Names of parameters, not of modules.
    asked = TorchAoConfig(quant_type=config, modules_to_not_convert=[rf"{name[:-2]}\.weight\Z" for name in skipped])
    by_form.float_model(checkpoint, dtype, quantization_config=asked).save_pretrained(str(folder))


def _write_int4(model: Any, folder: Path, linears: Mapping[str, Any], group: int) -> None:
    from torchao.prototype.quantization.int4 import PrototypeInt4WeightOnlyConfig
    from torchao.quantization import quantize_

    quantize_(model, PrototypeInt4WeightOnlyConfig(group_size=group), filter_fn=lambda _, name: name in linears)
    packed = {name: form.store(model.get_submodule(name).weight) for name in linears}
    tensors = [form.NIBBLES, form.SCALE_AND_ZERO]
    stored.save(model, folder, {"quant_method": form.OWN, "group_size": group, "tensors": tensors}, packed)


METHOD = TorchAOMethod()
