"""`report.json` and `report.html`: written into a run, and drawn again from the data alone."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from qprof.errors import StoreError
from qprof.report.page.data import REPORT_VERSION, Report
from qprof.report.page.html import page
from qprof.store.files import read_bytes, write_atomic, write_text

DATA, PAGE, SCHEMA = "report.json", "report.html", "report.schema.json"


def write_data(path: Path, report: Report) -> None:
    """Write a report's data, whole or not at all. Raises `StoreError`."""
    content = msgspec.json.format(msgspec.json.encode(report), indent=1)
    write_atomic(path, lambda stream: stream.write(content + b"\n"))


def write_page(path: Path, report: Report, follow: bool = True) -> None:
    """Draw a report's page into a file; a link there is followed, or replaced. Raises `StoreError`."""
    write_text(path, page(report), follow)


def read_data(path: Path) -> Report:
    """A report's data. Raises `StoreError` for a file that is missing, damaged, or of a newer qprof."""
    try:
        content = read_bytes(path)
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror}); make it with qprof report RUN") from error
    try:
        found = msgspec.json.decode(content)
        version = found.get("report_version") if isinstance(found, dict) else None
        if isinstance(version, int) and version > REPORT_VERSION:
            raise StoreError(f"{path}: is of a newer qprof (report version {version}); draw it with that one")
        return msgspec.convert(found, Report)
    except (msgspec.ValidationError, msgspec.DecodeError, RecursionError) as error:
        raise StoreError(f"{path}: is no report's data ({error}); make it anew with qprof report RUN") from error


def schema() -> dict[str, Any]:
    """The JSON Schema of `report.json`, from the types."""
    found = msgspec.json.schema(Report)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The data of a qprof report",
        **found,
    }


@cache
def published_schema() -> dict[str, Any]:
    """The same as the file that ships."""
    text = resources.files("qprof.report.page").joinpath(SCHEMA).read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found
