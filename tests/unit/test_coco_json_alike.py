"""Detections that are all written alike are read by another path: it has to find what Python's json finds."""

from __future__ import annotations

import itertools
import json
import random
from typing import Any

import numpy as np
import pytest

from qprof.core import _coco_json
from qprof.errors import DataError

MEMBERS = ("image_id", "category_id", "bbox", "score")
NUMBERS = ("0", "-0.0", "1", "12.5", "123.456", "1234567.125", "0.1234567890123", "1e-05", "2.5E3", "639.99", "-3.25")
IDS = ("0", "7", "-3", "123456", "1234567890123", "42.0", "4e1")


def entry(rng: random.Random, order: tuple[str, ...], comma: str = ", ", colon: str = ": ") -> str:
    values = {
        "image_id": rng.choice(IDS),
        "category_id": rng.choice(IDS),
        "bbox": "[" + comma.join(rng.choice(NUMBERS) for _ in range(4)) + "]",
        "score": rng.choice(NUMBERS),
    }
    return "{" + comma.join(f'"{name}"{colon}{values[name]}' for name in order) + "}"


def check(text: str) -> None:
    """What is read is what Python reads, to the last bit, by one thread as by several."""
    rows: list[dict[str, Any]] = json.loads(text)
    for threads in (1, 3):
        found: Any = _coco_json.read_results(text.encode(), threads)
        assert found["image_id"].tolist() == [int(row["image_id"]) for row in rows]
        assert found["category_id"].tolist() == [int(row["category_id"]) for row in rows]
        for name, shape in (("bbox", (-1, 4)), ("score", (-1,))):
            expected = np.array([row[name] for row in rows], dtype=float).reshape(shape)
            assert found[name].tobytes() == expected.tobytes()


@pytest.mark.parametrize("order", list(itertools.permutations(MEMBERS)))
@pytest.mark.parametrize(
    ("comma", "colon"), [(", ", ": "), (",", ":"), (",\n    ", " : "), (" ,\t", ":\n\n\n\n\n\n\n\n")]
)
def test_any_order_and_spaces(order: tuple[str, ...], comma: str, colon: str) -> None:
    rng = random.Random(str((order, comma)))
    check("[" + ", ".join(entry(rng, order, comma, colon) for _ in range(200)) + "]")


def test_forms_that_change_on_the_way() -> None:
    rng = random.Random(3)
    orders = list(itertools.permutations(MEMBERS))
    rows = []
    for n in range(3000):
        order = orders[n // 40 % len(orders)] if n % 7 else rng.choice(orders)
        rows.append(entry(rng, order, rng.choice((", ", ",")) if n % 11 == 0 else ", "))
    check("[" + ",".join(rows) + "]")


def test_a_list_that_is_read_by_several_threads() -> None:
    rng = random.Random(4)
    check("[" + ", ".join(entry(rng, MEMBERS) for _ in range(20_000)) + "]")


@pytest.mark.parametrize(
    "odd",
    [
        '{"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 0.5, "score": 0.75}',
        '{"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 0.5, "id": 9}',
        '{"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4], "\\u0073core": 0.5}',
        '{"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4], "score": NaN}',
        '{ "image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 0.5 }',
    ],
)
def test_an_odd_one_among_many(odd: str) -> None:
    rng = random.Random(5)
    usual = [entry(rng, MEMBERS) for _ in range(50)]
    check("[" + ", ".join([*usual, odd, *usual]) + "]")
    check("[" + ", ".join([odd, *usual, odd, odd]) + "]")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ('{"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 0.5x}', "entry|after a member"),
        ('{"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 00.5}', "after a member"),
        ('{"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 0.}', "expected a digit .* in detection 50"),
        ('{"image_id": 1.5, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 0.5}', "image_id of detection 50"),
        ('{"image_id": 1, "category_id": 2, "bbox": [1, 2, 3], "score": 0.5}', "bbox of detection 50"),
        ('{"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4, 5], "score": 0.5}', "bbox of detection 50"),
        ('{"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4]}', "detection 50 .* has no score"),
        ('{"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4], "score": "0.5"}', "score of detection 50"),
        ('{"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4], "score": ', "expected a value|too early"),
    ],
)
def test_a_wrong_one_behind_many(wrong: str, message: str) -> None:
    rng = random.Random(6)
    usual = [entry(rng, MEMBERS) for _ in range(50)]
    with pytest.raises(DataError, match=message):
        _coco_json.read_results(("[" + ", ".join([*usual, wrong, usual[0]]) + "]").encode())
