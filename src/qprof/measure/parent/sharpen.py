"""More of the same run: more time for what is undecided, or more samples, behind those that it has."""

from __future__ import annotations

import msgspec

from qprof.errors import StoreError
from qprof.record.manifest import Manifest
from qprof.store.writer import RunWriter


def ask_for_more(writer: RunWriter, budget_s: float | None, samples: int | None) -> bool:
    """Let a run have `budget_s` seconds of measuring in all, or `samples` samples; whether there is more to do by that.

    Raises `StoreError` where the run cannot have more: it has a fixed number of rounds, predicts all samples, has as
    much already, or its blocks are not kept one by one any more.
    """
    if budget_s is None and samples is None:
        return False
    manifest, where = writer.manifest, writer.folder
    if manifest.complete and not writer.has_parts():
        raise StoreError(f"{where}: is finished, and had all the rounds and samples that it was to have; run anew")
    if budget_s is not None:
        _more_time(manifest, str(where), budget_s)
    if samples is not None:
        _more_samples(manifest, str(where), samples)
    return True


def _more_time(manifest: Manifest, where: str, budget_s: float) -> None:
    protocol, looks = manifest.profile.protocol, manifest.looks
    if not protocol.adaptive:
        raise StoreError(f"{where}: has a fixed number of rounds; --budget goes on with a run that began with one")
    if looks is not None and budget_s <= looks.spent_s:
        raise StoreError(f"{where}: has measured for {looks.spent_s:.1f} s; give --budget more than that, in all")
    _change(manifest, budget_s=budget_s)


def _more_samples(manifest: Manifest, where: str, samples: int) -> None:
    sampling = manifest.sampling
    if sampling is None:
        protocol = manifest.profile.protocol
        if manifest.samples is None or protocol.adaptive or protocol.samples is not None:  # nothing is planned yet
            _change(manifest, samples=samples)
            return
        raise StoreError(f"{where}: predicts all its samples; --samples goes on with a run that began with fewer")
    if samples <= sampling.asked[-1]:
        raise StoreError(
            f"{where}: has {sampling.asked[-1]} of {sampling.total} samples; give --samples more than that"
        )
    if sampling.asked[-1] == sampling.total:
        raise StoreError(f"{where}: has all {sampling.total} samples of its data")
    sampling.asked.append(min(samples, sampling.total))
    _change(manifest, samples=sampling.asked[-1])


def _change(manifest: Manifest, **keys: float | int) -> None:
    protocol = msgspec.structs.replace(manifest.profile.protocol, **keys)
    manifest.profile = msgspec.structs.replace(manifest.profile, protocol=protocol)


def count_scored(manifest: Manifest) -> None:
    """Keep in mind of how many samples the scores are: another number is another look at them."""
    sampling = manifest.sampling
    if sampling is None or not manifest.score_columns:
        return
    if not sampling.scored or sampling.scored[-1] != sampling.predicted:
        sampling.scored.append(sampling.predicted)
