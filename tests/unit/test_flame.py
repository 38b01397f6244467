"""Flames of recorded runs: the model's tree closes, host stacks are read as untrusted, differences lay B over A."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qprof.errors import StoreError
from qprof.findings.flame import FlameNode, flame_difference, host_flame, model_flame, read_folded
from qprof.record.blocks import Block, Samples
from qprof.record.machine import Machine
from qprof.record.manifest import Manifest, RecordedProfile, VariantEntry
from qprof.record.ops import FUSED, SOURCES, OpEvents, OpMeta
from qprof.record.phases import Phase
from qprof.store.run import Run
from qprof.store.writer import RunWriter

PHASES = [Phase("prefill", tokens=64), Phase("decode", tokens=1, steps=4)]
UP = "model.layers.0.mlp.up_proj"
#: Mean microseconds per inference: the whole, then the root module, the layer's own, its parts (a float one has none).
LM_US = {
    ("float", "prefill"): (1000, [10, 800]),
    ("float", "decode"): (100, [10, 80]),
    ("int4", "prefill"): (3000, [10, 2600, 2000, 600]),
    ("int4", "decode"): (2200, [10, 2100, 2000, 100]),
}
LITERT_OPS = [
    OpMeta("9", "XNNPACK partition 0", "DELEGATE", 0, delegate="XNNPACK"),
    OpMeta("0", "net/a;net/b", "CONV_2D", 1, kernel="Convolution (NHWC, F32)", delegate="XNNPACK", parent="9"),
    OpMeta("1", "net/c", "DEQUANTIZE", 2, kernel=FUSED, delegate="XNNPACK", parent="9"),
    OpMeta("2", "net/loop", "WHILE", 3),
    OpMeta("3", "net/add", "ADD", 4, parent="2", kernel="builtin"),
    OpMeta("4", "net/out", "SOFTMAX", 5),
    OpMeta("5", "net/if", "IF", 6, parent="2"),
    OpMeta("6", "net/mul", "MUL", 7, parent="5"),
]
LITERT_US = [300, 300, 0, 70, 45, 40, 5, 5]


def lm_ops(variant: str, phase: str) -> list[OpMeta]:
    found = [
        OpMeta(f"{phase}/TinyLM", "TinyLM", "TinyLM", 0, phase=phase),
        OpMeta(f"{phase}/{UP}", UP, "Linear", 1, kernel="torch.nn.Linear" if variant == "float" else "K", phase=phase),
    ]
    if variant != "float":
        parent = f"{phase}/{UP}"
        found.append(OpMeta(f"{parent}/dequantize", f"{UP}/dequantize", "dequantize", 2, parent=parent, phase=phase))
        found.append(OpMeta(f"{parent}/matmul", UP, "Linear", 3, parent=parent, kernel="K", phase=phase))
    return found


def block(number: int, variant: str, kind: str, whole_us: int, parts: list[int], first: int, phase: str) -> Block:
    """Two inferences, one 10 % shorter and one 10 % longer than the mean."""
    factors = (900, 1100)
    samples = Samples(np.zeros(2, np.int32), np.arange(2), np.array([whole_us * factor for factor in factors]))
    events = None
    if kind == "profiled":
        rows = [(i, first + op, 0, us * f, 2) for i, f in enumerate(factors) for op, us in enumerate(parts) if us]
        events = OpEvents(*np.array(rows, np.int64).T)
    return Block(number, 0, variant, kind, samples, events, phase=phase)


def make_run(folder: Path, runtime: str, variants: dict[str, list[tuple[str, int, list[int], list[OpMeta]]]]) -> Run:
    """A finished run of (phase, whole µs, µs of each op, ops) per variant."""
    phases, structure = (PHASES, "modules") if runtime == "torch_lm" else ([Phase()], "graph")
    entries = [VariantEntry(name=name, runtime=runtime, phases=phases, structure=structure) for name in variants]
    manifest = Manifest(
        created="2026-01-01T00:00:00+00:00",
        profile=RecordedProfile(name="profile"),
        machine=Machine(cpu_model="CPU"),
        variants=entries,
    )
    writer = RunWriter.create(folder, manifest)
    number = 0
    for name, found in variants.items():
        ops = [op for _, _, _, some in found for op in some]
        writer.save_ops(name, ops)
        first = 0
        for phase, whole, parts, some in found:
            for kind in ("clean", "profiled"):
                writer.save_block(block(number, name, kind, whole, parts, first, phase))
                number += 1
            first += len(some)
    writer.finalize(SOURCES)
    writer.close()
    return Run(folder)


def lm_run(folder: Path) -> Run:
    return make_run(
        folder,
        "torch_lm",
        {v: [(p, *LM_US[v, p], lm_ops(v, p)) for p in ("prefill", "decode")] for v in ("float", "int4")},
    )


def litert_run(folder: Path) -> Run:
    return make_run(folder, "litert", {"net": [("inference", 400, LITERT_US, LITERT_OPS)]})


def values(lines: list[str]) -> dict[str, float]:
    return {stack: float(value) for stack, _, value in (line.rpartition(" ") for line in lines)}


def test_a_language_model_nests_by_module_part_and_kernel(tmp_path: Path) -> None:
    flame = model_flame(lm_run(tmp_path / "run"), "int4")
    assert values(flame.root.folded()) == pytest.approx(
        {
            "prefill;TinyLM": 10,
            "prefill;TinyLM;model;layers;0;mlp;up_proj;dequantize": 2000,
            "prefill;TinyLM;model;layers;0;mlp;up_proj;matmul;K": 600,
            "prefill;outside the ops": 390,
            "decode;TinyLM": 10,
            "decode;TinyLM;model;layers;0;mlp;up_proj;dequantize": 2000,
            "decode;TinyLM;model;layers;0;mlp;up_proj;matmul;K": 100,
            "decode;outside the ops": 90,
        }
    )
    assert flame.root.value == pytest.approx(3000 + 2200)
    assert "of 2 prefill + 2 decode profiled inferences" in flame.source
    assert flame.notes == []


def test_one_phase_alone(tmp_path: Path) -> None:
    run = lm_run(tmp_path / "run")
    flame = model_flame(run, "float", "decode")
    assert values(flame.root.folded()) == pytest.approx(
        {
            "decode;TinyLM": 10,
            "decode;TinyLM;model;layers;0;mlp;up_proj;torch.nn.Linear": 80,
            "decode;outside the ops": 10,
        }
    )
    with pytest.raises(StoreError, match="no phase 'x' in this run; it has prefill, decode"):
        model_flame(run, "float", "x")
    with pytest.raises(StoreError, match="no variant 'x'"):
        model_flame(run, "x")


def test_litert_nests_by_partition_type_op_and_kernel(tmp_path: Path) -> None:
    flame = model_flame(litert_run(tmp_path / "run"), "net")
    assert values(flame.root.folded()) == pytest.approx(
        {
            "XNNPACK partition 0;CONV_2D;net/a,net/b;Convolution (NHWC, F32)": 300,
            "interpreter;net/loop;ADD;net/add;builtin": 45,
            "interpreter;net/loop;net/if;MUL;net/mul": 5,
            "interpreter;SOFTMAX;net/out": 40,
            "outside the ops": 10,
        }
    )
    names = [node.name for _, node in flame.root.walk()]
    assert "net/a;net/b" in names and "net/c" not in names


def test_ops_that_overlap_are_told_and_leave_no_negative_frame(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "litert", {"net": [("inference", 380, LITERT_US, LITERT_OPS)]})
    flame = model_flame(run, "net")
    assert flame.notes == ["inference: the ops add up to 2.6% more than the inference (parts of it ran at once)"]
    assert all(node.value > 0 for _, node in flame.root.walk())
    assert flame.root.value == pytest.approx(390)


def write_stacks(run: Run, variant: str, text: str, **facts: Any) -> None:
    folder = run.folder / "stacks"
    folder.mkdir(exist_ok=True)
    (folder / f"{variant}.folded").write_text(text, encoding="utf-8")
    (folder / f"{variant}.json").write_text(json.dumps(facts), encoding="utf-8")


def test_host_stacks_with_what_their_reader_must_know(tmp_path: Path) -> None:
    run = lm_run(tmp_path / "run")
    stacks = "<module> (a.py:7);f (a.py:1) 30\n<module> (a.py:7) 10\n0x7fce2e (libc.so.6);g (b.so);0x7fce3f (c.so) 2\n"
    write_stacks(run, "int4", stacks, rate_hz=200, samples=42, errors=3, native=True, slowdown=0.16)
    flame = host_flame(run, "int4")
    assert flame.root.value == 42 and flame.seconds_per_sample == 0.005
    assert [child.name for child in flame.root.children] == ["<module> (a.py:7)", "g (b.so)"]
    assert flame.root.children[0].own == 10
    assert flame.root.children[1].children[0].name == "unnamed code (c.so)"
    assert "at 200 Hz" in flame.source and "Python and native frames" in flame.source
    assert flame.notes == [
        "3 stacks could not be read by the sampler and are missing",
        "sampling changed the median inference by +16.0 %",
    ]


def test_no_host_stacks_and_why(tmp_path: Path) -> None:
    run = lm_run(tmp_path / "run")
    with pytest.raises(StoreError, match=r"no host stacks of int4 \(none were recorded\).*--kind model"):
        host_flame(run, "int4")
    (run.folder / "stacks").mkdir()
    (run.folder / "stacks/int4.json").write_text('{"reason": "may not trace", "remedy": "be root"}')
    with pytest.raises(StoreError, match=r"\(may not trace\); be root"):
        host_flame(run, "int4")


def test_host_stacks_of_one_phase(tmp_path: Path) -> None:
    run = lm_run(tmp_path / "run")
    write_stacks(run, "int4", "prefill;0x7f (libc.so);f (a.py:1) 30\ndecode;f (a.py:1) 10\nmain (x.py:1) 5\n")
    both = host_flame(run, "int4")
    assert {child.name: child.value for child in both.root.children} == {
        "prefill": 30,
        "decode": 10,
        "main (x.py:1)": 5,
    }
    prefill = next(child for child in both.root.children if child.name == "prefill")
    assert [child.name for child in prefill.children] == ["f (a.py:1)"]  # without the unnamed code below it
    decode = host_flame(run, "int4", "decode")
    assert decode.title == "int4, host, decode"
    assert [(child.name, child.value) for child in decode.root.children] == [("decode", 10)]
    with pytest.raises(StoreError, match="no phase 'inference'"):
        host_flame(run, "int4", "inference")


@pytest.mark.parametrize("text", ["a;b", "a;b x", "a -3", " 4", "a ٣", "a 9999999999999999999", "a 1.5", ""])
def test_damaged_stacks(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.folded"
    path.write_text(f"{text}\n", encoding="utf-8")
    with pytest.raises(StoreError, match=r"x\.folded"):
        read_folded(path, "x")


@pytest.mark.parametrize("facts", ["[]", '{"rate_hz": "fast"}', '{"slowdown": [1]}'])
def test_damaged_facts(tmp_path: Path, facts: str) -> None:
    run = lm_run(tmp_path / "run")
    write_stacks(run, "int4", "a 1\n")
    (run.folder / "stacks/int4.json").write_text(facts)
    with pytest.raises(StoreError, match="damaged"):
        host_flame(run, "int4")


def test_stacks_deeper_than_pythons_own(tmp_path: Path) -> None:
    path = tmp_path / "deep.folded"
    path.write_text(";".join(f"f{i}" for i in range(5000)) + " 3\n")
    root = read_folded(path, "deep")
    assert sum(1 for _ in root.walk()) == 5001
    assert values(root.folded()) == {";".join(f"f{i}" for i in range(5000)): 3}


def test_difference_of_times(tmp_path: Path) -> None:
    run = lm_run(tmp_path / "run")
    found = flame_difference(model_flame(run, "float", "decode"), model_flame(run, "int4", "decode"))
    assert [found.root.before, found.root.after, found.scaled] == pytest.approx([100, 2200, 1])
    node = found.root
    for name in ("decode", "TinyLM", "model", "layers", "0", "mlp", "up_proj"):
        node = next(child for child in node.children if child.name == name)
    assert [node.before, node.after] == pytest.approx([80, 2100])
    assert {child.name: child.before for child in node.children} == {"dequantize": 0, "matmul": 0}
    ((path, value),) = found.gone
    assert path[-2:] == ("up_proj", "torch.nn.Linear") and value == pytest.approx(80)


def test_difference_of_samples_compares_shares(tmp_path: Path) -> None:
    run = lm_run(tmp_path / "run")
    write_stacks(run, "float", "a;b 50\na;c 50\n")
    write_stacks(run, "int4", "a;b 150\na;d 50\n")
    found = flame_difference(host_flame(run, "float"), host_flame(run, "int4"))
    assert found.scaled == 2
    (a,) = found.root.children
    assert {child.name: (child.before, child.after) for child in a.children} == {"b": (100, 150), "d": (0, 50)}
    assert found.gone == [(("a", "c"), 100)]
    with pytest.raises(StoreError, match="no difference can be drawn"):
        flame_difference(model_flame(run, "float"), host_flame(run, "int4"))


def test_folded_names_cannot_forge_stacks() -> None:
    root = FlameNode("r", 3, [FlameNode("a;b\n c 7", 2), FlameNode("", 1)])
    assert root.folded() == ["a,b c 7 2", "? 1"]
    assert FlameNode("alone", 2).folded() == ["alone 2"]
