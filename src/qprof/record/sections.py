"""What a profile says, section by section: the parts that every task and runtime shares.

A task, a runtime and a method each have a section type of their own, a subclass of one of these: its fields are the
keys that it takes, and a key that is none of them is an error.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

#: A count. Ten million of anything is beyond every run, and what is made for each must fit into memory.
Positive = Annotated[int, Meta(ge=1, le=10_000_000)]
Threads = Annotated[int, Meta(ge=1, le=1024)]
#: Milliseconds or seconds: a day of either is beyond any run, and infinity has no place in a manifest.
NonNegative = Annotated[float, Meta(ge=0, le=86_400_000)]
Name = Annotated[str, Meta(min_length=1, max_length=80, pattern=r"^[A-Za-z0-9][A-Za-z0-9._+:-]*\Z")]
#: A key that holds a path: the $VARIABLES of `qprof.measure.profile_file` are filled in, and a relative one is taken
#: from the folder of the profile.
FilePath = Annotated[str, Meta(extra={"path": True})]

Delegate = Literal["xnnpack", "none"]


class ModelSection(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The model that the variants are made from: a path, "embedded:NAME" or "hf://ORG/NAME". May be empty where every
    variant names its own file."""

    path: FilePath = ""


class VariantSection(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One form of the model. `threads`: this variant's own, instead of the protocol's."""

    name: Name
    threads: Threads | None = None


class MadeVariantSection(VariantSection, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A variant that is made of the model. `method` defaults to the name."""

    method: str = ""


class FileVariantSection(VariantSection, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A ready-made model, used as it is."""

    file: FilePath


class TaskSection(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the variants are run on. `kind` names the task; each has a section of its own."""

    kind: str


class ProtocolSection(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How it is measured. A round holds one clean and one profiled block of every variant, in random order.

    `block_ms`: a block repeats its samples until it lasted at least this long. `block_samples`: so many a block runs at
    most where nothing is scored; those of a larger set are spread over the rounds. `profiled`: whether ops are timed at
    all. `warmup_max_s`: a variant that is not steady by then is measured all the same, and says so. `device`: what the
    variants run on, "cpu", "cuda" or "cuda:1", and `delegate`: what LiteRT hands its ops to, where the runtime has it.

    `scored`: whether predictions are scored at all; `timed`: whether latencies are of use: where they are not, and the
    task predicts in passes of its own, only the first round times anything. `energy`: whether `energy_rounds` of the
    rounds hold a block of each variant that lasts `energy_block_s` or longer, as power sensors need; "auto": where a
    sensor measures the device; "off": no power is read or estimated at all, and what else the host does is watched all
    the same. `country`: ISO 3166 alpha-3 code of the grid, for CO2e. `stacks_s`: seconds of each variant and phase
    during which its host stacks are sampled, where py-spy is installed. `layer_errors`: samples on which every layer of
    a variant is compared with the baseline's, 0 for none. `ceilings`: whether the machine's ceilings are measured where
    they are not known yet. `plausibility`: scored samples on which the baseline is tried with other settings of its
    task (labels, boxes, preprocessing), 0 for none. `output_samples`: inputs on which the outputs of a variant are
    compared with the baseline's, 0 for none; where it is left out, up to 1000 for a task without labels and none for
    others. `alone`: whether a block waits while another run of the same user measures on this machine. `own_process`:
    whether each variant has a process of its own; where it has not, those that one process can run share it, what one
    of them takes of memory is not told, and the run starts sooner. `budget_s`: seconds of measuring (from the first
    round on, without waiting for other runs); `margin`: relative difference of latencies that counts as none. With
    either, the run goes on until every verdict on latency is decided at the margin (2 % where none is given), the
    budget is spent or there were `rounds` rounds, 48 where the profile does not say. `samples`: of the data set, how
    many are predicted and scored, drawn from it at random; all where it is left out. `timeout_s`: of a block;
    `step_timeout_s`: of a step that is none, such as making a variant or scoring it. `memory_limit_bytes`: of a worker,
    by default four fifths of what is free when the run begins.
    """

    threads: Threads = 1
    delegate: Delegate = "xnnpack"
    device: Annotated[str, Meta(pattern=r"^(cpu|cuda(:[0-9]+)?)\Z")] = "cpu"
    rounds: Annotated[int, Meta(ge=1, le=10_000)] = 12
    block_ms: NonNegative = 100.0
    block_samples: Positive = 16
    profiled_block_ms: NonNegative = 60.0
    profiled: bool = True
    warmup_max_s: NonNegative = 8.0
    seed: Annotated[int, Meta(ge=0)] = 1
    timeout_s: Annotated[float, Meta(gt=0, le=1_000_000)] = 600.0
    scored: bool = True
    timed: bool = True
    energy: Literal["auto", "on", "off"] = "auto"
    energy_rounds: Annotated[int, Meta(ge=1, le=10_000)] = 8
    energy_block_s: Annotated[float, Meta(ge=0, le=86_400)] = 5.0
    country: Annotated[str, Meta(pattern=r"^([A-Z]{3})?\Z")] = ""
    stacks_s: Annotated[float, Meta(ge=0, le=3600)] = 2.0
    layer_errors: Annotated[int, Meta(ge=0, le=10_000)] = 8
    ceilings: bool = True
    plausibility: Annotated[int, Meta(ge=0, le=10_000)] = 50
    output_samples: Annotated[int, Meta(ge=0, le=100_000)] | None = None
    alone: bool = True
    own_process: bool = True
    budget_s: Annotated[float, Meta(gt=0, le=10_000_000)] | None = None
    margin: Annotated[float, Meta(gt=0, lt=1)] | None = None
    samples: Positive | None = None
    step_timeout_s: Annotated[float, Meta(gt=0, le=1_000_000)] = 7200.0
    memory_limit_bytes: Annotated[int, Meta(ge=100_000_000)] | None = None

    @property
    def adaptive(self) -> bool:
        """Whether the run goes on until its verdicts are decided."""
        return self.budget_s is not None or self.margin is not None
