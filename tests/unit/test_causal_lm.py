"""A language model in its two phases, against what transformers computes by itself."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from qprof.errors import ModelError
from qprof.runtimes.torch_lm.model import DECODE, PREFILL, CausalLM
from qprof.runtimes.torch_lm.sections import TorchLMOptions

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

OPTIONS = TorchLMOptions(batch=2, prompt_tokens=6, generated_tokens=4)


def llama(**changed: Any) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=50, num_key_value_heads=2, max_position_embeddings=32, **sizes, **changed)
    return LlamaForCausalLM(config).eval()


@pytest.fixture
def model() -> CausalLM:
    return CausalLM(llama(), None, OPTIONS)


def prompt(seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 50, (2, 6))


def test_it_tells_its_inputs_and_phases(model: CausalLM) -> None:
    assert [(spec.shape, spec.dtype) for spec in model.loaded.inputs] == [((2, 6), "int64")]
    assert [(p.name, p.tokens, p.steps) for p in model.loaded.phases] == [(PREFILL, 12, 1), (DECODE, 2, 4)]
    assert (model.vocabulary, model.max_tokens) == (50, 32)
    assert model.memory_bytes() == {"footprint": model.module.get_memory_footprint()}


def test_prefill_gives_the_logits_of_the_last_position(model: CausalLM) -> None:
    model.set_inputs([prompt()])
    model.invoke()
    wanted = model.module(input_ids=torch.tensor(prompt())).logits[:, -1]
    assert np.allclose(model.outputs()[0], wanted.detach().numpy(), atol=1e-6)
    assert model.outputs()[0].dtype == np.float32


def decoded(model: CausalLM, steps: int, seed: int = 0) -> list[list[int]]:
    """The token that each decoding step puts out."""
    found = []
    for _ in range(steps):
        model.set_inputs([prompt(seed)])
        model.invoke()
        found.append(model.outputs()[0].argmax(-1).tolist())
    return found


def greedy(model: CausalLM, steps: int, seed: int = 0) -> list[list[int]]:
    """The same without a cache: the whole text runs anew for every token. The first token is prefill's."""
    ids = torch.tensor(prompt(seed))
    found = []
    for _ in range(steps + 1):
        chosen = model.module(input_ids=ids, use_cache=False).logits[:, -1].argmax(-1, keepdim=True)
        ids = torch.cat([ids, chosen], dim=1)
        found.append(chosen[:, 0].tolist())
    return found[1:]


def test_decoding_goes_on_behind_the_prompt_and_begins_again(model: CausalLM) -> None:
    model.enter(DECODE)
    wanted = greedy(model, 4)
    assert len({tuple(step) for step in wanted}) > 1
    assert decoded(model, 10) == wanted + wanted + wanted[:2]


def test_another_prompt_is_taken_in_before_decoding(model: CausalLM) -> None:
    model.enter(DECODE)
    decoded(model, 3)
    assert decoded(model, 4, seed=1) == greedy(model, 4, seed=1)


def test_phases_may_alternate(model: CausalLM) -> None:
    for _ in range(2):
        model.enter(DECODE)
        assert decoded(model, 2) == greedy(model, 2)
        model.enter(PREFILL)
        model.set_inputs([prompt(1)])
        model.invoke()


def test_decoding_runs_one_position(model: CausalLM) -> None:
    seen = []
    model.module.model.embed_tokens.register_forward_hook(lambda module, given, out: seen.append(out.shape[1]))
    model.enter(DECODE)
    decoded(model, 3)
    assert seen == [6, 1, 1, 1]


def test_logits_are_computed_where_they_are_needed_alone(model: CausalLM) -> None:
    seen = []
    model.module.lm_head.register_forward_hook(lambda module, given, out: seen.append(tuple(out.shape)))
    model.set_inputs([prompt()])
    model.invoke()
    tokens = np.random.default_rng(3).integers(0, 50, (3, 9))
    found = model.target_logits(tokens, [7, 8, 6])
    assert seen == [(2, 1, 50), (3, 3, 50)]
    full = model.module(input_ids=torch.tensor(tokens)).logits
    wanted = torch.cat([full[0, 6:8], full[1, 7:8], full[2, 5:8]])
    assert found.shape == (6, 50)
    assert torch.allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("starts", [[0, 2], [2, 9], [3, 10]])
def test_targets_outside_a_sequence_are_refused(model: CausalLM, starts: list[int]) -> None:
    with pytest.raises(ModelError, match="sequences of 9 tokens"):
        model.target_logits(np.zeros((2, 9), np.int64), starts)


def test_a_model_without_logits_to_keep_gives_the_same(model: CausalLM) -> None:
    tokens = np.random.default_rng(3).integers(0, 50, (2, 9))
    wanted = model.target_logits(tokens, [7, 5])
    model._keeps = False
    assert torch.allclose(model.target_logits(tokens, [7, 5]), wanted, atol=1e-5)


def test_more_tokens_than_positions_are_refused() -> None:
    with pytest.raises(ModelError, match=r"36 tokens .* more than the 32 positions"):
        CausalLM(llama(), None, TorchLMOptions(prompt_tokens=30, generated_tokens=6))


def test_an_unknown_phase_is_refused(model: CausalLM) -> None:
    with pytest.raises(ModelError, match="no phase 'inference'; its phases are 'prefill' and 'decode'"):
        model.enter("inference")


def test_a_failure_in_the_model_is_one_line(model: CausalLM) -> None:
    model.set_inputs([np.full((2, 6), 50)])
    with pytest.raises(ModelError, match="prefill fails: index out of range") as caught:
        model.invoke()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "error",
    [AssertionError("Shapes do\nnot match"), AttributeError("no name"), KeyError("scale"), ZeroDivisionError("0")],
)
def test_whatever_a_layer_of_a_library_raises_is_one_line(model: CausalLM, error: Exception) -> None:
    def fail(*_: Any) -> None:
        raise error

    handle = model.module.get_output_embeddings().register_forward_pre_hook(fail)
    try:
        with pytest.raises(ModelError, match=f"prefill fails: .*{str(error).split()[-1]}") as caught:
            model.invoke()
    finally:
        handle.remove()
    assert "\n" not in str(caught.value)


def test_no_gradient_is_kept(model: CausalLM) -> None:
    for phase in (PREFILL, DECODE):
        model.enter(phase)
        model.set_inputs([prompt()])
        model.invoke()
        assert model._logits.is_inference()


def test_a_failure_on_the_way_to_decoding_is_one_line(model: CausalLM) -> None:
    model.enter(DECODE)
    with pytest.raises(ModelError, match="prefill fails: index out of range"):
        model.set_inputs([np.full((2, 6), 50)])


def test_entering_a_phase_anew_begins_behind_the_prompt(model: CausalLM) -> None:
    model.enter(DECODE)
    decoded(model, 3)
    model.enter(DECODE)
    assert decoded(model, 4) == greedy(model, 4)


def test_the_context_grows_by_a_token_and_falls_back_to_the_prompt(model: CausalLM) -> None:
    model.enter(DECODE)
    lengths = []
    for _ in range(6):
        model.set_inputs([prompt()])
        model.invoke()
        lengths.append(model._state._value.get_seq_length())
    assert lengths == [7, 8, 9, 10, 7, 8]


def test_a_copy_computes_the_same_from_weights_of_its_own(model: CausalLM) -> None:
    copied = model.copied()
    assert copied is not None
    assert decoded(copied, 3) == decoded(model, 3)
    assert np.array_equal(copied.outputs()[0], model.outputs()[0])
    assert copied.memory_bytes() == model.memory_bytes() and copied.loaded.phases == model.loaded.phases
    ours, theirs = ({weight.data_ptr() for weight in one.module.parameters()} for one in (model, copied))
    assert not ours & theirs


def test_a_large_model_is_not_copied(model: CausalLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qprof.runtimes.torch_lm.model._COPIED_BYTES", model.memory_bytes()["footprint"] - 1)
    assert model.copied() is None


def test_a_module_that_cannot_be_copied_is_one_line(model: CausalLM) -> None:
    class Stays:
        def __deepcopy__(self, memo: Any) -> Any:
            raise copy.Error("stays\nwhere it is")

    model.module.held = Stays()
    with pytest.raises(ModelError, match=r"copying it fails: stays where it is$"):
        model.copied()
