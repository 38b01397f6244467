"""A bound on what a library builds of a configuration, before it looks at the weights.

transformers builds as many layers and experts as a config.json claims, each a module of Python: of a damaged one that
takes hours. How many there may be no key tells (each architecture has its own, and some share layers), but what is
built needs weights: all of them are to come out of the checkpoint's files. Before that, its classes of configurations
make lists with an entry for each layer and label that is claimed: so many may be claimed at all.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from qprof.errors import ModelError
from qprof.runtimes.torch_lm import safetensors_header
from qprof.runtimes.torch_lm.weight_files import weight_files

#: Parameters that are registered per stored one: each a few times, when it is built, loaded and tied, and one that is
#: stored in one piece (queries, keys and values) may be several. Architectures have 2 to 2.5 of them, gpt-oss 6 where
#: its experts are taken apart to be quantized.
_PER_STORED = 16
#: So many more always may be: those of a small model whose weights are in few tensors.
_ALWAYS = 1000

#: Keys that count what there is a list of ("num_hidden_layers", "n_layer", "n_routed_experts") -> the most there may
#: be, a hundred times what any model has. The lists are made in a second, of as many labels in a minute.
_COUNTS = {
    re.compile(r"(?!max_)(?:\w{1,60}_)?(?:layers?|blocks|groups|depth)", re.ASCII): 100_000,
    re.compile(r"(?!max_)(?:\w{1,60}_)?(?:experts|labels)", re.ASCII): 10_000_000,
}


@contextlib.contextmanager
def built_within(path: Path, stored: int | None = None) -> Iterator[None]:
    """While inside, whatever builds a model of this checkpoint is stopped by a `ModelError` once it has far more
    parameters than the files can fill. `stored`: how many those are at most, by default what the .safetensors files of
    the folder say. Raises `ModelError` too where these cannot be read."""
    from torch.nn.modules.module import register_module_parameter_registration_hook

    if stored is None:
        stored = most_parameters(
            tensor.shape for file in weight_files(path)[0] for tensor in safetensors_header.read(file).values()
        )
    most, found = _PER_STORED * stored + _ALWAYS, 0

    def count(module: Any, name: str, parameter: Any) -> None:
        nonlocal found
        found += 1
        if found > most:
            raise ModelError(
                f"{path}: its configuration claims more layers or experts than its files have weights of (they hold "
                f"{stored} parameters, and {most} were built); restore the configuration (config.json), or the files"
            )

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


def refuse_endless_counts(file: Path, config: Mapping[str, Any]) -> None:
    """Raise `ModelError` where a configuration claims more layers, experts or labels than lists can be made of."""
    tables: list[Mapping[str, Any]] = [config]
    while tables:
        for key, value in tables.pop().items():
            if isinstance(value, Mapping):
                tables.append(value)
            elif isinstance(value, int):
                most = next((most for keys, most in _COUNTS.items() if keys.fullmatch(key)), value)
                if value > most:
                    raise ModelError(
                        f"{file}: its {key} is above {most}, which no model has; write the original's, or copy the "
                        "file again"
                    )


def most_parameters(shapes: Iterable[Sequence[int]]) -> int:
    """How many parameters tensors of these shapes can fill: one each, but of experts that are stored in one piece, one
    behind the other, each is one."""
    return sum(min(shape[0], math.prod(shape)) if len(shape) > 2 else 1 for shape in map(tuple, shapes))
