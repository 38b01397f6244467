// Which ground truth of its image a detection lies on best, among its own category and among the others.
#pragma once

#include <cstdint>

#include "inputs.h"

namespace qprof::coco {

// Per detection: the largest IoU and the position of its ground truth, the first of equal ones; 0 and -1 where nothing
// overlaps (or a box has no area).
struct Overlaps {
  double* same_iou;
  int32_t* same_truth;
  double* other_iou;
  int32_t* other_truth;
};

// As COCO has it, the IoU with a crowd is the share of the detection inside it. Elements with an image or category of
// -1 are left out. Throws as `check_detections` does; scores and areas may be missing.
void best_overlaps(const GroundTruths& truths, const Detections& detections, const Settings& settings,
                   const Overlaps& out);

}  // namespace qprof::coco
