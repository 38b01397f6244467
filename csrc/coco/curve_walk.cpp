#include "curve_walk.h"

#include <algorithm>
#include <bit>

#include "clones.h"

namespace qprof::coco {
namespace {

constexpr double kSpacing = 2.220446049250313e-16;

template <class Weights>
[[gnu::always_inline]] inline void sum_rows(const ImageSums& sums, const Weights* weights, Counts* out) {
  CountVector total{};
  size_t at = 0;
  for (size_t part = 0; part < sums.ends.size(); ++part) {
    for (; at < sums.ends[part]; ++at) {
      CountVector weight;
      load(weights[sums.images[at]], weight);
      total += weight;
    }
    std::memcpy(out[part].lane, &total, sizeof total);
  }
}

// The recall thresholds of a lane that are reached with `hits` true positives, fewer than before.
inline int32_t reached_by(const ReachedTable& reached, size_t lane, int32_t, int32_t hits) {
  return reached.table[reached.begin.lane[lane] + hits];
}
inline int32_t reached_by(const NeededHits& needed, size_t lane, int32_t before, int32_t hits) {
  const int32_t* const of = needed.of(lane);
  while (before > 0 && of[before - 1] > hits) --before;
  return before;
}

// True positives of a group, those of the last copy first.
template <class Weights, class Reached>
void meet_group(const CurvePlan& plan, const Group& group, const Weights& weight, const Counts& counted,
                const Reached& reached, Walk& walk) {
  for (size_t l = 0; l < kLanes; ++l) {
    for (int32_t later = 0; later < weight[l]; ++later) {
      for (uint32_t h = group.hits_end; h-- > group.hits_begin;) {
        const int32_t at = counted.lane[l] - later * group.counted - (group.counted - plan.group_hits[h]);
        const double precision = walk.hits.lane[l] / (at + kSpacing);
        const int32_t below = reached_by(reached, l, walk.reached.lane[l], --walk.hits.lane[l]);
        const int32_t passed = walk.reached.lane[l] - below;
        walk.reached.lane[l] = below;
        walk.best[l] = std::max(walk.best[l], precision);
        walk.sum[l] += walk.best[l] * passed;
      }
    }
  }
}

// The state of a walk in registers.
struct State {
  HalfReals best[2];
  CountVector hits;
  CountVector correction;

  [[gnu::always_inline]] void load(const Walk& walk) {
    std::memcpy(best, walk.best.values, sizeof best);
    hits = QPROF_COUNTS(walk.hits);
    correction = QPROF_COUNTS(walk.correction);
  }
  [[gnu::always_inline]] void store(Walk& walk) const {
    std::memcpy(walk.best.values, best, sizeof best);
    std::memcpy(walk.hits.lane, &hits, sizeof hits);
    std::memcpy(walk.correction.lane, &correction, sizeof correction);
  }
  // In each lane the last of `fresh` true positives stands at `counted` detections. A lane with none changes nothing:
  // its precision is that of the true positive before, or less.
  [[gnu::always_inline]] void meet(const CountVector& counted, const CountVector& fresh) {
    HalfReals of_hits[2], of_counted[2];
    to_reals(hits, of_hits);
    to_reals(counted, of_counted);
    for (size_t half = 0; half < 2; ++half) {
      const HalfReals precision = of_hits[half] / (of_counted[half] + kSpacing);
      best[half] = precision > best[half] ? precision : best[half];
    }
    hits -= fresh;
  }
};

// The sum of a curve with tables: every step looks up what it reaches.
class TableSum {
 public:
  [[gnu::always_inline]] TableSum(const ReachedTable& reached, const Walk& walk) : table_(reached.table) {
    begin_ = QPROF_COUNTS(reached.begin);
    load(walk);
  }
  [[gnu::always_inline]] void load(const Walk& walk) {
    reached_ = QPROF_COUNTS(walk.reached);
    std::memcpy(sum_, walk.sum.values, sizeof sum_);
  }
  [[gnu::always_inline]] void store(Walk& walk) const {
    std::memcpy(walk.reached.lane, &reached_, sizeof reached_);
    std::memcpy(walk.sum.values, sum_, sizeof sum_);
  }
  [[gnu::always_inline]] void add(const State& state, Walk&) {
    const CountVector place = begin_ + state.hits;
    const auto at = [&](size_t l) { return static_cast<int32_t>(table_[static_cast<uint32_t>(place[l])]); };
    const CountVector below = {at(0), at(1), at(2),  at(3),  at(4),  at(5),  at(6),  at(7),
                               at(8), at(9), at(10), at(11), at(12), at(13), at(14), at(15)};
    const CountVector passed = reached_ - below;
    reached_ = below;
    HalfReals of_passed[2];
    to_reals(passed, of_passed);
    for (size_t half = 0; half < 2; ++half) sum_[half] += state.best[half] * of_passed[half];
  }

 private:
  const uint8_t* table_;
  CountVector begin_, reached_;
  HalfReals sum_[2];
};

// Without: the lanes that reach another threshold are few, and are seen to one by one.
class NeededSum {
 public:
  [[gnu::always_inline]] NeededSum(const NeededHits& needed, const Walk& walk) : needed_(needed) { load(walk); }
  [[gnu::always_inline]] void load(const Walk& walk) {
    Counts next;
    for (size_t l = 0; l < kLanes; ++l) {
      next.lane[l] = walk.reached.lane[l] > 0 ? needed_.of(l)[walk.reached.lane[l] - 1] : 0;
    }
    next_ = QPROF_COUNTS(next);
  }
  [[gnu::always_inline]] void store(Walk&) const {}
  [[gnu::always_inline]] void add(const State& state, Walk& walk) {
    const CountVector fewer = state.hits < next_;
    const PairVector pairs = reinterpret_cast<PairVector>(fewer);
    constexpr PairVector kBits = {1, 2, 4, 8, 16, 32, 64, 128};
    const PairVector bits = pairs & (kBits | kBits << 32);
    uint64_t any = 0;
    for (size_t p = 0; p < kLanes / 2; ++p) any |= bits[p];
    if (any == 0) return;
    std::memcpy(walk.best.values, state.best, sizeof state.best);
    std::memcpy(walk.hits.lane, &state.hits, sizeof state.hits);
    Counts next;
    std::memcpy(next.lane, &next_, sizeof next);
    for (; any != 0; any &= any - 1) {
      const size_t bit = static_cast<size_t>(std::countr_zero(any));
      pass(2 * (bit % 32) + Reals::half(bit / 32), walk, next);
    }
    next_ = QPROF_COUNTS(next);
  }

 private:
  void pass(size_t l, Walk& walk, Counts& next) const {
    const int32_t below = reached_by(needed_, l, walk.reached.lane[l], walk.hits.lane[l]);
    walk.sum[l] += walk.best[l] * (walk.reached.lane[l] - below);
    walk.reached.lane[l] = below;
    next.lane[l] = below > 0 ? needed_.of(l)[below - 1] : 0;
  }

  const NeededHits& needed_;
  CountVector next_;  // fewer true positives than this no longer reach the last threshold reached
};

template <class Sum, class Weights, class Reached>
[[gnu::always_inline]] inline void walk_on(const Stretch<Weights>& stretch, const std::vector<Step>& steps,
                                           const Reached& reached, Walk& walk) {
  State state;
  state.load(walk);
  Sum sum(reached, walk);
  size_t s = walk.steps;
  for (; s > 0 && steps[s - 1].mark >= stretch.first_mark; --s) {
    const Step& step = steps[s - 1];
    CountVector weight;
    load(stretch.weights[step.image], weight);
    if (step.found != Step::kNoHit) {
      const CountVector counted = QPROF_COUNTS(stretch.counted[step.mark]) + state.correction;
      if (step.found == Step::kOneHit) {
        state.meet(counted, weight);
        sum.add(state, walk);
      } else {
        Counts at;
        std::memcpy(at.lane, &counted, sizeof counted);
        state.store(walk);
        sum.store(walk);
        const Group& group = stretch.plan.groups[step.found - Step::kFirstGroup];
        meet_group(stretch.plan, group, stretch.weights[step.image], at, reached, walk);
        state.load(walk);
        sum.load(walk);
      }
    }
    if (step.correction != 0) state.correction -= step.correction * weight;
  }
  state.store(walk);
  sum.store(walk);
  walk.steps = s;
}

}  // namespace

QPROF_CLONES void sum_images(const ImageSums& sums, const SmallWeights* weights, Counts* out) {
  sum_rows(sums, weights, out);
}
QPROF_CLONES void sum_images(const ImageSums& sums, const LargeWeights* weights, Counts* out) {
  sum_rows(sums, weights, out);
}

QPROF_CLONES void walk(const Stretch<SmallWeights>& stretch, const std::vector<Step>& steps,
                       const ReachedTable& reached, Walk& walk) {
  walk_on<TableSum>(stretch, steps, reached, walk);
}
QPROF_CLONES void walk(const Stretch<LargeWeights>& stretch, const std::vector<Step>& steps,
                       const ReachedTable& reached, Walk& walk) {
  walk_on<TableSum>(stretch, steps, reached, walk);
}
QPROF_CLONES void walk(const Stretch<SmallWeights>& stretch, const std::vector<Step>& steps, const NeededHits& needed,
                       Walk& walk) {
  walk_on<NeededSum>(stretch, steps, needed, walk);
}
QPROF_CLONES void walk(const Stretch<LargeWeights>& stretch, const std::vector<Step>& steps, const NeededHits& needed,
                       Walk& walk) {
  walk_on<NeededSum>(stretch, steps, needed, walk);
}

void start(const ReachedTable& reached, Walk& walk) {
  for (size_t l = 0; l < kLanes; ++l) walk.reached.lane[l] = reached_by(reached, l, 0, walk.hits.lane[l]);
}

void start(const NeededHits& needed, Walk& walk) {
  for (size_t l = 0; l < kLanes; ++l) {
    const int32_t all = static_cast<int32_t>(needed.thresholds);
    walk.reached.lane[l] = reached_by(needed, l, all, walk.hits.lane[l]);
  }
}

void finish(Walk& walk) {
  for (size_t l = 0; l < kLanes; ++l) walk.sum[l] += walk.best[l] * walk.reached.lane[l];
}

}  // namespace qprof::coco
