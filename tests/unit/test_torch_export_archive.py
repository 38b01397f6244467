"""What a `.pt2` may hold, and that nothing of one that holds more is run."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from qprof.errors import ModelError  # noqa: E402
from qprof.runtimes import registry  # noqa: E402
from qprof.runtimes.torch_export import program  # noqa: E402
from qprof.runtimes.torch_export.archive import read_archive, stored_files  # noqa: E402
from torch_networks import save_images, save_tokens, tiny_images  # noqa: E402


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_images(tmp_path_factory.mktemp("archive") / "net.pt2")


class Bomb:
    """Unpickled, it leaves a folder behind."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.trace),)


def rewritten(source: Path, target: Path, change: Callable[[str, bytes], bytes]) -> Path:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            new.writestr(info.filename, change(info.filename, old.read(info)))
    return target


def with_graph(source: Path, target: Path, change: Callable[[Any], None]) -> Path:
    def one(name: str, content: bytes) -> bytes:
        if not name.endswith("models/model.json"):
            return content
        graph = json.loads(content)
        change(graph)
        return json.dumps(graph).encode()

    return rewritten(source, target, one)


def test_a_plain_archive_is_read(file: Path) -> None:
    archive = read_archive(file)
    assert "stem.0.weight" in archive.payloads
    found = program.load(file)
    assert [spec.shape for spec in found.inputs] == [(1, 3, 8, 8)]
    assert [spec.shape for spec in found.outputs] == [(1, 4)]


def test_what_rewriting_does_is_loaded_all_the_same(file: Path, tmp_path: Path) -> None:
    """Else the refusals below could be those of any archive that was rewritten."""
    program.load(with_graph(file, tmp_path / "same.pt2", lambda graph: None))


def test_every_byte_is_in_one_part(file: Path) -> None:
    found = stored_files(file)
    assert sum(part.bytes for part in found.parts) == found.bytes == file.stat().st_size
    weights = next(part for part in found.parts if part.name == "stem.0.weight")
    assert (weights.bytes, weights.dtype, weights.elements) == (8 * 3 * 9 * 4, "float32", 8 * 3 * 9)


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("torch.load", "'torch.load'"),
        ("torch._utils.os.system", "'torch._utils.os.system'"),
        ("torch.ops.aten.from_file.default", "from_file"),
        ("_operator.methodcaller", "methodcaller"),
        ("torch.ops.aten.relu.default.__class__", "__class__"),
    ],
)
def test_targets_beyond_ops_are_refused(file: Path, tmp_path: Path, target: str, told: str) -> None:
    def change(graph: Any) -> None:
        graph["graph_module"]["graph"]["nodes"][0]["target"] = target

    with pytest.raises(ModelError, match=told):
        program.load(with_graph(file, tmp_path / "bad.pt2", change))


def test_a_size_that_is_code_is_refused(file: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace"

    def change(graph: Any) -> None:
        sizes = next(iter(graph["graph_module"]["graph"]["tensor_values"].values()))["sizes"]
        sizes[0] = {"as_expr": {"expr_str": f"__import__('os').mkdir('{trace}')", "hint": {"as_int": 1}}}

    with pytest.raises(ModelError, match="is no size"):
        program.load(with_graph(file, tmp_path / "bad.pt2", change))
    assert not trace.exists()


def test_guards_are_not_run(file: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace"

    def change(graph: Any) -> None:
        graph["guards_code"] = [f"__import__('os').mkdir('{trace}')"]

    found = program.load(with_graph(file, tmp_path / "guards.pt2", change))
    found.module(*found.examples)
    assert not trace.exists()


def test_pickled_weights_are_refused(file: Path, tmp_path: Path) -> None:
    trace, bomb = tmp_path / "trace", io.BytesIO()
    torch.save(Bomb(trace), bomb)

    def change(name: str, content: bytes) -> bytes:
        if name.endswith("model_weights_config.json"):
            config = json.loads(content)
            next(iter(config["config"].values()))["use_pickle"] = True
            return json.dumps(config).encode()
        return bomb.getvalue() if name.endswith("weights/weight_0") else content

    with pytest.raises(ModelError, match="is a pickled object"):
        program.load(rewritten(file, tmp_path / "bad.pt2", change))
    assert not trace.exists()


def test_example_inputs_that_are_no_tensors_are_refused(file: Path, tmp_path: Path) -> None:
    trace, bomb = tmp_path / "trace", io.BytesIO()
    torch.save(Bomb(trace), bomb)

    def change(name: str, content: bytes) -> bytes:
        return bomb.getvalue() if name.endswith("sample_inputs/model.pt") else content

    path = rewritten(file, tmp_path / "bad.pt2", change)
    with pytest.raises(ModelError, match="example inputs are not plain tensors"):
        program.load(path)
    assert not trace.exists()
    with contextlib.suppress(Exception):  # it fails on what they are, after it has unpickled them
        torch.export.load(str(path))
    assert trace.exists()  # what is guarded against is real


def test_other_files_are_refused_in_one_line(tmp_path: Path) -> None:
    net, trace = tiny_images(), tmp_path / "trace"
    torch.jit.save(torch.jit.trace(net, torch.randn(1, 3, 8, 8)), str(tmp_path / "script.pt"))
    torch.save(net.state_dict(), tmp_path / "state.pth")
    (tmp_path / "old.pt").write_bytes(pickle.dumps(Bomb(trace)))
    with zipfile.ZipFile(tmp_path / "compiled.pt2", "w") as file:
        file.writestr("net/data/aotinductor/model/net.so", b"")
    with zipfile.ZipFile(tmp_path / "before.pt2", "w") as file:
        file.writestr("serialized_exported_program.json", "{}")
    (tmp_path / "cut.pt2").write_bytes(save_images(tmp_path / "whole.pt2").read_bytes()[:5000])
    for name, told in {
        "script.pt": "TorchScript or a pickled module",
        "state.pth": "TorchScript or a pickled module",
        "old.pt": "no .pt2 archive",
        "compiled.pt2": "machine code",
        "before.pt2": "torch 2.7 or older",
        "cut.pt2": "cut off",
    }.items():
        runtime = registry.for_model(tmp_path / name)
        assert runtime.name == "torch_export"
        with pytest.raises(ModelError, match=told) as raised:
            runtime.load(tmp_path / name, runtime.options_type())
        assert "\n" not in str(raised.value)
    assert not trace.exists()


def test_integers_know_the_rows_that_they_look_up(tmp_path: Path) -> None:
    found = program.load(save_tokens(tmp_path / "tokens.pt2"))
    assert [(spec.name, spec.dtype, spec.valid_range) for spec in found.inputs] == [
        ("ids", "int64", (0, 19)),
        ("mask", "float32", None),
    ]


def test_an_open_batch_is_one(tmp_path: Path) -> None:
    shapes = {"x": {0: torch.export.Dim("batch", min=1, max=64)}}
    exported = torch.export.export(tiny_images(), (torch.randn(2, 3, 8, 8),), dynamic_shapes=shapes)
    torch.export.save(exported, str(tmp_path / "open.pt2"))
    (spec,) = program.load(tmp_path / "open.pt2").inputs
    assert (spec.shape, spec.shape_signature) == ((1, 3, 8, 8), (-1, 3, 8, 8))
