"""A variant that is loaded, as a task and a worker see it: tensors in, tensors out, in one or more phases.

A task is bound to a variant through these types, so that neither tasks nor runtimes need to know of one another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from qprof.record.phases import Phase
from qprof.record.tensors import TensorSpec

#: How the ops of a variant stand to one another: nodes of a "graph", of which a delegate may take some, or "modules"
#: inside modules.
Structure = Literal["graph", "modules"]


class RunOptions(Struct, frozen=True, kw_only=True):
    """How a variant is run; a runtime that has more to say adds fields of its own in a subclass."""

    threads: int = 1
    device: str = "cpu"


class PromptShape(Struct, frozen=True, kw_only=True):
    """What a task on text times: `batch` prompts of `prompt_tokens` tokens at once, and as many tokens decoded behind
    each."""

    batch: int = 1
    prompt_tokens: int = 64
    generated_tokens: int = 16


@dataclass(slots=True)
class Loaded:
    """What a runtime tells of a variant once it is loaded: its tensors, ops and remarks (each with a remedy).

    `keeps_state`: whether an inference leaves something behind that the next one goes on from, within a phase;
    `resets_state`: whether `Model.enter` brings it back to where it began. Where it does not, only a model that is
    loaded anew is there. `pixels`: the (mean, std) of pixel values 0..255 that its image input was trained on, by
    channel or for all, and `labels`: what its outputs are called, in order; where it says so.
    """

    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    op_types: list[str]
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    phases: tuple[Phase, ...] = (Phase(),)
    structure: Structure = "graph"
    keeps_state: bool = False
    resets_state: bool = True
    pixels: tuple[float | list[float], float | list[float]] | None = None
    labels: Sequence[str] = ()


class Model(Protocol):
    """One variant, loaded and ready to run in this process."""

    loaded: Loaded
    run_once: Callable[[], None]  # the runtime's own call, as bare as it gets: this is what is timed

    def enter(self, phase: str) -> None:
        """Make `run_once` an inference of that phase of `loaded.phases`; the first is entered from the start. What was
        run before must not change the inferences from here on (`Loaded.resets_state`)."""

    def set_inputs(self, arrays: Sequence[NDArray[Any]]) -> None:
        """Copy one sample's input arrays (one per `loaded.inputs`, matching shape and dtype) into the model."""

    def invoke(self) -> None:
        """Run one inference, to completion; a failure becomes a `ModelError`."""

    def outputs(self) -> list[NDArray[Any]]:
        """Copies of the output tensors, one per `loaded.outputs`."""

    def memory_bytes(self) -> dict[str, int]:
        """What the runtime itself knows of the variant's memory: "footprint" (its weights and buffers), "device_peak"
        (the most its accelerator's allocator has held since it was loaded). What it does not know is left out."""


class Stepwise(Protocol):
    """A language model run one token at a time."""

    def logits(self, tokens: NDArray[np.int64], start: int) -> NDArray[np.float32]:
        """Logits that predict the end of one sequence, int64[length], from `start` (at least 1) on: float32[length -
        start, vocabulary]. Each comes from a step of one token, with what the model keeps of those before it."""

    def state_bytes(self) -> dict[str, int]:
        """Bytes that the model keeps between tokens: behind a "prompt" of its options, and behind the last one
        "generated" after it."""


@runtime_checkable
class LanguageModel(Model, Protocol):
    """A causal language model: what a task on text needs beside tensors in and out."""

    tokenizer: Any  # a Hugging Face tokenizer
    vocabulary: int  # logits per position
    max_tokens: int | None  # the longest sequence that its positions allow, `None` where there is no limit

    def target_logits(self, tokens: NDArray[np.int64], starts: Sequence[int], ends: Sequence[int] | None = None) -> Any:
        """Logits that predict the ends of some sequences.

        `tokens`: int64[rows, length]; `starts`: per row the position of its first target, at least 1; `ends`: the one
        behind its last (without it, all end with `tokens`); what stands there and behind is padding. Returns a torch
        tensor on the CPU, in the dtype that the model computed: [sum(end - start), vocabulary], row after row; the
        logits of target `tokens[r, p]` are those at position p - 1. Only these are computed where the model allows.
        """
