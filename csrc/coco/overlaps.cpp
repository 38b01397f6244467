#include "overlaps.h"

#include <algorithm>
#include <vector>

#include "grouping.h"
#include "parallel.h"

namespace qprof::coco {
namespace {

constexpr size_t kPart = 1 << 14;

double iou(const double* detection, const double* truth, bool crowd) {
  const double width = std::min(detection[2] + detection[0], truth[2] + truth[0]) - std::max(detection[0], truth[0]);
  const double height = std::min(detection[3] + detection[1], truth[3] + truth[1]) - std::max(detection[1], truth[1]);
  if (!(width > 0 && height > 0)) return 0;
  const double shared = width * height;
  const double area = detection[2] * detection[3];
  return shared / (crowd ? area : area + truth[2] * truth[3] - shared);
}

// Positions of the ground truths by image.
struct ByImage {
  std::vector<size_t> begins;
  std::vector<uint32_t> positions;

  ByImage(const GroundTruths& truths, size_t images) : begins(images + 1, 0) {
    for (size_t i = 0; i < truths.count; ++i) {
      if (present(truths, i)) ++begins[static_cast<size_t>(truths.image[i]) + 1];
    }
    for (size_t i = 0; i < images; ++i) begins[i + 1] += begins[i];
    positions.resize(begins[images]);
    std::vector<size_t> next(begins.begin(), begins.end() - 1);
    for (size_t i = 0; i < truths.count; ++i) {
      if (present(truths, i)) positions[next[static_cast<size_t>(truths.image[i])]++] = static_cast<uint32_t>(i);
    }
  }

  static bool present(const GroundTruths& truths, size_t i) { return truths.image[i] >= 0 && truths.category[i] >= 0; }
};

}  // namespace

void best_overlaps(const GroundTruths& truths, const Detections& detections, const Settings& settings,
                   const Overlaps& out) {
  check_ground_truths(truths, settings);
  check_detections(detections, settings);
  const ByImage by_image(truths, settings.images);
  for_each_task((detections.count + kPart - 1) / kPart, settings.threads, [&](size_t part, unsigned) {
    for (size_t d = part * kPart; d < std::min(detections.count, (part + 1) * kPart); ++d) {
      out.same_iou[d] = out.other_iou[d] = 0;
      out.same_truth[d] = out.other_truth[d] = -1;
      if (detections.image[d] < 0 || detections.category[d] < 0) continue;
      const size_t image = static_cast<size_t>(detections.image[d]);
      for (size_t i = by_image.begins[image]; i < by_image.begins[image + 1]; ++i) {
        const uint32_t truth = by_image.positions[i];
        const double value = iou(detections.box.at(d), truths.box.at(truth), truths.crowd[truth] != 0);
        const bool same = truths.category[truth] == detections.category[d];
        double& best = same ? out.same_iou[d] : out.other_iou[d];
        if (!(value > best)) continue;
        best = value;
        (same ? out.same_truth : out.other_truth)[d] = static_cast<int32_t>(truth);
      }
    }
  });
}

}  // namespace qprof::coco
