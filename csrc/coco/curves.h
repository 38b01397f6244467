// Precision, recall and score at the recall thresholds, from what matching left of a class.
#pragma once

#include <cstdint>
#include <vector>

#include "inputs.h"
#include "matching.h"

namespace qprof::coco {

// An area range and a number of detections per image, by their indices.
struct CurveColumn {
  uint32_t area;
  uint32_t limit;
};

// Where curves go, or null: C-contiguous [threshold, recall, class, column]. -1 where a class has no ground truth in an
// area.
struct CurveTables {
  double* precision = nullptr;
  double* scores = nullptr;
};

// The fewest true positives out of `truths` whose recall reaches `threshold`; above `truths` where none do.
uint32_t needed_for_recall(double threshold, uint32_t truths);

// Precision after `matched` of `counted` detections, rounded as in pycocotools (its `np.spacing(1)` included).
inline double precision_of(uint32_t matched, uint32_t counted) {
  constexpr double kSpacing = 2.220446049250313e-16;
  const double right = matched;
  const double wrong = counted - matched;
  return right / (wrong + right + kSpacing);
}

// Of all classes, in the given columns. The result does not depend on the number of threads.
void draw_curves(const std::vector<MatchedClass>& classes, const Settings& settings,
                 const std::vector<CurveColumn>& columns, const CurveTables& tables);

// The recall of one class: into its part of [threshold, class, area, limit], as above.
void write_recall(const MatchedClass& matched, const Settings& settings, size_t class_index, double* recall);

}  // namespace qprof::coco
