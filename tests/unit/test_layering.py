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

#: Top to bottom: a module imports what stands below it, never what stands beside it on the same floor. `api`, `coco`
#: and `__main__` are the public faces. `record` and `stats` are the ground floor.
FLOORS = [
    {"api", "coco", "__main__"},
    {"cli"},
    {"report"},
    {"findings"},
    {"measure"},
    {"tasks", "runtimes"},
    {"probes"},
    {"store"},
    {"record", "stats", "core"},
]
#: Exceptions, how parts are found, and files that ship: below all.
BELOW_ALL = {"errors", "extensions", "embedded", ""}

#: importer -> imported, upward all the same, and why that does no harm.
EXCEPTIONS = {
    ("", "qprof.api"): "`qprof.run` and the others are looked up there when they are first used",
    ("", "qprof.coco"): "as those of `qprof.api`: for type checkers alone",
}

#: Runtimes that qprof brings, as manifests name them, and as earlier versions did.
RUNTIMES = {"litert", "onnx", "torch_export", "torch_lm", "gptq", "autogptq"}

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
    "onnx",
    "onnxruntime",
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
        if layer in BELOW_ALL or floor_of(below) <= floor_of(layer):
            found.append(target)
    return found


def floor_of(layer: str) -> int:
    """0 is the top."""
    return next(number for number, floor in enumerate(FLOORS) if layer in floor)


def test_every_module_belongs_to_a_layer() -> None:
    assert {layer_of(module) for module in MODULES} == set().union(*FLOORS, BELOW_ALL)
    assert len(MODULES) > 60


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_downward(module: str) -> None:
    assert upward(module, MODULES[module]) == []


def test_an_upward_import_is_found() -> None:
    tree = ast.parse("import os\nfrom qprof.report import units\ndef f():\n    import qprof.cli.main\n")
    assert upward("findings.new", tree) == ["qprof.report.units", "qprof.cli.main"]
    assert upward("cli.new", tree) == []
    assert upward("measure.new", ast.parse("from qprof.stats.steady import SteadyState")) == []
    assert upward("tasks.new", ast.parse("from qprof.runtimes.base import Made")) == ["qprof.runtimes.base.Made"]
    assert upward("runtimes.new", ast.parse("from qprof.tasks import base")) == ["qprof.tasks.base"]
    assert upward("record.new", ast.parse("from qprof.stats import rounds")) == ["qprof.stats.rounds"]
    assert upward("errors", ast.parse("from qprof.store import run")) == ["qprof.store.run"]


def test_there_are_few_exceptions() -> None:
    assert len(EXCEPTIONS) <= 2


def test_every_exception_is_still_needed() -> None:
    for importer, wanted in EXCEPTIONS:
        users = [
            module
            for module, tree in MODULES.items()
            if (module == importer or module.startswith(f"{importer}.") or (importer == "" and module == "__init__"))
            and any(target == wanted or target.startswith(f"{wanted}.") for target in imported(tree))
        ]
        assert users, (importer, wanted)


@pytest.mark.parametrize("floor", ["record", "stats"])
def test_the_ground_floor_imports_nothing_but_errors(floor: str) -> None:
    for module, tree in MODULES.items():
        if layer_of(module) == floor:
            targets = {t for t in imported(tree) if t.startswith("qprof.")}
            assert all(t.startswith((f"qprof.{floor}.", "qprof.errors.")) for t in targets), module


def names_a_runtime(tree: ast.AST) -> list[str]:
    """Constants that are the name of a runtime, and imports of one by its name."""
    words = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    named = [word for word in words if word in RUNTIMES]
    return named + [t for t in imported(tree) if t.startswith(tuple(f"qprof.runtimes.{name}" for name in RUNTIMES))]


@pytest.mark.parametrize("module", [m for m in MODULES if layer_of(m) != "runtimes" and m != "store.upgrade"])
def test_nothing_outside_asks_for_the_name_of_a_runtime(module: str) -> None:
    """What a runtime can do, its attributes and methods say. (Manifests of the past name those of the past.)"""
    assert names_a_runtime(MODULES[module]) == []


def test_a_question_for_the_name_of_a_runtime_is_found() -> None:
    assert names_a_runtime(ast.parse("if entry.runtime == 'litert': pass")) == ["litert"]
    assert names_a_runtime(ast.parse("from qprof.runtimes.torch_lm import ops")) == ["qprof.runtimes.torch_lm.ops"]


def test_no_module_is_long() -> None:
    """One that is does more than one thing."""
    folders = [ROOT, Path(__file__).parents[2] / "training"]
    long = {
        str(path): lines
        for folder in folders
        for path in folder.rglob("*.py")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > 400
    }
    assert long == {}


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
        "import qprof.measure.profile; qprof.measure.profile.validate({'name': 'a', 'model': {'path': 'x'}}, 'p')",
        "import qprof.measure.parent.execution, qprof.measure.worker.server",
        "import qprof.coco",
        "import qprof.findings.layers, qprof.findings.difference, qprof.findings.summary, qprof.report.run_export",
    ],
)
def test_import_loads_nothing_heavy(code: str) -> None:
    assert loaded_by(code) & HEAVY == set()


def test_import_qprof_alone_costs_next_to_nothing() -> None:
    assert loaded_by("import qprof") & {"numpy", "msgspec"} == set()


def test_every_package_is_found() -> None:
    """An editable install finds what has no `__init__.py`; a user's does not."""
    root = Path(__file__).parents[2] / "src"
    folders = {path.parent for path in (root / "qprof").rglob("*.py")}
    assert {folder for folder in folders if not (folder / "__init__.py").is_file()} == set()


def test_the_version_is_written_once() -> None:
    root = Path(__file__).parents[2]
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert "version" not in project and project["dynamic"] == ["version"]
    assert f"## {qprof.__version__}" in (root / "CHANGELOG.md").read_text()


def test_the_sources_of_the_core_have_one_style() -> None:
    root = Path(__file__).parents[2]
    sources = [str(path) for path in sorted((root / "csrc").rglob("*")) if path.suffix in (".h", ".cpp")]
    formatter = Path(sys.executable).parent / "clang-format"
    if not formatter.exists():
        pytest.skip("clang-format is not installed (extra test)")
    done = subprocess.run(
        [str(formatter), "--dry-run", "--Werror", *sources], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[:2000]
