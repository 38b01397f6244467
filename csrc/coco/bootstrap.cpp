#include "bootstrap.h"

#include <algorithm>
#include <cmath>
#include <cstring>
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

// The same in registers. They are never arguments, whose passing would depend on the CPU.
using CountVector = int32_t __attribute__((vector_size(sizeof(int32_t) * kLanes), may_alias));
using WeightVector = uint16_t __attribute__((vector_size(sizeof(uint16_t) * kLanes), may_alias));
using HalfCounts = int32_t __attribute__((vector_size(sizeof(int32_t) * kLanes / 2)));
using HalfReals = double __attribute__((vector_size(sizeof(double) * kLanes / 2)));

#define QPROF_COUNTS(lanes) (*reinterpret_cast<const CountVector*>((lanes).lane))
#define QPROF_WEIGHTS(lanes) __builtin_convertvector(*reinterpret_cast<const WeightVector*>((lanes).lane), CountVector)

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

// How many recall thresholds are reached with 0, 1, 2 ... true positives: those of each lane from `begin` on.
struct Reached {
  const int32_t* table;
  Counts begin;
};

// A block of resamples: the means over the classes so far.
struct Block {
  std::vector<Weights> weights;  // per image
  std::vector<Reals> sums;       // per metric
  std::vector<Counts> defined;   // per metric: classes
};

// One thread's scratch memory.
struct Scratch {
  std::vector<Counts> counted;   // per mark of the plan: detections inside the area up to it
  std::vector<int32_t> reached;  // where there are too many ground truths for the tables that are made beforehand
  std::vector<Reals> values;     // per metric
};

QPROF_CLONES void count_passes(const CurvePlan& plan, const Weights* weights, Counts* counted) {
  CountVector total{};
  size_t pass = 0;
  for (size_t mark = 0; mark < plan.marks.size(); ++mark) {
    for (; pass < plan.marks[mark]; ++pass) total += QPROF_WEIGHTS(weights[plan.passes[pass]]);
    std::memcpy(counted[mark].lane, &total, sizeof total);
  }
}

QPROF_CLONES void count_truths(const CurvePlan& plan, const Weights* weights, Counts& total) {
  CountVector sum{};
  for (const Share& share : plan.truths) sum += static_cast<int32_t>(share.count) * QPROF_WEIGHTS(weights[share.image]);
  std::memcpy(total.lane, &sum, sizeof sum);
}

QPROF_CLONES void count_steps(const std::vector<Step>& steps, const Weights* weights, Counts& hits,
                              Counts& correction) {
  CountVector all_hits{}, all_corrections{};
  for (const Step& step : steps) {
    const CountVector weight = QPROF_WEIGHTS(weights[step.image]);
    all_hits += step.hits * weight;
    all_corrections += step.correction * weight;
  }
  std::memcpy(hits.lane, &all_hits, sizeof all_hits);
  std::memcpy(correction.lane, &all_corrections, sizeof all_corrections);
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
[[gnu::always_inline]] inline void meet_hits(Walk& walk, const CountVector& counted, const CountVector& fresh,
                                             const Reached& reached) {
  constexpr double kSpacing = 2.220446049250313e-16;
  constexpr size_t kHalf = kLanes / 2;
  CountVector hits = QPROF_COUNTS(walk.hits);
  HalfReals precision[2];
  for (size_t half = 0; half < 2; ++half) {
    HalfCounts of_hits, of_counted;
    std::memcpy(&of_hits, reinterpret_cast<const int32_t*>(&hits) + half * kHalf, sizeof of_hits);
    std::memcpy(&of_counted, reinterpret_cast<const int32_t*>(&counted) + half * kHalf, sizeof of_counted);
    precision[half] =
        __builtin_convertvector(of_hits, HalfReals) / (__builtin_convertvector(of_counted, HalfReals) + kSpacing);
  }
  hits -= fresh;
  const CountVector place = QPROF_COUNTS(reached.begin) + hits;
  CountVector below{};
  for (size_t l = 0; l < kLanes; ++l) below[l] = reached.table[place[l]];
  const CountVector passed = QPROF_COUNTS(walk.reached) - below;
  for (size_t half = 0; half < 2; ++half) {
    HalfReals best, sum;
    HalfCounts of_passed;
    std::memcpy(&best, walk.best.lane + half * kHalf, sizeof best);
    std::memcpy(&sum, walk.sum.lane + half * kHalf, sizeof sum);
    std::memcpy(&of_passed, reinterpret_cast<const int32_t*>(&passed) + half * kHalf, sizeof of_passed);
    best = precision[half] > best ? precision[half] : best;
    sum += best * __builtin_convertvector(of_passed, HalfReals);
    std::memcpy(walk.best.lane + half * kHalf, &best, sizeof best);
    std::memcpy(walk.sum.lane + half * kHalf, &sum, sizeof sum);
  }
  std::memcpy(walk.hits.lane, &hits, sizeof hits);
  std::memcpy(walk.reached.lane, &below, sizeof below);
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
      meet_hits(walk, QPROF_COUNTS(at), QPROF_COUNTS(fresh), reached);
    }
  }
}

// The sum of the precisions at the recall thresholds.
QPROF_CLONES void walk_curve(const CurvePlan& plan, const std::vector<Step>& steps, const Weights* weights,
                             const Counts* counted_inside, const Reached& reached, Walk& walk) {
  for (size_t l = 0; l < kLanes; ++l) {
    walk.reached.lane[l] = reached.table[reached.begin.lane[l] + walk.hits.lane[l]];
  }
  CountVector correction = QPROF_COUNTS(walk.correction);
  for (size_t s = steps.size(); s-- > 0;) {
    const Step& step = steps[s];
    const CountVector weight = QPROF_WEIGHTS(weights[step.image]);
    if (step.hits > 0) {
      const CountVector counted = QPROF_COUNTS(counted_inside[step.mark]) + correction;
      if (step.group_begin == step.group_end) {
        meet_hits(walk, counted, weight, reached);
      } else {
        Counts at;
        std::memcpy(at.lane, &counted, sizeof counted);
        meet_group(walk, step, plan, weights[step.image], at, reached);
      }
    }
    if (step.correction != 0) correction -= step.correction * weight;
  }
  // Recall thresholds of 0 and less are reached before the first true positive.
  for (size_t l = 0; l < kLanes; ++l) walk.sum.lane[l] += walk.best.lane[l] * walk.reached.lane[l];
}

// The tables for all numbers of ground truths up to a bound, one behind the other: with many classes the same numbers
// come up again and again.
class ReachedTables {
 public:
  ReachedTables(const std::vector<double>& thresholds, uint32_t largest) : thresholds_(thresholds) {
    const size_t bound = std::min<size_t>(largest, kLargest);
    table_.resize(begin_of(bound + 1));
    for (size_t truths = 0; truths <= bound; ++truths) fill(table_.data() + begin_of(truths), truths);
    known_ = bound;
  }

  // For the ground truths of each lane; `own` is memory for tables that are not there yet.
  Reached of(const Counts& truths, std::vector<int32_t>& own) const {
    const size_t most = static_cast<size_t>(*std::max_element(truths.lane, truths.lane + kLanes));
    Reached reached;
    if (most <= known_) {
      for (size_t l = 0; l < kLanes; ++l) {
        reached.begin.lane[l] = static_cast<int32_t>(begin_of(static_cast<size_t>(truths.lane[l])));
      }
      reached.table = table_.data();
      return reached;
    }
    own.resize((most + 1) * kLanes);
    for (size_t l = 0; l < kLanes; ++l) {
      reached.begin.lane[l] = static_cast<int32_t>(l * (most + 1));
      fill(own.data() + l * (most + 1), static_cast<size_t>(truths.lane[l]));
    }
    reached.table = own.data();
    return reached;
  }

 private:
  // 2 MB of tables.
  static constexpr size_t kLargest = 1'000;

  static size_t begin_of(size_t truths) { return truths * (truths + 1) / 2; }

  void fill(int32_t* table, size_t truths) const {
    std::fill_n(table, truths + 1, 0);
    for (double threshold : thresholds_) {
      const uint32_t needed = needed_for_recall(threshold, static_cast<uint32_t>(truths));
      if (needed <= truths) ++table[needed];
    }
    for (size_t count = 1; count <= truths; ++count) table[count] += table[count - 1];
  }

  const std::vector<double>& thresholds_;
  std::vector<int32_t> table_;
  size_t known_ = 0;
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
  void run(Block& block, Scratch& scratch, size_t lanes, double* per_class) const {
    const size_t count = curves_.empty() ? 0 : plans_.size() / curves_.size();
    for (size_t c = 0; c < count; ++c) {
      scratch.values.assign(metrics_.size(), Reals{});
      for (size_t k = 0; k < curves_.size(); ++k) {
        run_curve(curves_[k], plans_[c * curves_.size() + k], block.weights.data(), scratch);
      }
      for (size_t m = 0; m < metrics_.size(); ++m) {
        for (size_t l = 0; l < kLanes; ++l) {
          const double value = scratch.values[m].lane[l];
          const bool defined = !std::isnan(value);
          block.sums[m].lane[l] += defined ? value : 0.0;
          block.defined[m].lane[l] += defined;
        }
        if (per_class == nullptr) continue;
        for (size_t l = 0; l < lanes; ++l) {
          per_class[(l * metrics_.size() + m) * classes_.size() + first_ + c] = scratch.values[m].lane[l];
        }
      }
    }
  }

 private:
  // Plans of all classes together would take more memory than all that they are made from; and what is run again and
  // again is to stay in the cache.
  static constexpr size_t kMostBytes = size_t{16} << 20;

  size_t most_bytes(const MatchedClass& matched) const {
    const size_t steps = matched.records.size() * settings_.iou_thresholds.size();
    return (steps * sizeof(Step) + matched.image.size() * sizeof(uint32_t)) * curves_.size();
  }

  void run_curve(const CurveKey& key, const CurvePlan& plan, const Weights* weights, Scratch& scratch) const {
    Counts truths;
    Reached reached;
    count_truths(plan, weights, truths);
    if (key.with_precision) {
      scratch.counted.resize(plan.marks.size());
      count_passes(plan, weights, scratch.counted.data());
      reached = tables_.of(truths, scratch.reached);
    }
    for (size_t t = 0; t < plan.steps.size(); ++t) {
      Walk walk;
      count_steps(plan.steps[t], weights, walk.hits, walk.correction);
      const Counts hits = walk.hits;
      if (key.with_precision) walk_curve(plan, plan.steps[t], weights, scratch.counted.data(), reached, walk);
      for (size_t m : key.metrics) {
        const Metric& metric = metrics_[m];
        if (metric.threshold >= 0 && static_cast<size_t>(metric.threshold) != t) continue;
        const double share = metric.threshold >= 0 ? 1.0 : static_cast<double>(plan.steps.size());
        Reals& value = scratch.values[m];
        for (size_t l = 0; l < kLanes; ++l) {
          const double here = metric.is_recall
                                  ? static_cast<double>(hits.lane[l]) / truths.lane[l]
                                  : walk.sum.lane[l] / static_cast<double>(settings_.recall_thresholds.size());
          value.lane[l] = truths.lane[l] > 0 ? value.lane[l] + here / share : kNone;
        }
      }
    }
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

}  // namespace

void bootstrap(const std::vector<MatchedClass>& classes, const Settings& settings, const uint16_t* weights,
               size_t resamples, const std::vector<Metric>& metrics, unsigned threads, double* means,
               double* per_class) {
  check_sizes(classes, weights, resamples, settings.images);
  Bootstrap bootstrap(classes, settings, metrics);
  std::vector<Block> blocks((resamples + kLanes - 1) / kLanes);
  auto lanes_of = [&](size_t b) { return std::min(kLanes, resamples - b * kLanes); };
  for_each_task(blocks.size(), threads, [&](size_t b, unsigned) {
    blocks[b].weights.assign(settings.images, Weights{});
    blocks[b].sums.assign(metrics.size(), Reals{});
    blocks[b].defined.assign(metrics.size(), Counts{});
    for (size_t l = 0; l < lanes_of(b); ++l) {
      const uint16_t* row = weights + (b * kLanes + l) * settings.images;
      for (size_t i = 0; i < settings.images; ++i) blocks[b].weights[i].lane[l] = row[i];
    }
  });
  std::vector<Scratch> scratch(std::max(1u, threads));
  for (size_t first = 0; first < classes.size();) {
    first = bootstrap.plan(first, threads);
    for_each_task(blocks.size(), threads, [&](size_t b, unsigned worker) {
      const size_t row = b * kLanes * metrics.size();
      double* const of_classes = per_class == nullptr ? nullptr : per_class + row * classes.size();
      bootstrap.run(blocks[b], scratch[worker], lanes_of(b), of_classes);
    });
  }
  for (size_t r = 0; r < resamples; ++r) {
    const Block& block = blocks[r / kLanes];
    for (size_t m = 0; m < metrics.size(); ++m) {
      const int32_t defined = block.defined[m].lane[r % kLanes];
      means[r * metrics.size() + m] = defined == 0 ? kNone : block.sums[m].lane[r % kLanes] / defined;
    }
  }
}

}  // namespace qprof::coco
