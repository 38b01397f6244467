// What one curve of one class becomes when images count several times or not at all.
#pragma once

#include <cstdint>
#include <vector>

#include "inputs.h"
#include "matching.h"

namespace qprof::coco {

// Images, in parts: how often a resample has those of a part and of all parts before it is one sum over their weights.
struct ImageSums {
  std::vector<uint32_t> images;
  std::vector<uint32_t> ends;  // of the parts, ascending
};

// What a part of `CurvePlan::totals` adds: `sign` times its sum, at the IoU thresholds from `first` to the last.
struct Total {
  enum Kind : uint8_t { kTruths, kHits, kCorrection };
  Kind kind;
  uint8_t first;
  int8_t sign;
};

// Detections that have the image and the score in common. Copies of an image follow one another, as if they had
// adjacent ids; such detections then alternate, all of the first copy, all of the second. Where a group has both true
// and false positives it makes one step, and the true positives of each copy are met one by one.
struct Group {
  uint32_t hits_begin;  // into CurvePlan::group_hits: detections that count, in one copy, up to a true positive and
  uint32_t hits_end;    // with it
  int32_t counted;      // detections of the group that count
};

// A change of a curve's counts, per copy of the image.
struct Step {
  static constexpr uint32_t kNoHit = 0, kOneHit = 1, kFirstGroup = 2;

  uint32_t mark;  // index into CurvePlan::passes.ends: the detections inside the area up to here
  uint32_t image;
  int32_t correction;  // detections that count beyond those inside the area
  uint32_t found;      // kNoHit, kOneHit, or kFirstGroup and the index of a group
};

// For one class, area and limit of detections per image.
struct CurvePlan {
  ImageSums sums;                        // the counts at the curve's end
  std::vector<Total> totals;             // per part of `sums`
  ImageSums passes;                      // of the detections inside the area, in order of score
  std::vector<std::vector<Step>> steps;  // per IoU threshold, in order of score
  std::vector<Group> groups;
  std::vector<int32_t> group_hits;
};

// Without `with_precision` what counts true positives alone: no passes and steps.
CurvePlan plan_curve(const MatchedClass& matched, const Settings& settings, size_t area, size_t limit,
                     bool with_precision);

}  // namespace qprof::coco
