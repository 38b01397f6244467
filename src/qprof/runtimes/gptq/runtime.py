"""The runtime of language models, as the rest of qprof sees it."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qprof.errors import ModelError
from qprof.runtimes import base
from qprof.runtimes.gptq import library


class GPTQRuntime:
    """Folders in Hugging Face layout, unquantized or GPTQ, run by torch with transformers and gptqmodel's kernels;
    satisfies `base.Runtime`."""

    name = "gptq"
    packages: Sequence[str] = library.PACKAGES

    def accepts(self, path: Path) -> bool:
        return not (path / "saved_model.pb").is_file() and _is_language_model(path / "config.json")

    def require(self) -> None:
        library.require()

    def preload(self) -> None:
        """gptqmodel too, also for an unquantized variant: all variants' memory is counted above the same imports.
        Where it is not installed, unquantized models run without it."""
        if importlib.util.find_spec("gptqmodel") is not None:
            library.import_gptqmodel()
        from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: F401

    def load(self, path: Path, options: base.RunOptions) -> base.Model:
        from qprof.runtimes.gptq.model import CausalLM

        return CausalLM.load(path, options)

    def instrument(self, model: base.Model, path: Path, options: base.RunOptions) -> base.ProfiledModel:
        return instrument(model, path)

    def maker(self, model: Mapping[str, Any]) -> base.VariantMaker:
        from qprof.runtimes.gptq.make import GPTQMaker

        return GPTQMaker(model)


def instrument(model: base.Model, path: Path) -> base.ProfiledModel:
    """The same weights with timers around every layer. Raises `ModelError`."""
    from qprof.runtimes.gptq.model import CausalLM
    from qprof.runtimes.gptq.profiled import ProfiledCausalLM

    if not isinstance(model, CausalLM):
        raise ModelError(f"{path}: {type(model).__name__} is no language model; its layers cannot be timed")
    return ProfiledCausalLM(model)


def _is_language_model(config: Path) -> bool:
    """Whether it looks like one: what is wrong with it is for `checkpoint.inspect` to say."""
    try:
        content = json.loads(config.read_text(encoding="utf-8"))
    except OSError:
        return False
    except (ValueError, RecursionError):
        return True
    return isinstance(content, dict) and ("architectures" in content or "model_type" in content)


RUNTIME: base.Runtime = GPTQRuntime()
