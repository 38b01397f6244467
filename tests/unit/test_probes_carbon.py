"""CodeCarbon: windows, labels and refusals over a fake of the package; that it stays offline over the real one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import msgspec
import pytest

from fake_clock import FakeClock
from qprof.probes import carbon
from qprof.probes.base import ProbeError
from qprof.probes.carbon import CarbonEstimator, CarbonTask, NoCarbon, open_carbon, preload, to_readings
from qprof.record.readings import Reading
from qprof.record.sensors import CodeCarbonFacts

COST_S = 0.003  # of each thing that the fake CodeCarbon does
MIXES = {
    "FRA": {"country_name": "France", "year": 2023, "carbon_intensity": 56.0},
    "FRO": {"country_name": "Faroe Islands", "year": 2022, "carbon_intensity": 404.0},
}


class Hardware:
    """Draws `watts`; each call costs time."""

    def __init__(self, clock: FakeClock, watts: float) -> None:
        self.clock, self.watts, self.durations, self.starts = clock, watts, list[float](), 0

    def start(self) -> None:
        self.starts += 1
        self.clock.advance(COST_S)

    def total_power(self) -> Any:
        return SimpleNamespace(W=self.watts)

    def measure_power_and_energy(self, last_duration: float) -> tuple[Any, Any]:
        self.clock.advance(COST_S)
        self.durations.append(last_duration)
        return self.total_power(), SimpleNamespace(kWh=self.watts * last_duration / 3.6e6)


class CPU(Hardware):
    _model, _is_generic_tdp, _tdp = "AMD  EPYC", False, 8.0

    def __init__(self, clock: FakeClock, watts: float, mode: str = "cpu_load") -> None:
        super().__init__(clock, watts)
        self._mode = mode
        self.files = [SimpleNamespace(path=f"/sys/rapl:{number}", sample_skipped=False) for number in (0, 1)]
        self._intel_interface = SimpleNamespace(_rapl_files=self.files)


class RAM(Hardware): ...


class Raspberry(Hardware): ...


class Package:
    """The modules of CodeCarbon that are used, each with as much as is used."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = FakeClock(1_000_000)
        self.cpu: Hardware = CPU(self.clock, 5.0)
        self.ram: Hardware = RAM(self.clock, 20.0)
        self.table: dict[str, float] = {}
        self.sockets = 1
        self.attributes: dict[str, Any] = {"_force_cpu_power": None, "_force_ram_power": None, "run_id": "1"}
        self.arguments: dict[str, Any] = {}
        self.sampling = False
        modules: dict[str, dict[str, Any]] = {
            "codecarbon": {"__version__": "3.3.2", "OfflineEmissionsTracker": self.tracker},
            "codecarbon.core.resource_tracker": {"ResourceTracker": self.resources},
            "codecarbon.core.emissions": {},
            "codecarbon.core.units": {"Energy": SimpleNamespace(from_energy=lambda kWh: SimpleNamespace(kWh=kWh))},
            "codecarbon.input": {"DataSource": self.data},
            "codecarbon.core.util": {"detect_cpu_model": lambda: "AMD EPYC"},
            "codecarbon.core.cpu": {"DEFAULT_POWER_PER_CORE": 4},
            "codecarbon.core.hardware_cache": {
                "get_cached_tdp": lambda module: SimpleNamespace(
                    model="AMD EPYC", _get_cpu_power_from_registry=self.table.get
                )
            },
        }
        for name, contents in modules.items():
            module = ModuleType(name)
            vars(module).update(contents)
            monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.setattr(carbon, "find_codecarbon", lambda: "3.3.2")

    def data(self) -> Any:
        return SimpleNamespace(get_global_energy_mix_data=lambda: MIXES)

    def tracker(self, **arguments: Any) -> Any:
        self.arguments = arguments
        made = SimpleNamespace(
            _country_iso_code=arguments["country_iso_code"],
            _data_source=self.data(),
            _scheduler_monitor_power=SimpleNamespace(start=lambda: self.sample(True), stop=lambda: self.sample(False)),
            _populate_system_metadata=lambda: made._conf.update(cpu_physical_count=self.sockets),
            _ensure_emissions_engine=lambda: setattr(made, "_emissions", SimpleNamespace()),
            _ensure_geo_metadata=lambda: made._emissions.__dict__.update(get_private_infra_emissions=self.emissions),
            _geo=arguments["country_iso_code"],
            _conf={"ram_total_size": 23.46},
            _hardware=[],
            **self.attributes,
        )
        return made

    def resources(self, tracker: Any) -> Any:
        return SimpleNamespace(
            set_RAM_tracking=lambda: tracker._hardware.append(self.ram),
            set_CPU_tracking=lambda: (
                tracker._hardware.append(self.cpu) if tracker._conf["cpu_physical_count"] else None
            ),
        )

    def emissions(self, energy: Any, country: str) -> float:
        return energy.kWh * MIXES[country]["carbon_intensity"] / 1000  # type: ignore[operator, no-any-return]

    def sample(self, on: bool) -> None:
        self.sampling = on
        self.clock.advance(COST_S)

    def open(self, country: str | None = "FRA") -> CarbonEstimator:
        estimator = open_carbon(country, self.clock)
        assert isinstance(estimator, CarbonEstimator), estimator.missing
        return estimator

    def window(self, estimator: CarbonEstimator, seconds: float = 0.1) -> CarbonTask:
        estimator.begin()
        self.clock.advance(seconds)
        return estimator.end()


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Iterator[Package]:
    carbon._load.cache_clear()
    with monkeypatch.context() as patches:
        yield Package(patches)
    carbon._load.cache_clear()


def test_a_window_has_exact_edges_and_the_energy_is_codecarbons(package: Package) -> None:
    estimator = package.open()
    task = package.window(estimator)
    assert task.seconds == pytest.approx(0.1, abs=1e-12)  # none of what CodeCarbon did before and after
    assert (task.cpu_j, task.ram_j, task.gpu_j) == (pytest.approx(0.5), pytest.approx(2.0), None)
    assert task.emissions_g == pytest.approx(2.5 / 3.6e6 * 56.0)
    assert task.provenance == {"cpu": "estimated", "ram": "modelled"}
    assert package.cpu.durations == package.ram.durations == [task.seconds]
    assert estimator.missing == ()
    assert (package.arguments["output_methods"], package.arguments["emissions_endpoint"]) == ([], None)


def test_each_window_starts_anew_also_after_one_that_was_left_open(package: Package) -> None:
    estimator = package.open()
    estimator.begin()
    package.clock.advance(60.0)
    assert package.window(estimator).seconds == pytest.approx(0.1, abs=1e-12)
    assert package.cpu.starts == 2
    with pytest.raises(ProbeError, match="never begun"):
        estimator.end()


def facts_of(estimator: CarbonEstimator) -> CodeCarbonFacts:
    facts = estimator.facts()
    assert isinstance(facts, CodeCarbonFacts)
    return facts


def test_codecarbon_samples_power_while_a_window_is_open_and_only_then(package: Package) -> None:
    estimator = package.open()
    assert not package.sampling
    estimator.begin()
    assert package.sampling
    estimator.end()
    assert not package.sampling
    estimator.begin()
    estimator.close()
    assert not package.sampling


def test_readings_carry_the_names_units_and_labels_of_what_is_known(package: Package) -> None:
    assert to_readings(package.window(package.open()), 7) == [
        Reading("codecarbon.seconds", 7, pytest.approx(0.1), "s", "measured"),
        Reading("codecarbon.cpu.energy", 7, pytest.approx(0.5), "J", "estimated"),
        Reading("codecarbon.ram.energy", 7, pytest.approx(2.0), "J", "modelled"),
        Reading("codecarbon.emissions", 7, pytest.approx(3.888888e-5), "g", "modelled"),
    ]
    (alone,) = to_readings(CarbonTask(1.0, None, None, None, None, {}), 7)
    assert alone.probe == "codecarbon.seconds"


@pytest.mark.parametrize(
    ("mode", "label", "name"),
    [("cpu_load", "estimated", "cpu load"), ("constant", "modelled", "constant"), ("intel_rapl", "measured", "RAPL")],
)
def test_how_the_power_is_known_decides_the_label(package: Package, mode: str, label: str, name: str) -> None:
    package.cpu = CPU(package.clock, 5.0, mode)
    estimator = package.open()
    assert package.window(estimator).provenance["cpu"] == label
    assert facts_of(estimator).mode == name


def test_the_facts_name_grid_processor_and_memory(package: Package) -> None:
    facts = msgspec.to_builtins(facts_of(package.open("fra")))
    start_s = facts.pop("start_s")
    assert start_s >= 0
    assert facts == {
        "version": "3.3.2",
        "country": "FRA",
        "grid_g_per_kwh": pytest.approx(56.0),
        "grid_source": "France, mean of 2023: global_energy_mix.json of CodeCarbon (Our World in Data)",
        "cpu": "AMD EPYC: 8 W at full load (assumed: 4 W a thread, the model is not in CodeCarbon's table)",
        "ram": "23.5 GiB: 20 W at all times (assumed by its size)",
        "mode": "cpu load",
    }


def _in_table(package: Package) -> None:
    package.table["AMD EPYC"] = 225.0
    package.sockets = 2


def _generic(package: Package) -> None:
    package.cpu._is_generic_tdp = True  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (_in_table, "8 W at full load (from CodeCarbon's table, times 2 sockets)"),
        (_generic, "8 W at full load (assumed: what CodeCarbon takes for a processor that it cannot name)"),
        (lambda p: p.attributes.update(_force_cpu_power=8), "(force_cpu_power of CodeCarbon's configuration)"),
        (lambda p: setattr(p.cpu, "_mode", "constant"), "8 W TDP, half of it at all times (assumed"),
        (lambda p: setattr(p.cpu, "_mode", "intel_rapl"), "AMD EPYC: /sys/rapl:0, /sys/rapl:1"),
    ],
)
def test_where_the_processors_power_is_from(package: Package, change: Callable[[Package], None], text: str) -> None:
    change(package)
    assert text in str(facts_of(package.open()).cpu)


def test_memory_of_a_power_that_the_user_has_set(package: Package) -> None:
    package.attributes["_force_ram_power"] = 20
    assert "force_ram_power" in str(facts_of(package.open()).ram)


def test_zero_energy_is_missing_and_never_zero(package: Package) -> None:
    estimator = package.open()
    package.window(estimator)
    package.cpu.watts = 0.0
    task = package.window(estimator)
    assert (task.cpu_j, task.emissions_g) == (None, None)  # CO2e of the memory alone would be no answer
    assert task.ram_j == pytest.approx(2.0)
    (missing,) = estimator.missing
    assert missing.probe == "codecarbon.cpu.energy"
    assert missing.reason.startswith("1 of 2 windows: CodeCarbon told 0 kWh")


def test_rapl_that_was_not_read_is_not_measured(package: Package) -> None:
    package.cpu = cpu = CPU(package.clock, 5.0, "intel_rapl")
    estimator = package.open()
    assert package.window(estimator).cpu_j == pytest.approx(0.5)
    cpu.files[1].sample_skipped = True  # the other package was read: half of the energy is not the energy
    assert package.window(estimator).cpu_j is None
    assert "RAPL counter" in estimator.missing[0].reason


def test_a_window_without_a_tick_of_load_has_no_energy_of_the_processor(package: Package) -> None:
    estimator = package.open()
    assert package.window(estimator, 1.5 / os.sysconf("SC_CLK_TCK")).cpu_j is None
    assert "too short" in estimator.missing[0].reason
    assert package.window(estimator, 2.5 / os.sysconf("SC_CLK_TCK")).cpu_j is not None


def test_hardware_that_fails_takes_only_its_own_figure_along(package: Package) -> None:
    def fail(last_duration: float) -> Any:
        raise OSError("no\nmeminfo")

    estimator = package.open()
    package.ram.measure_power_and_energy = fail  # type: ignore[method-assign]
    task = package.window(estimator)
    assert (task.cpu_j, task.ram_j, task.emissions_g) == (pytest.approx(0.5), None, None)
    assert estimator.missing[0].reason == "1 of 1 windows: OSError: no meminfo"


def test_a_machine_that_codecarbon_reads_in_another_way_is_not_labelled_by_guess(package: Package) -> None:
    package.cpu = Raspberry(package.clock, 5.0)
    estimator = package.open()
    task = package.window(estimator)
    assert (task.cpu_j, task.ram_j, task.emissions_g) == (None, pytest.approx(2.0), None)
    assert estimator.missing[0].probe == "codecarbon.cpu.energy" and "Raspberry" in estimator.missing[0].reason
    assert (facts_of(estimator).cpu, facts_of(estimator).mode) == (None, None)


@pytest.mark.parametrize("country", [None, ""])
def test_without_a_country_there_is_energy_and_no_co2e(package: Package, country: str | None) -> None:
    estimator = package.open(country)
    task = package.window(estimator)
    assert (task.cpu_j, task.emissions_g) == (pytest.approx(0.5), None)
    (missing,) = estimator.missing
    assert missing.probe == "codecarbon.emissions" and "protocol.country" in missing.remedy
    assert (facts_of(estimator).country, facts_of(estimator).grid_g_per_kwh) == (None, None)


def test_an_unknown_country_is_named_with_its_neighbours(package: Package) -> None:
    absent = open_carbon("FR")
    assert isinstance(absent, NoCarbon) and absent.facts() is None
    assert absent.missing[0].reason.startswith("'FR' is none of the 2 countries")
    assert "near it: FR" in absent.missing[0].reason and "protocol.country" in absent.missing[0].remedy


def test_without_the_package(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carbon, "find_codecarbon", lambda: None)
    (missing,) = open_carbon("FRA").missing
    assert (missing.probe, missing.remedy) == ("codecarbon", "pip install 'qprof[energy]'")


def test_another_version_and_a_tracker_that_was_not_made_are_told(
    package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    del package.attributes["run_id"]
    assert "configuration" in open_carbon("FRA").missing[0].reason
    monkeypatch.delattr(sys.modules["codecarbon.core.resource_tracker"], "ResourceTracker")
    package.attributes["run_id"] = "1"
    (missing,) = open_carbon("FRA").missing
    assert "3.3.2 does not start: AttributeError" in missing.reason and "codecarbon==" in missing.remedy


def test_preloading_counts_as_starting_and_never_fails(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["codecarbon.core.util"], "detect_cpu_model", lambda: 1 / 0)
    preload()
    assert "ZeroDivisionError" in open_carbon("FRA").missing[0].reason
    with monkeypatch.context() as patches:
        patches.setattr(carbon, "_load", lambda: 1.5)
        assert (facts_of(package.open()).start_s or 0.0) >= 1.5


# --- the real package

_CONFIGURATION = """\
[codecarbon]
output_methods = csv,api,logger
emissions_endpoint = http://192.0.2.1/emissions
co2_signal_api_token = token
cloud_provider = gcp
cloud_region = us-east1
allow_multiple_runs = false
pue = 2
country_iso_code = FRA
region = california
output_dir = /nowhere
force_carbon_intensity_g_co2e_kwh = 1
"""
_SCRIPT = """\
import json, logging, os, sys, threading, time
sockets = []
def refuse(event, arguments):
    if event.startswith("socket.") and event not in ("socket.__new__", "socket.bind"):  # urllib3 looks for IPv6
        sockets.append(f"{event} {arguments}")
        raise OSError("no network")
sys.addaudithook(refuse)
before = (list(logging.getLogger().handlers), logging.getLogger().level)
from msgspec.structs import asdict
from qprof.probes.carbon import open_carbon
estimator = open_carbon(sys.argv[1] or None)
tasks = []
for seconds in (0.1, 1.2):
    estimator.begin()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    task = estimator.end()
    tasks.append([task.seconds, task.cpu_j, task.ram_j, task.emissions_g])
estimator.close()
time.sleep(0.1)
from codecarbon.input import DataSource
print(json.dumps({
    "sockets": sockets, "tasks": tasks, "facts": asdict(estimator.facts()),
    "missing": [m.probe for m in estimator.missing],
    "root_as_it_was": before == (list(logging.getLogger().handlers), logging.getLogger().level),
    "threads": threading.active_count(), "files": os.listdir(os.environ["TMPDIR"]),
    "grid": DataSource().get_global_energy_mix_data()["USA"]["carbon_intensity"],
}))
"""


def run_real(folder: Path, country: str) -> dict[str, Any]:
    pytest.importorskip("codecarbon")
    (folder / "home").mkdir()
    (folder / "home/.codecarbon.config").write_text(_CONFIGURATION)
    (folder / "here").mkdir()
    (folder / "tmp").mkdir()
    environment = {**os.environ, "HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp")}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, country], cwd=folder / "here", env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    written = {path.name for name in ("home", "here", "tmp") for path in (folder / name).iterdir()}
    assert written == {".codecarbon.config"}
    told: dict[str, Any] = json.loads(done.stdout)  # and nothing else was printed
    return told


def test_the_real_package_stays_offline_writes_nothing_and_adds_up(tmp_path: Path) -> None:
    told = run_real(tmp_path, "usa")
    assert told["sockets"] == told["files"] == [] and told["root_as_it_was"] and told["threads"] == 1
    facts = told["facts"]
    assert facts["country"] == "USA" and facts["grid_source"].startswith("United States, mean of ")
    assert facts["grid_g_per_kwh"] == pytest.approx(told["grid"])  # not California's, not the configuration's
    ram_w = float(facts["ram"].split(": ")[1].split(" W")[0])
    for seconds, cpu_j, ram_j, emissions_g in told["tasks"]:
        assert ram_j == pytest.approx(ram_w * seconds, rel=1e-6)  # PUE is 1
        assert emissions_g == pytest.approx((cpu_j + ram_j) / 3.6e6 * facts["grid_g_per_kwh"], rel=1e-6)
        if facts["mode"] == "cpu load":
            tdp = float(facts["cpu"].split(": ")[1].split(" W")[0])
            assert 0.1 * tdp * seconds < cpu_j <= tdp * seconds * 1.000001
    assert told["missing"] == []


def test_the_real_package_without_a_country(tmp_path: Path) -> None:
    told = run_real(tmp_path, "")
    assert told["sockets"] == [] and told["missing"] == ["codecarbon.emissions"]
    assert told["facts"]["country"] is None and [task[3] for task in told["tasks"]] == [None, None]


def test_the_real_reader_of_rapl_over_a_made_up_counter(tmp_path: Path) -> None:
    hardware = pytest.importorskip("codecarbon.external.hardware")
    zone = tmp_path / "intel-rapl/intel-rapl:0"
    zone.mkdir(parents=True)
    for name, content in {"name": "package-0", "energy_uj": "1000000", "max_energy_range_uj": "262143328850"}.items():
        (zone / name).write_text(content)
    cpu = hardware.CPU("/", "intel_rapl", "A CPU", 85, rapl_dir=str(tmp_path))
    cpu.start()
    (zone / "energy_uj").write_text("3000000")
    energy = cpu.measure_power_and_energy(last_duration=0.1)[1]
    assert energy.kWh * 3.6e6 == pytest.approx(2.0, rel=1e-5)
    assert carbon._doubt(cpu, energy.kWh, 0.1) is None
    assert carbon._cpu_text(None, cpu) == f"A CPU: {zone / 'energy_uj'}"
    (zone / "energy_uj").unlink()
    energy = cpu.measure_power_and_energy(last_duration=0.1)[1]
    assert carbon._doubt(cpu, energy.kWh, 0.1) is not None
