// Greedy matching of one class's detections to its ground truths, as COCO defines it, over all images at once.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "grouping.h"
#include "inputs.h"
#include "score_order.h"

namespace qprof::coco {

// A ground truth of the class; they stand by image, those of one image in input order.
struct Truth {
  double x, y, right, bottom, area;  // of the box; `area` is width x height
  uint32_t position;                 // in the input
  uint32_t image;
  uint16_t ignored;  // one bit per area range: outside it, a crowd, or to be ignored
  bool crowd;
  bool counts;  // false: a match to it counts as none (annotation id 0 in pycocotools)
};

// A detection that was given a ground truth at some threshold in some area. Masks have one bit per IoU threshold.
// A detection without a record is a match nowhere, and is ignored exactly in the areas that its own area is outside of.
struct Record {
  double score;
  uint32_t position;  // in the input
  uint32_t image;
  uint32_t order;   // among the class's kept detections, best score first
  uint16_t inside;  // one bit per area range
  uint16_t limit;   // index of the lowest number of detections per image that still counts this one
};

struct AreaMatch {
  uint32_t matched = 0;
  uint32_t ignored = 0;
};

// What matching leaves of a class: enough for every curve, whatever the area, threshold or number per image.
struct MatchedClass {
  std::vector<uint32_t> truths_in_area;  // per area: those that are not ignored
  std::vector<Record> records;           // in order of score
  std::vector<AreaMatch> matches;        // per record and area
  // Per record, limit and area: the detections inside the area up to this one, itself included.
  std::vector<uint32_t> counts;
  size_t detections = 0;   // within the highest limit
  double first_score = 0;  // of the best one

  // Only where the caller wants to keep them.
  std::vector<Truth> truths;
  std::vector<uint32_t> position;  // per kept detection, best score first: in the input
  std::vector<uint32_t> image;
  std::vector<uint16_t> inside;
  std::vector<uint16_t> limit;
  std::vector<uint8_t> tied;      // 1: of the same image and score as the one before
  std::vector<int32_t> assigned;  // per record, area and threshold: index into `truths` or -1
};

// The ground truths of one image and one class: [begin, end) in the class's.
struct Cell {
  uint32_t begin;
  uint32_t end;
};

// Scratch memory that one thread uses for class after class.
class Matcher {
 public:
  Matcher(const GroundTruths& truths, const Detections& detections, const Settings& settings);

  // Both stand by image, those of one image in input order.
  MatchedClass match(std::span<const uint32_t> truths, std::span<const Candidate> detections);

 private:
  struct Contact {
    uint32_t truth;
    double iou;
  };
  // What is known of a detection when its image is done.
  struct Outcome {
    uint16_t inside;  // as in Record
    uint16_t limit;
    uint32_t record;  // among `found_`, or kNoRecord
  };
  static constexpr uint32_t kNoRecord = ~uint32_t{0};
  static constexpr uint16_t kLeftOut = 0xffff;  // instead of a limit: beyond the highest

  void take_truths(std::span<const uint32_t> truths, MatchedClass& out);
  void match_image(std::span<const Candidate> detections, size_t begin, size_t end, Cell cell);
  void match_detection(const Candidate& candidate, uint16_t limit, Cell cell, Outcome& outcome);
  void find_contacts(const double* box, Cell cell);
  void take_given_contacts(uint32_t position, Cell cell);
  bool collect_contacts(const double* box, Cell cell, bool every_pair);
  void assign();
  void assign_one(const Contact& contact);
  void assign_best(size_t area);
  void give(size_t area, uint32_t thresholds, uint32_t truth);
  void add_match(const Candidate& candidate, const Outcome& outcome);
  void put_in_order(std::span<const Candidate> detections, MatchedClass& out);
  void put_record(const Outcome& outcome, MatchedClass& out);
  uint16_t areas_of(double area) const;

  const GroundTruths& input_truths_;
  const Detections& input_detections_;
  const Settings& settings_;
  std::vector<double> limits_;  // the IoU thresholds as they are compared
  double lowest_limit_;
  double screen_;  // below this share of the union an overlap is certainly under every threshold

  ScoreOrder order_;
  std::vector<uint32_t> ranks_;  // of one image: its detections by score, where they are not
  std::vector<Truth> truths_;
  std::vector<uint32_t> taken_;   // per truth and area: thresholds at which it is matched
  LargeArray<Outcome> outcomes_;  // per detection
  // Of the class, image by image.
  std::vector<Record> found_;
  std::vector<AreaMatch> found_matches_;  // per record and area
  std::vector<int32_t> found_truths_;     // per record, area and threshold
  std::vector<Contact> contacts_;
  std::vector<AreaMatch> current_;       // of the detection at hand, per area
  std::vector<uint32_t> given_;          // thresholds at which it was given a truth, per area
  std::vector<int32_t> current_truths_;  // per area and threshold
  std::vector<uint32_t> inside_counts_;  // per limit and area
};

}  // namespace qprof::coco
