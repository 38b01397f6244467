// Masks with one bit per IoU threshold.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

namespace qprof::coco {

template <class Action>
void for_each_bit(uint32_t bits, Action action) {
  for (; bits != 0; bits &= bits - 1) action(static_cast<size_t>(std::countr_zero(bits)));
}

}  // namespace qprof::coco
