// Summary figures of resampled data sets, from what matching left: nothing is matched or sorted again.
#pragma once

#include <cstdint>
#include <vector>

#include "inputs.h"
#include "matching.h"

namespace qprof::coco {

// A mean over the classes (and IoU thresholds) that have ground truth in the area.
struct Metric {
  bool is_recall;     // else the mean precision at the recall thresholds
  int32_t threshold;  // index of an IoU threshold, or -1 for the mean over all
  uint32_t area;
  uint32_t limit;
};

// In resample r image i counts weights[r * images + i] times. Fills `means` [resample, metric] and, unless null,
// `per_class` [resample, metric, class]; NaN where nothing is defined. The result does not depend on `threads`. Throws
// std::invalid_argument for a resample with more than 2^27 - 1 detections and ground truths.
void bootstrap(const std::vector<MatchedClass>& classes, const Settings& settings, const uint16_t* weights,
               size_t resamples, const std::vector<Metric>& metrics, unsigned threads, double* means,
               double* per_class);

}  // namespace qprof::coco
