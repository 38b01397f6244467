"""Which files of a folder in Hugging Face layout hold the weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from qprof.errors import ModelError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"

#: Unpickling runs code that the file brings along.
_PICKLED = (".bin", ".pt", ".pth", ".ckpt")


def read_json(path: Path) -> dict[str, Any]:
    """The object that a JSON file of the folder holds. Raises `ModelError`."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); check the folder") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not valid JSON ({error}); copy or download it again") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path}: holds no JSON object; copy or download it again")
    return content


def weight_files(path: Path) -> tuple[list[Path], Path | None]:
    """The files with weights, and what joins them where it is needed."""
    if (path / WEIGHTS).is_file():
        return [path / WEIGHTS], None
    indexes = [path / INDEX, *sorted(path.glob("*.safetensors.index.json"))]
    for index in indexes:
        if index.is_file():
            return _shards(index), index
    single = sorted(path.glob("*.safetensors"))
    if len(single) == 1:
        return single, None
    if single:
        raise ModelError(f"{path}: has {len(single)} .safetensors files but no {INDEX} that joins them; restore it")
    pickled = sorted(file.name for file in path.iterdir() if file.suffix in _PICKLED)
    if pickled:
        raise ModelError(
            f"{path}: its weights are pickled ({pickled[0]}), and unpickling runs code that the file brings along; "
            "convert them: AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder, "
            "safe_serialization=True), where you trust who made them"
        )
    raise ModelError(f"{path}: has no weights ({WEIGHTS}); download or copy the folder again")


def _shards(index: Path) -> list[Path]:
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not names:
        raise ModelError(f"{index}: has no weight_map; copy or download it again")
    shards = sorted({str(name) for name in names.values()})
    for name in shards:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise ModelError(f"{index}: names {name!r}, which is no .safetensors file beside it; download it again")
        if not (index.parent / name).is_file():
            raise ModelError(f"{index.parent / name}: this shard is missing; copy or download the folder again")
    return [index.parent / name for name in shards]
