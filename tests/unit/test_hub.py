"""Models of the hub: from the local cache in the hub's layout, and a clear word where one cannot be had."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from qprof.errors import MissingExtraError, ModelError, ProfileError
from qprof.measure.command_line import profile_for
from qprof.runtimes import hub

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An offline cache that holds org/model at one commit, called main."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    model = tmp_path / "models--org--model"
    snapshot = model / "snapshots" / COMMIT
    for folder in (snapshot, model / "blobs", model / "refs"):
        folder.mkdir(parents=True)
    (model / "refs" / "main").write_text(COMMIT)
    (model / "blobs" / "aaaa").write_text("{}")
    (snapshot / "config.json").symlink_to(Path("../../blobs/aaaa"))
    return tmp_path


@pytest.mark.parametrize("reference", ["hf://org/model", "hf://org/model@main", f"hf://org/model@{COMMIT}"])
def test_a_cached_model_needs_no_network(cache: Path, reference: str) -> None:
    folder = hub.local_folder(reference)
    assert folder == cache / "models--org--model" / "snapshots" / COMMIT
    assert (folder / "config.json").read_text() == "{}"


def test_names_without_org(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cache / "models--org--model").rename(cache / "models--gpt2")
    folder = cache / "models--gpt2" / "snapshots" / COMMIT
    assert hub.local_folder("hf://gpt2") == hub.local_folder("hf://gpt2@main") == folder
    assert hub.cached_folder("gpt2") == folder and hub.cached_folder("org/other") is None
    assert hub.cached_folder("../gpt2") is None and hub.cached_folder("/etc") is None
    assert hub.is_bare_name("gpt2") and hub.is_bare_name("gpt2@main")
    assert not any(map(hub.is_bare_name, ["llama", "model.tflite", "./gpt2", "gpt2/", "quickstart", ""]))


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("gpt2", "hf://gpt2"),  # the folder of that name is not meant
        ("gpt2@main", "hf://gpt2@main"),
        ("org/model", "hf://org/model"),
        ("org/model@v1.0", "hf://org/model@v1.0"),
        ("hf://org/model@v1.0", "hf://org/model@v1.0"),
        ("./gpt2", "gpt2"),
        ("gpt2/", "gpt2"),
    ],
)
def test_what_a_command_line_means_by_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, path: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gpt2").mkdir()
    (tmp_path / "gpt2" / "config.json").write_text('{"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2"}')
    profile = profile_for([target])
    assert profile.model.path == (path if "://" in path else str(tmp_path / path))
    assert profile.name in ("gpt2", "model")


def test_other_words_are_no_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for target in ("gpt3", "quickstar", "missing.tflite"):
        with pytest.raises(ProfileError, match="no such model, and no profile"):
            profile_for([target])


@pytest.mark.parametrize("reference", ["hf://org/other", "hf://org/model@v2"])
def test_what_is_not_cached_is_told_offline(cache: Path, reference: str) -> None:
    with pytest.raises(ModelError, match=f"{reference}: not in the local cache.*HF_HUB_OFFLINE"):
        hub.local_folder(reference)


@pytest.mark.parametrize("reference", ["hf://", "hf://a/b/c", "hf://a/b@", "hf://a/b c", "hf://../b", "hf://a/b\n"])
def test_malformed_references(reference: str) -> None:
    with pytest.raises(ModelError, match="write hf://ORG/NAME"):
        hub.local_folder(reference)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'qprof\[gptq\]'"):
        hub.local_folder("hf://org/model")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("GatedRepoError", "access is restricted; accept its terms"),
        ("RepositoryNotFoundError", "not found on the hub"),
        ("RevisionNotFoundError", "no such revision"),
        ("LocalEntryNotFoundError", "not in the local cache"),
        ("HfHubHTTPError", "cannot be downloaded: 503"),
    ],
)
def test_every_failure_has_its_remedy(monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    huggingface_hub = pytest.importorskip("huggingface_hub")
    kind = getattr(huggingface_hub.errors, name)
    error = kind.__new__(kind)
    Exception.__init__(error, "503 Server Error\nfor url")

    def fail(*arguments: object, **keywords: object) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    with pytest.raises(ModelError, match=text) as raised:
        hub.local_folder("hf://org/model")
    assert "\n" not in str(raised.value)


def test_only_harmless_files_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    huggingface_hub = pytest.importorskip("huggingface_hub")
    from huggingface_hub.utils import filter_repo_objects

    asked = {}
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **keywords: asked.update(keywords) or "/x")
    assert hub.local_folder("hf://org/model@v1") == Path("/x")
    assert asked.pop("revision") == "v1"
    wanted = ["config.json", "model-00001-of-00002.safetensors", "model.safetensors.index.json", "tokenizer.json"]
    harmful = ["pytorch_model.bin", "modeling.py", "model.pt", "onnx/model.onnx", "original/params.json", "README.md"]
    assert list(filter_repo_objects(wanted + harmful, **asked)) == wanted
