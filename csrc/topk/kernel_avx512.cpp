// Kernels for AVX-512 (F, BW, DQ, VL): 16 floats a vector.
#include "target.h"

#if defined(__x86_64__)
QPROF_TARGET("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")
#if !defined(__clang__)
// GCC's own intrinsics leave a lane that is masked out uninitialized, and GCC 12 warns of it (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#include "powers_of_two.h"
#include "row_kernel.h"
#include "vector.h"

namespace qprof::topk {
namespace {

struct Avx512 {
  using F = __m512;
  using U = __m512i;
  using D = __m512d;
  using Mask = __mmask16;  // one bit a lane
  static constexpr int kLanes = 16;
  static constexpr int kSteps = 16;
  static constexpr double kLn2 = 0x1.62e430p-1f;

  static F set(float x) { return _mm512_set1_ps(x); }
  static F max(F a, F b) { return _mm512_max_ps(a, b); }
  static F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static F reduce(F y, F n) { return _mm512_fnmadd_ps(n, set(kLn2 / kSteps), y); }
  static float highest(F x) { return _mm512_reduce_max_ps(x); }

  static F floats_at(const char* at) { return _mm512_loadu_ps(at); }
  static U integers_at(const char* at) { return _mm512_loadu_si512(at); }
  static void load_halves(const char* at, F (&x)[4]) {
    QPROF_FOUR(i) x[i] = _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(at + 32 * i)));
  }

  static U zero_integers() { return _mm512_setzero_si512(); }
  static U add(U a, U b) { return _mm512_add_epi32(a, b); }
  template <int kBits>
  static U shift_left(U x) {
    return _mm512_slli_epi32(x, kBits);
  }
  static U upper_halves(U x) { return _mm512_and_si512(x, _mm512_set1_epi32(static_cast<int>(0xffff0000))); }
  static F floats_of(U x) { return _mm512_castsi512_ps(x); }
  static U bits_of(F x) { return _mm512_castps_si512(x); }
  static U table() { return _mm512_loadu_si512(kPowersOfTwo16); }
  static U look_up(U table, U n) { return _mm512_permutexvar_epi32(n, table); }

  static Mask greater(F x, F y) { return _mm512_cmp_ps_mask(x, y, _CMP_GT_OQ); }
  static Mask greater_equal(F x, F y) { return _mm512_cmp_ps_mask(x, y, _CMP_GE_OQ); }
  static Mask equal(F x, F y) { return _mm512_cmp_ps_mask(x, y, _CMP_EQ_OQ); }
  static Mask unordered(F x, F y) { return _mm512_cmp_ps_mask(x, y, _CMP_UNORD_Q); }
  static Mask none() { return 0; }
  static Mask either(Mask a, Mask b) { return a | b; }
  static bool any(Mask mask) { return mask != 0; }
  static U count(U lanes, Mask mask) { return _mm512_mask_sub_epi32(lanes, mask, lanes, _mm512_set1_epi32(-1)); }
  static int64_t total(U lanes) { return _mm512_reduce_add_epi32(lanes); }

  static D zero() { return _mm512_setzero_pd(); }
  static D lower(F x) { return _mm512_cvtps_pd(_mm512_castps512_ps256(x)); }
  static D upper(F x) { return _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1)); }
  static double total(D a, D b) { return _mm512_reduce_add_pd(_mm512_add_pd(a, b)); }
};

}  // namespace

RowKernel avx512_kernel(Dtype dtype, Measure measure) { return kernel_of<Vector<Avx512>>(dtype, measure); }

}  // namespace qprof::topk

QPROF_TARGET_END
#endif
