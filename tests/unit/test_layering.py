"""The layers of the package: a module imports what stands below it, and nothing heavy before it is needed."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import qprof

ROOT = Path(qprof.__file__).parent

#: Top to bottom; `api` and `coco` are the public faces. `embedded` and `errors` stand below all: files that ship, and
#: exceptions.
LAYERS = ["api", "coco", "cli", "report", "explain", "stats", "run", "runtimes", "tasks", "probes", "store", "core"]
BELOW_ALL = {"errors", "embedded", ""}

#: importer -> imported, upward all the same, and why that does no harm.
EXCEPTIONS = {
    ("run", "qprof.stats"): "pure functions that import no other layer; warm-up and order are decided by them",
    ("run.__init__", "qprof.api"): "`qprof.run(...)` is the API's verb: a forwarding call, inside a function",
    ("explain.__init__", "qprof.api"): "`qprof.explain(...)` is the API's verb, as `qprof.run(...)` is",
    ("tasks", "qprof.runtimes.base"): "TensorSpec is the contract between a task and the runtime that it is bound to",
    ("embedded.train_detector", "qprof.tasks"): "trains the shipped model; no part of qprof imports it",
    ("embedded.train_language_model", "qprof.tasks"): "trains the shipped model; no part of qprof imports it",
    ("", "qprof.api"): "`qprof.layers` and the others are looked up there when first used",
}

HEAVY = {
    "torch",
    "tensorflow",
    "keras",
    "pyarrow",
    "scipy",
    "PIL",
    "pycocotools",
    "ai_edge_litert",
    "ai_edge_quantizer",
    "rich",
    "transformers",
    "tokenizers",
    "safetensors",
    "huggingface_hub",
    "datasets",
    "gptqmodel",
    "auto_gptq",
}

MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted(ROOT.rglob("*.py"))
}


def layer_of(module: str) -> str:
    """The layer of a module without the leading "qprof."."""
    first = module.split(".")[0]
    return "" if first == "__init__" else first


def imported(tree: ast.AST) -> Iterator[str]:
    """Every module that is imported anywhere; of `from a import b` both a.b and a may be meant: a.b is given."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_at_top(tree: ast.Module) -> Iterator[str]:
    """What is imported when the module is: not what functions import, nor what only a type checker sees."""
    pending: list[ast.stmt] = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from imported(node)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending += node.orelse
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            pending += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]


def is_exception(module: str, target: str) -> bool:
    return any(
        (module == importer or module.startswith(f"{importer}.") or (importer == "" and module == "__init__"))
        and (target == wanted or target.startswith(f"{wanted}."))
        for importer, wanted in EXCEPTIONS
    )


def upward(module: str, tree: ast.Module) -> list[str]:
    """The imports of a module that reach up."""
    layer = layer_of(module)
    found = []
    for target in imported(tree):
        if not target.startswith("qprof."):
            continue
        below = layer_of(target.removeprefix("qprof."))
        if below == layer or below in BELOW_ALL or below == "__version__" or is_exception(module, target):
            continue
        if layer in BELOW_ALL or LAYERS.index(below) < LAYERS.index(layer):
            found.append(target)
    return found


def test_every_module_belongs_to_a_layer() -> None:
    assert {layer_of(module) for module in MODULES} <= {*LAYERS, *BELOW_ALL}
    assert len(MODULES) > 60


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_downward(module: str) -> None:
    assert upward(module, MODULES[module]) == []


def test_an_upward_import_is_found() -> None:
    tree = ast.parse("import os\nfrom qprof.report import units\ndef f():\n    import qprof.cli.main\n")
    assert upward("explain.new", tree) == ["qprof.report.units", "qprof.cli.main"]
    assert upward("cli.new", tree) == []
    assert upward("run.new", ast.parse("from qprof.stats.steady import SteadyState")) == []
    assert upward("tasks.new", ast.parse("from qprof.runtimes.litert import make")) == ["qprof.runtimes.litert.make"]
    assert upward("errors", ast.parse("from qprof.store import run")) == ["qprof.store.run"]


def test_every_exception_is_still_needed() -> None:
    for importer, wanted in EXCEPTIONS:
        users = [
            module
            for module, tree in MODULES.items()
            if (module == importer or module.startswith(f"{importer}.") or (importer == "" and module == "__init__"))
            and any(target == wanted or target.startswith(f"{wanted}.") for target in imported(tree))
        ]
        assert users, (importer, wanted)


def test_stats_import_no_layer() -> None:
    for module, tree in MODULES.items():
        if layer_of(module) == "stats":
            targets = {t for t in imported(tree) if t.startswith("qprof.")}
            assert all(t.startswith(("qprof.stats.", "qprof.errors.")) for t in targets), module


@pytest.mark.parametrize("module", MODULES)
def test_heavy_packages_are_imported_where_they_are_used(module: str) -> None:
    assert {target.split(".")[0] for target in imported_at_top(MODULES[module])} & HEAVY == set()


def test_a_heavy_import_at_top_is_found() -> None:
    tree = ast.parse("try:\n    import torch.nn\nexcept ImportError:\n    pass\ndef f():\n    import scipy\n")
    assert list(imported_at_top(tree)) == ["torch.nn"]
    guarded = ast.parse("if TYPE_CHECKING:\n    import rich\nelse:\n    import PIL\nclass A:\n    import keras\n")
    assert sorted(imported_at_top(guarded)) == ["PIL", "keras"]


def loaded_by(code: str) -> set[str]:
    script = f"{code}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize(
    "code",
    [
        "import qprof",
        "import qprof.cli.main; qprof.cli.main._parser()",
        "import qprof.run.profile; qprof.run.profile.validate({'name': 'a', 'model': {'path': 'x'}}, 'p')",
        "import qprof.run.execute, qprof.run.worker",
        "import qprof.coco",
        "import qprof.explain.layers, qprof.explain.differ, qprof.explain.summary, qprof.report.run_export",
    ],
)
def test_import_loads_nothing_heavy(code: str) -> None:
    assert loaded_by(code) & HEAVY == set()


def test_import_qprof_alone_costs_next_to_nothing() -> None:
    assert loaded_by("import qprof") & {"numpy", "msgspec"} == set()


def test_every_package_is_installed() -> None:
    """An editable install finds what the list leaves out; a user's does not."""
    root = Path(__file__).parents[2]
    listed = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {".".join(path.parent.relative_to(root / "src").parts) for path in (root / "src").rglob("__init__.py")}
    assert found - {""} <= set(listed)
