// Chooses the kernel for the CPU and spreads the rows over threads.
#include <algorithm>
#include <atomic>
#include <cfenv>
#include <cmath>
#include <system_error>
#include <thread>
#include <vector>

#include "element.h"
#include "kernel.h"
#include "topk.h"

namespace qprof::topk {
namespace {

RowKernel kernel_for(SimdLevel level, Dtype dtype, Measure measure) {
  switch (level) {
    case SimdLevel::kBaseline: return baseline_kernel(dtype, measure);
    case SimdLevel::kAvx2: return avx2_kernel(dtype, measure);
    case SimdLevel::kAvx512: return avx512_kernel(dtype, measure);
  }
  return nullptr;
}

template <class Element>
int64_t first_nan(const char* row) {
  int64_t column = 0;
  while (!std::isnan(logit_at<Element>(row, column))) ++column;
  return column;
}

int64_t first_nan(const char* row, Dtype dtype) {
  switch (dtype) {
    case Dtype::kFloat32: return first_nan<Float32>(row);
    case Dtype::kFloat16: return first_nan<Float16>(row);
    case Dtype::kBfloat16: return first_nan<Bfloat16>(row);
  }
  return -1;
}

// Rounding to nearest and subnormals kept, whatever the caller set for itself (some libraries flush them to zero).
class DefaultFloatEnvironment {
 public:
  DefaultFloatEnvironment() {
    std::fegetenv(&saved_);
    std::fesetenv(FE_DFL_ENV);
  }
  ~DefaultFloatEnvironment() { std::fesetenv(&saved_); }
  DefaultFloatEnvironment(const DefaultFloatEnvironment&) = delete;
  DefaultFloatEnvironment& operator=(const DefaultFloatEnvironment&) = delete;

 private:
  std::fenv_t saved_;
};

// Rows are handed out in ascending chunks. A thread that meets a fault ends there, the others once they are past it,
// so that every row before the first faulty one has been looked at.
class Job {
 public:
  Job(const Logits& logits, const int64_t* targets, const Options& options, const Scores& scores)
      : logits_(logits),
        targets_(targets),
        ties_(options.ties),
        scores_(scores),
        kernel_(kernel_for(options.simd, logits.dtype, options.measure)),
        rows_per_chunk_(std::clamp<int64_t>(kChunkLogits / std::max<int64_t>(logits.vocabulary, 1), 1, kChunkLogits)),
        first_fault_(logits.rows) {}

  int64_t chunks() const { return (logits_.rows + rows_per_chunk_ - 1) / rows_per_chunk_; }

  void work() {
    const DefaultFloatEnvironment environment;
    for (;;) {
      const int64_t begin = next_row_.fetch_add(rows_per_chunk_);
      const int64_t end = std::min(begin + rows_per_chunk_, logits_.rows);
      for (int64_t row = begin; row < end; ++row) {
        if (row > first_fault_.load(std::memory_order_relaxed)) return;
        if (!score_row(row)) {
          note_fault(row);
          return;
        }
      }
      if (end >= logits_.rows) return;
    }
  }

  Outcome outcome() const {
    const int64_t row = first_fault_.load();
    if (row == logits_.rows) return {};
    if (!has_target(row)) return {Fault::kTarget, row, -1};
    return {Fault::kNan, row, first_nan(row_at(row), logits_.dtype)};
  }

 private:
  static constexpr int64_t kChunkLogits = 1 << 20;

  const char* row_at(int64_t row) const {
    return static_cast<const char*>(logits_.data) + row * logits_.row_stride_bytes;
  }

  bool has_target(int64_t row) const { return targets_[row] >= 0 && targets_[row] < logits_.vocabulary; }

  bool score_row(int64_t row) {
    if (!has_target(row)) return false;
    const RowScore score = kernel_(row_at(row), logits_.vocabulary, targets_[row], ties_);
    scores_.rank[row] = score.rank;
    scores_.argmax[row] = score.argmax;
    if (scores_.log_likelihood != nullptr) scores_.log_likelihood[row] = score.log_likelihood;
    if (scores_.entropy != nullptr) scores_.entropy[row] = score.entropy;
    return !score.has_nan;
  }

  void note_fault(int64_t row) {
    int64_t first = first_fault_.load();
    while (row < first && !first_fault_.compare_exchange_weak(first, row)) {
    }
  }

  const Logits logits_;
  const int64_t* const targets_;
  const Ties ties_;
  const Scores scores_;
  const RowKernel kernel_;
  const int64_t rows_per_chunk_;
  std::atomic<int64_t> next_row_{0};
  std::atomic<int64_t> first_fault_;
};

}  // namespace

Outcome score(const Logits& logits, const int64_t* targets, const Options& options, const Scores& scores) {
  Job job(logits, targets, options, scores);
  const int64_t helpers = std::min<int64_t>(options.threads, job.chunks()) - 1;
  std::vector<std::thread> threads;
  try {
    for (int64_t i = 0; i < helpers; ++i) threads.emplace_back([&job] { job.work(); });
  } catch (const std::system_error&) {
    // The system grants no more threads: those that started, and this one, do all rows.
  }
  job.work();
  for (std::thread& thread : threads) thread.join();
  return job.outcome();
}

bool supports(SimdLevel level) {
  if (kernel_for(level, Dtype::kFloat32, Measure::kRank) == nullptr) return false;
#if defined(__x86_64__)
#if defined(__clang__) && __clang_major__ < 17
  const bool f16c = true;  // which those clangs cannot ask for, and every CPU with AVX2 has
#else
  const bool f16c = __builtin_cpu_supports("f16c");
#endif
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && f16c;
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  return level == SimdLevel::kAvx512 ? avx512 : level == SimdLevel::kAvx2 ? avx2 : true;
#else
  return level == SimdLevel::kBaseline;
#endif
}

}  // namespace qprof::topk
