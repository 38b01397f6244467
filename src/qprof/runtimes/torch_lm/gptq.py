"""What GPTQ is told and given: settings, calibration tokens, which layers; alike for every library that quantizes."""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from qprof.errors import ModelError, QprofError
from qprof.probes.machine import available_cores
from qprof.runtimes.tool_output import first_line
from qprof.runtimes.torch_lm.checkpoint import Checkpoint
from qprof.runtimes.torch_lm.kernels import DEFAULT, KERNELS
from qprof.runtimes.torch_lm.load import is_out_of_memory
from qprof.runtimes.torch_lm.sections import AutoGPTQVariant, GPTQVariant

BITS = (2, 3, 4, 8)

#: Group size unless the method or the variant names one: the first that divides all of a model's layers; -1, a group
#: per row, always does, and 16 is for methods that have none.
DEFAULT_GROUP_SIZES = (64, 32, -1, 16)

#: How a method is written: the bits, and perhaps the group size.
METHOD = re.compile(r"^gptq(?:-(?P<bits>\d+)bit)?(?:-g(?P<group>\d+))?\Z")

#: Weights of a layer up to which one thread quantizes faster than two: with 192 x 512 the two took four times as long,
#: and as much processor time, on cores that were in use.
_SMALL_LAYER = 1 << 18


@dataclass(frozen=True, slots=True)
class Settings:
    """What shapes a quantized checkpoint beside its source and samples. `group_size` -1: one group per row.
    `skip_layers`: linear layers that stay as they are, by name."""

    bits: int
    group_size: int = 64
    desc_act: bool = False
    sym: bool = True
    skip_layers: tuple[str, ...] = ()


def check(source: Checkpoint, settings: Settings) -> None:
    """Raise `ModelError` where the source cannot be quantized so."""
    if source.quantization is not None:
        raise ModelError(
            f"{source.path}: already quantized ({source.quantization.bits} bits); name the unquantized original, or "
            "run it as it is with file ="
        )
    if settings.bits not in BITS:
        raise ModelError(f"GPTQ with {settings.bits} bits: bits may be {', '.join(map(str, BITS))}")
    if not source.linears:
        raise ModelError(f"{source.path}: no linear layers were found to quantize in {source.architecture}")
    linears = quantized_linears(source, settings)
    _refuse_unpackable(source, settings)
    sizes = [size for size in KERNELS[DEFAULT].group_sizes if size > 0]
    for name, (in_features, _) in linears.items():
        if settings.group_size != -1 and (settings.group_size not in sizes or in_features % settings.group_size):
            fits = [size for size in sizes if all(wide % size == 0 for wide, _ in linears.values())]
            nearest = sorted(fits, key=lambda size: abs(size - settings.group_size))[:2]
            raise ModelError(
                f"{source.path}: group_size {settings.group_size} does not divide the {in_features} in_features of "
                f"{name}; choose {' or '.join(map(str, [*sorted(nearest), -1]))} (-1: one group per row)"
            )


def quantized_linears(source: Checkpoint, settings: Settings) -> dict[str, tuple[int, int]]:
    """The linear layers that are to be quantized: name -> (in_features, out_features).

    Raises `ModelError` where a layer to skip is none of the model's, or where none is left.
    """
    for name in settings.skip_layers:
        if name not in source.linears:
            close = difflib.get_close_matches(name, source.linears, n=1)
            raise ModelError(
                f"{source.path}: skip_layers names {name!r}, which is no linear layer of it; "
                + (f"did you mean {close[0]!r}?" if close else f"they are called like {next(iter(source.linears))!r}")
            )
    left = {name: features for name, features in source.linears.items() if name not in settings.skip_layers}
    if not left:
        raise ModelError(f"{source.path}: skip_layers names all {len(source.linears)} linear layers; leave one to GPTQ")
    return left


def _refuse_unpackable(source: Checkpoint, settings: Settings) -> None:
    """Three bits do not divide a word of 32: they are packed 32 at a time, rows and columns."""
    for name, features in quantized_linears(source, settings).items():
        if settings.bits == 3 and any(count % 32 for count in features):
            raise ModelError(
                f"{source.path}: 3 bits are packed 32 at a time, and {name} has {features[0]} inputs and {features[1]} "
                "outputs; choose 2, 4 or 8 bits"
            )


def default_group_size(source: Checkpoint, sizes: Sequence[int] = DEFAULT_GROUP_SIZES) -> tuple[int, list[str]]:
    """The group size of a variant that names none, and a note where it is not the usual one. `sizes`: what its method
    takes; where none of them fits, the usual one, for the method to refuse.

    All linear layers of the model count, also those that stay in float: leaving one out must not change how the others
    are quantized.
    """
    usual = DEFAULT_GROUP_SIZES[0]
    undivided = [(name, into) for name, (into, _) in source.linears.items() if into % usual]
    fits = [
        size
        for size in DEFAULT_GROUP_SIZES
        if size in sizes and (size == -1 or not any(into % size for into, _ in source.linears.values()))
    ]
    if not undivided or not fits:
        return usual, []
    name, into = undivided[0]
    chosen = "one group per row (group_size -1)" if fits[0] == -1 else f"groups of {fits[0]}"
    return fits[0], [f"{chosen}: groups of {usual} do not divide the {into} in_features of {name}"]


def settings_of(section: GPTQVariant | AutoGPTQVariant, source: Callable[[], Checkpoint]) -> tuple[Settings, list[str]]:
    """What "gptq-<bits>bit[-g<size>]" and the keys of a variant say together, and notes on what was chosen for it.
    `source`: the model, which is asked for where neither names a group size.

    Raises:
        ModelError: the method is no such, or the name and a key disagree.
    """
    method = section.method or section.name
    match = METHOD.match(method)
    if match is None:
        raise ModelError(f"variant {section.name}: {method!r} is no method of GPTQ; write gptq-4bit or gptq-4bit-g128")
    bits = _agreed(section.name, "bits", section.bits, match["bits"])
    if bits is None:
        raise ModelError(f"variant {section.name}: method {method} names no bits; write gptq-4bit, or bits = 4")
    group_size, notes = _agreed(section.name, "group_size", section.group_size, match["group"]), list[str]()
    if group_size is None:
        group_size, notes = default_group_size(source())
    settings = Settings(
        bits=bits,
        group_size=group_size,
        desc_act=section.desc_act,
        sym=section.sym,
        skip_layers=tuple(sorted(set(section.skip_layers))) if isinstance(section, GPTQVariant) else (),
    )
    return settings, notes


def _agreed(variant: str, key: str, stated: int | None, named: str | None) -> int | None:
    if stated is not None and named is not None and stated != int(named):
        raise ModelError(f"variant {variant}: its method says {named} and its key {key} says {stated}")
    return int(named) if named is not None else stated


@contextlib.contextmanager
def failures_named(source: Checkpoint, settings: Settings) -> Iterator[None]:
    """Turn what the quantizer raises into a `ModelError` that says which variant it was."""
    what = f"{source.path}: quantizing to {settings.bits} bits, group size {settings.group_size}"
    try:
        yield
    except QprofError:
        raise
    except Exception as error:  # whatever a quantizer of 100,000 lines comes up with, other variants go on
        if is_out_of_memory(error):
            raise ModelError(f"{what}: out of memory; free memory or quantize on a larger machine") from error
        raise ModelError(f"{what} failed: {first_line(error)}; other variants go on") from error


def worth_threads(source: Checkpoint) -> int:
    """All cores, or one where every layer is small: handing out its work would then take longer than doing it."""
    largest = max((rows * columns for rows, columns in source.linears.values()), default=0)
    return available_cores() if largest > _SMALL_LAYER else 1


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """While inside, torch computes on that many threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
