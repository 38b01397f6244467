"""Last-word scoring against lm-evaluation-harness: tokens/s at its default and at its best batch size, and agreement.

    QPROF_DATA=... python tests/benchmarks/lambada.py --peer PYTHON [--limit 5153] [--rows 64] [--families NAME ...]
        [--family-rows 600] [--words 8192] [--threads 1] [--dtype float32] [--repetitions 2]

PYTHON has lm_eval 0.4.13, torch 2.13.0, transformers 5.23.0 and accelerate. Two models: llama_stories260K on the first
`--limit` rows of LAMBADA, and a Llama of SmolLM-135M's shape (random weights; a byte-level tokenizer trained on the
rows, so that they are about as long as with SmolLM's) on `--rows` rows. `--families`: tiny models of
`tests/lm_families.py` on `--family-rows` rows, with a tokenizer of `--words` tokens (256: bytes alone, which make long
rows of which hardly two are alike). Both sides get the same folder, rows, dtype and threads, and are timed
from text to result: tokenizing, forward passes, scoring. The harness runs in a process of its own, in turn with ours;
each keeps its best time of all repetitions. Tokens are those that the model takes in, without padding. At one thread
the aim is judged by CPU time, which other work on the machine disturbs less than the wall clock.

Where the time goes (one thread of an EPYC with AVX-512, torch 2.13.0): 93 % (llama_stories260K) and 98 % (SmolLM's
shape) of ours is the forward pass. Of that of SmolLM's shape 85 to 88 % are matrix products (float32; 78 % in bfloat16)
which the harness needs as well. What it does beyond them is the output layer at every position, 21 % of all products,
and a log-softmax over it: skipping both brings some 1.3 times on a CPU, and twice is out of reach there. Of
llama_stories260K, with 512 words and heads of 8, 54 % is attention and the output layer next to nothing: the two are
level at the harness's best batch size. From 512 tokens a batch on, more make no difference to one thread (less than a
tenth, up to 16,384); a row at a time is slower by a fifth for llama_stories260K.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

#: Times as many rows a second: of the first two models, and of tiny ones of any family, which compute little at the
#: positions that only the harness scores.
REACH, REACH_FAMILY = 2.0, 1.0
REACH_ERROR = 1e-4
BATCH_SIZES = (1, 2, 4, 8, 16, 32)

#: SmolLM-135M's configuration: https://huggingface.co/HuggingFaceTB/SmolLM-135M/blob/main/config.json
SMOL = {
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
}


def first_lines(source: Path, count: int, target: Path) -> Path:
    lines = source.read_bytes().splitlines(keepends=True)[:count]
    target.write_bytes(b"".join(lines))
    return target


def save_tokenizer(folder: Path, rows: Path, vocabulary: int) -> None:
    """A byte-level tokenizer of the words in `rows`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    texts = [json.loads(line)["text"] for line in rows.read_text().splitlines()]
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    end = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}
    PreTrainedTokenizerFast(tokenizer_object=backend, **end).save_pretrained(folder)


def make_smol(folder: Path, rows: Path, dtype: str) -> Path:
    """The shaped model, its weights drawn from a fixed seed, and a tokenizer of all the words in `rows`."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    save_tokenizer(folder, rows, SMOL["vocab_size"])
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**SMOL, bos_token_id=0, eos_token_id=0))
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    return folder


def make_family(folder: Path, name: str, rows: Path, words: int) -> Path:
    """A tiny model of a family, with room for the rows and a tokenizer of their words."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from lm_families import FAMILIES, save_family

    sizes = ("n_positions", "max_position_embeddings", "max_seq_len")
    longer = {size: 2048 for size in sizes if size in FAMILIES[name].settings}
    # Bytes, the token that begins a text, and the like.
    save_family(folder, name, vocab_size=max(words, 320), **longer)
    save_tokenizer(folder, rows, words)
    return folder


def peer(arguments: argparse.Namespace) -> None:
    """In the harness's environment: one line of JSON."""
    import torch
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    torch.set_num_threads(arguments.threads)
    requests = []
    for line in arguments.data.read_text().splitlines():
        text = json.loads(line)["text"]
        pair = (" ".join(text.split(" ")[:-1]), " " + text.split(" ")[-1])  # lambada_openai.yaml
        requests.append(Instance("loglikelihood", {"text": text}, pair, 0))
    model = HFLM(pretrained=str(arguments.folder), device="cpu", dtype=arguments.dtype, batch_size=1)
    found = []
    for size in arguments.batch_sizes:
        model.batch_size_per_gpu = size
        begin, begin_cpu = perf_counter(), process_time()
        answers = model.loglikelihood(requests, disable_tqdm=True)
        taken = {"s": perf_counter() - begin, "cpu_s": process_time() - begin_cpu}
        found.append({"batch": size, "answers": answers, **taken})
    print(json.dumps(found))


def harness(arguments: argparse.Namespace, folder: Path, data: Path) -> list[dict[str, Any]]:
    command = [arguments.peer, __file__, "--as-peer", "--folder", folder, "--data", data, "--dtype", arguments.dtype]
    command += ["--threads", str(arguments.threads), "--batch-sizes", *map(str, arguments.batch_sizes)]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"the peer failed:\n{done.stderr[-2000:]}")
    answer: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return answer


class Ours:
    """Our side, loaded once."""

    def __init__(self, folder: Path, data: Path, arguments: argparse.Namespace) -> None:
        from qprof.runtimes.torch_lm.model import CausalLM
        from qprof.runtimes.torch_lm.sections import TorchLMOptions

        self.data = data
        self.model = CausalLM.load(
            folder, TorchLMOptions(threads=arguments.threads, dtype=arguments.dtype, prompt_tokens=8)
        )
        self.batch_tokens = arguments.batch_tokens
        self.once()  # first use of every kernel

    def once(self) -> dict[str, Any]:
        from qprof.tasks.lastword import LastWordTask, Source

        task = LastWordTask(Source(str(self.data)), batch_tokens=self.batch_tokens)
        begin, begin_cpu = perf_counter(), process_time()
        predictions, batches = task.predict(self.model, range(task.scored_count()))
        return {
            "s": perf_counter() - begin,
            "cpu_s": process_time() - begin_cpu,
            "model_s": sum(batch.duration_ns for batch in batches) / 1e9,
            "batches": len(batches),
            "tokens": sum(batch.tokens for batch in batches),
            "answers": [
                (row["log_likelihood"], row["greedy"]) for row in (predictions[n] for n in range(len(predictions)))
            ],
        }


def compare(name: str, folder: Path, data: Path, arguments: argparse.Namespace, reach: float) -> bool:
    side = Ours(folder, data, arguments)
    ours: list[dict[str, Any]] = []
    theirs: dict[int, list[dict[str, Any]]] = {}
    for _ in range(arguments.repetitions):
        ours.append(side.once())
        for found in harness(arguments, folder, data):
            theirs.setdefault(found["batch"], []).append(found)
        ours.append(side.once())
    print(f"\n{name}: {len(ours[0]['answers'])} rows, {arguments.dtype}, {arguments.threads} thread(s)")
    clock = "cpu_s" if arguments.threads == 1 else "s"
    return speed(ours, theirs, clock, reach) & agreement(
        ours[0]["answers"], theirs[arguments.batch_sizes[0]][0]["answers"]
    )


def speed(ours: list[dict[str, Any]], theirs: dict[int, list[dict[str, Any]]], clock: str, reach: float) -> bool:
    best, tokens = fastest(ours, clock), ours[0]["tokens"]
    print(
        f"  qprof           {tokens / best['s']:8.0f} tokens/s {_seconds(best)}, {best['model_s']:.2f} s in the model"
    )
    for size, runs in theirs.items():
        found = fastest(runs, clock)
        print(
            f"  harness, bs {size:<3} {tokens / found['s']:8.0f} tokens/s {_seconds(found)}: qprof is "
            f"{found['s'] / best['s']:.2f} times as fast, by CPU time {found['cpu_s'] / best['cpu_s']:.2f}"
        )
    other = fastest([run for runs in theirs.values() for run in runs], clock)
    ratio: float = other[clock] / best[clock]
    print(f"  at its best batch size, {other['batch']}: {ratio:.2f} times (aim {reach}) {_verdict(ratio >= reach)}")
    return ratio >= reach


def agreement(ours: list[tuple[float, bool]], theirs: list[tuple[float, bool]]) -> bool:
    error = max(abs(mine[0] - other[0]) for mine, other in zip(ours, theirs, strict=True))
    different = sum(mine[1] != other[1] for mine, other in zip(ours, theirs, strict=True))
    accuracies = [sum(greedy for _, greedy in side) / len(side) for side in (ours, theirs)]
    print(f"  log-likelihoods differ by {error:.1e} at most (aim {REACH_ERROR}) {_verdict(error <= REACH_ERROR)}")
    print(f"  accuracy {accuracies[0]:.6f}, the harness {accuracies[1]:.6f}; {different} rows judged otherwise")
    return error <= REACH_ERROR and not different


def fastest(runs: list[dict[str, Any]], clock: str) -> dict[str, Any]:
    return min(runs, key=lambda found: float(found[clock]))


def _seconds(found: dict[str, Any]) -> str:
    return f"({found['s']:.2f} s, CPU {found['cpu_s']:.2f} s)"


def _verdict(reached: bool) -> str:
    return "reached" if reached else "NOT REACHED"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer")
    parser.add_argument("--limit", type=int, default=5153, help="rows for llama_stories260K; 0 leaves it out")
    parser.add_argument("--rows", type=int, default=64, help="rows for the shaped model; 0 leaves it out")
    parser.add_argument("--families", nargs="*", default=[])
    parser.add_argument("--family-rows", type=int, default=600)
    parser.add_argument("--words", type=int, default=8192)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--repetitions", type=int, default=2)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=list(BATCH_SIZES))
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--as-peer", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if arguments.as_peer:
        peer(arguments)
        return 0
    if not arguments.peer or "QPROF_DATA" not in os.environ:
        parser.error("give --peer PYTHON, and the folder of test data in QPROF_DATA")
    data = Path(os.environ["QPROF_DATA"])
    rows = data / "lambada" / "lambada_test.jsonl"
    reached = True
    with tempfile.TemporaryDirectory() as work:
        if arguments.limit:
            some = first_lines(rows, arguments.limit, Path(work) / "stories.jsonl")
            reached &= compare("llama_stories260K", data / "llama_stories260K" / "hf", some, arguments, REACH)
        if arguments.rows:
            some = first_lines(rows, arguments.rows, Path(work) / "smol.jsonl")
            folder = make_smol(Path(work) / "smol", rows, arguments.dtype)
            reached &= compare("SmolLM-135M's shape, random weights", folder, some, arguments, REACH)
        if arguments.families:
            some = first_lines(rows, arguments.family_rows, Path(work) / "families.jsonl")
        for name in arguments.families:
            folder = make_family(Path(work) / name, name, rows, arguments.words)
            reached &= compare(name, folder, some, arguments, REACH_FAMILY)
    return int(not reached)


if __name__ == "__main__":
    raise SystemExit(main())
