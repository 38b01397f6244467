#include "matching.h"

#include <algorithm>
#include <cmath>
#include <limits>
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

void MatchedClass::clear() {
  truths.clear();
  truths_in_area.clear();
  records.clear();
  matches.clear();
  counts.clear();
  position.clear();
  image.clear();
  inside.clear();
  limit.clear();
  tied.clear();
  assigned.clear();
  detections = 0;
  first = 0;
}

Matcher::Matcher(const GroundTruths& truths, const Detections& detections, const Settings& settings)
    : input_truths_(truths), input_detections_(detections), settings_(settings), images_(settings.images) {
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

void Matcher::match(std::span<const uint32_t> truths, std::span<const Candidate> detections, MatchedClass& out) {
  out.clear();
  take_truths(truths, out);
  order_.sort(detections);
  std::fill(inside_counts_.begin(), inside_counts_.end(), 0);
  const size_t areas = settings_.areas.size();
  const std::vector<uint32_t>& limits = settings_.max_detections;
  const uint32_t most = limits.empty() ? 0 : limits.back();
  const Candidate* last = nullptr;
  for (size_t i = 0; i < order_.size(); ++i) {
    if (i + kPrefetch < order_.size()) {
      prefetch_box(input_detections_.box.at(detections[order_[i + kPrefetch]].position));
    }
    if (i + 2 * kPrefetch < order_.size()) __builtin_prefetch(&detections[order_[i + 2 * kPrefetch]]);
    const Candidate& candidate = detections[order_[i]];
    ImageState& state = images_[candidate.image];
    const uint32_t rank = state.rank++;
    if (rank >= most) continue;
    uint16_t limit = 0;
    while (rank >= limits[limit]) ++limit;
    const double* box = input_detections_.box.at(candidate.position);
    const double area = input_detections_.area ? input_detections_.area[candidate.position] : box[2] * box[3];
    const uint16_t inside = areas_of(area);
    for (size_t a = 0; a < areas; ++a) inside_counts_[limit * areas + a] += inside >> a & 1;
    if (out.detections == 0) out.first = candidate.position;
    if (settings_.keep) {
      out.position.push_back(candidate.position);
      out.image.push_back(candidate.image);
      out.inside.push_back(inside);
      out.limit.push_back(limit);
      out.tied.push_back(last != nullptr && last->key == candidate.key && last->image == candidate.image);
    }
    if (state.cell != 0) {
      if (input_detections_.given_begin) {
        take_given_contacts(candidate.position, cells_[state.cell]);
      } else {
        find_contacts(box, cells_[state.cell], out);
      }
      if (!contacts_.empty()) {
        assign(out);
        const Record record{candidate.position, candidate.image, static_cast<uint32_t>(out.detections), inside, limit};
        if (std::any_of(given_.begin(), given_.end(), [](uint32_t bits) { return bits != 0; })) add_record(record, out);
      }
    }
    ++out.detections;
    last = &candidate;
  }
  for (const Truth& truth : out.truths) images_[truth.image] = {};
  for (const Candidate& candidate : detections) images_[candidate.image] = {};
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

// Groups the class's ground truths by image, in their order, and enters each group in the image's state.
void Matcher::take_truths(std::span<const uint32_t> positions, MatchedClass& out) {
  cells_.assign(1, Cell{0, 0});
  for (uint32_t position : positions) {
    ImageState& state = images_[static_cast<size_t>(input_truths_.image[position])];
    if (state.cell == 0) {
      state.cell = static_cast<uint32_t>(cells_.size());
      cells_.push_back({0, 0});
    }
    ++cells_[state.cell].end;
  }
  uint32_t total = 0;
  for (Cell& cell : cells_) {
    const uint32_t count = cell.end;
    cell.begin = cell.end = total;
    total += count;
  }
  const size_t areas = settings_.areas.size();
  out.truths.resize(positions.size());
  out.truths_in_area.assign(areas, 0);
  for (uint32_t position : positions) {
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
    out.truths[cells_[images_[truth.image].cell].end++] = truth;
  }
  taken_.assign(positions.size() * areas, 0);
}

// The ground truths of the cell that overlap enough for the lowest threshold.
void Matcher::find_contacts(const double* box, Cell cell, const MatchedClass& out) {
  const bool every_pair = !(screen_ > 0);
  const bool ordinary = collect_contacts(box, cell, out, every_pair);
  // Boxes so small or so large that 0 is divided by 0: in pycocotools an IoU of NaN passes every threshold, and any IoU
  // at all is then the better one.
  if (!ordinary) collect_contacts(box, cell, out, true);
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
bool Matcher::collect_contacts(const double* box, Cell cell, const MatchedClass& out, bool every_pair) {
  contacts_.clear();
  bool ordinary = true;
  const double right = box[2] + box[0];
  const double bottom = box[3] + box[1];
  const double area = box[2] * box[3];
  for (uint32_t g = cell.begin; g < cell.end; ++g) {
    const Truth& truth = out.truths[g];
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

void Matcher::assign(MatchedClass& out) {
  std::fill(current_.begin(), current_.end(), AreaMatch{});
  std::fill(given_.begin(), given_.end(), 0);
  if (settings_.keep) std::fill(current_truths_.begin(), current_truths_.end(), -1);
  if (contacts_.size() == 1) {
    assign_one(contacts_[0], out);
  } else {
    for (size_t a = 0; a < current_.size(); ++a) assign_best(a, out);
  }
}

// The usual case: with one ground truth in reach there is nothing to compare, at any threshold.
void Matcher::assign_one(const Contact& contact, const MatchedClass& out) {
  uint32_t reached = 0;
  for (size_t t = 0; t < limits_.size(); ++t) reached |= static_cast<uint32_t>(!(contact.iou < limits_[t])) << t;
  const bool crowd = out.truths[contact.truth].crowd;
  for (size_t a = 0; a < current_.size(); ++a) {
    const uint32_t free = crowd ? reached : reached & ~taken_[contact.truth * current_.size() + a];
    if (free != 0) give(a, free, contact.truth, out);
  }
}

// Per threshold: the largest IoU among the free ground truths that count in this area, the last of equal ones; only
// where there is none, the same among the ignored ones.
void Matcher::assign_best(size_t area, const MatchedClass& out) {
  const size_t areas = current_.size();
  for (size_t t = 0; t < limits_.size(); ++t) {
    const Contact* chosen = nullptr;
    for (unsigned ignored = 0; ignored < 2 && chosen == nullptr; ++ignored) {
      double best = limits_[t];
      for (const Contact& contact : contacts_) {
        const Truth& truth = out.truths[contact.truth];
        if ((truth.ignored >> area & 1u) != ignored || contact.iou < best) continue;
        if (!truth.crowd && (taken_[contact.truth * areas + area] >> t & 1)) continue;
        best = contact.iou;
        chosen = &contact;
      }
    }
    if (chosen != nullptr) give(area, 1u << t, chosen->truth, out);
  }
}

void Matcher::give(size_t area, uint32_t thresholds, uint32_t truth_index, const MatchedClass& out) {
  const Truth& truth = out.truths[truth_index];
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

void Matcher::add_record(const Record& record, MatchedClass& out) {
  const size_t areas = settings_.areas.size();
  out.records.push_back(record);
  for (size_t a = 0; a < areas; ++a) {
    AreaMatch match = current_[a];
    // Without a match, a detection outside the area is neither right nor wrong.
    if (!(record.inside >> a & 1)) match.ignored |= settings_.all_thresholds() & ~match.matched;
    out.matches.push_back(match);
  }
  for (size_t limit = 0; limit < settings_.max_detections.size(); ++limit) {
    for (size_t a = 0; a < areas; ++a) {
      const uint32_t below = limit == 0 ? 0 : out.counts[out.counts.size() - areas];
      out.counts.push_back(below + static_cast<uint32_t>(inside_counts_[limit * areas + a]));
    }
  }
  if (settings_.keep) out.assigned.insert(out.assigned.end(), current_truths_.begin(), current_truths_.end());
}

}  // namespace qprof::coco
