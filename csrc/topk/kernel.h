// What the dispatcher (score.cpp) and the kernels of each SIMD level (kernel_*.cpp) share.
#pragma once

#include <cstdint>

#include "topk.h"

namespace qprof::topk {

struct RowScore {
  int64_t rank;
  int64_t argmax;
  double log_likelihood;
  double entropy;
  bool has_nan;  // nothing else is valid then
};

// `row` need not be aligned. 0 <= target < vocabulary.
using RowKernel = RowScore (*)(const void* row, int64_t vocabulary, int64_t target, Ties ties);

RowKernel baseline_kernel(Dtype dtype, Measure measure);
#if defined(__x86_64__)
RowKernel avx2_kernel(Dtype dtype, Measure measure);
RowKernel avx512_kernel(Dtype dtype, Measure measure);
#else
// Null: the build has no kernels of that level.
inline RowKernel avx2_kernel(Dtype, Measure) { return nullptr; }
inline RowKernel avx512_kernel(Dtype, Measure) { return nullptr; }
#endif

}  // namespace qprof::topk
