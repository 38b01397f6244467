"""Every family of language models through what is measured of one: its scores, both phases, its layers, their errors.

A few run always, one of each kind; all with QPROF_ALL_FAMILIES=1. The truth is transformers' own forward pass over the
whole text, without a cache.
"""

from __future__ import annotations

import importlib.util
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from lm_families import FAMILIES, VOCABULARY, Family, save_family  # noqa: E402
from qprof.errors import QprofError  # noqa: E402
from qprof.findings.op_runs import is_container  # noqa: E402
from qprof.runtimes.match_ops import match_ops  # noqa: E402
from qprof.runtimes.torch_lm.checkpoint import inspect  # noqa: E402
from qprof.runtimes.torch_lm.experts import expert_part  # noqa: E402
from qprof.runtimes.torch_lm.gptq import Settings  # noqa: E402
from qprof.runtimes.torch_lm.layer_errors import LayerErrors  # noqa: E402
from qprof.runtimes.torch_lm.load import quantized_layers  # noqa: E402
from qprof.runtimes.torch_lm.methods.gptqmodel import quantize  # noqa: E402
from qprof.runtimes.torch_lm.model import DECODE, PREFILL, CausalLM  # noqa: E402
from qprof.runtimes.torch_lm.profiled import ProfiledCausalLM  # noqa: E402
from qprof.runtimes.torch_lm.sections import TorchLMOptions  # noqa: E402

_ALL = os.environ.get("QPROF_ALL_FAMILIES") == "1"
_HAVE_GPTQMODEL = importlib.util.find_spec("gptqmodel") is not None

#: float32 through another order of sums: what separates one pass over the text from a cache.
_CLOSE = 2e-5
#: The most of an inference that may lie outside its ops. These models take a millisecond or two, of which the calls
#: around the ops have been 5 % on a slow machine; an op that is not listed would be 10 % and more of most of them.
_OUTSIDE = 0.1
_STEPS = 4
_TOKENS = 16

NAMES = [name for name, family in FAMILIES.items() if family.in_ci or _ALL]


def prompt(seed: int = 0, rows: int = 2, tokens: int = _TOKENS) -> Any:
    return np.random.default_rng(seed).integers(2, VOCABULARY - 60, (rows, tokens))


def prompt_of(model: CausalLM, seed: int) -> Any:
    return prompt(seed, model.options.batch)


def truth(model: CausalLM, tokens: Any) -> Any:
    """Logits of all positions, in one pass over the whole text."""
    with torch.inference_mode():
        return model.module(input_ids=torch.from_numpy(np.asarray(tokens)), use_cache=False).logits.float().numpy()


def assert_close(found: Any, wanted: Any, within: float = _CLOSE) -> None:
    assert np.abs(found - wanted).max() <= within * np.abs(wanted).max()


def load(folder: Path, dtype: str, rows: int = 2) -> CausalLM:
    options = TorchLMOptions(dtype=dtype, batch=rows, prompt_tokens=_TOKENS, generated_tokens=_STEPS)
    return CausalLM.load(folder, options)


def check_scores(model: CausalLM) -> None:
    tokens = prompt(3)
    found = model.target_logits(tokens, [12, 9]).float().numpy()
    whole = truth(model, tokens)
    assert_close(found, np.concatenate([whole[0, 11:15], whole[1, 8:15]]))
    check_padding(model, tokens)


def check_padding(model: CausalLM, tokens: Any) -> None:
    """A row that is shorter than the other in its batch is scored as it is by itself, whatever stands behind it."""
    alone = model.target_logits(tokens[:1, :11], [8]).float().numpy()
    shared = model.target_logits(tokens, [8, 12], [11, 16]).float().numpy()
    assert_close(shared[:3], alone)


def decoded(model: CausalLM, seed: int, steps: int) -> list[Any]:
    """The logits of each step, of decoding behind one prompt, begun again as often as that takes."""
    found = []
    for _ in range(steps):
        model.set_inputs([prompt_of(model, seed)])
        model.invoke()
        found.append(model.outputs()[0])
    return found


def check_phases(model: CausalLM) -> None:
    """Each phase computes what one pass over the same text does, also behind another prompt, and from the second time
    on exactly what it did at first."""
    for seed in (0, 1, 0):
        model.enter(PREFILL)
        model.set_inputs([prompt_of(model, seed)])
        model.invoke()
        first = model.outputs()[0]
        model.enter(DECODE)
        steps = decoded(model, seed, 2 * _STEPS + 2)
        text, following = prompt_of(model, seed), first.argmax(-1)
        assert_close(first, truth(model, text)[:, -1])
        for logits in steps[:_STEPS]:
            text = np.concatenate([text, following[:, None]], axis=1)
            assert_close(logits, truth(model, text)[:, -1])
            following = logits.argmax(-1)
        for step, logits in enumerate(steps):
            assert np.array_equal(logits, steps[step % _STEPS]), f"step {step} is not what it was at first"


def check_layers(model: CausalLM, experts: bool) -> ProfiledCausalLM:
    """Ops of both phases whose times close to the inference's, of calls that are all listed."""
    profiled = ProfiledCausalLM(model)
    profiled.set_inputs([prompt_of(model, 0)])
    ops = profiled.discover()
    leaves = ~is_container(ops)
    assert [op.index for op in ops] == list(range(len(ops))) and len({op.op for op in ops}) == len(ops)
    for phase in (PREFILL, DECODE):
        profiled.enter(phase)
        profiled.reserve(8)
        took = []
        for number in range(8):
            profiled.set_inputs([prompt_of(model, number // 4)])
            profiled.begin(number)
            start_ns = time.perf_counter_ns()
            profiled.run_once()
            took.append(time.perf_counter_ns() - start_ns)
            profiled.end()
        events = profiled.drain()
        own = np.bincount(events.inference, events.duration_ns * leaves[events.op], minlength=8)
        rest_ns = np.array(took) - own
        # A machine that does other things may stop between two ops, but not in every inference.
        assert rest_ns.min() >= 0
        assert (rest_ns / took).min() < _OUTSIDE
        assert {ops[op].phase for op in np.unique(events.op)} == {phase}
    timing = profiled.timing_facts()["facts"]
    assert (timing["unlisted_calls"], timing["lost_calls"]) == (0, 0)
    for op in ops:
        assert (op.runs is not None) == (expert_part(op.name.partition("/")[0]) is not None)
    assert experts or all(op.runs is None for op in ops)
    return profiled


def check_errors(baseline: CausalLM, variant: CausalLM) -> None:
    """Of every quantized linear an error of its own and one of its weights, and both are those of 4 bits."""
    errors = LayerErrors(baseline, variant)
    found: dict[tuple[str, str], list[float]] = {}

    def record(kind: str, op: str, reference: Any, value: Any, saturated: int | None) -> None:
        noise = float(np.linalg.norm(reference - value) / (np.linalg.norm(reference) or 1.0))
        found.setdefault((kind, op), []).append(noise)

    errors.weights(record)
    for seed in range(3):
        errors.sample([prompt(seed)], record)
    for name in quantized_layers(variant.module):
        (weights,) = found["weights", f"prefill/{name}"]
        assert 0.0 < weights < 0.5
        own = found.get(("own", f"prefill/{name}"))
        if own is None:
            assert expert_part(name) is not None  # one that no token of the three prompts has picked
        else:
            assert 0.0 < max(own) < 0.5
    assert any(kind == "cumulative" for kind, _ in found)
    assert not any(kind == "cumulative" and expert_part(op.removeprefix("prefill/")) for kind, op in found)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QPROF_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", NAMES)
def test_a_family_runs(name: str, tmp_path: Path) -> None:
    family = FAMILIES[name]
    folder = save_family(tmp_path / "float", name)
    model = load(folder, "float32", family.rows)
    assert model.loaded.facts["attention"] == ("sdpa" if type(model.module)._supports_sdpa else "eager")
    check_scores(model)
    check_phases(model)
    plain = check_layers(model, family.experts)
    if not _HAVE_GPTQMODEL:
        pytest.skip("gptqmodel is not installed")
    rows = [prompt(100 + number, rows=1, tokens=48)[0] for number in range(8)]
    if family.no_gptq:
        with pytest.raises(QprofError, match=family.no_gptq) as raised:
            quantize(inspect(folder), tmp_path / "4bit", Settings(4, 32), rows)
        assert "\n" not in str(raised.value)
        return
    made = quantize(inspect(folder), tmp_path / "4bit", Settings(4, 32), rows)
    variant = load(tmp_path / "4bit", "bfloat16")
    assert set(made["losses"]) == set(quantized_layers(variant.module)) != set()
    check_variant(family, plain, model, variant)


def check_variant(family: Family, plain: ProfiledCausalLM, model: CausalLM, variant: CausalLM) -> None:
    timed = check_layers(variant, family.experts)
    for phase in (PREFILL, DECODE):
        ops = [[op for op in side.ops if op.phase == phase and op.parent is None] for side in (plain, timed)]
        pairs = {ops[0][a].name: ops[1][b].name for a, b in match_ops(*ops).pairs}
        linears = [op for op in ops[0] if op.type == "Linear"]
        assert linears and all(pairs.get(op.name, op.name) == op.name for op in linears)
        if not family.experts:
            # What multiplies does as much of it, apart or in one piece.
            assert sum(op.macs or 0 for op in ops[0]) == sum(op.macs or 0 for op in ops[1])
    check_errors(model, variant)


def test_rows_that_an_architecture_mixes_are_refused(tmp_path: Path) -> None:
    model = load(save_family(tmp_path / "rwkv", "rwkv"), "float32", rows=2)
    model.enter(DECODE)
    model.set_inputs([prompt()])
    with pytest.raises(QprofError, match=r"RwkvForCausalLM mixes the rows of a batch .* batch = 1"):
        model.invoke()
