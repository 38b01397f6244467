"""Variants of a language model on request: made once and taken from the cache ever after."""

from __future__ import annotations

import msgspec

from qprof.errors import ModelError
from qprof.record.model import Model
from qprof.record.sections import ModelSection, VariantSection
from qprof.runtimes.base import Calibration, Made
from qprof.runtimes.torch_lm.methods import method_for
from qprof.runtimes.torch_lm.methods.base import Source


class TorchLMMaker:
    """Makes the variants of one model, each by the method that its section names; satisfies `base.VariantMaker`."""

    def __init__(self, model: ModelSection, device: str = "cpu") -> None:
        self.source = Source(model.path, device)

    def float_model(self) -> Model:
        """The unquantized model with its tokenizer, on the CPU. Raises `ModelError`."""
        return self.source.float_model()

    def make(self, section: VariantSection, calibration: Calibration) -> Made:
        """Make one variant; see `methods.base.Method.make`."""
        method = method_for(msgspec.to_builtins(section))
        if not isinstance(section, method.section):
            raise ModelError(f"variant {section.name}: {type(section).__name__} is no section of a language model")
        return method.make(self.source, section, calibration)
