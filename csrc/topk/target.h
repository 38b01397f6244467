// QPROF_TARGET("avx2,fma"): from there to QPROF_TARGET_END (GCC: to the end of the file) is compiled for these
// features.
//
// Not by a compiler flag: inline functions of other headers may be shared with other files, and must run on any CPU. So
// what the kernels include from elsewhere is included here, before.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "kernel.h"

#define QPROF_PRAGMA(...) _Pragma(#__VA_ARGS__)
#if defined(__clang__)
#define QPROF_TARGET(features) \
  QPROF_PRAGMA(clang attribute push(__attribute__((target(features))), apply_to = function))
#define QPROF_TARGET_END QPROF_PRAGMA(clang attribute pop)
#else
#define QPROF_TARGET(features) QPROF_PRAGMA(GCC target(features))
#define QPROF_TARGET_END
#endif
