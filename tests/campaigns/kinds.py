"""The kinds of files that mutations.py damages: how a whole one is made, and how a run reads it."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import structured
import structured_binary as binary
from kinds_checkpoints import CHECKPOINT_KINDS
from kinds_loaded import LOADED_KINDS
from mutations import Kind


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
    return _pt2_part(folder, "models/model.json", "graph.json")


def _pt2_weights(folder: Path) -> Path:
    return _pt2_part(folder, "model_weights_config.json", "weights.json")


def _pt2_part(folder: Path, ending: str, name: str) -> Path:
    """A file of its own with what an archive holds under a name of this ending."""
    import zipfile

    _pt2(folder)
    with zipfile.ZipFile(folder / "m.pt2") as file:
        inside = next(inside for inside in file.namelist() if inside.endswith(ending))
        (folder / name).write_bytes(file.read(inside))
    return folder / name


def _read_pt2_part(path: Path) -> object:
    import zipfile

    wanted = "models/model.json" if path.name == "graph.json" else "model_weights_config.json"
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder) / "m.pt2"
        with zipfile.ZipFile(path.with_name("m.pt2")) as old, zipfile.ZipFile(other, "w") as new:
            for name in old.namelist():
                new.writestr(name, path.read_bytes() if name.endswith(wanted) else old.read(name))
        return _read_pt2(other)


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


def _png(folder: Path) -> Path:
    binary.bomb()  # here, so that not every child makes it anew
    return _image("png")(folder)


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


def _text_file(name: str, content: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_text(content)
        return folder / name

    return make


def _results(folder: Path) -> Path:
    _coco(folder)
    found = [{"image_id": 1, "category_id": 1, "bbox": [0.0, 1.5, 20.0, 2.5], "score": 0.5 + n / 10} for n in range(4)]
    (folder / "results.json").write_text(json.dumps(found))
    return folder / "results.json"


def _read_results(path: Path) -> object:
    """As `qprof eval` does, from either side."""
    from qprof.tasks.coco.evaluate import evaluate

    beside = path.with_name("truth.json")
    return evaluate(str(beside), str(path)), path


def _masks(folder: Path) -> Path:
    _results(folder)
    segmentation = {"size": [48, 64], "counts": "P12fh0"}
    found = [{"image_id": 1, "category_id": 1, "segmentation": segmentation, "score": 0.5} for _ in range(3)]
    (folder / "masks.json").write_text(json.dumps(found))
    return folder / "masks.json"


def _read_masks(path: Path) -> object:
    from qprof.tasks.coco.evaluate import evaluate

    return evaluate(str(path.with_name("truth.json")), str(path), iou_type="segm")


def _read_evaluated(path: Path) -> object:
    """Annotations as `qprof eval` reads them."""
    from qprof.tasks.coco.evaluate import evaluate

    return evaluate(str(path), [])


def _read_names(path: Path) -> object:
    from qprof.tasks.classification.classes import read_names

    return read_names(path)


def _read_texts(path: Path) -> object:
    from qprof.tasks.lastword.data import Source
    from qprof.tasks.perplexity.documents import read_documents

    return read_documents(Source(str(path)), "auto")


def _read_examples(path: Path) -> object:
    """Labelled samples: all that are listed, and what the first of them are."""
    from qprof.tasks.classification.data.source import read_examples

    found = read_examples(str(path))
    for sample in range(min(3, len(found))):
        found.place(sample), found.digest(sample)
        found.image(sample) if found.gives == "images" else found.arrays(sample)
    return found.stands_for()


def _listed_images(name: str, delimiter: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        rows = [delimiter.join(("file", "label"))]
        for number in range(3):
            _image("png")(folder).rename(folder / f"{number}.png")
            rows.append(delimiter.join((f"{number}.png", f"c{number % 2}")))
        (folder / name).write_text("\n".join(rows) + "\n")
        return folder / name

    return make


def _cifar(folder: Path) -> Path:
    (folder / "test_batch.bin").write_bytes(bytes((n % 10 if n % 3073 == 0 else n % 251) for n in range(3073 * 3)))
    return folder / "test_batch.bin"


def _labelled_arrays(folder: Path) -> Path:
    import numpy as np

    np.savez(folder / "x.npz", ids=np.ones((4, 6), np.int64), label=np.array([0, 1, 0, 1]))
    return folder / "x.npz"


def _parquet(column: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        import pyarrow as pa
        from pyarrow import parquet

        if column == "text":
            table = pa.table({"text": ["a b c", "d e f", "g h i"]})
        else:
            content = _image("png")(folder).read_bytes()
            (folder / "i.png").unlink()
            table = pa.table({"image": [{"bytes": content, "path": "i.png"}] * 3, "label": [0, 1, 0]})
        parquet.write_table(table, folder / "t.parquet")
        return folder / "t.parquet"

    return make


_LINES = "\n".join(json.dumps({"text": f"some words of line {n}"}) for n in range(5)) + "\n"
_TEXTS = "\n".join(json.dumps({"text": f"words {n}", "label": n % 2}) for n in range(5)) + "\n"
_IDS = "\n".join(json.dumps({"ids": [n, 1, 2], "mask": [1.0, 1.0, 0.5], "label": n % 2}) for n in range(5)) + "\n"
_TITLES = " = A =\n text of a\n\n = B =\n text of b\n"
_INDEX = json.dumps({str(n): [f"n{n:08}", f"name {n}"] for n in range(5)})
_TABLE = 'text,label\na good one,1\n"a bad, one",0\n'


_PT2 = structured.in_zip(structured.of_json, at=lambda name: name.endswith((".json", ".pt")))

KINDS = [
    Kind("tflite", _tflite, _read_tflite, binary.of_flatbuffer),
    Kind("onnx", _onnx, _read_with_runtime, binary.of_protobuf),
    Kind("pt2", _pt2, _read_pt2, _PT2),
    Kind("pt2-graph", _pt2_graph, _read_pt2_part, structured.of_json),
    Kind("pt2-weights", _pt2_weights, _read_pt2_part, structured.of_json),
    *CHECKPOINT_KINDS,
    Kind("profile", _toml, _read_toml, structured.of_toml),
    Kind("coco", _coco, _read_coco, structured.of_json),
    Kind("coco-eval", _coco, _read_evaluated, structured.of_json),
    Kind("coco-results", _results, _read_results, structured.of_json),
    Kind("coco-masks", _masks, _read_masks, structured.of_json),
    Kind("jpg", _image("jpg"), _read_image, binary.of_jpeg),
    Kind("png", _png, _read_image, binary.of_png),
    *(Kind(form, _image(form), _read_image, binary.of_numbers) for form in ("bmp", "webp", "gif", "tif", "ppm")),
    Kind("npy", _array("npy"), _read_array, structured.of_npy),
    Kind("npz", _array("npz"), _read_array, structured.in_zip(structured.of_npy)),
    Kind("rows", _text_file("rows.jsonl", _LINES), _read_texts, structured.of_lines),
    Kind("text", _text_file("text.txt", _TITLES), _read_texts, structured.of_rows),
    Kind("rows-parquet", _parquet("text"), _read_texts, binary.of_numbers),
    Kind("classes", _text_file("names.txt", "one\ntwo\nthree\n"), _read_names, structured.of_rows),
    Kind("classes-json", _text_file("names.json", _INDEX), _read_names, structured.of_json),
    Kind("labelled-list", _listed_images("list.csv", ","), _read_examples, structured.of_rows),
    Kind("labelled-table", _text_file("texts.csv", _TABLE), _read_examples, structured.of_rows),
    Kind("labelled-texts", _text_file("texts.jsonl", _TEXTS), _read_examples, structured.of_lines),
    Kind("labelled-ids", _text_file("ids.jsonl", _IDS), _read_examples, structured.of_lines),
    Kind("labelled-arrays", _labelled_arrays, _read_examples, structured.in_zip(structured.of_npy)),
    Kind("labelled-parquet", _parquet("image"), _read_examples, binary.of_numbers),
    Kind("cifar", _cifar, _read_examples),
    *LOADED_KINDS,
]
