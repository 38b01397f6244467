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
      : matched_(matched),
        settings_(settings),
        area_(area),
        limit_(limit),
        with_precision_(with_precision),
        parts_(2 * settings.iou_thresholds.size() * kSigns) {
    plan_.steps.resize(settings.iou_thresholds.size());
  }

  CurvePlan run() {
    add_truths();
    if (with_precision_) {
      add_detections();
    } else {
      for (size_t r = 0; r < matched_.records.size(); ++r) {
        const Record& record = matched_.records[r];
        if (record.limit <= limit_) add_totals(record.image, is_inside(record.inside), match_of(r));
      }
    }
    for (size_t p = 0; p < parts_.size(); ++p) {
      const size_t place = p / kSigns, thresholds = settings_.iou_thresholds.size();
      const Total::Kind kind = place < thresholds ? Total::kHits : Total::kCorrection;
      close_part(parts_[p], kind, place % thresholds, p % kSigns == 0 ? 1 : -1);
    }
    return std::move(plan_);
  }

 private:
  static constexpr size_t kSigns = 2;

  bool is_inside(uint16_t areas) const { return (areas >> area_ & 1) != 0; }
  const AreaMatch& match_of(size_t record) const { return matched_.matches[record * settings_.areas.size() + area_]; }

  void add_truths() {
    std::vector<uint32_t> images;
    for (const Truth& truth : matched_.truths) {
      if (!(truth.ignored >> area_ & 1)) images.push_back(truth.image);
    }
    close_part(images, Total::kTruths, 0, 1);
  }

  void close_part(const std::vector<uint32_t>& images, Total::Kind kind, size_t first, int sign) {
    if (images.empty()) return;
    plan_.sums.images.insert(plan_.sums.images.end(), images.begin(), images.end());
    plan_.sums.ends.push_back(static_cast<uint32_t>(plan_.sums.images.size()));
    plan_.totals.push_back({kind, static_cast<uint8_t>(first), static_cast<int8_t>(sign)});
  }

  void add_totals(uint32_t image, bool inside, const AreaMatch& match) {
    add_total(image, Total::kHits, match.matched & ~match.ignored, 1);
    if (inside) {
      add_total(image, Total::kCorrection, match.ignored, -1);
    } else {
      add_total(image, Total::kCorrection, settings_.all_thresholds() & ~match.ignored, 1);
    }
  }

  // A run of neighbouring thresholds begins at one and ends before another: two sums, however many there are.
  void add_total(uint32_t image, Total::Kind kind, uint32_t thresholds, int sign) {
    const size_t base = kind == Total::kHits ? 0 : settings_.iou_thresholds.size();
    const auto part = [&](size_t t, int s) -> std::vector<uint32_t>& { return parts_[(base + t) * kSigns + (s < 0)]; };
    const uint32_t before = thresholds << 1;
    for_each_bit(thresholds & ~before, [&](size_t t) { part(t, sign).push_back(image); });
    for_each_bit(~thresholds & before & settings_.all_thresholds(), [&](size_t t) { part(t, -sign).push_back(image); });
  }

  void add_detections() {
    for (size_t d = 0; d < matched_.image.size();) {
      const size_t begin = d;
      members_.clear();
      do {
        add_member(d++);
      } while (d < matched_.image.size() && matched_.tied[d]);
      add_steps(matched_.image[begin]);
    }
  }

  void add_member(size_t d) {
    const std::vector<Record>& records = matched_.records;
    const bool recorded = record_ < records.size() && records[record_].order == d;
    const size_t record = recorded ? record_++ : 0;
    if (matched_.limit[d] > limit_) return;
    Member member{is_inside(matched_.inside[d]), nullptr, 0};
    if (member.inside) plan_.passes.images.push_back(matched_.image[d]);
    if (recorded) {
      member.match = &match_of(record);
      add_totals(matched_.image[d], member.inside, *member.match);
      // What is a match nowhere and counts as its area says changes nothing.
      const uint32_t all = settings_.all_thresholds();
      const bool changes = (member.match->matched & ~member.match->ignored) != 0 ||
                           (member.match->ignored & all) != (member.inside ? 0 : all);
      if (changes) member.mark = mark();
    }
    members_.push_back(member);
  }

  // The index of the mark at the end of `passes` as they stand.
  uint32_t mark() {
    const uint32_t end = static_cast<uint32_t>(plan_.passes.images.size());
    std::vector<uint32_t>& ends = plan_.passes.ends;
    if (ends.empty() || ends.back() != end) ends.push_back(end);
    return static_cast<uint32_t>(ends.size() - 1);
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
        plan_.steps[t].push_back({member.mark, image, correction, member.hits(t) ? Step::kOneHit : Step::kNoHit});
      }
    }
  }

  void add_group(uint32_t image, size_t t, int32_t counts) {
    Step step{mark(), image, counts, Step::kFirstGroup + static_cast<uint32_t>(plan_.groups.size())};
    Group group{static_cast<uint32_t>(plan_.group_hits.size()), 0, counts};
    int32_t counted = 0;
    for (const Member& member : members_) {
      counted += member.counts(t);
      step.correction -= member.inside;
      if (member.hits(t)) plan_.group_hits.push_back(counted);
    }
    group.hits_end = static_cast<uint32_t>(plan_.group_hits.size());
    plan_.groups.push_back(group);
    plan_.steps[t].push_back(step);
  }

  const MatchedClass& matched_;
  const Settings& settings_;
  const size_t area_;
  const size_t limit_;
  const bool with_precision_;
  size_t record_ = 0;
  std::vector<Member> members_;
  std::vector<std::vector<uint32_t>> parts_;  // images, per kind, threshold and sign
  CurvePlan plan_;
};

}  // namespace

CurvePlan plan_curve(const MatchedClass& matched, const Settings& settings, size_t area, size_t limit,
                     bool with_precision) {
  return Planner(matched, settings, area, limit, with_precision).run();
}

}  // namespace qprof::coco
