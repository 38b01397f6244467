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
from qprof.runtimes.torch_export.archive import checked_copy, read_archive, stored_files  # noqa: E402
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


# -- what hides from the check, or is read by torch and not by it -----------------------------------------------------


def mkdir(trace: Path) -> Any:
    return {"as_expr": {"expr_str": f"__import__('os').mkdir('{trace}')", "hint": {"as_int": 1}}}


def evil_size(graph: Any, trace: Path) -> None:
    next(iter(graph["graph_module"]["graph"]["tensor_values"].values()))["sizes"][0] = mkdir(trace)


@pytest.mark.parametrize("name", ["metadata", "target", "inputs", "expr_str"])
def test_the_name_of_a_tensor_hides_nothing(file: Path, tmp_path: Path, name: str) -> None:
    """A tensor named "metadata" was passed over, and what its size said was run by torch."""
    trace = tmp_path / "trace"

    def change(graph: Any) -> None:
        inner = graph["graph_module"]["graph"]
        old = inner["nodes"][0]["outputs"][0]["as_tensor"]["name"]
        text = json.dumps(inner).replace(json.dumps(old), json.dumps(name))
        graph["graph_module"]["graph"] = json.loads(text)
        graph["graph_module"]["graph"]["tensor_values"][name]["sizes"][0] = mkdir(trace)

    with pytest.raises(ModelError, match=r"is no size|is no text"):
        program.load(with_graph(file, tmp_path / "bad.pt2", change))
    assert not trace.exists()


def test_a_list_of_sizes_is_no_size(file: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace"

    def change(graph: Any) -> None:
        evil_size(graph, trace)
        sizes = next(iter(graph["graph_module"]["graph"]["tensor_values"].values()))["sizes"]
        sizes[0]["as_expr"]["expr_str"] = [sizes[0]["as_expr"]["expr_str"]]

    with pytest.raises(ModelError, match="is no text"):
        program.load(with_graph(file, tmp_path / "bad.pt2", change))
    assert not trace.exists()


@pytest.mark.parametrize("escaped", [False, True])
def test_a_tree_that_imports_a_module_is_refused(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, escaped: bool
) -> None:
    """Also where JSON's escapes keep the word out of the file's bytes."""
    (tmp_path / "imported_by_a_tree.py").write_text(f"import os; os.mkdir({str(tmp_path / 'trace')!r})")
    monkeypatch.syspath_prepend(tmp_path)

    def change(graph: Any) -> None:
        signature = graph["graph_module"]["module_call_graph"][0]["signature"]
        word = "__en" + chr(92) + "u0075m__" if escaped else "__enum__"
        context = f'[{{"{word}": true, "fqn": "imported_by_a_tree:x", "name": "x"}}]'
        tree = {"type": "builtins.dict", "context": context, "children_spec": []}
        signature["in_spec"] = json.dumps([1, tree])

    with pytest.raises(ModelError, match="would have to be imported"):
        program.load(with_graph(file, tmp_path / "bad.pt2", change))
    assert not (tmp_path / "trace").exists()


def records(file: Path) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(file) as archive:
        return [(info.filename, archive.read(info)) for info in archive.infolist()]


def written(target: Path, content: list[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(target, "w", compression) as archive:
        for name, data in content:
            archive.writestr(name, data)
    return target


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("as_named", [str, str.upper], ids=["same", "case"])
def test_two_records_of_one_name_are_refused(file: Path, tmp_path: Path, as_named: Callable[[str], str]) -> None:
    """Which of the two torch takes is its reader's to choose."""
    content = records(file)
    name, graph = next(pair for pair in content if pair[0].endswith("models/model.json"))
    top, _, rest = name.partition("/")
    for place in (0, len(content)):
        doubled = [*content[:place], (f"{top}/{as_named(rest)}", graph), *content[place:]]
        with pytest.raises(ModelError, match="two records of one name"):
            program.load(written(tmp_path / "bad.pt2", doubled))


def test_two_archives_in_one_are_refused(file: Path, tmp_path: Path) -> None:
    content = records(file)
    other = [("other/" + name.partition("/")[2], data) for name, data in content]
    with pytest.raises(ModelError, match="more than one archive"):
        program.load(written(tmp_path / "bad.pt2", other + content))


def test_a_zip_bomb_is_refused_unopened(file: Path, tmp_path: Path) -> None:
    content = [*records(file), ("net/extra/qprof.json", b" " * 20_000_000)]
    bad = written(tmp_path / "bad.pt2", content, zipfile.ZIP_DEFLATED)
    assert bad.stat().st_size < 200_000
    with pytest.raises(ModelError, match="compressed, or overlap"):
        program.load(bad)


def test_torch_is_given_nothing_that_was_not_checked(file: Path, tmp_path: Path) -> None:
    """Beside its configuration, torch prefers weights in one pickle, which older releases wrote."""
    trace = tmp_path / "trace"
    legacy = ("net/data/weights/model.pt", pickle.dumps(Bomb(trace)))
    archive, copy = checked_copy(written(tmp_path / "legacy.pt2", [*records(file), legacy]))
    with zipfile.ZipFile(copy) as content:
        assert "model/data/weights/model.pt" not in content.namelist()
    program.load(tmp_path / "legacy.pt2")
    assert not trace.exists() and "stem.0.weight" in archive.payloads


def test_a_constant_does_not_hide_a_pickled_weight_of_its_name(file: Path, tmp_path: Path) -> None:
    def change(name: str, content: bytes) -> bytes:
        found = json.loads(content) if name.endswith("_config.json") else None
        if name.endswith("model_weights_config.json"):
            found["config"]["stem.0.weight"]["use_pickle"] = True
        elif name.endswith("model_constants_config.json"):
            found["config"]["stem.0.weight"] = {"path_name": "tensor_0", "use_pickle": False, "tensor_meta": None}
        return content if found is None else json.dumps(found).encode()

    with pytest.raises(ModelError, match="is a pickled object"):
        program.load(rewritten(file, tmp_path / "bad.pt2", change))
