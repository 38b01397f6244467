"""Configurations and tokenizers beside weights: what differs in them, and weights with those of another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from checkpoints import write_checkpoint
from planted.cases_settings import FILE, world
from qprof import embedded
from qprof.findings.causes.base import Hypothesis
from qprof.findings.causes.settings_beside_weights import CAUSE
from qprof.findings.comparison import Comparison
from qprof.record.manifest import VariantEntry
from qprof.runtimes.interventions import Impossible, OtherSettings
from qprof.runtimes.torch_lm.interventions import TorchLMInterventions
from qprof.runtimes.torch_lm.settings_beside import TOKENS_FACT


def entry(name: str, folder: Path, **options: Any) -> VariantEntry:
    return VariantEntry(name=name, section={"name": name, "file": str(folder)}, options=options)


def compared(a: Path, b: Path) -> list[OtherSettings]:
    found = TorchLMInterventions().settings_of(entry("variant", b, dtype="bfloat16"), entry("base", a))
    assert not isinstance(found, Impossible), found
    return list(found)


def test_what_is_computed_with_is_told_and_taken_from_the_baseline(tmp_path: Path) -> None:
    a = write_checkpoint(tmp_path / "a", rms_norm_eps=1e-6, dtype="float32", bos_token_id=1)
    b = write_checkpoint(tmp_path / "b", rms_norm_eps=0.5, dtype="bfloat16", bos_token_id=2)
    (found,) = compared(a, b)
    assert found.what == "configuration (config.json)" and found.differs == (("rms_norm_eps", "1e-06", "0.5"),)
    assert not isinstance(found.section, Impossible)
    assert found.section["name"] == "variant+other-configuration" and found.section["dtype"] == "bfloat16"
    folder = Path(found.section["file"])
    made = json.loads((folder / "config.json").read_text())
    assert made["rms_norm_eps"] == 1e-6  # the baseline's
    assert made["dtype"] == "bfloat16" and made["bos_token_id"] == 2  # its own
    assert (folder / "model.safetensors").resolve() == (b / "model.safetensors").resolve()
    assert json.loads((b / "config.json").read_text())["rms_norm_eps"] == 0.5


@pytest.mark.parametrize(
    "change",
    [{"transformers_version": "4.0"}, {"use_cache": False}, {"dtype": "float16"}, {"_name_or_path": "/home/someone"}],
)
def test_what_nothing_is_computed_with_is_not_told(tmp_path: Path, change: dict[str, Any]) -> None:
    assert compared(write_checkpoint(tmp_path / "a"), write_checkpoint(tmp_path / "b", **change)) == []


def test_a_default_that_is_spelled_out_is_no_difference(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    spelled = write_checkpoint(tmp_path / "b", attention_bias=False, rope_theta=10000.0)
    assert compared(write_checkpoint(tmp_path / "a"), spelled) == []


def test_text_of_a_file_is_printable(tmp_path: Path) -> None:
    b = write_checkpoint(tmp_path / "b", mood="\x1b[31mred\n" + 60 * "x")
    for name, before, after in compared(write_checkpoint(tmp_path / "a", mood="calm"), b)[0].differs:
        assert (name + before + after).isprintable() and len(after) <= 40


def test_a_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    a = entry("base", write_checkpoint(tmp_path / "a"))
    found = TorchLMInterventions().settings_of(entry("variant", tmp_path / "gone"), a)
    assert isinstance(found, Impossible) and "gone" in found.reason


def test_a_tokenizer_that_makes_other_tokens_is_taken_from_the_baseline(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    source = embedded.path("passages_lm")
    folders = tmp_path / "a", tmp_path / "b"
    for folder in folders:
        folder.mkdir()
        for file in source.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
    tokenizer = json.loads((source / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"] = _shifted(tokenizer["model"]["vocab"])
    (folders[1] / "tokenizer.json").write_text(json.dumps(tokenizer))
    (found,) = compared(*folders)
    assert found.what == "tokenizer" and not isinstance(found.section, Impossible)
    made = Path(found.section["file"])
    assert (made / "tokenizer.json").read_bytes() == (folders[0] / "tokenizer.json").read_bytes()
    assert json.loads((made / "config.json").read_text()) == json.loads((source / "config.json").read_text())


def test_tokens_that_the_workers_told_are_compared_without_loading_a_tokenizer(tmp_path: Path) -> None:
    folders = write_checkpoint(tmp_path / "a"), write_checkpoint(tmp_path / "b")
    (folders[1] / "tokenizer.json").write_text("written otherwise, and no tokenizer at all")

    def compared(own: list[int] | None, other: list[int] | None) -> list[OtherSettings]:
        variant, base = (entry(name, folder) for name, folder in zip(("variant", "base"), folders[::-1], strict=True))
        variant.facts, base.facts = {TOKENS_FACT: own}, {TOKENS_FACT: other}
        found = TorchLMInterventions().settings_of(variant, base)
        assert not isinstance(found, Impossible), found
        return list(found)

    assert compared([5, 6, 7], [5, 6, 7]) == []
    assert compared(None, [5, 6, 7]) == []  # a tokenizer that does not take the text tells nothing
    (found,) = compared([5, 7, 6], [5, 6, 7])
    assert found.differs == (("tokens of one text", "5, 6, 7, ... (3)", "5, 7, 6, ... (3)"),)


def test_a_loaded_model_tells_the_tokens_of_its_tokenizer() -> None:
    pytest.importorskip("transformers")
    from qprof.runtimes.torch_lm.load import load_module

    loaded = load_module(embedded.path("passages_lm"))
    tokens = loaded.facts[TOKENS_FACT]
    assert len(tokens) > 10 and tokens == loaded.tokenizer(loaded.tokenizer.decode(tokens))["input_ids"]


def _shifted(vocabulary: dict[str, int]) -> dict[str, int]:
    """The ids of words one further on, those of the first few (the special ones) as they are."""
    words = [word for word, number in sorted(vocabulary.items(), key=lambda item: item[1]) if number >= 10]
    ids = [vocabulary[word] for word in words]
    return vocabulary | dict(zip(words, [*ids[1:], ids[0]], strict=True))


def hypotheses(folder: Path, *arguments: Any) -> list[Hypothesis]:
    run = world(*arguments).record(folder / "run")
    return list(CAUSE.hypotheses(Comparison(run, "bfloat16", FILE, "inference")))


def test_the_settings_are_named_and_half_of_the_loss_must_come_back(tmp_path: Path) -> None:
    (hypothesis,) = hypotheses(tmp_path, "wide", 0.1, 0.79)
    assert "rms_norm_eps 0.5, which is 1e-06 in bfloat16" in hypothesis.claim
    assert hypothesis.intervention is not None
    prediction = hypothesis.intervention.prediction
    assert 0.3 < prediction.low < 0.7 < prediction.high
    assert hypothesis.intervention.does == "run gptq's own weights with bfloat16's configuration (config.json)"


def test_settings_that_make_it_better_are_named_as_well(tmp_path: Path) -> None:
    (hypothesis,) = hypotheses(tmp_path, "wide", 0.99, 0.79)
    assert hypothesis.claim.startswith("gptq gains accuracy, and its configuration (config.json) is another: rms_norm")
    assert hypothesis.effect is not None and hypothesis.effect.value > 0.1
    assert hypothesis.evidence[0].what == "accuracy won" and hypothesis.intervention is not None
    prediction = hypothesis.intervention.prediction
    assert prediction.low < -hypothesis.effect.value < prediction.high < 0.0


@pytest.mark.parametrize(("folder", "right"), [("wide", 0.8), ("told", 0.1), ("plain", 0.1)])
def test_nothing_is_claimed_where_nothing_is_lost_or_nothing_differs(tmp_path: Path, folder: str, right: float) -> None:
    assert hypotheses(tmp_path, folder, right, 0.8) == []
