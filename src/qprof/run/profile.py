"""Profiles: the TOML file that says what one experiment is. Read strictly: an unknown key is an error."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, field

from qprof.errors import ProfileError
from qprof.runtimes import hub
from qprof.tasks.detection.categories import CategoryConfig
from qprof.tasks.detection.heads import HeadConfig
from qprof.tasks.detection.preprocess import PreprocessConfig

Positive = Annotated[int, Meta(ge=1)]
#: Milliseconds or seconds: a day of either is beyond any run, and infinity has no place in a manifest.
NonNegative = Annotated[float, Meta(ge=0, le=86_400_000)]
Name = Annotated[str, Meta(min_length=1, max_length=80, pattern=r"^[A-Za-z0-9][A-Za-z0-9._+:-]*\Z")]


class ModelSection(Struct, frozen=True, forbid_unknown_fields=True):
    """The model that the variants are made from.

    `path`: a float `.tflite`, a SavedModel folder, a Keras file, or "embedded:NAME". May be empty when every variant
    names its own file. `input_shapes`: input name or position -> shape, for inputs to be resized.
    """

    path: str = ""
    input_shapes: dict[str, list[Positive]] = {}
    batch: Positive = 1


class VariantSection(Struct, frozen=True, forbid_unknown_fields=True):
    """One form of the model. `method` defaults to the name; `file` is a ready-made model used as it is.

    `ops` / `skip_ops`: op types to quantize, or to leave in float; `skip_layers`: layers to leave in float, by the
    names that `qprof layers` lists. `threads`, `delegate`: this variant's own, instead of the protocol's. The others
    are those of language models: `bits` and `group_size` (-1: a group per row) where the method does not name them,
    `desc_act` and `sym` as GPTQ's papers call them, `kernel` of the quantized layers, `dtype` of the computation,
    `library` that quantizes and runs, `batch`: rows of a prompt, instead of the task's.
    """

    name: Name
    method: str = ""
    file: str = ""
    ops: list[str] = []
    skip_ops: list[str] = []
    skip_layers: list[str] = []
    io: Literal["float", "int8"] = "float"
    threads: Positive | None = None
    delegate: Literal["xnnpack", "none"] | None = None
    bits: Literal[2, 3, 4, 8] | None = None
    group_size: Annotated[int, Meta(ge=-1)] | None = None
    desc_act: bool = False
    sym: bool = True
    kernel: str = ""
    dtype: Literal["", "float32", "float16", "bfloat16"] = ""
    library: Literal["gptqmodel", "autogptq"] = "gptqmodel"
    batch: Positive | None = None


class TaskSection(Struct, frozen=True, forbid_unknown_fields=True):
    """What the variants are run on.

    `kind` "latency": random inputs, or `inputs` (.npy / .npz files). `kind` "detection": COCO `annotations` and an
    `images` folder, or `dataset = "shapes"`, scenes rendered by qprof. `kind` "lastword": a language model's, on
    `data`, a JSONL file with a "text" per line or a data set of the Hugging Face hub ("hf://datasets/ORG/NAME", with
    `config` and `split`), or on `dataset = "passages"`, text made by qprof; `scoring` names the protocol that leads the
    table, `bos` whether a text begins with that token. `calibration_*`: training data for static quantization, never
    the scored samples; of a language model's `data`, unless `limit` or `calibration_data` say otherwise, the last
    `calibration_samples` texts. `samples`: inputs or prompts that are timed; a prompt is `batch` rows of
    `prompt_tokens` tokens, and `generated_tokens` are decoded behind it.
    """

    kind: Literal["latency", "detection", "lastword"] = "latency"
    dataset: Literal["", "shapes", "passages"] = ""
    data: str = ""
    config: str = ""
    split: str = "test"
    scoring: Literal["lambada_openai", "next-token"] = "lambada_openai"
    bos: Literal["auto", "add", "none"] = "auto"
    batch_tokens: Positive = 4096
    calibration_data: str = ""
    calibration_split: str = "train"
    calibration_tokens: Positive = 128
    prompt_tokens: Positive = 64
    generated_tokens: Positive = 16
    batch: Positive = 1
    annotations: str = ""
    images: str = ""
    limit: Positive | None = None
    calibration_annotations: str = ""
    calibration_images: str = ""
    calibration_samples: Annotated[int, Meta(ge=0)] = 100
    inputs: list[str] = []
    samples: Positive = 8
    preprocess: PreprocessConfig = field(default_factory=PreprocessConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    categories: CategoryConfig = field(default_factory=CategoryConfig)


class ProtocolSection(Struct, frozen=True, forbid_unknown_fields=True):
    """How it is measured. A round holds one clean and one profiled block of every variant, in random order.

    `block_ms`: a block repeats its samples until it lasted at least this long. `profiled`: whether ops are timed at
    all. `warmup_max_s`: a variant that is not steady by then is measured all the same, and says so. `device`: what a
    language model runs on, "cpu", "cuda" or "cuda:1".

    `scored`: whether predictions are scored at all. `energy`: whether `energy_rounds` of the rounds hold a block of
    each variant that lasts `energy_block_s` or longer, as power sensors need; "auto": where a sensor measures the
    device; "off": no power is read or estimated at all. `country`: ISO 3166 alpha-3 code of the grid, for CO2e.
    `stacks_s`: seconds of each variant and phase during which its host stacks are sampled, where py-spy is installed.
    `layer_errors`: samples on which every layer of a variant is compared with the baseline's, 0 for none. `ceilings`:
    whether the machine's ceilings are measured where they are not known yet.
    """

    threads: Positive = 1
    delegate: Literal["xnnpack", "none"] = "xnnpack"
    device: Annotated[str, Meta(pattern=r"^(cpu|cuda(:[0-9]+)?)\Z")] = "cpu"
    rounds: Annotated[int, Meta(ge=1, le=10_000)] = 12
    block_ms: NonNegative = 100.0
    profiled_block_ms: NonNegative = 60.0
    profiled: bool = True
    warmup_max_s: NonNegative = 8.0
    seed: Annotated[int, Meta(ge=0)] = 1
    timeout_s: Annotated[float, Meta(gt=0, le=1_000_000)] = 600.0
    scored: bool = True
    energy: Literal["auto", "on", "off"] = "auto"
    energy_rounds: Annotated[int, Meta(ge=1, le=10_000)] = 8
    energy_block_s: Annotated[float, Meta(ge=0, le=86_400)] = 5.0
    country: Annotated[str, Meta(pattern=r"^([A-Z]{3})?\Z")] = ""
    stacks_s: Annotated[float, Meta(ge=0, le=3600)] = 2.0
    layer_errors: Annotated[int, Meta(ge=0, le=10_000)] = 8
    ceilings: bool = True


class Profile(Struct, frozen=True, forbid_unknown_fields=True):
    """One experiment, as resolved: `extends` followed, overrides applied, paths absolute."""

    name: Name
    description: str = ""
    model: ModelSection = ModelSection()
    variants: list[VariantSection | Name] = field(default_factory=lambda: list(DEFAULT_VARIANTS))
    task: TaskSection = TaskSection()
    protocol: ProtocolSection = ProtocolSection()

    def variant_sections(self) -> list[VariantSection]:
        """The variants, names alone spelled out as sections."""
        return [VariantSection(name=v) if isinstance(v, str) else v for v in self.variants]


DEFAULT_VARIANTS: tuple[str, ...] = ("float32", "float16", "int8-dynamic", "int8")
#: bfloat16 first: it is what the quantized ones compute in on a CPU.
DEFAULT_LANGUAGE_VARIANTS: tuple[str, ...] = ("bfloat16", "gptq-8bit", "gptq-4bit", "gptq-2bit")

#: Keys that hold paths: $VARIABLES are filled in, relative ones are taken from the folder of the file that writes them.
_PATHS = {
    "task.head": ("anchors",),
    "model": ("path",),
    "task": (
        "annotations",
        "images",
        "calibration_annotations",
        "calibration_images",
        "inputs",
        "data",
        "calibration_data",
    ),
    "variants": ("file",),
}
_EMBEDDED = "embedded:"


def load_profile(path: Path, overrides: Sequence[str] = ()) -> Profile:
    """Read a profile, follow `extends`, apply `key.path=value` overrides, validate.

    Raises `ProfileError` naming the key, the file and, for an unknown key, the nearest valid one.
    """
    data = _read(path, seen=())
    apply_overrides(data, overrides)
    return validate(data, source=str(path))


def validate(data: Mapping[str, Any], source: str) -> Profile:
    """A profile from plain data; `source` is named in errors. Raises `ProfileError`."""
    _check_keys(data, Profile, source, "")
    try:
        profile = msgspec.convert(_with_default_variants(data), Profile)
    except msgspec.ValidationError as error:
        raise ProfileError(f"{source}: {_said_plainly(str(error))}") from error
    except ProfileError as error:  # the task's own configurations check themselves
        raise ProfileError(f"{source}: task.{error}") from error
    _check_whole(profile, source)
    return profile


def _with_default_variants(data: Mapping[str, Any]) -> dict[str, Any]:
    """A language model is quantized otherwise than a detector."""
    task = data.get("task")
    language = isinstance(task, Mapping) and task.get("kind") == "lastword"
    return {"variants": list(DEFAULT_LANGUAGE_VARIANTS), **data} if language else dict(data)


def model_path(text: str) -> Path:
    """The model that `model.path` means: a path, a file or folder that comes with qprof ("embedded:NAME"), or a model
    of the Hugging Face hub ("hf://ORG/NAME" or "hf://ORG/NAME@REVISION"), which is fetched.

    Raises `ProfileError` for an embedded model that there is not, `ModelError` for one that cannot be fetched.
    """
    if hub.is_reference(text):
        return hub.local_folder(text)
    if not text.startswith(_EMBEDDED):
        return Path(text)
    from qprof import embedded

    path = embedded.path(text.removeprefix(_EMBEDDED))
    if not path.exists():
        raise ProfileError(f"model.path: qprof ships no model called {text!r}")
    return path


def resolved(profile: Profile) -> dict[str, Any]:
    """The profile as plain data, every default spelled out (what the manifest keeps)."""
    plain: dict[str, Any] = msgspec.to_builtins(profile)
    plain["variants"] = [msgspec.to_builtins(section) for section in profile.variant_sections()]
    return plain


def _check_whole(profile: Profile, source: str) -> None:
    """What no single key shows."""
    sections = profile.variant_sections()
    names = [section.name for section in sections]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if not sections:
        raise ProfileError(f"{source}: variants is empty; name at least one, the first is the baseline")
    if repeated:
        raise ProfileError(f"{source}: two variants are named {repeated[0]!r}; give each its own name")
    if not profile.model.path and any(not section.file for section in sections):
        lacking = next(section.name for section in sections if not section.file)
        raise ProfileError(f"{source}: variant {lacking!r} needs model.path or a file of its own")
    task = profile.task
    rendered = {"shapes": "detection", "passages": "lastword"}
    if task.dataset and rendered[task.dataset] != task.kind:
        raise ProfileError(f'{source}: dataset = "{task.dataset}" goes with kind = "{rendered[task.dataset]}" alone')
    if task.kind == "detection" and not task.dataset and not (task.annotations and task.images):
        raise ProfileError(f'{source}: a detection task needs annotations and images, or dataset = "shapes"')
    if task.kind == "lastword" and not task.dataset and not task.data:
        raise ProfileError(f'{source}: a lastword task needs data, or dataset = "passages"')


def _read(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    path = path.resolve()
    if path in seen:
        chain = " -> ".join(p.name for p in (*seen, path))
        raise ProfileError(f"{path}: extends runs in a circle ({chain}); remove one of them")
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        wanted = f", which {seen[-1]} extends" if seen else ""
        raise ProfileError(f"{path}: no such profile{wanted}{_similar_files(path)}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ProfileError(f"{path}: the profile cannot be read ({error})") from error
    except tomllib.TOMLDecodeError as error:
        raise ProfileError(f"{path}: not valid TOML: {error}") from error
    base = data.pop("extends", None)
    _check_keys(data, Profile, str(path), "")  # here, where it is known which of the files wrote the key
    try:
        _absolute_paths(data, path.parent)
    except ProfileError as error:
        raise ProfileError(f"{path}: {error}") from error
    if base is None:
        return data
    if not isinstance(base, str):
        raise ProfileError(f"{path}: extends must be the path of another profile, not {type(base).__name__}")
    return _merged(_read(path.parent / base, (*seen, path)), data)


def _merged(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid on `base`: tables merge key by key, everything else (lists too) is replaced."""
    result = dict(base)
    for key, value in over.items():
        both_tables = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = _merged(result[key], value) if both_tables else value
    return result


def _absolute_paths(data: dict[str, Any], folder: Path) -> None:
    for section, keys in _PATHS.items():
        tables: Any = data
        for part in section.split("."):
            tables = tables.get(part) if isinstance(tables, dict) else None
        for table in tables if isinstance(tables, list) else [tables]:
            if not isinstance(table, dict):
                continue
            for key in keys:
                if key in table:
                    table[key] = _absolute(table[key], folder)


def _absolute(value: Any, folder: Path) -> Any:
    if isinstance(value, list):
        return [_absolute(item, folder) for item in value]
    if not isinstance(value, str) or not value or value.startswith((_EMBEDDED, hub.PREFIX)):
        return value
    expanded = os.path.expandvars(value)
    if "$" in expanded:
        raise ProfileError(f"{value}: set the environment variable that this path names, or write the path out")
    try:
        return str((folder / Path(expanded).expanduser()).resolve())
    except (RuntimeError, ValueError) as error:
        raise ProfileError(f"{value!r}: is not a path ({error}); write it out") from error


def apply_overrides(data: dict[str, Any], overrides: Sequence[str]) -> None:
    """Lay "section.key=value" texts on a profile's data. Raises `ProfileError` for one that is not of that form."""
    for override in overrides:
        _apply_override(data, override)


def _apply_override(data: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ProfileError(f"--set {override}: write it as section.key=value, such as protocol.rounds=20")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text  # a bare word is a string: --set task.kind=latency
    *sections, last = key.strip().split(".")
    table = data
    for section in sections:
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            raise ProfileError(f"--set {override}: {section} is not a section of a profile")
    written: dict[str, Any] = {last: value}
    for section in reversed(sections):
        written = {section: written}
    try:
        _absolute_paths(written, Path.cwd())
    except ProfileError as error:
        raise ProfileError(f"--set {key}: {error}") from error
    for section in sections:
        written = written[section]
    table[last] = written[last]


def _check_keys(data: Any, kind: Any, source: str, where: str) -> None:
    """Walk data and types together; raise at the first key that no type knows."""
    struct = _record_of(kind)
    if struct is None or not isinstance(data, Mapping):
        item = _item_of(kind)
        if isinstance(data, list) and item is not None:
            for number, element in enumerate(data):
                _check_keys(element, item, source, f"{where.rstrip('.')}[{number}].")
        return
    hints = typing.get_type_hints(struct, include_extras=True)
    for key, value in data.items():
        if key not in hints:
            near = difflib.get_close_matches(str(key), hints, n=1, cutoff=0.5)
            advice = f"did you mean {where}{near[0]}?" if near else f"known here: {', '.join(sorted(hints))}"
            raise ProfileError(f"{source}: unknown key {where}{key}; {advice}")
        _check_keys(value, hints[key], source, f"{where}{key}.")


def _alternatives(kind: Any) -> tuple[Any, ...]:
    return typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)


def _record_of(kind: Any) -> Any:
    """The type with named fields that `kind` is or may be, `None` where there is none."""
    found = [k for k in _alternatives(kind) if isinstance(k, type) and (issubclass(k, Struct) or is_dataclass(k))]
    return found[0] if found else None


def _item_of(kind: Any) -> Any:
    return typing.get_args(kind)[0] if typing.get_origin(kind) is list else None


def _said_plainly(message: str) -> str:
    """msgspec's message as a profile's reader needs it: the key first, TOML's words, what is allowed there."""
    what, _, place = message.partition(" - at `$")
    key = place.rstrip("`").lstrip(".")
    missing = re.fullmatch("Object missing required field `(.*)`", what)
    if missing:
        return f"{'.'.join(filter(None, (key, missing[1])))} is missing; add it"
    what = what.replace("`object`", "`table`").replace("`array`", "`list`").replace("| object`", "| table`")
    if "regex" in what:
        what = "a name begins with a letter or digit, and holds letters, digits and . _ + : - alone"
    allowed = _allowed_values(key) if what.startswith("Invalid enum value") else ()
    return f"{key}: {what}" + (f"; allowed: {', '.join(map(repr, allowed))}" if allowed else "")


def _allowed_values(key: str) -> tuple[Any, ...]:
    """What a key that takes a few fixed values may be."""
    kind: Any = Profile
    for part in re.sub(r"\[.*?\]", "", key).split("."):
        struct = _record_of(_item_of(kind) or kind)
        kind = typing.get_type_hints(struct).get(part) if struct else None
    literals = [k for k in _alternatives(kind) if typing.get_origin(k) is Literal]
    return typing.get_args(literals[0]) if literals else ()


def _similar_files(path: Path) -> str:
    siblings = [p.name for p in path.parent.glob("*.toml")] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, siblings, n=1)
    return f"; did you mean {path.parent / near[0]}?" if near else ""
