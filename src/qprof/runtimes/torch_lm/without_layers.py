"""A checkpoint without some of its decoder layers: to see what a model that has more of them spends on these."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from qprof.errors import ModelError
from qprof.runtimes.torch_lm import safetensors_header
from qprof.runtimes.torch_lm.checkpoint import CONFIG, Checkpoint, inspect, normalised
from qprof.runtimes.torch_lm.weight_files import read_json
from qprof.store.cache import Cache, json_sha256

#: "model.layers.3.mlp.up_proj": the list of layers, the layer's number in it, and what of it.
_IN_LAYER = re.compile(r"(?P<before>(?:.*\.)?(?:layers|h|blocks|block))\.(?P<number>\d+)(?P<behind>\..*)?\Z")
#: How configurations call the number of layers.
_COUNTS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
#: More than this is not written once more for a test.
_MOST_BYTES = 4 * 10**9
_WEIGHTS = "model.safetensors"


def without_layers(path: Path, names: Collection[str]) -> Path:
    """A folder in the cache with the checkpoint, but for the layers that the named modules make up.

    `names`: of modules, as `qprof layers` lists them; every module with weights of a layer that is to go, and of no
    other.

    Raises:
        ModelError: the checkpoint cannot be read, the names are not those of whole layers, or it is too large.
        StoreError: the cache cannot be written.
    """
    own = inspect(normalised(inspect(path)))
    if own.weight_bytes > _MOST_BYTES:
        raise ModelError(f"{path}: {own.weight_bytes / 1e9:.1f} GB are not written once more for a test")
    of, gone = _whole_layers(own, names)
    known = {"content": own.sha256(), "path": str(own.path.absolute()), "of": of, "gone": sorted(gone), "revision": 1}
    key = json_sha256(known)
    return _cut.lookup(key) or _cut.store(key, lambda folder: _write(own, of, gone, folder))


def _whole_layers(own: Checkpoint, names: Collection[str]) -> tuple[str, set[int]]:
    """The list of layers ("model.layers"), and the numbers of those in it that the names make up."""
    lists: set[str] = set()
    gone: set[int] = set()
    for name in names:
        found = _IN_LAYER.match(name.partition("/")[0])
        if found is None:
            raise ModelError(f"{own.path}: {name} is in no layer that could be cut out")
        lists.add(found["before"])
        gone.add(int(found["number"]))
    if len(lists) != 1:
        raise ModelError(f"{own.path}: the modules are in no list of layers, or in several; cut those of one")
    (of,) = lists
    there: set[int] = set()
    for module in {tensor.rpartition(".")[0] for tensor in _tensors(own)}:
        found = _IN_LAYER.match(module)
        if found is None or found["before"] != of:
            continue
        number = int(found["number"])
        there.add(number)
        if number in gone and module not in names and not _is_inside(module, names):
            raise ModelError(f"{own.path}: {module} would stay of a layer that is to be cut out; name all of it")
    if not gone < there:
        raise ModelError(f"{own.path}: has layers {min(there, default=0)} to {max(there, default=0)}; leave some in")
    return of, gone


def _is_inside(module: str, names: Collection[str]) -> bool:
    """Whether a named module holds this one and none that has a name of its own, as a list of experts does."""
    layer = _IN_LAYER.match(module)
    above = module.rpartition(".")[0]
    while layer is not None and len(above) > len(f"{layer['before']}.{layer['number']}"):
        if above in names:
            return not any(name.startswith(f"{above}.") for name in names)
        above = above.rpartition(".")[0]
    return False


def _tensors(own: Checkpoint) -> list[str]:
    found: list[str] = []
    for file in own.weight_files:
        with safetensors_header.opened(file, "pt") as stream:
            found += stream.keys()
    return found


def _write(own: Checkpoint, of: str, gone: set[int], folder: Path) -> None:
    from safetensors.torch import save_file

    kept: dict[str, Any] = {}
    stay: set[int] = set()
    for file in own.weight_files:
        with safetensors_header.opened(file, "pt") as stream:
            for name in stream.keys():  # noqa: SIM118  (it is no mapping)
                number = _number(name, of)
                if number not in gone:
                    kept[name] = stream.get_tensor(name)
                    stay |= set() if number is None else {number}
    numbers = {number: place for place, number in enumerate(sorted(stay))}
    renamed = {_renamed(name, of, numbers): tensor for name, tensor in kept.items()}
    save_file(renamed, folder / _WEIGHTS, {"format": "pt"})
    for file in own.content_files():
        if file not in own.weight_files and file != own.index and file.name != CONFIG:
            (folder / file.name).symlink_to(file.absolute())
    config = _shortened(read_json(own.path / CONFIG), len(numbers) + len(gone), gone)
    (folder / CONFIG).write_text(json.dumps(config, indent=1), encoding="utf-8")


def _number(name: str, of: str) -> int | None:
    """Of the layer that a tensor is in; `None` where it is in none of that list."""
    layer = _IN_LAYER.match(name)
    return int(layer["number"]) if layer is not None and layer["before"] == of else None


def _renamed(name: str, of: str, numbers: Mapping[int, int]) -> str:
    number = _number(name, of)
    return name if number is None else name.replace(f"{of}.{number}", f"{of}.{numbers[number]}", 1)


def _shortened(config: Mapping[str, Any], layers: int, gone: Collection[int]) -> dict[str, Any]:
    """The configuration of a model with fewer layers: counts, and lists with an entry for each."""
    found = dict(config)
    for key, value in config.items():
        if isinstance(value, Mapping):
            found[key] = _shortened(value, layers, gone)
        elif key in _COUNTS and value == layers:
            found[key] = layers - len(gone)
        elif isinstance(value, list) and len(value) == layers and ("layer" in key or "block" in key):
            found[key] = [one for number, one in enumerate(value) if number not in gone]
    return found


def _intact(entry: Path) -> Path | None:
    whole = (entry / CONFIG).is_file() and (entry / _WEIGHTS).is_file()
    return entry if whole and all(path.is_file() for path in entry.iterdir()) else None


_cut: Cache[Path] = Cache("without-layers", _intact, "checkpoint without some layers")
