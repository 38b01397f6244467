// The order in which a class's detections are matched and accumulated.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "grouping.h"

namespace qprof::coco {

// Scratch memory that one thread uses for class after class.
class ScoreOrder {
 public:
  // Sorts by (score descending, image, index): what stable sorts of each image and then of the class give, and within
  // one image the order of matching.
  void sort(std::span<const Candidate> candidates);

  size_t size() const { return items_.size(); }
  // The index of the candidate that stands at `rank`.
  uint32_t operator[](size_t rank) const { return static_cast<uint32_t>(items_[rank]); }

 private:
  void sort_few(std::span<const Candidate> candidates);
  void sort_many(std::span<const Candidate> candidates);
  void order_by_image(std::span<const Candidate> candidates);
  void radix_sort();
  void order_runs(std::span<const Candidate> candidates);

  std::vector<uint64_t> items_;
  std::vector<uint64_t> other_;
};

}  // namespace qprof::coco
