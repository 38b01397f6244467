"""What workers tell of a variant, and its entry in the manifest."""

from __future__ import annotations

from qprof.measure.requests import LoadedVariant, MadeAnswer
from qprof.record.manifest import Making, Memory, VariantEntry

_IN_ONE = "it shares its process with other variants (protocol.own_process)"
_OF_A_PROCESS = ("rss_bytes", "pss_bytes", "peak_rss_bytes", "device_peak_bytes")


def loaded_variant(entry: VariantEntry) -> LoadedVariant:
    """How a variant is loaded, in its own worker or in another."""
    return LoadedVariant(
        runtime=str(entry.runtime),
        path=str(entry.path),
        options=entry.options,
        sha256=entry.content_sha256 or "",
    )


def keep_made(entry: VariantEntry, made: MadeAnswer) -> None:
    """What was made, into the entry."""
    entry.runtime, entry.path, entry.sha256, entry.bytes = made.runtime, made.path, made.sha256, made.bytes
    entry.notes, entry.stored, entry.content_sha256 = list(made.notes), made.stored, made.content_sha256
    entry.making = Making(
        method=made.method,
        tool=made.tool,
        tool_version=made.tool_version,
        make_seconds=made.make_seconds,
        run=made.run,
        facts=made.facts,
        calibrated=made.calibrated,
    )


def memory_of(found: Memory, own_process: bool) -> Memory:
    """What is known of a variant's memory: what its process grew by, only where it is alone there."""
    if own_process:
        return found
    missing = found.missing | dict.fromkeys(_OF_A_PROCESS, _IN_ONE)
    return Memory(footprint_bytes=found.footprint_bytes, missing=missing)
