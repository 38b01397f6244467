#include "resampling_plan.h"

#include <algorithm>
#include <utility>

#include "bits.h"

namespace qprof::coco {
namespace {

// A detection of the curve: whether it lies inside the area, and what its record says, if it has one.
struct Member {
  bool inside;
  const AreaMatch* match;
  uint32_t mark;

  bool counts(size_t t) const { return match == nullptr ? inside : !(match->ignored >> t & 1); }
  bool hits(size_t t) const { return match != nullptr && (match->matched & ~match->ignored) >> t & 1; }
};

class Planner {
 public:
  Planner(const MatchedClass& matched, const Settings& settings, size_t area, size_t limit, bool with_precision)
      : matched_(matched), settings_(settings), area_(area), limit_(limit), with_precision_(with_precision) {
    plan_.steps.resize(settings.iou_thresholds.size());
  }

  CurvePlan run() {
    add_truths();
    for (size_t d = 0; d < matched_.image.size();) {
      const size_t begin = d;
      members_.clear();
      do {
        add_member(d++);
      } while (d < matched_.image.size() && matched_.tied[d]);
      add_steps(matched_.image[begin]);
    }
    return std::move(plan_);
  }

 private:
  void add_truths() {
    for (const Truth& truth : matched_.truths) {
      if (truth.ignored >> area_ & 1) continue;
      if (plan_.truths.empty() || plan_.truths.back().image != truth.image) plan_.truths.push_back({truth.image, 0});
      ++plan_.truths.back().count;
    }
  }

  void add_member(size_t d) {
    const std::vector<Record>& records = matched_.records;
    const bool recorded = record_ < records.size() && records[record_].order == d;
    const size_t record = recorded ? record_++ : 0;
    if (matched_.limit[d] > limit_) return;
    Member member{(matched_.inside[d] >> area_ & 1) != 0, nullptr, 0};
    if (member.inside && with_precision_) plan_.passes.push_back(matched_.image[d]);
    if (recorded) member.match = &matched_.matches[record * settings_.areas.size() + area_];
    member.mark = recorded ? mark() : 0;
    members_.push_back(member);
  }

  // The index of the mark at the end of `passes` as they stand.
  uint32_t mark() {
    const uint32_t end = static_cast<uint32_t>(plan_.passes.size());
    if (plan_.marks.empty() || plan_.marks.back() != end) plan_.marks.push_back(end);
    return static_cast<uint32_t>(plan_.marks.size() - 1);
  }

  void add_steps(uint32_t image) {
    if (std::none_of(members_.begin(), members_.end(), [](const Member& m) { return m.match != nullptr; })) return;
    for (size_t t = 0; t < plan_.steps.size(); ++t) {
      int32_t counted = 0, hits = 0;
      for (const Member& member : members_) {
        counted += member.counts(t);
        hits += member.hits(t);
      }
      if (hits > 0 && counted > hits) {
        add_group(image, t, counted);
      } else {
        add_singles(image, t);
      }
    }
  }

  void add_singles(uint32_t image, size_t t) {
    for (const Member& member : members_) {
      if (member.match == nullptr) continue;
      const int correction = static_cast<int>(member.counts(t)) - static_cast<int>(member.inside);
      if (member.hits(t) || correction != 0) {
        plan_.steps[t].push_back({member.mark, image, member.hits(t) ? 1 : 0, correction, 0, 0, 0});
      }
    }
  }

  void add_group(uint32_t image, size_t t, int32_t counts) {
    Step step{mark(), image, 0, counts, 0, 0, counts};
    step.group_begin = static_cast<uint32_t>(plan_.group_hits.size());
    int32_t counted = 0;
    for (const Member& member : members_) {
      counted += member.counts(t);
      step.correction -= member.inside;
      if (!member.hits(t)) continue;
      ++step.hits;
      plan_.group_hits.push_back({counted});
    }
    step.group_end = static_cast<uint32_t>(plan_.group_hits.size());
    plan_.steps[t].push_back(step);
  }

  const MatchedClass& matched_;
  const Settings& settings_;
  const size_t area_;
  const size_t limit_;
  const bool with_precision_;
  size_t record_ = 0;
  std::vector<Member> members_;
  CurvePlan plan_;
};

}  // namespace

CurvePlan plan_curve(const MatchedClass& matched, const Settings& settings, size_t area, size_t limit,
                     bool with_precision) {
  return Planner(matched, settings, area, limit, with_precision).run();
}

}  // namespace qprof::coco
