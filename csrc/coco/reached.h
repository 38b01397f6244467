// How many recall thresholds a number of true positives reaches.
#pragma once

#include <cstdint>
#include <vector>

#include "lanes.h"

namespace qprof::coco {

// With few ground truths: how many thresholds are reached with 0, 1, 2 ... true positives, by look-up.
struct ReachedTable {
  const uint8_t* table;
  Counts begin;  // of each lane's part
};

// With many: most true positives reach nothing new, and tables would not fit the cache. Per lane the true positives
// that each threshold needs, ascending.
struct NeededHits {
  const int32_t* needed;
  size_t thresholds;

  const int32_t* of(size_t lane) const { return needed + lane * thresholds; }
};

// The tables for all numbers of ground truths up to a bound, one behind the other: with many classes the same numbers
// come up again and again. The recall thresholds ascend.
class ReachedTables {
 public:
  // `largest`: no more ground truths than this are asked for.
  ReachedTables(const std::vector<double>& thresholds, uint32_t largest);

  // Whether there is a table for the ground truths of every lane.
  bool has(const Counts& truths) const;
  ReachedTable of(const Counts& truths) const;
  // For any numbers; `memory` is where they are kept.
  NeededHits needed(const Counts& truths, std::vector<int32_t>& memory) const;

 private:
  // 2 MB of tables.
  static constexpr size_t kLargest = 2'000;

  static size_t begin_of(size_t truths) { return truths * (truths + 1) / 2; }
  void fill(uint8_t* table, size_t truths) const;

  const std::vector<double>& thresholds_;
  std::vector<uint8_t> table_;
  int32_t known_;
};

}  // namespace qprof::coco
