"""What RTN, GPTAQ and FOEM share: gptqmodel makes them as it makes GPTQ, and their checkpoints are GPTQ's."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from msgspec import field

from qprof.errors import ModelError
from qprof.record.sections import MadeVariantSection, Positive
from qprof.runtimes.base import Calibration, Made
from qprof.runtimes.torch_lm import library
from qprof.runtimes.torch_lm.checkpoint import Checkpoint
from qprof.runtimes.torch_lm.gptq import BITS, Settings, check, quantized_linears
from qprof.runtimes.torch_lm.kernels import kernel_for
from qprof.runtimes.torch_lm.methods import by_form
from qprof.runtimes.torch_lm.methods.base import Method, Source, made
from qprof.runtimes.torch_lm.methods.gptqmodel import common_config, quantize
from qprof.runtimes.torch_lm.sections import GPTQMODEL, Bits, DType, GroupSize


class GPTQLikeVariant(MadeVariantSection, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A variant in GPTQ's layout that another method rounds. `bits` and `group_size` where the method does not name
    them (-1: one group per row); `sym`: whether the numbers lie alike on both sides of 0; `skip_layers`: linears that
    stay in float; `kernel` of the quantized layers, `dtype` of the computation; `batch`: rows of a prompt, instead of
    the task's."""

    bits: Bits | None = None
    group_size: GroupSize | None = None
    sym: bool = True
    skip_layers: list[str] = field(default_factory=list)
    kernel: str = ""
    dtype: DType = ""
    batch: Positive | None = None


class GPTQLikeMethod(Method[GPTQLikeVariant]):
    """<name>-<bits>bit[-g<group size>]."""

    section = GPTQLikeVariant
    widths = BITS
    name: str
    batch_rows: int | None = None

    @property
    def spelled(self) -> tuple[str, ...]:  # type: ignore[override]
        return (f"{self.name}-<bits>bit[-g<group size>]",)

    @abstractmethod
    def config(self, package: Any, settings: Settings, common: Mapping[str, Any]) -> Any:
        """gptqmodel's settings; `package`: its module `quantization.config`."""

    def claims(self, method: str, keys: Mapping[str, Any]) -> bool:
        return self._match(method) is not None

    def _match(self, method: str) -> re.Match[str] | None:
        return re.match(rf"{self.name}(?:-(?P<bits>\d+)bit)?(?:-g(?P<group>\d+))?\Z", method)

    def make(self, source: Source, section: GPTQLikeVariant, calibration: Calibration) -> Made:
        checkpoint = source.checkpoint()
        settings, notes = self._settings(section, checkpoint)
        check(checkpoint, settings)
        dtype, kernel = kernel_for(
            settings,
            quantized_linears(checkpoint, settings),
            device=source.device,
            dtype=section.dtype,
            requested=section.kernel,
        )
        library.require()
        versions = library.versions()

        def configure(_: Any, checkpoint: Checkpoint, settings: Settings, device: str) -> Any:
            from gptqmodel.quantization import config

            return self.config(config, settings, common_config(checkpoint, settings, device))

        shape = {"settings": asdict(settings), "versions": versions, "by": self.name}
        entry = source.cached(
            shape | ({"calibration": calibration.digest} if self.calibrated else {}),
            lambda folder: quantize(
                checkpoint,
                folder,
                settings,
                source.rows(calibration) if self.calibrated else [],
                device=source.device,
                configure=configure,
                process=self.name if self.calibrated else "",
                batch_rows=self.batch_rows,
            ),
        )
        return made(
            *(entry.checkpoint, entry.sha256, section.method or section.name, {"library": GPTQMODEL, **entry.facts}),
            tool=(GPTQMODEL, versions.get(GPTQMODEL)),
            dtype=dtype,
            kernel=kernel.name,
            notes=notes,
        )

    def _settings(self, section: GPTQLikeVariant, source: Checkpoint) -> tuple[Settings, list[str]]:
        method = section.method or section.name
        match = self._match(method)
        if match is None:
            raise ModelError(f"variant {section.name}: {method!r} is no {self.name}; write {self.name}-4bit")
        named = {key: None if match[key] is None else int(match[key]) for key in ("bits", "group")}
        bits = by_form.agreed(section.name, "bits", section.bits, named["bits"], 0)
        if not bits:
            raise ModelError(
                f"variant {section.name}: method {method} names no bits; write {self.name}-4bit, or bits = 4"
            )
        group, notes = by_form.group_size(section, named["group"], source)
        skip = tuple(sorted(set(section.skip_layers)))
        return Settings(bits, group, sym=section.sym, skip_layers=skip), notes
