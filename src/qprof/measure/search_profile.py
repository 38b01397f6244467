"""The profile that a search begins with: a baseline, and the one variant whose layers are tried in float."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from qprof.errors import ProfileError
from qprof.measure.command_line import is_profile, profile_for
from qprof.measure.models import runtime_of
from qprof.measure.profile import Profile, resolved, validate
from qprof.runtimes.interventions import method as method_of


def search_profile(
    target: str,
    method: str,
    *,
    inputs: Sequence[str] = (),
    images: str = "",
    labels: str = "",
    truth: str = "",
    data: str = "",
    overrides: Sequence[str] = (),
) -> Profile:
    """Of a profile, its baseline and its variant of that name or method, which is added where it has none; of a model,
    the first of its runtime's default variants and the method. Other arguments as of `profile_for`.

    Raises `ProfileError` where the target is neither, or the two variants are one.
    """
    given: dict[str, Any] = {"inputs": inputs, "images": images, "labels": labels, "truth": truth, "data": data}
    if not is_profile(target):
        return profile_for([target], variants=[_baseline_of(target), method], overrides=overrides, **given)
    profile = profile_for([target], overrides=overrides, **given)
    plain: dict[str, Any] = msgspec.to_builtins(resolved(profile))
    baseline, *others = plain["variants"]
    if method in (baseline["name"], method_of(baseline)):
        raise ProfileError(f"{target}: {method} is its baseline; name a quantized variant to leave layers of in float")
    known = [section for section in others if method in (section["name"], method_of(section))]
    plain["variants"] = [baseline, *(known[:1] or [{"name": method}])]
    return validate(plain, source=target)


def _baseline_of(target: str) -> str:
    """What a model's variants are compared with: the first that its runtime makes by default."""
    runtime = runtime_of(target, "tensors")
    if not runtime.default_variants:
        raise ProfileError(f"{target}: {runtime.name} makes no variants of a model, so no layer can be left in float")
    return runtime.default_variants[0]
