#include "curves.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "bits.h"
#include "parallel.h"

namespace qprof::coco {
namespace {

// Classes whose curves are written together: one column of a row of theirs fills a cache line.
constexpr size_t kBlock = 8;

// Scratch memory that one thread uses for block after block of classes.
class Curves {
 public:
  Curves(const Settings& settings, const std::vector<CurveColumn>& columns, const CurveTables& tables)
      : settings_(settings),
        columns_(columns),
        tables_(tables),
        needed_(settings.recall_thresholds.size()),
        hits_(settings.iou_thresholds.size()),
        correction_(settings.iou_thresholds.size()),
        rows_(settings.iou_thresholds.size() * settings.recall_thresholds.size()) {
    if (tables.precision != nullptr) precision_.resize(rows_ * kBlock * columns.size());
    if (tables.scores != nullptr) scores_.resize(rows_ * kBlock * columns.size());
  }

  // The classes from `first` on, at most kBlock of them.
  void write(const MatchedClass* classes, size_t first, size_t count) {
    width_ = count * columns_.size();
    std::fill(precision_.begin(), precision_.end(), -1.0);
    std::fill(scores_.begin(), scores_.end(), -1.0);
    for (size_t c = 0; c < count; ++c) {
      const MatchedClass& matched = classes[first + c];
      for (size_t k = 0; k < columns_.size(); ++k) {
        const uint32_t truths = matched.truths_in_area[columns_[k].area];
        if (truths == 0) continue;
        if (k == 0 || columns_[k].area != columns_[k - 1].area) need(truths);
        collect(matched, columns_[k]);
        const bool any = matched.detections > 0 && settings_.max_detections[columns_[k].limit] > 0;
        for (size_t t = 0; t < hits_.size(); ++t) draw(matched, t, c * columns_.size() + k, any);
      }
    }
    copy_out(precision_, tables_.precision, first);
    copy_out(scores_, tables_.scores, first);
  }

 private:
  // A true positive on one curve: how many detections count up to it, and which record it is.
  struct Hit {
    uint32_t counted;
    uint32_t record;
  };

  void need(uint32_t truths) {
    for (size_t r = 0; r < needed_.size(); ++r) needed_[r] = needed_for_recall(settings_.recall_thresholds[r], truths);
  }

  // The true positives of every IoU threshold, in order of score.
  void collect(const MatchedClass& matched, CurveColumn column) {
    for (std::vector<Hit>& hits : hits_) hits.clear();
    std::fill(correction_.begin(), correction_.end(), 0);
    const size_t areas = settings_.areas.size();
    const size_t limits = settings_.max_detections.size();
    for (size_t r = 0; r < matched.records.size(); ++r) {
      const Record& record = matched.records[r];
      if (record.limit > column.limit) continue;
      const AreaMatch& match = matched.matches[r * areas + column.area];
      // `counts` has this detection at every threshold if it is inside the area, at none if not.
      if (record.inside >> column.area & 1) {
        for_each_bit(match.ignored, [&](size_t t) { --correction_[t]; });
      } else {
        for_each_bit(settings_.all_thresholds() & ~match.ignored, [&](size_t t) { ++correction_[t]; });
      }
      const uint32_t inside = matched.counts[(r * limits + column.limit) * areas + column.area];
      for_each_bit(match.matched & ~match.ignored, [&](size_t t) {
        hits_[t].push_back({static_cast<uint32_t>(inside + correction_[t]), static_cast<uint32_t>(r)});
      });
    }
  }

  // Precision never falls towards lower recall: at each true positive, the best that it or a later one reaches. Between
  // them it only falls, so nothing else is looked at.
  void draw(const MatchedClass& matched, size_t threshold, size_t place, bool any) {
    const std::vector<Hit>& hits = hits_[threshold];
    envelope_.resize(hits.size() + 1);
    double best = 0;
    for (size_t h = hits.size(); h-- > 0;) {
      best = std::max(best, precision_of(static_cast<uint32_t>(h + 1), hits[h].counted));
      envelope_[h] = best;
    }
    const size_t recalls = needed_.size();
    place += threshold * recalls * width_;
    bool reached = true;
    for (size_t r = 0; r < recalls; ++r, place += width_) {
      // As in pycocotools, the first recall that is not reached ends the curve, whatever the order of the thresholds.
      reached = reached && (needed_[r] == 0 ? any : needed_[r] <= hits.size());
      const size_t hit = needed_[r] == 0 ? 0 : needed_[r] - 1;
      if (tables_.precision != nullptr) {
        precision_[place] = !reached ? 0 : needed_[r] == 0 ? best : envelope_[hit];
      }
      if (tables_.scores != nullptr) {
        scores_[place] = !reached ? 0 : needed_[r] == 0 ? matched.first_score : matched.records[hits[hit].record].score;
      }
    }
  }

  void copy_out(const std::vector<double>& block, double* table, size_t first) const {
    if (table == nullptr) return;
    const size_t stride = settings_.classes() * columns_.size();
    for (size_t row = 0; row < rows_; ++row) {
      std::copy_n(block.data() + row * width_, width_, table + row * stride + first * columns_.size());
    }
  }

  const Settings& settings_;
  const std::vector<CurveColumn>& columns_;
  const CurveTables tables_;
  std::vector<uint32_t> needed_;        // per recall threshold: true positives
  std::vector<std::vector<Hit>> hits_;  // per IoU threshold
  std::vector<int64_t> correction_;     // per IoU threshold: detections counted beyond those inside the area
  std::vector<double> envelope_;
  // The block's own part of the tables, [threshold, recall, class, column], so that each line of them is written once.
  const size_t rows_;
  size_t width_ = 0;
  std::vector<double> precision_;
  std::vector<double> scores_;
};

}  // namespace

uint32_t needed_for_recall(double threshold, uint32_t truths) {
  const double total = truths;
  const double guess = std::ceil(threshold * total);
  uint32_t count = guess >= total ? truths : guess <= 0 ? 0 : static_cast<uint32_t>(guess);
  // The division, not the product, decides: it is what a recall is made by.
  while (count > 0 && (count - 1) / total >= threshold) --count;
  while (count <= truths && count / total < threshold) ++count;
  return count;
}

void draw_curves(const std::vector<MatchedClass>& classes, const Settings& settings,
                 const std::vector<CurveColumn>& columns, const CurveTables& tables) {
  std::vector<std::unique_ptr<Curves>> workers(std::max(1u, settings.threads));
  for_each_task((classes.size() + kBlock - 1) / kBlock, settings.threads, [&](size_t block, unsigned w) {
    if (!workers[w]) workers[w] = std::make_unique<Curves>(settings, columns, tables);
    const size_t first = block * kBlock;
    workers[w]->write(classes.data(), first, std::min(kBlock, classes.size() - first));
  });
}

void write_recall(const MatchedClass& matched, const Settings& settings, size_t class_index, double* recall) {
  const size_t areas = settings.areas.size();
  const size_t limits = settings.max_detections.size();
  const size_t thresholds = settings.iou_thresholds.size();
  // Per threshold, area and limit: the true positives that this limit lets in, and the ones before do not.
  std::vector<uint32_t> hits(thresholds * areas * limits);
  for (size_t r = 0; r < matched.records.size(); ++r) {
    for (size_t a = 0; a < areas; ++a) {
      const AreaMatch& match = matched.matches[r * areas + a];
      for_each_bit(match.matched & ~match.ignored,
                   [&](size_t t) { ++hits[(t * areas + a) * limits + matched.records[r].limit]; });
    }
  }
  for (size_t t = 0; t < thresholds; ++t) {
    for (size_t a = 0; a < areas; ++a) {
      const uint32_t truths = matched.truths_in_area[a];
      double* const out = recall + ((t * settings.classes() + class_index) * areas + a) * limits;
      uint32_t total = 0;
      for (size_t limit = 0; limit < limits; ++limit) {
        total += hits[(t * areas + a) * limits + limit];
        out[limit] = truths == 0 ? -1.0 : static_cast<double>(total) / truths;
      }
    }
  }
}

}  // namespace qprof::coco
