"""Sensors that replay power whose true energy is known, and the faults that real ones have.

A `Signal` is the power that is truly drawn; `Averaged`, `PartTime`, `DropsOut` and `SteppedCounter` are what a sensor
shows of it. `FakeNvml` stands for the module pynvml and shows such sensors on a clock that a test moves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Protocol

from qprof.probes.base import ProbeError, ProbeReading, SensorGoneError
from qprof.probes.clock import Clock
from qprof.record.sensors import Channel, Missing


class Signal(Protocol):
    """Power over time."""

    def watts(self, t_s: float) -> float: ...

    def joules(self, t_s: float) -> float:
        """Energy from 0 to `t_s`, exactly; before 0 it goes on as it began, and counts negative."""
        ...


@dataclass(frozen=True)
class Constant:
    power: float

    def watts(self, t_s: float) -> float:
        return self.power

    def joules(self, t_s: float) -> float:
        return self.power * t_s


@dataclass(frozen=True)
class Ramp:
    """From `first` watts, changing by `slope` watts a second."""

    first: float
    slope: float

    def watts(self, t_s: float) -> float:
        return self.first + self.slope * t_s

    def joules(self, t_s: float) -> float:
        return self.first * t_s + self.slope * t_s * t_s / 2


@dataclass(frozen=True)
class Square:
    """`high` watts for the first `duty` of every `period_s`, then `low`."""

    low: float
    high: float
    period_s: float
    duty: float = 0.5

    def watts(self, t_s: float) -> float:
        return self.high if t_s / self.period_s % 1.0 < self.duty else self.low

    def joules(self, t_s: float) -> float:
        whole, part = divmod(t_s / self.period_s, 1.0)
        mean = self.low + (self.high - self.low) * self.duty
        partly = self.low * part + (self.high - self.low) * min(part, self.duty)
        return self.period_s * (whole * mean + partly)


@dataclass(frozen=True)
class Averaged:
    """A sensor that shows the mean of the last `window_s`, `lag_s` late (Ampere and newer: 1 s)."""

    signal: Signal
    window_s: float = 1.0
    lag_s: float = 0.0

    def watts(self, t_s: float) -> float:
        end = t_s - self.lag_s
        return (self.signal.joules(end) - self.signal.joules(end - self.window_s)) / self.window_s


@dataclass(frozen=True)
class PartTime:
    """A sensor that looks for the first `share` of every `period_s` only, and shows that mean until the next one.

    A100 and H100: 25 ms of every 100 ms (arXiv 2312.02741).
    """

    signal: Signal
    period_s: float = 0.1
    share: float = 0.25
    phase_s: float = 0.0

    def watts(self, t_s: float) -> float:
        begin = ((t_s - self.phase_s) // self.period_s - 1) * self.period_s + self.phase_s
        looked = self.share * self.period_s
        return (self.signal.joules(begin + looked) - self.signal.joules(begin)) / looked


@dataclass(frozen=True)
class SteppedCounter:
    """Energy in millijoules that is brought up to date every `period_s`, from `start_mj`, modulo `wraps_at_mj`."""

    signal: Signal
    period_s: float = 0.1
    start_mj: float = 0.0
    wraps_at_mj: float | None = None

    def millijoules(self, t_s: float) -> float:
        # 20.0 // 0.1 is 199: an update that is due within a nanosecond has come.
        updates = (t_s + 1e-9) // self.period_s
        total = self.start_mj + 1000 * self.signal.joules(updates * self.period_s)
        return total if self.wraps_at_mj is None else total % self.wraps_at_mj


class FakeNVMLError(Exception):
    """As pynvml.NVMLError: the return code is in `value`."""

    def __init__(self, value: int) -> None:
        super().__init__(f"NVML code {value}")
        self.value = value


NOT_SUPPORTED, NO_PERMISSION, LIBRARY_NOT_FOUND, GPU_IS_LOST, UNINITIALIZED, NO_DATA = 3, 4, 12, 15, 1, 20
_INSTANT, _AVERAGE = 186, 185


@dataclass
class FakeGpu:
    """One GPU. `refuses` maps an NVML function, or the number of a field, to the error code that it answers with."""

    signal: Signal = field(default_factory=lambda: Constant(300.0))
    name: str = "NVIDIA H200"
    uuid: str = "GPU-11111111-aaaa"
    architecture: int = 9
    pci_device: int = 0x2335
    mig: bool = False
    instances: Sequence[str] = ()
    counter: SteppedCounter | None = None
    instant: Any = None
    average: Any = None
    refuses: dict[str | int, int] = field(default_factory=dict)
    #: after this time every call says that the GPU is lost
    lost_at_s: float | None = None
    #: (from, to) in seconds: power has no data then
    dropouts: Sequence[tuple[float, float]] = ()

    def __post_init__(self) -> None:
        self.counter = self.counter or SteppedCounter(self.signal)
        self.instant = self.instant or PartTime(self.signal)
        self.average = self.average or Averaged(self.signal)


class FakeNvml:
    """Stands for the module pynvml, with a function for each that qprof calls."""

    NVMLError = FakeNVMLError

    def __init__(
        self, clock: Clock, gpus: Sequence[FakeGpu], *, init_code: int = 0, without: Sequence[str] = ()
    ) -> None:
        self._clock = clock
        self._gpus = gpus
        self._init_code = init_code
        self._without = frozenset(without)
        self.opened = 0
        #: seconds after which the whole driver is gone
        self.unloaded_at_s: float | None = None
        self._functions: dict[str, Callable[..., Any]] = {
            "nvmlDeviceGetName": lambda gpu: gpu.name,
            "nvmlDeviceGetUUID": lambda gpu: gpu.uuid,
            "nvmlDeviceGetIndex": self._gpus.index,
            "nvmlDeviceGetMigMode": lambda gpu: [int(gpu.mig), int(gpu.mig)],
            "nvmlDeviceGetArchitecture": lambda gpu: gpu.architecture,
            "nvmlDeviceGetPciInfo": lambda gpu: SimpleNamespace(pciDeviceId=gpu.pci_device << 16 | 0x10DE),
            "nvmlDeviceGetTotalEnergyConsumption": lambda gpu: round(gpu.counter.millijoules(self.now_s)),
            "nvmlDeviceGetPowerUsage": self._power_usage,
            "nvmlDeviceGetFieldValues": lambda gpu, fields: [self._field(gpu, one) for one in fields],
            "nvmlDeviceGetUtilizationRates": lambda gpu: SimpleNamespace(gpu=97, memory=41),
            "nvmlDeviceGetClockInfo": lambda gpu, which: {1: 1980, 2: 3201}[which],
            "nvmlDeviceGetCurrentClocksEventReasons": lambda gpu: 0x4,
            "nvmlDeviceGetCurrentClocksThrottleReasons": lambda gpu: 0x20,
            "nvmlDeviceGetTemperature": lambda gpu, sensor: 61,
        }

    @property
    def now_s(self) -> float:
        return self._clock.now_ns() / 1e9

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name in self._without or name not in self._functions:
            raise AttributeError(name)
        function = self._functions[name]

        def call(gpu: FakeGpu, *arguments: Any) -> Any:
            self._check(gpu)
            if name in gpu.refuses:
                raise FakeNVMLError(gpu.refuses[name])
            return function(gpu, *arguments)

        return call

    def _check_driver(self) -> None:
        if not self.opened or (self.unloaded_at_s is not None and self.now_s >= self.unloaded_at_s):
            raise FakeNVMLError(UNINITIALIZED)

    def _check(self, gpu: FakeGpu) -> None:
        self._check_driver()
        if gpu.lost_at_s is not None and self.now_s >= gpu.lost_at_s:
            raise FakeNVMLError(GPU_IS_LOST)

    def nvmlInit(self) -> None:
        if self._init_code:
            raise FakeNVMLError(self._init_code)
        self.opened += 1

    def nvmlShutdown(self) -> None:
        self._check_driver()
        self.opened -= 1

    def nvmlDeviceGetCount(self) -> int:
        return len(self._gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeGpu:
        return self._gpus[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> tuple[FakeGpu, str]:
        for gpu in self._gpus:
            if uuid in gpu.instances:
                return gpu, uuid
        raise FakeNVMLError(6)

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, instance: tuple[FakeGpu, str]) -> FakeGpu:
        return instance[0]

    def nvmlDeviceGetMemoryInfo(self, handle: FakeGpu | tuple[FakeGpu, str]) -> SimpleNamespace:
        self._check(handle[0] if isinstance(handle, tuple) else handle)
        return SimpleNamespace(used=10 << 30 if isinstance(handle, tuple) else 40 << 30)

    def _power_usage(self, gpu: FakeGpu) -> int:
        return round(1000 * (gpu.average if gpu.architecture >= 7 else gpu.instant).watts(self.now_s))

    def _field(self, gpu: FakeGpu, number: int) -> SimpleNamespace:
        sensor = {_INSTANT: gpu.instant, _AVERAGE: gpu.average}[number]
        code = gpu.refuses.get(number, 0)
        if any(begin <= self.now_s < end for begin, end in gpu.dropouts):
            code = NO_DATA
        milliwatts = 0 if code else round(1000 * sensor.watts(self.now_s))
        return SimpleNamespace(fieldId=number, nvmlReturn=code, value=SimpleNamespace(uiVal=milliwatts))


@dataclass
class FakeProbe:
    """One channel that shows `value(t_s)`; raises or does what `before_read` does, which gets the reading's number."""

    clock: Clock
    value: Callable[[float], float] = lambda t_s: t_s
    name: str = "fake"
    before_read: Callable[[int], None] = lambda number: None
    missing: Sequence[Missing] = ()
    reads: int = 0
    closed: int = 0

    @property
    def channels(self) -> Sequence[Channel]:
        return (Channel(f"{self.name}.value", "W", "gauge", "measured", "a fake"),)

    def read(self) -> list[ProbeReading]:
        self.reads += 1
        self.before_read(self.reads)
        now = self.clock.now_ns()
        return [(0, now, self.value(now / 1e9))]

    def close(self) -> None:
        self.closed += 1


def fails_at(*numbers: int) -> Callable[[int], None]:
    """Readings of these numbers fail."""

    def before_read(number: int) -> None:
        if number in numbers:
            raise ProbeError("fake: no answer")

    return before_read


def vanishes_at(first: int) -> Callable[[int], None]:
    """From this reading on the sensor is gone."""

    def before_read(number: int) -> None:
        if number >= first:
            raise SensorGoneError("fake: unplugged")

    return before_read
