// What an evaluation reads: ground truths, detections and settings, as views of the caller's arrays.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace qprof::coco {

// One value per element, `stride` bytes apart: a column of a table needs no copy.
template <class T>
struct Column {
  const char* data = nullptr;
  ptrdiff_t stride = sizeof(T);
  const T& operator[](size_t i) const { return *reinterpret_cast<const T*>(data + static_cast<ptrdiff_t>(i) * stride); }
  const T* at(size_t i) const { return &(*this)[i]; }
  explicit operator bool() const { return data != nullptr; }
};

// Image and category are indices in the order of the sorted ids; -1 in either leaves the element out.
struct GroundTruths {
  size_t count = 0;
  Column<int32_t> image;
  Column<int32_t> category;
  Column<double> box;  // first of four adjacent values: x, y, width, height
  Column<double> area;
  Column<uint8_t> crowd;
  Column<uint8_t> ignore;
  Column<int64_t> id;
};

struct Detections {
  size_t count = 0;
  Column<int32_t> image;
  Column<int32_t> category;
  Column<double> box;
  Column<double> area;  // empty: width x height
  Column<double> score;
  // IoUs (or what stands for them) that were computed elsewhere; without, they are those of the boxes. Detection i has
  // one with each ground truth of its image and class, in their order, from given_ious[given_begin[i]] on; below 0: it
  // overlaps none.
  Column<int64_t> given_begin;
  const double* given_ious = nullptr;
  size_t given_count = 0;
};

struct AreaRange {
  double low;
  double high;
};

// Bounds of the bit masks: one bit per IoU threshold in 32 bits, one per area range in 16.
constexpr size_t kMostThresholds = 32;
constexpr size_t kMostAreas = 16;

struct Settings {
  size_t images = 0;
  size_t categories = 0;
  std::vector<double> iou_thresholds;
  std::vector<double> recall_thresholds;
  std::vector<AreaRange> areas;
  std::vector<uint32_t> max_detections;  // ascending
  bool use_categories = true;
  bool match_id_zero = true;  // false: a match to annotation id 0 counts as none, as in pycocotools
  bool keep = false;
  unsigned threads = 1;

  // A class is what is matched together: a category, or all of them at once.
  size_t classes() const { return use_categories ? categories : 1; }
  uint32_t all_thresholds() const { return iou_thresholds.size() == 32 ? ~0u : (1u << iou_thresholds.size()) - 1; }
};

}  // namespace qprof::coco
