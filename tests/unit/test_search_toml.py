"""Profiles that a search writes are read back as they were."""

from __future__ import annotations

import tomllib

import pytest

from qprof.findings.search.toml import toml


def test_what_is_written_is_read_back() -> None:
    data = {
        "name": 'a "quoted" \\ name\twith\x7fcontrols\nand ünïcode',
        "flag": True,
        "count": 3,
        "ratio": 1e-05,
        "variants": [
            {"name": "float32"},
            {"name": "int8", "skip_layers": ["a;b/c" * 20, "x"], "parts": {"weights": {"a.b c": "d"}}},
        ],
        "model": {"path": "embedded:x", "input_shapes": {"ids:0": [1, 128]}},
        "empty": [],
        "mixed": [1, "two", [3.0]],
    }
    assert tomllib.loads(toml(data)) == data


def test_what_toml_has_no_form_of_is_refused() -> None:
    with pytest.raises(ValueError, match="NoneType"):
        toml({"model": {"path": None}})
