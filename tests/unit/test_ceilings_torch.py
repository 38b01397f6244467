"""Torch's ceilings, on this processor and on a device that is made up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from qprof.errors import ModelError  # noqa: E402
from qprof.record.ceilings import Ceiling  # noqa: E402
from qprof.record.model import RunOptions  # noqa: E402
from qprof.runtimes import ceilings as shared  # noqa: E402
from qprof.runtimes import registry  # noqa: E402
from qprof.runtimes.ceilings import Level  # noqa: E402
from qprof.runtimes.torch_lm import ceilings  # noqa: E402

MIB = 1 << 20


class FakeDevice:
    """A queue of work: what is launched starts when the work before it is done; a launch takes the host 1000 ns."""

    def __init__(self, device: Any = None) -> None:
        self.host_ns = self.free_ns = 0
        self.marks = self.given_back = 0

    def launch(self, ns: int) -> None:
        self.host_ns += 1000
        self.free_ns = max(self.host_ns, self.free_ns) + ns

    def mark(self) -> int:
        self.marks += 1
        return max(self.host_ns, self.free_ns)

    def between_ns(self, first: int, second: int) -> float:
        assert self.free_ns <= self.host_ns, "read before the device was waited for"
        return float(second - first)

    def synchronize(self) -> None:
        self.host_ns = max(self.host_ns, self.free_ns)

    def give_back(self, marks: Iterable[Any]) -> None:
        self.given_back += len(list(marks))


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(shared, "PASS_S", 0.001)
    monkeypatch.setattr(shared, "PATIENCE_S", 0.0)
    monkeypatch.setattr(ceilings, "_SIDES", {"cpu": (64, 64, 64), "cuda": (64, 64, 64)})
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def by_name(found: list[Ceiling]) -> dict[tuple[str, str], Ceiling]:
    return {(c.name, c.dtype): c for c in found}


def test_a_device_is_timed_from_idle_to_done_with_one_pair_of_events() -> None:
    fake = FakeDevice()
    fake.launch(50_000)  # still under way
    timer = ceilings.device_timer(fake)
    # The first launch is waited for, after that the work is.
    assert timer(lambda: fake.launch(4000), 10) == pytest.approx(41e-6)
    assert timer(lambda: fake.launch(10), 100) == pytest.approx(100.01e-6)  # bound by launching
    assert (fake.marks, fake.given_back) == (4, 4)


def test_ceilings_of_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeDevice()
    kernel_ns = {"matmul": 8192, "_int_mm": 4096, "linear": 2_000_000, "add": 500_000}

    def applied(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Callable[[], Any]:
        if function.__name__ == "_norm":
            return lambda: [fake.launch(10) for _ in range(8)]
        tiny = all(tensor.numel() <= 128 * 128 for tensor in args) and function.__name__ in ("add", "linear")
        return lambda: fake.launch(10 if tiny else kernel_ns[function.__name__])

    monkeypatch.setattr(ceilings, "_applied", applied)
    monkeypatch.setattr(ceilings, "CUDAClock", lambda device: fake)
    monkeypatch.setattr(ceilings, "refuse_missing_device", lambda device: None)
    monkeypatch.setattr(ceilings, "_LARGEST_ON_DEVICE", 24 * MIB)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(L2_cache_size=3 * MIB))
    monkeypatch.setattr(ceilings._Builder, "_random", lambda self, shape, dtype: torch.zeros(shape, dtype=torch.int8))

    found = ceilings.measure_all(RunOptions(device="cuda:0"))
    named = by_name(found)
    assert named["matmul", "bfloat16"].value == pytest.approx(64**3 / 8192, rel=0.01)
    assert named["matmul", "int8"].value == pytest.approx(64**3 / 4096, rel=0.01)
    assert named["L2", "float32"].value == pytest.approx(1.5 * MIB / 500_000, rel=0.01)
    assert named["L2", "float32"].up_to_bytes == 3 * MIB
    assert named["memory", "float32"].value == pytest.approx(24 * MIB / 500_000, rel=0.01)
    assert (named["memory", "float32"].up_to_bytes, named["memory", "float32"].note) == (None, None)
    assert named["weights", "float16"].value == pytest.approx(32 * MIB / 2_000_000, rel=0.01)
    # A tiny kernel is done before the next is launched.
    assert named["op", "float32"].value == pytest.approx(1.0, rel=0.01)
    assert named["linear", "bfloat16"].value == pytest.approx(1.0, rel=0.01)
    assert named["norm", "bfloat16"].value == pytest.approx(1.0, rel=0.01)  # per op
    assert all(c.overlaps == (c.kind == "dispatch") for c in found)
    assert all("cuda:0" in c.how for c in found)


def test_ceilings_of_this_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "levels", lambda sizes: [Level("L2", MIB // 4, MIB // 2), Level("memory", MIB, None)])
    found = ceilings.measure_all(RunOptions(threads=1))
    assert torch.get_num_threads() == 1
    dtypes = ("float32", "bfloat16", "float16")
    assert {(c.kind, c.name, c.dtype) for c in found} == {
        *(("compute", "matmul", dtype) for dtype in (*dtypes, "int8")),
        ("memory", "L2", "float32"),
        ("memory", "memory", "float32"),
        *(("memory", "weights", dtype) for dtype in dtypes),
        ("dispatch", "op", "float32"),
        *(("dispatch", "linear", dtype) for dtype in dtypes),
        ("dispatch", "norm", "bfloat16"),
    }
    for c in found:
        assert (c.value is not None and c.value > 0 and c.repetitions >= 5) or c.reason is not None
        assert not c.overlaps and "1 thread" in c.how


def test_single_ops_have_one_ceiling_of_launching(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "levels", lambda sizes: [Level("memory", MIB, None)])
    bench = registry.get("torch_export").ceilings
    assert bench is not None
    found = bench.measure(RunOptions(threads=1))
    assert [(c.name, c.dtype) for c in found if c.kind == "dispatch"] == [("kernel", "float32")]
    # Compiled kernels are held against it as well, and are called otherwise.
    assert [c.how for c in found if c.kind == "dispatch" and "an op of an uncompiled graph" in c.how]
    assert {c.name for c in found if c.kind != "dispatch"} == {"matmul", "memory", "weights"}


def test_a_format_without_a_kernel_is_missing_with_torchs_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        raise RuntimeError("_int_mm: not on this device\nmore")

    monkeypatch.setattr(torch, "_int_mm", refuse)
    monkeypatch.setattr(ceilings, "levels", lambda sizes: [Level("memory", MIB, None)])
    found = ceilings.measure_all(RunOptions())
    assert [c.dtype for c in found if c.name == "matmul"] == ["float32", "bfloat16", "float16", "int8"]
    missing = found[-1]
    assert (missing.dtype, missing.value) == ("int8", None)
    assert missing.reason == "torch does not compute it here: _int_mm: not on this device"


def test_products_take_no_conversion(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is timed is one op on operands that were made before."""
    seen: list[tuple[Any, ...]] = []
    real = torch.matmul

    def matmul(*args: Any) -> Any:
        seen.append(tuple(id(tensor) for tensor in args))
        return real(*args)

    monkeypatch.setattr(torch, "matmul", matmul)
    builder = ceilings._Builder(torch.device("cpu"), shared.on_the_host, [], "1 thread")
    next(builder.compute()).sample()
    assert len(seen) >= 4 and len(set(seen)) == 1


def test_a_missing_device_is_refused() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has one")
    with pytest.raises(ModelError, match="CUDA devices"):
        ceilings.measure_all(RunOptions(device="cuda"))


def test_the_norm_is_one_and_has_as_many_ops_as_it_is_divided_by() -> None:
    from torch.utils._python_dispatch import TorchDispatchMode

    launched: list[str] = []

    class Mode(TorchDispatchMode):  # type: ignore[misc]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            launched.append(func.__name__)
            return func(*args, **(kwargs or {}))

    given, ones = torch.tensor([[3.0, 4.0]], dtype=torch.bfloat16), torch.ones(2, dtype=torch.bfloat16)
    with Mode():
        found = ceilings._norm(given, ones)
    assert len(launched) == ceilings._OPS_OF_NORM
    assert found.float().pow(2).mean().item() == pytest.approx(1.0, rel=0.01)
