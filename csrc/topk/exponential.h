// e^x relative to a reference that serves a whole row, though the row's maximum is not known beforehand.
//
// The usual log-sum-exp subtracts the maximum and then reduces the argument, so it needs the maximum first: a pass of
// its own. Here the argument is reduced first and only the power of two is taken relative to the reference's:
//
//   x = n ln 2 / steps + r,   e^x / e^reference = 2^(n / steps - octave of the reference) e^r
//
// which is as accurate wherever the reference is; float's range alone binds it (compare Dukhan and Ablavatski, "The
// Two-Pass Softmax Algorithm", 2020). Where the CPU looks up tables in registers there are 8 or 16 steps an octave, so
// that r is small and e^r takes two coefficients (compare Tang, ACM TOMS 15(2), 1989).
//
// From |reference| = 256 on, the reference itself is subtracted first. That is exact by Sterbenz's lemma for every x
// that counts (within a factor of two of the reference), so logits of any size lose nothing.
//
// Relative error of one exponential, at most: table 4.7e-8, polynomial 2.6e-8, last rounding 6.0e-8, n (ln 2 - its
// float) 1.9e-9 an octave above the reference, of which 32 are allowed: 6.1e-8. Two float additions (row_kernel.h)
// bring 1.2e-7, so that a log-likelihood is off by 3.2e-7 at the worst, and by some 1e-8 as a rule.
#pragma once

#include <cmath>
#include <limits>

// A statement for each of four vectors, unrolled, so that they stay in registers.
#define QPROF_FOUR(i) _Pragma("GCC unroll 4") for (int i = 0; i < 4; ++i)

namespace qprof::topk {
namespace {

constexpr float kLog2E = 0x1.715476p+0f;

// e^r = 1 + r (1 + r (kShort2 + kShort3 r)) for |r| <= ln 2 / 16: relative error 2.6e-8.
constexpr float kShort2 = 0x1.00087cp-1f;
constexpr float kShort3 = 0x1.555658p-3f;

// e^r = 1 + r (1 + r (kLong2 + ... + kLong6 r^4)) for |r| <= ln 2 / 2: relative error 3.9e-9.
// Both are minimax polynomials by Lawson's iteration, judged after their coefficients were rounded to float; a
// thousandth is left at the ends for the rounding of n.
constexpr float kLong2 = 0x1.fffffcp-2f;
constexpr float kLong3 = 0x1.555490p-3f;
constexpr float kLong4 = 0x1.5558fcp-5f;
constexpr float kLong5 = 0x1.123b9ap-7f;
constexpr float kLong6 = 0x1.6a215ap-10f;

// Adding it to a float below 2^22 leaves the nearest integer in the low bits of the significand.
constexpr float kRoundToInteger = 0x1.8p+23f;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Octaves, relative to the reference, within which terms are summed. What is below adds 2^-90 instead of nothing: the
// reference's own term is 1, so no double sees it, and no product on the way is subnormal (slow on some CPUs).
constexpr int kLowestOctave = -90;
constexpr int kHighestOctave = 32;

struct Reference {
  double logarithm;  // the sum of exponentials is relative to e^logarithm
  float shift;       // subtracted from each logit; exact
  float magic;       // kRoundToInteger - steps * octave of the reference
  float lowest;      // of the shifted logits
  float center;      // of the shifted logits: entropy weighs terms by their distance from here
  float highest;     // of the logits themselves: a block with a higher maximum needs another reference

  // No finite logit was met yet: what is summed counts for nothing.
  static Reference none() { return {-std::numeric_limits<double>::infinity(), 0, kRoundToInteger, 0, 0, -kInfinity}; }
};

template <class V>
Reference reference_at(float logit) {
  constexpr float kOctave = static_cast<float>(V::kLn2);
  if (logit == kInfinity) return {logit, 0, kRoundToInteger, 0, 0, kInfinity};
  if (std::fabs(logit) >= 256.0f) {
    return {logit, logit, kRoundToInteger, kLowestOctave * kOctave, 0, logit + kHighestOctave * kOctave};
  }
  const float octave = std::nearbyint(logit * kLog2E);
  return {.logarithm = octave * V::kLn2,
          .shift = 0,
          .magic = kRoundToInteger - octave * V::kSteps,
          .lowest = (octave + kLowestOctave) * kOctave,
          .center = octave * kOctave,
          .highest = (octave + kHighestOctave) * kOctave};
}

// Of four vectors of logits: e^(x - reference.logarithm), and the arguments that it was taken of. Each step is
// written for all four, since the compiler keeps that order, one vector's steps wait for each other, and a CPU does
// not look far enough ahead to find the next vector's.
template <class V, bool kShifted>
class Exponential {
 public:
  using F = typename V::F;

  explicit Exponential(const Reference& reference)
      : shift_(V::set(reference.shift)), lowest_(V::set(reference.lowest)), magic_(V::set(reference.magic)) {}

  [[gnu::always_inline]] void arguments(const F (&logits)[4], F (&y)[4]) const {
    if constexpr (kShifted) {
      QPROF_FOUR(i) y[i] = V::max(lowest_, logits[i] - shift_);
    } else {
      QPROF_FOUR(i) y[i] = V::max(lowest_, logits[i]);
    }
  }

  [[gnu::always_inline]] void of(const F (&y)[4], F (&e)[4]) const {
    F n[4], scale[4], r[4];
    QPROF_FOUR(i) n[i] = V::fma(y[i], V::set(kLog2E * V::kSteps), magic_);
    QPROF_FOUR(i) scale[i] = powers_.of(n[i]);
    QPROF_FOUR(i) n[i] = n[i] - magic_;
    QPROF_FOUR(i) r[i] = V::reduce(y[i], n[i]);
    if constexpr (V::kSteps >= 8) {
      QPROF_FOUR(i) e[i] = V::fma(r[i], V::set(kShort3), V::set(kShort2));
    } else {
      QPROF_FOUR(i) e[i] = V::fma(r[i], V::set(kLong6), V::set(kLong5));
      QPROF_FOUR(i) e[i] = V::fma(r[i], e[i], V::set(kLong4));
      QPROF_FOUR(i) e[i] = V::fma(r[i], e[i], V::set(kLong3));
      QPROF_FOUR(i) e[i] = V::fma(r[i], e[i], V::set(kLong2));
    }
    QPROF_FOUR(i) e[i] = V::fma(r[i], e[i], V::set(1.0f));
    QPROF_FOUR(i) r[i] = r[i] * scale[i];
    QPROF_FOUR(i) e[i] = V::fma(r[i], e[i], scale[i]);
  }

 private:
  F shift_;
  F lowest_;
  F magic_;
  typename V::Powers powers_;
};

}  // namespace
}  // namespace qprof::topk
