// Resamples side by side: one lane each, so that every step over them is a few vector instructions.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace qprof::coco {

constexpr size_t kLanes = 16;

template <class T>
struct alignas(sizeof(T) * kLanes) Lanes {
  T lane[kLanes];
};
using Counts = Lanes<int32_t>;

// The same in registers. They are never arguments, whose passing would depend on the CPU.
using CountVector = int32_t __attribute__((vector_size(sizeof(int32_t) * kLanes), may_alias));
using UnsignedVector = uint32_t __attribute__((vector_size(sizeof(uint32_t) * kLanes)));
using PairVector = uint64_t __attribute__((vector_size(sizeof(uint32_t) * kLanes)));
using HalfReals = double __attribute__((vector_size(sizeof(double) * kLanes / 2)));

// Real numbers, one per lane: those of even lanes, then those of odd ones.
struct alignas(sizeof(double) * kLanes) Reals {
  double values[kLanes];

  static constexpr size_t place(size_t lane) { return half(lane) * (kLanes / 2) + lane / 2; }
  // Which half of a 64-bit pair the lane is in, as `to_reals` splits them.
  static constexpr size_t half(size_t lane) {
    return std::endian::native == std::endian::little ? lane % 2 : 1 - lane % 2;
  }
  double& operator[](size_t lane) { return values[place(lane)]; }
  const double& operator[](size_t lane) const { return values[place(lane)]; }
};

// Counts, none negative, as real numbers: 2^52 + n is the double with n in its lowest bits.
[[gnu::always_inline]] inline void to_reals(const CountVector& counts, HalfReals* out) {
  constexpr uint64_t kExponent = 0x4330000000000000;
  constexpr double kOffset = 0x1p52;
  const PairVector pairs = reinterpret_cast<PairVector>(counts);
  out[0] = reinterpret_cast<HalfReals>((pairs & 0xffffffff) | kExponent) - kOffset;
  out[1] = reinterpret_cast<HalfReals>((pairs >> 32) | kExponent) - kOffset;
}

// How often each resample has an image: four bits each, which nearly always do, as they are cheap to read.
struct SmallWeights {
  static constexpr uint16_t kMost = 15;
  uint64_t bits = 0;

  static constexpr unsigned shift(size_t lane) {
    return static_cast<unsigned>(32 * Reals::half(lane) + 4 * (lane / 2));
  }
  int32_t operator[](size_t lane) const { return static_cast<int32_t>(bits >> shift(lane) & kMost); }
  void set(size_t lane, uint16_t weight) { bits |= uint64_t{weight} << shift(lane); }
};

struct LargeWeights {
  static constexpr uint16_t kMost = 0xffff;
  uint16_t values[kLanes] = {};

  int32_t operator[](size_t lane) const { return values[lane]; }
  void set(size_t lane, uint16_t weight) { values[lane] = weight; }
};

[[gnu::always_inline]] inline void load(const SmallWeights& weights, CountVector& out) {
  const PairVector pairs = PairVector{} + weights.bits;
  constexpr UnsignedVector kShifts = {0, 0, 4, 4, 8, 8, 12, 12, 16, 16, 20, 20, 24, 24, 28, 28};
  out = reinterpret_cast<CountVector>(reinterpret_cast<UnsignedVector>(pairs) >> kShifts & uint32_t{15});
}
[[gnu::always_inline]] inline void load(const LargeWeights& weights, CountVector& out) {
  using Vector = uint16_t __attribute__((vector_size(sizeof(uint16_t) * kLanes), aligned(2), may_alias));
  out = __builtin_convertvector(*reinterpret_cast<const Vector*>(weights.values), CountVector);
}

#define QPROF_COUNTS(lanes) (*reinterpret_cast<const CountVector*>((lanes).lane))

}  // namespace qprof::coco
