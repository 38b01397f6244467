#include "category_matches.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace qprof::coco {
namespace {

// Where the elements of each image begin, given each element's image.
template <class ImageOf>
std::vector<int64_t> begins_by_image(size_t elements, size_t images, ImageOf image_of) {
  std::vector<int64_t> begins(images + 1, 0);
  for (size_t i = 0; i < elements; ++i) ++begins[image_of(i) + 1];
  std::partial_sum(begins.begin(), begins.end(), begins.begin());
  return begins;
}

// Per element its place when sorted, stably, by image.
template <class ImageOf>
std::vector<size_t> places_by_image(std::vector<int64_t> begins, size_t elements, ImageOf image_of) {
  std::vector<size_t> places(elements);
  for (size_t i = 0; i < elements; ++i) places[i] = static_cast<size_t>(begins[image_of(i)]++);
  return places;
}

class Listing {
 public:
  Listing(const MatchedClass& matched, const Settings& settings, size_t area)
      : matched_(matched), settings_(settings), area_(area), thresholds_(settings.iou_thresholds.size()) {}

  CategoryMatches run() {
    place_truths();
    place_detections();
    for (size_t r = 0; r < matched_.records.size(); ++r) enter(r);
    return std::move(out_);
  }

 private:
  bool ignored(const Truth& truth) const { return truth.ignored >> area_ & 1; }

  void place_truths() {
    const std::vector<Truth>& truths = matched_.truths;
    std::vector<size_t> order(truths.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_partition(order.begin(), order.end(), [&](size_t i) { return !ignored(truths[i]); });
    auto image_of = [&](size_t i) { return truths[order[i]].image; };
    out_.truth_begins = begins_by_image(truths.size(), settings_.images, image_of);
    const std::vector<size_t> places = places_by_image(out_.truth_begins, truths.size(), image_of);
    truth_place_.resize(truths.size());
    out_.truths.resize(truths.size());
    out_.truth_ignored.resize(truths.size());
    out_.truth_matches.assign(thresholds_ * truths.size(), -1);
    for (size_t i = 0; i < truths.size(); ++i) {
      truth_place_[order[i]] = places[i];
      out_.truths[places[i]] = static_cast<int32_t>(truths[order[i]].position);
      out_.truth_ignored[places[i]] = ignored(truths[order[i]]);
    }
  }

  void place_detections() {
    const size_t count = matched_.position.size();
    auto image_of = [&](size_t i) { return matched_.image[i]; };
    out_.detection_begins = begins_by_image(count, settings_.images, image_of);
    detection_place_ = places_by_image(out_.detection_begins, count, image_of);
    out_.detections.resize(count);
    out_.detection_matches.assign(thresholds_ * count, -1);
    out_.detection_ignored.resize(thresholds_ * count);
    for (size_t i = 0; i < count; ++i) {
      out_.detections[detection_place_[i]] = static_cast<int32_t>(matched_.position[i]);
      const bool outside = !(matched_.inside[i] >> area_ & 1);
      for (size_t t = 0; t < thresholds_; ++t) out_.detection_ignored[t * count + detection_place_[i]] = outside;
    }
  }

  void enter(size_t r) {
    const Record& record = matched_.records[r];
    const size_t areas = settings_.areas.size();
    const AreaMatch& match = matched_.matches[r * areas + area_];
    const int32_t* assigned = matched_.assigned.data() + (r * areas + area_) * thresholds_;
    const size_t place = detection_place_[record.order];
    for (size_t t = 0; t < thresholds_; ++t) {
      const size_t cell = t * out_.detections.size() + place;
      out_.detection_ignored[cell] = match.ignored >> t & 1;
      if (assigned[t] < 0) continue;
      const size_t truth = static_cast<size_t>(assigned[t]);
      out_.detection_matches[cell] = static_cast<int32_t>(matched_.truths[truth].position);
      out_.truth_matches[t * out_.truths.size() + truth_place_[truth]] = static_cast<int32_t>(record.position);
    }
  }

  const MatchedClass& matched_;
  const Settings& settings_;
  const size_t area_;
  const size_t thresholds_;
  std::vector<size_t> truth_place_;
  std::vector<size_t> detection_place_;
  CategoryMatches out_;
};

}  // namespace

CategoryMatches category_matches(const MatchedClass& matched, const Settings& settings, size_t area) {
  return Listing(matched, settings, area).run();
}

void assignments(const std::vector<MatchedClass>& classes, const Settings& settings, size_t threshold, size_t area,
                 int32_t* truths, uint8_t* ignored, size_t detections) {
  std::fill_n(truths, detections, -2);
  std::fill_n(ignored, detections, uint8_t{0});
  const size_t areas = settings.areas.size();
  const size_t thresholds = settings.iou_thresholds.size();
  for (const MatchedClass& matched : classes) {
    for (size_t d = 0; d < matched.position.size(); ++d) {
      truths[matched.position[d]] = -1;
      ignored[matched.position[d]] = !(matched.inside[d] >> area & 1);
    }
    for (size_t r = 0; r < matched.records.size(); ++r) {
      const uint32_t position = matched.records[r].position;
      const AreaMatch& match = matched.matches[r * areas + area];
      ignored[position] = match.ignored >> threshold & 1;
      const int32_t truth = matched.assigned[(r * areas + area) * thresholds + threshold];
      if (truth >= 0 && matched.truths[static_cast<size_t>(truth)].counts) {
        truths[position] = static_cast<int32_t>(matched.truths[static_cast<size_t>(truth)].position);
      }
    }
  }
}

}  // namespace qprof::coco
