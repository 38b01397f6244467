"""What a variant is made by, in the tool's own format, gives the tool the same variant."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from qprof.errors import ModelError
from qprof.measure.keys import converted
from qprof.runtimes import registry
from qprof.runtimes.torch_lm.sections import GPTQVariant

builder = pytest.importorskip("tflite_builder", reason="the builder of tiny models needs ai_edge_litert")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "net.tflite"
    path.write_bytes(builder.tiny_conv_net(size=32, channels=8))
    return path


def section(**keys: object) -> object:
    runtime = registry.get("litert")
    return converted(keys, runtime.variant_section(keys), "variant")


@pytest.mark.parametrize("keys", [{"method": "int8"}, {"method": "int8-dynamic"}, {"method": "float16"}])
def test_the_quantizer_makes_the_same_bytes_by_the_recipe(source: Path, tmp_path: Path, keys: dict[str, str]) -> None:
    pytest.importorskip("ai_edge_quantizer")
    from ai_edge_quantizer import quantizer

    from qprof.runtimes.litert import calibrate, float_model, quantize

    model = float_model.read(source)
    layer = next(op.outputs[0] for op in model.ops if op.type == "CONV_2D")
    made = registry.get("litert").recipe(source, section(name="mixed", skip_layers=[layer], **keys))
    assert made is not None and made.tool == "ai-edge-quantizer"
    (tmp_path / "recipe.json").write_text(json.dumps(made.content))
    shape = tuple(builder_input(source))
    samples = [[np.random.default_rng(n).random(shape, np.float32)] for n in range(4)]
    ranges = calibrate.calibrate(model, samples) if keys["method"] == "int8" else None
    ours = quantize.make(
        keys["method"], source, tmp_path / "ours.tflite", calibration=ranges, skip_layers=[layer], io="float"
    )
    theirs = quantizer.Quantizer(str(source), str(tmp_path / "recipe.json")).quantize(
        ranges.by_tensor if ranges else None
    )
    assert bytes(theirs.quantized_model) == ours.path.read_bytes()
    whole = quantize.make(keys["method"], source, tmp_path / "whole.tflite", calibration=ranges, io="float")
    assert whole.sha256 != ours.sha256  # a layer was left out


def builder_input(source: Path) -> tuple[int, ...]:
    (found,) = registry.get("litert").inputs_of(source)
    return tuple(found.shape)


def test_what_is_not_quantized_has_no_recipe(source: Path) -> None:
    runtime = registry.get("litert")
    assert runtime.recipe(source, section(name="float32")) is None
    assert runtime.recipe(source, section(name="ready", file=str(source))) is None
    with pytest.raises(ModelError, match="no layer matches 'nowhere'"):
        runtime.recipe(source, section(name="int8", skip_layers=["nowhere"]))


def test_gptq_leaves_layers_out_by_its_dynamic_mapping(tmp_path: Path) -> None:
    names = ["model.layers.0.mlp.down_proj", "model.layers.10.mlp.down_proj"]
    variant = GPTQVariant(name="gptq-4bit-g32", skip_layers=names)
    made = registry.get("torch_lm").recipe(tmp_path, variant)
    assert made is not None and made.tool == "gptqmodel"
    content = json.loads(json.dumps(made.content))
    assert (content["bits"], content["group_size"]) == (4, 32)
    if importlib.util.find_spec("gptqmodel") is None:
        pytest.skip("gptqmodel is not installed")
    from qprof.runtimes.torch_lm import library

    config = library.import_gptqmodel().QuantizeConfig(**content)
    assert config.dynamic_get(names[0]) is False and config.dynamic_get(names[1]) is False
    others = ("model.layers.1.mlp.down_proj", f"{names[0]}s")  # the name is the whole name
    assert [config.dynamic_get(name) for name in others] == [None, None]


def test_a_method_without_a_format_of_its_own_has_no_recipe(tmp_path: Path) -> None:
    runtime = registry.get("torch_lm")
    keys = {"name": "bfloat16"}
    assert runtime.recipe(tmp_path, converted(keys, runtime.variant_section(keys), "variant")) is None
