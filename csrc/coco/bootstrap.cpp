#include "bootstrap.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>

#include "curve_walk.h"
#include "lanes.h"
#include "large_array.h"
#include "parallel.h"
#include "reached.h"
#include "resampling_plan.h"

namespace qprof::coco {
namespace {

// Keeps the counts of a resample far within 31 bits.
constexpr int64_t kMostElements = (int64_t{1} << 27) - 1;
constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

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

// A block of resamples: the means over the classes so far.
struct Block {
  std::vector<Reals> sums;      // per metric
  std::vector<Counts> defined;  // per metric: classes
};

// One thread's scratch memory.
struct Scratch {
  LargeArray<int32_t> memory;   // for the counts at each mark of the plan
  std::vector<Counts> totals;   // per part of the plan's sums
  std::vector<int32_t> needed;  // where there are too many ground truths for the tables that are made beforehand
  std::vector<Walk> walks;      // per IoU threshold
  std::vector<Reals> values;    // per metric

  Counts* counted(size_t marks) {
    memory.resize((marks + 1) * kLanes);
    const uintptr_t address = reinterpret_cast<uintptr_t>(memory.data());
    return reinterpret_cast<Counts*>((address + alignof(Counts) - 1) / alignof(Counts) * alignof(Counts));
  }
};

// The most ground truths that a class can have in a resample, or a bound of it: images count a few times each.
uint32_t largest_class(const std::vector<MatchedClass>& classes) {
  size_t largest = 0;
  for (const MatchedClass& matched : classes) largest = std::max(largest, matched.truths.size());
  return static_cast<uint32_t>(std::min<size_t>(2 * largest + 100, std::numeric_limits<uint32_t>::max()));
}

class Bootstrap {
 public:
  Bootstrap(const std::vector<MatchedClass>& classes, const Settings& settings, const std::vector<Metric>& metrics)
      : classes_(classes),
        settings_(settings),
        metrics_(metrics),
        curves_(curves_for(metrics)),
        tables_(settings.recall_thresholds, largest_class(classes)) {}

  // Plans of the classes from `first` on that are run together; returns where the next ones begin.
  size_t plan(size_t first, unsigned threads) {
    size_t last = first;
    for (size_t bytes = 0; last < classes_.size(); ++last) {
      bytes += most_bytes(classes_[last]);
      if (last > first && bytes > kMostBytes) break;
    }
    first_ = first;
    plans_.resize((last - first) * curves_.size());
    for_each_task(plans_.size(), threads, [&](size_t p, unsigned) {
      const CurveKey& key = curves_[p % curves_.size()];
      const MatchedClass& matched = classes_[first + p / curves_.size()];
      plans_[p] = plan_curve(matched, settings_, key.area, key.limit, key.with_precision);
    });
    return last;
  }

  // All that is planned, in one block of resamples. `per_class`: of the block's first resample, or null.
  template <class Weights>
  void run(const Weights* weights, Block& block, Scratch& scratch, size_t lanes, double* per_class) const {
    const size_t count = curves_.empty() ? 0 : plans_.size() / curves_.size();
    for (size_t c = 0; c < count; ++c) {
      scratch.values.assign(metrics_.size(), Reals{});
      for (size_t k = 0; k < curves_.size(); ++k) {
        run_curve(curves_[k], plans_[c * curves_.size() + k], weights, scratch);
      }
      for (size_t m = 0; m < metrics_.size(); ++m) {
        for (size_t l = 0; l < kLanes; ++l) {
          const double value = scratch.values[m][l];
          const bool defined = !std::isnan(value);
          block.sums[m][l] += defined ? value : 0.0;
          block.defined[m].lane[l] += defined;
        }
        if (per_class == nullptr) continue;
        for (size_t l = 0; l < lanes; ++l) {
          per_class[(l * metrics_.size() + m) * classes_.size() + first_ + c] = scratch.values[m][l];
        }
      }
    }
  }

 private:
  // Plans of all classes together would take more memory than all that they are made from; and what is run again and
  // again is to stay in the cache.
  static constexpr size_t kMostBytes = size_t{4} << 20;
  // Marks: 64 KB of counts.
  static constexpr size_t kStretch = 1'024;

  size_t most_bytes(const MatchedClass& matched) const {
    const size_t steps = matched.records.size() * settings_.iou_thresholds.size();
    const size_t images = matched.image.size() + matched.truths.size() + 3 * matched.records.size();
    return (steps * sizeof(Step) + images * sizeof(uint32_t)) * curves_.size();
  }

  template <class Weights>
  void run_curve(const CurveKey& key, const CurvePlan& plan, const Weights* weights, Scratch& scratch) const {
    scratch.walks.assign(plan.steps.size(), Walk{});
    const Counts truths = add_totals(plan, weights, scratch);
    if (key.with_precision) walk_curve(plan, weights, truths, scratch);
    for (size_t t = 0; t < plan.steps.size(); ++t) {
      for (size_t m : key.metrics) {
        const Metric& metric = metrics_[m];
        if (metric.threshold >= 0 && static_cast<size_t>(metric.threshold) != t) continue;
        const double share = metric.threshold >= 0 ? 1.0 : static_cast<double>(plan.steps.size());
        const Walk& walk = scratch.walks[t];
        Reals& value = scratch.values[m];
        for (size_t l = 0; l < kLanes; ++l) {
          const double here = metric.is_recall ? static_cast<double>(walk.all_hits.lane[l]) / truths.lane[l]
                                               : walk.sum[l] / static_cast<double>(settings_.recall_thresholds.size());
          value[l] = truths.lane[l] > 0 ? value[l] + here / share : kNone;
        }
      }
    }
  }

  // The counts at the ends of the curves of every threshold; returns the ground truths.
  template <class Weights>
  static Counts add_totals(const CurvePlan& plan, const Weights* weights, Scratch& scratch) {
    scratch.totals.resize(plan.totals.size());
    sum_images(plan.sums, weights, scratch.totals.data());
    Counts truths{};
    for (size_t p = 0; p < plan.totals.size(); ++p) {
      const Total& total = plan.totals[p];
      Counts part = scratch.totals[p];
      if (p > 0) add(part, scratch.totals[p - 1], -1);
      if (total.kind == Total::kTruths) {
        truths = part;
        continue;
      }
      // What is added at one threshold stays at all behind it.
      Walk& walk = scratch.walks[total.first];
      add(total.kind == Total::kHits ? walk.hits : walk.correction, part, total.sign);
    }
    for (size_t t = 0; t < scratch.walks.size(); ++t) {
      Walk& walk = scratch.walks[t];
      if (t > 0) {
        add(walk.hits, scratch.walks[t - 1].hits, 1);
        add(walk.correction, scratch.walks[t - 1].correction, 1);
      }
      walk.all_hits = walk.hits;
      walk.steps = plan.steps[t].size();
    }
    return truths;
  }

  static void add(Counts& to, const Counts& what, int32_t sign) {
    for (size_t l = 0; l < kLanes; ++l) to.lane[l] += sign * what.lane[l];
  }

  // All thresholds together, stretch by stretch from the end, so that its counts are still in the cache.
  template <class Weights>
  void walk_curve(const CurvePlan& plan, const Weights* weights, const Counts& truths, Scratch& scratch) const {
    const size_t marks = plan.passes.ends.size();
    Counts* const counted = scratch.counted(marks);
    sum_images(plan.passes, weights, counted);
    const bool few = tables_.has(truths);
    const ReachedTable table = few ? tables_.of(truths) : ReachedTable{};
    const NeededHits needed = few ? NeededHits{} : tables_.needed(truths, scratch.needed);
    for (Walk& each : scratch.walks) few ? start(table, each) : start(needed, each);
    for (size_t end = marks; end > 0;) {
      end = (end - 1) / kStretch * kStretch;
      const Stretch<Weights> stretch{plan, weights, counted, static_cast<uint32_t>(end)};
      for (size_t t = 0; t < plan.steps.size(); ++t) {
        Walk& each = scratch.walks[t];
        few ? walk(stretch, plan.steps[t], table, each) : walk(stretch, plan.steps[t], needed, each);
      }
    }
    for (Walk& each : scratch.walks) finish(each);
  }

  const std::vector<MatchedClass>& classes_;
  const Settings& settings_;
  const std::vector<Metric>& metrics_;
  const std::vector<CurveKey> curves_;
  const ReachedTables tables_;
  size_t first_ = 0;
  std::vector<CurvePlan> plans_;  // per class from `first_` on, and curve
};

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

// Image by image, so that a block's weights of an image are one vector; `lanes`: how many of them there are.
template <class Weights>
void lay_out(const uint16_t* weights, size_t images, size_t lanes, Weights* out) {
  for (size_t i = 0; i < images; ++i) {
    out[i] = {};
    for (size_t l = 0; l < lanes; ++l) out[i].set(l, weights[l * images + i]);
  }
}

template <class Weights>
void run(const std::vector<MatchedClass>& classes, const Settings& settings, const uint16_t* weights, size_t resamples,
         const std::vector<Metric>& metrics, unsigned threads, double* means, double* per_class) {
  Bootstrap bootstrap(classes, settings, metrics);
  std::vector<Block> blocks((resamples + kLanes - 1) / kLanes);
  LargeArray<Weights> rows(blocks.size() * settings.images);
  auto lanes_of = [&](size_t b) { return std::min(kLanes, resamples - b * kLanes); };
  for_each_task(blocks.size(), threads, [&](size_t b, unsigned) {
    blocks[b].sums.assign(metrics.size(), Reals{});
    blocks[b].defined.assign(metrics.size(), Counts{});
    const uint16_t* const of_block = weights + b * kLanes * settings.images;
    lay_out(of_block, settings.images, lanes_of(b), rows.data() + b * settings.images);
  });
  std::vector<Scratch> scratch(std::max(1u, threads));
  for (size_t first = 0; first < classes.size();) {
    first = bootstrap.plan(first, threads);
    for_each_task(blocks.size(), threads, [&](size_t b, unsigned worker) {
      const size_t row = b * kLanes * metrics.size();
      double* const of_classes = per_class == nullptr ? nullptr : per_class + row * classes.size();
      bootstrap.run(rows.data() + b * settings.images, blocks[b], scratch[worker], lanes_of(b), of_classes);
    });
  }
  for (size_t r = 0; r < resamples; ++r) {
    const Block& block = blocks[r / kLanes];
    for (size_t m = 0; m < metrics.size(); ++m) {
      const int32_t defined = block.defined[m].lane[r % kLanes];
      means[r * metrics.size() + m] = defined == 0 ? kNone : block.sums[m][r % kLanes] / defined;
    }
  }
}

}  // namespace

void bootstrap(const std::vector<MatchedClass>& classes, const Settings& settings, const uint16_t* weights,
               size_t resamples, const std::vector<Metric>& metrics, unsigned threads, double* means,
               double* per_class) {
  check_sizes(classes, weights, resamples, settings.images);
  const uint16_t* const end = weights + resamples * settings.images;
  const bool small = std::all_of(weights, end, [](uint16_t weight) { return weight <= SmallWeights::kMost; });
  const auto run_with = small ? run<SmallWeights> : run<LargeWeights>;
  run_with(classes, settings, weights, resamples, metrics, threads, means, per_class);
}

}  // namespace qprof::coco
