"""What stands beside a checkpoint's weights and is computed with: its configuration and its tokenizer, against those of
another checkpoint; and the weights of the one with the settings of the other."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from qprof.errors import ModelError, QprofError
from qprof.record.manifest import VariantEntry
from qprof.runtimes.interventions import Impossible, OtherSettings, Section, changed_name, model_of
from qprof.runtimes.torch_lm.checkpoint import CONFIG, TOKENIZER_FILES, Checkpoint, inspect, normalised
from qprof.runtimes.torch_lm.interventions import run_alike
from qprof.runtimes.torch_lm.weight_files import read_json
from qprof.store.cache import Cache, json_sha256

Kind = Literal["configuration", "tokenizer"]

#: Keys that say how weights are stored, who wrote them, or how to train and generate: no score hangs on them.
_NOT_COMPUTED_WITH = frozenset(
    {
        *(
            "transformers_version",
            "dtype",
            "torch_dtype",
            "_name_or_path",
            "name_or_path",
            "architectures",
            "model_type",
        ),
        *("quantization_config", "compression_config", "tie_word_embeddings", "use_cache", "pretraining_tp"),
        *("initializer_range", "attention_dropout", "hidden_dropout", "resid_pdrop", "embd_pdrop", "attn_pdrop"),
        *("bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "decoder_start_token_id", "id2label"),
        *("label2id", "_attn_implementation", "attn_implementation", "_attn_implementation_autoset"),
        *("output_attentions", "output_hidden_states", "return_dict", "chunk_size_feed_forward", "problem_type"),
        *("max_position_embeddings", "max_length"),
    }
)
#: A text that most of what a tokenizer does shows in: spaces, capitals, digits, accents, a line's end.
_TEXT = "The quick brown Fox, 12 345 times!  It jumped;\nna\u00efve as ever."
#: Where a loaded model's facts hold what its tokenizer makes of it.
TOKENS_FACT = "tokens_of_text"
_LONGEST_TOLD = 40
_MOST_IDS = 6


def settings_of(entry: VariantEntry, baseline: VariantEntry) -> Sequence[OtherSettings] | Impossible:
    """See `qprof.runtimes.interventions.Interventions.settings_of`."""
    if entry.section.get("parts") or baseline.section.get("parts"):
        return Impossible("it has parts of another model already")
    try:
        own, other = (inspect(model_of(one)) for one in (entry, baseline))
        kinds: tuple[tuple[Kind, str, tuple[tuple[str, str, str], ...]], ...] = (
            ("configuration", f"configuration ({CONFIG})", tuple(_configured(own.path, other.path))),
            ("tokenizer", "tokenizer", tuple(_tokenized((own.path, entry), (other.path, baseline)))),
        )
        return [
            OtherSettings(what, _section(entry, own, other, kind), differs) for kind, what, differs in kinds if differs
        ]
    except QprofError as error:
        return Impossible(f"its settings cannot be compared: {error}")


def with_settings(checkpoint: Checkpoint, other: Path, kind: Kind) -> Path:
    """A folder in the cache with links to the weights of a checkpoint and the settings of another, of one kind.

    Raises:
        ModelError: one of the two cannot be read. StoreError: the cache cannot be written.
    """
    own = inspect(normalised(checkpoint))
    known = {"content": own.sha256(), "path": str(own.path.absolute()), "kind": kind, "revision": 1}
    key = json_sha256({**known, "other": inspect(other).sha256(), "from": str(other.absolute())})
    return _linked.lookup(key) or _linked.store(key, lambda folder: _link(own, other, kind, folder))


def _section(entry: VariantEntry, own: Checkpoint, other: Checkpoint, kind: Kind) -> Section | Impossible:
    try:
        folder = with_settings(own, other.path, kind)
        inspect(folder)
    except QprofError as error:
        return Impossible(f"its weights cannot be run with the other {kind}: {error}")
    return {**run_alike(entry), "name": changed_name(entry.section, f"other-{kind}"), "file": str(folder)}


def _configured(own: Path, other: Path) -> Iterator[tuple[str, str, str]]:
    """Keys whose values differ once the architecture's defaults are filled in, as (key, other's, own)."""
    if _computed_with(read_json(own / CONFIG)) == _computed_with(read_json(other / CONFIG)):
        return
    try:
        mine, theirs = (_flat(_computed_with(_with_defaults(folder))) for folder in (own, other))
        keys = mine.keys() | theirs.keys()
    except ImportError:  # the defaults are not known here: what both say is compared
        mine, theirs = (_flat(_computed_with(read_json(folder / CONFIG))) for folder in (own, other))
        keys = mine.keys() & theirs.keys()
    for key in sorted(keys):
        if mine.get(key) != theirs.get(key):
            yield _told(key), _told(theirs.get(key)), _told(mine.get(key))


def _with_defaults(folder: Path) -> dict[str, Any]:
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except ImportError:
        raise
    except Exception as error:  # each configuration class checks its values in its own way
        raise ModelError(f"{folder / CONFIG}: cannot be loaded ({type(error).__name__})") from error
    filled: dict[str, Any] = config.to_dict()
    return filled


def _computed_with(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in _NOT_COMPUTED_WITH}


def _flat(value: Any, before: str = "") -> dict[str, Any]:
    """Nested tables as "outer.inner" -> value."""
    if not isinstance(value, Mapping):
        return {before: value}
    found: dict[str, Any] = {}
    for key, inner in value.items():
        found |= _flat(inner, f"{before}.{key}" if before else str(key))
    return found


def tokens_of_text(tokenizer: Any) -> list[int] | None:
    """What a tokenizer makes of one text, by which tokenizers are told apart; `None` where it cannot take the text."""
    try:
        return [int(token) for token in tokenizer(_TEXT)["input_ids"]]
    except Exception:  # one that knows only some characters raises whatever its library has for the others
        return None


def _tokenized(own: tuple[Path, VariantEntry], other: tuple[Path, VariantEntry]) -> Iterator[tuple[str, str, str]]:
    """How the two make tokens of one text, where that differs."""
    files = [{name: _content(folder / name) for name in TOKENIZER_FILES} for folder, _ in (own, other)]
    if files[0] == files[1]:
        return
    try:
        mine, theirs = (_tokens(*one) for one in (own, other))
    except ImportError:
        return  # without transformers nothing can be said of it
    if mine is not None and theirs is not None and mine != theirs:
        yield "tokens of one text", _ids(theirs), _ids(mine)


def _tokens(folder: Path, entry: VariantEntry) -> list[int] | None:
    """As its worker told when it loaded the model; a variant that told nothing is loaded here, which takes seconds."""
    if TOKENS_FACT in entry.facts:
        known: list[int] | None = entry.facts[TOKENS_FACT]
        return known
    from qprof.runtimes.torch_lm.load import load_tokenizer

    return tokens_of_text(load_tokenizer(folder))


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _ids(tokens: Sequence[int]) -> str:
    return f"{', '.join(map(str, tokens[:_MOST_IDS]))}, ... ({len(tokens)})"


def _told(value: Any) -> str:
    """In ASCII without control characters: it comes from a file that anyone may have written."""
    text = json.dumps(value, default=str) if not isinstance(value, str) else json.dumps(value)[1:-1]
    return text if len(text) <= _LONGEST_TOLD else f"{text[: _LONGEST_TOLD - 3]}..."


def _link(own: Checkpoint, other: Path, kind: Kind, folder: Path) -> None:
    for file in own.content_files():
        is_tokenizer = file.name in TOKENIZER_FILES
        if file.name != CONFIG and not (is_tokenizer and kind == "tokenizer"):
            (folder / file.name).symlink_to(file.absolute())
    config = read_json(own.path / CONFIG)
    if kind == "configuration":
        kept = {key: value for key, value in config.items() if key in _NOT_COMPUTED_WITH}
        config = {**_computed_with(read_json(other / CONFIG)), **kept}
    else:
        for name in TOKENIZER_FILES:
            if (other / name).is_file():
                (folder / name).symlink_to((other / name).absolute())
    (folder / CONFIG).write_text(json.dumps(config, indent=1), encoding="utf-8")


def _intact(entry: Path) -> Path | None:
    """The entry, unless a link in it leads nowhere any more."""
    files = list(entry.iterdir())
    whole = (entry / CONFIG).is_file() and all(path.is_file() for path in files)
    return entry if whole and any(path.suffix == ".safetensors" for path in files) else None


_linked: Cache[Path] = Cache("other-settings", _intact, "checkpoint with other settings")
