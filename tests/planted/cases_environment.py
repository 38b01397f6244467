"""The machine around the measurement: disturbed, slowed, cold, drifting; and worlds in which nothing is planted."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import replace

from planted.suite import Case, case
from planted.world import Noise, PlantedOp, PlantedVariant, Readings, World
from qprof.record.readings import Reading

QUIET = Noise(relative=0.01)
_SECOND = 1_000_000_000
#: Blocks as long as those of a run: sensors that tick by 10 ms see something in them.
_LONG_US = 5_000.0


def variant(name: str, us: float = 480.0, readings: Readings | None = None, **changes: object) -> PlantedVariant:
    """Two ops and 20 us outside them."""
    ops = [PlantedOp("conv", "CONV_2D", 0.75 * us), PlantedOp("add", "ADD", 0.25 * us)]
    return PlantedVariant(name, ops, readings=readings, **changes)  # type: ignore[arg-type]


def pair(us: float = 480.0, ratio: float = 1.0, **of_both: object) -> list[PlantedVariant]:
    """float32 and int8, which takes `ratio` times as long."""
    return [variant("float32", us, **of_both), variant("int8", us * ratio, **of_both)]  # type: ignore[arg-type]


def host(neighbours: Mapping[int, float], mhz: Mapping[int, float] | None = None, own: float = 0.98) -> Readings:
    """Readings of a run on a processor: others use `neighbours` cores in some rounds and 0.05 in the others."""

    def read(round_: int, start_ns: int, end_ns: int) -> list[Reading]:
        others = neighbours.get(round_, 0.05)
        # Sampled every 100 ms: a reading on either side, and some that fall into the block.
        times = [start_ns - _SECOND // 20, start_ns + 1, (start_ns + end_ns) // 2, end_ns + _SECOND // 20]
        found = []
        for t_ns in times:
            busy = round((t_ns / _SECOND) * (own + others), 2)  # by ticks of 10 ms
            found.append(Reading("host.busy", t_ns, busy, "s", "measured"))
            found.append(Reading("host.steal", t_ns, 0.0, "s", "measured"))
            if mhz is not None:
                for which, share in (("mean", 0.9), ("min", 0.6), ("max", 1.0)):
                    value = share * mhz.get(round_, 3000.0) * (1.0 + 0.005 * math.sin(t_ns))
                    found.append(Reading(f"host.frequency.{which}", t_ns, value, "MHz", "measured"))
        return [*found, Reading("host.cpu_s", end_ns, own * (end_ns - start_ns) / _SECOND, "s", "measured")]

    return read


def gpu(clock: Mapping[int, float] | None, slowed: Collection[int], mask: int = 0x20) -> Readings:
    """Readings of a GPU whose throttle bits are set in some rounds; `clock` in MHz, `None`: it cannot be read."""

    def read(round_: int, start_ns: int, end_ns: int) -> list[Reading]:
        bits = float(mask if round_ in slowed else 0)
        found = [Reading("nvml.0.throttle", t, bits, "1", "measured") for t in (start_ns, end_ns)]
        if clock is not None:
            mhz = clock.get(round_, 1980.0)
            found += [Reading("nvml.0.clock_sm", t, mhz, "MHz", "measured") for t in (start_ns, end_ns)]
        return found

    return read


#: One round in three disturbed, in two stretches.
_BUSY = {3: 1.3, 4: 1.3, 5: 1.2, 10: 1.5}


@case("busy neighbour")
def busy_neighbour() -> Case:
    noise = replace(QUIET, by_round={round_: 1.15 + 0.1 * cores for round_, cores in _BUSY.items()})
    return Case(World(pair(_LONG_US, readings=host(_BUSY)), noise, rounds=12), {("busy_neighbour", "int8")})


@case("busy neighbour in the way of one variant alone")
def busy_neighbour_of_one() -> Case:
    disturbed = {2: 1.4, 7: 1.2, 8: 1.3}
    variants = [
        variant("float32", _LONG_US, host(disturbed), by_round=dict.fromkeys(disturbed, 1.3)),
        variant("int8", 0.8 * _LONG_US, host({})),
    ]
    return Case(World(variants, QUIET), {("busy_neighbour", "int8")})


@case("stolen by another guest")
def stolen() -> Case:
    calm = host({})
    rounds = (1, 2, 6, 7)

    def read(round_: int, start_ns: int, end_ns: int) -> list[Reading]:
        share = 0.45 if round_ in rounds else 0.0
        kept = [reading for reading in calm(round_, start_ns, end_ns) if reading.probe != "host.steal"]
        return kept + [Reading("host.steal", t, share * t / _SECOND, "s", "measured") for t in (start_ns, end_ns)]

    noise = replace(QUIET, by_round=dict.fromkeys(rounds, 1.8))
    return Case(World(pair(_LONG_US, readings=read), noise), {("busy_neighbour", "int8")})


@case("throttling, latency as 1 / f")
def throttling() -> Case:
    mhz = {6: 2500.0, 7: 2300.0, 8: 2200.0, 9: 2200.0}
    noise = replace(QUIET, by_round={round_: 3000.0 / clock for round_, clock in mhz.items()})
    return Case(World(pair(readings=host({}, mhz)), noise), {("throttling", "int8")})


@case("thermal throttling of a GPU")
def gpu_throttling() -> Case:
    clock = dict.fromkeys((4, 5, 8, 9), 1200.0)
    noise = replace(QUIET, by_round=dict.fromkeys(clock, 1980.0 / 1200.0))
    variants = pair(readings=gpu(clock, clock), options={"device": "cuda:0"})
    return Case(World(variants, noise), {("throttling", "int8")})


@case("cold caches")
def cold() -> Case:
    variants = [variant("float32"), variant("int8", 240.0, warmup_us=[4000.0, 900.0, 400.0])]
    return Case(World(variants), {("cold_start", "int8")})


@case("drift of the machine")
def drift() -> Case:
    return Case(World(pair(ratio=0.7), Noise(0.01, drift_per_round=0.02)), {("drift", "int8")})


@case("a machine that gets faster")
def falling_drift() -> Case:
    return Case(World(pair(ratio=1.5), Noise(0.01, drift_per_round=-0.015), rounds=12), {("drift", "int8")})


# -- nothing planted: what is shown by a sensor has no effect, or there is none


@case("nothing: identical variants")
def nothing() -> Case:
    return Case(World(pair(readings=host({}, {}))))


@case("nothing: identical variants, heavy tails")
def heavy_tails() -> Case:
    return Case(World(pair(), Noise(0.02, spikes=0.03, spike_factor=8.0)))


@case("nothing: identical variants, blocks that remember")
def remembering() -> Case:
    return Case(World(pair(), Noise(0.02, ar1=0.8), rounds=12))


@case("nothing: identical variants that drift alike")
def drift_alike() -> Case:
    return Case(World(pair(), Noise(0.01, drift_per_round=0.015)), allowed={("drift", "int8")})


@case("nothing: a difference under the noise")
def small_difference() -> Case:
    return Case(World(pair(ratio=1.002), Noise(0.03)))


@case("nothing: a neighbour on cores of its own")
def harmless_neighbour() -> Case:
    return Case(World(pair(_LONG_US, readings=host(_BUSY)), QUIET, rounds=12))


@case("nothing: latency that does not follow the clock")
def memory_bound() -> Case:
    return Case(World(pair(readings=host({}, {5: 2400.0, 6: 2400.0, 7: 2300.0})), QUIET))


@case("nothing: slow rounds that no sensor shows")
def unexplained() -> Case:
    noise = replace(QUIET, by_round={4: 1.4, 5: 1.4})
    return Case(World(pair(_LONG_US, readings=host({}, {})), noise))


@case("nothing: throttle bits without a clock")
def bits_alone() -> Case:
    noise = replace(QUIET, by_round={2: 1.5, 3: 1.5})
    return Case(World(pair(readings=gpu(None, {2, 3}), options={"device": "cuda:0"}), noise))


@case("nothing: disturbed alike, without sensors")
def no_sensors() -> Case:
    return Case(World(pair(ratio=0.8), replace(QUIET, by_round={3: 1.3, 4: 1.3})))


@case("a neighbour that disturbs both alike")
def disturbed_alike() -> Case:
    noise = replace(QUIET, by_round=dict.fromkeys(_BUSY, 1.25))
    return Case(World(pair(_LONG_US, readings=host(_BUSY)), noise, rounds=12), {("busy_neighbour", "int8")})
