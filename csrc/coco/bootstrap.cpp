#include "bootstrap.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>

#include "clones.h"
#include "curves.h"
#include "parallel.h"
#include "resampling_plan.h"

namespace qprof::coco {
namespace {

// Resamples that are computed side by side: one lane each, so that every step is a few vector instructions.
constexpr size_t kLanes = 16;
// Keeps indices into a table of all lanes within 31 bits.
constexpr int64_t kMostElements = (int64_t{1} << 27) - 1;
constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

template <class T>
struct alignas(sizeof(T) * kLanes) Lanes {
  T lane[kLanes];
};
using Counts = Lanes<int32_t>;
using Weights = Lanes<uint16_t>;
using Reals = Lanes<double>;

// A curve is drawn once for all metrics that share class, area and limit.
struct CurveKey {
  uint32_t area;
  uint32_t limit;
  bool with_precision;
  std::vector<size_t> metrics;
};

std::vector<CurveKey> curves_for(const std::vector<Metric>& metrics) {
  std::vector<CurveKey> keys;
  for (size_t m = 0; m < metrics.size(); ++m) {
    auto same = [&](const CurveKey& k) { return k.area == metrics[m].area && k.limit == metrics[m].limit; };
    auto found = std::find_if(keys.begin(), keys.end(), same);
    if (found == keys.end()) found = keys.insert(keys.end(), {metrics[m].area, metrics[m].limit, false, {}});
    found->with_precision |= !metrics[m].is_recall;
    found->metrics.push_back(m);
  }
  return keys;
}

// How many recall thresholds are reached with 0, 1, 2 ... true positives, per lane.
struct Reached {
  std::vector<int32_t> table;
  size_t stride = 0;
};

// One thread's scratch memory for a block of resamples.
struct Block {
  std::vector<Weights> weights;  // per image
  std::vector<Counts> counted;   // per mark of the plan: detections inside the area up to it
  Reached reached;
};

QPROF_CLONES void count_passes(const CurvePlan& plan, const Weights* weights, Counts* counted) {
  Counts total{};
  size_t pass = 0;
  for (size_t mark = 0; mark < plan.marks.size(); ++mark) {
    for (; pass < plan.marks[mark]; ++pass) {
      const Weights& weight = weights[plan.passes[pass]];
      for (size_t l = 0; l < kLanes; ++l) total.lane[l] += weight.lane[l];
    }
    counted[mark] = total;
  }
}

QPROF_CLONES void count_truths(const CurvePlan& plan, const Weights* weights, Counts& total) {
  total = {};
  for (const Share& share : plan.truths) {
    for (size_t l = 0; l < kLanes; ++l) {
      total.lane[l] += static_cast<int32_t>(share.count) * weights[share.image].lane[l];
    }
  }
}

QPROF_CLONES void count_steps(const std::vector<Step>& steps, const Weights* weights, Counts& hits,
                              Counts& correction) {
  hits = correction = {};
  for (const Step& step : steps) {
    const Weights& weight = weights[step.image];
    for (size_t l = 0; l < kLanes; ++l) {
      hits.lane[l] += step.hits * weight.lane[l];
      correction.lane[l] += step.correction * weight.lane[l];
    }
  }
}

// A curve walked from its end: the precision that is reached at or beyond the step at hand, the counts before it, and
// the sum over the recall thresholds beyond it.
struct Walk {
  Reals best{};
  Reals sum{};
  Counts hits;
  Counts correction;
  Counts reached;
};

// In each lane the last of `fresh` true positives stands at `counted` detections. A lane with none changes nothing: its
// precision is that of the true positive before, or less.
inline void meet_hits(Walk& walk, const Counts& counted, const Counts& fresh, const Reached& reached) {
  constexpr double kSpacing = 2.220446049250313e-16;
  Counts below;
  for (size_t l = 0; l < kLanes; ++l) {
    const double precision = static_cast<double>(walk.hits.lane[l]) / (static_cast<double>(counted.lane[l]) + kSpacing);
    walk.best.lane[l] = precision > walk.best.lane[l] ? precision : walk.best.lane[l];
  }
  for (size_t l = 0; l < kLanes; ++l) walk.hits.lane[l] -= fresh.lane[l];
  const int32_t* table = reached.table.data();
  const int32_t stride = static_cast<int32_t>(reached.stride);
  for (size_t l = 0; l < kLanes; ++l) below.lane[l] = table[static_cast<int32_t>(l) * stride + walk.hits.lane[l]];
  for (size_t l = 0; l < kLanes; ++l) {
    walk.sum.lane[l] += walk.best.lane[l] * static_cast<double>(walk.reached.lane[l] - below.lane[l]);
  }
  walk.reached = below;
}

void meet_group(Walk& walk, const Step& step, const CurvePlan& plan, const Weights& weight, const Counts& counted,
                const Reached& reached) {
  const int32_t copies = *std::max_element(weight.lane, weight.lane + kLanes);
  for (int32_t later = 0; later < copies; ++later) {
    for (uint32_t h = step.group_end; h-- > step.group_begin;) {
      Counts at, fresh;
      for (size_t l = 0; l < kLanes; ++l) {
        const int32_t place =
            counted.lane[l] - later * step.group_counted - (step.group_counted - plan.group_hits[h].counted);
        fresh.lane[l] = later < weight.lane[l];
        at.lane[l] = fresh.lane[l] ? place : std::numeric_limits<int32_t>::max();
      }
      meet_hits(walk, at, fresh, reached);
    }
  }
}

// The sum of the precisions at the recall thresholds.
QPROF_CLONES void walk_curve(const CurvePlan& plan, const std::vector<Step>& steps, const Weights* weights,
                             const Counts* counted_inside, const Reached& reached, Walk& walk) {
  for (size_t l = 0; l < kLanes; ++l) {
    walk.reached.lane[l] = reached.table[l * reached.stride + static_cast<size_t>(walk.hits.lane[l])];
  }
  for (size_t s = steps.size(); s-- > 0;) {
    const Step& step = steps[s];
    const Weights& weight = weights[step.image];
    if (step.hits > 0) {
      Counts counted, fresh;
      for (size_t l = 0; l < kLanes; ++l) {
        counted.lane[l] = counted_inside[step.mark].lane[l] + walk.correction.lane[l];
        fresh.lane[l] = weight.lane[l];
      }
      if (step.group_begin == step.group_end) {
        meet_hits(walk, counted, fresh, reached);
      } else {
        meet_group(walk, step, plan, weight, counted, reached);
      }
    }
    if (step.correction != 0) {
      for (size_t l = 0; l < kLanes; ++l) walk.correction.lane[l] -= step.correction * weight.lane[l];
    }
  }
  // Recall thresholds of 0 and less are reached before the first true positive.
  for (size_t l = 0; l < kLanes; ++l) walk.sum.lane[l] += walk.best.lane[l] * walk.reached.lane[l];
}

void fill_reached(const Counts& truths, const std::vector<double>& thresholds, Reached& reached) {
  const int32_t most = *std::max_element(truths.lane, truths.lane + kLanes);
  reached.stride = static_cast<size_t>(most) + 1;
  reached.table.assign(reached.stride * kLanes, 0);
  for (size_t l = 0; l < kLanes; ++l) {
    const uint32_t total = static_cast<uint32_t>(truths.lane[l]);
    int32_t* table = reached.table.data() + l * reached.stride;
    for (double threshold : thresholds) {
      const uint32_t needed = needed_for_recall(threshold, total);
      if (needed <= total) ++table[needed];
    }
    for (uint32_t count = 1; count <= total; ++count) table[count] += table[count - 1];
  }
}

class Bootstrap {
 public:
  Bootstrap(const std::vector<MatchedClass>& classes, const Settings& settings, const std::vector<Metric>& metrics)
      : settings_(settings), metrics_(metrics), curves_(curves_for(metrics)), classes_(classes.size()) {
    plans_.resize(curves_.size() * classes_);
    for (size_t c = 0; c < classes_; ++c) {
      for (size_t k = 0; k < curves_.size(); ++k) {
        plans_[c * curves_.size() + k] = plan_curve(classes[c], settings, curves_[k].area, curves_[k].limit);
      }
    }
  }

  // Values [metric, class, lane] of one block of resamples.
  void run(Block& block, std::vector<Reals>& values) const {
    values.assign(metrics_.size() * classes_, Reals{});
    for (size_t c = 0; c < classes_; ++c) {
      for (size_t k = 0; k < curves_.size(); ++k) {
        run_curve(curves_[k], plans_[c * curves_.size() + k], block, c, values);
      }
    }
  }

 private:
  void run_curve(const CurveKey& key, const CurvePlan& plan, Block& block, size_t class_index,
                 std::vector<Reals>& values) const {
    Counts truths;
    count_truths(plan, block.weights.data(), truths);
    if (key.with_precision) {
      block.counted.resize(plan.marks.size());
      count_passes(plan, block.weights.data(), block.counted.data());
      fill_reached(truths, settings_.recall_thresholds, block.reached);
    }
    for (size_t t = 0; t < plan.steps.size(); ++t) {
      Walk walk;
      count_steps(plan.steps[t], block.weights.data(), walk.hits, walk.correction);
      const Counts hits = walk.hits;
      if (key.with_precision) {
        walk_curve(plan, plan.steps[t], block.weights.data(), block.counted.data(), block.reached, walk);
      }
      for (size_t m : key.metrics) {
        const Metric& metric = metrics_[m];
        if (metric.threshold >= 0 && static_cast<size_t>(metric.threshold) != t) continue;
        const double share = metric.threshold >= 0 ? 1.0 : static_cast<double>(plan.steps.size());
        Reals& value = values[m * classes_ + class_index];
        for (size_t l = 0; l < kLanes; ++l) {
          const double here = metric.is_recall
                                  ? static_cast<double>(hits.lane[l]) / truths.lane[l]
                                  : walk.sum.lane[l] / static_cast<double>(settings_.recall_thresholds.size());
          value.lane[l] = truths.lane[l] > 0 ? value.lane[l] + here / share : kNone;
        }
      }
    }
  }

  const Settings& settings_;
  const std::vector<Metric>& metrics_;
  const std::vector<CurveKey> curves_;
  const size_t classes_;
  std::vector<CurvePlan> plans_;
};

double mean_of_defined(const Reals* values, size_t count, size_t lane) {
  double sum = 0;
  size_t defined = 0;
  for (size_t i = 0; i < count; ++i) {
    if (std::isnan(values[i].lane[lane])) continue;
    sum += values[i].lane[lane];
    ++defined;
  }
  return defined == 0 ? kNone : sum / static_cast<double>(defined);
}

void check_sizes(const std::vector<MatchedClass>& classes, const uint16_t* weights, size_t resamples, size_t images) {
  // No count of a resample is larger than all its detections and ground truths together.
  std::vector<int64_t> elements(images, 0);
  for (const MatchedClass& matched : classes) {
    for (uint32_t image : matched.image) ++elements[image];
    for (const Truth& truth : matched.truths) ++elements[truth.image];
  }
  for (size_t r = 0; r < resamples; ++r) {
    int64_t total = 0;
    for (size_t i = 0; i < images; ++i) total += elements[i] * weights[r * images + i];
    if (total > kMostElements) {
      throw std::invalid_argument("resample " + std::to_string(r) +
                                  ": more than 2^27 - 1 detections and ground truths");
    }
  }
}

}  // namespace

void bootstrap(const std::vector<MatchedClass>& classes, const Settings& settings, const uint16_t* weights,
               size_t resamples, const std::vector<Metric>& metrics, unsigned threads, double* means,
               double* per_class) {
  check_sizes(classes, weights, resamples, settings.images);
  const Bootstrap plan(classes, settings, metrics);
  const size_t blocks = (resamples + kLanes - 1) / kLanes;
  std::vector<Block> scratch(std::max(1u, threads));
  for_each_task(blocks, threads, [&](size_t b, unsigned worker) {
    Block& block = scratch[worker];
    const size_t first = b * kLanes;
    const size_t lanes = std::min(kLanes, resamples - first);
    block.weights.assign(settings.images, Weights{});
    for (size_t l = 0; l < lanes; ++l) {
      for (size_t i = 0; i < settings.images; ++i) {
        block.weights[i].lane[l] = weights[(first + l) * settings.images + i];
      }
    }
    std::vector<Reals> values;
    plan.run(block, values);
    for (size_t l = 0; l < lanes; ++l) {
      for (size_t m = 0; m < metrics.size(); ++m) {
        const Reals* of_metric = values.data() + m * classes.size();
        const size_t row = (first + l) * metrics.size() + m;
        means[row] = mean_of_defined(of_metric, classes.size(), l);
        if (per_class == nullptr) continue;
        for (size_t c = 0; c < classes.size(); ++c) per_class[row * classes.size() + c] = of_metric[c].lane[l];
      }
    }
  });
}

}  // namespace qprof::coco
