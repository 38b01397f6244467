"""Variants of a language model as a profile asks for them: keys in, what was made out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qprof.measure.keys import converted
from qprof.record.sections import ModelSection
from qprof.runtimes.base import Calibration, Made
from qprof.runtimes.torch_lm.maker import TorchLMMaker
from qprof.runtimes.torch_lm.methods.base import Source
from qprof.runtimes.torch_lm.runtime import RUNTIME


class KeysMaker:
    """A maker that takes a variant's keys, and reads them as strictly as a profile's."""

    def __init__(self, path: Path | str) -> None:
        self._maker = TorchLMMaker(ModelSection(path=str(path)))

    @property
    def source(self) -> Source:
        return self._maker.source

    def make(self, keys: Mapping[str, Any], calibration: Calibration) -> Made:
        return self._maker.make(converted(keys, RUNTIME.variant_section(keys), "variant"), calibration)
