"""The ONNX Runtime, as the rest of qprof sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import ModelError
from qprof.record.ceilings import Ceiling
from qprof.record.model import Model, RunOptions
from qprof.record.sections import FileVariantSection, ModelSection, VariantSection
from qprof.record.stored import StoredFiles
from qprof.record.tensors import TensorSpec
from qprof.runtimes import base
from qprof.runtimes.onnx import model_file
from qprof.runtimes.onnx.interventions import OnnxInterventions
from qprof.runtimes.onnx.sections import (
    OnnxFile,
    OnnxFloat,
    OnnxModelSection,
    OnnxOptions,
    OnnxStatic,
    variant_section,
)


class OnnxCeilings:
    """What this machine does at most through ONNX Runtime; satisfies `base.CeilingBench`."""

    name = "onnx"
    options: Sequence[str] = ("threads", "device", "provider", "optimization")
    packages: Sequence[str] = ("onnxruntime",)

    def measure(self, options: RunOptions) -> list[Ceiling]:
        from qprof.runtimes.onnx.ceilings import measure_all

        return measure_all(_own(options))


class OnnxRuntime(base.Runtime):
    """`.onnx` files."""

    name = "onnx"
    packages = ("onnxruntime", "onnx")
    devices = ("cpu", "cuda")
    default_variants = ("float32", "int8-dynamic", "int8")
    expects = "an .onnx"
    model_section = OnnxModelSection
    options_type = OnnxOptions
    interventions = OnnxInterventions()
    ceilings = OnnxCeilings()

    def accepts(self, path: Path) -> bool:
        return path.suffix.lower() == ".onnx"

    def variant_section(self, keys: Mapping[str, Any]) -> type[VariantSection]:
        return variant_section(keys)

    def options(self, section: VariantSection, asked: base.Asked) -> OnnxOptions:
        ours = section if isinstance(section, (OnnxFile, OnnxFloat)) else OnnxFile(name=section.name, file="")
        model = asked.model if isinstance(asked.model, OnnxModelSection) else OnnxModelSection()
        device = asked.protocol.device
        return OnnxOptions(
            threads=section.threads or asked.protocol.threads,
            device=device,
            optimization=ours.optimization,
            provider=ours.provider or ("cuda" if device.startswith("cuda") else "cpu"),
            input_shapes={**model.input_shapes, **ours.input_shapes},
            batch=model.batch,
            **asked.run,
        )

    def calibrates(self, section: VariantSection) -> bool:
        return isinstance(section, OnnxStatic)

    def require(self) -> None:
        model_file.require()

    def inputs_of(self, path: Path) -> list[TensorSpec]:
        from qprof.runtimes.onnx.facts import inputs_of

        return inputs_of(path)

    def stored(self, path: Path) -> StoredFiles:
        from qprof.runtimes.onnx.stored import stored_files

        return stored_files(path)

    def preload(self, run: Mapping[str, Any]) -> None:
        model_file.require()

    def load(self, path: Path, options: RunOptions) -> Model:
        from qprof.runtimes.onnx.session import OnnxModel

        return OnnxModel(path, _own(options))

    def load_again(self, model: Model, path: Path, options: RunOptions) -> Model | None:
        # On a GPU the driver places what computes.
        return None if _own(options).provider == "cuda" else self.load(path, options)

    def files_beside(self, path: Path) -> Sequence[Path]:
        return model_file.external_files(path, model_file.read(path))

    def instrument(self, model: Model, path: Path, options: RunOptions) -> base.ProfiledModel:
        from qprof.runtimes.onnx.profiled import ProfiledOnnxModel

        return ProfiledOnnxModel(path, _own(options))

    def timing_ns(self, model: base.ProfiledModel) -> NDArray[np.int64] | None:
        from qprof.runtimes.onnx.profiled import ProfiledOnnxModel

        return model.timing_ns if isinstance(model, ProfiledOnnxModel) else None

    def maker(self, model: ModelSection, device: str) -> base.VariantMaker:
        return OnnxMaker(model)

    def compare_layers(
        self, baseline: base.Side, variant: base.Side, pairs: Sequence[tuple[str, str]]
    ) -> base.LayerComparison:
        from qprof.runtimes.onnx.layer_errors import OnnxLayers
        from qprof.runtimes.onnx.session import OnnxModel

        first, second = baseline.model, variant.model
        if not isinstance(first, OnnxModel) or not isinstance(second, OnnxModel):
            raise ModelError("layers of an ONNX model are compared with those of an ONNX model alone")
        return OnnxLayers(first, second, pairs)


class OnnxMaker:
    """Makes the variants of one model; satisfies `base.VariantMaker`."""

    def __init__(self, model: ModelSection) -> None:
        self._section = model if isinstance(model, OnnxModelSection) else OnnxModelSection(path=model.path)

    def float_model(self) -> Model:
        from qprof.runtimes.onnx.facts import run_facts
        from qprof.runtimes.onnx.session import OnnxModel

        path = Path(self._section.path)
        facts = run_facts(model_file.read(path))
        own = self._section
        return OnnxModel(path, OnnxOptions(input_shapes=dict(own.input_shapes), batch=own.batch, **facts))

    def make(self, section: VariantSection, calibration: base.Calibration) -> base.Made:
        from qprof.runtimes.onnx.make import as_it_is, make

        if isinstance(section, FileVariantSection):
            return as_it_is(Path(section.file))
        if not isinstance(section, OnnxFloat):
            raise ModelError(f"variant {section.name}: {type(section).__name__} is no section of an ONNX variant")
        return make(Path(self._section.path), section, calibration)


def _own(options: RunOptions) -> OnnxOptions:
    if isinstance(options, OnnxOptions):
        return options
    return OnnxOptions(threads=options.threads, device=options.device)


RUNTIME: base.Runtime = OnnxRuntime()
