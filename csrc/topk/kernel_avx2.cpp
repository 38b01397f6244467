// Kernels for AVX2 with FMA and F16C (Haswell, Zen and later): 8 floats a vector.
#include "target.h"

#if defined(__x86_64__)
QPROF_TARGET("avx2,fma,f16c")

#include "powers_of_two.h"
#include "row_kernel.h"
#include "vector.h"

namespace qprof::topk {
namespace {

struct Avx2 {
  using F = __m256;
  using U = __m256i;
  using D = __m256d;
  using Mask = __m256;  // all bits of a lane, or none
  static constexpr int kLanes = 8;
  static constexpr int kSteps = 8;
  static constexpr double kLn2 = 0x1.62e430p-1f;

  static F set(float x) { return _mm256_set1_ps(x); }
  static F max(F a, F b) { return _mm256_max_ps(a, b); }
  static F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  static F reduce(F y, F n) { return _mm256_fnmadd_ps(n, set(kLn2 / kSteps), y); }
  static float highest(F x) {
    __m128 half = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    half = _mm_max_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_max_ss(half, _mm_movehdup_ps(half)));
  }

  static F floats_at(const char* at) { return _mm256_loadu_ps(reinterpret_cast<const float*>(at)); }
  static U integers_at(const char* at) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)); }
  static void load_halves(const char* at, F (&x)[4]) {
    QPROF_FOUR(i) x[i] = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at + 16 * i)));
  }

  static U zero_integers() { return _mm256_setzero_si256(); }
  static U add(U a, U b) { return _mm256_add_epi32(a, b); }
  template <int kBits>
  static U shift_left(U x) {
    return _mm256_slli_epi32(x, kBits);
  }
  static U upper_halves(U x) { return _mm256_and_si256(x, _mm256_set1_epi32(static_cast<int>(0xffff0000))); }
  static F floats_of(U x) { return _mm256_castsi256_ps(x); }
  static U bits_of(F x) { return _mm256_castps_si256(x); }
  static U table() { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kPowersOfTwo8)); }
  static U look_up(U table, U n) { return _mm256_permutevar8x32_epi32(table, n); }

  static Mask greater(F x, F y) { return _mm256_cmp_ps(x, y, _CMP_GT_OQ); }
  static Mask greater_equal(F x, F y) { return _mm256_cmp_ps(x, y, _CMP_GE_OQ); }
  static Mask equal(F x, F y) { return _mm256_cmp_ps(x, y, _CMP_EQ_OQ); }
  static Mask unordered(F x, F y) { return _mm256_cmp_ps(x, y, _CMP_UNORD_Q); }
  static Mask none() { return _mm256_setzero_ps(); }
  static Mask either(Mask a, Mask b) { return _mm256_or_ps(a, b); }
  static bool any(Mask mask) { return _mm256_movemask_ps(mask) != 0; }
  static U count(U lanes, Mask mask) { return _mm256_sub_epi32(lanes, _mm256_castps_si256(mask)); }
  static int64_t total(U lanes) {
    int32_t counts[kLanes];
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(counts), lanes);
    int64_t total = 0;
    for (const int32_t count : counts) total += count;
    return total;
  }

  static D zero() { return _mm256_setzero_pd(); }
  static D lower(F x) { return _mm256_cvtps_pd(_mm256_castps256_ps128(x)); }
  static D upper(F x) { return _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1)); }
  static double total(D a, D b) {
    const __m256d lanes = _mm256_add_pd(a, b);
    const __m128d half = _mm_add_pd(_mm256_castpd256_pd128(lanes), _mm256_extractf128_pd(lanes, 1));
    return _mm_cvtsd_f64(_mm_add_sd(half, _mm_unpackhi_pd(half, half)));
  }
};

}  // namespace

RowKernel avx2_kernel(Dtype dtype, Measure measure) { return kernel_of<Vector<Avx2>>(dtype, measure); }

}  // namespace qprof::topk

QPROF_TARGET_END
#endif
