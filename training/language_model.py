"""Trains the embedded language model: `python training/language_model.py --out FOLDER`.

A small Llama (Touvron et al., arXiv 2302.13971) and its byte-level BPE tokenizer, from nothing but the generated
passages of `qprof.tasks.lastword.passages`; accuracy is the share of "test" passages whose last word is predicted
whole. Every `--save-every` seconds the model is saved as it is, in Hugging Face's layout, its weights rounded to
bfloat16, with `training.json` beside it: an interrupted training leaves a usable model. Nothing is chosen by the test
passages.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import math
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from look_back import ready_to_look_back
from numpy.typing import NDArray

from qprof.tasks.lastword import passages

#: Begins a text where the user of the tokenizer asks for it, and this share of the training texts.
BOS = "<s>"
BEGUN = 0.25
#: Fills a batch up; libraries that quantize ask for one.
PAD = "<pad>"
#: Texts that are rendered and tokenized at a time: long enough to sort them into batches of nearly equal length.
CHUNK = 256
#: Longest sequence that the model is told to accept: several times the longest passage.
POSITIONS = 512


@dataclass(frozen=True, slots=True)
class Settings:
    """What a training run can be told; every field is a command-line option and is recorded in `training.json`."""

    steps: int = 20000
    seconds: float = 900.0
    batch: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    warmup_steps: int = 100
    exercises: float = 0.7
    other_weight: float = 0.1
    others: float = 0.3
    vocabulary: int = 1600
    hidden: int = 128
    intermediate: int = 256
    layers: int = 4
    heads: int = 4
    tokenizer_passages: int = 8000
    test_passages: int = 1000
    save_every: float = 120.0
    threads: int = 2
    seed: int = 20240607


# The tokenizer.


def train_tokenizer(settings: Settings) -> Any:
    """A byte-level BPE tokenizer of `settings.vocabulary` tokens, trained on the first training passages."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocabulary,
        special_tokens=[BOS, PAD],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(passages.passages("train", settings.tokenizer_passages), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        pad_token=PAD,
        model_max_length=POSITIONS,
        clean_up_tokenization_spaces=False,
    )


# Data.


@dataclass(frozen=True, slots=True)
class Batch:
    """`tokens` int64 [rows, length], filled up with 0 on the right; `weights` float32 [rows, length - 1] of the loss of
    predicting `tokens[:, 1:]`, 0 where filled up or passed over."""

    tokens: NDArray[np.int64]
    weights: NDArray[np.float32]


def _weights(encoding: Any, answers: Sequence[tuple[int, int]], others: float) -> NDArray[np.float32]:
    """1 for the tokens of an answer, `others` for all else."""
    weights = np.full(len(encoding.ids), others, np.float32)
    ends = np.array([end for _, end in encoding.offsets])
    for start, end in answers:
        weights[(ends > start) & (ends <= end)] = 1.0
    return weights


def _batch(examples: Sequence[tuple[list[int], NDArray[np.float32]]]) -> Batch:
    # Few different lengths: the matrix kernels are prepared anew for each.
    length = -(-max(len(ids) for ids, _ in examples) // 8) * 8
    tokens = np.zeros((len(examples), length), np.int64)
    weights = np.zeros((len(examples), length), np.float32)
    for row, (ids, weight) in enumerate(examples):
        tokens[row, : len(ids)] = ids
        weights[row, : len(ids)] = weight
    return Batch(tokens, weights[:, 1:])


def _lesson(index: int, exercise: bool) -> passages.Passage:
    if exercise:
        return passages.render_exercise(index)
    text = passages.render_passage("train", index)
    return passages.Passage(text, ((text.rindex(" ") + 1, len(text)),))


def batches(tokenizer: Any, settings: Settings) -> Iterator[Batch]:
    """Batches without end: exercises, which ask for all that they tell, and passages, which ask for one thing."""
    rng = np.random.default_rng(settings.seed)
    bos = tokenizer.bos_token_id
    for first_index in count(0, CHUNK):
        texts = [
            _lesson(index, exercise)
            for index, exercise in enumerate(rng.random(CHUNK) < settings.exercises, start=first_index)
        ]
        encodings = tokenizer.backend_tokenizer.encode_batch([passage.text for passage in texts])
        examples = []
        for passage, encoding, with_bos in zip(texts, encodings, rng.random(CHUNK) < BEGUN, strict=True):
            weights = _weights(encoding, passage.answers, settings.other_weight / settings.others)
            weights[(weights != 1.0) & (rng.random(len(weights)) >= settings.others)] = 0.0
            start = [bos] if with_bos else []
            examples.append((start + encoding.ids, np.concatenate([np.zeros(len(start), np.float32), weights])))
        examples.sort(key=lambda example: len(example[0]))
        starts = np.arange(0, CHUNK - settings.batch + 1, settings.batch)
        for first in rng.permutation(starts):
            yield _batch(examples[first : first + settings.batch])


# The model.


def build_model(tokenizer: Any, settings: Settings) -> Any:
    """The untrained Llama, float32; input and output embeddings are one."""
    from transformers import LlamaConfig, LlamaForCausalLM

    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=settings.hidden,
            intermediate_size=settings.intermediate,
            num_hidden_layers=settings.layers,
            num_attention_heads=settings.heads,
            num_key_value_heads=settings.heads,
            max_position_embeddings=POSITIONS,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=None,
            pad_token_id=tokenizer.pad_token_id,
            # At this size, and with texts this short, faster to train on a CPU than the fused kernel.
            attn_implementation="eager",
        )
    )
    ready_to_look_back(model, settings.seed)
    return model


def _loss(model: Any, batch: Batch) -> tuple[Any, float]:
    """Weighted cross entropy of the next token (a scalar tensor), and the share of answers' tokens that are right."""
    import torch

    tokens, weights = torch.from_numpy(batch.tokens), torch.from_numpy(batch.weights)
    learnt = weights > 0.0
    targets, weights = tokens[:, 1:][learnt], weights[learnt]
    # Without a mask: what is filled up stands to the right, where a causal model does not look.
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model.model(input_ids=tokens[:, :-1], use_cache=False).last_hidden_state
        logits = model.lm_head(hidden[learnt])
    logits = logits.float()
    loss = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    answers = weights == 1.0
    right = (logits.detach()[answers].argmax(-1) == targets[answers]).float().mean()
    return (loss * weights).sum() / weights.sum(), float(right)


def accuracy(model: Any, tokenizer: Any, texts: Sequence[str]) -> float:
    """Share of texts whose last word the model predicts whole: every token of it is the most likely one."""
    import torch

    right = 0
    order = sorted(texts, key=len)
    with torch.inference_mode():
        for first in range(0, len(order), 50):
            part = order[first : first + 50]
            encoded = [tokenizer(text)["input_ids"] for text in part]
            known = [len(tokenizer(text[: text.rindex(" ")])["input_ids"]) for text in part]
            batch = _batch([(ids, np.ones(len(ids), np.float32)) for ids in encoded])
            logits = model(input_ids=torch.from_numpy(batch.tokens), use_cache=False).logits
            best = logits.argmax(-1).numpy()
            for row, (ids, start) in enumerate(zip(encoded, known, strict=True)):
                right += best[row, start - 1 : len(ids) - 1].tolist() == ids[start:]
    return right / len(texts)


# Saving.


def _rounded(model: Any) -> Any:
    """A copy of the model in bfloat16."""
    import torch

    return copy.deepcopy(model).to(torch.bfloat16).eval()


def save(model: Any, tokenizer: Any, folder: Path, facts: dict[str, Any]) -> None:
    """Save the bfloat16 `model`, its tokenizer and `training.json` in `folder`; each file is whole or absent."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".saving.", dir=folder) as name:
        partial = Path(name)
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        weights = (partial / "model.safetensors").read_bytes()
        facts = {**facts, "bytes": len(weights), "sha256": hashlib.sha256(weights).hexdigest()}
        (partial / "training.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        for file in sorted(partial.iterdir()):
            file.chmod(0o644)  # transformers writes weights for their owner alone
            os.replace(file, folder / file.name)


def _facts(settings: Settings, model: Any, step: int, seconds: float, measured: float) -> dict[str, Any]:
    return {
        "parameters": int(sum(weight.numel() for weight in model.parameters())),
        "training": {**asdict(settings), "steps_done": step, "seconds_taken": round(seconds)},
        "test": {"split": "test", "passages": settings.test_passages, "last_word_accuracy": round(measured, 4)},
        "packages": {name: version(name) for name in ("torch", "transformers", "tokenizers", "safetensors")},
    }


# Training.


def _optimizer(model: Any, settings: Settings) -> Any:
    import torch

    matrices = [weight for weight in model.parameters() if weight.ndim > 1]
    scales = [weight for weight in model.parameters() if weight.ndim == 1]
    return torch.optim.AdamW(
        [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": scales, "weight_decay": 0.0}],
        betas=(0.9, 0.98),
        fused=True,
    )


def _rate(settings: Settings, step: int, done: float) -> float:
    """The learning rate: a linear warm-up, then half a cosine down to 1 %."""
    rate = 0.01 + 0.99 * (1.0 + math.cos(math.pi * min(1.0, done))) / 2.0
    return settings.learning_rate * rate * min(1.0, (step + 1) / settings.warmup_steps)


class _Progress:
    """How much of a training is over: of its steps or of its time, whichever is more."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._started, self.step = settings, time.monotonic(), 0

    def seconds(self) -> float:
        return time.monotonic() - self._started

    def done(self) -> float:
        return max(self.step / self._settings.steps, self.seconds() / self._settings.seconds)


def _step(model: Any, optimizer: Any, batch: Batch, rate: float) -> tuple[float, float]:
    """One step of the optimizer: its loss and the share of right answers."""
    import torch

    loss, right = _loss(model, batch)
    model.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    return float(loss.detach()), right


def train(settings: Settings, out: Path) -> float:
    """Train for `settings.steps` steps or `settings.seconds`, whichever ends first; return the accuracy of what is
    saved in `out`."""
    import torch

    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    progress = _Progress(settings)
    tokenizer = train_tokenizer(settings)
    model = build_model(tokenizer, settings).train()
    optimizer = _optimizer(model, settings)
    test = list(passages.passages("test", settings.test_passages))
    saved, losses = 0.0, []
    stream = batches(tokenizer, settings)
    while True:
        rate = _rate(settings, progress.step, progress.done())
        loss, right = _step(model, optimizer, next(stream), rate)
        losses.append((loss, right))
        progress.step += 1
        seconds, over = progress.seconds(), progress.done() >= 1.0
        if seconds - saved < settings.save_every and not over:
            continue
        saved, rounded = seconds, _rounded(model)
        measured = accuracy(rounded, tokenizer, test)
        loss, right = np.mean(losses, axis=0)
        losses = []
        print(
            f"{seconds:.0f} s, step {progress.step}: loss {loss:.3f}, answers {right:.3f}; test {measured:.3f}",
            flush=True,
        )
        save(rounded, tokenizer, out, _facts(settings, model, progress.step, seconds, measured))
        if over:
            return measured


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the embedded language model.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the model")
    for name, default in asdict(Settings()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default, help=f"[{default}]")
    arguments = vars(parser.parse_args())
    out = arguments.pop("out")
    train(Settings(**arguments), out)


if __name__ == "__main__":
    main()
