// Detections and ground truths by class, and within it by image.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "inputs.h"
#include "large_array.h"

namespace qprof::coco {

// A detection as the matching meets it. `key` ascends as the score descends.
struct Candidate {
  uint64_t key;
  uint32_t position;  // in the input
  uint32_t image;
};

// The elements of class c are [begins[c], begins[c + 1]): by image, and of one image in input order (without
// categories: by category first).
template <class Element>
struct Grouped {
  LargeArray<Element> elements;
  std::vector<size_t> begins;
  std::span<const Element> of(size_t c) const { return {elements.data() + begins[c], begins[c + 1] - begins[c]}; }
};

// Throw std::invalid_argument, naming the first element at fault, for an index out of range, a NaN score or area and a
// box that is not finite.
void check_detections(const Detections& detections, const Settings& settings);
void check_ground_truths(const GroundTruths& truths, const Settings& settings);

// Throw as these do.
Grouped<Candidate> group_detections(const Detections& detections, const Settings& settings);
Grouped<uint32_t> group_ground_truths(const GroundTruths& truths, const Settings& settings);

// Ascends as the score descends; -0 and 0 are equal.
uint64_t descending_key(double score);

}  // namespace qprof::coco
