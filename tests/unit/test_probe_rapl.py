"""RAPL over made-up powercap trees."""

from __future__ import annotations

from pathlib import Path

import pytest

from fake_clock import FakeClock
from qprof.probes.base import NullProbe, PartsProbe, Probe, ProbeError, SensorFile, SensorGoneError
from qprof.probes.rapl import open_rapl
from qprof.probes.sampler import Sampler

RANGE_UJ = 262143328850


def zone(root: Path, folder: str, name: str, energy_uj: object, range_uj: object = RANGE_UJ) -> Path:
    path = root / folder
    path.mkdir(parents=True)
    (path / "name").write_text(f"{name}\n")
    (path / "energy_uj").write_text(f"{energy_uj}\n")
    (path / "max_energy_range_uj").write_text(f"{range_uj}\n")
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "intel-rapl").mkdir()
    zone(tmp_path, "intel-rapl:0", "package-0", 1_000_000)
    zone(tmp_path, "intel-rapl:0:0", "core", 600_000)
    zone(tmp_path, "intel-rapl:0:1", "dram", 200_500)
    zone(tmp_path, "intel-rapl:1", "package-1", 5_000_000)
    zone(tmp_path, "intel-rapl:1:0", "dram", 300_000)
    zone(tmp_path, "intel-rapl:2", "psys", 9_000_000)
    return tmp_path


def values(probe: Probe) -> dict[str, float]:
    return {probe.channels[position].name: value for position, _, value in probe.read()}


def test_every_zone_is_a_channel(root: Path) -> None:
    probe = open_rapl(root, FakeClock(7))
    assert values(probe) == {
        "rapl.package-0.energy": 1000.0,
        "rapl.package-0.core.energy": 600.0,
        "rapl.package-0.dram.energy": 200.5,
        "rapl.package-1.energy": 5000.0,
        "rapl.package-1.dram.energy": 300.0,
        "rapl.psys.energy": 9000.0,
    }
    assert {(channel.unit, channel.kind, channel.provenance) for channel in probe.channels} == {
        ("mJ", "counter", "measured")
    }
    assert {channel.wraps_at for channel in probe.channels} == {RANGE_UJ / 1000}
    assert not probe.missing
    assert {t_ns for _, t_ns, _ in probe.read()} == {7}


def test_a_counter_is_read_anew_each_time(root: Path) -> None:
    probe = open_rapl(root)
    values(probe)
    (root / "intel-rapl:0/energy_uj").write_text("12\n")  # wrapped: told as it is, the accounting sees it
    assert values(probe)["rapl.package-0.energy"] == 0.012


def test_what_mmio_shows_again_is_not_counted_twice(root: Path) -> None:
    zone(root, "intel-rapl-mmio:0", "package-0", 77)
    zone(root, "intel-rapl-mmio:0:0", "dram", 78)
    assert values(open_rapl(root)) == values(open_rapl(root))
    assert values(open_rapl(root))["rapl.package-0.energy"] == 1000.0
    assert len(open_rapl(root).channels) == 6


def test_mmio_stands_in_where_the_other_cannot_be_read(tmp_path: Path) -> None:
    (zone(tmp_path, "intel-rapl:0", "package-0", 1) / "energy_uj").unlink()
    zone(tmp_path, "intel-rapl-mmio:0", "package-0", 77_000)
    probe = open_rapl(tmp_path)
    assert values(probe) == {"rapl.package-0.energy": 77.0}
    assert not probe.missing


def test_amd_has_packages_and_cores(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 2_000, 65_532_610_987)
    zone(tmp_path, "intel-rapl:0:0", "core", 1_000, 65_532_610_987)
    assert list(values(open_rapl(tmp_path))) == ["rapl.package-0.energy", "rapl.package-0.core.energy"]


def test_two_psys_keep_apart(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "psys", 1_000)
    zone(tmp_path, "intel-rapl:1", "psys", 2_000)
    assert values(open_rapl(tmp_path)) == {"rapl.psys.energy": 1.0, "rapl.psys-1.energy": 2.0}


def refuse(monkeypatch: pytest.MonkeyPatch, *paths: Path) -> None:
    """Root may read any file, so that taking the right away would show nothing."""
    opened = SensorFile.__init__

    def init(self: SensorFile, path: Path) -> None:
        if path in paths:
            raise ProbeError(f"{path}: Permission denied")
        opened(self, path)

    monkeypatch.setattr(SensorFile, "__init__", init)


def test_an_unreadable_counter_is_missing_with_the_remedy(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, root / "intel-rapl:0/energy_uj")
    probe = open_rapl(root)
    assert "rapl.package-0.energy" not in values(probe)
    assert "rapl.package-1.energy" in values(probe)
    (missing,) = probe.missing
    assert missing.probe == "rapl.package-0.energy"
    assert missing.reason == f"{root / 'intel-rapl:0/energy_uj'}: Permission denied"
    assert f"sudo chmod a+r {root / 'intel-rapl:0/energy_uj'}" in missing.remedy
    assert "/etc/udev/rules.d/" in missing.remedy


def test_none_readable_is_a_null_probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse(monkeypatch, zone(tmp_path, "intel-rapl:0", "package-0", 1) / "energy_uj")
    probe = open_rapl(tmp_path)
    assert isinstance(probe, NullProbe)
    assert "Permission denied" in probe.missing[0].reason


def test_a_masked_folder_is_a_null_probe(tmp_path: Path) -> None:
    (tmp_path / "intel-rapl:0").symlink_to(tmp_path / "masked")
    probe = open_rapl(tmp_path)
    assert isinstance(probe, NullProbe)
    assert "No such file" in probe.missing[0].reason
    assert "systempaths=unconfined" in probe.missing[0].remedy


@pytest.mark.parametrize(("made", "told"), [(False, "No such file"), (True, "an empty folder")])
def test_no_powercap_at_all(tmp_path: Path, made: bool, told: str) -> None:
    folder = tmp_path / "powercap"
    if made:
        folder.mkdir()
    probe = open_rapl(folder)
    assert isinstance(probe, NullProbe)
    assert told in probe.missing[0].reason
    assert probe.read() == [] and "intel_rapl_msr" in probe.missing[0].remedy


def test_other_zones_are_named(tmp_path: Path) -> None:
    (tmp_path / "dtpm").mkdir()
    assert "found dtpm" in open_rapl(tmp_path).missing[0].reason


@pytest.mark.parametrize("content", ["", "twelve\n", "1.5\n"])
def test_a_counter_that_is_no_number(root: Path, content: str) -> None:
    (root / "intel-rapl:1/energy_uj").write_text(content)
    (missing,) = open_rapl(root).missing
    assert missing.probe == "rapl.package-1.energy"
    assert f"{root / 'intel-rapl:1/energy_uj'}: not a whole number" in missing.reason


def test_no_range_is_told(root: Path) -> None:
    (root / "intel-rapl:2/max_energy_range_uj").unlink()
    probe = open_rapl(root)
    assert {channel.name: channel.wraps_at for channel in probe.channels}["rapl.psys.energy"] is None
    assert [missing.probe for missing in probe.missing] == ["rapl.psys.energy"]


def test_a_zone_that_fails_later_leaves_the_others(root: Path) -> None:
    probe = open_rapl(root)
    (root / "intel-rapl:2/energy_uj").write_text("??")
    assert len(values(probe)) == 5
    assert values(probe)["rapl.package-1.energy"] == 5000.0
    (missing,) = probe.missing
    assert missing.probe == "rapl.psys.energy" and "failed 2x" in missing.reason
    (root / "intel-rapl:2/energy_uj").write_text("9000000")
    assert len(values(probe)) == 6


def test_all_zones_failing_is_an_error(tmp_path: Path) -> None:
    file = zone(tmp_path, "intel-rapl:0", "package-0", 1) / "energy_uj"
    probe = open_rapl(tmp_path)
    file.write_text("??")
    with pytest.raises(ProbeError, match="no part answers"):
        probe.read()


def test_a_module_that_is_unloaded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    probe = open_rapl(root)
    assert isinstance(probe, PartsProbe)

    def gone(self: SensorFile) -> bytes:
        raise SensorGoneError(f"{self.path}: No such device")

    monkeypatch.setattr(SensorFile, "read", gone)
    with pytest.raises(SensorGoneError, match="No such device"):
        probe.read()


def test_sampled_and_closed(root: Path) -> None:
    with Sampler([open_rapl(root)], 200.0) as sampler:
        pass
    assert not sampler.missing
    assert sampler.between(0, 1 << 62)["rapl.psys.energy"].values.tolist()[0] == 9000.0
