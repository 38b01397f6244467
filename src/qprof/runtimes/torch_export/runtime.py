"""The runtime of exported networks, as the rest of qprof sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qprof.errors import ModelError
from qprof.record.ceilings import Ceiling
from qprof.record.model import Model, RunOptions
from qprof.record.sections import ModelSection, VariantSection
from qprof.record.stored import StoredFiles
from qprof.record.tensors import TensorSpec
from qprof.runtimes import base
from qprof.runtimes.torch_export import library
from qprof.runtimes.torch_export.folder import is_classifier
from qprof.runtimes.torch_export.interventions import TorchExportInterventions
from qprof.runtimes.torch_export.sections import (
    CALIBRATED,
    MadeTorchVariant,
    TorchExportModelSection,
    TorchExportOptions,
    variant_section,
)

#: What torch writes under these names is TorchScript or pickled: taken here, to be refused in words that help.
_REFUSED = (".pt", ".pth", ".ptl")


class TorchExportCeilings:
    """What this machine does at most through torch, in single ops; satisfies `base.CeilingBench`."""

    name = "torch_export"
    options: Sequence[str] = ("threads", "device")
    packages: Sequence[str] = ("torch",)

    def measure(self, options: RunOptions) -> list[Ceiling]:
        from qprof.runtimes.torch_lm.ceilings import measure_all

        return measure_all(options, layers=False)


class TorchExportRuntime(base.Runtime):
    """`.pt2` files of torch.export, compiled by inductor or run op by op, and Hugging Face folders of classifiers to
    make them from."""

    name = "torch_export"
    packages = library.PACKAGES
    default_variants = ("float32", "bfloat16", "int8")
    expects = "a .pt2 of torch.export"
    model_section = TorchExportModelSection
    options_type = TorchExportOptions
    interventions = TorchExportInterventions()
    ceilings = TorchExportCeilings()

    def accepts(self, path: Path) -> bool:
        return path.suffix in (".pt2", *_REFUSED) or is_classifier(path)

    def runs(self, path: Path) -> bool:
        return path.suffix in (".pt2", *_REFUSED)

    def variant_section(self, keys: Mapping[str, Any]) -> type[VariantSection]:
        return variant_section(keys)

    def options(self, section: VariantSection, asked: base.Asked) -> TorchExportOptions:
        if asked.protocol.device != "cpu":
            raise ModelError(f"device {asked.protocol.device}: exported networks are run on the CPU; leave device out")
        return TorchExportOptions(
            threads=section.threads or asked.protocol.threads,
            device=asked.protocol.device,
            engine="eager" if asked.run.get("engine") == "eager" else "inductor",
        )

    def calibrates(self, section: VariantSection) -> bool:
        return isinstance(section, MadeTorchVariant) and (section.method or section.name) in CALIBRATED

    def require(self) -> None:
        library.require()

    def inputs_of(self, path: Path) -> list[TensorSpec]:
        if path.suffix != ".pt2":
            return []
        from qprof.runtimes.torch_export.program import load

        return load(path).inputs

    def stored(self, path: Path) -> StoredFiles:
        from qprof.runtimes.torch_export.archive import stored_files

        return stored_files(path)

    def preload(self, run: Mapping[str, Any]) -> None:
        library.import_torch()
        if run.get("engine") != "eager":
            library.import_compiler()

    def load(self, path: Path, options: RunOptions) -> Model:
        from qprof.runtimes.torch_export.model import ExportedModel

        return ExportedModel(path, torch_export_options(options))

    def instrument(self, model: Model, path: Path, options: RunOptions) -> base.ProfiledModel:
        """The same kernels with readings of the clock between them."""
        from qprof.runtimes.torch_export.model import ExportedModel
        from qprof.runtimes.torch_export.profiled import ProfiledNetwork

        if not isinstance(model, ExportedModel):
            raise ModelError(f"{path}: {type(model).__name__} is no exported network; its ops cannot be timed")
        return ProfiledNetwork(model)

    def maker(self, model: ModelSection, device: str) -> base.VariantMaker:
        from qprof.runtimes.torch_export.maker import TorchExportMaker

        return TorchExportMaker(model)

    def compare_layers(
        self, baseline: base.Side, variant: base.Side, pairs: Sequence[tuple[str, str]]
    ) -> base.LayerComparison:
        """By the layers' names, in the graphs run node by node."""
        from qprof.runtimes.torch_export.layer_errors import LayerErrors
        from qprof.runtimes.torch_export.model import ExportedModel

        models = []
        for side in (baseline, variant):
            if not isinstance(side.model, ExportedModel):
                raise ModelError(f"{type(side.model).__name__} is no exported network; its layers cannot be compared")
            models.append(side.model)
        return LayerErrors(*models)


def torch_export_options(options: RunOptions) -> TorchExportOptions:
    """The options of any run, with this runtime's own as they are by default."""
    if isinstance(options, TorchExportOptions):
        return options
    return TorchExportOptions(threads=options.threads, device=options.device)


RUNTIME: base.Runtime = TorchExportRuntime()
