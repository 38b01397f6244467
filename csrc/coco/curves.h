// Precision, recall and score at the recall thresholds, from what matching left of a class.
#pragma once

#include <cstdint>
#include <vector>

#include "inputs.h"
#include "matching.h"

namespace qprof::coco {

// Where the results go: C-contiguous, precision and scores [threshold, recall, class, area, limit], recall without its
// second axis. -1 where a class has no ground truth in an area.
struct Tables {
  double* precision;
  double* recall;
  double* scores;
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

// Scratch memory that one thread uses for class after class.
class Curves {
 public:
  Curves(const Detections& detections, const Settings& settings);

  void write(const MatchedClass& matched, size_t class_index, const Tables& tables);

 private:
  // A true positive on one curve: how many detections count up to it, and which record it is.
  struct Hit {
    uint32_t counted;
    uint32_t record;
  };

  void collect(const MatchedClass& matched, size_t area, size_t limit);
  void draw(const MatchedClass& matched, size_t threshold, size_t column, bool any);
  void copy_out(size_t class_index, const Tables& tables) const;

  const Detections& input_;
  const Settings& settings_;
  std::vector<uint32_t> needed_;        // per recall threshold: true positives
  std::vector<std::vector<Hit>> hits_;  // per IoU threshold
  std::vector<int64_t> correction_;     // per IoU threshold: detections counted beyond those inside the area
  std::vector<double> envelope_;
  // The class's own part of the tables: [threshold, recall, area, limit], so that each line of them is written once.
  std::vector<double> precision_;
  std::vector<double> scores_;
  std::vector<double> recall_;
};

}  // namespace qprof::coco
