"""Timing a generated function statement by statement, where it stands.

Both an exported graph and what inductor compiles of it are run by a straight piece of Python: a call for each op or
kernel. The same function is compiled once more with a reading of the clock behind each of these calls, and its code
stands in the place of the function's own while a profiled inference runs: kernels, buffers and order are those of the
clean model, and a reading costs some 0.1 microseconds. Times lie without gaps: what a call needs (buffers made and
freed, checks of sizes) counts for it.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from time import perf_counter_ns
from types import CodeType, FunctionType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qprof.errors import ModelError

_APPEND, _NOW = "_qprof_append", "_qprof_now"


class Marks:
    """A function with clock readings. `function`: the one that runs; `source`: the text that it was compiled from;
    `is_timed`: which of its top-level statements end an op."""

    def __init__(
        self, function: FunctionType, source: ast.FunctionDef, is_timed: Callable[[ast.stmt], bool], where: str
    ) -> None:
        body: list[ast.stmt] = [_reading()]
        self.timed: list[ast.stmt] = []
        for statement in source.body:
            if isinstance(statement, (ast.For, ast.While)):
                raise ModelError(f"{where}: what was generated of it has a loop; its ops are not timed")
            body.append(statement)
            if is_timed(statement):
                self.timed.append(statement)
                body.append(_reading())
        changed = ast.FunctionDef(source.name, source.args, body, [], None, None)
        module = ast.fix_missing_locations(ast.Module([ast.copy_location(changed, source)], []))
        self._function, self._own = function, function.__code__
        self._code = _code_in(compile(module, function.__code__.co_filename, "exec"), source.name)
        if self._code.co_freevars != self._own.co_freevars:
            raise ModelError(f"{where}: the generated function holds variables of another; its ops are not timed")
        self.readings: list[int] = []
        function.__globals__.update({_APPEND: self.readings.append, _NOW: perf_counter_ns})

    def put(self) -> None:
        """Run the readings from now on."""
        self._function.__code__ = self._code

    def take_away(self) -> None:
        """Run the function as it was."""
        self._function.__code__ = self._own

    def drain(self) -> NDArray[np.int64]:
        """All readings since the last call: int64[runs, timed + 1], from the function's start on."""
        found = np.array(self.readings, np.int64)
        self.readings.clear()
        return found.reshape(-1, len(self.timed) + 1)

    @staticmethod
    def reading_ns() -> float:
        """What one reading costs, the least of some passes."""
        readings: list[int] = []
        append, now, passes = readings.append, perf_counter_ns, []
        for _ in range(5):
            start = perf_counter_ns()
            for _ in range(1000):
                append(now())
            passes.append((perf_counter_ns() - start) / 1000)
        return min(passes)


def function_in(source: str, name: str, within: str | None = None) -> ast.FunctionDef | None:
    """The function of that name in a source's top level, or in its class `within`."""
    body: Sequence[ast.stmt] = ast.parse(source).body
    if within is not None:
        classes = [one for one in body if isinstance(one, ast.ClassDef) and one.name == within]
        body = classes[0].body if classes else []
    return next((one for one in body if isinstance(one, ast.FunctionDef) and one.name == name), None)


def called(statement: ast.stmt) -> str:
    """The dotted name of what a statement calls ("torch.ops.aten.conv2d.default"), "" where it calls nothing."""
    value = getattr(statement, "value", None)
    return dotted(value.func) if isinstance(value, ast.Call) else ""


def dotted(node: Any) -> str:
    """A name or an attribute's path as written, "" for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        owner = dotted(node.value)
        return f"{owner}.{node.attr}" if owner else ""
    return ""


def _reading() -> ast.stmt:
    now = ast.Call(ast.Name(_NOW, ast.Load()), [], [])
    return ast.Expr(ast.Call(ast.Name(_APPEND, ast.Load()), [now], []))


def _code_in(module: CodeType, name: str) -> CodeType:
    return next(one for one in module.co_consts if isinstance(one, CodeType) and one.co_name == name)
