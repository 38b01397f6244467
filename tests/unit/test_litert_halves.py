"""Models in two parts: what lies between, and that the two compute what the whole does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tflite_builder
from litert_edits import entry, made_entry, names, ops_of, run
from qprof.errors import ModelError
from qprof.runtimes.interventions import Impossible, Interventions
from qprof.runtimes.litert.halves import halves
from qprof.runtimes.litert.interpreter import LiteRTModel
from qprof.runtimes.litert.make import MakeRequest, make_variant
from qprof.runtimes.litert.runtime import RUNTIME


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QPROF_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def net(tmp_path: Path) -> Path:
    """stem -> depthwise -> residual (with stem) -> pooled -> logits -> probabilities"""
    path = tmp_path / "net.tflite"
    path.write_bytes(tflite_builder.tiny_conv_net())
    return path


def one_after_the_other(path: Path, name: str, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
    first, second = (LiteRTModel(part) for part in halves(path, name))
    whole = LiteRTModel(path)
    known = dict(zip([spec.name for spec in whole.loaded.inputs], inputs, strict=True))
    known |= zip([spec.name for spec in first.loaded.outputs], run(first, inputs), strict=True)
    known |= zip(
        [spec.name for spec in second.loaded.outputs],
        run(second, [known[spec.name] for spec in second.loaded.inputs]),
        strict=True,
    )
    return [known[spec.name] for spec in whole.loaded.outputs]


@pytest.mark.parametrize(
    ("name", "second"),
    [
        ("depthwise", ["depthwise", "residual", "pooled", "logits", "probabilities"]),
        ("residual", ["residual", "pooled", "logits", "probabilities"]),
        ("probabilities", ["probabilities"]),
    ],
)
def test_the_two_parts(net: Path, name: str, second: list[str]) -> None:
    parts = halves(net, name)
    assert names(parts[1]) == second
    assert names(parts[0]) + second == names(net)
    image = np.random.default_rng(0).standard_normal((1, 16, 16, 3)).astype(np.float32)
    whole = run(LiteRTModel(net), [image])
    np.testing.assert_allclose(one_after_the_other(net, name, [image])[0], whole[0], rtol=1e-5)


def test_inputs_and_outputs_of_their_own(tmp_path: Path) -> None:
    """logits reads the sum of both inputs; product, another output, reads the inputs themselves."""
    path = tmp_path / "two.tflite"
    path.write_bytes(tflite_builder.multi_io_net())
    random = np.random.default_rng(0)
    inputs = [random.standard_normal((1, 8)).astype(np.float32) for _ in range(2)]
    for name in ("logits", "product"):
        for mine, its in zip(one_after_the_other(path, name, inputs), run(LiteRTModel(path), inputs), strict=True):
            np.testing.assert_allclose(mine, its, rtol=1e-5)
    _, second = halves(path, "product")
    assert [spec.name for spec in LiteRTModel(second).loaded.inputs] == ["left", "right"]


def test_unpacked_weights_do_not_cross(net: Path) -> None:
    """Of a float16 model each part unpacks the weights that it reads, and gives none out."""
    path = make_variant(MakeRequest(net, "float16")).path
    first, second = (LiteRTModel(part) for part in halves(path, "pooled"))
    assert first.loaded.op_types.count("DEQUANTIZE") == 2 and second.loaded.op_types.count("DEQUANTIZE") == 1
    assert [spec.name for spec in first.loaded.outputs] == ["residual"]
    assert [spec.name for spec in second.loaded.inputs] == ["residual"]
    image = np.random.default_rng(0).standard_normal((1, 16, 16, 3)).astype(np.float32)
    whole = run(LiteRTModel(path), [image])
    np.testing.assert_allclose(one_after_the_other(path, "pooled", [image])[0], whole[0], rtol=1e-5)


def test_a_real_model_at_every_op(qprof_data: Path) -> None:
    path = qprof_data / "models/pretrainedResnet_quant.tflite"
    model = LiteRTModel(path)
    image = np.random.default_rng(0).integers(-128, 128, model.loaded.inputs[0].shape).astype(np.int8)
    whole = run(model, [image])[0]
    sizes = [part.stat().st_size for part in halves(path, ops_of(path)[8].name)]
    assert max(sizes) < 0.8 * path.stat().st_size  # each has its own weights alone
    for op in ops_of(path)[1:]:
        np.testing.assert_array_equal(one_after_the_other(path, op.name, [image])[0], whole)


def test_what_cannot_be_divided_is_told(net: Path) -> None:
    for name, told in (("stem", "nothing that computes would remain"), ("nothing", "no op named 'nothing'")):
        with pytest.raises(ModelError, match=told):
            halves(net, name)
        found = RUNTIME.interventions.halves(entry(net), name)
        assert isinstance(found, Impossible) and told in found.reason


def test_the_sections(net: Path) -> None:
    for before in (entry(net, delegate="none"), made_entry(net, "float32")):
        found = RUNTIME.interventions.halves(before, "pooled")
        assert not isinstance(found, Impossible)
        assert [names(Path(section["file"])) for section in found] == [
            ["stem", "depthwise", "residual"],
            ["pooled", "logits", "probabilities"],
        ]
        assert len({section["name"] for section in found}) == 2
        assert {section.get("delegate") for section in found} == {before.section["delegate"]}


def test_with_and_without_the_delegate(net: Path) -> None:
    interventions = RUNTIME.interventions
    without = interventions.without_delegate(entry(net).section)
    assert not isinstance(without, Impossible) and without["delegate"] == "none"
    back = interventions.with_delegate(without)
    assert not isinstance(back, Impossible) and back["delegate"] == "xnnpack"
    assert back["file"] == str(net) and back["name"] == "variant+no-delegate+xnnpack"
    assert isinstance(interventions.with_delegate(back), Impossible)


def test_a_runtime_that_edits_nothing_says_so(net: Path) -> None:
    none, before = Interventions(), entry(net)
    for found in (
        none.bypassed(before, ["a"]),
        none.constants_from(before, before, []),
        none.patched(before, before, []),
        none.halves(before, "a"),
        none.with_delegate(before.section),
    ):
        assert isinstance(found, Impossible) and found.reason
