"""CSV and JSON for other programs: read back by other readers, and never half a file."""

from __future__ import annotations

import csv
import dataclasses
import enum
import io
import json
import math
import os
import stat
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qprof.errors import StoreError
from qprof.report.export import write_csv, write_json


def _csv(columns: list[str], rows: list[dict[str, Any]]) -> str:
    stream = io.StringIO(newline="")
    write_csv(stream, columns, rows)
    return stream.getvalue()


def test_csv_text() -> None:
    rows = [
        {"op": "conv, 3x3", "us": 0.1, "n": 3, "fast": True},
        {"op": 'say "hi"\nthere', "us": None, "n": np.int64(4), "fast": False},
        {"op": "", "us": math.nan, "n": np.float64(1e-9), "unknown": 1},
    ]
    assert _csv(["op", "us", "n", "fast"], rows) == (
        'op,us,n,fast\r\n"conv, 3x3",0.1,3,true\r\n"say ""hi""\nthere",,4,false\r\n,,1e-09,\r\n'
    )


@pytest.mark.parametrize(
    "name", ["=1+1", "+x", "-x", "@SUM(A1)", "\tx", "\rx", "  =1", "\N{FULLWIDTH EQUALS SIGN}1", '=HYPERLINK("x")']
)
def test_csv_disarms_formulas_in_text(name: str) -> None:
    text = _csv([name], [{name: name}])
    assert list(csv.reader(io.StringIO(text, newline=""))) == [["'" + name], ["'" + name]]


def test_csv_leaves_numbers_alone() -> None:
    assert _csv(["a", "b", "c"], [{"a": -1, "b": -0.5, "c": "a-b"}]) == "a,b,c\r\n-1,-0.5,a-b\r\n"


@given(st.lists(st.tuples(st.text(), st.floats(allow_nan=False))))
def test_csv_is_read_back(rows: list[tuple[str, float]]) -> None:
    text = _csv(["name", "value"], [{"name": name, "value": value} for name, value in rows])
    read = list(csv.reader(io.StringIO(text.encode().decode(), newline="")))[1:]
    assert [float(value) for _, value in read] == [value for _, value in rows]
    for (shown, _), (name, _) in zip(read, rows, strict=True):
        assert shown.removeprefix("'") == name.removeprefix("'")


def test_csv_file_is_utf8_even_for_undecodable_names(tmp_path: Path) -> None:
    write_csv(tmp_path / "ops.csv", ["op"], [{"op": "漢\udcff"}])
    assert (tmp_path / "ops.csv").read_bytes() == "op\r\n漢\\udcff\r\n".encode()


class _Source(enum.Enum):
    NODE = "node"


@dataclasses.dataclass
class _Finding:
    claim: str
    shift_us: float | None


def test_json_text(tmp_path: Path) -> None:
    value = {
        "b": [math.nan, math.inf, -math.inf, None, 0.1, True],
        "a": (_Finding("slower", np.float32(0.5)), _Source.NODE, Path("x/y"), {"z", "y"}),
        3: np.array([[1.0, np.nan], [2.0, 3.0]]),
    }
    write_json(tmp_path / "x.json", value)
    text = (tmp_path / "x.json").read_text()
    assert json.loads(text) == {
        "b": [None, None, None, None, 0.1, True],
        "a": [{"claim": "slower", "shift_us": 0.5}, "node", "x/y", ["y", "z"]],
        "3": [[1.0, None], [2.0, 3.0]],
    }
    assert text.index('"3"') < text.index('"a"') < text.index('"b"')
    assert text.endswith("}\n")


def test_json_bytes_do_not_depend_on_insertion_order() -> None:
    first, second = io.StringIO(), io.StringIO()
    write_json(first, {"a": 1, "b": {"c": 2, "d": 3}}, indent=None)
    write_json(second, {"b": {"d": 3, "c": 2}, "a": 1}, indent=None)
    assert first.getvalue() == second.getvalue() == '{"a": 1, "b": {"c": 2, "d": 3}}\n'


def test_json_of_what_has_no_form_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("old")
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert path.read_text() == "old"


def test_a_failure_half_way_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("old")

    def rows() -> Any:
        yield {"a": 1}
        raise OSError(28, "No space left on device")

    with pytest.raises(StoreError, match=r"x\.csv: cannot be written \(No space left on device\); choose"):
        write_csv(path, ["a"], rows())
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["x.csv"]


def test_a_folder_that_is_missing_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        write_csv(tmp_path / "none" / "x.csv", ["a"], [])
    assert str(caught.value) == (
        f"{tmp_path}/none/x.csv: cannot be written (No such file or directory); choose another file, or free some space"
    )
    with pytest.raises(StoreError, match="Is a directory"):
        write_json(tmp_path, {})


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real.json", tmp_path / "link.json"
    real.write_text("old")
    link.symlink_to(real)
    write_json(link, [1], indent=None)
    assert link.is_symlink()
    assert real.read_text() == "[1]\n"


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(fifo.read_bytes()), daemon=True)
    reader.start()
    write_csv(fifo, ["a"], [{"a": 1}])
    reader.join(timeout=10)
    assert received == [b"a\r\n1\r\n"]
    assert stat.S_ISFIFO(fifo.stat().st_mode)
