"""Mutates every kind of file that qprof reads, and reads it as a run would.

    python tests/campaigns/mutations.py --count 1000 [KIND ...]

Bytes are flipped, cut, doubled and overwritten by numbers at their limits; of JSON and TOML values are replaced. Each
file is read in a forked child with a limit of memory and a time limit; children take several, and what kills one is
told apart. A file may be read, or refused by a `QprofError` in one line. Anything else (another exception, a hang, a
death, a file written beside it) is wrong: each kind of it is printed once, behind the counts.
Run directories have a test of their own: tests/integration/test_damaged_runs.py.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from qprof.errors import QprofError

_BATCH = 100
_LIMIT_S = 20
_LIMIT_BYTES = 4 << 30
_ODD: list[Any] = [None, -1, 0, 1e308, 10**30, "", "x" * 3000, "\x1b[31m\u202e", [], {}, [[]], True, "NaN", {"a": 1}]
_ODD += ["../../x", 2**63, 1.5, [1] * 50, "/dev/zero", -(2**31)]


@dataclass(frozen=True)
class Kind:
    """One kind of file. `make`: writes a whole one into a folder and returns it; `read`: reads it as a run would."""

    name: str
    make: Callable[[Path], Path]
    read: Callable[[Path], object]


class _Late(BaseException):
    pass


def _late(number: int, frame: FrameType | None) -> None:
    raise _Late


def mutated(content: bytes, rng: random.Random, text: bool) -> bytes:
    """A change of a file's bytes; of JSON, more often one of its values."""
    if text and rng.random() < 0.7:
        with contextlib.suppress(ValueError, RecursionError):
            return _of_json(json.loads(content), rng)
    data = bytearray(content)
    how = rng.choice(("flip", "flip", "cut", "number", "number", "double", "drop", "swap"))
    at = rng.randrange(len(data)) if rng.random() < 0.5 else rng.randrange(min(len(data), 400))
    if how == "flip":
        for _ in range(rng.choice((1, 2, 10))):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        data[at] ^= 1 << rng.randrange(8)
    elif how == "cut":
        del data[at:]
    elif how == "number":
        width = rng.choice((1, 2, 4, 8))
        value = rng.choice((0, 1, 2**31, 2**31 - 1, 2**32 - 1, 2**62, 2**63, 2**64 - 1)) % 2 ** (8 * width)
        data[at : at + width] = value.to_bytes(width, "little")
    elif how == "double":
        data[at:at] = data[at : at + rng.choice((1, 8, 200))]
    elif how == "drop":
        del data[at : at + rng.choice((1, 4, 100))]
    else:
        other = rng.randrange(len(data))
        data[at : at + 8], data[other : other + 8] = data[other : other + 8], data[at : at + 8]
    return bytes(data)


def _of_json(value: Any, rng: random.Random) -> bytes:
    for _ in range(rng.choice((1, 1, 3))):
        found = list(_places(value))
        if not found:
            break
        holder, key = rng.choice(found)
        if rng.random() < 0.25:
            del holder[key]
        else:
            holder[key] = rng.choice(_ODD)
    return json.dumps(value).encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    pending = [value]
    while pending:
        found = pending.pop()
        entries = list(found.items() if isinstance(found, dict) else enumerate(found))
        for key, inner in entries[:200]:
            yield found, key
            if isinstance(inner, (dict, list)):
                pending.append(inner)


def campaign(kind: Kind, count: int, seed: int) -> collections.Counter[str]:
    """So many mutations of one kind; what became of them."""
    found: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory(prefix="qprof-mutations-") as folder:
        whole = kind.make(Path(folder))
        kind.read(whole)  # else all that follows would be refused for another reason
        content, done = whole.read_bytes(), 0
        while done < count:
            outcomes = _child(kind, whole, content, range(seed + done, seed + min(done + _BATCH, count)))
            found.update(outcomes)
            done += len(outcomes)
        if set(os.listdir(folder)) - set(_listed(kind)):
            found["WRONG: a file was written beside it"] += 1
    return found


def _listed(kind: Kind) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        kind.make(Path(folder))
        return os.listdir(folder)


def _child(kind: Kind, whole: Path, content: bytes, seeds: range) -> list[str]:
    """The outcome of each seed up to the one that killed the child, if one did."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        resource.setrlimit(resource.RLIMIT_AS, (_LIMIT_BYTES, _LIMIT_BYTES))
        signal.signal(signal.SIGALRM, _late)
        with os.fdopen(writer, "w") as stream:
            for seed in seeds:
                whole.write_bytes(mutated(content, random.Random(f"{kind.name} {seed}"), _is_json(whole)))
                stream.write(_outcome(kind, whole, seed).replace("\n", " ") + "\n")
                stream.flush()
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        outcomes = stream.read().splitlines()
    _, status = os.waitpid(pid, 0)
    if len(outcomes) < len(seeds):
        outcomes.append(f"DIED: status {status} (seed {seeds[len(outcomes)]})")
    whole.write_bytes(content)
    return outcomes


def _is_json(path: Path) -> bool:
    return path.suffix == ".json"


def _outcome(kind: Kind, path: Path, seed: int) -> str:
    signal.alarm(_LIMIT_S)
    try:
        kind.read(path)
    except QprofError as error:
        told = str(error).replace(str(path.parent), "")
        return "refused" if told.count("\n") == 0 else f"WRONG: two lines: {told[:80]!r} (seed {seed})"
    except _Late:
        return f"WRONG: more than {_LIMIT_S} s (seed {seed})"
    except MemoryError:  # the command line tells it in one line
        return "out of memory"
    except BaseException as error:
        own = [frame for frame in traceback.extract_tb(error.__traceback__) if "qprof" in frame.filename]
        at = f"{Path(own[-1].filename).name}:{own[-1].lineno}" if own else "?"
        return f"WRONG: {type(error).__name__} at {at} (seed {seed}): {str(error)[:80]}"
    finally:
        signal.alarm(0)
    return "read"


# -- the kinds of files -------------------------------------------------------------------------------------------


def _tflite(folder: Path) -> Path:
    import tflite_builder

    (folder / "m.tflite").write_bytes(tflite_builder.tiny_int8_net(size=16, channels=4))
    return folder / "m.tflite"


def _read_with_runtime(path: Path) -> object:
    """What the parent and the preparing worker ask of a model before it is loaded."""
    from qprof.measure.models import runtime_of

    runtime = runtime_of(str(path), "tensors")
    return runtime.stored(path), list(runtime.content_files(path))


def _read_tflite(path: Path) -> object:
    from qprof.runtimes.litert.flatbuffer import read_model

    return read_model(path), _read_with_runtime(path)


def _onnx(folder: Path) -> Path:
    from onnx_models import residual_net

    (folder / "m.onnx").write_bytes(residual_net().SerializeToString())
    return folder / "m.onnx"


def _pt2(folder: Path) -> Path:
    from torch_networks import save_images

    return save_images(folder / "m.pt2")


def _read_pt2(path: Path) -> object:
    from qprof.runtimes.torch_export.archive import checked_copy, stored_files

    return stored_files(path), checked_copy(path)


def _pt2_graph(folder: Path) -> Path:
    """The JSON inside an archive, mutated by its values."""
    import zipfile

    _pt2(folder)
    with zipfile.ZipFile(folder / "m.pt2") as file:
        name = next(name for name in file.namelist() if name.endswith("models/model.json"))
        (folder / "graph.json").write_bytes(file.read(name))
    return folder / "graph.json"


def _pt2_weights(folder: Path) -> Path:
    import zipfile

    _pt2(folder)
    with zipfile.ZipFile(folder / "m.pt2") as file:
        name = next(name for name in file.namelist() if name.endswith("model_weights_config.json"))
        (folder / "weights.json").write_bytes(file.read(name))
    return folder / "weights.json"


def _read_pt2_part(path: Path) -> object:
    import zipfile

    wanted = "models/model.json" if path.name == "graph.json" else "model_weights_config.json"
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder) / "m.pt2"
        with zipfile.ZipFile(path.with_name("m.pt2")) as old, zipfile.ZipFile(other, "w") as new:
            for name in old.namelist():
                new.writestr(name, path.read_bytes() if name.endswith(wanted) else old.read(name))
        return _read_pt2(other)


def _checkpoint(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        from checkpoints import save_llama

        save_llama(folder)
        return folder / name

    return make


def _read_checkpoint(path: Path) -> object:
    from qprof.runtimes.torch_lm.checkpoint import inspect

    found = inspect(path.parent)
    return found, found.sha256(), _read_with_runtime(path.parent)


def _gguf(folder: Path) -> Path:
    from gguf_files import write_gguf

    write_gguf(folder / "m.gguf", "Q8_0")
    return folder / "m.gguf"


def _toml(folder: Path) -> Path:
    profiles = Path(__file__).resolve().parents[2] / "profiles"
    for name in ("yolox-nano.toml", "coco-val2017.toml"):  # the first extends the second
        (folder / name).write_bytes((profiles / name).read_bytes())
    return folder / "yolox-nano.toml"


def _read_toml(path: Path) -> object:
    from qprof.measure.profile_file import VARIABLES, load_profile

    os.environ |= dict.fromkeys(VARIABLES, "/nowhere")
    return load_profile(path)


def _coco(folder: Path) -> Path:
    box = {"image_id": 1, "category_id": 1, "bbox": [0.0, 1.5, 20.0, 2.5], "area": 50.0, "iscrowd": 0}
    whole = {
        "images": [{"id": i, "width": 64, "height": 48, "file_name": f"{i}.jpg"} for i in (1, 2)],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [{**box, "id": i, "segmentation": [[1, 2, 3, 4, 5, 6]]} for i in range(1, 6)],
    }
    (folder / "truth.json").write_text(json.dumps(whole))
    return folder / "truth.json"


def _read_coco(path: Path) -> object:
    from qprof.core import _coco_json
    from qprof.tasks.detection.dataset import load_annotations

    return load_annotations(path), _coco_json.read_ground_truth(str(path))


def _image(form: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        import numpy as np
        from PIL import Image

        pixels = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"i.{form}")
        return folder / f"i.{form}"

    return make


def _read_image(path: Path) -> object:
    from qprof.tasks.images.reading import read_rgb, read_size

    read_size(path, None)
    return read_rgb(path, None).size


def _array(form: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        import numpy as np

        values = np.zeros((1, 8, 8, 3), np.float32)
        if form == "npy":
            np.save(folder / "x.npy", values)
        else:
            np.savez(folder / "x.npz", x=values)
        return folder / f"x.{form}"

    return make


def _read_array(path: Path) -> object:
    from qprof.record.tensors import TensorSpec
    from qprof.tasks.latency.given_inputs import GivenInputs

    inputs = GivenInputs([path])
    specs = [TensorSpec("x", (1, 8, 8, 3), "float32")]
    inputs.check(specs)
    return inputs.real(0, specs)


KINDS = [
    Kind("tflite", _tflite, _read_tflite),
    Kind("onnx", _onnx, _read_with_runtime),
    Kind("pt2", _pt2, _read_pt2),
    Kind("pt2-graph", _pt2_graph, _read_pt2_part),
    Kind("pt2-weights", _pt2_weights, _read_pt2_part),
    Kind("safetensors", _checkpoint("model.safetensors"), _read_checkpoint),
    Kind("config", _checkpoint("config.json"), _read_checkpoint),
    Kind("gguf", _gguf, _read_with_runtime),
    Kind("profile", _toml, _read_toml),
    Kind("coco", _coco, _read_coco),
    *(Kind(form, _image(form), _read_image) for form in ("jpg", "png", "bmp", "webp")),
    *(Kind(form, _array(form), _read_array) for form in ("npy", "npz")),
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", choices=[[], *(kind.name for kind in KINDS)], help="by default all")
    parser.add_argument("--count", type=int, default=1000, help="mutations of each kind")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    wrong = 0
    for kind in KINDS:
        if options.kinds and kind.name not in options.kinds:
            continue
        began = time.monotonic()
        found = campaign(kind, options.count, options.seed)
        shown = collections.Counter(text.partition(" (seed")[0] for text in found.elements())
        told = ", ".join(f"{count} {text}" for text, count in shown.most_common())
        print(f"{kind.name}: {told}; {time.monotonic() - began:.0f} s", flush=True)
        bad = [text for text in found if text.startswith(("WRONG", "DIED"))]
        for text in {text.partition(" (seed")[0]: text for text in bad}.values():
            print(f"    {text}", flush=True)
        wrong += len(bad)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
