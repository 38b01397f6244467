"""The ceilings of this machine: measured once by a worker process of their own, kept in the cache ever after."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path
from typing import Any

import msgspec

import qprof
from qprof.errors import ModelError, StoreError
from qprof.measure.parent.jobs import Jobs
from qprof.measure.parent.process import closing_worker
from qprof.measure.requests import MeasureCeilings
from qprof.probes.machine import describe_machine, packages
from qprof.record.ceilings import Ceiling
from qprof.record.model import RunOptions
from qprof.runtimes.base import CeilingBench, Runtime
from qprof.store.cache import Cache, json_sha256
from qprof.store.files import read_json, write_json
from qprof.store.own import OwnFolder

#: What changes how fast the same processor is.
_MACHINE_FACTS = (
    *("cpu_model", "cpu_flags", "logical_cpus", "affinity", "cgroup_cpus", "cache_bytes"),
    *("governor", "boost", "frequency_limit_hz", "hypervisor"),
)

_FILE = "ceilings.json"
_TIMEOUT_S = 300.0


def machine_ceilings(runtime: Runtime, options: RunOptions, jobs: Jobs | None = None) -> list[Ceiling]:
    """The ceilings of a runtime with the threads, delegate and device of `options`: from the cache, or measured now,
    which takes some seconds that nothing else should run in. Disturbed ones are not kept. `jobs`: of workers that have
    imported the runtime, with such options; without them there is a worker for this alone.

    Raises:
        ModelError: the runtime has no ceilings, or cannot run. WorkerError: the worker died. StoreError: the cache
        cannot be written.
    """
    if runtime.ceilings is None:
        raise ModelError(f"no ceilings are measured for runtime {runtime.name!r}")
    key = json_sha256(_facts(runtime.ceilings, options))
    stored = _cache.lookup(key)
    if stored is not None:
        return stored
    request = MeasureCeilings(runtime=runtime.name, options=msgspec.to_builtins(options))
    if jobs is not None:
        measured = jobs.ask("machine ceilings", request, timeout_s=_TIMEOUT_S).ceilings
    else:
        with (
            OwnFolder() as folder,
            closing_worker("machine ceilings", folder / "worker.log") as worker,
        ):
            measured = worker.ask(request, timeout_s=_TIMEOUT_S).ceilings
    if any(ceiling.disturbed for ceiling in measured):
        return measured  # the next run may find the machine calmer
    content = {"ceilings": [dataclasses.asdict(ceiling) for ceiling in measured]}
    return _cache.store(key, lambda entry: write_json(entry / _FILE, content))


def _facts(bench: CeilingBench, options: RunOptions, root: Path = Path("/")) -> dict[str, Any]:
    """All that a ceiling depends on."""
    machine = describe_machine(root)
    chosen = {name: getattr(options, name) for name in bench.options}
    facts: dict[str, Any] = {
        "runtime": bench.name,
        "machine": {name: getattr(machine, name) for name in _MACHINE_FACTS},
        "options": chosen,
        "packages": packages(bench.packages),
        "qprof": qprof.__version__,
    }
    if str(chosen.get("device", "cpu")).startswith("cuda"):
        facts["gpus"] = _gpus(root)
        facts["visible"] = os.environ.get("CUDA_VISIBLE_DEVICES")
    return facts


def _gpus(root: Path) -> list[str]:
    """Model of every GPU and the version of their driver, as the driver tells; nothing is imported for it."""
    driver = root / "proc/driver/nvidia"
    found = []
    for path in (*sorted(driver.glob("gpus/*/information")), driver / "version"):
        if path.is_file():
            text = path.read_text(encoding="utf-8", errors="replace")
            found += re.findall(r"^(?:Model|NVRM version):\s*(.+)$", text, re.MULTILINE)
    return found


def _read(entry: Path) -> list[Ceiling] | None:
    try:
        return [Ceiling(**row) for row in read_json(entry / _FILE)["ceilings"]]
    except (StoreError, KeyError, TypeError):
        return None


_cache: Cache[list[Ceiling]] = Cache("ceilings", _read, "record of this machine's ceilings")
