// The algorithm of one row, over an element type (element.h) and a vector class V (vector.h). Everything here has
// internal linkage: each SIMD level compiles its own, and the linker must not fold them into one.
//
// V has: F, a vector of kLanes floats; load<Element>, four vectors at once; set, max, fma (a b + c), highest(F);
// kSteps an octave; Powers, whose of(n) is 2^(n / kSteps), n being the integer in the low bits of the significands;
// reduce (y - n ln 2 / kSteps) and kLn2, the ln 2 that it has; Count of lanes by comparison; NanSeen in two vectors;
// Sum, of vectors in double.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "element.h"
#include "exponential.h"
#include "kernel.h"

namespace qprof::topk {
namespace {

// Logits per block: small enough that a block which is read again (for the first index of the maximum, or relative to
// another reference) comes from L1, large enough that the work per block is little beside that per logit.
constexpr int64_t kBlock = 4096;

template <class V>
constexpr int64_t kStep = 4 * V::kLanes;

// How far ahead of the loop memory is asked for. The hardware's own prefetching falls behind as soon as there is work
// between the loads: with 8 KiB a row costs what reading it costs (Zen 5: 1.04 of it, and 1.3 without).
constexpr uintptr_t kPrefetchBytes = 8192;

inline void prefetch(const char* at, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) {
    // As a number: it may lie past the end of the logits, where no pointer may point but a prefetch does no harm.
    __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(at) + i + kPrefetchBytes));
  }
}

struct BlockTotals {
  float highest;
  int64_t ahead;  // logits greater than the target's (or equal to it, if asked)
  bool has_nan;
  double sum;       // of e^(x - reference)
  double weighted;  // of e^(x - reference) (argument - center)
};

// `size` is a multiple of the step. Exponentials are added in pairs before they go to double, so each float sum has
// two roundings, whatever the row's length.
template <class V, class Element, Measure kMeasure, bool kOrEqual, bool kShifted>
BlockTotals measure_block(const char* block, int64_t size, float target, const Reference& reference) {
  using F = typename V::F;
  const F target_logit = V::set(target);
  const F center = V::set(reference.center);
  const Exponential<V, kShifted> exponential(reference);
  F highest = V::set(-kInfinity);
  typename V::Count ahead;
  typename V::NanSeen nan_seen;
  typename V::Sum sum;
  typename V::Sum weighted;
  for (int64_t i = 0; i < size; i += kStep<V>) {
    const char* at = block + i * kBytes<Element>;
    prefetch(at, kStep<V> * kBytes<Element>);
    F x[4];
    V::template load<Element>(at, x);
    if constexpr (kOrEqual) {
      QPROF_FOUR(j) ahead.add_greater_equal(x[j], target_logit);
    } else {
      QPROF_FOUR(j) ahead.add_greater(x[j], target_logit);
    }
    nan_seen.add(x[0], x[1]);
    nan_seen.add(x[2], x[3]);
    highest = V::max(highest, V::max(V::max(x[0], x[1]), V::max(x[2], x[3])));
    if constexpr (kMeasure >= Measure::kLogLikelihood) {
      F y[4], e[4];
      exponential.arguments(x, y);
      exponential.of(y, e);
      sum.add((e[0] + e[1]) + (e[2] + e[3]));
      if constexpr (kMeasure >= Measure::kEntropy) {
        QPROF_FOUR(j) y[j] = (y[j] - center) * e[j];
        weighted.add((y[0] + y[1]) + (y[2] + y[3]));
      }
    }
  }
  return {V::highest(highest), ahead.total(), nan_seen.any(), sum.total(), weighted.total()};
}

template <class V, class Element, Measure kMeasure, bool kOrEqual>
BlockTotals measure_block(const char* block, int64_t size, float target, const Reference& reference) {
  // Rows of logits that large are rare: the others are spared a subtraction.
  if (kMeasure >= Measure::kLogLikelihood && reference.shift != 0) {
    return measure_block<V, Element, kMeasure, kOrEqual, true>(block, size, target, reference);
  }
  return measure_block<V, Element, kMeasure, kOrEqual, false>(block, size, target, reference);
}

// A row's sums, relative to a reference that moves up with the row's maximum.
struct RowSums {
  Reference reference;
  double sum = 0;
  double weighted = 0;  // of e^(x - reference) (x - reference)

  void move_to(const Reference& next) {
    const double factor = std::exp(reference.logarithm - next.logarithm);
    const double distance = next.logarithm - reference.logarithm;
    weighted = factor == 0 ? 0 : factor * (weighted - distance * sum);
    sum *= factor;
    reference = next;
  }

  void add(const BlockTotals& block) {
    // The kernel measured from `center`, a float; the sums are from the reference itself.
    const double offset = (reference.center + static_cast<double>(reference.shift)) - reference.logarithm;
    sum += block.sum;
    weighted += block.weighted + offset * block.sum;
  }
};

template <class V, class Element>
int64_t count_equal(const char* row, int64_t begin, int64_t end, float value) {
  const typename V::F values = V::set(value);
  typename V::Count equal;
  for (; begin + kStep<V> <= end; begin += kStep<V>) {
    typename V::F x[4];
    V::template load<Element>(row + begin * kBytes<Element>, x);
    QPROF_FOUR(j) equal.add_equal(x[j], values);
  }
  int64_t count = equal.total();
  for (; begin < end; ++begin) count += logit_at<Element>(row, begin) == value;
  return count;
}

// The first index from `begin` on of a value that is there.
template <class V, class Element>
int64_t first_equal(const char* row, int64_t begin, int64_t end, float value) {
  while (begin + kStep<V> <= end && count_equal<V, Element>(row, begin, begin + kStep<V>, value) == 0) {
    begin += kStep<V>;
  }
  while (logit_at<Element>(row, begin) != value) ++begin;
  return begin;
}

// What has been seen of a row so far. `ties_end`: logits that equal the target's are ahead of it up to there.
template <class V, class Element, Measure kMeasure>
class RowScan {
 public:
  RowScan(const char* row, int64_t vocabulary, int64_t target, int64_t ties_end)
      : row_(row), vocabulary_(vocabulary), target_(logit_at<Element>(row, target)), ties_end_(ties_end) {
    sums_.reference = std::isfinite(target_) ? reference_at<V>(target_) : Reference::none();
  }

  // The logits [begin, end), which lie at `block`, filled up with -inf to a multiple of the step. False on NaN.
  bool add(const char* block, int64_t begin, int64_t end) {
    const int64_t size = (end - begin + kStep<V> - 1) / kStep<V> * kStep<V>;
    const bool all_ties = end <= ties_end_ && end - begin == size;
    const BlockTotals totals = all_ties ? measure<true>(block, size) : measure<false>(block, size);
    if (totals.has_nan) return false;
    ahead_ += totals.ahead;
    if (!all_ties) ahead_ += count_equal<V, Element>(row_, begin, std::min(end, ties_end_), target_);
    if (totals.highest > highest_) {
      highest_ = totals.highest;
      highest_block_ = begin;
    }
    if constexpr (kMeasure >= Measure::kLogLikelihood) add_sums(block, size, totals);
    return true;
  }

  RowScore score() const {
    RowScore score{};
    score.rank = ahead_;
    score.argmax = first_equal<V, Element>(row_, highest_block_, vocabulary_, highest_);
    if constexpr (kMeasure >= Measure::kLogLikelihood) {
      const bool finite = std::isfinite(highest_);
      const double log_sum = std::log(sums_.sum);
      // The larger terms first: their difference is exact where both are large.
      score.log_likelihood = finite ? (target_ - sums_.reference.logarithm) - log_sum : target_ - highest_;
      // An infinite maximum makes the probabilities infinity / infinity or 0 / 0.
      score.entropy = finite ? log_sum - sums_.weighted / sums_.sum : std::numeric_limits<double>::quiet_NaN();
    }
    return score;
  }

 private:
  template <bool kOrEqual>
  BlockTotals measure(const char* block, int64_t size) const {
    return measure_block<V, Element, kMeasure, kOrEqual>(block, size, target_, sums_.reference);
  }

  void add_sums(const char* block, int64_t size, const BlockTotals& totals) {
    if (totals.highest <= sums_.reference.highest) {
      sums_.add(totals);
      return;
    }
    sums_.move_to(reference_at<V>(totals.highest));
    if (totals.highest < kInfinity) sums_.add(measure<false>(block, size));
  }

  const char* row_;
  int64_t vocabulary_;
  float target_;
  int64_t ties_end_;
  int64_t ahead_ = 0;
  float highest_ = -kInfinity;
  int64_t highest_block_ = 0;
  RowSums sums_{};
};

template <class V, class Element, Measure kMeasure>
RowScore score_row(const void* logits, int64_t vocabulary, int64_t target, Ties ties) {
  const char* row = static_cast<const char*>(logits);
  const int64_t ties_end = ties == Ties::kFirst ? target : ties == Ties::kOptimistic ? 0 : vocabulary;
  RowScan<V, Element, kMeasure> scan(row, vocabulary, target, ties_end);
  const int64_t whole = vocabulary / kStep<V> * kStep<V>;
  bool is_number = true;
  for (int64_t begin = 0; begin < whole && is_number; begin += kBlock) {
    is_number = scan.add(row + begin * kBytes<Element>, begin, std::min(begin + kBlock, whole));
  }
  if (whole < vocabulary && is_number) {
    typename Element::Bits rest[kStep<V>];
    std::fill_n(rest, kStep<V>, Element::kMinusInfinity);
    std::memcpy(rest, row + whole * kBytes<Element>, static_cast<size_t>((vocabulary - whole) * kBytes<Element>));
    is_number = scan.add(reinterpret_cast<const char*>(rest), whole, vocabulary);
  }
  if (!is_number) {
    RowScore score{};
    score.has_nan = true;
    return score;
  }
  RowScore score = scan.score();
  score.rank -= ties == Ties::kPessimistic;  // the target equals itself
  return score;
}

template <class V, Measure kMeasure>
RowKernel kernel_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::kFloat32: return score_row<V, Float32, kMeasure>;
    case Dtype::kFloat16: return score_row<V, Float16, kMeasure>;
    case Dtype::kBfloat16: return score_row<V, Bfloat16, kMeasure>;
  }
  return nullptr;
}

template <class V>
RowKernel kernel_of(Dtype dtype, Measure measure) {
  switch (measure) {
    case Measure::kRank: return kernel_of<V, Measure::kRank>(dtype);
    case Measure::kLogLikelihood: return kernel_of<V, Measure::kLogLikelihood>(dtype);
    case Measure::kEntropy: return kernel_of<V, Measure::kEntropy>(dtype);
  }
  return nullptr;
}

}  // namespace
}  // namespace qprof::topk
