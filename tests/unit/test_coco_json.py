"""The reader of COCO files: the same values as Python's json, the same documents refused, and no crash on anything."""

from __future__ import annotations

import json
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qprof.core._coco_json import read_ground_truth, read_results
from qprof.errors import DataError


def words(text: str) -> list[str]:
    return text.split()


FUZZ_SECONDS = float(os.environ.get("QPROF_FUZZ_SECONDS", "1.5"))


# --- The oracle: json.loads, and the checks of the format in plain Python ---------------------------------------------


class Number(str):
    """A number as it is spelled."""


class Misfit(Exception):
    """Valid JSON, but not of the format."""


def parsed(document: bytes) -> Any:
    """The document by Python's json, numbers left as they are spelled; ValueError where it is not valid."""
    return json.loads(document.decode("utf-8-sig"), parse_int=Number, parse_float=Number)


def number(value: Any) -> float:
    if type(value) is not Number and type(value) is not float:
        raise Misfit
    return float(value)


def integer(value: Any) -> int:
    if type(value) is not Number:
        raise Misfit
    if re.fullmatch(r"-?\d+", value):
        whole = int(value)
    else:
        real = float(value)
        if not real.is_integer():
            raise Misfit
        whole = int(real)
    if not -(2**63) <= whole < 2**63:
        raise Misfit
    return whole


def box(value: Any) -> list[float]:
    if type(value) is not list or len(value) != 4:
        raise Misfit
    return [number(item) for item in value]


def flag(value: Any) -> int:
    value = float(value) if type(value) is bool else number(value)
    if value != value:
        raise Misfit
    return int(value != 0)


def pixels(value: Any) -> int:
    if value is None:
        return -1
    count = integer(value)
    if count < 0:
        raise Misfit
    return count


def name(value: Any) -> str | None:
    if type(value) is not str and value is not None:
        raise Misfit
    return value


REQUIRED = object()
#: Member -> how its value is read, and what stands for it where it is missing.
Schema = dict[str, tuple[Callable[[Any], Any], Any]]
RESULT: Schema = {
    "image_id": (integer, REQUIRED),
    "category_id": (integer, REQUIRED),
    "bbox": (box, REQUIRED),
    "score": (number, REQUIRED),
}
ANNOTATION: Schema = {
    "id": (integer, REQUIRED),
    "image_id": (integer, REQUIRED),
    "category_id": (integer, REQUIRED),
    "bbox": (box, REQUIRED),
    "area": (number, None),
    "iscrowd": (flag, 0),
    "ignore": (flag, 0),
}
IMAGE: Schema = {"id": (integer, REQUIRED), "width": (pixels, -1), "height": (pixels, -1)}
CATEGORY: Schema = {"id": (integer, REQUIRED), "name": (name, None)}


def columns(entries: Any, schema: Schema) -> dict[str, list[Any]]:
    if type(entries) is not list:
        raise Misfit
    table: dict[str, list[Any]] = {key: [] for key in schema}
    for entry in entries:
        if type(entry) is not dict:
            raise Misfit
        for key, (read, default) in schema.items():
            if key not in entry and default is REQUIRED:
                raise Misfit
            table[key].append(read(entry[key]) if key in entry else default)
    return table


def expected_results(document: bytes) -> dict[str, Any]:
    content = parsed(document)
    table = columns(content, RESULT)
    others = {key for entry in content for key in entry} - set(RESULT)
    return {**table, "skipped": others}


def expected_ground_truth(document: bytes) -> dict[str, Any]:
    content = parsed(document)
    if type(content) is not dict:
        raise Misfit
    images, categories, annotations = (content.get(key) for key in ("images", "categories", "annotations"))
    table = columns(annotations, ANNOTATION)
    without = sum(area is None for area in table["area"])
    table["area"] = [b[2] * b[3] if a is None else a for a, b in zip(table["area"], table["bbox"], strict=True)]
    return {
        "images": columns(images, IMAGE),
        "categories": columns(categories, CATEGORY),
        "annotations": table,
        "without_area": without,
    }


def assert_column(found: np.ndarray[Any, Any], wanted: list[Any], dtype: type, key: str) -> None:
    array: np.ndarray[Any, Any] = np.array(wanted, dtype)
    array = array.reshape((-1, 4) if key == "bbox" else (-1,))
    assert found.dtype == dtype and found.shape == array.shape, key
    if dtype is np.float64:
        # NaN has no equal, and -0.0 is not 0.0: the bits are compared, except a NaN's.
        np.testing.assert_array_equal(np.isnan(found), np.isnan(array))
        array, found = np.nan_to_num(array, nan=0.0, posinf=np.inf), np.nan_to_num(found, nan=0.0, posinf=np.inf)
    assert found.tobytes() == array.tobytes(), key


DTYPES = {"bbox": np.float64, "score": np.float64, "area": np.float64, "iscrowd": np.uint8, "ignore": np.uint8}


def assert_table(found: dict[str, Any], wanted: dict[str, list[Any]]) -> None:
    assert set(found) == set(wanted)
    for key, values in wanted.items():
        if key == "name":
            assert found[key] == values
        else:
            assert_column(found[key], values, DTYPES.get(key, np.int64), key)


def check_results(document: bytes, threads: int = 1) -> bool:
    """The reader agrees with the oracle about this document; whether that accepts it."""
    try:
        wanted = expected_results(document)
    except (ValueError, Misfit):
        with pytest.raises(DataError, match=r"^the given bytes: [^\n]+$"):
            read_results(document, threads)
        return False
    found: dict[str, Any] = {**read_results(document, threads)}
    skipped = found.pop("skipped")
    assert len(skipped) == len(set(skipped))
    assert set(skipped) == wanted.pop("skipped")
    assert_table(found, wanted)
    return True


def check_ground_truth(document: bytes, threads: int = 1) -> bool:
    try:
        wanted = expected_ground_truth(document)
    except (ValueError, Misfit):
        with pytest.raises(DataError, match=r"^the given bytes: [^\n]+$"):
            read_ground_truth(document, threads)
        return False
    found: dict[str, Any] = {**read_ground_truth(document, threads)}
    assert found["without_area"] == wanted["without_area"]
    for key in ("images", "categories", "annotations"):
        assert_table(found[key], wanted[key])
    return True


# --- Documents --------------------------------------------------------------------------------------------------------

RESULTS = b"""[
  {"image_id": 42, "category_id": 18, "bbox": [258.15, 41.29, 348.26, 243.78], "score": 0.236},
  {"score": 1, "bbox": [61, 22.75, -0.0, 1e2], "category_id": 1, "image_id": 9007199254740993, "segmentation":
    {"size": [480, 640], "counts": "abc\\"]},{\\\\"}, "note": "\xc3\xa4"}
]"""

TRUTH = b"""{"info": {"description": "a \\u00e4 \\ud83d\\ude00", "nested": [[[]], {"a": {}}]}, "licenses": [],
 "images": [{"id": 42, "width": 640, "height": 480, "file_name": "42.jpg"}, {"file_name": "x", "id": 7},
            {"id": 8, "width": null}],
 "annotations": [
  {"segmentation": [[510.66, 423.01, 511.72, 420.03, 510.45]], "area": 702.1, "iscrowd": 0, "image_id": 42,
   "bbox": [473.07, 395.93, 38.65, 28.67], "category_id": 18, "id": 1768},
  {"segmentation": {"counts": [272, 2, 4, 4], "size": [240, 320]}, "iscrowd": 1, "image_id": 7, "ignore": true,
   "bbox": [0, 1, 2.5, 3], "category_id": 1, "id": 900100000001}],
 "categories": [{"supercategory": "animal", "id": 18, "name": "d\\u00f6g \\ud83d\\ude00"}, {"id": 1}]}"""


def with_score(text: str) -> bytes:
    return f'[{{"image_id":1,"category_id":2,"bbox":[1,2,3,4],"score":{text}}}]'.encode()


def with_image_id(text: str) -> bytes:
    return f'[{{"image_id":{text},"category_id":2,"bbox":[1,2,3,4],"score":1}}]'.encode()


def with_extra(text: str) -> bytes:
    return f'[{{"image_id":1,"extra":{text},"category_id":2,"bbox":[1,2,3,4],"score":1}}]'.encode()


def truth_with(annotations: str = "[]", images: str = "[]", categories: str = "[]") -> bytes:
    return f'{{"images":{images},"annotations":{annotations},"categories":{categories}}}'.encode()


# --- Known answers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results(threads: int) -> None:
    found = read_results(RESULTS, threads)
    assert found["image_id"].tolist() == [42, 9007199254740993]
    assert found["category_id"].tolist() == [18, 1]
    assert found["bbox"].tolist() == [[258.15, 41.29, 348.26, 243.78], [61.0, 22.75, 0.0, 100.0]]
    assert np.signbit(found["bbox"][1, 2])
    assert found["score"].tolist() == [0.236, 1.0]
    assert found["skipped"] == ["segmentation", "note"]
    assert {key: found[key].dtype for key in ("image_id", "category_id", "bbox", "score")} == {
        "image_id": np.int64,
        "category_id": np.int64,
        "bbox": np.float64,
        "score": np.float64,
    }


@pytest.mark.parametrize("threads", [1, 2])
def test_ground_truth(threads: int) -> None:
    found = read_ground_truth(TRUTH, threads)
    assert found["images"]["id"].tolist() == [42, 7, 8]
    assert found["images"]["width"].tolist() == [640, -1, -1]
    assert found["images"]["height"].tolist() == [480, -1, -1]
    assert found["categories"]["id"].tolist() == [18, 1]
    assert found["categories"]["name"] == ["dög 😀", None]
    annotations = found["annotations"]
    assert annotations["id"].tolist() == [1768, 900100000001]
    assert annotations["image_id"].tolist() == [42, 7]
    assert annotations["category_id"].tolist() == [18, 1]
    assert annotations["bbox"].tolist() == [[473.07, 395.93, 38.65, 28.67], [0.0, 1.0, 2.5, 3.0]]
    assert annotations["area"].tolist() == [702.1, 7.5]
    assert annotations["iscrowd"].tolist() == [0, 1]
    assert annotations["ignore"].tolist() == [0, 1]
    assert found["without_area"] == 1


def test_empty_lists() -> None:
    found = read_results(b" [ ] ")
    assert found["bbox"].shape == (0, 4) and found["image_id"].shape == (0,) and found["skipped"] == []
    truth = read_ground_truth(truth_with())
    assert truth["annotations"]["bbox"].shape == (0, 4) and truth["categories"]["name"] == []


def test_arrays_outlive_the_reader_and_can_be_written() -> None:
    scores = [read_results(with_score(str(i)))["score"] for i in range(200)]
    for score in scores:
        score += 1
    assert [score[0] for score in scores] == [i + 1 for i in range(200)]


def test_a_byte_order_mark_is_skipped() -> None:
    assert read_results(b"\xef\xbb\xbf" + RESULTS)["score"].tolist() == [0.236, 1.0]


def test_the_last_of_repeated_members_counts() -> None:
    document = with_extra('1,"score":"no","bbox":[1],"score":0.25,"image_id":null,"image_id":5')
    assert check_results(document)
    assert not check_results(b'[{"image_id":1,"category_id":2,"bbox":[1,2,3,4],"score":1,"bbox":[1,2,3]}]')
    wrong_then_right = b'{"images":[7],"annotations":{},"categories":[{}],' + truth_with()[1:]
    assert check_ground_truth(wrong_then_right)
    right_then_wrong = truth_with()[:-1] + b',"annotations":{}}'
    assert not check_ground_truth(right_then_wrong)


def test_escapes_in_the_names_of_members() -> None:
    spelled = RESULTS.replace(b'"bbox"', b'"\\u0062bo\\u0078"').replace(b'"score"', b'"scor\\u0065"')
    assert spelled != RESULTS and check_results(spelled)
    assert check_ground_truth(TRUTH.replace(b'"annotations"', b'"annotation\\u0073"'))


def test_a_lone_surrogate_is_kept_as_python_does() -> None:
    document = truth_with(categories=r'[{"id":1,"name":"\ud83dx\ude00\uD83D\ude00"}]')
    assert read_ground_truth(document)["categories"]["name"] == ["\ud83dx\ude00😀"]
    assert check_ground_truth(document)


def test_not_more_than_32_other_members_are_named() -> None:
    extra = ",".join(f'"m{i}":{i}' for i in range(100))
    assert (
        len(read_results(b'[{"image_id":1,"category_id":2,"bbox":[1,2,3,4],"score":1,%s}]' % extra.encode())["skipped"])
        == 32
    )


# --- Numbers ----------------------------------------------------------------------------------------------------------

HARD_FLOATS = words("""0 -0 0.0 -0.0 1 10 0.1 0.5 1.5 100.25 12345678 123456789 1234567.8 1234567.12345678 12345678.5
0.1234567 0.12345678 0.123456789 0.1234567890123456 0.12345678901234567 0.123456789012345678 0.1234567890123456789
0.12345678901234567890 0.0000000000000000001 0.9999999999999999999 9999999.999999999999 1234567.999999999999999
9007199254740992 9007199254740993 9007199254740993.0 9007199254740993.00000001 9007199.254740992 9007199.254740993
4503599627370496.5 4503599627370497.5 72057594037927945 18446744073709551615 18446744073709551616
1e0 1E5 1e+5 1e-5 1.5e-05 9.313225746154785e-10 2.2250738585072011e-308 2.2250738585072014e-308 4.9e-324 2e-324 1e-400
-1e-400 1.7976931348623157e308 1.7976931348623159e308 1e309 -1e309 0e999 0.0e-999 1e-99999999999999999999
1e99999999999999999999 123456789012345678901234567890 0.000000000000000000000000000000000000000000001e45
1000000000000000000000000000000000000000e-39 NaN Infinity -Infinity 179769313486231580793728971405301e276""")


@pytest.mark.parametrize("text", HARD_FLOATS)
def test_a_float_is_pythons(text: str) -> None:
    assert check_results(with_score(text))
    assert check_results(with_score(f" {text}\n"))
    if "N" not in text and "I" not in text:
        assert check_results(with_score("-" + text.lstrip("-")))


@pytest.mark.parametrize("text", ["9" * 400, "1" + "0" * 309, "0." + "0" * 5000 + "1", "1" * 30 + "." + "1" * 5000])
def test_a_long_float_is_pythons(text: str) -> None:
    assert read_results(with_score(text))["score"][0] == float(text)


@pytest.mark.parametrize(
    "text",
    words("""1. .5 -.5 - + +1 01 -01 00.5 1.e5 1e 1e+ 1.5e- 0x10 1_000 1.2.3 1,5 --1 nan inf -NaN Infinit 1f \u0661
    1-1 1+1 1.23456789. 12345678. 12345678a 0.12345678a true null "1" [1] {}"""),
)
def test_no_number_of_json(text: str) -> None:
    assert not check_results(with_score(text))
    assert not check_results(with_score("-" + text))


@pytest.mark.parametrize(
    "text",
    words("""0 -0 1 42 9999999 12345678 123456789 -7 9223372036854775807 -9223372036854775808 42.0 4.2e1 -3.0 1e18 0.0
    420e-1 9007199254740993"""),
)
def test_an_id(text: str) -> None:
    assert check_results(with_image_id(text))


@pytest.mark.parametrize(
    "text",
    words("""9223372036854775808 -9223372036854775809 99999999999999999999 42.5 1e-1 1e19 1e400 01 1. 1234567.
    true null "1" [1] NaN Infinity -"""),
)
def test_no_id(text: str) -> None:
    assert not check_results(with_image_id(text))


def test_many_floats_are_pythons() -> None:
    chooser = random.Random(5)
    texts = []
    for _ in range(20_000):
        kind = chooser.randrange(4)
        if kind == 0:
            texts.append(repr(chooser.uniform(-1000, 1000)))
        elif kind == 1:
            texts.append(repr(float(np.float32(chooser.random()))))
        elif kind == 2:
            texts.append(
                f"{chooser.randrange(10 ** chooser.randrange(1, 9))}.{chooser.randrange(10**19):019d}"[
                    : chooser.randrange(10, 30)
                ]
            )
        else:
            texts.append(f"{chooser.randrange(-9999, 9999)}.{chooser.randrange(10 ** chooser.randrange(1, 20))}")
    boxes = ",".join(
        f'{{"image_id":1,"category_id":2,"bbox":[{",".join(texts[i : i + 4])}],"score":1}}'
        for i in range(0, len(texts), 4)
    )
    found = read_results(f"[{boxes}]".encode())["bbox"].reshape(-1)
    assert found.tobytes() == np.array([float(text) for text in texts]).tobytes()


# --- What is skipped is judged all the same ---------------------------------------------------------------------------

POLYGON = (
    "[[0.5, 12,-3.25,417.0 , 0,100.125, -0.0,999999999999.5,1,2.75,3,10, 640,480.5, 7.0625,0.001,-12,55 ],[8,9.5]]"
)


def test_a_number_list_is_refused_where_json_refuses_it() -> None:
    accepted = 0
    for place in range(len(POLYGON)):
        for character in '059.,- e[]+\n"':
            for text in (
                POLYGON[:place] + character + POLYGON[place + 1 :],
                POLYGON[:place] + character + POLYGON[place:],
            ):
                accepted += check_results(with_extra(text))
    assert accepted > 500


def test_a_number_list_at_every_distance_from_a_block() -> None:
    # The lists are judged 64 bytes at a time: everything that may be wrong, across every border of two blocks.
    for lead in range(70):
        for tail in (
            "1.5,2]",
            "1.5.5,2]",
            "01,2]",
            "1.,2]",
            "-,2]",
            "1,,2]",
            "1 2,3]",
            "1-2,3]",
            ".5,2]",
            "1. 5,2]",
            "1,]",
            "1e5,2]",
        ):
            check_results(with_extra("[" + "7" * lead + "," + tail))
            check_results(with_extra("[1," + "7" * lead + "." + tail))


@pytest.mark.parametrize(
    "text",
    [
        '""',
        '"a\\n\\t\\"\\\\\\/\\b\\f\\r\\u00e9"',
        '"' + "é" * 40 + '"',
        '"😀\x7f"',
        '"' + "x" * 1000 + '"',
        "true",
        "false",
        "null",
        "NaN",
        "-Infinity",
        "Infinity",
        "{}",
        "[]",
        "[{}]",
        '{"a":[1,{"b":null}],"c":"]}"}',
        "[[[[[]]]]]",
        "[true,1,false,2]",
        '[1,2,"3",4]',
        '["},{",1]',
        "[1 ,2 , 3]",
        "[\n1\t,\r2]",
        "-0",
        "0.5e-7",
    ],
)
def test_a_skipped_value(text: str) -> None:
    assert check_results(with_extra(text))


@pytest.mark.parametrize(
    "text",
    [
        "",
        '"',
        '"\\"',
        '"\\x"',
        '"\\u12"',
        '"\\u12g4"',
        '"a\nb"',
        '"a\tb"',
        '"\x1f"',
        "tru",
        "True",
        "nul",
        "NULL",
        "-",
        "+1",
        "1 2",
        "{",
        "[",
        "[1",
        "[1,",
        "[1,]",
        "[,1]",
        "[1 2]",
        "[1}",
        "{1:2}",
        '{"a"}',
        '{"a":}',
        '{"a":1,}',
        '{"a" 1}',
        '{"a":1]',
        "{,}",
        "'a'",
        "/**/1",
        "[1]]",
        "undefined",
        "-Inf",
        "\x00",
        "1\x00",
        "}",
        "]",
        ",",
    ],
)
def test_a_skipped_value_that_is_none(text: str) -> None:
    assert not check_results(with_extra(text))


@pytest.mark.parametrize(
    "sequence",
    [
        b"\x80",
        b"\xc3",
        b"\xc0\x80",
        b"\xc1\xbf",
        b"\xe0\x80\x80",
        b"\xed\xa0\x80",
        b"\xf0\x80\x80\x80",
        b"\xf4\x90\x80\x80",
        b"\xf5\x80\x80\x80",
        b"\xff",
        b"\xe2\x82",
        b"\xe2\x28\xa1",
        b"\xf0\x9f\x98",
        b"\xc3\xa4\x80",
    ],
)
def test_bytes_that_are_not_utf8(sequence: bytes) -> None:
    for document in (with_extra('"!"'), truth_with(categories='[{"id":1,"name":"!"}]')):
        with pytest.raises(DataError, match="not UTF-8"):
            (read_results if document[:1] == b"[" else read_ground_truth)(document.replace(b"!", sequence))


def test_every_character_of_unicode_in_a_name() -> None:
    text = "".join(map(chr, [*range(0x20, 0xD800), *range(0xE000, 0x110000)]))
    for ascii_only in (True, False):
        document = truth_with(categories=json.dumps([{"id": 1, "name": text}], ensure_ascii=ascii_only))
        assert read_ground_truth(document)["categories"]["name"] == [text]


def test_depth_is_bounded() -> None:
    # The list of detections and the detection itself are two levels; Python's own bound is lower or higher by version.
    for opening, closing in (("[", "]"), ('{"a":', "}")):
        inner = "" if opening == "[" else "1"
        read_results(with_extra(opening * 1024 + inner + closing * 1024))
        with pytest.raises(DataError, match="nested too deep"):
            read_results(with_extra(opening * 1025 + inner + closing * 1025))
        with pytest.raises(DataError, match="nested too deep"):
            read_results(with_extra(opening * 1_000_000))


# --- Messages ---------------------------------------------------------------------------------------------------------

GOOD = '{"image_id":1,"category_id":2,"bbox":[1,2,3,4],"score":1}'


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("", "is empty: download or export it again"),
        ("  ", "is not valid JSON: the text ends too early (byte 2, line 1): download or export it again"),
        ("{}", "is not a COCO results file (no JSON list at the top): give a list of detections"),
        ("5", "is not a COCO results file (no JSON list at the top): give a list of detections"),
        ("{", "is not valid JSON: the text ends too early (byte 1, line 1): download or export it again"),
        (f"[{GOOD}", "is not valid JSON: the text ends too early (byte 58, line 1) in detection 1: download"),
        (f"[{GOOD},", "is not valid JSON: the text ends too early (byte 59, line 1) in detection 1: download"),
        (f"[{GOOD},]", "is not valid JSON: expected a value (byte 59, line 1) in detection 1: download"),
        (f"[{GOOD}]]", "is not valid JSON: text behind the end of the document (byte 59, line 1): download"),
        (f"[{GOOD}\n{GOOD}]", "is not valid JSON: expected ',' or ']' after an entry (byte 59, line 2) in detection 1"),
        (
            f'[{GOOD},{{"image_id" 1',
            "is not valid JSON: expected ':' after a member's name (byte 71, line 1) in detection 1",
        ),
        ("[\n\n{image_id:1}]", "expected a member's name in double quotes (byte 4, line 3) in detection 0: download"),
        ('[{"image_id":1 "score":1}]', "expected ',' or '}' after a member (byte 15, line 1) in detection 0"),
        ('[{"a":"\\q"}]', "unknown escape in a string (byte 7, line 1) in detection 0"),
        ('[{"a":"\\uzzzz"}]', "expected four hexadecimal digits after \\u (byte 9, line 1) in detection 0"),
        ('[{"a":"\n"}]', "control character in a string (byte 7, line 1) in detection 0"),
        ('[{"a":-x}]', "expected a digit (byte 7, line 1) in detection 0"),
        (f"[{GOOD},7]", "detection 1 (byte 59, line 1) is not an object: give an object of the COCO format"),
        (f"[{GOOD},{{}}]", "detection 1 (byte 59, line 1) has no image_id: it has to be an integer of 64 bits: give"),
        (
            with_score('"1"').decode(),
            "score of detection 0 (byte 56, line 1) is not a number: give the detector's confidence",
        ),
        (
            with_image_id('"1"').decode(),
            "image_id of detection 0 (byte 13, line 1) is not an integer of 64 bits: give the id",
        ),
        (
            with_image_id("1.5").decode(),
            "image_id of detection 0 (byte 13, line 1) is not an integer of 64 bits: give the id",
        ),
        (
            GOOD.join("[]").replace("[1,2,3,4]", "[]"),
            "bbox of detection 0 (byte 38, line 1) is not a list of four numbers",
        ),
        (
            GOOD.join("[]").replace("[1,2,3,4]", "[1,2,3]"),
            "bbox of detection 0 (byte 38, line 1) is not a list of four",
        ),
        (
            GOOD.join("[]").replace("[1,2,3,4]", "[1,2,3,4,5]"),
            "bbox of detection 0 (byte 38, line 1) is not a list of four",
        ),
        (
            GOOD.join("[]").replace("[1,2,3,4]", "[1,2,3,true]"),
            "bbox of detection 0 (byte 38, line 1) is not a list of four",
        ),
        (
            GOOD.join("[]").replace("[1,2,3,4]", "null"),
            "bbox of detection 0 (byte 38, line 1) is not a list of four numbers",
        ),
        # Invalid JSON comes before a misfit, wherever it stands.
        (f"[{GOOD},7,{{}},[", "is not valid JSON: the text ends too early (byte 65, line 1) in detection 3: download"),
        (f"[7,{GOOD},8,{{]", "expected a member's name in double quotes (byte 64, line 1) in detection 3: download"),
    ],
)
@pytest.mark.parametrize("threads", [1, 2])
def test_message_for_results(document: str, message: str, threads: int) -> None:
    with pytest.raises(DataError) as error:
        read_results(document.encode(), threads)
    assert message in str(error.value) and str(error.value).startswith("the given bytes: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (b"[]", "is not a COCO annotation file (no JSON object at the top): give an 'instances' file"),
        (b"{}", "has no list 'images': give a COCO 'instances' annotation file"),
        (b'{"images":[],"categories":[]}', "has no list 'annotations': give a COCO 'instances' annotation file"),
        (b'{"images":[],"annotations":[]}', "has no list 'categories': give a COCO 'instances' annotation file"),
        (truth_with("{}"), "has no list 'annotations'"),
        (truth_with(images="[{}]"), "image 0 (byte 11, line 1) has no id: it has to be an integer of 64 bits: number"),
        (
            truth_with(images='[{"id":1},{"id":2,"width":1.5}]'),
            "width of image 1 (byte 36, line 1) is not a count of pixels",
        ),
        (truth_with(images='[{"id":1,"height":-5}]'), "height of image 0 (byte 28, line 1) is not a count of pixels"),
        (truth_with(categories='[{"id":1,"name":5}]'), "name of category 0 (byte 59, line 1) is not a string: give"),
        (truth_with('[{"id":1}]'), "annotation 0 (byte 28, line 1) has no image_id"),
        (
            truth_with('[{"id":1,"image_id":1,"category_id":1,"bbox":[1,2,3,4],"area":null}]'),
            "area of annotation 0 (byte 89,",
        ),
        (
            truth_with('[{"id":1,"image_id":1,"category_id":1,"bbox":[1,2,3,4],"iscrowd":"no"}]'),
            "iscrowd of annotation 0 (byte 92",
        ),
        (
            truth_with('[{"id":1,"image_id":1,"category_id":1,"bbox":[1,2,3,4],"iscrowd":NaN}]'),
            "iscrowd of annotation 0 (byte 92",
        ),
        (truth_with("[{]"), "expected a member's name in double quotes (byte 29, line 1) in annotation 0: download"),
        (truth_with()[:-1], "is not valid JSON: the text ends too early"),
        (b'{"images" []}', "expected ':' after a member's name (byte 10, line 1): download or export it again"),
    ],
)
def test_message_for_ground_truth(document: bytes, message: str) -> None:
    with pytest.raises(DataError) as error:
        read_ground_truth(document)
    assert message in str(error.value)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_wider_encoding_is_named(encoding: str) -> None:
    with pytest.raises(DataError, match="not UTF-8, but a wider encoding of Unicode: save it as UTF-8"):
        read_results(RESULTS.decode().encode(encoding))


# --- Files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [str, Path])
def test_a_path(tmp_path: Path, kind: type) -> None:
    path = tmp_path / "dets ä.json"
    path.write_bytes(RESULTS)
    assert read_results(kind(path))["score"].tolist() == [0.236, 1.0]
    path.write_bytes(TRUTH)
    assert read_ground_truth(kind(path))["without_area"] == 1


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_bytes_of_other_kinds(kind: type) -> None:
    assert read_results(kind(RESULTS))["score"].tolist() == [0.236, 1.0]


@pytest.mark.parametrize("source", [5, None, ["a"]])
def test_no_source(source: Any) -> None:
    with pytest.raises(TypeError):
        read_results(source)


@pytest.mark.parametrize("threads", [0, -1])
def test_no_number_of_threads(threads: int) -> None:
    with pytest.raises(ValueError, match=f"threads is {threads}: give 1 or more"):
        read_results(RESULTS, threads)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "none.json", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(DataError) as error:
            read_results(path)
        assert str(error.value) == f"{path}: cannot be read ({reason}): correct the path"
    with pytest.raises(DataError, match="a NUL in its name"):
        read_results("a\0b")
    (tmp_path / "empty.json").touch()
    with pytest.raises(DataError, match=r"empty\.json: is empty"):
        read_ground_truth(tmp_path / "empty.json")


@pytest.mark.parametrize("size", [4096, 8192, 4095, 4097, 65536])
def test_a_file_that_fills_its_pages(tmp_path: Path, size: int) -> None:
    path = tmp_path / "dets.json"
    path.write_bytes(with_score("0.5") + b" " * (size - len(with_score("0.5"))))
    assert path.stat().st_size == size and read_results(path)["score"].tolist() == [0.5]
    for ending in (b'"' + b"x" * 99, b"[1.5,2", b"1234567", b"\\", b'{"a":', b"tru", b"\xf0\x9f"):
        path.write_bytes((b'[{"a":' + b" " * size)[: size - len(ending)] + ending)
        with pytest.raises(DataError, match=r"in detection 0: download or export it again"):
            read_results(path)


def test_a_pipe(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    document = b"[" + b" " * 3_000_000 + GOOD.encode() + b"]"
    writer = threading.Thread(target=path.write_bytes, args=(document,))
    writer.start()
    assert read_results(path)["score"].tolist() == [1.0]
    writer.join()


def test_files_of_coco(qprof_data: Path) -> None:
    folder = qprof_data / "coco_fake100"
    assert check_results((folder / "instances_val2014_fakebbox100_results.json").read_bytes())
    assert check_ground_truth((folder / "instances_val2014_100.json").read_bytes())
    assert check_results((qprof_data / "coco_val_images" / "test_coco_det_AP_H_56.json").read_bytes())


# --- Threads ----------------------------------------------------------------------------------------------------------


def entry(number: int, extra: str = "") -> str:
    return f'{{"image_id":{number},"category_id":2,"bbox":[{number}.5,2,3,4],"score":0.5{extra}}}'


def long_results(entries: list[str]) -> bytes:
    return f"[{', '.join(entries)}]".encode()


#: Entries whose insides look like the border of two entries.
MISLEADING = [
    ',"segments":[' + ",".join(['{"image_id":1,"category_id":2,"bbox":[9,9,9,9],"score":9}'] * 400) + "]",
    ',"text":"' + "},{" * 9000 + '"',
    ',"text":"' + '},{\\"image_id\\":1}' * 2000 + '"',
]


@pytest.mark.parametrize("threads", [2, 3, 7])
@pytest.mark.parametrize("extra", ["", *MISLEADING], ids=["plain", "nested", "string", "escaped"])
def test_threads_read_what_one_reads(threads: int, extra: str) -> None:
    entries = [entry(i, extra if i % 3 == 0 else "") for i in range(400 if extra else 30_000)]
    document = long_results(entries)
    assert len(document) > 7 * 2**18
    alone, together = read_results(document), read_results(document, threads)
    assert alone["image_id"].tolist() == list(range(len(entries)))
    for key in ("image_id", "category_id", "bbox", "score"):
        assert alone[key].tobytes() == together[key].tobytes()
    assert alone["skipped"] == together["skipped"]


@pytest.mark.parametrize("where", [0.1, 0.45, 0.55, 0.9])
@pytest.mark.parametrize("wrong", ["{]", "7", '{"image_id":"x"}', '{"image_id":1}', entry(1) + "]", '"', "{}}"])
@pytest.mark.parametrize("threads", [2, 3])
def test_threads_report_what_one_reports(where: float, wrong: str, threads: int) -> None:
    entries = [entry(i) for i in range(15_000)]
    entries[int(where * len(entries))] = wrong
    entries[int(0.95 * len(entries))] = "{"
    with pytest.raises(DataError) as alone:
        read_results(long_results(entries))
    with pytest.raises(DataError) as together:
        read_results(long_results(entries), threads)
    assert str(alone.value) == str(together.value)
    entries[int(0.95 * len(entries))] = entry(5)
    with pytest.raises(DataError) as alone:
        read_results(long_results(entries))
    with pytest.raises(DataError) as together:
        read_results(long_results(entries), threads)
    assert str(alone.value) == str(together.value)


def test_threads_name_the_same_other_members() -> None:
    entries = [entry(i, f',"m{i // 1000}":1') for i in range(15_000)]
    document = long_results(entries)
    assert read_results(document, 3)["skipped"] == read_results(document)["skipped"] == [f"m{i}" for i in range(15)]


@pytest.mark.parametrize("order", [("images", "annotations", "categories"), ("annotations", "categories", "images")])
def test_threads_on_ground_truth(order: tuple[str, ...]) -> None:
    lists = {
        "images": [{"id": i, "width": i} for i in range(5000)],
        "annotations": [
            {"id": i, "image_id": i % 7, "category_id": 1, "bbox": [i, 0.5, 1, 2], "segmentation": [[i + 0.25] * 9]}
            for i in range(12_000)
        ],
        "categories": [{"id": i, "name": str(i)} for i in range(3000)],
    }
    document = json.dumps({key: lists[key] for key in order}).encode()
    assert check_ground_truth(document)
    assert check_ground_truth(document, 2)
    assert check_ground_truth(document, 4)


def test_the_gil_is_released() -> None:
    document = long_results([entry(i) for i in range(60_000)])
    done = threading.Event()

    def read() -> None:
        for _ in range(20):
            read_results(document)
        done.set()

    reader = threading.Thread(target=read)
    reader.start()
    steps = 0
    while not done.is_set():
        steps += 1
    reader.join()
    # Holding the lock, a reader of a hundred milliseconds would leave the counter some thousand steps at most.
    assert steps > 20_000


# --- Generated documents ----------------------------------------------------------------------------------------------

SPACE = st.sampled_from(["", "", "", " ", "\n", "\t \r\n", "    "])
NUMBER = st.one_of(
    st.from_regex(r"-?(0|[1-9][0-9]{0,9})(\.[0-9]{1,18})?", fullmatch=True),
    st.from_regex(r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?", fullmatch=True),
    st.floats().map(json.dumps),
)
INTEGER = st.one_of(st.integers(-5, 99999).map(str), st.integers(-(2**64), 2**64).map(str), NUMBER)
TEXT = st.tuples(st.text(max_size=20), st.booleans()).map(lambda pair: json.dumps(pair[0], ensure_ascii=pair[1]))
ANY = st.recursive(
    st.one_of(NUMBER, TEXT.filter(lambda text: "\\ud" not in text or True), st.sampled_from(["true", "false", "null"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5).map(lambda items: f"[{', '.join(items)}]"),
        st.lists(st.tuples(TEXT, inner), max_size=4).map(
            lambda items: f"{{{','.join(f'{k}: {v}' for k, v in items)}}}"
        ),
    ),
    max_leaves=8,
)
BOX = st.tuples(st.lists(NUMBER, min_size=4, max_size=4), SPACE).map(
    lambda pair: f"[{f',{pair[1]}'.join(pair[0])}{pair[1]}]"
)
FLAG = st.sampled_from(["0", "1", "true", "false", "0.0", "2", "-1"])
VALUES = {
    "id": INTEGER,
    "image_id": INTEGER,
    "category_id": INTEGER,
    "bbox": BOX,
    "score": NUMBER,
    "area": NUMBER,
    "iscrowd": FLAG,
    "ignore": FLAG,
    "width": INTEGER,
    "height": INTEGER,
    "name": TEXT,
}


@st.composite
def entries_of(draw: st.DrawFn, schema: dict[str, Any]) -> str:
    """A list of entries that mostly fit."""
    texts = []
    for _ in range(draw(st.integers(0, 4))):
        members = []
        for key, (_, default) in schema.items():
            if default is REQUIRED or draw(st.booleans()):
                members.append((json.dumps(key), draw(VALUES[key])))
        members += draw(st.lists(st.tuples(TEXT, ANY), max_size=3))
        if draw(st.integers(0, 9)) == 0:
            members.append((json.dumps(draw(st.sampled_from(sorted(schema)))), draw(ANY)))
        gap = draw(SPACE)
        members = draw(st.permutations(members))
        texts.append("{" + gap + f",{gap}".join(f"{key}{gap}:{gap}{value}" for key, value in members) + gap + "}")
    gap = draw(SPACE)
    return f"[{gap}" + f"{gap},{gap}".join(texts) + f"{gap}]"


def encoded(text: str) -> bytes:
    # A lone surrogate that is not escaped stands in no UTF-8 file.
    return text.encode("utf-8", "replace")


@settings(max_examples=120, deadline=None)
@given(entries_of(RESULT), st.sampled_from(["", " ", "\n"]))
def test_generated_results(document: str, around: str) -> None:
    check_results(encoded(around + document + around))


@settings(max_examples=80, deadline=None)
@given(entries_of(IMAGE), entries_of(CATEGORY), entries_of(ANNOTATION), st.permutations(range(4)), ANY)
def test_generated_ground_truth(images: str, categories: str, annotations: str, order: list[int], info: str) -> None:
    members = [f'"images":{images}', f'"categories":{categories}', f'"annotations" : {annotations}', f'"info":{info}']
    check_ground_truth(encoded("{" + ",".join(members[i] for i in order) + "}"))


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="0123456789.,- []e", max_size=200))
def test_generated_number_lists(text: str) -> None:
    check_results(with_extra(f"[{text}]"))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes(document: bytes) -> None:
    check_results(document)
    check_ground_truth(document)


def mutated(document: bytes, chooser: random.Random) -> bytes:
    """The document with one to four small changes."""
    tokens = [
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b'"',
        b"\\",
        b"0",
        b"-",
        b".",
        b"e",
        b"1e999",
        b"null",
        b"NaN",
        b"\xff",
        b"\0",
        b" ",
        b"},{",
        b"\\u00",
        b"9" * 20,
        b'"bbox":',
        b'"id":1,',
        b"[[",
        b"]]",
    ]
    text = bytearray(document)
    for _ in range(chooser.randrange(1, 5)):
        place = chooser.randrange(len(text) + 1)
        kind = chooser.randrange(5)
        if kind == 0:
            text[place:place] = chooser.choice(tokens)
        elif kind == 1:
            text[place : place + len(chooser.choice(tokens))] = chooser.choice(tokens)
        elif kind == 2:
            del text[place : place + chooser.randrange(1, 9)]
        elif kind == 3 and place < len(text):
            text[place] = chooser.randrange(256)
        else:
            length, other = chooser.randrange(1, 60), chooser.randrange(len(text) + 1)
            text[place:place] = text[other : other + length]
    return bytes(text[: chooser.randrange(len(text) + 1)] if chooser.random() < 0.1 else text)


def mutations(document: bytes, seconds: float) -> Iterator[bytes]:
    chooser = random.Random(11)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for _ in range(50):
            yield mutated(document, chooser)


@pytest.mark.parametrize(("document", "check"), [(RESULTS, check_results), (TRUTH, check_ground_truth)])
def test_fuzz(document: bytes, check: Callable[[bytes], bool]) -> None:
    outcomes = [check(text) for text in mutations(document, FUZZ_SECONDS)]
    assert len(outcomes) > 100 and 0 < sum(outcomes) < len(outcomes)
