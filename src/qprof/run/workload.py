"""From a profile's task section to a task: data made ready once, then built alike in every worker."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import msgspec

from qprof.errors import DataError
from qprof.run.channel import json_safe
from qprof.run.profile import TaskSection
from qprof.runtimes.base import LanguageModel, Model
from qprof.store.cache import cache_root
from qprof.store.writer import save_predictions, save_scores, saved_predictions
from qprof.tasks.base import Task, TextTask

#: Scenes or passages of the data sets that qprof makes, unless the profile sets `limit`.
DEFAULT_SCENES = 300
DEFAULT_PASSAGES = 300


def prepare_task(section: Mapping[str, Any]) -> dict[str, Any]:
    """Make a task's data ready, once, before any worker starts.

    Makes the data sets "shapes" and "passages" in the cache, decodes every image to find the broken ones. Returns the
    section with paths filled in and broken samples listed ("skip"), the number of samples, a digest of the data, and
    notes. Raises `DataError`.
    """
    ready = dict(section)
    if ready["dataset"] == "shapes":
        ready |= _rendered_shapes(ready)
    if ready["dataset"] == "passages":
        ready |= _written_passages(ready)
    ready["skip"] = []
    task = build_task(ready)
    notes: list[str] = []
    check = getattr(task, "check", None)
    if check is not None:
        bad = check()
        ready["skip"] = [sample.image_id for sample in bad]
        notes += [f"left out: {sample.reason}" for sample in bad]
        task = build_task(ready)
    return {
        "task": ready,
        "samples": task.sample_count(),
        "calibration_digest": _text_digest(task, ready) if isinstance(task, TextTask) else _calibration_digest(ready),
        "notes": [*notes, *task.notes()],
    }


def bind_task(task: Task | TextTask, model: Model) -> None:
    """Fit a task to a loaded variant. Raises `DataError` where they do not go together."""
    if not isinstance(task, TextTask):
        task.bind(model.loaded.inputs, model.loaded.outputs, model.loaded.op_types)
    elif hasattr(model, "target_logits"):
        task.bind_language(cast(LanguageModel, model))
    else:
        raise DataError(f"a {task.name} task needs a language model; name a folder in Hugging Face's layout")


def build_task(ready: Mapping[str, Any]) -> Task | TextTask:
    """A task from a section that `prepare_task` returned (or, for the first look, was given)."""
    fields = {name: value for name, value in ready.items() if name != "skip"}
    section = msgspec.convert(fields, TaskSection)
    if section.kind == "latency":
        from qprof.tasks.latency import LatencyTask

        files = [Path(name) for name in section.inputs] or None
        return LatencyTask(files, samples=section.samples)
    if section.kind == "lastword":
        return _last_word(section)
    from qprof.tasks.detection import DetectionTask

    return DetectionTask(
        Path(section.annotations),
        Path(section.images),
        limit=section.limit,
        calibration_annotations=_path(section.calibration_annotations),
        calibration_images=_path(section.calibration_images),
        preprocess=section.preprocess,
        head=section.head,
        categories=section.categories,
        skip=list(ready.get("skip", ())),
    )


def score_variant(folder: Path, variant: str, section: Mapping[str, Any]) -> dict[str, Any]:
    """Score what a variant predicted in the blocks of an unfinished run; keep its scores and its results file there.

    Returns the task's leading metrics ("columns", empty where there is nothing to score) and "notes".
    """
    predictions = saved_predictions(folder, variant)
    if not predictions:
        return {"columns": [], "notes": []}
    save_predictions(folder, variant, _results(predictions))
    scores = build_task(section).score(predictions)
    if scores is None:
        return {"columns": [], "notes": []}
    rows: list[dict[str, Any]] = [
        {"variant": variant, "metric": metric, "sample": None, "value": value}
        for metric, value in scores.summary.items()
    ]
    rows += [
        {"variant": variant, "metric": metric, "sample": sample, "value": value}
        for metric, values in scores.per_sample.items()
        for sample, value in zip(scores.samples, values.tolist(), strict=True)
    ]
    save_scores(folder, variant, json_safe(rows))
    return {"columns": list(scores.columns), "notes": scores.notes}


def _results(predictions: Mapping[int, Any]) -> Any:
    """What a predictions file holds: one flat list where each prediction is a list (the COCO results format)."""
    values = [predictions[sample] for sample in sorted(predictions)]
    if all(isinstance(value, list) for value in values):
        return [item for value in values for item in value]
    return {str(sample): predictions[sample] for sample in sorted(predictions)}


def _path(text: str) -> Path | None:
    return Path(text) if text else None


def _rendered_shapes(section: Mapping[str, Any]) -> dict[str, Any]:
    from qprof.tasks import scenes

    # The scenes are what their source says: another version of it is another data set.
    version = hashlib.sha256(Path(scenes.__file__).read_bytes()).hexdigest()[:16]
    root = cache_root() / "scenes" / version
    count = section["limit"] or DEFAULT_SCENES
    filled: dict[str, Any] = {"limit": count}
    for split, wanted, prefix in (("val", count, ""), ("calibration", section["calibration_samples"], "calibration_")):
        folder = root / f"{split}-{wanted}"
        annotations = folder / "annotations.json"
        if not annotations.exists():
            annotations = scenes.write_split(folder, split, wanted)
        filled |= {f"{prefix}annotations": str(annotations), f"{prefix}images": str(folder / "images")}
    return filled


def _written_passages(section: Mapping[str, Any]) -> dict[str, Any]:
    from qprof.tasks import passages

    # The passages are what their source says: another version of it is another data set.
    version = hashlib.sha256(Path(passages.__file__).read_bytes()).hexdigest()[:16]
    root = cache_root() / "passages" / version
    count = section["limit"] or DEFAULT_PASSAGES
    filled: dict[str, Any] = {"limit": count}
    wanted = {"data": ("test", count), "calibration_data": ("calibration", section["calibration_samples"])}
    for key, (split, number) in wanted.items():
        folder = root / str(number)
        file = folder / f"{split}.jsonl"
        filled[key] = str(file if file.exists() else passages.write_split(folder, split, number))
    return filled


def _last_word(section: TaskSection) -> TextTask:
    from qprof.tasks.lastword import LastWordTask, Source

    calibration = Source(section.calibration_data, split=section.calibration_split, config=section.config or None)
    return LastWordTask(
        Source(section.data, split=section.split, config=section.config or None),
        limit=section.limit,
        reserve=0 if section.calibration_data else section.calibration_samples,
        protocol=section.scoring,
        bos=section.bos,
        batch_tokens=section.batch_tokens,
        calibration=calibration if section.calibration_data else None,
        calibration_tokens=section.calibration_tokens,
        samples=section.samples,
        prompt_tokens=section.prompt_tokens,
        batch=section.batch,
    )


def _text_digest(task: TextTask, section: Mapping[str, Any]) -> str:
    """Stands for the calibration sequences, apart from the tokenizer, which is the model's."""
    try:
        return task.calibration_digest(int(section["calibration_samples"]))
    except DataError as error:
        # Too few rows are no fault where no variant needs calibration; one that does will say the same.
        return hashlib.sha256(str(error).encode()).hexdigest()


def _calibration_digest(section: Mapping[str, Any]) -> str:
    """Stands for the calibration samples: equal digests must mean equal samples."""
    parts: list[Any] = [section["kind"], section["preprocess"], section["calibration_samples"], section["samples"]]
    for key in ("annotations", "calibration_annotations"):
        parts.append(_file_digest(section[key]) if section[key] else None)
    for key in ("images", "calibration_images"):
        parts.append(_folder_listing(Path(section[key])) if section[key] else None)
    parts += [section["limit"], section["skip"], [_file_digest(name) for name in section["inputs"]]]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _file_digest(name: str) -> str:
    try:
        return hashlib.sha256(Path(name).read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error.strerror}); check the path") from error


def _folder_listing(folder: Path) -> list[list[Any]]:
    """Names, sizes and times of a folder's files: reading gigabytes of images only to name them would be too dear."""
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    stats = [(entry.name, entry.stat()) for entry in entries if entry.is_file()]
    return [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]
