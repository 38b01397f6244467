"""A variant's own batch: it reaches the model's options and the task's inputs of that variant alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from numpy.typing import NDArray

from qprof.errors import ProfileError
from qprof.run.crew import Crew
from qprof.run.profile import VariantSection, resolved, validate


class Asked(Crew):
    """Notes what workers are asked."""

    requests: dict[str, Mapping[str, Any]]

    def ask(
        self, entry: Mapping[str, Any], request: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        self.requests[entry["name"]] = request
        return {"samples": 8, "scored": 0, "notes": []}, {}


def test_it_replaces_the_tasks_for_one_variant(tmp_path: Path) -> None:
    data = {
        "name": "p",
        "model": {"path": "m"},
        "variants": ["bfloat16", {"name": "more", "batch": 8}],
        "task": {"batch": 2},
        "protocol": {"profiled": False},
    }
    profile = validate(data, "test")
    plain = resolved(profile)
    entries = [
        {"name": section["name"], "section": section, "status": "ok", "reason": None, "notes": []}
        | {"runtime": "gptq", "path": "m", "making": {}}
        for section in plain["variants"]
    ]
    manifest = {"profile": plain, "task": plain["task"], "variants": entries, "notes": []}
    writer = SimpleNamespace(folder=tmp_path, manifest=manifest, save_manifest=lambda: None)
    crew = Asked(writer, profile, SimpleNamespace(phase=lambda *words: None))  # type: ignore[arg-type]
    crew.requests = {}
    crew.load_all()
    seen = {name: (r["options"]["batch"], r["task"]["batch"]) for name, r in crew.requests.items()}
    assert seen == {"bfloat16": (2, 2), "more": (8, 8)}
    assert [entry["options"]["batch"] for entry in entries] == [2, 8]
    assert manifest["task"]["batch"] == 2


def test_a_batch_is_at_least_one() -> None:
    assert VariantSection("v").batch is None
    with pytest.raises(ProfileError, match=r"variants\[\.\.\.\]\.batch|batch"):
        validate({"name": "p", "model": {"path": "m"}, "variants": [{"name": "v", "batch": 0}]}, "test")
