"""Profiles that a command line implies: model files with no profile at all, and the profiles that qprof ships."""

from __future__ import annotations

import difflib
import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import qprof
from qprof.errors import ProfileError
from qprof.run.profile import DEFAULT_VARIANTS, Profile, load_profile, validate

#: What `qprof run` runs without arguments.
QUICKSTART = "quickstart"


def profile_for(
    targets: Sequence[str], *, variants: Sequence[str] = (), inputs: Sequence[str] = (), overrides: Sequence[str] = ()
) -> Profile:
    """The profile that a command line means.

    No target: the quickstart. One that is (or names) a profile: that profile. Model files: a latency comparison of
    them, on random inputs or on `inputs`; with `variants`, those variants made from the one file. `overrides` are
    "section.key=value". Raises `ProfileError` where the targets do not go together.
    """
    models = [target for target in targets if not _is_profile(target)]
    if len(targets) > 1 and len(models) < len(targets):
        raise ProfileError("give one profile, or model files, but not both or several profiles; run them one by one")
    if not models:
        if variants or inputs:
            raise ProfileError("--variants and --inputs go with model files; a profile names its own")
        return load_profile(_profile_path(targets[0] if targets else QUICKSTART), overrides)
    return _model_profile(models, variants, inputs, overrides)


def shipped_profiles() -> list[str]:
    """Names of the profiles that come with qprof."""
    return sorted(path.stem for path in _profiles_folder().glob("*.toml"))


def _profiles_folder() -> Path:
    """Inside the package where qprof is installed; beside its sources in a checkout (or an editable install)."""
    package = Path(qprof.__file__).parent
    return next(folder for folder in (package / "profiles", package.parents[1] / "profiles") if folder.is_dir())


def _is_profile(target: str) -> bool:
    return target.endswith(".toml") or (target in shipped_profiles() and not Path(target).exists())


def _profile_path(target: str) -> Path:
    if target.endswith(".toml"):
        return Path(target)
    return _profiles_folder() / f"{target}.toml"


def _model_profile(
    models: Sequence[str], variants: Sequence[str], inputs: Sequence[str], overrides: Sequence[str]
) -> Profile:
    from qprof.run.profile import apply_overrides

    paths = [_existing(model) for model in models]
    data: dict[str, Any] = {"name": _safe(paths[0].stem), "task": {"kind": "latency"}}
    if inputs:
        data["task"]["inputs"] = [str(Path(name).resolve()) for name in inputs]
    if variants and len(paths) > 1:
        raise ProfileError("--variants makes variants of one model; give one model file, or compare files without it")
    if variants or (len(paths) == 1 and paths[0].suffix != ".tflite"):
        data["model"] = {"path": str(paths[0])}
        data["variants"] = list(variants or DEFAULT_VARIANTS)
    else:
        names = _distinct([_safe(path.stem) for path in paths])
        data["variants"] = [{"name": name, "file": str(path)} for name, path in zip(names, paths, strict=True)]
    apply_overrides(data, overrides)
    return validate(data, source="command line")


def _existing(model: str) -> Path:
    path = Path(model).resolve()
    if not os.path.exists(path):  # unlike Path.exists, false for a name too long to be one
        near = difflib.get_close_matches(model, shipped_profiles(), n=1)
        advice = f"did you mean the profile {near[0]}?" if near else f"profiles: {', '.join(shipped_profiles())}"
        raise ProfileError(f"{model}: no such model file, and no profile that qprof ships; {advice}")
    return path


def _safe(stem: str) -> str:
    """A file's stem as a name: what a profile allows in one."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "._+-") else "-" for c in stem)
    return (kept.lstrip("._+-") or "model")[:80]


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, numbered where one comes more than once."""
    result: list[str] = []
    for name in names:
        numbered = (f"{name[:74]}-{number}" for number in itertools.count(2))
        result.append(next(new for new in (name, *itertools.islice(numbered, len(names))) if new not in result))
    return result
