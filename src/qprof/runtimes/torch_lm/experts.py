"""Experts of a mixture: modules of which a token picks a few, others than the token before it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from qprof.runtimes.torch_lm.observe import Layer, Observation

#: What is in an expert: "model.layers.0.mlp.experts.3.up_proj" (transformers calls the list so in every architecture).
_IN_EXPERT = re.compile(r"(?P<all>.*\bexperts)\.\d+(?P<part>(\..*)?)", re.DOTALL)


def expert_part(name: str) -> tuple[str, str] | None:
    """The list of experts that a layer is in, and which part of an expert it is; `None` where it is in none."""
    found = _IN_EXPERT.fullmatch(name)
    return None if found is None else (found["all"], found["part"])


def unseen_experts(layers: Sequence[Layer], seen: Mapping[int, Observation]) -> dict[int, Observation]:
    """What is known of experts that ran in no inference that was observed, since others of their list did: what one run
    of those takes in and gives out, with 0 calls; by position in `layers`."""
    alike: dict[tuple[str, str], Observation] = {}
    for number, observation in seen.items():
        part = expert_part(layers[number].name)
        if part is not None:
            alike.setdefault(part, observation)
    found: dict[int, Observation] = {}
    for number, layer in enumerate(layers):
        part = expert_part(layer.name)
        if number not in seen and part in alike:
            found[number] = replace(one_run(alike[part]), calls=0)
    return found


def one_run(seen: Observation) -> Observation:
    """The same, with the counts of a single run on average."""
    calls = max(1, seen.calls)
    counts = ("rows", "outside_bytes", "own_bytes", "macs")
    each: dict[str, Any] = {name: round(getattr(seen, name) / calls) for name in counts}
    return replace(seen, **each)


def unfuse(model: Any) -> bool:
    """Take the experts that transformers keeps in one tensor apart into linears, and fused linears of a feed-forward
    layer too, as gptqmodel does before it quantizes; what the model computes stays. False where there is nothing to
    take apart, or gptqmodel, which knows how, is not installed."""
    import importlib.util

    from qprof.runtimes.tool_output import tool_output_to_log
    from qprof.runtimes.torch_lm import library

    if importlib.util.find_spec("gptqmodel") is None:
        return False
    with tool_output_to_log():
        library.import_gptqmodel()
        import defuser  # what gptqmodel uses for it, and installs

        return bool(defuser.convert_model(model, cleanup_original=True))
