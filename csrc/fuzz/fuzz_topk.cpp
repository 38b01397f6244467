// Any bits as logits: every kernel that this CPU has scores them alike, and reads nothing beside them.
//
// The first eight bytes choose dtype, ties, measure, vocabulary, rows' distance and the target; the rest are logits.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "topk.h"

using namespace qprof::topk;

namespace {

constexpr size_t kHeader = 8;

struct Result {
  Outcome outcome;
  std::vector<int64_t> rank, argmax;
  std::vector<double> likelihood, entropy;
};

Result scored(const Logits& logits, const std::vector<int64_t>& targets, const Options& options) {
  Result found;
  const size_t rows = static_cast<size_t>(logits.rows);
  found.rank.resize(rows);
  found.argmax.resize(rows);
  found.likelihood.resize(rows);
  found.entropy.resize(rows);
  found.outcome = score(logits, targets.data(), options,
                        {found.rank.data(), found.argmax.data(), found.likelihood.data(), found.entropy.data()});
  return found;
}

bool near(double one, double other) {
  if (std::isnan(one) || std::isnan(other)) return std::isnan(one) == std::isnan(other);
  if (std::isinf(one) || std::isinf(other)) return one == other;
  return std::fabs(one - other) <= 1e-5 * (1 + std::fabs(one));
}

void hold(bool is_so, const char* what) {
  if (is_so) return;
  std::fprintf(stderr, "%s\n", what);
  std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size <= kHeader) return 0;
  const auto dtype = static_cast<Dtype>(data[0] % 3);
  const int64_t width = dtype == Dtype::kFloat32 ? 4 : 2;
  const int64_t bytes = static_cast<int64_t>(size - kHeader);
  const int64_t vocabulary = 1 + (data[1] | data[2] << 8) % 2048;
  const int64_t stride = vocabulary * width + data[3] % 5;  // unaligned, too
  const int64_t rows = bytes < vocabulary * width ? 0 : 1 + (bytes - vocabulary * width) / stride;
  if (rows == 0) return 0;
  // Of its very size, so that a read behind the last logit is one behind the block.
  std::unique_ptr<char[]> block(new char[static_cast<size_t>((rows - 1) * stride + vocabulary * width)]);
  std::memcpy(block.get(), data + kHeader, static_cast<size_t>((rows - 1) * stride + vocabulary * width));
  const Logits logits{block.get(), rows, vocabulary, stride, dtype};
  std::vector<int64_t> targets(static_cast<size_t>(rows));
  for (size_t row = 0; row < targets.size(); ++row) {
    targets[row] = (data[4] + 7 * static_cast<int64_t>(row)) % vocabulary - (data[7] == 255 ? 1 : 0);
  }
  Options options{static_cast<Ties>(data[5] % 3), static_cast<Measure>(data[6] % 3), SimdLevel::kBaseline, 1};
  const Result plain = scored(logits, targets, options);
  for (const SimdLevel level : {SimdLevel::kBaseline, SimdLevel::kAvx2, SimdLevel::kAvx512}) {
    if (!supports(level)) continue;
    options.simd = level;
    options.threads = level == SimdLevel::kBaseline ? 3 : 1;
    const Result other = scored(logits, targets, options);
    hold(other.outcome.fault == plain.outcome.fault && other.outcome.row == plain.outcome.row, "another fault");
    hold(other.outcome.column == plain.outcome.column, "another NaN");
    if (plain.outcome.fault != Fault::kNone) continue;
    hold(other.rank == plain.rank && other.argmax == plain.argmax, "another rank or argmax");
    for (size_t row = 0; row < targets.size(); ++row) {
      hold(plain.rank[row] >= 0 && plain.argmax[row] >= 0 && plain.argmax[row] < vocabulary, "out of range");
      if (options.measure != Measure::kRank) hold(near(other.likelihood[row], plain.likelihood[row]), "likelihood");
      if (options.measure == Measure::kEntropy) hold(near(other.entropy[row], plain.entropy[row]), "entropy");
    }
  }
  return 0;
}
