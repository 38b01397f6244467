"""From the class of a sample, as the data have it, to the output of the model that stands for it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from qprof.errors import DataError
from qprof.tasks.classification.data.examples import Labels
from qprof.tasks.classification.data.folders import text_of

#: What an output that stands for none of the classes is called.
BACKGROUND = frozenset({"background", "__background__", "dummy", "none", "???", "unknown", ""})
#: Classes that an error or a note names.
_NAMED = 3

_NUMBERED = re.compile(r"^\s*(\d+)\s*[:,\t ]\s*(.*?)\s*$", re.ASCII)
_WORDNET = re.compile(r"^n\d{8}$", re.ASCII)


@dataclass(frozen=True, slots=True)
class ClassNames:
    """What the outputs of a model are called, in their order, by its file of labels."""

    path: Path
    names: Sequence[str]

    def find(self, name: str) -> int | None:
        """The output of that name: of the whole line, one of its names that commas part, or its WordNet id; `None`
        where there is none. Raises `DataError` for a name of several."""
        wanted = _plain(name)
        for found in (
            [n for n, line in enumerate(self.names) if _plain(line) == wanted],
            [n for n, line in enumerate(self.names) if wanted in _parts(line)],
        ):
            if len(found) > 1:
                which = ", ".join(map(str, found[:_NAMED]))
                raise DataError(f"{self.path}: {name!r} is the name of {len(found)} classes ({which}): number them")
            if found:
                return found[0]
        return None


def read_names(path: Path) -> ClassNames:
    """A name on each line, or behind its number on each line, or JSON: a list, or names (or lists that end in one) by
    number. Raises `DataError`."""
    text = text_of(path)
    if path.suffix.lower() == ".json":
        return ClassNames(path, _from_json(path, text))
    lines = [line.strip() for line in text.splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise DataError(f"{path}: is empty: write the name of a class on each line, in the order of the outputs")
    matches = [_NUMBERED.match(line) for line in lines if line]
    numbers = [int(match[1]) for match in matches if match]
    if len(numbers) == len(matches) and sorted(set(numbers)) == sorted(numbers) and max(numbers) < 100_000:
        named = {int(match[1]): match[2] for match in matches if match}
        return ClassNames(path, [named.get(number, "") for number in range(max(numbers) + 1)])
    return ClassNames(path, lines)


def _from_json(path: Path, text: str) -> list[str]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not valid JSON ({error}): export it again") from error
    if isinstance(found, Mapping):
        if not all(key.isascii() and key.isdecimal() and int(key) < 100_000 for key in found) or not found:
            raise DataError(f'{path}: its keys are no class numbers: write {{"0": "name", ...}}, or a list of names')
        by_number = {int(key): value for key, value in found.items()}
        found = [by_number.get(number, "") for number in range(max(by_number) + 1)]
    # imagenet_class_index.json of Keras has ["n01440764", "tench"].
    named = [", ".join(map(str, name)) if isinstance(name, list) else name for name in found] if found else []
    if not isinstance(found, list) or not named or not all(isinstance(name, str) for name in named):
        raise DataError(f"{path}: is no list of names: write the names of the classes in the order of the outputs")
    return named


def called(labels: Labels, outputs: Sequence[str], where: str) -> ClassNames | None:
    """What the model itself calls its outputs, where all classes of the data go by these names; else `None`."""
    if labels.names is None or labels.ordered or not set(labels.names) <= set(outputs):
        return None
    return ClassNames(Path(where), list(outputs))


@dataclass(frozen=True, slots=True)
class ClassMap:
    """The outputs that the data's classes stand for. `outputs`: of the model; `of`: number in the data -> output."""

    outputs: int
    of: Mapping[int, int]
    offset: int
    notes: list[str] = field(default_factory=list)


def mapped(
    labels: Labels,
    where: str,
    outputs: int,
    names: ClassNames | None,
    offset: int | None = None,
    order: Sequence[int] | None = None,
) -> ClassMap:
    """Match the data's classes to a model of so many outputs.

    `offset`: what is added to a class's number to have its output, `None` to find it: a model with one output more than
    there are classes has a background class first. `order`: the output of each class by itself. Raises `DataError`.
    """
    used = sorted(set(labels.numbers))
    notes = _remarks(labels, where, used, names)
    shift = 0
    if order is not None:
        wrong = [n for n in order if not 0 <= n < outputs]
        if wrong or used[-1] >= len(order):
            raise DataError(
                f"order has {len(order)} numbers{f', {wrong[0]} among them' if wrong else ''}: give one for each class "
                f"of the data, below {outputs}"
            )
        return ClassMap(outputs, {number: order[number] for number in used}, 0, notes)
    base, count = _numbered(labels, where, used, names)
    if offset is not None:
        shift = offset
    else:
        shift, said = _offset(count, outputs, where, names, used)
        notes += said
    found = {number: place + shift for number, place in base.items()}
    outside = [number for number in used if not 0 <= found[number] < outputs]
    if outside:
        one = outside[0]
        raise DataError(
            f"{where}: class {_name(labels, one)!r} would be output {found[one]} of a model that has {outputs}: name "
            "the model's classes by a file (labels), or set offset"
        )
    return ClassMap(outputs, found, shift, notes)


def _numbered(
    labels: Labels, where: str, used: Sequence[int], names: ClassNames | None
) -> tuple[dict[int, int], int | None]:
    """The data's number -> the number among all classes, and how many these are, `None` where nothing tells."""
    if names is None:
        return {number: number for number in used}, labels.count
    if labels.names is None:
        return {number: number for number in used}, len(names.names)
    base, missing = {}, []
    for number in used:
        place = names.find(labels.names[number])
        if place is None:
            missing.append(labels.names[number])
        else:
            base[number] = place
    if missing:
        raise DataError(
            f"{names.path}: has no class {', '.join(map(repr, missing[:_NAMED]))} "
            f"({len(missing)} of {len(used)} classes of {where}): name them alike"
        )
    return base, len(names.names)


def _offset(
    count: int | None, outputs: int, where: str, names: ClassNames | None, used: Sequence[int]
) -> tuple[int, list[str]]:
    source = where if names is None else str(names.path)
    if count is None and used[0] >= 1 and used[-1] == outputs:
        return -1, [
            f"{where} numbers its classes from 1 to {outputs}: class 1 is taken for output 0; set offset if not"
        ]
    if count is None:
        note = f"{where} numbers its classes, and class n is taken for output n of {outputs}: set offset, or labels"
        return 0, [note]
    if count == outputs:
        return 0, []
    if outputs == count + 1 and count > 1:
        return 1, [
            f"the model has one output more than {source} has classes ({outputs} and {count}): output 0 is taken for a "
            "background class; set offset = 0 if it is none"
        ]
    if names is not None and count == outputs + 1 and _plain(names.names[0]) in BACKGROUND:
        return -1, [f"{source} begins with {names.names[0]!r}, for which the model has no output: class 1 is output 0"]
    remedy = "give the file of labels that belongs to the model" if names else "name the model's classes (labels)"
    raise DataError(f"{source} has {count} classes, the model has {outputs} outputs: {remedy}")


def _remarks(labels: Labels, where: str, used: Sequence[int], names: ClassNames | None) -> list[str]:
    notes = []
    if names is not None:
        plain = Counter(_plain(name) for name in names.names if _plain(name) not in BACKGROUND)
        twice = [name for name, count in plain.items() if count > 1]
        if twice:
            notes.append(
                f"{names.path.name} gives the same name to more than one class ({len(twice)} such, e.g. {twice[0]!r}): "
                "number the samples of these"
            )
    if len(used) == 1:
        notes.append(
            f"all samples of {where} are of one class ({_name(labels, used[0])!r}): a model that always says it scores "
            "1; add samples of others"
        )
    if names is None and labels.names is not None and not labels.ordered:
        notes.append(
            f"the classes of {where} are taken in the order of their names ({', '.join(labels.names[:_NAMED])}"
            f"{', ...' if len(labels.names) > _NAMED else ''}): give the model's file of labels if it has another"
        )
    return notes


def _name(labels: Labels, number: int) -> str:
    return str(number) if labels.names is None else labels.names[number]


def _plain(name: str) -> str:
    """A name without case, and with the marks between its words as spaces."""
    return " ".join(name.lower().replace("_", " ").replace("-", " ").split())


def _parts(line: str) -> set[str]:
    """The names of a line such as "n01440764 tench, Tinca tinca"."""
    first, _, rest = line.partition(" ")
    parts = line.split(",")
    if _WORDNET.match(first.rstrip(",")):
        parts += [first.rstrip(","), rest, *rest.split(",")]
    return {_plain(part) for part in parts} - {""}
