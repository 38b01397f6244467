"""The cache of variants: its key changes with everything that shapes a variant, and it never hands out damage."""

from __future__ import annotations

import multiprocessing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qprof.errors import DataError, ModelError, StoreError
from qprof.runtimes.litert import cache, make, quantize
from qprof.runtimes.litert.variant import MadeVariant, file_sha256


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("QPROF_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def variant(path: Path, content: bytes = b"model") -> MadeVariant:
    path.write_bytes(content)
    return MadeVariant(path, file_sha256(path), len(content), "int8", 1.5, "tool", "1.0", {"io": "float"}, ["a note"])


def test_cache_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    monkeypatch.setenv("QPROF_CACHE", "/own")
    assert cache.cache_root() == Path("/own")
    monkeypatch.setenv("QPROF_CACHE", "~/own")
    assert cache.cache_root() == tmp_path / "own"
    monkeypatch.delenv("QPROF_CACHE")
    assert cache.cache_root() == Path("/xdg/qprof")
    for ignored in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        assert cache.cache_root() == tmp_path / ".cache" / "qprof"


def test_key_changes_with_every_part(tmp_path: Path) -> None:
    source, other = tmp_path / "a", tmp_path / "b"
    source.write_bytes(b"1")
    other.write_bytes(b"2")
    base: tuple[Any, ...] = (source, "int8", {"x": 1, "y": 2}, "digest", {"tool": "1"})
    keys = [cache.key(*base)]
    for position, part in enumerate((other, "int16x8", {"x": 1, "y": 3}, None, {"tool": "2"})):
        keys.append(cache.key(*base[:position], part, *base[position + 1 :]))
    assert len(set(keys)) == 6
    assert cache.key(source, "int8", {"y": 2, "x": 1}, "digest", {"tool": "1"}) == keys[0]
    other.write_bytes(b"1")  # the name of the file is no part of it
    assert cache.key(other, *base[1:]) == keys[0]


def test_folder_digest(tmp_path: Path) -> None:
    def folder(name: str, files: dict[str, bytes]) -> str:
        for path, content in files.items():
            (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / path).write_bytes(content)
        return cache.content_sha256(tmp_path / name)

    base = folder("a", {"saved_model.pb": b"1", "variables/v": b"2"})
    assert folder("b", {"variables/v": b"2", "saved_model.pb": b"1"}) == base
    assert folder("c", {"saved_model.pb": b"1", "variables/w": b"2"}) != base
    assert folder("d", {"saved_model.pb": b"1", "variables/v": b"3"}) != base
    with pytest.raises(ModelError, match="cannot be read"):
        cache.content_sha256(tmp_path / "absent")


def test_store_and_lookup(tmp_path: Path, root: Path) -> None:
    assert cache.lookup("ab12") is None
    made = variant(tmp_path / "made.tflite")
    stored = cache.store("ab12", made)
    assert stored.path == root / "variants" / "ab" / "ab12" / "model.tflite"
    assert replace(stored, path=made.path) == made
    assert cache.lookup("ab12") == stored
    assert sorted(path.name for path in stored.path.parent.iterdir()) == ["model.tflite", "variant.json"]
    assert sorted(path.name for path in (root / "variants").iterdir()) == ["ab"]


@pytest.mark.parametrize("damage", ["model", "cut facts", "wrong facts", "no facts", "no model"])
def test_a_damaged_entry_is_removed_and_made_again(tmp_path: Path, damage: str) -> None:
    made = variant(tmp_path / "made.tflite")
    entry = cache.store("ab12", made).path.parent
    facts = entry / "variant.json"
    if damage == "model":
        (entry / "model.tflite").write_bytes(b"medal")
    elif damage == "cut facts":
        facts.write_text(facts.read_text()[:20])
    elif damage == "wrong facts":
        facts.write_text('{"sha256": 3}')
    else:
        (entry / ("variant.json" if damage == "no facts" else "model.tflite")).unlink()
    assert cache.lookup("ab12") is None
    assert not entry.exists()
    cache.store("ab12", made)
    stored = cache.lookup("ab12")
    assert stored is not None and stored.path.read_bytes() == b"model"


def test_the_first_intact_entry_stays(tmp_path: Path) -> None:
    first = cache.store("ab12", variant(tmp_path / "one", b"one"))
    inode = first.path.stat().st_ino
    assert cache.store("ab12", variant(tmp_path / "two", b"two")) == first
    assert first.path.stat().st_ino == inode
    first.path.write_bytes(b"damaged")
    assert cache.store("ab12", variant(tmp_path / "two", b"two")).path.read_bytes() == b"two"


def _store_many(folder: str, worker: int, results: Any) -> None:
    made = variant(Path(folder) / f"made{worker}", b"same content" * 1000)
    for number in range(30):
        stored = cache.store(f"{number:04d}", made)
        if stored.path.read_bytes() != b"same content" * 1000:
            results.put(f"{worker}: entry {number} is torn")
    results.put("done")


def test_two_processes_at_once(tmp_path: Path, root: Path) -> None:
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    workers = [context.Process(target=_store_many, args=(str(tmp_path), n, results)) for n in range(2)]
    for worker in workers:
        worker.start()
    assert [results.get(timeout=60) for _ in workers] == ["done", "done"]
    for worker in workers:
        worker.join(timeout=60)
        assert worker.exitcode == 0
    assert not list((root / "variants").glob(".*"))


def test_a_cache_that_cannot_be_written(tmp_path: Path, root: Path) -> None:
    root.write_text("a file, not a folder")
    with pytest.raises(StoreError, match="QPROF_CACHE"):
        cache.store("ab12", variant(tmp_path / "made"))


class Samples:
    """Calibration that counts its passes."""

    def __init__(self) -> None:
        self.passes = 0

    def __call__(self) -> list[list[Any]]:
        self.passes += 1
        random = np.random.default_rng(7)
        return [[random.uniform(0, 1, (1, 16, 16, 3)).astype(np.float32)] for _ in range(4)]


@pytest.fixture
def net(tmp_path: Path) -> Path:
    pytest.importorskip("ai_edge_quantizer")
    builder = pytest.importorskip("tflite_builder")
    path = tmp_path / "net.tflite"
    path.write_bytes(builder.tiny_conv_net(channels=64))
    return path


def test_all_variants_share_one_calibration_and_are_made_once(net: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = Samples()
    requests = [make.MakeRequest(net, method, make.Calibration(samples, "d")) for method in quantize.METHODS]
    made = make.make_variants(requests)
    assert all(isinstance(result, MadeVariant) for result in made)
    assert [result.method for result in made if isinstance(result, MadeVariant)] == list(quantize.METHODS)
    assert samples.passes == 1
    monkeypatch.setattr(quantize, "make", None)  # a second making would fail
    assert make.make_variants(requests[1:]) == made[1:]
    assert samples.passes == 1


def test_what_shapes_a_variant_is_part_of_its_key(net: Path) -> None:
    samples = Samples()
    base = make.MakeRequest(net, "int8", make.Calibration(samples, "d"))
    changed = [
        replace(base, calibration=make.Calibration(samples, "e")),
        replace(base, io="float"),
        replace(base, skip_ops=["SOFTMAX"]),
        replace(base, skip_layers=["logits"]),
        replace(base, granularity="tensorwise"),
        replace(base, ranges="min-max"),
        replace(base, method="int8:CONV_2D"),
    ]
    paths = {made.path for made in make.make_variants([base, *changed]) if isinstance(made, MadeVariant)}
    assert len(paths) == 8
    assert make.make_variant(replace(base, threads=1)).path in paths  # the number of threads shapes nothing


def test_one_failure_stops_no_other(net: Path) -> None:
    results = make.make_variants(
        [
            make.MakeRequest(net, "int9"),
            make.MakeRequest(net, "int8"),
            make.MakeRequest(net.parent / "absent.tflite", "float16"),
            make.MakeRequest(net, "float16"),
        ]
    )
    assert [type(result) for result in results] == [ModelError, DataError, ModelError, MadeVariant]
    with pytest.raises(ModelError, match="unknown method 'int9'"):
        make.make_variant(make.MakeRequest(net, "int9"))


def test_files_are_used_where_they_are(net: Path, tmp_path: Path, root: Path) -> None:
    builder = pytest.importorskip("tflite_builder")
    ready = tmp_path / "ready.tflite"
    ready.write_bytes(builder.tiny_int8_net())
    made = make.make_variant(make.MakeRequest(ready, "file"))
    assert (made.path, made.sha256, made.bytes) == (ready, file_sha256(ready), ready.stat().st_size)
    assert make.make_variant(make.MakeRequest(net, "float32")).path == net
    assert not root.exists()
    with pytest.raises(ModelError, match="already quantized"):
        make.make_variant(make.MakeRequest(ready, "float32"))
    ready.write_bytes(b"no model")
    with pytest.raises(ModelError, match="no TFL3 identifier"):
        make.make_variant(make.MakeRequest(ready, "file"))
