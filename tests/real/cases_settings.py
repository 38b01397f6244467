"""Cases whose files are right and whose settings are not: beside a checkpoint's weights, and of a runtime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import makers_language as language
from case import Case, Planted, Scored
from cases_language import PLAIN, SCORED, TASK, made

OTHER = {"name": "planted", "file": "other"}


def configured(**changes: Any) -> Callable[[language.Tensors, dict[str, Any]], None]:
    def change(_tensors: language.Tensors, config: dict[str, Any]) -> None:
        config.update(changes)

    return change


def _case(name: str, words: tuple[str, ...], **changes: Any) -> Case:
    planted = Planted(words=words, truth=Scored({"file": "other"}, {"file": "plain"}), direction=-1, figure="score")
    make = made(plain=language.plain, other=lambda folder: language.plain(folder, configured(**changes)))
    return Case(name, make, (PLAIN, OTHER), (planted,), task=TASK, protocol=SCORED)


CASES: tuple[Case, ...] = (
    # The layers that compute with a setting are where it does its harm: to name them is right as well.
    _case("lm_rope_base", ("rope_theta", "rotary_emb"), rope_parameters={"rope_theta": 100.0, "rope_type": "default"}),
    _case("lm_norm_epsilon", ("rms_norm_eps", "layernorm"), rms_norm_eps=0.5),
    _case("lm_head_count", ("num_attention_heads",), num_attention_heads=8, num_key_value_heads=8, head_dim=16),
)
