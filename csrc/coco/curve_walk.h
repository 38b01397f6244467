// Sums over the images of all lanes' resamples, and walks along their curves.
#pragma once

#include <cstdint>
#include <vector>

#include "lanes.h"
#include "reached.h"
#include "resampling_plan.h"

namespace qprof::coco {

// A curve that is walked from its end: the precision that is reached at or beyond the step at hand, the counts before
// it, and the sum over the recall thresholds beyond it.
struct Walk {
  Reals best{};
  Reals sum{};
  Counts hits{};
  Counts correction{};
  Counts reached{};
  Counts all_hits{};  // at the end
  size_t steps = 0;   // that are not yet met
};

// What the steps of a part of the curve have in common: those from `first_mark` on.
template <class Weights>
struct Stretch {
  const CurvePlan& plan;
  const Weights* weights;  // per image
  const Counts* counted;   // per mark
  uint32_t first_mark;
};

// Per part the weights of its images and of those of all parts before.
void sum_images(const ImageSums& sums, const SmallWeights* weights, Counts* out);
void sum_images(const ImageSums& sums, const LargeWeights* weights, Counts* out);

// Walks on to the beginning of the stretch. `walk.reached` is set by the first call of a curve.
void walk(const Stretch<SmallWeights>& stretch, const std::vector<Step>& steps, const ReachedTable& reached,
          Walk& walk);
void walk(const Stretch<LargeWeights>& stretch, const std::vector<Step>& steps, const ReachedTable& reached,
          Walk& walk);
void walk(const Stretch<SmallWeights>& stretch, const std::vector<Step>& steps, const NeededHits& needed, Walk& walk);
void walk(const Stretch<LargeWeights>& stretch, const std::vector<Step>& steps, const NeededHits& needed, Walk& walk);

// At a curve's end.
void start(const ReachedTable& reached, Walk& walk);
void start(const NeededHits& needed, Walk& walk);

// At its beginning: the recall thresholds of 0 and less are reached before the first true positive.
void finish(Walk& walk);

}  // namespace qprof::coco
