"""What the pages say holds: links lead somewhere, examples are valid, counts and commands are those of the code."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from planted.suite import Case, discovered
from qprof.cli.main import command_names
from qprof.measure.profile import validate
from qprof.runtimes import registry
from qprof.runtimes.litert import quantize
from qprof.tasks import registry as tasks

ROOT = Path(__file__).parents[2]
PAGES = [path for path in ROOT.rglob("*.md") if ".venv" not in path.parts and "build" not in path.parts]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("text", blocks(ROOT / "profiles/README.md", "toml"))
def test_example_profiles_are_valid(text: str) -> None:
    profile = validate(tomllib.loads(text), "the page")
    assert len(profile.variants) > 2


@pytest.mark.parametrize("path", sorted((ROOT / "profiles").glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_profiles_are_valid(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from qprof.measure.profile_file import load_profile

    monkeypatch.setenv("COCO", "/coco")
    monkeypatch.setenv("MODELS", "/models")
    monkeypatch.setenv("CIFAR10", "/cifar10")
    bases = ("coco-val2017", "imagenet-val", "lambada")  # which name no model
    if path.stem not in bases:
        assert load_profile(path).name == path.stem


def test_every_command_is_described() -> None:
    page = (ROOT / "src/qprof/cli/README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`qprof (\w+)", page)) == set(command_names())


def test_every_method_and_task_is_described() -> None:
    page = (ROOT / "profiles/README.md").read_text(encoding="utf-8")
    assert [method for method in quantize.METHODS if f"`{method}`" not in page] == []
    assert [kind for kind in tasks.names() if f"`{kind}`" not in page] == []
    defaults = [name for runtime in registry.names() for name in registry.get(runtime).default_variants]
    written = [re.sub(r"-\d+bit", "-<bits>bit", name) for name in defaults]
    assert [name for name in written if f"`{name}`" not in page] == []


def test_the_planted_worlds_are_counted_right() -> None:
    cases, broken = discovered()
    assert broken == {}
    made: list[Case] = [make() for make in cases.values()]
    planted = sum(bool(case.planted) for case in made)
    allowed = sum(bool(case.allowed) and not case.planted for case in made)
    page = " ".join((ROOT / "src/qprof/findings/README.md").read_text(encoding="utf-8").split())
    said = re.search(r"(\d+) simulated worlds: (\d+) with a planted cause, (\d+) without any, and one where", page)
    assert said is not None
    assert [int(n) for n in said.groups()] == [len(made), planted, len(made) - planted - allowed] and allowed == 1
