// The vector class V that row_kernel.h is written over, made of the operations of one instruction set.
//
// Isa has the types F, kLanes floats; U, as many 32-bit integers; D, half as many doubles; Mask, the lanes for which a
// comparison holds; and kSteps, kLn2, set, max, fma, reduce and highest as V has them. Further, of
//   memory       floats_at, integers_at: unaligned; load_halves: four vectors of Float16, in any order
//   integers     add, shift_left<bits>, upper_halves (the lower 16 bits of each lane cleared), floats_of and bits_of,
//                which keep the bits; table and look_up, whose entry by the low bits of n is as in powers_of_two.h
//   comparisons  greater, greater_equal, equal, unordered; none, either, any; count, which adds 1 where the mask holds,
//                and total
//   doubles      zero, lower and upper (half of the floats), total (of the first vector's and the second's lanes)
#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>

#include "element.h"
#include "exponential.h"

namespace qprof::topk {
namespace {

template <class Isa>
struct Vector : Isa {
  using typename Isa::D;
  using typename Isa::F;
  using typename Isa::Mask;
  using typename Isa::U;

  // Four vectors. Their logits may be in any order: nothing depends on it.
  template <class Element>
  [[gnu::always_inline]] static void load(const char* at, F (&x)[4]) {
    if constexpr (std::is_same_v<Element, Float32>) {
      QPROF_FOUR(i) x[i] = Isa::floats_at(at + sizeof(F) * i);
    } else if constexpr (std::is_same_v<Element, Float16>) {
      Isa::load_halves(at, x);
    } else {
      // Each 32 bits hold two logits: one is the upper half, and the other becomes it.
      const U first = Isa::integers_at(at);
      const U second = Isa::integers_at(at + sizeof(U));
      x[0] = Isa::floats_of(Isa::template shift_left<16>(first));
      x[1] = Isa::floats_of(Isa::upper_halves(first));
      x[2] = Isa::floats_of(Isa::template shift_left<16>(second));
      x[3] = Isa::floats_of(Isa::upper_halves(second));
    }
  }

  // Constructors are written out: those that the compiler declares are not compiled for the kernel's target.
  class Count {
   public:
    Count() : lanes_(Isa::zero_integers()) {}
    void add_greater(F x, F y) { lanes_ = Isa::count(lanes_, Isa::greater(x, y)); }
    void add_greater_equal(F x, F y) { lanes_ = Isa::count(lanes_, Isa::greater_equal(x, y)); }
    void add_equal(F x, F y) { lanes_ = Isa::count(lanes_, Isa::equal(x, y)); }
    int64_t total() const { return Isa::total(lanes_); }

   private:
    U lanes_;
  };

  class NanSeen {
   public:
    NanSeen() : lanes_(Isa::none()) {}
    void add(F x, F y) { lanes_ = Isa::either(lanes_, Isa::unordered(x, y)); }
    bool any() const { return Isa::any(lanes_); }

   private:
    Mask lanes_;
  };

  class Powers {
   public:
    Powers() : table_(Isa::table()) {}
    F of(F n) const {
      const U integer = Isa::bits_of(n);
      const U octaves = Isa::template shift_left<24 - std::bit_width(unsigned{Isa::kSteps})>(integer);
      return Isa::floats_of(Isa::add(Isa::look_up(table_, integer), octaves));
    }

   private:
    U table_;
  };

  class Sum {
   public:
    Sum() : lower_(Isa::zero()), upper_(Isa::zero()) {}
    void add(F x) {
      lower_ = lower_ + Isa::lower(x);
      upper_ = upper_ + Isa::upper(x);
    }
    double total() const { return Isa::total(lower_, upper_); }

   private:
    D lower_;
    D upper_;
  };
};

}  // namespace
}  // namespace qprof::topk
