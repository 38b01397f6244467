"""Profiles: what one experiment is, every section of the type that its task, runtime and method give it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from qprof.errors import ModelError, ProfileError
from qprof.measure.keys import converted
from qprof.measure.models import runtime_of
from qprof.record.manifest import RecordedProfile
from qprof.record.nearest import nearest
from qprof.record.sections import ModelSection, Name, ProtocolSection, TaskSection, VariantSection
from qprof.runtimes.base import Runtime
from qprof.stats.sequential import MOST_ROUNDS
from qprof.tasks import registry as tasks
from qprof.tasks.base import TaskKind

#: The task of a profile that names none.
DEFAULT_TASK = "latency"

_KEYS = ("name", "description", "model", "variants", "task", "protocol")


@dataclass(frozen=True, slots=True)
class Profile:
    """One experiment, as resolved: `extends` followed, overrides applied, paths absolute. The first variant is the
    baseline."""

    name: str
    model: ModelSection
    variants: tuple[VariantSection, ...]
    task: TaskSection
    protocol: ProtocolSection
    description: str = ""


class _Head(msgspec.Struct, frozen=True):
    """The keys of a profile that stand in no section."""

    name: Name
    description: str = ""


def validate(data: Mapping[str, Any], source: str) -> Profile:
    """A profile from plain data; `source` is named in errors. Raises `ProfileError`."""
    try:
        return _validated(data)
    except (ProfileError, ModelError) as error:
        raise ProfileError(f"{source}: {error}") from error


def resolved(profile: Profile) -> RecordedProfile:
    """The profile as plain data, every default spelled out (what the manifest keeps)."""
    return RecordedProfile(
        name=profile.name,
        description=profile.description,
        model=msgspec.to_builtins(profile.model),
        variants=[msgspec.to_builtins(section) for section in profile.variants],
        task=msgspec.to_builtins(profile.task),
        protocol=profile.protocol,
    )


def validate_recorded(profile: RecordedProfile, source: str) -> Profile:
    """The profile that a manifest keeps. Raises `ProfileError` where this qprof does not take it."""
    return validate(msgspec.to_builtins(profile), source)


def refuse_unknown_sections(data: Mapping[str, Any]) -> None:
    """Raise `ProfileError` at the first key of a profile that is no section."""
    for key in data:
        if key not in _KEYS:
            raise ProfileError(f"unknown key {key}; {nearest(str(key), _KEYS)}")


def section_types(data: Mapping[str, Any]) -> tuple[TaskKind[Any], Runtime]:
    """The kind of a profile's task, and the runtime of its model. Raises `ProfileError`, `ModelError`."""
    task = data.get("task")
    name = task.get("kind", DEFAULT_TASK) if isinstance(task, Mapping) else DEFAULT_TASK
    if not isinstance(name, str):
        raise ProfileError(f"task.kind: Expected `str`, got `{type(name).__name__}`")
    try:
        kind = tasks.get(name)
    except ProfileError as error:
        raise ProfileError(f"task.kind: {error}") from error
    model = data.get("model")
    path = model.get("path", "") if isinstance(model, Mapping) else ""
    return kind, runtime_of(path if isinstance(path, str) else "", kind.gives)


def variant_type(keys: Any, kind: TaskKind[Any], runtime: Runtime) -> type[VariantSection]:
    """The section of a variant that is given these keys, of a model that `runtime` takes unless it has a file of its
    own. Raises `ProfileError`, `ModelError`."""
    if not isinstance(keys, Mapping):
        return VariantSection
    file = keys.get("file")
    own = runtime_of(file, kind.gives, runtime) if isinstance(file, str) and file else runtime
    return own.variant_section(keys)


def without_empty(keys: Mapping[str, Any]) -> dict[str, Any]:
    """A variant's keys without those that are as good as left out: a method or a file of no name."""
    return {key: value for key, value in keys.items() if not (key in ("file", "method") and value == "")}


def _validated(data: Mapping[str, Any]) -> Profile:
    refuse_unknown_sections(data)
    head = converted({key: data[key] for key in ("name", "description") if key in data}, _Head, "")
    kind, runtime = section_types(data)
    task = converted({"kind": kind.name, **_table(data, "task")}, kind.section, "task")
    kind.check(task)
    model = converted(_table(data, "model"), runtime.model_section, "model")
    asked = _table(data, "protocol")
    protocol = converted(asked, ProtocolSection, "protocol")
    if protocol.adaptive and "rounds" not in asked:
        protocol = msgspec.structs.replace(protocol, rounds=MOST_ROUNDS)
    listed = data.get("variants", list(runtime.default_variants))
    if not isinstance(listed, list):
        raise ProfileError(f"variants: Expected `list`, got `{type(listed).__name__}`")
    variants = tuple(_variant(keys, number, kind, runtime, model) for number, keys in enumerate(listed))
    _check_names(variants)
    _check_protocol(protocol, runtime)
    if protocol.samples is not None and not kind.labelled:
        raise ProfileError(
            f"protocol.samples: a {kind.name} task has no labels to score samples by; protocol.output_samples says on "
            "how many inputs outputs are compared"
        )
    return Profile(head.name, model, variants, task, protocol, head.description)


def _table(data: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = data.get(name, {})
    if not isinstance(found, Mapping):
        raise ProfileError(f"{name}: Expected `table`, got `{type(found).__name__}`")
    return dict(found)


def _variant(keys: Any, number: int, kind: TaskKind[Any], runtime: Runtime, model: ModelSection) -> VariantSection:
    """A variant by its table, or by its name alone."""
    where = f"variants[{number}]"
    if isinstance(keys, str):
        keys = {"name": keys}
    if not isinstance(keys, Mapping):
        raise ProfileError(f"{where}: Expected `str | table`, got `{type(keys).__name__}`")
    keys = without_empty(keys)
    converted({"name": keys["name"]} if "name" in keys else {}, VariantSection, where)
    if not model.path and not keys.get("file"):
        raise ProfileError(f"variant {keys['name']!r} needs model.path or a file of its own")
    try:
        section = variant_type(keys, kind, runtime)
    except ProfileError as error:
        raise ProfileError(f"{where}: {error}") from error
    return converted(keys, section, where)


def _check_names(variants: tuple[VariantSection, ...]) -> None:
    names = [section.name for section in variants]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if not variants:
        raise ProfileError("variants is empty; name at least one, the first is the baseline")
    if repeated:
        raise ProfileError(f"two variants are named {repeated[0]!r}; give each its own name")


def _check_protocol(protocol: ProtocolSection, runtime: Runtime) -> None:
    """What of the protocol is for some runtimes alone."""
    device = protocol.device.partition(":")[0]
    if device not in runtime.devices:
        raise ProfileError(
            f"protocol.device: {device!r} is not what {runtime.name} runs on; {', '.join(runtime.devices)}"
        )
    if protocol.delegate != ProtocolSection().delegate and protocol.delegate not in runtime.delegates:
        raise ProfileError(f"protocol.delegate: {runtime.name} hands its ops to no delegate; leave it out")
