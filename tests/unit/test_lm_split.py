"""Where the time of a quantized linear goes: which ops are its dequantization, and how the shares come about."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from lm_layers import PackedLinear  # noqa: E402
from qprof.runtimes.torch_lm.split import LinearCall, SplitPass, TimedOp, divide, time_dequantize  # noqa: E402


def packed(features: tuple[int, int] = (8, 4), bias: bool = True) -> PackedLinear:
    torch.manual_seed(0)
    return PackedLinear(torch.nn.Linear(*features, bias=bias))


def trace(module: Any, x: Any = None) -> LinearCall:
    """A call, op by op; it computes the same as without, and leaves nothing behind."""
    given = torch.ones(2, 8) if x is None else x
    got: list[Any] = []
    with torch.inference_mode():
        wanted = module(given)
        (found,) = SplitPass({3: module}).run(lambda: got.append(module(given)))[3]
    assert torch.equal(got[0], wanted)
    assert "forward" not in module.__dict__
    return found


def parts(traced: LinearCall) -> list[tuple[str, str]]:
    return [(op.part, op.name.removeprefix("aten::")) for op in traced.ops]


def changed(forward: Any) -> Any:
    """A packed linear with another forward."""
    return type("Changed", (PackedLinear,), {"forward": forward})(torch.nn.Linear(8, 4))


def test_ops_on_the_modules_own_data_are_dequantization() -> None:
    found = trace(packed())
    assert parts(found)[-2:] == [("matmul", "matmul"), ("other", "add_")]
    assert {part for part, _ in parts(found)[:-2]} == {"dequantize"}
    computing = [op.name for op in found.ops if op.part == "dequantize" and op.computes]
    assert computing == [f"aten::{name}" for name in ("bitwise_right_shift", "bitwise_and", "sub", "to", "mul")] or (
        computing == [f"aten::{name}" for name in ("__rshift__", "__and__", "sub", "to", "mul")]
    )
    assert found.whole(packed()) is None


def test_memory_that_is_used_again_changes_nothing() -> None:
    """Temporaries of one size come and go, of activations and weights in turn: the allocator hands out the same
    addresses, and Python the same ids, over and over."""

    def forward(self: Any, x: Any) -> Any:
        for _ in range(200):
            y = x * 2
            del y
            w = self.scales * 3
            v = w * 2
            del w, v
        return torch.matmul(x, self.dequantize_weight())

    found = parts(trace(changed(forward), torch.ones(1, 8)[:, :4].repeat(1, 2)))
    muls = [part for part, name in found if name == "mul"]
    assert muls == ["other", "dequantize", "dequantize"] * 200 + ["dequantize"]


def test_in_place_ops_and_views_follow_the_data() -> None:
    def forward(self: Any, x: Any) -> Any:
        w = torch.empty(8, 4)
        w.copy_(self.dequantize_weight())
        w[:4].mul_(2)
        half = w.t()[:, :4]
        half.div_(2)
        y = torch.empty(2, 4)
        torch.mm(x, w, out=y)
        y.view(-1).add_(1)
        return y

    found = parts(trace(changed(forward)))
    assert found[0] == ("other", "empty")
    tail = [pair for pair in found if pair[1] in ("copy_", "mul_", "div_", "mm", "add_")]
    assert tail == [
        ("dequantize", "copy_"),
        ("dequantize", "mul_"),
        ("dequantize", "div_"),
        ("matmul", "mm"),
        ("other", "add_"),
    ]


def test_what_an_op_writes_without_returning_it_follows_the_data_too() -> None:
    def forward(self: Any, x: Any) -> Any:
        y = torch.empty(2, 8)
        torch._foreach_copy_([y], [x])
        return torch.mm(y, self.dequantize_weight())

    assert parts(trace(changed(forward)))[-1] == ("matmul", "mm")


def test_a_view_of_the_weights_in_the_shape_of_an_activation_is_still_the_weights() -> None:
    def forward(self: Any, x: Any) -> Any:
        grown = self.scales.expand_as(x[:, :4])
        return torch.matmul(x, self.dequantize_weight()) + (self.scales * 2) + grown

    found = [pair for pair in parts(trace(changed(forward))) if pair[1] in ("mul", "add")]
    assert found == [("dequantize", "mul"), ("dequantize", "mul"), ("other", "add"), ("other", "add")]


def test_attributes_that_are_no_buffers_belong_to_the_module() -> None:
    def forward(self: Any, x: Any) -> Any:
        return torch.matmul(x, self.cache["table"] * 2)

    module = changed(forward)
    module.cache = {"table": torch.ones(8, 4)}
    assert parts(trace(module)) == [("dequantize", "mul"), ("matmul", "matmul")]


def test_weights_kept_from_before_are_told() -> None:
    def forward(self: Any, x: Any) -> Any:
        if not hasattr(self, "kept"):
            self.kept = self.dequantize_weight()
        return torch.matmul(x, self.kept)

    module = changed(forward)
    found = trace(module)
    assert found.whole(module) == "Changed: its dequantized weights are kept from an earlier inference"


def test_a_kernel_that_takes_packed_weights_is_not_divided() -> None:
    def forward(self: Any, x: Any) -> Any:
        return torch.ops.aten._weight_int8pack_mm(x, self.words, self.scales)

    module = changed(forward)
    module.words, module.scales = torch.ones((32, 64), dtype=torch.int8), torch.ones(32, dtype=torch.bfloat16)
    found = trace(module, torch.ones((4, 64), dtype=torch.bfloat16))
    assert parts(found) == [("matmul", "_weight_int8pack_mm")]
    assert "aten::_weight_int8pack_mm unpacks the weights as it multiplies" in str(found.whole(module))


def test_weights_unpacked_past_the_dispatcher_are_told() -> None:
    def forward(self: Any, x: Any) -> Any:
        w = torch.empty(8, 4)
        w.untyped_storage()  # what a Triton kernel would write goes unseen
        w.numpy()[:] = self.dense
        return torch.matmul(x, w)

    module = changed(forward)
    module.dense = packed().dequantize_weight().numpy()
    found = trace(module)
    assert found.unseen
    assert "does not pass through torch's dispatcher" in str(found.whole(module))
    assert found.whole(module, replayed=True) is None
    module.dequantize_weight = None
    assert "no method" in str(found.whole(module, replayed=True))


def test_a_kernel_that_is_not_seen_at_all_is_told() -> None:
    module = changed(lambda self, x: torch.from_numpy(x.numpy() @ self.dense))
    module.dense = packed().dequantize_weight().numpy()
    assert "its kernel does not pass" in str(trace(module).whole(module))


def test_a_forward_that_fails_leaves_nothing_behind() -> None:
    module = packed()
    with pytest.raises(RuntimeError):
        SplitPass({0: module}).run(lambda: module(torch.ones(2, 7)))
    assert "forward" not in module.__dict__


def run(*ops: tuple[str, str, int]) -> list[LinearCall]:
    return [LinearCall([TimedOp(part, name, ns, True) for part, name, ns in ops])]


def test_what_the_pass_adds_to_every_op_is_taken_off_again() -> None:
    # Two ops of 100 and 300 ns cost 50 each under the pass and 20 each without it.
    slow = run(("dequantize", "a", 150), ("matmul", "b", 350))
    shares = divide([{0: slow}], {0: [440]})
    assert shares.by_layer[0] == pytest.approx((120 / 440, 320 / 440, 0))
    assert shares.total_ns == pytest.approx({"dequantize": 120, "matmul": 320, "other": 0})


def test_shares_fill_the_time_and_count_the_quickest_calls() -> None:
    first = {0: run(("dequantize", "a", 900), ("dequantize", "b", 900), ("matmul", "c", 900))}
    second = {0: run(("dequantize", "a", 100), ("dequantize", "b", 300), ("matmul", "c", 600))}
    shares = divide([first, second], {0: [2000, 1000]})
    assert shares.by_layer[0] == pytest.approx((0.4, 0.6, 0.0))
    assert shares.dequantize_ns == pytest.approx({"a": 100, "b": 300})
    both = divide([first, second], {0: [2000, 1000]})
    both.add(shares)
    assert both.inferences == 2
    assert both.total_ns == pytest.approx({"dequantize": 800, "matmul": 1200, "other": 0})


def test_an_op_never_takes_less_than_nothing() -> None:
    shares = divide([{0: run(("dequantize", "a", 10), ("matmul", "b", 1000))}], {0: [510]})
    assert shares.by_layer[0] == pytest.approx((0.0, 1.0, 0.0))


def test_a_linear_that_was_not_met_has_the_shares_of_all() -> None:
    shares = divide([{0: run(("dequantize", "a", 100), ("matmul", "b", 300))}], {0: [400], 1: []})
    assert shares.of(1) == pytest.approx((0.25, 0.75, 0.0))


def test_dequantization_alone_is_timed_where_it_can_be() -> None:
    times = time_dequantize({4: packed((64, 64)), 5: torch.nn.Linear(2, 2)})
    assert list(times) == [4] and times[4] > 0


def test_gptqmodels_own_linear_is_divided() -> None:
    pytest.importorskip("gptqmodel")
    from qprof.runtimes.torch_lm.library import import_gptqmodel

    import_gptqmodel()
    from gptqmodel.nn_modules.qlinear.torch import TorchLinear

    module = TorchLinear(bits=4, group_size=32, sym=True, desc_act=False, in_features=64, out_features=32, bias=True)
    generator = torch.Generator().manual_seed(0)
    for name in ("qweight", "qzeros"):
        buffer = getattr(module, name)
        buffer.copy_(torch.randint(0, 2**31 - 1, buffer.shape, generator=generator).to(torch.int32))
    module.scales.fill_(0.01)
    module.scales, module.bias = module.scales.to(torch.bfloat16), module.bias.to(torch.bfloat16)
    module.post_init()
    found = trace(module.eval(), torch.ones((1, 6, 64), dtype=torch.bfloat16))
    assert found.whole(module) is None
    unpacking = {op.name for op in found.ops if op.part == "dequantize" and op.computes}
    assert {"aten::bitwise_right_shift", "aten::bitwise_and", "aten::index", "aten::sub", "aten::mul"} <= unpacking
    assert [op.name for op in found.ops if op.part == "matmul"] == ["aten::matmul"]
    assert {op.name for op in found.ops if op.part == "other"} <= {"aten::reshape", "aten::add_"}
