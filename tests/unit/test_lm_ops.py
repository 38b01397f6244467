"""The op list of a language model: what is an op, and what is told of it."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from lm_layers import PackedLinear, llama, loaded, packed_llama, prompt  # noqa: E402
from qprof.record.ops import OpMeta  # noqa: E402
from qprof.runtimes.torch_lm import ops as lm_ops  # noqa: E402
from qprof.runtimes.torch_lm.observe import attention_macs, is_quantized_linear, observe  # noqa: E402
from qprof.runtimes.torch_lm.ops import describe, find_layers, stored_bytes  # noqa: E402


def op_list(module: Any, phase: str = "prefill", divided: bool = False) -> dict[str, OpMeta]:
    model = loaded(module)
    model.enter(phase)
    model.set_inputs(prompt())
    layers = find_layers(module)
    seen = observe(layers, model.invoke)
    packed = {n for n, layer in enumerate(layers) if divided and is_quantized_linear(layer.module)}
    ops, positions = describe(layers, phase, seen, packed, 0)
    assert [ops[position].name for position in positions.values()] == [layers[number].name for number in positions]
    assert [op.index for op in ops] == list(range(len(ops)))
    assert len({op.op for op in ops}) == len(ops)
    return {op.op: op for op in ops}


def test_every_module_that_runs_is_an_op_in_execution_order() -> None:
    ops = op_list(llama())
    names = [op.name for op in ops.values()]
    assert names[:4] == ["LlamaForCausalLM", "model", "model.embed_tokens", "model.rotary_emb"]
    layer = "model.layers.0."
    order = ["input_layernorm", "self_attn", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]
    order += ["self_attn.o_proj", "post_attention_layernorm", "mlp", "mlp.gate_proj", "mlp.act_fn", "mlp.up_proj"]
    order += ["mlp.down_proj"]
    assert names[4:17] == ["model.layers.0", *(layer + name for name in order)]
    assert names[-2:] == ["model.norm", "lm_head"]
    assert all(op.parent is None and op.phase == "prefill" for op in ops.values())


def test_a_linear_tells_its_shapes_products_and_bytes() -> None:
    op = op_list(llama())["prefill/model.layers.1.mlp.up_proj"]
    assert (op.type, op.kernel, op.quantization) == ("Linear", "torch.nn.Linear", None)
    assert (op.inputs, op.outputs) == (("float32[1,6,32]",), ("float32[1,6,48]",))
    assert op.macs == 6 * 32 * 48
    assert (op.weight_bytes, op.activation_bytes) == (4 * 32 * 48, 4 * 6 * (32 + 48))


def test_what_multiplies_nothing_has_no_macs_and_what_is_not_counted_is_unknown() -> None:
    ops = op_list(llama())
    assert ops["prefill/model.embed_tokens"].macs == 0
    assert ops["prefill/model.layers.0"].macs == 0  # its own: two additions
    for unknown in ("model.layers.0.input_layernorm", "model.layers.0.mlp", "model.rotary_emb"):
        assert ops[f"prefill/{unknown}"].macs is None
    assert ops["prefill/model.layers.0.input_layernorm"].weight_bytes == 4 * 32


def test_attention_counts_its_own_products_and_what_it_reads() -> None:
    op = op_list(llama())["prefill/model.layers.0.self_attn"]
    assert op.type == "LlamaAttention"
    assert op.kernel == "aten::scaled_dot_product_attention"
    assert op.macs == 4 * 6 * 6 * (8 + 8)  # 4 heads of 8, 6 queries against 6 keys: no block is left out
    assert op.weight_bytes == 0
    decode = op_list(llama(), "decode")["decode/model.layers.0.self_attn"]
    assert decode.macs == 4 * 1 * 7 * (8 + 8)
    assert decode.inputs[0] == "float32[1,1,32]"
    assert decode.activation_bytes is not None
    assert decode.activation_bytes >= 4 * 2 * (6 + 7) * 2 * 8  # keys and values of 2 heads, before and behind


def test_attention_written_out_counts_the_same() -> None:
    op = op_list(llama(attn_implementation="eager"))["prefill/model.layers.0.self_attn"]
    assert op.kernel == "aten::matmul"
    assert op.macs == 4 * 6 * 6 * (8 + 8)


@pytest.mark.parametrize(
    ("device", "rows", "keys", "causal", "pairs"),
    [
        ("cpu", 64, 64, False, 64 * 64),
        ("cpu", 64, 64, True, 64 * 64),  # one block of 512 keys
        ("cpu", 1, 700, True, 512),  # the block of the diagonal, whole
        ("cpu", 600, 600, True, 512 * 512 + 88 * 600),  # 64 queries at once: from row 512 on both blocks
        ("cpu", 1000, 1000, True, 512 * 512 + 488 * 1000),  # 256 at once
        ("meta", 64, 64, True, 64 * 65 // 2),
        ("meta", 4, 2, True, 1 + 2 + 2 + 2),
    ],
)
def test_masked_products_are_counted_as_the_kernel_computes_them(
    device: str, rows: int, keys: int, causal: bool, pairs: int
) -> None:
    query = torch.empty((2, 3, rows, 16), device=device)
    key, value = torch.empty((2, 3, keys, 16), device=device), torch.empty((2, 3, keys, 8), device=device)
    counted = attention_macs({"query": query, "key": key, "value": value, "is_causal": causal})
    assert counted == 2 * 3 * pairs * (16 + 8)


def test_a_divided_linear_is_a_container_of_three() -> None:
    ops = op_list(packed_llama(), divided=True)
    name = "model.layers.0.self_attn.k_proj"
    whole = ops[f"prefill/{name}"]
    parts = [ops[f"prefill/{name}/{part}"] for part in ("dequantize", "matmul", "other")]
    assert (whole.type, whole.kernel) == ("Linear", "PackedLinear")
    assert whole.quantization == "int8 weights, one group per row, float32 activations"
    assert whole.weight_bytes == 32 * 16 + 4 * 16
    assert [part.index for part in parts] == [whole.index + n for n in (1, 2, 3)]
    assert {part.parent for part in parts} == {whole.op}
    dequantize, matmul, other = parts
    assert (matmul.name, matmul.type, matmul.macs) == (name, "Linear", whole.macs)
    assert (dequantize.name, dequantize.type) == (f"{name}/dequantize", "dequantize")
    assert (other.name, other.type) == (f"{name}/other", "other in linear")
    assert (dequantize.weight_bytes, matmul.weight_bytes) == (whole.weight_bytes, 0)
    # What one writes, the other reads.
    assert dequantize.outputs == ("float32[32,16]",) and matmul.inputs == (*whole.inputs, "float32[32,16]")
    assert dequantize.activation_bytes == 4 * 32 * 16
    assert matmul.activation_bytes == 4 * (6 * 32 + 32 * 16 + 6 * 16)
    assert ops["prefill/lm_head"].quantization is None


def test_quantized_linears_are_known_by_what_they_hold_or_where_they_come_from() -> None:
    packed = PackedLinear(torch.nn.Linear(8, 4))
    repacked = type("TorchInt8Linear", (torch.nn.Module,), {"__module__": "gptqmodel.nn_modules.qlinear.torch_int8"})()
    assert is_quantized_linear(packed) and is_quantized_linear(repacked)
    assert not is_quantized_linear(torch.nn.Linear(8, 4))
    # Its own weights and those of the module inside are the same memory.
    repacked.register_buffer("int8_weight_nk", torch.zeros((4, 8), dtype=torch.int8))
    repacked.inner = torch.nn.Module()
    repacked.inner.register_buffer("int8_weight_nk", repacked.int8_weight_nk)
    assert stored_bytes(repacked) == 32
    assert stored_bytes(packed) == 8 * 4 + 4 * 4 + 4 * 4


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        ({"bits": 4, "group_size": 64}, "int4 weights, group 64, bfloat16 activations"),
        ({"bits": 2, "group_size": -1}, "int2 weights, one group per row, bfloat16 activations"),
        ({"bits": 3, "group_size": 8}, "int3 weights, one group per row, bfloat16 activations"),
        (
            {"bits": 4, "group_size": 2, "desc_act": True},
            "int4 weights, group 2, activation order, bfloat16 activations",
        ),
    ],
)
def test_quantization_in_words(facts: dict[str, Any], text: str) -> None:
    packed = PackedLinear(torch.nn.Linear(8, 4))
    packed.__dict__.update(facts)
    assert lm_ops.quantization(packed, ["bfloat16[1,6,8]"]) == text


def test_what_is_inside_a_quantized_linear_or_cannot_be_called_is_no_layer() -> None:
    packed = PackedLinear(torch.nn.Linear(8, 4))
    packed.inner = torch.nn.Linear(8, 4)
    shared = torch.nn.ReLU()
    holder = torch.nn.Sequential(packed, torch.nn.ModuleList([shared, shared]))
    layers = find_layers(holder)
    assert [(layer.name, layer.type, layer.contains) for layer in layers] == [
        ("Sequential", "Sequential", True),
        ("0", "Linear", False),
        ("1.0", "ReLU", False),
    ]


def test_an_unused_module_is_no_op_and_a_module_that_runs_twice_is_one() -> None:
    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = torch.nn.Linear(4, 4, bias=False), torch.nn.Linear(4, 4)

        def forward(self, x: Any) -> Any:
            return self.used(self.used(x))

    net = Net().eval()
    layers = find_layers(net)
    seen = observe(layers, lambda: net(torch.zeros(3, 4)))
    ops, _ = describe(layers, "prefill", seen, (), 10)
    assert [(op.name, op.index) for op in ops] == [("Net", 10), ("used", 11)]
    assert (ops[1].macs, ops[1].activation_bytes) == (2 * 3 * 4 * 4, 2 * 2 * 4 * 3 * 4)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_a_container_reads_what_its_own_ops_read_but_weights_are_no_activations() -> None:
    class Scaled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.scale = torch.nn.Linear(4, 8), torch.nn.Parameter(torch.ones(8))

        def forward(self, x: Any) -> Any:
            return (self.inner(x).view(-1, 8) * self.scale).t()

    net = Scaled().eval()
    layers = find_layers(net)
    with torch.inference_mode():
        ops, _ = describe(layers, "prefill", observe(layers, lambda: net(torch.zeros(3, 4))), (), 0)
    assert (ops[0].weight_bytes, ops[0].activation_bytes) == (4 * 8, 4 * 3 * (8 + 8))
