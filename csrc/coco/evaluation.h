// One evaluation: all classes matched.
#pragma once

#include <vector>

#include "inputs.h"
#include "matching.h"

namespace qprof::coco {

// What matching leaves of each class. Fills `recall`: C-contiguous [threshold, class, area, limit], -1 where a class
// has no ground truth in an area.
std::vector<MatchedClass> evaluate(const GroundTruths& truths, const Detections& detections, const Settings& settings,
                                   double* recall);

}  // namespace qprof::coco
