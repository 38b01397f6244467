"""The figures of lm-evaluation-harness, on a real model and the real rows.

Made with lm_eval 0.4.13, torch 2.13.0, transformers 5.23.0: its own lambada_openai.yaml, with `dataset_path: json` on
the first 200 lines of lambada_test.jsonl, through `lm_eval.evaluator.evaluate` and
`HFLM(pretrained=llama_stories260K/hf, device="cpu", dtype="float32", batch_size=1)`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bound_models import DescribedModel
from qprof.record.model import Loaded
from qprof.tasks.base import Scores
from qprof.tasks.lastword import LastWordTask, Source

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

DATA = os.environ.get("QPROF_DATA")
pytestmark = pytest.mark.skipif(DATA is None, reason="QPROF_DATA is not set")

ROWS = 200
ACCURACY = 0.015
PERPLEXITY = 12652260.377911506
# fmt: off
LIKELIHOODS = [
    -11.366117, -24.149574, -27.101791, -35.136658, -10.686606, -18.789425, -12.556711, -22.598667, -21.867777,
    -8.565138, -8.60686, -5.328857, -19.985605, -20.503613, -14.34537, -8.649975, -5.54625, -14.148512, -7.209632,
    -22.762421,
]
# fmt: on
#: Rows whose last word is the greedy continuation.
GREEDY = [23, 48, 176]

#: Of the first target token, as counted once with `argmax` and `topk` alone.
TOP1, TOP5 = 0.145, 0.48


class Checkpoint(DescribedModel):
    """A `LanguageModel` with nothing else to it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(Loaded([], [], []))
        self.module = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self.vocabulary = self.module.config.vocab_size
        self.max_tokens: int | None = self.module.config.max_position_embeddings

    def target_logits(self, tokens: NDArray[np.int64], starts: Sequence[int], ends: Sequence[int] | None = None) -> Any:
        length, first = tokens.shape[1], min(starts)
        with torch.inference_mode():
            found = self.module(torch.from_numpy(tokens[:, :-1]), use_cache=False, logits_to_keep=length - first)
        assert ends is not None
        return torch.cat([found.logits[row, start - first : ends[row] - first] for row, start in enumerate(starts)])


def scored(model: Any, rows: int, **options: Any) -> Scores:
    assert DATA is not None
    task = LastWordTask(Source(str(Path(DATA) / "lambada" / "lambada_test.jsonl")), limit=rows, **options)
    return task.score(task.predict(model, range(rows))[0])


@pytest.fixture(scope="module")
def model() -> Iterator[Any]:
    assert DATA is not None
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the model is too small to share
    yield Checkpoint(Path(DATA) / "llama_stories260K" / "hf")
    torch.set_num_threads(threads)


def test_the_figures_of_the_harness(model: Any) -> None:
    scores = scored(model, ROWS)
    likelihoods = scores.per_sample["log_likelihood"]
    assert np.abs(likelihoods[: len(LIKELIHOODS)] - LIKELIHOODS).max() < 1e-4
    assert np.flatnonzero(scores.per_sample["correct"]).tolist() == GREEDY
    assert scores.summary["accuracy"] == ACCURACY
    assert scores.summary["perplexity"] == pytest.approx(PERPLEXITY, rel=1e-4)
    assert (scores.summary["top1"], scores.summary["top5"]) == (TOP1, TOP5)


def test_the_older_protocol_beside_it(model: Any) -> None:
    """All these words take several tokens of this vocabulary of 512: no single one can be the word."""
    summary = scored(model, 20, protocol="next-token").summary
    assert (summary["multi_token"], summary["naive_ceiling"]) == (1, 0)
    assert (summary["naive_top1"], summary["naive_top5"]) == (0, 0)


def test_the_first_token_is_a_knob_that_counts(model: Any) -> None:
    """This tokenizer puts one by itself."""
    auto, added, none = (scored(model, 20, bos=bos).per_sample["log_likelihood"] for bos in ("auto", "add", "none"))
    assert np.array_equal(auto, added)
    assert np.abs(auto - none).max() > 0.1
