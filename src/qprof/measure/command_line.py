"""Profiles that a command line implies: model files with no profile at all, and the profiles that qprof ships."""

from __future__ import annotations

import difflib
import itertools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import qprof
from qprof.errors import ProfileError
from qprof.measure.input_options import InputOptions
from qprof.measure.profile import Profile, validate
from qprof.measure.profile_file import apply_overrides, load_profile
from qprof.probes.machine import available_cores
from qprof.runtimes import hub, registry
from qprof.tasks import registry as tasks

#: What `qprof run` runs without arguments, one after the other.
QUICKSTART = ("quickstart", "quickstart-lm")

#: Bit widths of a language model's variants, unless the command line names others.
DEFAULT_BITS = (8, 4, 2)
GPTQ_BITS = (8, 4, 3, 2)

#: Files of running text; WikiText's own end in ".raw" and ".tokens".
_RUNNING_TEXT = (".txt", ".md", ".raw", ".tokens")

#: Passages that a language model is scored on with no profile and no data: enough for half-widths of some 6 points.
ADHOC_PASSAGES = 200


def profile_for(
    targets: Sequence[str],
    *,
    variants: Sequence[str] = (),
    inputs: Sequence[str] | InputOptions = (),
    bits: Sequence[int] = (),
    group_size: int | None = None,
    data: str = "",
    images: str = "",
    labels: str = "",
    truth: str = "",
    overrides: Sequence[str] = (),
) -> Profile:
    """The profile that a command line means.

    No target: the first of the quickstart. One that is (or names) a profile: that profile. Model files: a latency
    comparison of them, on random inputs or on `inputs` (files, or all that can be said of inputs); with `variants`,
    those variants made from the one file; scored on labelled `images`, whose labels are the file `truth` where they
    stand apart, with `labels` naming the outputs. A
    language model (a folder in Hugging Face's layout, or an id on its hub): unquantized and in `bits` with groups of
    `group_size` (-1: a group per row), or in `variants`; a quantized one, or several, as they are; scored on the last
    words of `data`, or of passages made by qprof. `overrides` are "section.key=value".

    Raises `ProfileError` where the targets do not go together.
    """
    models = [target for target in targets if not is_profile(target)]
    inputs = inputs if isinstance(inputs, InputOptions) else InputOptions(files=inputs)
    if len(targets) > 1 and len(models) < len(targets):
        raise ProfileError("give one profile, or model files, but not both or several profiles; run them one by one")
    if not models:
        if variants or inputs or bits or data or images or labels or truth or group_size is not None:
            raise ProfileError("--variants, --inputs, --bits and the like go with models; a profile names its own")
        return load_profile(_profile_path(targets[0] if targets else QUICKSTART[0]), overrides)
    if variants and (bits or group_size is not None):
        raise ProfileError("--variants names the variants, and so do --bits and --group-size; give one or the other")
    language = [model for model in models if _is_language_model(model, bool(bits or data))]
    if language:
        if len(language) < len(models) or inputs or images or labels or truth:
            raise ProfileError(
                "a language model runs on text, beside others of its kind; give --data, not --inputs or --images"
            )
        if len(models) > 1 or _is_finished(models[0]):
            if variants or bits or group_size is not None:
                raise ProfileError(
                    "checkpoints that are quantized, or several of them, are run as they are; leave out --bits, "
                    "--group-size and --variants, or give one unquantized model"
                )
            return _checkpoints_profile(models, data, overrides)
        return _language_profile(models[0], variants or _widths(bits, group_size), data, overrides)
    if bits or data or group_size is not None:
        raise ProfileError(f"--bits, --group-size and --data go with a language model, which {models[0]} is not")
    if images and inputs.task():
        raise ProfileError("--images are what the models run on, and so are --inputs; give one or the other")
    if (labels or truth) and not images:
        raise ProfileError("--labels and --truth go with --images; name the labelled images")
    profile = _model_profile(models, variants, inputs)
    if images:
        place, names, listed = (_resolved(name) for name in (images, labels, truth))
        profile["task"] = tasks.for_data(place, names, listed, calibrated="path" in profile.get("model", {}))
    return validate(apply_overrides(profile, overrides), source="command line")


def shipped_profiles() -> list[str]:
    """Names of the profiles that come with qprof."""
    return sorted(path.stem for path in _profiles_folder().glob("*.toml"))


def _profiles_folder() -> Path:
    """Inside the package where qprof is installed; beside its sources in a checkout (or an editable install)."""
    package = Path(qprof.__file__).parent
    return next(folder for folder in (package / "profiles", package.parents[1] / "profiles") if folder.is_dir())


def is_profile(target: str) -> bool:
    """Whether a target names a profile, and no model."""
    return target.endswith(".toml") or (target in shipped_profiles() and not Path(target).exists())


def _profile_path(target: str) -> Path:
    if target.endswith(".toml"):
        return Path(target)
    return _profiles_folder() / f"{target}.toml"


def _model_profile(models: Sequence[str], variants: Sequence[str], inputs: InputOptions) -> dict[str, Any]:
    """A profile's data: model files as they are, or the variants of one, without labels."""
    paths = [_existing(model) for model in models]
    data: dict[str, Any] = {"name": _safe(paths[0].stem), "task": {"kind": "latency", **inputs.task()}}
    if inputs.model():
        data["model"] = inputs.model()
    if variants and len(paths) > 1:
        raise ProfileError("--variants makes variants of one model; give one model file, or compare files without it")
    runtime = registry.accepting(paths[0])
    if variants or (len(paths) == 1 and runtime is not None and not runtime.runs(paths[0])):
        data["model"] = {**inputs.model(), "path": str(paths[0])}
        data["variants"] = list(variants or (runtime.default_variants if runtime else ()))
    else:
        names = _distinct(_told_apart(paths))
        data["variants"] = [{"name": name, "file": str(path)} for name, path in zip(names, paths, strict=True)]
    return data


def _resolved(name: str) -> str:
    """A path of the command line, from the working directory; a reference to the hub, and none, as they are."""
    return name if not name or hub.is_reference(name) else str(Path(name).expanduser().resolve())


def _is_language_model(target: str, wanted: bool) -> bool:
    """Whether a target is a checkpoint folder, or, unless there is such a path, the name of one."""
    if os.path.exists(target) and not hub.is_bare_name(target):
        found = registry.accepting(Path(target))
        return (wanted and os.path.isdir(target)) or (found is not None and found.takes == "text")
    if registry.accepting(Path(target)) is not None and not hub.is_bare_name(target):
        return False
    named = registry.naming(target)
    return named is not None and named.takes == "text"


def _widths(bits: Sequence[int], group_size: int | None) -> list[Any]:
    """The unquantized model, in the dtype that the quantized ones compute in, and those."""
    for width in bits:
        if width not in GPTQ_BITS:
            raise ProfileError(
                f"--bits {width}: GPTQ quantizes to {', '.join(map(str, GPTQ_BITS))} bits; choose of these"
            )
    group = {} if group_size is None else {"group_size": group_size}
    return ["bfloat16", *({"name": f"gptq-{width}bit", **group} for width in bits or DEFAULT_BITS)]


def _language_profile(target: str, variants: Sequence[Any], data: str, overrides: Sequence[str]) -> Profile:
    """One unquantized model, and what is made of it."""
    path, name = _located(target)
    return _text_profile({"name": name, "model": {"path": path}, "variants": list(variants)}, data, overrides)


def _checkpoints_profile(targets: Sequence[str], data: str, overrides: Sequence[str]) -> Profile:
    """Several checkpoints, or a quantized one, as they are: nothing is made, so nothing is kept for calibration."""
    found = [_located(target) for target in targets]
    names = _distinct([name for _, name in found])
    variants = [{"name": name, "file": path} for name, (path, _) in zip(names, found, strict=True)]
    profile = {"name": names[0], "variants": variants}
    return _text_profile(profile, data, overrides, {"calibration_samples": 0} if data else {})


def _located(target: str) -> tuple[str, str]:
    """Path or "hf://" reference of a language model, and a name for it."""
    if os.path.exists(target) and not hub.is_bare_name(target):
        path = Path(target).resolve()
        return str(path), _safe(path.name)
    reference = hub.PREFIX + target.removeprefix(hub.PREFIX)
    return reference, _safe(reference.partition("@")[0].rpartition("/")[2])


def _is_finished(target: str) -> bool:
    """Whether a model is a variant already, of which no others are made. Of one on the hub its settings tell, which are
    fetched, and no more than these."""
    if os.path.exists(target) and not hub.is_bare_name(target):
        found = registry.accepting(Path(target))
        return found is not None and found.is_finished(Path(target))
    named = registry.naming(target)
    folder = hub.settings_folder(hub.PREFIX + target.removeprefix(hub.PREFIX)) if named is not None else None
    return named is not None and folder is not None and named.is_finished(folder)


def _text_profile(
    profile: dict[str, Any], data: str, overrides: Sequence[str], more: Mapping[str, Any] | None = None
) -> Profile:
    """A profile on texts: those of `data`, or passages made by qprof."""
    running = _is_running_text(data) or "task.kind=perplexity" in overrides
    task: dict[str, Any] = {"kind": "perplexity" if running else "lastword", **(more or {})}
    if data:
        task["data"] = data if hub.is_reference(data) else str(Path(data).resolve())
    else:
        task |= {"dataset": "passages", "limit": ADHOC_PASSAGES}
    profile |= {"task": task, "protocol": {"threads": available_cores()}}
    return validate(apply_overrides(profile, overrides), source="command line")


def _is_running_text(data: str) -> bool:
    """Whether data are text as it runs, whose perplexity is taken, and not rows that each ask for a last word."""
    return Path(data).suffix.lower() in _RUNNING_TEXT and not hub.is_reference(data)


def _existing(model: str) -> Path:
    path = Path(model).resolve()
    if not os.path.exists(path):  # unlike Path.exists, false for a name too long to be one
        near = difflib.get_close_matches(model, shipped_profiles(), n=1)
        advice = f"did you mean the profile {near[0]}?" if near else f"profiles: {', '.join(shipped_profiles())}"
        raise ProfileError(f"{model}: no such model, and no profile that qprof ships; {advice}")
    return path


def _safe(stem: str) -> str:
    """A file's stem as a name: what a profile allows in one."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "._+-") else "-" for c in stem)
    return (kept.lstrip("._+-") or "model")[:80]


def _told_apart(paths: Sequence[Path]) -> list[str]:
    """The files' stems; with their suffixes where files of several kinds have one stem."""
    kinds: dict[str, set[str]] = {}
    for path in paths:
        kinds.setdefault(path.stem, set()).add(path.suffix)
    return [_safe(path.name if len(kinds[path.stem]) > 1 else path.stem) for path in paths]


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, numbered where one comes more than once."""
    result: list[str] = []
    for name in names:
        numbered = (f"{name[:74]}-{number}" for number in itertools.count(2))
        result.append(next(new for new in (name, *itertools.islice(numbered, len(names))) if new not in result))
    return result
