"""The guard: a runtime whose memory is laid out otherwise must never be timed per op."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

core = pytest.importorskip("qprof.core._op_profiler")
builder = pytest.importorskip("tflite_builder", reason="the builder of tiny models needs ai_edge_litert")
litert = pytest.importorskip("ai_edge_litert.interpreter")

from qprof.errors import ModelError  # noqa: E402
from qprof.runtimes.litert import hooked  # noqa: E402
from qprof.runtimes.litert.flatbuffer import read_model  # noqa: E402
from qprof.runtimes.litert.guard import LayoutError, arena_bytes, builtin_code, check_layout  # noqa: E402
from qprof.runtimes.litert.hooked import OpsUnreachableError  # noqa: E402
from qprof.runtimes.litert.interpreter import LiteRTModel  # noqa: E402
from qprof.runtimes.litert.model_facts import ModelFacts  # noqa: E402
from qprof.runtimes.litert.profiled import ProfiledModel  # noqa: E402


@pytest.fixture
def write(tmp_path: Path) -> Callable[[bytes], Path]:
    def write_net(content: bytes) -> Path:
        path = tmp_path / f"net{len(list(tmp_path.iterdir()))}.tflite"
        path.write_bytes(content)
        return path

    return write_net


class Attached:
    """An allocated interpreter with its profiler, kept together."""

    def __init__(self, path: Path) -> None:
        self.facts = read_model(path)
        self.profiler = core.OpProfiler([(len(s.tensors), len(s.ops)) for s in self.facts.subgraphs])
        delegate = litert.load_delegate(core.PLUGIN_PATH, self.profiler.options)
        self.interpreter = litert.Interpreter(str(path), experimental_delegates=[delegate])
        self.interpreter.allocate_tensors()


def altered(facts: ModelFacts, number: int, **changes: object) -> ModelFacts:
    """The facts with one subgraph's fields replaced."""
    subgraphs = list(facts.subgraphs)
    subgraphs[number] = replace(subgraphs[number], **changes)  # type: ignore[arg-type]
    return replace(facts, subgraphs=tuple(subgraphs))


@pytest.mark.parametrize(
    "content",
    [
        builder.tiny_conv_net(),
        builder.tiny_int8_net(),
        builder.multi_io_net(),
        builder.while_net(),
        builder.growing_while_net(),
        builder.if_net(),
        builder.gather_net(),
    ],
)
def test_the_layout_fits(write: Callable[[bytes], Path], content: bytes) -> None:
    attached = Attached(write(content))
    assert check_layout(attached.profiler, attached.facts) == list(attached.facts.subgraphs)


def test_subgraphs_that_the_runtime_left_out_are_passed_over(write: Callable[[bytes], Path]) -> None:
    attached = Attached(write(builder.tiny_conv_net()))
    others = read_model(write(builder.while_net())).subgraphs
    own = attached.facts.subgraphs[0]
    facts = replace(attached.facts, subgraphs=(others[0], own, others[1]))
    assert check_layout(attached.profiler, facts) == [own]


def test_another_tensor(write: Callable[[bytes], Path]) -> None:
    attached = Attached(write(builder.tiny_conv_net()))
    tensors = list(attached.facts.subgraphs[0].tensors)
    tensors[2] = replace(tensors[2], name="other")
    name = attached.facts.subgraphs[0].tensors[2].name
    with pytest.raises(LayoutError, match=f"^subgraph 0: tensor 2 reads as '{name}' instead of 'other'$"):
        check_layout(attached.profiler, altered(attached.facts, 0, tensors=tuple(tensors)))


def test_another_op(write: Callable[[bytes], Path]) -> None:
    attached = Attached(write(builder.tiny_conv_net()))
    ops = list(attached.facts.subgraphs[0].ops)
    ops[1] = replace(ops[1], type="CONV_2D")
    with pytest.raises(LayoutError, match=r"^subgraph 0: op 1 reads as code 4 instead of 3 \(CONV_2D\)$"):
        check_layout(attached.profiler, altered(attached.facts, 0, ops=tuple(ops)))


def test_more_tensors_or_ops_than_the_runtime_has(write: Callable[[bytes], Path]) -> None:
    attached = Attached(write(builder.tiny_conv_net()))
    subgraph = attached.facts.subgraphs[0]
    with pytest.raises(LayoutError, match=r"\d+ tensors instead of 140"):
        check_layout(attached.profiler, altered(attached.facts, 0, tensors=subgraph.tensors * 10))
    with pytest.raises(LayoutError, match=r"op 6 reads as code 51 instead of 3 \(CONV_2D\)"):
        check_layout(attached.profiler, altered(attached.facts, 0, ops=subgraph.ops + subgraph.ops))


def test_fewer_ops_than_the_runtime_has(write: Callable[[bytes], Path]) -> None:
    attached = Attached(write(builder.tiny_int8_net()))
    ops = attached.facts.subgraphs[0].ops
    with pytest.raises(LayoutError, match="node 3 is beyond the file's 3 ops, but no delegate's"):
        check_layout(attached.profiler, altered(attached.facts, 0, ops=ops[:3]))
    attached = Attached(write(builder.tiny_conv_net()))
    ops = attached.facts.subgraphs[0].ops
    with pytest.raises(LayoutError, match="delegate node 6 claims ops that the file does not have"):
        check_layout(attached.profiler, altered(attached.facts, 0, ops=ops[:3]))


def test_the_subgraph_that_ought_to_fit_is_named(write: Callable[[bytes], Path]) -> None:
    """Not the last one that was tried instead of it."""
    attached = Attached(write(builder.while_net()))
    body = attached.facts.subgraphs[2]
    wrong = replace(body.ops[1], type="MUL")
    with pytest.raises(LayoutError, match=r"^subgraph 2: op 1 reads as code 0 instead of 18 \(MUL\)$"):
        check_layout(attached.profiler, altered(attached.facts, 2, ops=(body.ops[0], wrong)))
    main = attached.facts.subgraphs[0]
    with pytest.raises(LayoutError, match=r"^subgraph 0: op 0 reads as code 119 instead of 118 \(IF\)$"):
        check_layout(attached.profiler, altered(attached.facts, 0, ops=(replace(main.ops[0], type="IF"),)))
    with pytest.raises(LayoutError, match=r"^subgraph 1: the file has no more$"):
        check_layout(attached.profiler, replace(attached.facts, subgraphs=(main,)))


def test_a_profiler_that_no_interpreter_has(write: Callable[[bytes], Path]) -> None:
    facts = read_model(write(builder.tiny_conv_net()))
    with pytest.raises(LayoutError, match="do not have the tensors and ops of the file"):
        check_layout(core.OpProfiler([(14, 6)]), facts)


def test_a_refused_layout_leaves_end_to_end_timing(
    write: Callable[[bytes], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(builder.tiny_conv_net())
    other = read_model(write(builder.multi_io_net()))
    monkeypatch.setattr(hooked, "read_again", lambda _path: other)
    with pytest.raises(OpsUnreachableError, match="do not have the tensors and ops of the file") as caught:
        ProfiledModel(path)
    assert isinstance(caught.value, ModelError)
    assert str(caught.value).startswith(f"per-op timing is off for {path.name}: ") and "\n" not in str(caught.value)
    LiteRTModel(path).invoke()


def test_a_layout_that_only_differs_in_names_is_refused_too(
    write: Callable[[bytes], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(builder.tiny_conv_net())
    facts = read_model(path)
    tensors = tuple(replace(tensor, name=f"x{tensor.index}") for tensor in facts.subgraphs[0].tensors)
    monkeypatch.setattr(hooked, "read_again", lambda _path: altered(facts, 0, tensors=tensors))
    with pytest.raises(OpsUnreachableError, match="tensor 0 reads as 'image' instead of 'x0'"):
        ProfiledModel(path)


@pytest.mark.parametrize(
    ("op_type", "code"),
    [
        ("ADD", 0),
        ("CONV_2D", 3),
        ("CUSTOM:TFLite_Detection_PostProcess", 32),
        ("DELEGATE", 51),
        ("WHILE", 119),
        ("BUILTIN_9999", -1),
    ],
)
def test_builtin_code(op_type: str, code: int) -> None:
    assert builtin_code(op_type) == code


RO, RW, PERSISTENT, DYNAMIC = 1, 2, 3, 4


@pytest.mark.parametrize(
    ("tensors", "expected"),
    [
        ([], None),
        ([("w", RO, 400, 0x1000)], None),
        ([("a", RW, 64, 0)], None),  # inside a delegate: never allocated
        ([("a", RW, 0, 0x1000)], None),
        ([("a", RW, 64, 0x1000)], 64),
        ([("a", RW, 64, 0x1000), ("b", RW, 16, 0x1100)], 0x110),
        ([("b", RW, 16, 0x1100), ("a", RW, 64, 0x1000)], 0x110),
        ([("a", RW, 64, 0x1000), ("b", RW, 64, 0x1000)], 64),  # one after the other in the same place
        ([("a", RW, 64, 0x1000), ("w", RO, 9, 0x9000), ("p", PERSISTENT, 9, 0x9), ("d", DYNAMIC, 9, 0x99999)], 64),
    ],
)
def test_arena_bytes(tensors: list[tuple[str, int, int, int]], expected: int | None) -> None:
    assert arena_bytes(tensors) == expected


def test_the_arena_holds_what_is_alive_at_once(write: Callable[[bytes], Path]) -> None:
    """Without a delegate the arena holds the largest pair of an op's tensors at least, and less than all together."""
    model = ProfiledModel(write(builder.tiny_conv_net()), delegate="none")
    activations = [t.bytes for t in model.facts.subgraphs[0].tensors if not t.constant]
    stem_bytes = 8 * 8 * 4 * 4
    arena = model.arena_bytes()
    assert arena is not None and 3 * stem_bytes <= arena
    assert all(size is not None and arena > size for size in activations)
