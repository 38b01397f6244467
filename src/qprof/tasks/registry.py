"""Finding a task: every package of `qprof.tasks` that has a module `kind`, and every entry point of the group
"qprof.tasks" of another distribution, is one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec

import qprof.tasks
from qprof.errors import ProfileError
from qprof.extensions import Extensions
from qprof.record.manifest import PreparedTask
from qprof.record.model import PromptShape
from qprof.record.nearest import nearest
from qprof.record.sections import TaskSection
from qprof.tasks.base import Task, TaskKind

_TASKS = Extensions("qprof.tasks", qprof.tasks.__path__, "kind", "KIND")


def names() -> list[str]:
    """The kinds of task that this qprof has."""
    return _TASKS.names()


def get(name: str) -> TaskKind[Any]:
    """A kind of task by name. Raises `ProfileError` for an unknown one."""
    try:
        return cast(TaskKind[Any], _TASKS.get(name))
    except KeyError:
        raise ProfileError(f"no task is called {name!r}; {nearest(name, names())}") from None


def of(prepared: PreparedTask | None) -> TaskKind[Any] | None:
    """The kind of a run's task, `None` where it was not recorded or this qprof does not have it."""
    return get(prepared.kind) if prepared is not None and prepared.kind in names() else None


def for_data(data: str, labels: str, truth: str, calibrated: bool) -> dict[str, Any]:
    """The section of the first kind that takes labelled data of a command line; see `TaskKind.for_data`. Raises
    `ProfileError` where none does."""
    for name in names():
        if (section := get(name).for_data(data, labels, truth, calibrated)) is not None:
            return section
    raise ProfileError(f"{data}: no task takes labelled data; there are {', '.join(names())}")


def build(prepared: PreparedTask, at_least: int | None = None) -> Task:
    """A task whose data are ready; where its samples are made, `at_least` so many of them."""
    kind, section = _section(prepared.section)
    return kind.build(section if at_least is None else kind.with_samples(section, at_least), prepared.skip)


def prompts(prepared: PreparedTask) -> PromptShape | None:
    """What a task on text times, `None` for others."""
    kind, section = _section(prepared.section)
    return kind.prompts(section)


def _section(keys: Mapping[str, Any]) -> tuple[TaskKind[Any], TaskSection]:
    kind = get(str(keys["kind"]))
    return kind, msgspec.convert(keys, kind.section)
