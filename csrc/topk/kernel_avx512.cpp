// Kernels for AVX-512 (F, BW, DQ, VL): 16 floats a vector.
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
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl"))), \
                             apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")
// GCC's own intrinsics leave a lane that is masked out uninitialized, and GCC 12 warns of it (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#include "powers_of_two.h"
#include "row_kernel.h"

namespace qprof::topk {
namespace {

struct Avx512 {
  using F = __m512;
  static constexpr int kLanes = 16;
  static constexpr int kSteps = 16;
  static constexpr double kLn2 = 0x1.62e430p-1f;

  // Four vectors. Their logits may be in any order: nothing depends on it.
  template <class Element>
  static void load(const char* at, F (&x)[4]);
  static F set(float x) { return _mm512_set1_ps(x); }
  static F max(F a, F b) { return _mm512_max_ps(a, b); }
  static F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static F reduce(F y, F n) { return _mm512_fnmadd_ps(n, set(kLn2 / kSteps), y); }
  static float highest(F x) { return _mm512_reduce_max_ps(x); }

  // Constructors are written out: those that the compiler declares are not compiled for the target above.
  class Count {
   public:
    Count() : lanes_(_mm512_setzero_si512()) {}
    void add_greater(F x, F y) { add(_mm512_cmp_ps_mask(x, y, _CMP_GT_OQ)); }
    void add_greater_equal(F x, F y) { add(_mm512_cmp_ps_mask(x, y, _CMP_GE_OQ)); }
    void add_equal(F x, F y) { add(_mm512_cmp_ps_mask(x, y, _CMP_EQ_OQ)); }
    int64_t total() const { return _mm512_reduce_add_epi32(lanes_); }

   private:
    void add(__mmask16 mask) { lanes_ = _mm512_mask_sub_epi32(lanes_, mask, lanes_, _mm512_set1_epi32(-1)); }
    __m512i lanes_;
  };

  class NanSeen {
   public:
    void add(F x, F y) { mask_ |= _mm512_cmp_ps_mask(x, y, _CMP_UNORD_Q); }
    bool any() const { return mask_ != 0; }

   private:
    unsigned mask_ = 0;
  };

  class Powers {
   public:
    Powers() : table_(_mm512_loadu_si512(kPowersOfTwo16)) {}
    F of(F n) const {
      const __m512i integer = _mm512_castps_si512(n);
      const __m512i power = _mm512_permutexvar_epi32(integer, table_);  // by the low four bits
      return _mm512_castsi512_ps(_mm512_add_epi32(power, _mm512_slli_epi32(integer, 23 - 4)));
    }

   private:
    __m512i table_;
  };

  class Sum {
   public:
    Sum() : low_(_mm512_setzero_pd()), high_(_mm512_setzero_pd()) {}
    void add(F x) {
      low_ = _mm512_add_pd(low_, _mm512_cvtps_pd(_mm512_castps512_ps256(x)));
      high_ = _mm512_add_pd(high_, _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1)));
    }
    double total() const { return _mm512_reduce_add_pd(_mm512_add_pd(low_, high_)); }

   private:
    __m512d low_;
    __m512d high_;
  };
};

template <>
[[maybe_unused]] void Avx512::load<Float32>(const char* at, F (&x)[4]) {
  QPROF_FOUR(i) x[i] = _mm512_loadu_ps(at + 64 * i);
}

template <>
[[maybe_unused]] void Avx512::load<Float16>(const char* at, F (&x)[4]) {
  QPROF_FOUR(i) x[i] = _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(at + 32 * i)));
}

// Each 32 bits hold two logits: one is the upper half, and the other becomes it.
template <>
[[maybe_unused]] void Avx512::load<Bfloat16>(const char* at, F (&x)[4]) {
  const __m512i upper = _mm512_set1_epi32(static_cast<int>(0xffff0000));
  const __m512i first = _mm512_loadu_si512(at);
  const __m512i second = _mm512_loadu_si512(at + 64);
  x[0] = _mm512_castsi512_ps(_mm512_slli_epi32(first, 16));
  x[1] = _mm512_castsi512_ps(_mm512_and_si512(first, upper));
  x[2] = _mm512_castsi512_ps(_mm512_slli_epi32(second, 16));
  x[3] = _mm512_castsi512_ps(_mm512_and_si512(second, upper));
}

}  // namespace

RowKernel avx512_kernel(Dtype dtype, Measure measure) { return kernel_of<Avx512>(dtype, measure); }

}  // namespace qprof::topk

#if defined(__clang__)
#pragma clang attribute pop
#endif
#else

namespace qprof::topk {

RowKernel avx512_kernel(Dtype, Measure) { return nullptr; }

}  // namespace qprof::topk
#endif
