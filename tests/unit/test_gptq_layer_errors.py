"""Errors per layer of a language model's variant: a planted fault comes out on its layer, and nowhere else."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from checkpoints import save_llama  # noqa: E402
from lm_layers import PackedLinear, llama, loaded, packed_llama, prompt  # noqa: E402
from qprof.errors import ModelError  # noqa: E402
from qprof.measure.requests import CompareLayers, LoadedVariant  # noqa: E402
from qprof.measure.worker.layer_errors import measure_layer_errors  # noqa: E402
from qprof.record.manifest import PreparedTask  # noqa: E402
from qprof.record.rows import LAYER_ERROR_COLUMNS  # noqa: E402
from qprof.runtimes.torch_lm.layer_errors import LayerErrors  # noqa: E402
from qprof.runtimes.torch_lm.sections import TorchLMOptions  # noqa: E402
from qprof.stats.quantization_error import ErrorFigures, QuantizationError  # noqa: E402
from qprof.tasks.lastword.kind import LastWordSection  # noqa: E402

PLANTED = "model.layers.1.mlp.up_proj"

Errors = dict[tuple[str, str], ErrorFigures]


def compare(baseline: Any, variant: Any) -> tuple[Errors, LayerErrors]:
    """(what is compared, the layer's name) -> figures, over three prompts."""
    errors = LayerErrors(loaded(baseline), loaded(variant))
    names = {op["op"]: str(op["name"]) for op in errors.ops}
    collected: dict[tuple[str, str], QuantizationError] = {}

    def record(kind: str, op: str, reference: NDArray[Any], value: NDArray[Any], saturated: int | None) -> None:
        assert saturated is None
        collected.setdefault((kind, names[op]), QuantizationError()).add(reference, value)

    errors.weights(record)
    for seed in range(3):
        errors.sample(prompt(seed), record)
    found = {key: value.figures() for key, value in collected.items()}
    return {key: figures for key, figures in found.items() if figures is not None}, errors


def sqnr(errors: Errors, kind: str, name: str) -> float:
    value = errors[kind, name].sqnr_db
    assert value is not None
    return value


def own(errors: Errors) -> dict[str, float]:
    return {n: f.sqnr_db for (kind, n), f in errors.items() if kind == "own" and f.sqnr_db is not None}


def replaced(module: Any, name: str, change: Callable[[Any], Any]) -> Any:
    parent, _, child = name.rpartition(".")
    owner = module.get_submodule(parent)
    setattr(owner, child, change(getattr(owner, child)))
    return module


def clipped(linear: Any) -> Any:
    """Packed with a range an eighth as wide as the weights."""
    narrow = copy.deepcopy(linear)
    limits = narrow.weight.data.abs().amax(1, keepdim=True) / 8
    narrow.weight.data = narrow.weight.data.clamp(-limits, limits)
    return PackedLinear(narrow)


def coarse(linear: Any) -> Any:
    """Packed with steps sixteen times as large."""
    rough = copy.deepcopy(linear)
    step = rough.weight.data.abs().amax(1, keepdim=True) / 127 * 16
    rough.weight.data = (rough.weight.data / step).round() * step
    return PackedLinear(rough)


def test_a_model_is_identical_to_itself() -> None:
    errors, found = compare(llama(), llama())
    assert all(figures.identical and figures.sqnr_db is None for figures in errors.values())
    assert {name for kind, name in errors if kind == "cumulative"} == {op["name"] for op in found.ops}
    assert len([key for key in errors if key[0] == "weights"]) == 2 * 7 + 1
    assert found.notes == []


def test_all_linears_of_a_packed_model_are_compared() -> None:
    errors, found = compare(llama(), packed_llama())
    quantized = [name for (kind, name), f in errors.items() if kind == "weights" and not f.identical]
    assert len(quantized) == 2 * 7 and set(own(errors)) == set(quantized)
    for name in quantized:
        assert 38 < sqnr(errors, "weights", name) < 50 and 38 < sqnr(errors, "own", name) < 55
    # Nothing that was not quantized makes an error of its own, though it passes on what it was given.
    assert errors["own", "model.norm"].identical and not errors["cumulative", "model.norm"].identical
    assert ("own", "model.layers.0.self_attn") not in errors
    assert not errors["cumulative", "model.layers.0.self_attn"].identical
    assert {op["op"] for op in found.ops} >= {f"prefill/{name}" for name in quantized}


@pytest.mark.parametrize("fault", [clipped, coarse])
def test_a_fault_planted_in_one_layer_is_that_layers_own(fault: Callable[[Any], Any]) -> None:
    sound, _ = compare(llama(), packed_llama())
    variant = replaced(packed_llama(), PLANTED, lambda _: fault(llama().get_submodule(PLANTED)))
    errors, _ = compare(llama(), variant)
    figures = own(errors)
    assert min(figures, key=lambda name: figures[name]) == PLANTED
    assert figures[PLANTED] < own(sound)[PLANTED] - 15
    others = {name: value for name, value in figures.items() if name != PLANTED}
    assert others == {name: value for name, value in own(sound).items() if name != PLANTED}
    # What comes behind it is hit as well, but by what it was given.
    behind = "model.layers.1.mlp.down_proj"
    assert sqnr(errors, "cumulative", behind) < sqnr(sound, "cumulative", behind) - 5
    assert sqnr(errors, "weights", PLANTED) < sqnr(sound, "weights", PLANTED) - 15


def test_the_own_error_is_that_of_the_variants_layer_on_the_baselines_input() -> None:
    baseline, variant = llama(), packed_llama()
    seen: list[Any] = []
    name = "model.layers.1.self_attn.o_proj"
    handle = baseline.get_submodule(name).register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.inference_mode():
        for seed in range(3):
            baseline(torch.from_numpy(prompt(seed)[0][:, :-1]))
    handle.remove()
    expected = QuantizationError()
    for given in seen:
        with torch.inference_mode():
            exact, rounded = baseline.get_submodule(name)(given), variant.get_submodule(name)(given)
        expected.add(exact.numpy(), rounded.numpy())
    figures = expected.figures()
    errors, _ = compare(baseline, variant)
    assert figures is not None and sqnr(errors, "own", name) == pytest.approx(figures.sqnr_db or 0, abs=0.01)


def test_rounding_a_layers_input_to_another_type_is_not_its_own_error() -> None:
    errors, _ = compare(llama(), llama().bfloat16())
    # A product of 32 terms is rounded once and its weights once, 8 bits each: some 55 dB; the inputs' rounding is left.
    for name in ("model.layers.0.self_attn.q_proj", "lm_head"):
        assert 48 < sqnr(errors, "weights", name) < 60
        assert sqnr(errors, "own", name) > sqnr(errors, "cumulative", name) + 1
    # Rows of a table are looked up: both sides round the same once.
    assert sqnr(errors, "own", "model.embed_tokens") == pytest.approx(
        sqnr(errors, "cumulative", "model.embed_tokens"), abs=0.01
    )


def test_nothing_is_changed_in_the_models() -> None:
    baseline, variant = llama(), packed_llama()
    ids = torch.from_numpy(prompt()[0])
    before = [model(ids).logits.clone() for model in (baseline, variant)]
    compare(baseline, variant)
    assert all(torch.equal(kept, model(ids).logits) for kept, model in zip(before, (baseline, variant), strict=True))
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in [*baseline.modules(), *variant.modules()]]
    assert sum(hooks) == 0


class Repacked(PackedLinear):
    """A kernel that inherits `dequantize_weight` from one that packs its weights otherwise."""

    def dequantize_weight(self) -> Any:
        return super().dequantize_weight().roll(1, 0)

    def forward(self, x: Any) -> Any:
        return torch.matmul(x, super().dequantize_weight())


class Refusing(PackedLinear):
    """Another, which fails."""

    def dequantize_weight(self) -> Any:
        raise NotImplementedError("rshift_cpu")

    def forward(self, x: Any) -> Any:
        return torch.matmul(x, super().dequantize_weight())


@pytest.mark.parametrize("pack", [Repacked, Refusing])
def test_weights_that_a_layer_does_not_compute_with_are_unknown(pack: Callable[[Any], Any]) -> None:
    errors, found = compare(llama(), packed_llama(pack))
    assert [name for kind, name in errors if kind == "weights"] == ["lm_head"]
    assert len(found.notes) == 1 and found.notes[0].startswith("14 linears (model.layers.0.self_attn.q_proj, ...)")
    assert 38 < sqnr(errors, "own", PLANTED) < 55


def test_layers_that_the_baseline_lacks_are_counted() -> None:
    errors, found = compare(llama(), replaced(llama(), "model.norm", lambda norm: torch.nn.Sequential(norm)))
    assert found.notes == ["1 layers of . are none of its baseline's"]
    assert errors["cumulative", "lm_head"].identical


@pytest.mark.filterwarnings("error")
def test_a_model_that_fails_is_one_line() -> None:
    with pytest.raises(ModelError, match="scoring fails"):
        LayerErrors(loaded(llama()), loaded(llama())).sample([np.full((1, 6), 10_000)], lambda *_: None)


def test_a_request_gives_one_row_per_layer_that_json_can_hold(tmp_path: Path) -> None:
    folder = save_llama(tmp_path / "model")
    text = tmp_path / "text.jsonl"
    rows = [
        {"text": f"the dog number {i} saw a cat that was as large as the dog itself and ran away"} for i in range(40)
    ]
    text.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    options = TorchLMOptions(prompt_tokens=12, generated_tokens=2)
    section = LastWordSection(data=str(text), samples=1, prompt_tokens=12, limit=4, calibration_samples=0)
    settings = msgspec.to_builtins(options)
    side = {"runtime": "torch_lm", "path": str(folder)}
    answer = measure_layer_errors(
        CompareLayers(
            name="bfloat16",
            baseline=LoadedVariant(**side, options=settings),
            variant=LoadedVariant(**side, options={**settings, "dtype": "bfloat16"}),
            task=PreparedTask(section=msgspec.to_builtins(section)),
            pairs=[],
            samples=2,
        )
    )
    assert all(set(row) == set(LAYER_ERROR_COLUMNS) for row in answer.rows)
    assert {row["variant"] for row in answer.rows} == {"bfloat16"}
    assert answer.samples == [0, 1] and answer.seconds > 0
    json.dumps(msgspec.to_builtins(answer), allow_nan=False)
    row = next(row for row in answer.rows if row["op"] == "prefill/model.layers.0.mlp.up_proj")
    assert row["type"] == "Linear" and row["baseline_op"] == row["op"] and row["samples"] == 2
    assert row["count"] == 2 * 11 * 128
    assert 40 < row["sqnr_db"] < 60 and 45 < row["own_sqnr_db"] < 65 and 48 < row["weight_sqnr_db"] < 60
    assert row["saturated_share"] is None and row["identical"] is False
