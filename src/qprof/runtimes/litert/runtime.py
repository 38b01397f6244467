"""The LiteRT runtime, as the rest of qprof sees it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import ModelError
from qprof.record.ceilings import Ceiling
from qprof.record.model import Model, RunOptions
from qprof.record.ops import OpMeta
from qprof.record.sections import FileVariantSection, ModelSection, VariantSection
from qprof.record.stored import StoredFiles
from qprof.record.tensors import TensorSpec
from qprof.runtimes import base
from qprof.runtimes.litert.interpreter import DELEGATES, LiteRTModel
from qprof.runtimes.litert.interventions import LiteRTInterventions
from qprof.runtimes.litert.patched import PatchedModel, patch_files, patch_settings
from qprof.runtimes.litert.sections import (
    FloatVariant,
    LiteRTFile,
    LiteRTModelSection,
    LiteRTOptions,
    QuantizedVariant,
    StaticVariant,
    variant_section,
)

if TYPE_CHECKING:
    from qprof.runtimes.litert.make import MakeRequest
    from qprof.runtimes.recipe import Recipe


class LiteRTRuntime(base.Runtime):
    """`.tflite` files, and SavedModel folders and Keras files to make them from."""

    name = "litert"
    packages = ("ai-edge-litert", "ai-edge-quantizer", "tensorflow")
    delegates = DELEGATES
    native_stacks = True
    resets = "vector registers"
    default_variants = ("float32", "float16", "int8-dynamic", "int8")
    expects = "a .tflite, a SavedModel folder, a Keras file"
    model_section = LiteRTModelSection
    options_type = LiteRTOptions
    interventions = LiteRTInterventions()

    def accepts(self, path: Path) -> bool:
        return path.suffix in (".tflite", ".keras", ".h5") or os.path.isfile(path / "saved_model.pb")

    def runs(self, path: Path) -> bool:
        return path.suffix == ".tflite"

    def variant_section(self, keys: Mapping[str, Any]) -> type[VariantSection]:
        return variant_section(keys)

    def options(self, section: VariantSection, asked: base.Asked) -> LiteRTOptions:
        ours = section if isinstance(section, (FloatVariant, LiteRTFile)) else None
        shapes = dict(asked.model.input_shapes) if isinstance(asked.model, LiteRTModelSection) else {}
        shapes |= ours.input_shapes if ours else {}
        return LiteRTOptions(
            threads=section.threads or asked.protocol.threads,
            device=asked.protocol.device,
            delegate=(ours.delegate if ours else None) or asked.protocol.delegate,
            before_ops=ours.before_ops if ours else "",
            input_shapes=shapes,
            patch=section.patch if isinstance(section, LiteRTFile) else None,
        )

    def calibrates(self, section: VariantSection) -> bool:
        return isinstance(section, StaticVariant)

    def inputs_of(self, path: Path) -> list[TensorSpec]:
        from qprof.runtimes.litert.flatbuffer import read_model

        main = read_model(path).subgraphs[0]
        found = []
        for index in main.inputs:
            tensor = main.tensors[index]
            scale = tensor.quantization.first_scale if tensor.quantization.scale_count == 1 else None
            zero_point = None if scale is None else tensor.quantization.first_zero_point or 0
            found.append(TensorSpec(tensor.name, tensor.shape, tensor.dtype, scale, zero_point, tensor.shape_signature))
        return found

    def stored(self, path: Path) -> StoredFiles:
        from qprof.runtimes.litert.parts import stored_files

        return stored_files(path)

    def viewer_graphs(self, path: Path) -> list[str]:
        from qprof.runtimes.litert.viewer import graph_ids

        return graph_ids(path)

    def viewer_node(self, op: OpMeta) -> tuple[int, str] | None:
        from qprof.runtimes.litert.viewer import node_of

        return node_of(op)

    def preload(self, run: Mapping[str, Any]) -> None:
        import ai_edge_litert.interpreter  # noqa: F401
        from ai_edge_litert import schema_py_generated  # noqa: F401

    def load(self, path: Path, options: RunOptions) -> Model:
        before_ops, patch = _litert_options(options).before_ops, _litert_options(options).patch
        if patch and before_ops:
            raise ModelError(f"{path}: patch and before_ops: a patched variant is not timed; give one of the two")
        if patch:
            return PatchedModel(path, Path(patch.baseline), patch.ops, **_interpreter_options(options))
        if not before_ops:
            return LiteRTModel(path, **_interpreter_options(options))
        with _compiled_core("nothing can be done before an op"):
            from qprof.runtimes.litert.hooked import HookedModel
        return HookedModel(path, **_interpreter_options(options), before_ops=before_ops)

    def load_again(self, model: Model, path: Path, options: RunOptions) -> Model | None:
        return self.load(path, options) if isinstance(model, LiteRTModel) else None

    def instrument(self, model: Model, path: Path, options: RunOptions) -> base.ProfiledModel:
        if _litert_options(options).patch:
            raise ModelError(f"{path}: ops of a patched variant are not timed; its scores alone are to be compared")
        with _compiled_core("per-op timing is off"):
            from qprof.runtimes.litert.profiled import ProfiledModel
        before_ops = _litert_options(options).before_ops or "nothing"
        return ProfiledModel(path, **_interpreter_options(options), before_ops=before_ops)

    def reset_before_ops(self, model: base.ProfiledModel, on: bool) -> bool:
        from qprof.runtimes.litert.hooked import HookedModel

        if not isinstance(model, HookedModel):
            return False
        if not on:
            model.prepare_as_loaded()
            return True
        try:
            model.prepare("reset-vectors")
        except ModelError:
            return False  # a processor without such registers leaves nothing in them
        return True

    def timing_ns(self, model: base.ProfiledModel) -> NDArray[np.int64] | None:
        from qprof.runtimes.litert.profiled import ProfiledModel

        return model.timing_ns if isinstance(model, ProfiledModel) else None

    def maker(self, model: ModelSection, device: str) -> base.VariantMaker:
        return LiteRTMaker(model)

    def recipe(self, model: Path, section: VariantSection) -> Recipe | None:
        if not isinstance(section, QuantizedVariant) or model.suffix != ".tflite":
            return None
        from qprof.runtimes.litert.recipe import recipe

        return recipe(model, section)

    def compare_layers(
        self, baseline: base.Side, variant: base.Side, pairs: Sequence[tuple[str, str]]
    ) -> base.LayerComparison:
        from qprof.runtimes.litert.tensor_errors import TensorErrors

        models = [_litert_model(side.model) for side in (baseline, variant)]
        options = [_litert_options(side.options) for side in (baseline, variant)]
        return TensorErrors(models[0], models[1], pairs, options[0], options[1])


class LiteRTCeilings:
    """What this machine does at most through LiteRT; satisfies `base.CeilingBench`."""

    name = "litert"
    options: Sequence[str] = ("threads", "delegate")
    packages: Sequence[str] = ("ai-edge-litert",)

    def measure(self, options: RunOptions) -> list[Ceiling]:
        from qprof.runtimes.litert.ceilings import measure_all

        return measure_all(_litert_options(options))


class LiteRTMaker:
    """Makes the variants of one model; satisfies `base.VariantMaker`."""

    def __init__(self, model: ModelSection) -> None:
        from qprof.runtimes.litert.make import VariantMaker

        self._model = model
        self._maker = VariantMaker()

    def float_model(self) -> Model:
        made = self._maker.make(self._request(FloatVariant(name="float32")))
        shapes = self._model.input_shapes if isinstance(self._model, LiteRTModelSection) else {}
        return LiteRTModel(made.path, input_shapes=shapes)

    def make(self, section: VariantSection, calibration: base.Calibration) -> base.Made:
        from qprof.runtimes.litert import float_tables

        made = self._maker.make(self._request(section, calibration))
        patch = section.patch if isinstance(section, LiteRTFile) else None
        if patch:
            patch_files(made.path, Path(patch.baseline), patch.ops)  # here, where a failure is told as one of making
        own = patch_settings(Path(patch.baseline), patch.ops) if patch else {}
        selects = section if isinstance(section, QuantizedVariant) else QuantizedVariant(name=section.name)
        tables = float_tables.notes(made.path, made.method, selects.ops or None, selects.skip_ops)
        return base.Made(
            made.path,
            made.sha256,
            made.bytes,
            method=made.method,
            tool=made.tool,
            tool_version=made.tool_version,
            make_seconds=made.seconds,
            facts={"settings": made.settings | own},
            notes=[*made.notes, *tables],
        )

    def _request(self, section: VariantSection, calibration: base.Calibration | None = None) -> MakeRequest:
        from qprof.runtimes.litert.convert import is_convertible
        from qprof.runtimes.litert.make import FILE, MakeRequest
        from qprof.runtimes.litert.signatures import selected

        own = self._model if isinstance(self._model, LiteRTModelSection) else LiteRTModelSection()
        if isinstance(section, FileVariantSection):
            return MakeRequest(selected(Path(section.file), own.signature), FILE)
        if not isinstance(section, FloatVariant):
            raise ModelError(f"variant {section.name}: {type(section).__name__} is no section of a LiteRT variant")
        selects = section if isinstance(section, QuantizedVariant) else None
        source, convertible = Path(self._model.path), is_convertible(Path(self._model.path))
        return MakeRequest(
            source=source if convertible else selected(source, own.signature),
            method=section.method or section.name,
            calibration=calibration,
            ops=selects.ops or None if selects else None,
            skip_ops=selects.skip_ops or None if selects else None,
            skip_layers=selects.skip_layers or None if selects else None,
            io=section.io if isinstance(section, StaticVariant) else "float",
            ranges=section.ranges if isinstance(section, StaticVariant) else "moving-average",
            batch=own.batch,
            signature=own.signature if convertible else "",
        )


@contextlib.contextmanager
def _compiled_core(what_fails: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise ModelError(f"{what_fails}: the compiled core is missing ({error}); reinstall qprof") from error


def _litert_options(options: RunOptions) -> LiteRTOptions:
    if isinstance(options, LiteRTOptions):
        return options
    return LiteRTOptions(threads=options.threads, device=options.device)


def _litert_model(model: Model) -> LiteRTModel:
    if isinstance(model, PatchedModel):
        raise ModelError(f"{model.path}: patched, with activations of the baseline's; its layers are not compared")
    if not isinstance(model, LiteRTModel):
        raise ModelError(f"{type(model).__name__} is no model of LiteRT; its layers cannot be compared")
    return model


def _interpreter_options(options: RunOptions) -> dict[str, Any]:
    chosen = _litert_options(options)
    return {"threads": chosen.threads, "delegate": chosen.delegate, "input_shapes": chosen.input_shapes}


LiteRTRuntime.ceilings = LiteRTCeilings()
RUNTIME: base.Runtime = LiteRTRuntime()
