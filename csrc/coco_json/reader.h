// COCO files as columns: a list of detections ("results"), or ground truth ("instances").
#pragma once

#include <string>

#include "tables.h"
#include "text.h"

namespace qprof::coco_json {

struct GroundTruth {
  Images images;
  Categories categories;
  Annotations annotations;
};

// Both return what is wrong with the text, in one line without the file's name, or nothing.
std::string read_results(const Text& text, int threads, Detections& detections);
std::string read_ground_truth(const Text& text, int threads, GroundTruth& truth);

}  // namespace qprof::coco_json
