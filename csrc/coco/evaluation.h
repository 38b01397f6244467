// One evaluation: all classes matched and accumulated.
#pragma once

#include <vector>

#include "curves.h"
#include "inputs.h"
#include "matching.h"

namespace qprof::coco {

// Fills `tables`. Returns what matching left of each class where the settings say to keep it, else nothing.
std::vector<MatchedClass> evaluate(const GroundTruths& truths, const Detections& detections, const Settings& settings,
                                   const Tables& tables);

}  // namespace qprof::coco
