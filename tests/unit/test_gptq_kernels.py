"""The choice of a kernel, and the table behind it against gptqmodel's own."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

import pytest

from qprof.errors import ModelError
from qprof.runtimes.torch_lm.kernels import KERNELS, choose, default_dtype, device_kind

ASKED: dict[str, Any] = {"bits": 4, "group_size": 64, "device": "cpu", "dtype": "bfloat16"}


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("device", ["cpu", "cuda:1"])
def test_one_kernel_computes_all_widths(bits: int, device: str) -> None:
    assert choose("", **ASKED | {"bits": bits, "device": device}).name == "torch"


def test_a_kernel_by_name() -> None:
    assert choose("torch-aten", **ASKED).backend == "GPTQ_TORCH_ATEN"
    assert choose("marlin", **ASKED | {"device": "cuda"}).class_name == "MarlinLinear"


@pytest.mark.parametrize(
    ("kernel", "changed", "text"),
    [
        ("fast", {}, "no kernel is called 'fast'; there are bitblas, "),
        ("torch-aten", {"bits": 2}, "kernel torch-aten computes 4 bits only; for 2 bits choose torch or torch-int8"),
        ("marlin", {}, "kernel marlin computes on cuda only; for device cpu choose torch or torch-aten"),
        ("torch", {"dtype": "float32"}, "in float16 and bfloat16 only; for dtype float32 choose torch-fused"),
        ("torch-aten", {"group_size": -1}, "group sizes 16, 32, 64 and 128 only; for -1 choose torch or"),
        ("torch", {"group_size": 48}, "for 48 no kernel computes it; change the variant"),
        ("marlin", {"device": "cuda", "sym": False}, "symmetric checkpoints only; for sym = false choose torch"),
        ("bitblas", {"device": "cuda", "desc_act": True}, "for desc_act = true choose torch or triton"),
        ("torch", {"device": "tpu"}, "device 'tpu'"),
    ],
)
def test_what_a_kernel_cannot_do_is_said_with_another(kernel: str, changed: dict[str, Any], text: str) -> None:
    with pytest.raises(ModelError, match=text):
        choose(kernel, **ASKED | changed)


def test_shapes_that_a_kernel_cannot_take() -> None:
    with pytest.raises(ModelError, match=r"out_features that are multiples of 16, and a\.up has 172; choose torch"):
        choose("torch-aten", **ASKED, linears={"a.q": (64, 64), "a.up": (64, 172)})
    assert choose("torch", **ASKED, linears={"a.up": (64, 172)}).name == "torch"


def test_defaults_on_a_cpu() -> None:
    assert default_dtype("cpu") == "bfloat16"
    assert device_kind("cuda:3") == "cuda"


def subclasses(kind: Any) -> Iterator[Any]:
    for below in kind.__subclasses__():
        yield below
        yield from subclasses(below)


def test_the_table_is_gptqmodels_own() -> None:
    if importlib.util.find_spec("gptqmodel") is None:
        pytest.skip("gptqmodel is not installed")
    from qprof.runtimes.torch_lm.library import import_gptqmodel

    gptqmodel = import_gptqmodel()
    from gptqmodel.models._const import DEVICE
    from gptqmodel.nn_modules.qlinear import BaseQuantLinear

    classes = {kind.__name__: kind for kind in subclasses(BaseQuantLinear)}
    for kernel in KERNELS.values():
        kind = classes[kernel.class_name]
        assert gptqmodel.BACKEND[kernel.backend] in kind.SUPPORTS_BACKENDS
        assert tuple(kind.SUPPORTS_BITS) == kernel.bits
        assert set(kind.SUPPORTS_GROUP_SIZE) == set(kernel.group_sizes)
        assert {str(dtype).removeprefix("torch.") for dtype in kind.SUPPORTS_DTYPES} == set(kernel.dtypes)
        devices = {"cpu", "cuda"} if DEVICE.ALL in kind.SUPPORTS_DEVICES else {d.value for d in kind.SUPPORTS_DEVICES}
        assert devices & {"cpu", "cuda"} == set(kernel.devices)
        assert (False in kind.SUPPORTS_SYM) == kernel.asymmetric
        assert (True in kind.SUPPORTS_DESC_ACT) == kernel.desc_act
        # Ours is stricter where a kernel was seen to fail on what its class lets pass.
        assert all(kernel.in_multiple % n == 0 for n in kind.SUPPORTS_IN_FEATURES_DIVISIBLE_BY)
        assert all(kernel.out_multiple % n == 0 for n in kind.SUPPORTS_OUT_FEATURES_DIVISIBLE_BY)
