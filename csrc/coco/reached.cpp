#include "reached.h"

#include <algorithm>

#include "curves.h"

namespace qprof::coco {

ReachedTables::ReachedTables(const std::vector<double>& thresholds, uint32_t largest) : thresholds_(thresholds) {
  // More thresholds than a byte counts: no tables.
  const size_t bound = thresholds.size() > 0xff ? 0 : std::min<size_t>(largest, kLargest);
  table_.resize(begin_of(bound + 1));
  for (size_t truths = 0; truths <= bound; ++truths) fill(table_.data() + begin_of(truths), truths);
  known_ = thresholds.size() > 0xff ? -1 : static_cast<int32_t>(bound);
}

bool ReachedTables::has(const Counts& truths) const {
  return *std::max_element(truths.lane, truths.lane + kLanes) <= known_;
}

ReachedTable ReachedTables::of(const Counts& truths) const {
  ReachedTable reached;
  reached.table = table_.data();
  for (size_t l = 0; l < kLanes; ++l) {
    reached.begin.lane[l] = static_cast<int32_t>(begin_of(static_cast<size_t>(truths.lane[l])));
  }
  return reached;
}

NeededHits ReachedTables::needed(const Counts& truths, std::vector<int32_t>& memory) const {
  memory.resize(kLanes * thresholds_.size());
  int32_t* out = memory.data();
  for (const int32_t count : truths.lane) {
    for (const double threshold : thresholds_) {
      *out++ = static_cast<int32_t>(needed_for_recall(threshold, static_cast<uint32_t>(count)));
    }
  }
  return {memory.data(), thresholds_.size()};
}

void ReachedTables::fill(uint8_t* table, size_t truths) const {
  std::fill_n(table, truths + 1, 0);
  for (double threshold : thresholds_) {
    const uint32_t needed = needed_for_recall(threshold, static_cast<uint32_t>(truths));
    if (needed <= truths) ++table[needed];
  }
  for (size_t count = 1; count <= truths; ++count) table[count] = static_cast<uint8_t>(table[count] + table[count - 1]);
}

}  // namespace qprof::coco
