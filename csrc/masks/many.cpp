#include "many.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "../coco/parallel.h"

namespace qprof::masks {
namespace {

using coco::for_each_task;

// Masks, or pairs of them, that a thread takes at a time.
constexpr size_t kPart = 256;

template <class Body>
void for_each(size_t count, unsigned threads, Body body) {
  for_each_task((count + kPart - 1) / kPart, threads, [&](size_t part, unsigned) {
    for (size_t i = part * kPart; i < std::min(count, (part + 1) * kPart); ++i) body(i);
  });
}

[[noreturn]] void fail(size_t i, const std::invalid_argument& error) {
  throw std::invalid_argument("segmentation " + std::to_string(i) + " (counted from 0): " + error.what());
}

}  // namespace

void Sources::begin(int64_t height, int64_t width) {
  try {
    const Size size = checked_size(height, width);
    all_.push_back({size, Form::kPolygons, {}, polygon_ends_.size(), polygon_ends_.size()});
  } catch (const std::invalid_argument& error) {
    fail(all_.size(), error);
  }
}

Counts Sources::read_polygons(const Source& source) const {
  std::vector<Counts> parts;
  for (size_t p = source.begin; p < source.end; ++p) {
    const size_t begin = p == 0 ? 0 : polygon_ends_[p - 1];
    parts.push_back(from_polygon({numbers_.data() + begin, polygon_ends_[p] - begin}, source.size));
  }
  if (parts.empty()) return {source.size, {source.size.pixels()}};
  return merge(parts, false);
}

Counts Sources::read(size_t i) const {
  const Source& source = all_[i];
  try {
    switch (source.form) {
      case Form::kText: return from_text(source.text, source.size);
      case Form::kLengths:
        return from_lengths({lengths_.data() + source.begin, source.end - source.begin}, source.size);
      case Form::kPolygons: break;
    }
    return read_polygons(source);
  } catch (const std::invalid_argument& error) {
    fail(i, error);
  }
}

std::vector<Counts> read_counts(const Sources& sources, unsigned threads) {
  std::vector<Counts> all(sources.size());
  for_each(all.size(), threads, [&](size_t i) { all[i] = sources.read(i); });
  return all;
}

std::vector<Mask> read_masks(const Sources& sources, unsigned threads) {
  std::vector<Mask> all(sources.size());
  for_each(all.size(), threads, [&](size_t i) { all[i] = to_mask(sources.read(i)); });
  return all;
}

Counts merge_all(const std::vector<Counts>& parts, bool intersect) { return merge(parts, intersect); }

std::vector<Mask> boundaries(const std::vector<Mask>& masks, double ratio, unsigned threads) {
  std::vector<Mask> all(masks.size());
  for_each(all.size(), threads, [&](size_t i) {
    const double height = masks[i].size.height, width = masks[i].size.width;
    // Halves to even, as Python rounds.
    const double reach = std::nearbyint(ratio * std::sqrt(height * height + width * width));
    all[i] = boundary(masks[i], static_cast<uint32_t>(std::clamp(reach, 1.0, 1e9)));
  });
  return all;
}

void overlaps(const std::vector<Mask>& detections, const std::vector<Mask>& truths, const Rows& rows,
              const int32_t* truth_order, const uint8_t* crowd, double floor, unsigned threads, double* out) {
  for_each(rows.count, threads, [&](size_t r) {
    const Mask& detection = detections[static_cast<size_t>(rows.detection[r])];
    for (int64_t i = 0; i < rows.truth_count[r]; ++i) {
      const size_t truth = static_cast<size_t>(truth_order[rows.truth_begin[r] + i]);
      out[rows.out_begin[r] + i] = iou(detection, truths[truth], crowd[truth] != 0, floor);
    }
  });
}

}  // namespace qprof::masks
