"""The outcome of a gate: for a terminal, as Markdown, and as JUnit XML for a CI server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from xml.etree import ElementTree

from qprof.findings.check import Check
from qprof.report.table import Column, Table

#: What XML 1.0 cannot hold, whatever it is escaped as.
_FORBIDDEN = {code: "�" for code in (*range(0x09), 0x0B, 0x0C, *range(0x0E, 0x20), 0xFFFE, 0xFFFF)}


def check_table(checks: Sequence[Check]) -> Table:
    """One row per check."""
    columns = [
        Column("variant", "variant", align="left"),
        Column("check", "name", align="left"),
        Column("outcome", "outcome", align="left"),
        Column("", "says", align="left", flexible=True),
    ]
    rows: list[dict[str, str | None]] = [
        {"variant": c.variant, "name": c.name, "outcome": c.outcome, "says": c.says} for c in checks
    ]
    return Table(columns, rows)


def unlike_lines(machines: Sequence[str], versions: Sequence[str]) -> Iterator[str]:
    """What is not alike between a run and its standard, above all checks."""
    if machines:
        yield f"NOT ALIKE  {'; '.join(machines)}: latencies are not judged"
    if versions:
        yield f"NOT ALIKE  {'; '.join(versions)}"


def junit_xml(checks: Sequence[Check], suite: str) -> str:
    """A JUnit test suite: one case per check, doubtful ones as passed with a remark."""
    failed = sum(check.outcome == "failed" for check in checks)
    root = ElementTree.Element(
        "testsuite", name=_clean(suite), tests=str(len(checks)), failures=str(failed), errors="0", skipped="0"
    )
    for check in checks:
        case = ElementTree.SubElement(root, "testcase", classname=_clean(check.variant), name=_clean(check.name))
        if check.outcome == "failed":
            ElementTree.SubElement(case, "failure", message=_clean(check.says))
        else:
            ElementTree.SubElement(case, "system-out").text = _clean(f"{check.outcome}: {check.says}")
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def markdown(checks: Sequence[Check]) -> str:
    """A table for a pull request."""
    lines = ["| variant | check | outcome | |", "|---|---|---|---|"]
    lines += ["| " + " | ".join(_cell(text) for text in (c.variant, c.name, c.outcome, c.says)) + " |" for c in checks]
    return "\n".join(lines) + "\n"


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8").translate(_FORBIDDEN)


def _cell(text: str) -> str:
    """Names are data: what Markdown or HTML would take for markup is shown as it is."""
    escaped = " ".join(text.split())
    for mark in ("\\", "|", "`", "*", "_", "[", "]", "#"):
        escaped = escaped.replace(mark, f"\\{mark}")
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
