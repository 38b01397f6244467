"""What a search came to: its front, told by the half of the samples that played no part in it, and files to use it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qprof.findings.latency import p50_us, request_ratio
from qprof.findings.search.halves import Half, difference, half_of, score
from qprof.findings.search.search import Point, Search, told
from qprof.findings.search.toml import toml
from qprof.findings.search.trials import Trial
from qprof.measure.models import model_path, runtime_of
from qprof.measure.profile import validate
from qprof.record.sections import ProtocolSection
from qprof.runtimes.interventions import Section, short_digest
from qprof.stats.intervals import Interval
from qprof.stats.multiplicity import simultaneous_level
from qprof.stats.verdict import Effect
from qprof.store.files import make_folder, write_json, write_text
from qprof.store.run import Run
from qprof.tasks import registry as tasks

_LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Member:
    """One of the front. `selection`, `report`: its score on either half; `gained`: over the variant as it is, and
    `lost`: against the baseline (negative: worse), both on the report half, `None` for itself. `p50_us`, `ratio`:
    latency, and as a ratio to the variant as it is, measured when all were chosen; `cost`: what it was chosen by."""

    name: str
    layers: tuple[str, ...]
    why: str
    selection: float | None
    report: float | None
    gained: Interval | None
    lost: Interval | None
    cost: float | None
    bytes: int | None
    p50_us: Interval | None
    ratio: Interval | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """`level`: of every interval, so that all of this and of earlier looks hold together at 95 %. `recipe`: the file
    for the tool that makes the chosen variant, `None` where its method has no such format; `profile`: a profile that
    runs it; `usage`: what reads the recipe, and how."""

    metric: str
    figure: str
    baseline: str
    variant: str
    chosen: str
    good_enough: bool
    trials: int
    failed: int
    members: list[Member]
    level: float
    look: int
    samples: dict[str, int]
    recipe: Path | None
    usage: str
    profile: Path
    files: dict[str, Path]


def outcome(search: Search, measure: bool = True) -> Outcome:
    """The front of a search. With `measure` its latencies are measured anew, side by side.

    Raises what `qprof run` raises, and `StoreError` where there is no front.
    """
    kept, begun, asked = search.kept, search.begun, search.kept.asked
    chosen = search.chosen()
    shown = told(search.front(), chosen)
    trials = [point.trial for point in shown if point.trial.names]
    run = kept.front(begun, trials, search.progress) if measure and asked.figure == "latency" and trials else None
    level, look = _level(search, shown)
    files = _written(search, shown, chosen)
    members = [_member(search, point, run, level) for point in (*shown, _baseline(search))]
    return Outcome(
        metric=search.metric,
        figure=asked.figure,
        baseline=begun.baseline,
        variant=asked.variant,
        chosen=chosen.trial.name,
        good_enough=(chosen.score or 0.0) >= search.enough,
        trials=len(search.points),
        failed=sum(point.trial.reason is not None for point in search.points),
        members=members,
        level=level,
        look=look,
        samples=_samples(search),
        recipe=files.get(f"{chosen.trial.name}.json"),
        usage=_recipe_usage(search, chosen),
        profile=files["chosen.toml"],
        files=files,
    )


def _level(search: Search, shown: Sequence[Point]) -> tuple[float, int]:
    """Level of each interval, and how many times the report half was looked at. Look k may err in 0.05 / (k (k + 1)) of
    all searches, which adds up to 0.05 however many there are; each look divides its part among its intervals."""
    this = short_digest(*(point.trial.name for point in shown))
    if this not in search.kept.looks:
        search.kept.looks.append(this)
        search.kept.save()
    look = search.kept.looks.index(this) + 1
    error = (1.0 - _LEVEL) / (look * (look + 1))
    # Each member but the two that are compared with is told by two differences, of these two by one.
    return simultaneous_level(1.0 - error, 2 * sum(bool(point.trial.names) for point in shown) + 1), look


def _samples(search: Search) -> dict[str, int]:
    """How many samples each half has."""
    scored = {row.sample for row in search.begun.scores if row.sample is not None}
    halves = [half_of(sample, search.kept.asked.seed) for sample in scored]
    both: tuple[Half, Half] = ("selection", "report")
    return {half: halves.count(half) for half in both}


def _baseline(search: Search) -> Point:
    begun = search.begun
    trial = Trial(0, frozenset(), "the baseline", begun, begun.baseline)
    if search.kept.asked.figure == "size":
        cost = begun.variant(begun.baseline).bytes
        return Point(trial, search.baseline_score, None if cost is None else float(cost))
    ratio = request_ratio(begun, search.kept.asked.variant, begun.baseline)
    return Point(trial, search.baseline_score, None if ratio is None else math.exp(ratio.value))


def _member(search: Search, point: Point, run: Run | None, level: float) -> Member:
    trial, begun, seed = point.trial, search.begun, search.kept.asked.seed
    assert trial.run is not None  # of a front
    own = (trial.run, trial.name)
    start, baseline = (begun, search.kept.asked.variant), (begun, begun.baseline)
    is_start, is_baseline = own == start, own == baseline
    gained = None if is_start or is_baseline else difference(start, own, search.metric, "report", seed)
    lost = None if is_baseline else difference(baseline, own, search.metric, "report", seed)
    timed = run or (begun if is_start or is_baseline else trial.run)
    by_latency = search.kept.asked.figure == "latency"
    ratio = request_ratio(timed, search.kept.asked.variant, trial.name) if by_latency and not is_start else None
    return Member(
        name=trial.name,
        layers=tuple(sorted(trial.names)),
        why=trial.why,
        selection=point.score,
        report=score(own, search.metric, "report", seed),
        gained=_interval(gained, level),
        lost=_interval(lost, level),
        cost=point.cost,
        bytes=trial.run.variant(trial.name).bytes,
        p50_us=p50_us(timed, trial.name) if by_latency else None,
        ratio=_interval(ratio, level),
    )


def _interval(effect: Effect | None, level: float) -> Interval | None:
    return None if effect is None else effect.interval(level)


# -- files --------------------------------------------------------------------------------------------------------


def _written(search: Search, shown: Sequence[Point], chosen: Point) -> dict[str, Path]:
    """Recipes of all members in the format of the tool, the chosen one as a profile, and all of them as one."""
    folder = search.kept.folder / "recipes"
    make_folder(folder)
    found: dict[str, Path] = {}
    for point in shown:
        made = _recipe(search, point)
        if made is not None:
            found[f"{point.trial.name}.json"] = folder / f"{point.trial.name}.json"
            write_json(folder / f"{point.trial.name}.json", made.content)
    for name, points in (("chosen.toml", [chosen]), ("front.toml", shown)):
        found[name] = search.kept.folder / name
        write_text(found[name], profile_text(search, points), follow=False)
    return found


def _section(search: Search, point: Point) -> Section:
    """The section of a point's variant, as a profile has it."""
    if not point.trial.names:
        return search.begun.variant(search.kept.asked.variant).section
    return search.kept.section(search.begun, point.trial.names)


def _recipe(search: Search, point: Point) -> Any:
    data = search.kept.asked.profile
    model = str(data["model"].get("path", ""))
    section = validate({**data, "variants": [dict(_section(search, point))]}, source="search").variants[0]
    kind = tasks.get(str(data["task"]["kind"]))
    return runtime_of(model, kind.gives).recipe(model_path(model), section)


def _recipe_usage(search: Search, point: Point) -> str:
    made = _recipe(search, point)
    return "" if made is None else f"{made.tool}: {made.usage}"


def profile_text(search: Search, points: Sequence[Point]) -> str:
    """A profile in TOML: the search's own with the baseline, the variant as it is, and these."""
    data = search.kept.asked.profile
    begun = search.begun
    sections = [*(entry.section for entry in begun.variants), *(_section(search, p) for p in points if p.trial.names)]
    defaults = {name: getattr(ProtocolSection(), name) for name in ProtocolSection.__struct_fields__}
    protocol = {key: value for key, value in data["protocol"].items() if value != defaults.get(key)}
    whole: dict[str, Any] = {
        "name": data["name"],
        "description": f"{search.kept.asked.variant} with layers in float, chosen by qprof search",
        "variants": [_bare(section) for section in sections],
        "model": _bare(data["model"]),
        "task": _bare(data["task"]),
        "protocol": protocol,
    }
    return toml({key: value for key, value in whole.items() if value})


def _bare(section: Mapping[str, Any]) -> dict[str, Any]:
    """A section without what is as good as left out."""
    return {
        key: _bare(value) if isinstance(value, Mapping) else value
        for key, value in section.items()
        if not (value is None or value == "" or value == [] or value == {})
    }
