"""Trials on disk: each is a run of its own, kept as it ends; one that was interrupted goes on.

FOLDER/search.json          what is searched for: profile, variant, figure
FOLDER/start/               the baseline and the variant as it is, with the errors of its layers
FOLDER/trials/NNN/          trial.json: the layers in float; run/: the run
FOLDER/front/               the best of all, measured side by side at the end
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from qprof.errors import ModelError, ProfileError, StoreError
from qprof.findings.comparison import interventions_of
from qprof.findings.search.space import Cost
from qprof.findings.verify import measured_again, scores_alone
from qprof.measure.parent.execution import resume, start
from qprof.measure.profile import Profile, resolved, validate
from qprof.measure.progress import ProgressDisplay
from qprof.runtimes.interventions import Impossible, Section, short_digest
from qprof.store.files import make_folder, read_json, store_error, write_json
from qprof.store.run import Run
from qprof.tasks import registry as tasks

_SEARCH, _START, _TRIALS, _FRONT = "search.json", "start", "trials", "front"
_TRIAL, _RUN = "trial.json", "run"
_VERSION = 1
#: Samples on which layers are compared where the profile asks for none.
_LAYER_ERRORS = 8
#: What the search does not ask for.
_OFF = {"energy": "off", "stacks_s": 0.0, "ceilings": False, "plausibility": 0}


@dataclass(frozen=True, slots=True)
class Asked:
    """What is searched for. `variant`: the one whose layers are tried in float; `tolerance`: how far below the baseline
    a score is good enough, `None` for a tenth of the loss; `metric`: the score to go by, "" for the one that leads;
    `seed`: of the halves of the samples."""

    profile: dict[str, Any]
    variant: str
    figure: Cost
    tolerance: float | None = None
    metric: str = ""
    seed: int = 0


@dataclass(frozen=True)
class Trial:
    """One set of layers in float. `run`: what was measured, `name`: the variant in it; `reason`: why it has none."""

    number: int
    names: frozenset[str]
    why: str
    run: Run | None = None
    name: str = ""
    reason: str | None = None


@dataclass
class SearchFolder:
    """A search on disk."""

    folder: Path
    asked: Asked
    looks: list[str] = field(default_factory=list)  # names of what the report half was asked about, look by look

    @classmethod
    def create(cls, folder: Path, asked: Asked) -> SearchFolder:
        """Begin a search. Raises `StoreError` where the folder holds something already, `ProfileError` for a profile
        that is none."""
        validate(asked.profile, source="search")
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise StoreError(f"{folder}: exists already; go on with it by --resume, or choose another --output")
        make_folder(folder / _TRIALS)
        found = cls(folder, asked)
        found.save()
        return found

    @classmethod
    def open(cls, folder: Path) -> SearchFolder:
        """A search that was begun. Raises `StoreError` where there is none."""
        data = read_json(folder / _SEARCH)
        _refuse_links(folder)
        if not isinstance(data, dict) or data.get("version") != _VERSION:
            raise StoreError(f"{folder / _SEARCH}: is no search of this version of qprof; begin a new one")
        try:
            asked = msgspec.convert(data.get("asked"), Asked)
            profile = validate(asked.profile, source="what is searched for")
            if asked.variant not in {section.name for section in profile.variants}:
                raise ProfileError(f"asked.variant {asked.variant!r} is none of its profile")
            asked = replace(asked, profile=plain(profile))
            return cls(folder, asked, msgspec.convert(data.get("looks"), list[str]))
        except (msgspec.ValidationError, ProfileError) as error:
            raise StoreError(f"{folder / _SEARCH}: damaged ({error}); begin a new search") from error

    def save(self) -> None:
        """Write what is searched for."""
        write_json(self.folder / _SEARCH, {"version": _VERSION, "asked": asdict(self.asked), "looks": self.looks})

    def start(self, progress: ProgressDisplay) -> Run:
        """The baseline and the variant as it is: taken from the folder, or run. Raises what `qprof run` raises, and
        `ModelError` where one of the two could not be measured or the variant cannot be made with layers in float."""
        data = dict(self.asked.profile)
        protocol = {**data["protocol"], **_OFF, "profiled": True, "scored": True}
        protocol["layer_errors"] = max(_LAYER_ERRORS, int(protocol.get("layer_errors") or 0))
        run = self._run(self.folder / _START, {**data, "protocol": protocol}, progress)
        for entry in run.variants:
            if entry.failed:
                raise ModelError(f"{entry.name}: {entry.reason}")
        entry = run.variant(self.asked.variant)
        if (obstacle := interventions_of(entry).not_made_anew(entry)) is not None:
            raise ModelError(f"{entry.name}: {obstacle}")
        return run

    def trials(self) -> Iterator[Trial]:
        """The trials that were begun, in their order; those that were interrupted have neither run nor
        reason."""
        for path in sorted((self.folder / _TRIALS).glob(f"*/{_TRIAL}")):
            data = read_json(path)
            try:
                names = frozenset(msgspec.convert(data["skip_layers"], list[str]))
                found = Trial(
                    int(path.parent.name), names, str(data["why"]), None, str(data["name"]), data.get("reason")
                )
            except (KeyError, TypeError, ValueError, msgspec.ValidationError) as error:
                raise StoreError(f"{path}: damaged ({error}); remove {path.parent}") from error
            folder = path.parent / _RUN
            run = Run(folder) if (folder / "manifest.json").is_file() else None
            yield found if run is None or not run.complete else _ended(found, run)

    def carry_out(self, begun: Run, names: frozenset[str], why: str, progress: ProgressDisplay) -> Trial:
        """Run a trial, or go on with it. Raises what `qprof run` raises, but for a variant that cannot be made."""
        known = list(self.trials())
        same = next((trial for trial in known if trial.names == names), None)
        if same is not None and (same.run is not None or same.reason is not None):
            return same
        number = same.number if same is not None else 1 + max((trial.number for trial in known), default=0)
        section = self.section(begun, names)
        folder = self.folder / _TRIALS / f"{number:03d}"
        make_folder(folder)
        name = str(section["name"])
        told: dict[str, Any] = {"name": name, "skip_layers": sorted(names), "why": why}
        write_json(folder / _TRIAL, told)
        try:
            run = self._run(folder / _RUN, self._trial_profile(begun, section), progress)
        except ModelError as error:  # no variant of the run could be made; the others that a search tries can
            write_json(folder / _TRIAL, {**told, "reason": str(error)})
            return Trial(number, names, why, None, name, str(error))
        return _ended(Trial(number, names, why, None, name), run)

    def section(self, begun: Run, names: frozenset[str]) -> Section:
        """The variant with these layers in float. Raises `ModelError` where it cannot be made so."""
        entry = begun.variant(self.asked.variant)
        what = f"{len(names)}-in-float-{short_digest(*sorted(names))}"
        section = interventions_of(entry).layers_in_float(entry.section, sorted(names), what)
        if isinstance(section, Impossible):
            raise ModelError(f"{entry.name}: {section.reason}")
        return section

    def front(self, begun: Run, trials: list[Trial], progress: ProgressDisplay) -> Run:
        """Baseline, variant and these trials side by side, in a run of its own: what was chosen for its latency is
        measured again. A run of the same trials that was made before is taken from the folder."""
        sections = [self.section(begun, trial.names) for trial in trials]
        digest = short_digest(*(str(section["name"]) for section in sections))
        data = {**self.asked.profile, "variants": [*(entry.section for entry in begun.variants), *sections]}
        data["protocol"] = {**measured_again(data["protocol"]), "scored": True}
        return self._run(self.folder / _FRONT / digest, data, progress)

    def _trial_profile(self, begun: Run, section: Section) -> dict[str, Any]:
        """What has no labels is scored by its distance from the baseline, which then runs along; a latency is compared
        with the variant's own, round by round."""
        kind = tasks.of(begun.manifest.task)
        timed = self.asked.figure == "latency"
        first, own = (begun.variant(name).section for name in (begun.baseline, self.asked.variant))
        beside = [*([] if kind is not None and kind.labelled else [first]), *([own] if timed else [])]
        protocol = dict(self.asked.profile["protocol"])
        return {
            **self.asked.profile,
            "variants": [*beside, dict(section)],
            "protocol": {**(measured_again(protocol) if timed else scores_alone(protocol)), "scored": True},
        }

    def _run(self, folder: Path, data: Mapping[str, Any], progress: ProgressDisplay) -> Run:
        if not (folder / "manifest.json").is_file():
            start(validate(data, source=f"search {self.folder}"), folder, progress)
        elif not Run(folder).complete:
            resume(folder, progress)
        return Run(folder)


def plain(profile: Profile) -> dict[str, Any]:
    """A profile as plain data."""
    found: dict[str, Any] = msgspec.to_builtins(resolved(profile))
    return found


def _ended(trial: Trial, run: Run) -> Trial:
    entry = run.variant(trial.name)
    reason = str(entry.reason) if entry.failed else None
    return Trial(trial.number, trial.names, trial.why, None if entry.failed else run, trial.name, reason)


def _refuse_links(folder: Path) -> None:
    """Trials go on, and what is chosen is written, in whatever folder of a search a link leads to."""
    places = [folder / name for name in (_SEARCH, _START, _TRIALS, _FRONT, "recipes")]
    try:
        inside = [path for place in places if place.is_dir() for path in place.iterdir()]
        link = next((path for path in (*places, *inside, *(folder / _TRIALS).glob("*/*")) if path.is_symlink()), None)
    except OSError as error:
        raise store_error(folder, error) from error
    if link is not None:
        raise StoreError(f"{link}: is a link, which no search holds; copy the search with the files it links to")
