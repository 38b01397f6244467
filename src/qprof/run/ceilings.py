"""The ceilings of this machine: measured once by a worker process of their own, kept in the cache ever after."""

from __future__ import annotations

import dataclasses
import importlib
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import qprof
from qprof.errors import ModelError, StoreError
from qprof.probes.machine import describe_machine, packages
from qprof.run.workers import closing_worker
from qprof.runtimes.base import RunOptions
from qprof.runtimes.ceilings import Ceiling
from qprof.store.cache import Cache, json_sha256
from qprof.store.files import read_json, write_json

#: Runtime -> the one whose module `ceilings` measures what it runs on.
_MEASURED_BY = {"litert": "litert", "gptq": "gptq", "autogptq": "gptq"}

#: What changes how fast the same processor is.
_MACHINE_FACTS = (
    *("cpu_model", "cpu_flags", "logical_cpus", "affinity", "cgroup_cpus", "cache_bytes"),
    *("governor", "boost", "frequency_limit_hz", "hypervisor"),
)

_FILE = "ceilings.json"
_TIMEOUT_S = 300.0


def machine_ceilings(runtime: str, options: RunOptions) -> list[Ceiling]:
    """The ceilings of a runtime with the threads, delegate and device of `options`: from the cache, or measured now,
    which takes some seconds that nothing else should run in. Disturbed ones are not kept.

    Raises:
        ModelError: the runtime has no ceilings, or cannot run. WorkerError: the worker died. StoreError: the cache
        cannot be written.
    """
    key = json_sha256(_facts(runtime, options))
    stored = _cache.lookup(key)
    if stored is not None:
        return stored
    request = {"do": "ceilings", "runtime": runtime, "options": dataclasses.asdict(options)}
    with (
        tempfile.TemporaryDirectory(prefix="qprof-") as folder,
        closing_worker("machine ceilings", Path(folder) / "worker.log") as worker,
    ):
        answer, _ = worker.ask(request, timeout_s=_TIMEOUT_S)
    measured = _from_json(answer)
    if any(ceiling.disturbed for ceiling in measured):
        return measured  # the next run may find the machine calmer
    return _cache.store(key, lambda entry: write_json(entry / _FILE, answer))


def measure_ceilings(request: Mapping[str, Any]) -> dict[str, Any]:
    """Measure in this process. `request`: "runtime", "options" (those of `RunOptions`).

    Returns {"ceilings": [...]}, each with the fields of `Ceiling`. Raises `ModelError`.
    """
    measured = _module(request["runtime"]).measure_all(RunOptions(**request["options"]))
    return {"ceilings": [dataclasses.asdict(ceiling) for ceiling in measured]}


def _module(runtime: str) -> Any:
    """What measures a runtime's ceilings: `measure_all`, and the `OPTIONS` and `PACKAGES` that they depend on."""
    if runtime not in _MEASURED_BY:
        raise ModelError(f"no ceilings are measured for runtime {runtime!r}; for {', '.join(_MEASURED_BY)} they are")
    return importlib.import_module(f"qprof.runtimes.{_MEASURED_BY[runtime]}.ceilings")


def _facts(runtime: str, options: RunOptions, root: Path = Path("/")) -> dict[str, Any]:
    """All that a ceiling depends on."""
    module = _module(runtime)
    machine = describe_machine(root)
    chosen = {name: getattr(options, name) for name in module.OPTIONS}
    facts: dict[str, Any] = {
        "runtime": _MEASURED_BY[runtime],
        "machine": {name: machine[name] for name in _MACHINE_FACTS},
        "options": chosen,
        "packages": packages(module.PACKAGES),
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
        return _from_json(read_json(entry / _FILE))
    except (StoreError, KeyError, TypeError):
        return None


def _from_json(answer: Mapping[str, Any]) -> list[Ceiling]:
    return [Ceiling(**row) for row in answer["ceilings"]]


_cache: Cache[list[Ceiling]] = Cache("ceilings", _read, "record of this machine's ceilings")
