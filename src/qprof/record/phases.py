"""The phases that a variant's inferences come in."""

from __future__ import annotations

from dataclasses import dataclass

#: The phase of models that know no other.
INFERENCE = "inference"


@dataclass(frozen=True, slots=True)
class Phase:
    """A kind of inference that is timed by itself: a detector has one, a language model "prefill" and "decode".

    `tokens`: how many tokens one inference of this phase takes in or puts out, `None` where tokens mean nothing.
    `steps`: inferences of this phase that follow one another on a sample before the next is taken.
    """

    name: str = INFERENCE
    tokens: int | None = None
    steps: int = 1
