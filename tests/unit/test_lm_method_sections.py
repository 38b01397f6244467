"""What a profile may say of methods beside GPTQ: what is refused, in one line, before anything is made or loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from checkpoints import float_tensors, write_checkpoint
from made_variants import KeysMaker
from qprof.errors import ModelError, ProfileError
from qprof.measure.keys import converted
from qprof.record.manifest import VariantEntry
from qprof.runtimes import base
from qprof.runtimes.interventions import Impossible, OtherWidth
from qprof.runtimes.torch_lm import forms
from qprof.runtimes.torch_lm.checkpoint import _quantization, inspect
from qprof.runtimes.torch_lm.forms.awq import kernel_for
from qprof.runtimes.torch_lm.interventions import TorchLMInterventions
from qprof.runtimes.torch_lm.methods import all_methods, method_for
from qprof.runtimes.torch_lm.methods.bitsandbytes import _unfit
from qprof.runtimes.torch_lm.methods.by_form import left_in_float
from qprof.runtimes.torch_lm.runtime import RUNTIME
from qprof.runtimes.torch_lm.weight_files import read_json

NONE = base.Calibration(lambda: iter(()), "none")
DOWN = "model.layers.0.mlp.down_proj"


@pytest.mark.parametrize(
    ("variant", "text"),
    [
        ({"name": "bnb-nf"}, r"no method 'bnb-nf' .*; did you mean 'bnb-nf4'\?"),
        ({"name": "hqq-4bits"}, r"no method 'hqq-4bits' .*; did you mean 'hqq-4bit'\?"),
        ({"name": "torchao-int8-dynamic-g64"}, r"no method .*did you mean 'torchao-int8-dynamic'\?"),
        ({"name": "bnb-int8\n"}, "no method"),
        ({"name": "bnb-int8", "bits": 8}, r"unknown key variant\.bits"),
        ({"name": "bnb-int8", "treshold": 6}, r"unknown key variant\.treshold; did you mean variant\.threshold\?"),
        ({"name": "bnb-int8", "threshold": -1}, r"variant\.threshold"),
        ({"name": "awq-4bit", "bits": 8}, r"variant\.bits"),
        ({"name": "fp8", "group_size": 64}, r"unknown key variant\.group_size"),
        ({"name": "rtn-4bit", "desc_act": True}, r"unknown key variant\.desc_act"),
    ],
)
def test_keys_that_are_none_are_refused(variant: dict[str, Any], text: str) -> None:
    with pytest.raises(ProfileError, match=text):
        converted(variant, RUNTIME.variant_section(variant), "variant")


@pytest.mark.parametrize(
    ("variant", "text"),
    [
        ({"name": "bnb-int8", "double_quant": True}, "double_quant is for bnb-nf4 and bnb-fp4"),
        ({"name": "bnb-nf4", "threshold": 6.0}, "threshold is for bnb-int8; bnb-nf4 keeps activations in float"),
        ({"name": "bnb-nf4", "kernel": "marlin"}, "bitsandbytes has no kernel 'marlin'; it has dequantized, or leave"),
        ({"name": "bnb-nf4", "skip_layers": ["model.layers.0.mlp.down_prj"]}, f"did you mean '{DOWN}'"),
        (
            {"name": "hqq-4bit", "skip_layers": [DOWN, "model.layers.0.self_attn.q_proj"]},
            "has no linear layer left to quantize",
        ),
        ({"name": "torchao-int8-dynamic", "group_size": 64}, "group_size is for int4"),
        ({"name": "torchao-int4-weight-only", "dtype": "float32"}, "fast in bfloat16 alone"),
        (
            {"name": "torchao-int4-weight-only-g256"},
            r"group_size 256 does not fit the 64 in_features .*choose 32 or 64$",
        ),
        (
            {"name": "torchao-int4-weight-only-g64", "group_size": 32},
            "its method says 64 and its key group_size says 32",
        ),
        ({"name": "hqq"}, "method hqq names no bits; write hqq-4bit"),
        ({"name": "hqq-3bit"}, "HQQ's bits may be 2, 4, 8 here"),
        ({"name": "hqq-4bit", "bits": 8}, "its method says 4 and its key bits says 8"),
        ({"name": "hqq-4bit-g128"}, r"group_size 128 does not fit .*choose 32 or 64 or -1 \(one group per row\)"),
        ({"name": "awq-8bit"}, "AWQ with 8 bits: its layout holds 4 bits"),
        ({"name": "awq-4bit", "dtype": "float32"}, "AWQ computes in float16 and bfloat16 only"),
        ({"name": "awq-4bit", "kernel": "marlin"}, "no kernel of AWQ is called 'marlin'"),
        ({"name": "gptaq"}, "method gptaq names no bits; write gptaq-4bit, or bits = 4"),
        ({"name": "rtn-5bit"}, "bits may be 2, 3, 4, 8"),
        ({"name": "foem-4bit-g128"}, "group_size 128 does not divide the 64 in_features"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_made(
    tmp_path: Path, variant: dict[str, Any], text: str
) -> None:
    maker = KeysMaker(write_checkpoint(tmp_path / "m"))
    with pytest.raises(ModelError, match=text) as raised:
        maker.make(variant, NONE)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("method", "text"),
    [
        ("hqq-4bit", "HQQ's groups are multiples of 8, and .*down_proj has 172 in_features"),
        ("awq-4bit", "group_size 64 does not fit the 172 in_features"),
        ("torchao-int4-weight-only", "group_size 64 does not fit the 172 in_features"),
    ],
)
def test_a_row_that_no_group_fits_is_refused_in_words(tmp_path: Path, method: str, text: str) -> None:
    folder = write_checkpoint(tmp_path / "m", float_tensors(inner=172), intermediate_size=172)
    with pytest.raises(ModelError, match=text):
        KeysMaker(folder).make({"name": method}, NONE)


@pytest.mark.parametrize("method", ["bnb-nf4", "torchao-int8-dynamic", "hqq-4bit", "awq-4bit", "fp8", "rtn-4bit"])
def test_what_is_quantized_already_is_no_source(tmp_path: Path, method: str) -> None:
    folder = write_checkpoint(
        tmp_path / "m", float_tensors("F16"), quantization_config={"quant_method": "fp8", "fmt": ""}
    )
    with pytest.raises(ModelError, match="quantized with fp8, and its quantization_config lacks"):
        KeysMaker(folder).make({"name": method}, NONE)


def test_every_method_spells_a_name_that_it_claims() -> None:
    for method in all_methods():
        for spelled in method.spelled:
            plain = spelled.partition("[")[0].replace("<bits>", "4")
            assert method_for({"name": plain}) is method


def test_only_methods_that_look_at_samples_are_calibrated() -> None:
    calibrated = {"gptq-4bit": True, "awq-4bit": True, "gptaq-4bit": True, "foem-4bit": True, "rtn-4bit": False}
    calibrated["paroquant-4bit"] = True
    for name in ("bnb-int8", "bnb-nf4", "torchao-int8-dynamic", "hqq-4bit", "fp8", "bfloat16"):
        calibrated[name] = False
    for name, wanted in calibrated.items():
        keys = {"name": name}
        assert RUNTIME.calibrates(converted(keys, RUNTIME.variant_section(keys), "variant")) is wanted


def test_layers_that_four_bits_do_not_take_are_left_and_named() -> None:
    linears = {"a": (64, 96), "b": (64, 172), "c": (172, 96)}
    assert _unfit(linears, "cpu") == ["b", "c"] and _unfit(linears, "cuda") == ["c"]
    assert left_in_float(["b", "c", "d", "e"], "why") == ["left in float: b, c, d and 1 more (why)"]
    assert left_in_float([], "why") == []


def test_the_kernel_of_awq_is_the_one_that_takes_the_layers() -> None:
    fits, odd = {"a": (64, 96)}, {"a": (64, 96), "b": (64, 40)}
    assert kernel_for("", "cpu", 64, fits) == "torch-aten"
    assert kernel_for("", "cpu", 64, odd) == kernel_for("", "cuda", 64, fits) == "torch"
    for device, linears, text in (("cuda", fits, "on a CPU only"), ("cpu", odd, "b has 40 outputs choose torch")):
        with pytest.raises(ModelError, match=text):
            kernel_for("torch-aten", device, 64, linears)


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, (8, -1, "int8")),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, (4, 64, "nf4")),
        ({"quant_method": "torchao", "quant_type": {"default": {"_type": "Int8WeightOnlyConfig"}}}, (8, -1, "int8")),
        ({"quant_method": "awq", "w_bit": 4, "q_group_size": 128, "version": "GEMM"}, (4, 128, "int4")),
        ({"quant_method": "fp8", "fmt": "float8_e4m3fn"}, (8, -1, "float8_e4m3fn")),
    ],
)
def test_strangers_checkpoints_are_known_by_their_settings(
    tmp_path: Path, settings: dict[str, Any], wanted: tuple[int, int, str]
) -> None:
    folder = write_checkpoint(tmp_path / "m", quantization_config=settings)
    found = _quantization(folder, read_json(folder / "config.json"))
    assert found is not None and (found.bits, found.group_size, found.scheme) == wanted


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"quant_method": "bitsandbytes"}, "load_in_8bit or load_in_4bit"),
        ({"quant_method": "torchao", "quant_type": {"default": {"_type": "Float8Config"}}}, "Float8Config"),
        ({"quant_method": "awq", "bits": 4, "group_size": 64, "version": "gemv"}, "'gemv'"),
        ({"quant_method": "hqq-qprof", "bits": "four"}, "invalid literal"),
        ({"quant_method": "torchao", "quant_type": []}, "list indices"),
    ],
)
def test_settings_that_cannot_be_read_are_one_line(tmp_path: Path, settings: dict[str, Any], text: str) -> None:
    folder = write_checkpoint(tmp_path / "m", quantization_config=settings)
    with pytest.raises(ModelError, match=text) as raised:
        inspect(folder)
    assert settings["quant_method"] in str(raised.value) and "\n" not in str(raised.value)


def test_a_folder_whose_packed_weights_have_no_shape_is_refused(tmp_path: Path) -> None:
    settings = {"quant_method": "hqq-qprof", "bits": 4, "group_size": 64, "shapes": {DOWN: 3}, "tensors": ["W_q"]}
    folder = write_checkpoint(tmp_path / "m", quantization_config=settings)
    assert json.loads((folder / "config.json").read_text())["quantization_config"] == settings
    with pytest.raises(ModelError, match="the shapes of its packed weights cannot be read"):
        inspect(folder)


def test_every_form_names_its_packages() -> None:
    assert {"bitsandbytes", "torchao", "hqq", "gptqmodel"} <= set(forms.packages())
    assert len({form.library for form in forms.all_forms()}) == len(forms.all_forms())


@pytest.mark.parametrize(
    ("method", "bits"),
    [("gptq-2bit", 3), ("hqq-2bit", 4), ("hqq-4bit-g32", 8), ("rtn-3bit", 4), ("hqq-8bit", None), ("awq-4bit", None)],
)
def test_the_next_width_is_one_that_the_method_has(method: str, bits: int | None) -> None:
    entry = VariantEntry(name="v", section={"name": "v", "method": method})
    found = TorchLMInterventions().next_width(entry)
    if bits is None:
        assert isinstance(found, Impossible)
    else:
        assert isinstance(found, OtherWidth) and found.bits == bits
        assert found.section["method"] == method.replace(f"-{method[method.index('-') + 1]}bit", f"-{bits}bit")
