// What one curve of one class becomes when images count several times or not at all.
#pragma once

#include <cstdint>
#include <vector>

#include "inputs.h"
#include "matching.h"

namespace qprof::coco {

// A true positive of a group of detections that have the image and the score in common.
struct GroupHit {
  int32_t counted;  // detections of the group that count, in one copy, up to this one and with it
};

// A change of a curve's counts, per copy of the image. Copies of an image follow one another, as if they had adjacent
// ids; detections of it with equal scores then alternate, all of the first copy, all of the second. Where such a group
// has both true and false positives it makes one step, and the true positives of each copy are met one by one.
struct Step {
  uint32_t mark;  // index into CurvePlan::marks: the detections inside the area up to here
  uint32_t image;
  int32_t hits;          // true positives
  int32_t correction;    // detections that count beyond those inside the area
  uint32_t group_begin;  // into CurvePlan::group_hits; empty where the detection stands alone
  uint32_t group_end;
  int32_t group_counted;  // detections of the group that count
};

struct Share {
  uint32_t image;
  uint32_t count;
};

// For one class, area and limit of detections per image.
struct CurvePlan {
  std::vector<Share> truths;             // that are not ignored, by image
  std::vector<uint32_t> passes;          // images of the detections inside the area, in order of score
  std::vector<uint32_t> marks;           // ascending ends in `passes`
  std::vector<std::vector<Step>> steps;  // per IoU threshold, in order of score
  std::vector<GroupHit> group_hits;
};

// Without `with_precision` what counts true positives alone: no passes and marks.
CurvePlan plan_curve(const MatchedClass& matched, const Settings& settings, size_t area, size_t limit,
                     bool with_precision);

}  // namespace qprof::coco
