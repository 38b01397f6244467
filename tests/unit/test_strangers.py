"""Files that come from strangers: profiles without bounds, images that are none, links that lead elsewhere, run
directories that write where they should not."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from qprof.errors import DataError, ProfileError, StoreError
from qprof.measure.profile_file import load_profile
from qprof.store.files import write_json
from qprof.store.manifests import read_manifest, write_manifest
from qprof.tasks.classification.data.source import read_examples
from qprof.tasks.images.reading import read_rgb, refuse_outside

PROFILE = 'name = "p"\nvariants = ["float32"]\n[model]\npath = "m.tflite"\n[task]\nkind = "latency"\n'


def profile(folder: Path, text: str) -> Path:
    path = folder / "p.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name = " + "[" * 100_000, "nested too deeply"),
        ("name = " + "{a=" * 100_000, "nested too deeply"),
        (".".join("a" * 400_000) + " = 1", "nested too deeply"),  # tomllib takes hours
        ("[" + " . ".join(['"a b"'] * 100_000) + "]", "nested too deeply"),
        ("[protocol]\nrounds = " + "1" * 5000, "not valid TOML"),
        (PROFILE + "samples = 1000000000000\n", r"samples"),
        (PROFILE + "[protocol]\nthreads = 1000000\n", r"threads"),
        ("# " + "x" * 2_000_000, "are no profile"),
    ],
    ids=["arrays", "tables", "key", "quoted key", "digits", "samples", "threads", "length"],
)
def test_a_profile_without_bounds_is_refused_in_one_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ProfileError, match=says) as caught:
        load_profile(profile(tmp_path, text))
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("kind", ["device", "pipe", "folder"])
def test_what_is_no_file_is_not_read_as_a_profile(tmp_path: Path, kind: str) -> None:
    if kind == "pipe":
        os.mkfifo(tmp_path / "base.toml")
    elif kind == "folder":
        (tmp_path / "base.toml").mkdir()
    else:
        (tmp_path / "base.toml").symlink_to("/dev/zero")
    with pytest.raises(ProfileError, match=r"is no file|cannot be read"):
        load_profile(profile(tmp_path, 'extends = "base.toml"\n' + PROFILE))


def test_only_variables_that_stand_for_places_are_filled_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.setenv("QPROF_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("COCO", str(tmp_path / "coco"))
    for written, meant in (
        ("$QPROF_DATA/m.tflite", "data/m.tflite"),
        ("${COCO}/m.tflite", "coco/m.tflite"),
        ("plain/m.tflite", "plain/m.tflite"),
    ):
        found = load_profile(profile(tmp_path, PROFILE.replace("m.tflite", written)))
        assert found.model.path == str((tmp_path / meant).resolve())
    for written in ("$AWS_SECRET_ACCESS_KEY/m", "${AWS_SECRET_ACCESS_KEY}", "$QPROF_NOT_SET/m", "a$", "${}", "${A"):
        with pytest.raises(ProfileError, match=r"is not filled in|set the environment|names no variable") as e:
            load_profile(profile(tmp_path, PROFILE.replace("m.tflite", written)))
        assert "hunter2" not in str(e.value)


def test_postscript_that_calls_itself_a_photo_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow hands PostScript to Ghostscript: a program of that name on the path says whether it was started."""
    started = tmp_path / "started"
    (tmp_path / "gs").write_text(f"#!/bin/sh\necho $* >> {started}\nexit 1\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n8 8 moveto\nshowpage\n%%EOF\n"
    (tmp_path / "photo.jpg").write_bytes(content)
    from PIL import EpsImagePlugin, Image

    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    with Image.open(tmp_path / "photo.jpg") as image:  # what it would be without a list of formats
        assert image.format == "EPS"
    with pytest.raises(DataError, match="it is none of AVIF, BMP, GIF, JPEG"):
        read_rgb(tmp_path / "photo.jpg", None)
    assert not started.exists()


def image_at(path: Path) -> Path:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(path)
    return path


def test_links_stay_inside_the_folder_of_images(tmp_path: Path) -> None:
    outside = image_at(tmp_path / "private" / "a.png")
    inside = image_at(tmp_path / "set" / "cat" / "b.png")
    image_at(tmp_path / "set" / "dog" / "c.png")
    assert len(read_examples(str(tmp_path / "set"))) == 2
    (tmp_path / "set" / "cat" / "near.png").symlink_to(inside)
    assert len(read_examples(str(tmp_path / "set"))) == 3
    (tmp_path / "set" / "cat" / "far.png").symlink_to(outside)
    with pytest.raises(DataError, match=r"far\.png: is a link that leads out of"):
        read_examples(str(tmp_path / "set"))
    (tmp_path / "set" / "cat" / "far.png").unlink()
    (tmp_path / "set" / "owl").symlink_to(outside.parent)
    with pytest.raises(DataError, match="is a link that leads out of"):
        read_examples(str(tmp_path / "set"))


def test_a_linked_folder_and_a_snapshot_of_the_hub_are_as_good_as_any(tmp_path: Path) -> None:
    image_at(tmp_path / "there" / "a.png")
    (tmp_path / "here").symlink_to(tmp_path / "there")
    assert refuse_outside(tmp_path / "here" / "a.png", tmp_path / "here").is_file()
    snapshot = tmp_path / "datasets--o--n" / "snapshots" / "abc" / "images"
    snapshot.mkdir(parents=True)
    blob = image_at(tmp_path / "datasets--o--n" / "blobs" / "0f.png")
    (snapshot / "a.png").symlink_to(blob)
    assert refuse_outside(snapshot / "a.png", snapshot).is_file()


def test_a_variant_of_a_doctored_run_cannot_name_a_place_outside(small: Path) -> None:
    manifest = json.loads((small / "manifest.json").read_text())
    manifest["variants"][0]["name"] = "../../escaped"
    (small / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match=r"manifest.json: damaged .*\$.variants\[0\].name"):
        read_manifest(small)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A directory of a run that has begun."""
    from qprof.record.manifest import Manifest, RecordedProfile, VariantEntry

    write_manifest(
        tmp_path,
        Manifest(
            created="2026-01-01T00:00:00+00:00",
            profile=RecordedProfile(name="p"),
            variants=[VariantEntry(name="float32")],
        ),
    )
    return tmp_path


def test_a_link_at_the_place_of_a_temporary_file_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    monkeypatch.setattr("secrets.token_hex", lambda count: "guessed")
    (tmp_path / ".r.json.qprof-guessed.tmp").symlink_to(victim)
    with pytest.raises(StoreError):
        write_json(tmp_path / "r.json", {})
    assert victim.read_text() == "mine"
