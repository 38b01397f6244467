"""What transformers knows of an architecture, asked without loading a weight."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qprof.errors import ModelError
from qprof.runtimes.tool_output import first_line, tool_output_to_log
from qprof.runtimes.torch_lm import library

#: What the same sums give twice; an encoder's logits move by their own size.
_UNMOVED = 1e-4


def causal_class(model_type: str) -> str | None:
    """The name of the class by which transformers runs a type of model as a causal language model; `None` where it
    does not. Raises `MissingExtraError`."""
    library.require(("torch", "transformers"))
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    found = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(model_type)
    return str(found[0] if isinstance(found, tuple | list) else found) if found else None


def refuse_foreign_code(file: Path, config: Mapping[str, Any]) -> None:
    """Raise `ModelError` for a file that names Python code of its own (auto_map), unless `config` names a class that
    transformers has by now: that runs, and the code never does."""
    names = config.get("architectures")
    if not isinstance(names, list) or causal_class(str(config.get("model_type") or "")) not in names:
        raise ModelError(
            f"{file}: wants Python code of its own to be run (auto_map), which qprof does not do; use a model whose "
            "architecture transformers has"
        )


def attention_for(path: Path) -> str:
    """How attention is computed: by torch's fused kernel ("sdpa") where the architecture's class says that it can, else
    op by op ("eager"). Raises `ModelError` where transformers does not know the architecture."""
    return "sdpa" if _class_of(path)._supports_sdpa else "eager"


def refuse_encoder(path: Path, module: Any) -> None:
    """Raise `ModelError` for a model that sees the tokens behind a position, as BERT's kind does by default.

    A setting alone does not say so (that of GPT-NeoX is false, and never read): where it could be, another last token
    is tried, and must leave all logits before it as they were.
    """
    if all(getattr(module.config, key, True) is not False for key in ("is_decoder", "causal")):
        return
    import torch

    table = module.get_input_embeddings().weight
    texts = torch.arange(2, 8, device=table.device).repeat(2, 1) % len(table)
    texts[1, -1] = 8 % len(table)
    try:
        with torch.inference_mode():
            first, second = (module(input_ids=text[None]).logits[0, :-1].float() for text in texts)
    except (
        Exception
    ) as error:  # from layers of whatever make, e.g. of fewer positions than tokens; all of them are told
        raise ModelError(f"{path}: six tokens cannot be run: {first_line(error)}; check config.json") from error
    if not torch.allclose(first, second, rtol=_UNMOVED, atol=_UNMOVED, equal_nan=True):
        raise ModelError(
            f"{path}: {type(module).__name__} is an encoder as it is set (is_decoder = false): it sees the token that "
            "it is to predict; qprof runs decoders alone"
        )


def _class_of(path: Path) -> Any:
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    try:
        with tool_output_to_log():
            config = AutoConfig.from_pretrained(str(path), local_files_only=True, trust_remote_code=False)
        return MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    except Exception as error:  # each configuration class checks its values in its own way
        raise ModelError(f"{path}: cannot be loaded: {first_line(error)}; check config.json") from error
