"""The op profiler where memory runs out: the inference goes on, and what went unrecorded is counted.

Each scenario runs in a process of its own, as `python test_native_op_profiler_limits.py SCENARIO [SHIM]`: an exception
that left through a frame of LiteRT would end it. Memory runs out in two ways: by a limit on the address space, or at
one chosen allocation of the profiler's own, through an `operator new` in front of the C++ library's (the shim).
"""

from __future__ import annotations

import ctypes
import itertools
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).resolve().parent.parent

#: Lets chosen allocations fail that are made by one library, or by the C++ library on its behalf, and no others.
SHIM = r"""
#include <dlfcn.h>
#include <execinfo.h>

#include <cstdlib>
#include <cstring>
#include <new>

static const char* library = nullptr;
static long skip = 0;
static long fail = 0;
static long failed = 0;

// Of the allocations of the library with that in its path those after the next `skip_` fail, `fail_` of them.
extern "C" void arm(const char* library_, long skip_, long fail_) {
  skip = skip_;
  fail = fail_;
  failed = 0;
  library = library_;
}

// How many failed.
extern "C" long disarm() {
  library = nullptr;
  return failed;
}

static bool is_of_the_library() {
  void* frames[32];
  const int depth = backtrace(frames, 32);
  for (int i = 0; i < depth; ++i) {
    Dl_info info;
    if (dladdr(frames[i], &info) == 0 || info.dli_fname == nullptr) return false;
    if (std::strstr(info.dli_fname, "libstdc++") || std::strstr(info.dli_fname, "libshim")) continue;
    return std::strstr(info.dli_fname, library) != nullptr;
  }
  return false;
}

void* operator new(std::size_t size) {
  if (library != nullptr && is_of_the_library() && --skip < 0 && fail > 0) {
    --fail;
    ++failed;
    throw std::bad_alloc();
  }
  void* memory = std::malloc(size == 0 ? 1 : size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
"""

#: Records of one inference of the nets in op_profiler_lifetimes.
RECORDS = {"conv": 8, "while": 14}
ALWAYS = 10**9
#: More allocations than any of the scenarios makes.
MOST_ALLOCATIONS = 1000


def build_shim(folder: Path) -> str:
    """Path of the shim, built in `folder`; skips the test where there is no compiler."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("needs g++")
    (folder / "shim.cpp").write_text(SHIM)
    command = [compiler, "-std=c++20", "-O1", "-g", "-shared", "-fPIC", "shim.cpp", "-o", "libshim.so", "-ldl"]
    subprocess.run(command, cwd=folder, check=True, timeout=120)
    return str(folder / "libshim.so")


def run(program: str, scenario: str, *arguments: str) -> None:
    """Run a scenario of `program`, a file like this one, in a process of its own."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path]), "PYTHONFAULTHANDLER": "1"}
    command = [sys.executable, program, scenario, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    died = f"died of {signal.Signals(-done.returncode).name}" if done.returncode < 0 else f"exit {done.returncode}"
    assert done.returncode == 0 and done.stdout.splitlines()[-1:] == ["all well"], f"{died}\n{done.stderr[-3000:]}"


@pytest.fixture(scope="module", autouse=True)
def needed() -> None:
    pytest.importorskip("qprof.core._op_profiler")
    pytest.importorskip("op_profiler_lifetimes", reason="the builder of tiny models needs ai_edge_litert")


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> str:
    return build_shim(tmp_path_factory.mktemp("shim"))


def test_an_inference_outlives_the_address_space() -> None:
    run(__file__, "the_address_space_ends")


def test_the_records_of_a_session_end_with_it() -> None:
    run(__file__, "records_are_given_back")


@pytest.mark.parametrize("scenario", ["recording", "moving_nodes", "loading", "hooking", "ending"])
def test_no_allocation_that_fails_ends_an_inference(scenario: str, shim: str) -> None:
    run(__file__, scenario, shim)


# What follows runs in the scenarios' processes.


class Shim:
    """Lets allocations fail that `library` makes, a part of a shared object's path. To be made before it is loaded."""

    def __init__(self, path: str, library: str) -> None:
        # For all to see: `operator new` is then this one.
        self._library = ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
        self._name = library.encode()
        self._library.arm.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_long]
        self._library.disarm.restype = ctypes.c_long
        self.failed = 0

    @contextmanager
    def failing(self, after: int, count: int = ALWAYS) -> Iterator[None]:
        """`count` of the allocations fail, those behind the first `after`; `failed` then says how many."""
        self._library.arm(self._name, after, count)
        try:
            yield
        finally:
            self.failed = self._library.disarm()

    def each_failure(self, try_it: Callable[[int, int], None]) -> None:
        """Calls `try_it(after, count)` for every allocation there is, to fail alone and together with all later ones.
        It enters `failing`; where nothing failed any more, all are done."""
        for count in (1, ALWAYS):
            failures = 0
            for after in range(MOST_ALLOCATIONS):
                try_it(after, count)
                if self.failed == 0:
                    break
                failures += 1
            assert self.failed == 0 and failures > 0, f"{failures} allocations failed, and the last one {self.failed}"


def output_of(interpreter: Any) -> bytes:
    details = interpreter.get_output_details()
    return b"".join(interpreter.get_tensor(detail["index"]).tobytes() for detail in details)


def expected_output(net: str) -> bytes:
    from ai_edge_litert.interpreter import Interpreter

    import op_profiler_lifetimes as lifetimes

    interpreter = Interpreter(str(lifetimes.path_of(net)))
    interpreter.allocate_tensors()
    lifetimes.zero_inputs(interpreter)
    interpreter.invoke()
    return output_of(interpreter)


def address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def kernels_per_run(records: Any) -> dict[tuple[int, int], float]:
    """How many kernels were recorded in a run of each (subgraph, node)."""
    from qprof.core._op_profiler import KIND_NODE

    keys = [(int(record["subgraph"]), int(record["node"])) for record in records]
    kinds = [bool(kind == KIND_NODE) for kind in records["kind"]]
    nodes = Counter(key for key, is_node in zip(keys, kinds, strict=True) if is_node)
    kernels = Counter(key for key, is_node in zip(keys, kinds, strict=True) if not is_node)
    assert kernels.keys() <= nodes.keys(), "a kernel is recorded and its node is not"
    return {key: kernels[key] / runs for key, runs in nodes.items()}


def the_address_space_ends() -> None:
    import op_profiler_lifetimes as lifetimes

    expected = expected_output("while")
    profiler, interpreter = lifetimes.attach("while")
    assert profiler.hook() == lifetimes.TIMED_NODES["while"]
    profiler.reserve(64)
    profiler.start(0)
    interpreter.invoke()
    inferences, beyond = 1, 100
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (address_space() + 2**23, hard))
    while beyond > 0 and inferences < 200_000:
        interpreter.invoke()
        inferences += 1
        beyond -= profiler.lost > 0
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    lost = profiler.lost
    assert lost > 0, f"the records of {inferences} inferences fit"
    assert output_of(interpreter) == expected
    records = profiler.drain()
    assert len(records) + lost == RECORDS["while"] * inferences
    # With memory again, everything is recorded again.
    profiler.start(1)
    interpreter.invoke()
    profiler.stop()
    assert len(profiler.drain()) == RECORDS["while"] and profiler.lost == lost


def records_are_given_back() -> None:
    import op_profiler_lifetimes as lifetimes
    from qprof.core._op_profiler import record_dtype

    profiler, interpreter = lifetimes.attach("conv")
    before = address_space()
    profiler.reserve(2**20)
    assert address_space() - before >= 2**20 * record_dtype.itemsize
    del profiler, interpreter
    assert address_space() - before < 2**20


def recording(shim: Shim) -> None:
    import op_profiler_lifetimes as lifetimes
    from qprof.core._op_profiler import KIND_KERNEL

    def record(net: str, expected: bytes, after: int, count: int) -> None:
        profiler, interpreter = lifetimes.attach(net)
        profiler.hook()
        profiler.start(0)
        with shim.failing(after, count):
            interpreter.invoke()
        profiler.stop()
        assert output_of(interpreter) == expected
        records, lost = profiler.drain(), profiler.lost
        assert len(records) + lost == RECORDS[net] and (lost > 0) == (shim.failed > 0)
        profiler.start(1)
        interpreter.invoke()
        profiler.stop()
        whole = profiler.drain()
        assert len(whole) == RECORDS[net] and profiler.lost == lost
        assert kernels_per_run(records).items() <= kernels_per_run(whole).items(), "a node without all of its kernels"
        names = profiler.kernel_names
        by_kernel: dict[tuple[int, ...], set[str]] = {}
        for entry in [*records, *whole]:
            if entry["kind"] == KIND_KERNEL:
                kernel = (int(entry["subgraph"]), int(entry["node"]), int(entry["kernel"]))
                by_kernel.setdefault(kernel, set()).add(names[entry["name"]] if entry["name"] >= 0 else "")
        assert all(len(found) == 1 and "" not in found for found in by_kernel.values()), by_kernel

    for net in RECORDS:
        shim.each_failure(partial(record, net, expected_output(net)))


def moving_nodes(shim: Shim) -> None:
    """XNNPACK's nodes are put behind those that are wrapped already, which moves these: they are wrapped anew by the
    first of them that runs."""
    from ai_edge_litert.interpreter import Interpreter, load_delegate

    import op_profiler_lifetimes as lifetimes
    from qprof.core._op_profiler import PLUGIN_PATH, OpProfiler
    from qprof.runtimes.litert.flatbuffer import read_model

    path = lifetimes.path_of("chain")
    sizes = [(len(subgraph.tensors), len(subgraph.ops)) for subgraph in read_model(path).subgraphs]
    expected = expected_output("chain")

    def attach() -> tuple[Any, Any]:
        profiler = OpProfiler(sizes)
        plugin = load_delegate(PLUGIN_PATH, profiler.options)
        interpreter = Interpreter(
            str(path), experimental_delegates=[plugin], experimental_disable_delegate_node_fusion=True
        )
        assert profiler.hook() > 0
        interpreter.allocate_tensors()
        lifetimes.zero_inputs(interpreter)
        profiler.reserve(1000)
        return profiler, interpreter

    def recorded(profiler: Any, interpreter: Any, inference: int) -> Any:
        profiler.start(inference)
        interpreter.invoke()
        profiler.stop()
        assert output_of(interpreter) == expected
        return profiler.drain()

    profiler, interpreter = attach()
    hooked = profiler.hook()
    whole = len(recorded(profiler, interpreter, 0))
    last = max(node[0] for node in profiler.nodes(0) if node[3] is None)  # of the chain: wrapped before the others

    def run_while_they_move(after: int, count: int) -> None:
        stayed = []
        for _ in range(20):
            profiler, interpreter = attach()
            with shim.failing(after, count):
                moved = recorded(profiler, interpreter, 0)
            lost = profiler.lost
            again, settled = recorded(profiler, interpreter, 1), recorded(profiler, interpreter, 2)
            if len(settled) == whole:
                break
            stayed.append((profiler, interpreter))  # at the same address by chance, which it keeps
        assert len(settled) == whole and profiler.lost == lost
        assert last in moved["node"]
        assert len(again) == whole or lost > 0, "records are missing, and nothing says so"
        assert profiler.hook() == hooked

    shim.each_failure(run_while_they_move)


def loading(shim: Shim) -> None:
    """An interpreter whose subgraphs cannot be noted is refused, in words; the next one is not."""
    from ai_edge_litert.interpreter import Interpreter, load_delegate

    import op_profiler_lifetimes as lifetimes
    from qprof.core._op_profiler import PLUGIN_PATH, OpProfiler
    from qprof.runtimes.litert.flatbuffer import read_model

    path = lifetimes.path_of("while")
    sizes = [(len(subgraph.tensors), len(subgraph.ops)) for subgraph in read_model(path).subgraphs]

    def load(after: int, count: int) -> None:
        profiler = OpProfiler(sizes)
        with shim.failing(after, count):
            try:
                interpreter = Interpreter(
                    str(path), experimental_delegates=[load_delegate(PLUGIN_PATH, profiler.options)]
                )
            except (RuntimeError, ValueError) as error:
                assert "no memory to time another subgraph" in str(error), error
                interpreter = None
        assert (interpreter is None) == (shim.failed > 0)
        if interpreter is None:
            interpreter = Interpreter(str(path), experimental_delegates=[load_delegate(PLUGIN_PATH, profiler.options)])
        interpreter.allocate_tensors()
        lifetimes.zero_inputs(interpreter)
        assert profiler.hook() == lifetimes.TIMED_NODES["while"]
        profiler.start(0)
        interpreter.invoke()
        assert len(profiler.drain()) == RECORDS["while"] and profiler.lost == 0

    shim.each_failure(load)


def hooking(shim: Shim) -> None:
    import op_profiler_lifetimes as lifetimes

    expected = expected_output("while")

    def hook(after: int, count: int) -> None:
        profiler, interpreter = lifetimes.attach("while")
        try:
            with shim.failing(after, count):
                profiler.hook()
        except MemoryError:
            assert shim.failed > 0
        else:
            assert shim.failed == 0
        interpreter.invoke()  # whatever is wrapped so far runs
        assert output_of(interpreter) == expected
        assert profiler.hook() == lifetimes.TIMED_NODES["while"]
        profiler.start(0)
        interpreter.invoke()
        assert len(profiler.drain()) == RECORDS["while"] and profiler.lost == 0
        profiler.unhook()
        interpreter.invoke()
        assert output_of(interpreter) == expected

    shim.each_failure(hook)


def ending(shim: Shim) -> None:
    """Whatever is let go of first, the end takes no memory."""
    import op_profiler_lifetimes as lifetimes

    for first in itertools.permutations(("profiler", "interpreter")):
        held = dict(zip(("profiler", "interpreter"), lifetimes.attach("while"), strict=True))
        held["profiler"].hook()
        held["profiler"].start(0)
        held["interpreter"].invoke()
        with shim.failing(0):
            for name in first:
                del held[name]
        assert shim.failed == 0


def main() -> None:
    scenario, *shims = sys.argv[1:]
    globals()[scenario](*(Shim(path, "_op_profiler") for path in shims))
    print("all well")


if __name__ == "__main__":
    main()
