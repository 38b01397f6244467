// Kernels for any CPU: 4 floats a vector in the compiler's own vector extension (SSE2 on x86-64, NEON on ARM).
#include "kernel.h"
#include "row_kernel.h"

namespace qprof::topk {
namespace {

struct Baseline {
  static constexpr int kLanes = 4;
  typedef float F __attribute__((vector_size(4 * kLanes)));
  typedef int32_t I __attribute__((vector_size(4 * kLanes)));
  typedef uint32_t U __attribute__((vector_size(4 * kLanes)));

  static constexpr int kSteps = 1;
  // ln 2 in two parts. Without a fused multiply-add n times the first has to be exact: it has 9 bits, for n up to
  // 2^15 (Cody and Waite; these are Cephes' constants).
  static constexpr float kLn2High = 0.693359375f;
  static constexpr float kLn2Low = -2.12194440e-4f;
  static constexpr double kLn2 = static_cast<double>(kLn2High) + kLn2Low;

  // Four vectors. Their logits may be in any order: nothing depends on it.
  template <class Element>
  static void load(const char* at, F (&x)[4]);
  static F set(float x) { return F{x, x, x, x}; }
  static F max(F a, F b) { return a > b ? a : b; }
  static F fma(F a, F b, F c) { return a * b + c; }
  static F reduce(F y, F n) { return (y - n * kLn2High) - n * kLn2Low; }
  static float highest(F x) { return std::max(std::max(x[0], x[1]), std::max(x[2], x[3])); }

  class Count {
   public:
    void add_greater(F x, F y) { lanes_ -= x > y; }  // a lane that compares true is -1
    void add_greater_equal(F x, F y) { lanes_ -= x >= y; }
    void add_equal(F x, F y) { lanes_ -= x == y; }
    int64_t total() const { return int64_t{lanes_[0]} + lanes_[1] + lanes_[2] + lanes_[3]; }

   private:
    I lanes_ = {};
  };

  class NanSeen {
   public:
    void add(F x, F y) { lanes_ |= (x != x) | (y != y); }
    bool any() const { return (lanes_[0] | lanes_[1] | lanes_[2] | lanes_[3]) != 0; }

   private:
    I lanes_ = {};
  };

  class Powers {
   public:
    F of(F n) const { return (F)(((U)n << 23) + (U)set(1.0f)); }
  };

  class Sum {
   public:
    void add(F x) { lanes_ += __builtin_convertvector(x, D); }
    double total() const { return (lanes_[0] + lanes_[1]) + (lanes_[2] + lanes_[3]); }

   private:
    typedef double D __attribute__((vector_size(8 * kLanes)));
    D lanes_ = {};
  };

 private:
  // Float16::widen, a vector at a time.
  static F widen(U bits) {
    const I magnitude = (I)(bits & 0x7fffu);
    const F small = __builtin_convertvector(magnitude, F) * 0x1p-24f;
    const I rebias = ((255 - 31 - 127 + 15) << 23 & (magnitude >= 0x7c00)) + ((127 - 15) << 23);
    const I large = (magnitude << 13) + rebias;
    return (F)(((bits & 0x8000u) << 16) | (U)(magnitude < 0x0400 ? (I)small : large));
  }
};

template <>
[[maybe_unused]] void Baseline::load<Float32>(const char* at, F (&x)[4]) {
  QPROF_FOUR(i) x[i] = read<F>(at + 16 * i);
}

// Each 32 bits hold two logits: one is the upper half, and the other becomes it.
template <>
[[maybe_unused]] void Baseline::load<Bfloat16>(const char* at, F (&x)[4]) {
  const U first = read<U>(at);
  const U second = read<U>(at + 16);
  x[0] = (F)(first << 16);
  x[1] = (F)(first & 0xffff0000u);
  x[2] = (F)(second << 16);
  x[3] = (F)(second & 0xffff0000u);
}

template <>
[[maybe_unused]] void Baseline::load<Float16>(const char* at, F (&x)[4]) {
  const U first = read<U>(at);
  const U second = read<U>(at + 16);
  x[0] = widen(first & 0xffffu);
  x[1] = widen(first >> 16);
  x[2] = widen(second & 0xffffu);
  x[3] = widen(second >> 16);
}

}  // namespace

RowKernel baseline_kernel(Dtype dtype, Measure measure) { return kernel_of<Baseline>(dtype, measure); }

}  // namespace qprof::topk
