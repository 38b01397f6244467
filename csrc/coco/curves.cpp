#include "curves.h"

#include <algorithm>
#include <cmath>

#include "bits.h"

namespace qprof::coco {

uint32_t needed_for_recall(double threshold, uint32_t truths) {
  const double total = truths;
  const double guess = std::ceil(threshold * total);
  uint32_t count = guess >= total ? truths : guess <= 0 ? 0 : static_cast<uint32_t>(guess);
  // The division, not the product, decides: it is what a recall is made by.
  while (count > 0 && (count - 1) / total >= threshold) --count;
  while (count <= truths && count / total < threshold) ++count;
  return count;
}

Curves::Curves(const Detections& detections, const Settings& settings)
    : input_(detections),
      settings_(settings),
      needed_(settings.recall_thresholds.size()),
      hits_(settings.iou_thresholds.size()),
      correction_(settings.iou_thresholds.size()) {
  const size_t columns = settings.areas.size() * settings.max_detections.size();
  precision_.resize(settings.iou_thresholds.size() * settings.recall_thresholds.size() * columns);
  scores_.resize(precision_.size());
  recall_.resize(settings.iou_thresholds.size() * columns);
}

void Curves::write(const MatchedClass& matched, size_t class_index, const Tables& tables) {
  std::fill(precision_.begin(), precision_.end(), -1.0);
  std::fill(scores_.begin(), scores_.end(), -1.0);
  std::fill(recall_.begin(), recall_.end(), -1.0);
  for (size_t area = 0; area < settings_.areas.size(); ++area) {
    const uint32_t truths = matched.truths_in_area[area];
    if (truths == 0) continue;
    for (size_t r = 0; r < needed_.size(); ++r) needed_[r] = needed_for_recall(settings_.recall_thresholds[r], truths);
    for (size_t limit = 0; limit < settings_.max_detections.size(); ++limit) {
      collect(matched, area, limit);
      const size_t column = area * settings_.max_detections.size() + limit;
      const size_t columns = settings_.areas.size() * settings_.max_detections.size();
      for (size_t t = 0; t < hits_.size(); ++t) {
        recall_[t * columns + column] = static_cast<double>(hits_[t].size()) / truths;
        const bool any = matched.detections > 0 && settings_.max_detections[limit] > 0;
        draw(matched, t, column, any);
      }
    }
  }
  copy_out(class_index, tables);
}

// The true positives of every IoU threshold, in order of score.
void Curves::collect(const MatchedClass& matched, size_t area, size_t limit) {
  for (std::vector<Hit>& hits : hits_) hits.clear();
  std::fill(correction_.begin(), correction_.end(), 0);
  const size_t areas = settings_.areas.size();
  const size_t limits = settings_.max_detections.size();
  for (size_t r = 0; r < matched.records.size(); ++r) {
    const Record& record = matched.records[r];
    if (record.limit > limit) continue;
    const AreaMatch& match = matched.matches[r * areas + area];
    // `counts` has this detection at every threshold if it is inside the area, at none if not.
    if (record.inside >> area & 1) {
      for_each_bit(match.ignored, [&](size_t t) { --correction_[t]; });
    } else {
      for_each_bit(settings_.all_thresholds() & ~match.ignored, [&](size_t t) { ++correction_[t]; });
    }
    const uint32_t inside = matched.counts[(r * limits + limit) * areas + area];
    for_each_bit(match.matched & ~match.ignored, [&](size_t t) {
      hits_[t].push_back({static_cast<uint32_t>(inside + correction_[t]), static_cast<uint32_t>(r)});
    });
  }
}

// Precision never falls towards lower recall: at each true positive, the best that it or a later one reaches. Between
// them it only falls, so nothing else is looked at.
void Curves::draw(const MatchedClass& matched, size_t threshold, size_t column, bool any) {
  const std::vector<Hit>& hits = hits_[threshold];
  envelope_.resize(hits.size() + 1);
  double best = 0;
  for (size_t h = hits.size(); h-- > 0;) {
    best = std::max(best, precision_of(static_cast<uint32_t>(h + 1), hits[h].counted));
    envelope_[h] = best;
  }
  const size_t columns = settings_.areas.size() * settings_.max_detections.size();
  const size_t recalls = needed_.size();
  bool reached = true;
  for (size_t r = 0; r < recalls; ++r) {
    double precision = 0;
    double score = 0;
    // As in pycocotools, the first recall that is not reached ends the curve, whatever the order of the thresholds.
    reached = reached && (needed_[r] == 0 ? any : needed_[r] <= hits.size());
    if (reached) {
      const size_t hit = needed_[r] == 0 ? 0 : needed_[r] - 1;
      precision = needed_[r] == 0 ? best : envelope_[hit];
      score = input_.score[needed_[r] == 0 ? matched.first : matched.records[hits[hit].record].position];
    }
    const size_t place = (threshold * recalls + r) * columns + column;
    precision_[place] = precision;
    scores_[place] = score;
  }
}

void Curves::copy_out(size_t class_index, const Tables& tables) const {
  const size_t columns = settings_.areas.size() * settings_.max_detections.size();
  const size_t classes = settings_.classes();
  const size_t rows = settings_.iou_thresholds.size() * settings_.recall_thresholds.size();
  for (size_t row = 0; row < rows; ++row) {
    const size_t place = (row * classes + class_index) * columns;
    std::copy_n(precision_.begin() + static_cast<ptrdiff_t>(row * columns), columns, tables.precision + place);
    std::copy_n(scores_.begin() + static_cast<ptrdiff_t>(row * columns), columns, tables.scores + place);
  }
  for (size_t t = 0; t < settings_.iou_thresholds.size(); ++t) {
    std::copy_n(recall_.begin() + static_cast<ptrdiff_t>(t * columns), columns,
                tables.recall + (t * classes + class_index) * columns);
  }
}

}  // namespace qprof::coco
