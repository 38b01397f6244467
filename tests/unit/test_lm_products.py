"""Products of quantized linears, run alone in other kernels."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("gptqmodel")

from qprof.runtimes.torch_lm import products  # noqa: E402
from qprof.runtimes.torch_lm.library import import_gptqmodel  # noqa: E402

import_gptqmodel()


def packed(inputs: int = 64, outputs: int = 32, bits: int = 4, bias: bool = True) -> Any:
    from gptqmodel.nn_modules.qlinear.torch import TorchLinear

    form = {"bits": bits, "group_size": 32, "sym": True, "desc_act": False, "bias": bias}
    module = TorchLinear(in_features=inputs, out_features=outputs, **form)
    module.scales.fill_(0.01)
    module.scales = module.scales.to(torch.bfloat16)
    if bias:
        module.bias = module.bias.to(torch.bfloat16)
    module.post_init()
    return module.eval()


def alone(linears: dict[int, Any], rows: int = 3) -> dict[str, float]:
    return products.products_alone(linears, dict.fromkeys(linears, rows), torch.bfloat16)


@pytest.mark.parametrize("bits", [2, 4])
def test_products_are_run_unpacked_and_in_the_kernel_that_need_not_unpack(bits: int) -> None:
    found = alone({3: packed(bits=bits), 7: packed(32, 64, bits=bits, bias=False)})
    assert list(found) == ["dequantized", "torch-aten"] and min(found.values()) > 0


def test_where_the_kernel_does_not_take_a_shape_it_is_not_run() -> None:
    assert list(alone({3: packed(64, 40), 7: packed()})) == ["dequantized"]


def test_what_cannot_unpack_its_weights_alone_is_left_out() -> None:
    assert alone({0: torch.nn.Linear(8, 8)}) == {}


def test_of_a_large_model_some_stand_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four linears, one of four times the work, of which the first and the third are run: theirs are two of seven
    parts."""
    ran: list[int] = []

    def median_us(forwards: dict[int, Any], given: dict[int, Any]) -> float:
        ran.extend(forwards)
        assert {number: tuple(tensor.shape) for number, tensor in given.items()} == {0: (3, 64), 2: (3, 64)}
        return 30.0

    monkeypatch.setattr(products, "_MOST_BYTES", 7 * 64 * 32 * 2 // 2)
    monkeypatch.setattr(products, "_median_us", median_us)
    linears = {0: packed(), 1: packed(64, 128), 2: packed(), 3: packed()}
    assert alone(linears)["dequantized"] == pytest.approx(30.0 * 7 / 2)
    assert ran == [0, 2, 0, 2]
