#include <algorithm>

#include "mask.h"

namespace qprof::masks {
namespace {

uint32_t shared_side(uint32_t a_low, uint32_t a_high, uint32_t b_low, uint32_t b_high) {
  const uint32_t low = std::max(a_low, b_low), high = std::min(a_high, b_high);
  return high > low ? high - low : 0;
}

// Pixels that both have, in columns [left, right).
uint32_t intersection(const Mask& one, const Mask& other, uint32_t left, uint32_t right) {
  const uint32_t begin = left * one.size.height, end = right * one.size.height;
  auto ends_behind = [begin](const Run& run) { return run.end <= begin; };
  const Run* a = std::partition_point(one.runs.data(), one.runs.data() + one.runs.size(), ends_behind);
  const Run* b = std::partition_point(other.runs.data(), other.runs.data() + other.runs.size(), ends_behind);
  const Run* const a_end = one.runs.data() + one.runs.size();
  const Run* const b_end = other.runs.data() + other.runs.size();
  uint32_t shared = 0;
  while (a != a_end && b != b_end) {
    const uint32_t low = std::max(a->begin, b->begin);
    if (low >= end) break;
    const uint32_t high = std::min(a->end, b->end);
    shared += high > low ? high - low : 0;
    // Without a branch: which of the two ends first cannot be foretold.
    const bool a_first = a->end < b->end;
    a += a_first;
    b += !a_first;
  }
  return shared;
}

}  // namespace

void Mask::add(uint32_t begin, uint32_t end) {
  if (begin == end) return;
  if (!runs.empty() && runs.back().end == begin) {
    runs.back().end = end;
  } else {
    runs.push_back({begin, end});
  }
}

void Mask::measure() {
  area = 0;
  box = {};
  if (runs.empty()) return;
  const uint32_t height = size.height;
  box = {runs.front().begin / height, height, (runs.back().end - 1) / height + 1, 0};
  for (const Run& run : runs) {
    area += run.end - run.begin;
    const uint32_t column = run.begin / height;
    const uint32_t top = run.begin - column * height;
    const bool crosses = run.end > (column + 1) * height;
    box.top = crosses ? 0 : std::min(box.top, top);
    box.bottom = crosses ? height : std::max(box.bottom, top + (run.end - run.begin));
  }
}

Mask to_mask(const Counts& counts) {
  Mask mask;
  mask.size = counts.size;
  mask.runs.reserve(counts.lengths.size() / 2);
  uint32_t at = 0;
  for (size_t i = 0; i < counts.lengths.size(); ++i) {
    const uint32_t begin = at;
    at += counts.lengths[i];
    if (i & 1) mask.add(begin, at);
  }
  mask.measure();
  return mask;
}

Counts to_counts(const Mask& mask) {
  Counts counts{mask.size, {}};
  counts.lengths.reserve(mask.runs.size() * 2 + 1);
  uint32_t at = 0;
  for (const Run& run : mask.runs) {
    counts.lengths.push_back(run.begin - at);
    counts.lengths.push_back(run.end - run.begin);
    at = run.end;
  }
  if (at < mask.size.pixels() || counts.lengths.empty()) counts.lengths.push_back(mask.size.pixels() - at);
  return counts;
}

double iou(const Mask& detection, const Mask& truth, bool crowd, double floor) {
  const Box &a = detection.box, &b = truth.box;
  const uint32_t width = shared_side(a.left, a.right, b.left, b.right);
  const uint32_t height = shared_side(a.top, a.bottom, b.top, b.bottom);
  if (width == 0 || height == 0) return 0;
  if (detection.size != truth.size) return -1;
  const uint32_t both = detection.area + truth.area;
  const uint32_t most = std::min({detection.area, truth.area, width * height});
  const double limit = floor * (1 - 1e-9);
  if (most < limit * (crowd ? detection.area : both - most)) return 0;
  const uint32_t left = std::max(a.left, b.left);
  const uint32_t shared = intersection(detection, truth, left, left + width);
  if (shared == 0) return 0;
  return static_cast<double>(shared) / static_cast<double>(crowd ? detection.area : both - shared);
}

}  // namespace qprof::masks
