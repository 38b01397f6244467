"""A variant's own batch: it reaches the model's options and the task's inputs of that variant alone."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from qprof.errors import ProfileError
from qprof.measure.parent.process import Bounds
from qprof.measure.parent.variants import Crew
from qprof.measure.profile import resolved, validate
from qprof.measure.requests import LoadedAnswer, LoadVariant, Request
from qprof.record.manifest import Manifest, Memory, PreparedTask, VariantEntry
from qprof.runtimes.litert.runtime import LiteRTRuntime
from qprof.runtimes.torch_lm.runtime import TorchLMRuntime

TASK = {"kind": "lastword", "dataset": "passages", "batch": 2}


class Asked(Crew):
    """Notes what workers are asked."""

    requests: dict[str, LoadVariant]

    def _worker(self, entry: VariantEntry) -> Any:
        """None is started."""
        return None

    def ask(self, entry: VariantEntry, request: Request[Any]) -> Any:
        assert isinstance(request, LoadVariant)
        self.requests[entry.name] = request
        return LoadedAnswer(
            inputs=[], outputs=[], phases=[], structure="modules", facts={}, memory=Memory(), scored=0, notes=[]
        )


def test_it_replaces_the_tasks_for_one_variant(tmp_path: Path) -> None:
    data = {
        "name": "p",
        "model": {"path": "org/m"},
        "variants": ["bfloat16", {"name": "more", "method": "gptq-4bit", "batch": 8}],
        "task": TASK,
        "protocol": {"profiled": False},
    }
    profile = validate(data, "test")
    plain = resolved(profile)
    entries = [
        VariantEntry(name=section["name"], section=section, runtime="torch_lm", path="m") for section in plain.variants
    ]
    task = PreparedTask(section=plain.task)
    manifest = Manifest(created="2026-01-01T00:00:00+00:00", profile=plain, task=task, variants=entries)
    writer = SimpleNamespace(folder=tmp_path, manifest=manifest, save_manifest=lambda: None)
    crew = Asked(writer, profile, SimpleNamespace(phase=lambda *words: None), Bounds())  # type: ignore[arg-type]
    crew.requests = {}
    crew.load_all()
    seen = {name: (r.variant.options["batch"], r.task.section["batch"]) for name, r in crew.requests.items()}
    assert seen == {"bfloat16": (2, 2), "more": (8, 8)}
    assert [entry.options["batch"] for entry in entries] == [2, 8]
    assert manifest.task is not None
    assert manifest.task.section["batch"] == 2
    assert {name: r.task.section | {"batch": 2} for name, r in crew.requests.items()} == {
        "bfloat16": task.section,
        "more": task.section,
    }


def test_a_batch_is_at_least_one() -> None:
    made = msgspec.convert({"name": "gptq-4bit"}, TorchLMRuntime().variant_section({"name": "gptq-4bit"}))
    assert made.batch is None
    listed = [{"name": "gptq-4bit", "batch": 0}]
    with pytest.raises(ProfileError, match=r"variants\[0\]\.batch: Expected `int` >= 1"):
        validate({"name": "p", "model": {"path": "org/m"}, "task": TASK, "variants": listed}, "test")


def test_variants_that_are_not_of_prompts_have_none() -> None:
    assert "batch" not in LiteRTRuntime().variant_section({"name": "int8"}).__struct_fields__
    with pytest.raises(ProfileError, match=r"unknown key variants\[0\]\.batch"):
        validate({"name": "p", "model": {"path": "m.tflite"}, "variants": [{"name": "int8", "batch": 2}]}, "test")
