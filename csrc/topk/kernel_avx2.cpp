// Kernels for AVX2 with FMA and F16C (Haswell, Zen and later): 8 floats a vector.
#include "kernel.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

// From here on, not by a compiler flag: inline functions of the headers above may be shared with other files, and
// must run on any CPU.
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c")
#endif

#include "powers_of_two.h"
#include "row_kernel.h"

namespace qprof::topk {
namespace {

struct Avx2 {
  using F = __m256;
  static constexpr int kLanes = 8;
  static constexpr int kSteps = 8;
  static constexpr double kLn2 = 0x1.62e430p-1f;

  // Four vectors. Their logits may be in any order: nothing depends on it.
  template <class Element>
  static void load(const char* at, F (&x)[4]);
  static F set(float x) { return _mm256_set1_ps(x); }
  static F max(F a, F b) { return _mm256_max_ps(a, b); }
  static F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  static F reduce(F y, F n) { return _mm256_fnmadd_ps(n, set(kLn2 / kSteps), y); }
  static float highest(F x) {
    __m128 half = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    half = _mm_max_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_max_ss(half, _mm_movehdup_ps(half)));
  }

  // Constructors are written out: those that the compiler declares are not compiled for the target above.
  class Count {
   public:
    Count() : lanes_(_mm256_setzero_si256()) {}
    void add_greater(F x, F y) { add(_mm256_cmp_ps(x, y, _CMP_GT_OQ)); }
    void add_greater_equal(F x, F y) { add(_mm256_cmp_ps(x, y, _CMP_GE_OQ)); }
    void add_equal(F x, F y) { add(_mm256_cmp_ps(x, y, _CMP_EQ_OQ)); }
    int64_t total() const {
      int32_t lanes[kLanes];
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(lanes), lanes_);
      int64_t total = 0;
      for (const int32_t lane : lanes) {
        total += lane;
      }
      return total;
    }

   private:
    // A lane that compares true is -1.
    void add(F mask) { lanes_ = _mm256_sub_epi32(lanes_, _mm256_castps_si256(mask)); }
    __m256i lanes_;
  };

  class NanSeen {
   public:
    NanSeen() : lanes_(_mm256_setzero_ps()) {}
    void add(F x, F y) { lanes_ = _mm256_or_ps(lanes_, _mm256_cmp_ps(x, y, _CMP_UNORD_Q)); }
    bool any() const { return _mm256_movemask_ps(lanes_) != 0; }

   private:
    F lanes_;
  };

  class Powers {
   public:
    Powers() : table_(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(kPowersOfTwo8))) {}
    F of(F n) const {
      const __m256i integer = _mm256_castps_si256(n);
      const __m256i power = _mm256_permutevar8x32_epi32(table_, integer);  // by the low three bits
      return _mm256_castsi256_ps(_mm256_add_epi32(power, _mm256_slli_epi32(integer, 23 - 3)));
    }

   private:
    __m256i table_;
  };

  class Sum {
   public:
    Sum() : low_(_mm256_setzero_pd()), high_(_mm256_setzero_pd()) {}
    void add(F x) {
      low_ = _mm256_add_pd(low_, _mm256_cvtps_pd(_mm256_castps256_ps128(x)));
      high_ = _mm256_add_pd(high_, _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1)));
    }
    double total() const {
      const __m256d lanes = _mm256_add_pd(low_, high_);
      const __m128d half = _mm_add_pd(_mm256_castpd256_pd128(lanes), _mm256_extractf128_pd(lanes, 1));
      return _mm_cvtsd_f64(_mm_add_sd(half, _mm_unpackhi_pd(half, half)));
    }

   private:
    __m256d low_;
    __m256d high_;
  };
};

template <>
[[maybe_unused]] void Avx2::load<Float32>(const char* at, F (&x)[4]) {
  QPROF_FOUR(i) x[i] = _mm256_loadu_ps(reinterpret_cast<const float*>(at + 32 * i));
}

template <>
[[maybe_unused]] void Avx2::load<Float16>(const char* at, F (&x)[4]) {
  QPROF_FOUR(i) x[i] = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at + 16 * i)));
}

// Each 32 bits hold two logits: one is the upper half, and the other becomes it.
template <>
[[maybe_unused]] void Avx2::load<Bfloat16>(const char* at, F (&x)[4]) {
  const __m256i upper = _mm256_set1_epi32(static_cast<int>(0xffff0000));
  const __m256i first = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
  const __m256i second = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at + 32));
  x[0] = _mm256_castsi256_ps(_mm256_slli_epi32(first, 16));
  x[1] = _mm256_castsi256_ps(_mm256_and_si256(first, upper));
  x[2] = _mm256_castsi256_ps(_mm256_slli_epi32(second, 16));
  x[3] = _mm256_castsi256_ps(_mm256_and_si256(second, upper));
}

}  // namespace

RowKernel avx2_kernel(Dtype dtype, Measure measure) { return kernel_of<Avx2>(dtype, measure); }

}  // namespace qprof::topk

#if defined(__clang__)
#pragma clang attribute pop
#endif
#else

namespace qprof::topk {

RowKernel avx2_kernel(Dtype, Measure) { return nullptr; }

}  // namespace qprof::topk
#endif
