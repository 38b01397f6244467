// Who was matched to whom, image by image, as pycocotools' `evalImgs` lists it.
#pragma once

#include <cstdint>
#include <vector>

#include "inputs.h"
#include "matching.h"

namespace qprof::coco {

// Of one class in one area. Detections stand by image and within it by descending score; ground truths by image, those
// to be ignored last. Matrices are [threshold, element]; matches are positions in the input, -1 for none.
struct CategoryMatches {
  std::vector<int64_t> detection_begins;  // per image, and the end
  std::vector<int32_t> detections;
  std::vector<int32_t> detection_matches;
  std::vector<uint8_t> detection_ignored;
  std::vector<int64_t> truth_begins;
  std::vector<int32_t> truths;
  std::vector<int32_t> truth_matches;
  std::vector<uint8_t> truth_ignored;
};

CategoryMatches category_matches(const MatchedClass& matched, const Settings& settings, size_t area);

// Of all classes at one threshold in one area, by position in the input: the ground truth's position, -1 for none, -2
// for a detection that was left out (no such category, or beyond the highest limit), and whether it is ignored.
void assignments(const std::vector<MatchedClass>& classes, const Settings& settings, size_t threshold, size_t area,
                 int32_t* truths, uint8_t* ignored, size_t detections);

}  // namespace qprof::coco
