"""The page: a template, a style sheet, scripts and the report's data in one file that needs nothing else.

It is drawn in the browser from the data inside it, as text nodes alone. Its Content-Security-Policy lets through what
this module wrote and nothing else: each script and the style sheet by its hash, images by data URLs.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from importlib import resources

import msgspec

from qprof.report.page.charts.all import charts
from qprof.report.page.data import Report

_PARTS = resources.files("qprof.report.page").joinpath("assets")
#: In the order in which they run; each is a script of its own.
_SCRIPTS = (
    "vega.js",
    "dom.js",
    "table.js",
    "charts.js",
    "causes.js",
    "ops.js",
    "flame.js",
    "examples.js",
    "across.js",
    "main.js",
)
_PLACE = re.compile(r"\{\{(\w+)\}\}")


def page(report: Report) -> str:
    """The whole file."""
    theme, style = _read("theme.js"), _read("style.css")
    scripts = [_read(name) for name in _SCRIPTS]
    parts = {
        "csp": _policy([theme, *scripts], style),
        "title": html.escape(report.title),
        "theme": theme,
        "style": style,
        "report": embedded(msgspec.json.encode(report).decode()),
        "charts": embedded(json.dumps(charts(report), allow_nan=False, ensure_ascii=False)),
        "scripts": "\n".join(f"<script>{script}</script>" for script in scripts),
    }
    # One pass: what looks like a place inside the data is left alone.
    return _PLACE.sub(lambda found: parts[found[1]], _read("page.html"))


def embedded(text: str) -> str:
    """JSON that can stand inside a script element, and inside any older JavaScript."""
    escapes = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
    return re.sub("[<>&\u2028\u2029]", lambda found: escapes[found[0]], text)


def _policy(scripts: list[str], style: str) -> str:
    allowed = " ".join(map(_hash, scripts))
    return (
        f"default-src 'none'; script-src {allowed}; style-src {_hash(style)}; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _read(name: str) -> str:
    return _PARTS.joinpath(name).read_text(encoding="utf-8")
