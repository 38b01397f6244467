// Top-k scoring of logits: rank of a target, argmax, log-likelihood and entropy of every row, in one pass over memory.
//
// A row is read in blocks that fit L1. Of each block one loop takes the maximum, the number of logits ahead of the
// target, whether there is a NaN, and the sum of the exponentials (row_kernel.h, exponential.h). Half types are
// widened in registers. Nothing is copied and nothing of the size of a row is allocated.
#pragma once

#include <cstdint>

namespace qprof::topk {

enum class Dtype : int32_t { kFloat32 = 0, kFloat16 = 1, kBfloat16 = 2 };

// Which of the logits that equal the target's are ahead of it: those of a lower index, none, or all.
enum class Ties : int32_t { kFirst = 0, kOptimistic = 1, kPessimistic = 2 };

// What is computed of a row; each holds what stands before it.
enum class Measure : int32_t { kRank = 0, kLogLikelihood = 1, kEntropy = 2 };

enum class SimdLevel : int32_t { kBaseline = 0, kAvx2 = 1, kAvx512 = 2 };

struct Logits {
  const void* data;
  int64_t rows;
  int64_t vocabulary;
  int64_t row_stride_bytes;  // may be negative or 0; within a row the logits are contiguous
  Dtype dtype;
};

// Where the results go, one value per row; the last two may be null if `Measure` leaves them out.
struct Scores {
  int64_t* rank;
  int64_t* argmax;
  double* log_likelihood;
  double* entropy;
};

struct Options {
  Ties ties;
  Measure measure;
  SimdLevel simd;
  int threads;
};

enum class Fault : int32_t { kNone = 0, kTarget = 1, kNan = 2 };

// The first row that cannot be scored. `column` is the first NaN's.
struct Outcome {
  Fault fault = Fault::kNone;
  int64_t row = -1;
  int64_t column = -1;
};

// Scores every row. Threads start only if there are more than one and enough rows for them. On a fault the results
// are undefined; the row that is named does not depend on the threads.
Outcome score(const Logits& logits, const int64_t* targets, const Options& options, const Scores& scores);

// Whether this CPU runs the kernels of that level, and this build has them.
bool supports(SimdLevel level);

}  // namespace qprof::topk
