// The order in which a class's detections are matched and accumulated.
#pragma once

#include <cstdint>
#include <span>

#include "grouping.h"
#include "large_array.h"

namespace qprof::coco {

// Scratch memory that one thread uses for class after class.
class ScoreOrder {
 public:
  // Sorts candidates, which stand by image, by (score descending, index): what stable sorts of each image and then of
  // the class give, and within one image the order of matching. `leave_out(index)` says of which there is no need.
  template <class LeaveOut>
  void sort(std::span<const Candidate> candidates, LeaveOut leave_out) {
    items_.resize(candidates.size());
    size_t count = 0;
    for (size_t i = 0; i < candidates.size(); ++i) {
      items_[count] = pack(candidates[i].key >> 32, i);
      count += !leave_out(i);
    }
    items_.resize(count);
    sort_items(candidates);
  }

  size_t size() const { return items_.size(); }
  // The index of the candidate that stands at `rank`.
  uint32_t operator[](size_t rank) const { return static_cast<uint32_t>(items_[rank]); }

 private:
  static uint64_t pack(uint64_t upper, uint64_t index) { return upper << 32 | index; }

  void sort_items(std::span<const Candidate> candidates);
  template <unsigned kDigitBits, unsigned kPasses>
  void radix_sort();
  void order_runs(std::span<const Candidate> candidates);

  LargeArray<uint64_t> items_;
  LargeArray<uint64_t> other_;
};

}  // namespace qprof::coco
