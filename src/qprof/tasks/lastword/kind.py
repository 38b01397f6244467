"""The last word of a text, as a kind of task."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from qprof.errors import DataError, ProfileError
from qprof.record.manifest import PreparedTask
from qprof.record.sections import Positive
from qprof.store.cache import cache_root
from qprof.tasks import digests
from qprof.tasks.base import HarnessResults, Prepared
from qprof.tasks.lastword.task import LastWordTask
from qprof.tasks.lastword.text_kind import TextKind, TextSection, calibration_stands_for

if TYPE_CHECKING:
    from qprof.store.run import Run
    from qprof.tasks.shown import ShownSample

#: Passages of the data set that qprof makes, unless the profile sets `limit`.
DEFAULT_PASSAGES = 300


class LastWordSection(TextSection, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`data`: a JSONL file with a "text" per line or a data set of the Hugging Face hub ("hf://datasets/ORG/NAME", with
    `config` and `split`), or `dataset = "passages"`, text made by qprof.

    `scoring` names the protocol that leads the table, `bos` whether a text begins with that token. Calibration takes
    other text, `calibration_data`, or unless `limit` says otherwise the last `calibration_samples` texts of `data`.
    `samples` prompts are timed; a prompt is `batch` rows of `prompt_tokens` tokens, and `generated_tokens` are decoded
    behind it.
    """

    kind: Literal["lastword"] = "lastword"
    dataset: Literal["", "passages"] = ""
    scoring: Literal["lambada_openai", "next-token", "last-token"] = "lambada_openai"
    bos: Literal["auto", "add", "none"] = "auto"
    batch_tokens: Positive = 4096


class LastWordKind(TextKind[LastWordSection]):
    """The last word of every text, as LAMBADA asks for it."""

    name = "lastword"
    section = LastWordSection
    settings_tried = True
    hub_task = "text-generation"

    def check(self, section: LastWordSection) -> None:
        if not section.dataset and not section.data:
            raise ProfileError('a lastword task needs data, or dataset = "passages"')

    def prepare(self, section: LastWordSection) -> Prepared:
        ready = _written(section) if section.dataset == "passages" else section
        task = self.build(ready, ())
        prepared = PreparedTask(section=msgspec.to_builtins(ready))
        calibrated = calibration_stands_for(lambda: task.calibration_digest(ready.calibration_samples))
        return Prepared(prepared, task.sample_count(), calibrated, task.notes())

    def build(self, section: LastWordSection, skip: Sequence[int]) -> LastWordTask:
        return LastWordTask(
            section.source(),
            limit=section.limit,
            reserve=0 if section.calibration_data else section.calibration_samples,
            protocol=section.scoring,
            bos=section.bos,
            batch_tokens=section.batch_tokens,
            calibration=section.calibration_source(),
            calibration_tokens=section.calibration_tokens,
            samples=section.samples,
            prompt_tokens=section.prompt_tokens,
            batch=section.batch,
        )

    def shown(self, run: Run, variants: Sequence[str], count: int) -> Iterable[ShownSample]:
        from qprof.tasks.lastword.shown import shown

        return shown(run, variants, count)

    def harness_results(self, run: Run, variant: str) -> HarnessResults:
        from qprof.tasks.lastword.harness import harness_results

        task = run.manifest.task
        if task is None:
            raise DataError(f"{run.folder}: its task is not recorded")
        built = self.build(msgspec.convert(task.section, LastWordSection), task.skip)
        return harness_results(run.folder, variant, built, str(task.section["data"]))


def _written(section: LastWordSection) -> LastWordSection:
    from qprof.tasks.lastword import passage_words, passages

    root = cache_root() / "passages" / digests.of_source(passages, passage_words)
    count = section.limit or DEFAULT_PASSAGES
    filled: dict[str, Any] = {"limit": count}
    wanted = {"data": ("test", count), "calibration_data": ("calibration", section.calibration_samples)}
    for key, (split, number) in wanted.items():
        folder = root / str(number)
        file = folder / f"{split}.jsonl"
        filled[key] = str(file if file.exists() else passages.write_split(folder, split, number))
    return msgspec.structs.replace(section, **filled)


KIND = LastWordKind()
