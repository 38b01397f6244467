"""Plain data as TOML, for profiles that are written."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+\Z")


def toml(data: Mapping[str, Any]) -> str:
    """TOML 1.0 of numbers, texts, truths, lists and tables; lists of tables at the top as such. `ValueError` for what
    TOML has no form of, `None` among them."""
    lines: list[str] = []
    _table(data, (), lines)
    return "\n".join(lines).strip() + "\n"


def _table(data: Mapping[str, Any], path: tuple[str, ...], lines: list[str]) -> None:
    for key, value in data.items():
        if not isinstance(value, Mapping) and not _is_tables(value):
            lines.append(f"{_key(key)} = {_value(value)}")
    for key, value in data.items():
        where = (*path, key)
        if isinstance(value, Mapping):
            lines += ["", f"[{'.'.join(map(_key, where))}]"]
            _table(value, where, lines)
        elif _is_tables(value):
            for one in value:
                lines += ["", f"[[{'.'.join(map(_key, where))}]]"]
                _table(one, where, lines)


def _is_tables(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(one, Mapping) for one in value)


def _key(text: str) -> str:
    return text if _BARE_KEY.match(text) else _text(text)


def _text(text: str) -> str:
    # JSON's escapes are TOML's; of control characters DEL alone is one that JSON leaves as it is.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value)  # "inf" and "nan" too are TOML
    if isinstance(value, list | tuple):
        inner = [_value(one) for one in value]
        long = sum(map(len, inner)) > 80
        return "[\n" + "".join(f"  {text},\n" for text in inner) + "]" if long else f"[{', '.join(inner)}]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(key)} = {_value(one)}" for key, one in value.items()) + "}"
    raise ValueError(f"{type(value).__name__} has no form in TOML")
