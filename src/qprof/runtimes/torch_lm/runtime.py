"""The runtime of causal language models, as the rest of qprof sees it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from qprof.errors import ModelError
from qprof.record.ceilings import Ceiling
from qprof.record.model import Model, PromptShape, RunOptions, Stepwise
from qprof.record.sections import ModelSection, VariantSection
from qprof.record.stored import StoredFiles
from qprof.runtimes import base, hub
from qprof.runtimes.recipe import Recipe
from qprof.runtimes.tool_output import tool_output_to_log
from qprof.runtimes.torch_lm import forms, library
from qprof.runtimes.torch_lm.formats import format_of
from qprof.runtimes.torch_lm.interventions import TorchLMInterventions
from qprof.runtimes.torch_lm.methods import method_for
from qprof.runtimes.torch_lm.methods.base import Source
from qprof.runtimes.torch_lm.sections import AUTOGPTQ, TorchLMOptions

#: ORG/NAME, with @REVISION behind it or not, as the hub allows them.
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")


class TorchLMRuntime(base.Runtime):
    """Folders in Hugging Face's layout, unquantized or GPTQ, run by torch with transformers and gptqmodel's kernels, or
    where a variant asks for it by AutoGPTQ's."""

    name = "torch_lm"
    packages = (*library.PACKAGES, *(name for name in forms.packages() if name not in library.PACKAGES))
    takes = "text"
    phases = ("prefill", "decode")
    devices = ("cpu", "cuda")
    default_variants = ("bfloat16", "gptq-8bit", "gptq-4bit", "gptq-2bit")  # what the others compute in leads
    expects = "a language model's folder in Hugging Face's layout"
    options_type = TorchLMOptions
    interventions = TorchLMInterventions()

    def accepts(self, path: Path) -> bool:
        saved_model, config = path / "saved_model.pb", path / "config.json"
        # Unlike Path.is_file, false for a name too long to be one.
        if os.path.isfile(saved_model) or not os.path.exists(path):
            return False
        return format_of(path) is not None or (os.path.isfile(config) and _is_language_model(config))

    def names(self, text: str) -> bool:
        return hub.is_reference(text) or hub.is_bare_name(text) or _HUB_ID.fullmatch(text) is not None

    def is_finished(self, path: Path) -> bool:
        other = format_of(path)
        return _is_quantized(path) if other is None else other.is_finished

    def variant_section(self, keys: Mapping[str, Any]) -> type[VariantSection]:
        section: type[VariantSection] = method_for(keys).section
        return section

    def options(self, section: VariantSection, asked: base.Asked) -> TorchLMOptions:
        shape = asked.prompts or PromptShape()
        return TorchLMOptions(
            threads=section.threads or asked.protocol.threads,
            device=asked.protocol.device,
            dtype=str(asked.run.get("dtype") or ""),
            kernel=str(asked.run.get("kernel") or ""),
            library=str(asked.run.get("library") or ""),
            layout=str(asked.run.get("layout") or ""),
            batch=getattr(section, "batch", None) or shape.batch,
            prompt_tokens=shape.prompt_tokens,
            generated_tokens=shape.generated_tokens,
            parts=getattr(section, "parts", None),
            wide_from=getattr(section, "wide_from", ""),
        )

    def calibrates(self, section: VariantSection) -> bool:
        return method_for(msgspec.to_builtins(section)).calibrated

    def require(self) -> None:
        library.require()

    def stored(self, path: Path) -> StoredFiles:
        from qprof.runtimes.torch_lm.parts import stored_files

        other = format_of(path)
        return stored_files(path) if other is None else other.stored(path)

    def content_files(self, path: Path) -> Sequence[Path]:
        from qprof.runtimes.torch_lm.checkpoint import inspect

        # Of a folder in another format, all files count.
        return inspect(path).content_files() if format_of(path) is None else super().content_files(path)

    def preload(self, run: Mapping[str, Any]) -> None:
        """The quantizer's library too, also for an unquantized variant: all variants' memory is counted above the same
        imports. Where it is not installed, unquantized models run without it."""
        if run.get("library") == AUTOGPTQ:
            from qprof.runtimes.torch_lm.autogptq.library import import_autogptq

            with tool_output_to_log():
                import_autogptq()
        elif importlib.util.find_spec("gptqmodel") is not None:
            library.import_gptqmodel()
        if form := forms.form_by(str(run.get("library") or "")):
            form.require()
            with tool_output_to_log():
                form.preload()
        from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: F401

    def load(self, path: Path, options: RunOptions) -> Model:
        from qprof.runtimes.torch_lm.model import CausalLM

        chosen = torch_lm_options(options)
        if chosen.library == AUTOGPTQ:
            from qprof.runtimes.torch_lm.autogptq.load import load

            return load(path, chosen)
        if chosen.parts is not None:
            from qprof.runtimes.torch_lm.from_baseline import load_with_parts

            return load_with_parts(path, chosen, chosen.parts)
        if chosen.wide_from:
            from qprof.runtimes.torch_lm.wide import load_wide

            return load_wide(path, chosen)
        return CausalLM.load(path, chosen)

    def load_again(self, model: Model, path: Path, options: RunOptions) -> Model | None:
        from qprof.runtimes.torch_lm.model import CausalLM

        return model.copied() if type(model) is CausalLM else None

    def instrument(self, model: Model, path: Path, options: RunOptions) -> base.ProfiledModel:
        """The same weights with timers around every layer."""
        from qprof.runtimes.torch_lm.model import CausalLM
        from qprof.runtimes.torch_lm.profiled import ProfiledCausalLM

        if not isinstance(model, CausalLM):
            raise ModelError(f"{path}: {type(model).__name__} is no language model; its layers cannot be timed")
        _refuse_patched(options, path, "timed")
        return ProfiledCausalLM(model)

    def stepwise(self, model: Model) -> Stepwise | None:
        from qprof.runtimes.torch_lm.from_baseline import PatchedCausalLM
        from qprof.runtimes.torch_lm.model import CausalLM
        from qprof.runtimes.torch_lm.stepwise import Stepwise as Steps

        patched = isinstance(model, PatchedCausalLM)  # its outputs are another model's, which runs beside it
        return Steps(model) if isinstance(model, CausalLM) and not patched else None

    def maker(self, model: ModelSection, device: str) -> base.VariantMaker:
        from qprof.runtimes.torch_lm.maker import TorchLMMaker

        return TorchLMMaker(model, device)

    def recipe(self, model: Path, section: VariantSection) -> Recipe | None:
        keys = {key: getattr(section, key) for key in section.__struct_fields__}
        recipe: Recipe | None = method_for(keys).recipe(Source(str(model)), section)
        return recipe

    def compare_layers(
        self, baseline: base.Side, variant: base.Side, pairs: Sequence[tuple[str, str]]
    ) -> base.LayerComparison:
        """By the layers' names."""
        from qprof.runtimes.torch_lm.layer_errors import LayerErrors
        from qprof.runtimes.torch_lm.model import CausalLM

        models = []
        for side in (baseline, variant):
            if not isinstance(side.model, CausalLM):
                raise ModelError(f"{type(side.model).__name__} is no language model; its layers cannot be compared")
            _refuse_patched(side.options, side.model.path, "compared")
            models.append(side.model)
        return LayerErrors(*models)


class TorchCeilings:
    """What this machine does at most through torch; satisfies `base.CeilingBench`."""

    name = "torch"
    options: Sequence[str] = ("threads", "device")
    packages: Sequence[str] = ("torch",)

    def measure(self, options: RunOptions) -> list[Ceiling]:
        from qprof.runtimes.torch_lm.ceilings import measure_all

        return measure_all(options)


def _refuse_patched(options: RunOptions, path: Path, what: str) -> None:
    parts = torch_lm_options(options).parts
    if parts is not None and parts.outputs:
        raise ModelError(f"{path}: patched, with outputs of the baseline's; its layers are not {what}")


def torch_lm_options(options: RunOptions) -> TorchLMOptions:
    """The options of any run, with this runtime's own as they are by default."""
    if isinstance(options, TorchLMOptions):
        return options
    return TorchLMOptions(threads=options.threads, device=options.device)


def _is_quantized(folder: Path) -> bool:
    """Whether a folder's configuration says so; what is wrong with it is for loading to say."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    beside = any((folder / name).is_file() for name in ("quantize_config.json", "quant_config.json"))
    return beside or (isinstance(config, dict) and bool(config.get("quantization_config")))


def _is_language_model(config: Path) -> bool:
    """Whether it looks like one: what is wrong with it is for `checkpoint.inspect` to say."""
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
    except OSError:
        return False
    except (ValueError, RecursionError):
        return True
    if not isinstance(content, dict):
        return False
    classes = content.get("architectures")
    if isinstance(classes, list) and any(str(one).endswith("Classification") for one in classes):
        return False  # a classifier's folder has the same layout
    return "architectures" in content or "model_type" in content


TorchLMRuntime.ceilings = TorchCeilings()
RUNTIME: base.Runtime = TorchLMRuntime()
