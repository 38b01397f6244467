"""Profiles as files: TOML, `extends`, overrides, paths relative to the file that writes them."""

from __future__ import annotations

import difflib
import os
import re
import stat
import tomllib
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from qprof.errors import ModelError, ProfileError
from qprof.measure.keys import refuse_unknown, with_paths
from qprof.measure.models import EMBEDDED
from qprof.measure.profile import Profile, refuse_unknown_sections, section_types, validate, variant_type, without_empty
from qprof.record.sections import FileVariantSection, ProtocolSection
from qprof.runtimes import hub
from qprof.stats.sequential import MOST_ROUNDS

#: Environment variables that a profile's paths may name.
VARIABLES = ("HOME", "CIFAR10", "COCO", "DATA", "IMAGENET", "LAMBADA", "MODELS")
OWN_VARIABLES = "QPROF_"
_VARIABLE = re.compile(r"\$(?:(?P<name>[A-Za-z_]\w*)|\{(?P<braced>[A-Za-z_]\w*)\})", re.ASCII)

#: A profile is written by hand: what is larger is another thing.
_LARGEST_BYTES = 1_000_000

#: A key of more parts than any profile has, "a.a.a...". Where one begins is fixed, and nothing is matched in two ways:
#: looking for it takes time by the length of the text alone.
_DEEP_KEY = re.compile(r"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){32}""")

#: The keys that decide which others a profile may have.
_TYPES_GO_BY = ("task.kind", "model.path")


def load_profile(path: Path, overrides: Sequence[str] = ()) -> Profile:
    """Read a profile, follow `extends`, apply `key.path=value` overrides, validate.

    Raises `ProfileError` naming the key, the file and, for an unknown key, the nearest valid one.
    """
    data = apply_overrides(_read(path), overrides)
    return validate(data, source=str(path))


def apply_overrides(data: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A profile's data with "section.key=value" texts laid on it. Raises `ProfileError` for one of another form."""
    data = _without_fixed_rounds(data, {override.partition("=")[0].strip() for override in overrides})
    # Those first that say which keys the others may have: the order of a command line is nobody's intention.
    for override in sorted(overrides, key=lambda text: text.partition("=")[0].strip() not in _TYPES_GO_BY):
        data = _overridden(data, override)
    return dict(data)


def _without_fixed_rounds(data: Mapping[str, Any], asked: Set[str]) -> Mapping[str, Any]:
    """A profile's data without its number of rounds where a budget or a margin is asked for over it: that number was
    meant for a run that is not looked at. A larger one than such runs have anyway stays, and so does the limit of a
    profile that has a budget or margin of its own."""
    own = data.get("protocol")
    if "protocol.rounds" in asked or not asked & {"protocol.budget_s", "protocol.margin"} or not isinstance(own, dict):
        return data
    rounds = own.get("rounds")
    fewer = type(rounds) is int and 1 <= rounds <= MOST_ROUNDS
    if not fewer or {"budget_s", "margin"} & set(own):
        return data
    return {**data, "protocol": {key: value for key, value in own.items() if key != "rounds"}}


def _overridden(data: Mapping[str, Any], override: str) -> dict[str, Any]:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ProfileError(f"--set {override}: write it as section.key=value, such as protocol.rounds=20")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        value = text  # a bare word is a string: --set task.kind=latency
    *sections, last = key.strip().split(".")
    table: Any = data
    for section in sections:
        table = table.get(section, {})
        if not isinstance(table, Mapping):
            raise ProfileError(f"--set {override}: {section} is not a section of a profile")
    written: dict[str, Any] = {last: value}
    for section in reversed(sections):
        written = {section: written}
    try:
        return merged(data, _absolute(written, Path.cwd(), context=data))
    except ProfileError as error:
        raise ProfileError(f"--set {key}: {error}") from error


def _read(path: Path) -> dict[str, Any]:
    """A profile laid on those that it extends."""
    files = _files(path, seen=())
    result: dict[str, Any] = {}
    for number, (file, data) in enumerate(files):
        context = merged(_types_said_by(files[number + 1 :]), result)
        try:
            result = merged(result, _absolute(data, file.parent, context))
        except (ProfileError, ModelError) as error:
            raise ProfileError(f"{file}: {error}") from error
    return result


def _files(path: Path, seen: tuple[Path, ...]) -> list[tuple[Path, dict[str, Any]]]:
    """A profile behind those that it extends, as they are written."""
    path = path.resolve()
    if path in seen:
        chain = " -> ".join(p.name for p in (*seen, path))
        raise ProfileError(f"{path}: extends runs in a circle ({chain}); remove one of them")
    try:
        text = _text_of(path)
        if _DEEP_KEY.search(text):  # whose time tomllib takes grows by the square of its parts
            raise RecursionError
        data = tomllib.loads(text)
    except FileNotFoundError as error:
        wanted = f", which {seen[-1]} extends" if seen else ""
        raise ProfileError(f"{path}: no such profile{wanted}{_similar_files(path)}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ProfileError(f"{path}: the profile cannot be read ({error})") from error
    except RecursionError as error:
        raise ProfileError(
            f"{path}: its arrays or tables are nested too deeply; a profile needs five levels"
        ) from error
    except ValueError as error:  # TOML's own, and that of a number with thousands of digits
        raise ProfileError(f"{path}: not valid TOML: {error}") from error
    base = data.pop("extends", None)
    if base is not None and not isinstance(base, str):
        raise ProfileError(f"{path}: extends must be the path of another profile, not {type(base).__name__}")
    return [*([] if base is None else _files(path.parent / base, (*seen, path))), (path, data)]


def _text_of(path: Path) -> str:
    """A profile's text. A device or a pipe is none: it might never end."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as stream:
        facts = os.fstat(stream.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise ProfileError(f"{path}: is no file; give a profile (.toml)")
        if facts.st_size > _LARGEST_BYTES:
            raise ProfileError(f"{path}: {facts.st_size} bytes are no profile; at most {_LARGEST_BYTES} are read")
        return stream.read().decode("utf-8")


def _types_said_by(files: Sequence[tuple[Path, Mapping[str, Any]]]) -> dict[str, Any]:
    """The kind of task and the model that the first of these files names: a base may leave both to those that extend
    it, and yet give keys that only some kinds and models have."""
    said: dict[str, Any] = {}
    for file, data in reversed(files):
        task, model = data.get("task"), data.get("model")
        if isinstance(task, Mapping) and isinstance(task.get("kind"), str):
            said["task"] = {"kind": task["kind"]}
        if isinstance(model, Mapping) and isinstance(model.get("path"), str):
            try:
                said["model"] = {"path": _absolute_path(model["path"], file.parent)}
            except ProfileError as error:
                raise ProfileError(f"{file}: {error}") from error
    return said


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid on `base`: tables merge key by key, everything else (lists too) is replaced. A task of another kind
    begins anew: the keys of the old one are none of its."""
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        if not isinstance(value, Mapping) or not isinstance(old, Mapping):
            result[key] = value
        elif key == "task" and "kind" in old and value.get("kind", old["kind"]) != old["kind"]:
            result[key] = dict(value)
        else:
            result[key] = merged(old, value)
    return result


def _absolute(data: Mapping[str, Any], folder: Path, context: Mapping[str, Any]) -> dict[str, Any]:
    """The data with relative paths taken from `folder`. `context`: the data that it is laid on, which may be what says
    of which types its sections are. Raises `ProfileError` also for keys that these types have not: here it is known
    which of several files wrote them."""

    def change(text: str) -> str:
        return _absolute_path(text, folder)

    refuse_unknown_sections(data)
    whole = merged(context, data)
    result = dict(data)
    if isinstance(result.get("model"), Mapping) and isinstance(result["model"].get("path"), str):
        result["model"] = {**result["model"], "path": change(result["model"]["path"])}
        whole = merged(whole, {"model": result["model"]})
    kind, runtime = section_types(whole)
    types = {"task": kind.section, "model": runtime.model_section, "protocol": ProtocolSection}
    for name, section in types.items():
        if isinstance(result.get(name), Mapping):
            refuse_unknown(result[name], section, name)
            if name != "model":
                result[name] = with_paths(result[name], section, change)
    if isinstance(result.get("variants"), list):
        result["variants"] = [with_paths(keys, FileVariantSection, change) for keys in result["variants"]]
        for number, keys in enumerate(result["variants"]):
            if isinstance(keys, Mapping) and keys.get("name"):
                section = variant_type(without_empty(keys), kind, runtime)
                refuse_unknown(without_empty(keys), section, f"variants[{number}]")
                result["variants"][number] = with_paths(keys, section, change)
    return result


def _absolute_path(text: str, folder: Path) -> str:
    if not text or text.startswith((EMBEDDED, hub.PREFIX)):
        return text
    try:
        return str((folder / Path(_filled_in(text)).expanduser()).resolve())
    except (RuntimeError, ValueError) as error:
        raise ProfileError(f"{text!r}: is not a path ({error}); write it out") from error


def _filled_in(text: str) -> str:
    """A path with its variables filled in. Only those that stand for places: a profile may come from a stranger, and
    what else the environment holds is not to be shown in a message, or recorded."""

    def value(match: re.Match[str]) -> str:
        name = match["braced"] or match["name"]
        if name not in VARIABLES and not name.startswith(OWN_VARIABLES):
            places = ", ".join(f"${one}" for one in VARIABLES)
            raise ProfileError(
                f"{text}: ${name} is not filled in; those that are: {places} and all that begin with "
                f"${OWN_VARIABLES}: export one of these, or write the path out"
            )
        found = os.environ.get(name)
        if found is None:
            raise ProfileError(f"{text}: set the environment variable that this path names, or write the path out")
        return found

    filled = _VARIABLE.sub(value, text)
    if "$" in _VARIABLE.sub("", text):
        raise ProfileError(f"{text}: holds a $ that names no variable: write the path out")
    return filled


def _similar_files(path: Path) -> str:
    siblings = [p.name for p in path.parent.glob("*.toml")] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, siblings, n=1)
    return f"; did you mean {path.parent / near[0]}?" if near else ""
