#include "matching.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>

namespace qprof::coco {
namespace {

// The order of score jumps about the input: boxes are asked for this many detections ahead.
constexpr size_t kPrefetch = 16;

// Both ends, for a box may lie across two cache lines.
void prefetch_box(const double* box) {
  __builtin_prefetch(box);
  __builtin_prefetch(box + 3);
}

}  // namespace

Matcher::Matcher(const GroundTruths& truths, const Detections& detections, const Settings& settings)
    : input_truths_(truths), input_detections_(detections), settings_(settings) {
  // An IoU of 1 must pass a threshold of 1 in spite of rounding: pycocotools' own bound.
  for (double threshold : settings.iou_thresholds) limits_.push_back(std::min(threshold, 1 - 1e-10));
  lowest_limit_ =
      limits_.empty() ? std::numeric_limits<double>::infinity() : *std::min_element(limits_.begin(), limits_.end());
  screen_ = lowest_limit_ * (1 - 1e-9);
  current_.resize(settings.areas.size());
  given_.resize(settings.areas.size());
  current_truths_.resize(settings.areas.size() * limits_.size());
  inside_counts_.resize(settings.max_detections.size() * settings.areas.size());
}

MatchedClass Matcher::match(std::span<const uint32_t> truths, std::span<const Candidate> detections) {
  MatchedClass out;
  take_truths(truths, out);
  found_.clear();
  found_matches_.clear();
  found_truths_.clear();
  outcomes_.resize(detections.size());
  Cell cell{0, 0};
  const uint32_t all_truths = static_cast<uint32_t>(truths_.size());
  for (size_t begin = 0, end = 0; begin < detections.size(); begin = end) {
    const uint32_t image = detections[begin].image;
    while (end < detections.size() && detections[end].image == image) ++end;
    for (cell.begin = cell.end; cell.begin < all_truths && truths_[cell.begin].image < image;) ++cell.begin;
    for (cell.end = cell.begin; cell.end < all_truths && truths_[cell.end].image == image;) ++cell.end;
    match_image(detections, begin, end, cell);
  }
  put_in_order(detections, out);
  if (settings_.keep) out.truths = truths_;
  return out;
}

void Matcher::match_image(std::span<const Candidate> detections, size_t begin, size_t end, Cell cell) {
  auto by_score = [](const Candidate& a, const Candidate& b) { return a.key < b.key; };
  const bool sorted = std::is_sorted(detections.begin() + static_cast<ptrdiff_t>(begin),
                                     detections.begin() + static_cast<ptrdiff_t>(end), by_score);
  if (!sorted) {
    ranks_.resize(end - begin);
    std::iota(ranks_.begin(), ranks_.end(), static_cast<uint32_t>(begin));
    std::sort(ranks_.begin(), ranks_.end(), [&](uint32_t a, uint32_t b) {
      return detections[a].key != detections[b].key ? detections[a].key < detections[b].key : a < b;
    });
  }
  const std::vector<uint32_t>& limits = settings_.max_detections;
  const size_t most = limits.empty() ? 0 : limits.back();
  uint16_t limit = 0;
  for (size_t rank = 0; rank < end - begin; ++rank) {
    if (begin + rank + kPrefetch < detections.size()) {
      prefetch_box(input_detections_.box.at(detections[begin + rank + kPrefetch].position));
    }
    const size_t i = sorted ? begin + rank : ranks_[rank];
    if (rank >= most) {
      outcomes_[i].limit = kLeftOut;
      continue;
    }
    while (rank >= limits[limit]) ++limit;
    match_detection(detections[i], limit, cell, outcomes_[i]);
  }
}

void Matcher::match_detection(const Candidate& candidate, uint16_t limit, Cell cell, Outcome& outcome) {
  const double* box = input_detections_.box.at(candidate.position);
  const double area = input_detections_.area ? input_detections_.area[candidate.position] : box[2] * box[3];
  outcome = {areas_of(area), limit, kNoRecord};
  if (cell.begin == cell.end) return;
  if (input_detections_.given_begin) {
    take_given_contacts(candidate.position, cell);
  } else {
    find_contacts(box, cell);
  }
  if (contacts_.empty()) return;
  assign();
  if (std::all_of(given_.begin(), given_.end(), [](uint32_t bits) { return bits == 0; })) return;
  outcome.record = static_cast<uint32_t>(found_.size());
  add_match(candidate, outcome);
}

uint16_t Matcher::areas_of(double area) const {
  unsigned inside = 0;
  for (size_t a = 0; a < settings_.areas.size(); ++a) {
    const AreaRange& range = settings_.areas[a];
    const bool outside = (area < range.low) | (area > range.high);
    inside |= static_cast<unsigned>(!outside) << a;
  }
  return static_cast<uint16_t>(inside);
}

void Matcher::take_truths(std::span<const uint32_t> positions, MatchedClass& out) {
  const size_t areas = settings_.areas.size();
  truths_.resize(positions.size());
  out.truths_in_area.assign(areas, 0);
  for (size_t i = 0; i < positions.size(); ++i) {
    if (i + kPrefetch < positions.size()) prefetch_box(input_truths_.box.at(positions[i + kPrefetch]));
    const uint32_t position = positions[i];
    const double* box = input_truths_.box.at(position);
    Truth truth{};
    truth.x = box[0];
    truth.y = box[1];
    truth.right = box[2] + box[0];
    truth.bottom = box[3] + box[1];
    truth.area = box[2] * box[3];
    truth.position = position;
    truth.image = static_cast<uint32_t>(input_truths_.image[position]);
    truth.crowd = input_truths_.crowd[position] != 0;
    truth.counts = settings_.match_id_zero || input_truths_.id[position] != 0;
    const bool always_ignored = truth.crowd || (input_truths_.ignore && input_truths_.ignore[position] != 0);
    const unsigned all_areas = (1u << areas) - 1;
    const unsigned inside = always_ignored ? 0 : areas_of(input_truths_.area[position]);
    truth.ignored = static_cast<uint16_t>(all_areas & ~inside);
    for (size_t a = 0; a < areas; ++a) out.truths_in_area[a] += inside >> a & 1;
    truths_[i] = truth;
  }
  taken_.assign(positions.size() * areas, 0);
}

// The ground truths of the cell that overlap enough for the lowest threshold.
void Matcher::find_contacts(const double* box, Cell cell) {
  const bool every_pair = !(screen_ > 0);
  const bool ordinary = collect_contacts(box, cell, every_pair);
  // Boxes so small or so large that 0 is divided by 0: in pycocotools an IoU of NaN passes every threshold, and any IoU
  // at all is then the better one.
  if (!ordinary) collect_contacts(box, cell, true);
}

// As `find_contacts`, from IoUs that the caller has.
void Matcher::take_given_contacts(uint32_t position, Cell cell) {
  contacts_.clear();
  const int64_t begin = input_detections_.given_begin[position];
  if (begin < 0) return;
  const size_t count = cell.end - cell.begin;
  if (static_cast<size_t>(begin) > input_detections_.given_count ||
      input_detections_.given_count - static_cast<size_t>(begin) < count) {
    throw std::invalid_argument("detection " + std::to_string(position) + ": fewer IoUs given than ground truths");
  }
  const double* ious = input_detections_.given_ious + begin;
  // NaN passes every threshold, and any IoU at all is then the better one: see `find_contacts`.
  const bool every_pair = std::any_of(ious, ious + count, [](double iou) { return std::isnan(iou); });
  for (uint32_t g = 0; g < count; ++g) {
    if (every_pair || !(ious[g] < lowest_limit_)) contacts_.push_back({cell.begin + g, ious[g]});
  }
}

// Returns whether no IoU is NaN. Each operation is rounded as in pycocotools' bbIou.
bool Matcher::collect_contacts(const double* box, Cell cell, bool every_pair) {
  contacts_.clear();
  bool ordinary = true;
  const double right = box[2] + box[0];
  const double bottom = box[3] + box[1];
  const double area = box[2] * box[3];
  for (uint32_t g = cell.begin; g < cell.end; ++g) {
    const Truth& truth = truths_[g];
    const double width = std::min(right, truth.right) - std::max(box[0], truth.x);
    const double height = std::min(bottom, truth.bottom) - std::max(box[1], truth.y);
    const double shared = width * height;
    const double whole = truth.crowd ? area : area + truth.area - shared;
    const bool overlap = (width > 0) & (height > 0);
    const bool enough = overlap & !(shared < whole * screen_);
    if (!(enough | every_pair)) continue;
    const double iou = overlap ? shared / whole : 0.0;
    ordinary &= !std::isnan(iou);
    if (every_pair || !(iou < lowest_limit_)) contacts_.push_back({g, iou});
  }
  return ordinary;
}

void Matcher::assign() {
  std::fill(current_.begin(), current_.end(), AreaMatch{});
  std::fill(given_.begin(), given_.end(), 0);
  if (settings_.keep) std::fill(current_truths_.begin(), current_truths_.end(), -1);
  if (contacts_.size() == 1) {
    assign_one(contacts_[0]);
  } else {
    for (size_t a = 0; a < current_.size(); ++a) assign_best(a);
  }
}

// The usual case: with one ground truth in reach there is nothing to compare, at any threshold.
void Matcher::assign_one(const Contact& contact) {
  uint32_t reached = 0;
  for (size_t t = 0; t < limits_.size(); ++t) reached |= static_cast<uint32_t>(!(contact.iou < limits_[t])) << t;
  const bool crowd = truths_[contact.truth].crowd;
  for (size_t a = 0; a < current_.size(); ++a) {
    const uint32_t free = crowd ? reached : reached & ~taken_[contact.truth * current_.size() + a];
    if (free != 0) give(a, free, contact.truth);
  }
}

// Per threshold: the largest IoU among the free ground truths that count in this area, the last of equal ones; only
// where there is none, the same among the ignored ones.
void Matcher::assign_best(size_t area) {
  const size_t areas = current_.size();
  for (size_t t = 0; t < limits_.size(); ++t) {
    const Contact* chosen = nullptr;
    for (unsigned ignored = 0; ignored < 2 && chosen == nullptr; ++ignored) {
      double best = limits_[t];
      for (const Contact& contact : contacts_) {
        const Truth& truth = truths_[contact.truth];
        if ((truth.ignored >> area & 1u) != ignored || contact.iou < best) continue;
        if (!truth.crowd && (taken_[contact.truth * areas + area] >> t & 1)) continue;
        best = contact.iou;
        chosen = &contact;
      }
    }
    if (chosen != nullptr) give(area, 1u << t, chosen->truth);
  }
}

void Matcher::give(size_t area, uint32_t thresholds, uint32_t truth_index) {
  const Truth& truth = truths_[truth_index];
  taken_[truth_index * current_.size() + area] |= thresholds;
  given_[area] |= thresholds;
  if (truth.counts) current_[area].matched |= thresholds;
  if (truth.ignored >> area & 1) current_[area].ignored |= thresholds;
  if (settings_.keep) {
    for (size_t t = 0; t < limits_.size(); ++t) {
      if (thresholds >> t & 1) current_truths_[area * limits_.size() + t] = static_cast<int32_t>(truth_index);
    }
  }
}

void Matcher::add_match(const Candidate& candidate, const Outcome& outcome) {
  found_.push_back({input_detections_.score[candidate.position], candidate.position, candidate.image, 0, outcome.inside,
                    outcome.limit});
  for (size_t a = 0; a < current_.size(); ++a) {
    AreaMatch match = current_[a];
    // Without a match, a detection outside the area is neither right nor wrong.
    if (!(outcome.inside >> a & 1)) match.ignored |= settings_.all_thresholds() & ~match.matched;
    found_matches_.push_back(match);
  }
  if (settings_.keep) found_truths_.insert(found_truths_.end(), current_truths_.begin(), current_truths_.end());
}

// Walks over all detections, best score first, and counts on the way.
void Matcher::put_in_order(std::span<const Candidate> detections, MatchedClass& out) {
  order_.sort(detections, [&](size_t i) { return outcomes_[i].limit == kLeftOut; });
  const size_t areas = settings_.areas.size();
  out.detections = order_.size();
  out.records.reserve(found_.size());
  out.matches.reserve(found_matches_.size());
  out.assigned.reserve(found_truths_.size());
  out.counts.reserve(found_.size() * inside_counts_.size());
  if (settings_.keep) {
    out.position.reserve(order_.size());
    out.image.reserve(order_.size());
    out.inside.reserve(order_.size());
    out.limit.reserve(order_.size());
    out.tied.reserve(order_.size());
  }
  if (out.detections > 0) out.first_score = input_detections_.score[detections[order_[0]].position];
  std::fill(inside_counts_.begin(), inside_counts_.end(), 0);
  const Candidate* last = nullptr;
  for (size_t rank = 0; rank < order_.size(); ++rank) {
    if (rank + kPrefetch < order_.size()) __builtin_prefetch(&outcomes_[order_[rank + kPrefetch]]);
    const Outcome outcome = outcomes_[order_[rank]];
    uint32_t* counts = inside_counts_.data() + outcome.limit * areas;
    for (size_t a = 0; a < areas; ++a) counts[a] += outcome.inside >> a & 1u;
    if (settings_.keep) {
      const Candidate& candidate = detections[order_[rank]];
      out.position.push_back(candidate.position);
      out.image.push_back(candidate.image);
      out.inside.push_back(outcome.inside);
      out.limit.push_back(outcome.limit);
      out.tied.push_back(last != nullptr && last->key == candidate.key && last->image == candidate.image);
      last = &candidate;
    }
    if (outcome.record == kNoRecord) continue;
    put_record(outcome, out);
    out.records.back().order = static_cast<uint32_t>(rank);
  }
}

void Matcher::put_record(const Outcome& outcome, MatchedClass& out) {
  const size_t areas = settings_.areas.size();
  out.records.push_back(found_[outcome.record]);
  const auto matches = found_matches_.begin() + static_cast<ptrdiff_t>(outcome.record * areas);
  out.matches.insert(out.matches.end(), matches, matches + static_cast<ptrdiff_t>(areas));
  for (size_t limit = 0; limit < settings_.max_detections.size(); ++limit) {
    for (size_t a = 0; a < areas; ++a) {
      const uint32_t below = limit == 0 ? 0 : out.counts[out.counts.size() - areas];
      out.counts.push_back(below + inside_counts_[limit * areas + a]);
    }
  }
  if (settings_.keep) {
    const auto truths = found_truths_.begin() + static_cast<ptrdiff_t>(outcome.record * current_truths_.size());
    out.assigned.insert(out.assigned.end(), truths, truths + static_cast<ptrdiff_t>(current_truths_.size()));
  }
}

}  // namespace qprof::coco
