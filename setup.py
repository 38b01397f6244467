"""Builds the compiled core from csrc/. Everything else about the package is in pyproject.toml.

Switches (environment variables):
  QPROF_DEBUG=1                  no optimization, assertions and bounds checks on
  QPROF_SANITIZE=address,undefined   build with those sanitizers (run with their runtime preloaded)
  QPROF_COVERAGE=1               gcov counters and Cython line tracing
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from glob import glob

from Cython.Build import cythonize
from setuptools import Extension, find_packages, setup

DEBUG = os.environ.get("QPROF_DEBUG") == "1"
SANITIZE = os.environ.get("QPROF_SANITIZE", "")
COVERAGE = os.environ.get("QPROF_COVERAGE") == "1"

COCO = ["_coco.pyx", "bootstrap.cpp", "category_matches.cpp", "curve_walk.cpp", "curves.cpp", "evaluation.cpp"]
COCO += ["grouping.cpp", "lookup.cpp", "matching.cpp", "overlaps.cpp", "reached.cpp", "resampling_plan.cpp"]
COCO += ["score_order.cpp"]
COCO_JSON = ["_coco_json.pyx", "alike.cpp", "column.cpp", "list.cpp", "members.cpp", "number_list.cpp", "numbers.cpp"]
COCO_JSON += ["reader.cpp", "scan.cpp", "tables.cpp", "text.cpp"]
MASKS = ["_masks.pyx", "boundary.cpp", "counts.cpp", "many.cpp", "polygon.cpp", "runs.cpp"]
TOPK = ["_topk.pyx", "score.cpp", "kernel_baseline.cpp", "kernel_avx2.cpp", "kernel_avx512.cpp"]
LITERT = ["_op_profiler.pyx", "fine_clock.cpp", "machine_state.cpp", "op_profiler.cpp"]
SAMPLER = ["_sampler.pyx", "files.cpp", "nvml.cpp", "parse.cpp", "probe.cpp", "sampler.cpp"]
#: A multiplication and an addition stay two roundings, also where the CPU could fuse them: equal to the last bit.
EXACT = ["-ffp-contract=off"]
#: Holds Cython's own code of memory views, which else each of the modules would have and compile for itself.
SHARED = "qprof.core._shared"
PROCESSORS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
#: Elsewhere than on Linux the profiler's clock and loader do not exist: qprof then times end to end only.
OPTIONAL = not sys.platform.startswith("linux")


def compile_args() -> list[str]:
    args = ["-Wall", "-Wextra", "-fvisibility=hidden"]
    # Cython's generated code casts function pointers and leaves helpers unused by design.
    args += ["-Wno-unused-function", "-Wno-cast-function-type", "-Wno-unused-parameter"]
    args += ["-O0", "-g3", "-D_GLIBCXX_ASSERTIONS"] if DEBUG or COVERAGE else ["-O2", "-g0"]
    if SANITIZE:
        args += [f"-fsanitize={SANITIZE}", "-fno-omit-frame-pointer", "-g"]
    if COVERAGE:
        args += ["--coverage"]
    return args


def link_args() -> list[str]:
    args = ["-pthread", *([f"-fsanitize={SANITIZE}"] if SANITIZE else [])]
    return args + (["--coverage"] if COVERAGE else [])


def extension(name: str, folder: str, sources: list[str], flags: Sequence[str] = ()) -> Extension:
    return Extension(
        f"qprof.core.{name}",
        [f"csrc/{folder}/{source}" for source in sources],
        include_dirs=[f"csrc/{folder}"],
        define_macros=[("CYTHON_TRACE", "1")] if COVERAGE else [],
        extra_compile_args=["-std=c++20", *compile_args(), *flags],
        extra_link_args=link_args(),
        language="c++",
        depends=sorted(glob(f"csrc/{folder}/*.h") + glob(f"csrc/{folder}/*.pxd")),
        optional=OPTIONAL,
    )


def shared() -> Extension:
    """Its source is written by Cython, into `build_dir`."""
    args = {"extra_compile_args": compile_args(), "extra_link_args": link_args()}
    return Extension(SHARED, ["csrc/_shared.c"], **args, optional=OPTIONAL)


setup(
    # Found, not listed; the profiles lie beside `src`, where who looks for an example finds them.
    packages=[*find_packages("src"), "qprof.profiles"],
    ext_modules=cythonize(
        [
            extension("_op_profiler", "litert", LITERT),
            extension("_coco", "coco", COCO, EXACT),
            extension("_coco_json", "coco_json", COCO_JSON),
            extension("_coco_rows", "coco_rows", ["_coco_rows.pyx"]),
            extension("_masks", "masks", MASKS, EXACT),
            extension("_topk", "topk", TOPK),
            extension("_layers", "layers", ["_layers.pyx", "timed_call.cpp"]),
            extension("_sampler", "sampler", SAMPLER, EXACT),
            shared(),
        ],
        include_path=[f"csrc/{f}" for f in ("litert", "coco", "coco_json", "masks", "topk", "layers", "sampler")],
        # Apart, because Cython does not translate anew where only the directives differ.
        build_dir="build/cython" + ("-debug" if DEBUG else "") + ("-coverage" if COVERAGE else ""),
        shared_utility_qualified_name=SHARED,
        nthreads=PROCESSORS,
        compiler_directives={"boundscheck": DEBUG, "wraparound": False, "linetrace": COVERAGE},
    ),
    options={"build_ext": {"parallel": PROCESSORS}},
)
