// Kernels for any CPU: 4 floats a vector in the compiler's own vector extension (SSE2 on x86-64, NEON on ARM).
#include "row_kernel.h"
#include "target.h"
#include "vector.h"

namespace qprof::topk {
namespace {

struct Baseline {
  static constexpr int kLanes = 4;
  using F [[gnu::vector_size(4 * kLanes)]] = float;
  using I [[gnu::vector_size(4 * kLanes)]] = int32_t;
  using U [[gnu::vector_size(4 * kLanes)]] = uint32_t;
  using D [[gnu::vector_size(4 * kLanes)]] = double;
  using Mask = I;  // all bits of a lane, or none

  static constexpr int kSteps = 1;
  // ln 2 in two parts. Without a fused multiply-add n times the first has to be exact: it has 9 bits, for n up to
  // 2^15 (Cody and Waite; these are Cephes' constants).
  static constexpr float kLn2High = 0.693359375f;
  static constexpr float kLn2Low = -2.12194440e-4f;
  static constexpr double kLn2 = static_cast<double>(kLn2High) + kLn2Low;

  static F set(float x) { return F{x, x, x, x}; }
  static F max(F a, F b) { return a > b ? a : b; }
  static F fma(F a, F b, F c) { return a * b + c; }
  static F reduce(F y, F n) { return (y - n * kLn2High) - n * kLn2Low; }
  static float highest(F x) { return std::max(std::max(x[0], x[1]), std::max(x[2], x[3])); }

  static F floats_at(const char* at) { return read<F>(at); }
  static U integers_at(const char* at) { return read<U>(at); }
  static void load_halves(const char* at, F (&x)[4]) {
    const U first = read<U>(at);
    const U second = read<U>(at + 16);
    x[0] = widen(first & 0xffffu);
    x[1] = widen(first >> 16);
    x[2] = widen(second & 0xffffu);
    x[3] = widen(second >> 16);
  }

  static U zero_integers() { return U{}; }
  static U add(U a, U b) { return a + b; }
  template <int kBits>
  static U shift_left(U x) {
    return x << kBits;
  }
  static U upper_halves(U x) { return x & 0xffff0000u; }
  static F floats_of(U x) { return std::bit_cast<F>(x); }
  static U bits_of(F x) { return std::bit_cast<U>(x); }
  static U table() { return bits_of(set(1.0f)); }
  static U look_up(U table, U) { return table; }

  static Mask greater(F x, F y) { return x > y; }
  static Mask greater_equal(F x, F y) { return x >= y; }
  static Mask equal(F x, F y) { return x == y; }
  static Mask unordered(F x, F y) { return (x != x) | (y != y); }
  static Mask none() { return Mask{}; }
  static Mask either(Mask a, Mask b) { return a | b; }
  static bool any(Mask mask) { return (mask[0] | mask[1] | mask[2] | mask[3]) != 0; }
  static U count(U lanes, Mask mask) { return lanes - std::bit_cast<U>(mask); }
  static int64_t total(U lanes) { return int64_t{lanes[0]} + lanes[1] + lanes[2] + lanes[3]; }

  static D zero() { return D{}; }
  static D lower(F x) { return D{x[0], x[1]}; }
  static D upper(F x) { return D{x[2], x[3]}; }
  static double total(D a, D b) { return (a[0] + a[1]) + (b[0] + b[1]); }

 private:
  // Float16::widen, a vector at a time.
  static F widen(U bits) {
    const I magnitude = std::bit_cast<I>(bits & 0x7fffu);
    const F small = __builtin_convertvector(magnitude, F) * 0x1p-24f;
    const I rebias = ((255 - 31 - 127 + 15) << 23 & (magnitude >= 0x7c00)) + ((127 - 15) << 23);
    const I large = (magnitude << 13) + rebias;
    const U sign = (bits & 0x8000u) << 16;
    return floats_of(sign | std::bit_cast<U>(magnitude < 0x0400 ? std::bit_cast<I>(small) : large));
  }
};

}  // namespace

RowKernel baseline_kernel(Dtype dtype, Measure measure) { return kernel_of<Vector<Baseline>>(dtype, measure); }

}  // namespace qprof::topk
