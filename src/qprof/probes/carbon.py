"""Energy and CO2e by CodeCarbon, for what no sensor measures: a model of processor and memory, and a country's grid.

Methods (https://docs.codecarbon.io/latest/explanation/methodology/ and the source of 3.3.2): a processor without
readable RAPL draws TDP x (0.1 + 0.9 load^3) by the load of the whole machine; TDP is from CodeCarbon's table, else 4 W
a thread, else 85 W; where no load is known, half of TDP at all times. Memory draws a constant by its size, 5 W a
module, the number of modules guessed. The country is given and never looked up: nothing goes to the network or a file.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import importlib
import logging
import os
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qprof.probes.base import NullProbe, ProbeError
from qprof.probes.clock import Clock, MonotonicClock
from qprof.probes.machine import packages
from qprof.record.readings import Reading
from qprof.record.sensors import CodeCarbonFacts, Missing

#: (probe, t_ns, value, unit, provenance): the fields of `qprof.store.blocks.Reading`

_J_PER_KWH = 3.6e6
#: Linux counts load in ticks (proc_stat(5)); a window without any shows a busy machine as idle.
_LEAST_LOAD_S = 2 / os.sysconf("SC_CLK_TCK")
#: How CodeCarbon's CPU comes to its power -> what that makes of the figure.
_PROVENANCE = {"cpu_load": "estimated", "constant": "modelled", "intel_rapl": "measured"}
_MODE_TEXTS = {"cpu_load": "cpu load", "constant": "constant", "intel_rapl": "RAPL"}

_COUNTRY_REMEDY = "set protocol.country to the ISO 3166 alpha-3 code of where it runs (FRA, USA)"
_ZERO_REMEDY = "read it by another sensor (see `qprof doctor`)"


@dataclass(frozen=True, slots=True)
class CarbonTask:
    """What CodeCarbon makes of a window of `seconds`: joules of each part and grams of CO2e of all; `None` is unknown.

    `provenance` is by part: "cpu", "ram". `gpu_j` is `None`: GPUs are read by `qprof.probes.nvml`.
    """

    seconds: float
    cpu_j: float | None
    ram_j: float | None
    gpu_j: float | None
    emissions_g: float | None
    provenance: Mapping[str, str]


def to_readings(task: CarbonTask, t_ns: int) -> list[Reading]:
    """What is known of a task, as readings taken at `t_ns`; the emissions are modelled whatever the energies are."""
    readings: list[Reading] = [Reading("codecarbon.seconds", t_ns, task.seconds, "s", "measured")]
    for name, joules in (("cpu", task.cpu_j), ("ram", task.ram_j), ("gpu", task.gpu_j)):
        if joules is not None:
            readings.append(Reading(f"codecarbon.{name}.energy", t_ns, joules, "J", task.provenance[name]))
    if task.emissions_g is not None:
        readings.append(Reading("codecarbon.emissions", t_ns, task.emissions_g, "g", "modelled"))
    return readings


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of the machine, and the object of CodeCarbon that tells its power."""

    name: str
    hardware: Any
    provenance: str
    text: str


class NoCarbon(NullProbe):
    """Stands where CodeCarbon is absent."""

    def facts(self) -> None:
        return None


class CarbonEstimator:
    """CodeCarbon for windows that are begun and ended by hand.

    A tracker's hardware objects are asked, not its tasks. `start_task` and `stop_task` integrate over work of their own
    too (1 to 1.5 ms more than the window), tell a duration that is not the one that they integrated over, keep every
    task, and read each GPU. Power, its sampling once a second, energy and emissions are CodeCarbon's, the edges of the
    window are ours. No PUE is applied: what is told is the machine's.

    The kernel counts load in ticks of 10 ms: in 100 ms on two cores one tick is 5 % of load and, as power goes with its
    cube, up to 13 % of that. Windows shorter than two ticks give no energy of the processor.

    For one thread; while a window is open CodeCarbon has another.
    """

    def __init__(self, country: str | None, clock: Clock | None = None) -> None:
        """Raises `ProbeError`, and whatever CodeCarbon does."""
        self._now_ns = (clock or MonotonicClock()).now_ns
        loading_s = _load()
        start_ns = self._now_ns()
        self._tracker = _tracker(country)
        self._grid = _grid(self._tracker)
        self._parts, self._absent = _parts(self._tracker)
        self._tracker._ensure_emissions_engine()
        self._tracker._ensure_geo_metadata()
        self._grid_g_per_kwh = None if self._grid is None else self._emitted_g(1.0)
        self._start_s = loading_s + (self._now_ns() - start_ns) / 1e9
        self._begun_ns: int | None = None
        self._tasks = 0
        #: part -> tasks without its energy, the last reason
        self._failures: dict[str, tuple[int, str]] = {}

    def begin(self) -> None:
        """Start of a window; the clock is read last."""
        self._tracker._scheduler_monitor_power.start()
        for part in reversed(self._parts):
            part.hardware.start()
        self._begun_ns = self._now_ns()

    def end(self) -> CarbonTask:
        """End of the window; the clock is read first. Raises `ProbeError` where none was begun."""
        now_ns = self._now_ns()
        if self._begun_ns is None:
            raise ProbeError("codecarbon: a window ends that was never begun")
        seconds, self._begun_ns = (now_ns - self._begun_ns) / 1e9, None
        self._tasks += 1
        kwh = {part.name: self._kwh(part, seconds) for part in self._parts}
        self._tracker._scheduler_monitor_power.stop()
        known = [energy for energy in kwh.values() if energy is not None]
        whole = self._grid is not None and not self._absent and len(known) == len(kwh)
        joules = {name: energy * _J_PER_KWH for name, energy in kwh.items() if energy is not None}
        return CarbonTask(
            seconds,
            joules.get("cpu"),
            joules.get("ram"),
            None,
            self._emitted_g(sum(known)) if whole else None,
            {part.name: part.provenance for part in self._parts},
        )

    def facts(self) -> CodeCarbonFacts:
        """What the manifest keeps of it."""
        texts = {part.name: part.text for part in self._parts}
        modes = [_MODE_TEXTS[part.hardware._mode] for part in self._parts if part.name == "cpu"]
        return CodeCarbonFacts(
            version=importlib.import_module("codecarbon").__version__,
            country=self._tracker._country_iso_code,
            grid_g_per_kwh=self._grid_g_per_kwh,
            grid_source=self._grid,
            cpu=texts.get("cpu"),
            ram=texts.get("ram"),
            start_s=self._start_s,
            mode=modes[0] if modes else None,
        )

    @property
    def missing(self) -> Sequence[Missing]:
        """What it cannot tell here, and what it could not tell of some of the windows so far."""
        failed = tuple(
            Missing(f"codecarbon.{name}.energy", f"{times} of {self._tasks} windows: {reason}", _ZERO_REMEDY)
            for name, (times, reason) in self._failures.items()
        )
        if self._grid is not None:
            return self._absent + failed
        reason = "no country is set, and without one no grid is known: energy is told, its CO2e is not"
        return (*self._absent, Missing("codecarbon.emissions", reason, _COUNTRY_REMEDY), *failed)

    def close(self) -> None:
        """End CodeCarbon's thread; may be called twice."""
        self._tracker._scheduler_monitor_power.stop()

    def _kwh(self, part: _Part, seconds: float) -> float | None:
        """By CodeCarbon; `None` where that is not known, which goes to `missing`."""
        try:
            kwh = float(part.hardware.measure_power_and_energy(last_duration=seconds)[1].kWh)
            reason = _doubt(part.hardware, kwh, seconds)
        except Exception as error:  # of a package that promises none
            reason = _one_line(error)
        if reason is None:
            return kwh
        self._failures[part.name] = (self._failures.get(part.name, (0, ""))[0] + 1, reason)
        return None

    def _emitted_g(self, kwh: float) -> float:
        energy = importlib.import_module("codecarbon.core.units").Energy.from_energy(kWh=kwh)
        return float(self._tracker._emissions.get_private_infra_emissions(energy, self._tracker._geo)) * 1000


def open_carbon(country: str | None, clock: Clock | None = None) -> CarbonEstimator | NoCarbon:
    """CodeCarbon for a country (ISO 3166 alpha-3; without one energies alone are told). Raises nothing.

    It takes seconds (`preload` takes most of them), and forks a process to look at the processor.
    """
    version = find_codecarbon()
    if version is None:
        return NoCarbon("codecarbon", "CodeCarbon is not installed", "pip install 'qprof[energy]'")
    try:
        return CarbonEstimator(country, clock)
    except _UnknownCountryError as error:
        return NoCarbon("codecarbon", str(error), _COUNTRY_REMEDY)
    except Exception as error:  # internals are used, which another version may not have
        reason = f"CodeCarbon {version} does not start: {_one_line(error)}"
        return NoCarbon("codecarbon", reason, "pip install 'codecarbon==3.3.2', the version that this was written for")


def find_codecarbon() -> str | None:
    """The version that is installed; `None` where none is."""
    return packages(["codecarbon"])["codecarbon"]


def preload() -> None:
    """Import CodeCarbon and look at the processor, so that `open_carbon` is quick; it tells what fails here."""
    with contextlib.suppress(Exception):
        _load()


class _UnknownCountryError(ProbeError):
    """CodeCarbon would take the world's mean for it."""


@functools.cache
def _load() -> float:
    """The modules that are used, the tables and the processor's name; the seconds that it took."""
    start = time.perf_counter()
    importlib.import_module("codecarbon")
    logging.getLogger("codecarbon").setLevel(logging.CRITICAL)  # else it tells stderr that it starts
    for module in ("resource_tracker", "emissions", "units"):
        importlib.import_module(f"codecarbon.core.{module}")
    importlib.import_module("codecarbon.input").DataSource().get_global_energy_mix_data()
    importlib.import_module("codecarbon.core.util").detect_cpu_model()
    return time.perf_counter() - start


def _tracker(country: str | None) -> Any:
    """A tracker that neither writes nor sends, whatever the user's configuration of CodeCarbon says; what that says of
    power (force_cpu_power, force_ram_power) stands. Raises `ProbeError`."""
    tracker = importlib.import_module("codecarbon").OfflineEmissionsTracker(
        country_iso_code=country.upper() if country else None,
        region=None,
        tracking_mode="machine",
        output_methods=[],
        output_dir=os.sep,
        emissions_endpoint=None,
        electricitymaps_api_token="",  # None would have it look for the token's older name
        force_carbon_intensity_g_co2e_kwh=None,
        log_level="critical",
        allow_multiple_runs=True,  # else it writes a lock
    )
    if not hasattr(tracker, "run_id"):  # set last; what is raised before is logged and dropped
        raise ProbeError("its tracker was not made (see its configuration: ~/.codecarbon.config, CODECARBON_*)")
    return tracker


def _grid(tracker: Any) -> str | None:
    """Where the factor of the tracker's country is from. Raises `_UnknownCountryError`."""
    country = tracker._country_iso_code
    if country is None:
        return None
    mixes: Mapping[str, Mapping[str, Any]] = tracker._data_source.get_global_energy_mix_data()
    if country not in mixes:
        raise _UnknownCountryError(_unknown(country, mixes))
    mix = mixes[country]
    return f"{mix['country_name']}, mean of {mix['year']}: global_energy_mix.json of CodeCarbon (Our World in Data)"


def _unknown(country: str, known: Collection[str]) -> str:
    near = ", ".join(difflib.get_close_matches(country, sorted(known), cutoff=0.5))
    hint = f" (near it: {near})" if near else ""
    return f"{country!r} is none of the {len(known)} countries, by ISO 3166 alpha-3 code, that CodeCarbon knows{hint}"


def _parts(tracker: Any) -> tuple[tuple[_Part, ...], tuple[Missing, ...]]:
    """Processor, then memory, as CodeCarbon's own set-up finds them; its look for GPUs is left out."""
    resources = importlib.import_module("codecarbon.core.resource_tracker").ResourceTracker(tracker)
    tracker._populate_system_metadata()
    resources.set_RAM_tracking()
    resources.set_CPU_tracking()
    found = {type(hardware).__name__: hardware for hardware in tracker._hardware}
    parts, absent = [], []
    cpu, ram = found.get("CPU"), found.get("RAM")
    if cpu is not None and cpu._mode in _PROVENANCE:
        parts.append(_Part("cpu", cpu, _PROVENANCE[cpu._mode], _cpu_text(tracker, cpu)))
    else:
        how = ", ".join(found) if cpu is None else cpu._mode
        absent.append(Missing("codecarbon.cpu.energy", f"read by a way that is not known here ({how})", _ZERO_REMEDY))
    if ram is not None:
        parts.append(_Part("ram", ram, "modelled", _ram_text(tracker, ram)))
    else:
        reason = f"read by a way that is not known here ({', '.join(found)})"
        absent.append(Missing("codecarbon.ram.energy", reason, _ZERO_REMEDY))
    return tuple(parts), tuple(absent)


def _cpu_text(tracker: Any, cpu: Any) -> str:
    model = " ".join(str(cpu._model).split()) or "unnamed processor"
    if cpu._mode == "intel_rapl":
        return f"{model}: {', '.join(file.path for file in cpu._intel_interface._rapl_files)}"
    share = "at full load" if cpu._mode == "cpu_load" else "TDP, half of it at all times"
    return f"{model}: {cpu._tdp:g} W {share} ({_tdp_source(tracker, cpu)})"


def _tdp_source(tracker: Any, cpu: Any) -> str:
    if tracker._force_cpu_power is not None:
        return "force_cpu_power of CodeCarbon's configuration"
    if cpu._is_generic_tdp:
        return "assumed: what CodeCarbon takes for a processor that it cannot name"
    module = importlib.import_module("codecarbon.core.cpu")
    tdp = importlib.import_module("codecarbon.core.hardware_cache").get_cached_tdp(module)
    sockets = tracker._conf["cpu_physical_count"]
    times = "" if sockets == 1 else f", times {sockets} sockets"
    if tdp._get_cpu_power_from_registry(tdp.model):
        return f"from CodeCarbon's table{times}"
    return f"assumed: {module.DEFAULT_POWER_PER_CORE:g} W a thread{times}, the model is not in CodeCarbon's table"


def _ram_text(tracker: Any, ram: Any) -> str:
    source = "assumed by its size" if tracker._force_ram_power is None else "force_ram_power of its configuration"
    return f"{tracker._conf['ram_total_size']:.1f} GiB: {ram.total_power().W:g} W at all times ({source})"


def _doubt(hardware: Any, kwh: float, seconds: float) -> str | None:
    """Why an energy is not to be told; what could not be read comes as 0 kWh (mlco2/codecarbon#1316)."""
    mode = getattr(hardware, "_mode", None)
    if mode == "cpu_load" and seconds < _LEAST_LOAD_S:
        return f"{seconds * 1e3:.1f} ms are too short to tell the load, which the kernel counts in ticks"
    if not kwh > 0:
        return f"CodeCarbon told {kwh:g} kWh, which is what it tells of what it could not read"
    if mode == "intel_rapl" and any(file.sample_skipped for file in hardware._intel_interface._rapl_files):
        return "CodeCarbon left out a RAPL counter that it could not read"
    return None


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
