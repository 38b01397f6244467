#include "grouping.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>

#include "parallel.h"

namespace qprof::coco {
namespace {

// Not a number or infinite: the difference with itself is then not 0, and sums stay poisoned.
double poison(const double* box) {
  return (box[0] - box[0]) + (box[1] - box[1]) + (box[2] - box[2]) + (box[3] - box[3]);
}

bool valid_index(int32_t index, size_t count) { return index == -1 || static_cast<uint32_t>(index) < count; }

// One range of the input: how many elements each category has in it, and whether all of them are valid.
struct Part {
  size_t begin;
  size_t end;
  std::vector<size_t> next;  // first the counts, then where each category's next element goes
  bool valid = true;
};

std::vector<Part> split(size_t count, unsigned threads, size_t categories) {
  // A thread that starts for less than this costs more than it saves.
  constexpr size_t kSmallestPart = 20'000;
  const size_t parts = std::max<size_t>(1, std::min<size_t>(threads, count / kSmallestPart));
  std::vector<Part> out(parts);
  for (size_t p = 0; p < parts; ++p) {
    out[p].begin = count * p / parts;
    out[p].end = count * (p + 1) / parts;
    out[p].next.assign(categories, 0);
  }
  return out;
}

// Turns counts into places, category by category and within it part by part; returns where each class begins.
std::vector<size_t> place(std::vector<Part>& parts, const Settings& settings) {
  std::vector<size_t> begins;
  size_t total = 0;
  for (size_t category = 0; category < settings.categories; ++category) {
    begins.push_back(total);
    for (Part& part : parts) {
      const size_t count = part.next[category];
      part.next[category] = total;
      total += count;
    }
  }
  begins.resize(settings.classes(), total);  // without categories, all of them from the first one's beginning
  begins.push_back(total);
  return begins;
}

[[noreturn]] void fail(const char* what, size_t position, const std::string& why) {
  throw std::invalid_argument(std::string(what) + " " + std::to_string(position) + ": " + why);
}

void check_indices(const char* what, size_t i, int32_t image, int32_t category, const Settings& settings) {
  if (!valid_index(image, settings.images)) {
    fail(what, i, "image index " + std::to_string(image) + " is not below " + std::to_string(settings.images));
  }
  if (!valid_index(category, settings.categories)) {
    fail(what, i,
         "category index " + std::to_string(category) + " is not below " + std::to_string(settings.categories));
  }
}

void check_box(const char* what, size_t i, const double* box) {
  for (int side = 0; side < 4; ++side) {
    if (!std::isfinite(box[side])) fail(what, i, "the box has a value that is NaN or infinite");
  }
}

// Counts a part's elements by category; finds out only whether something is wrong, `check` then says what.
template <class Elements, class Suspicion>
void count_part(Part& part, const Elements& elements, const Settings& settings, Suspicion suspicion) {
  double suspect = 0;
  bool in_range = true;
  for (size_t i = part.begin; i < part.end; ++i) {
    const int32_t image = elements.image[i];
    const int32_t category = elements.category[i];
    suspect += suspicion(i);
    if (static_cast<uint32_t>(category) < settings.categories && static_cast<uint32_t>(image) < settings.images) {
      ++part.next[category];
    } else {
      in_range &= valid_index(image, settings.images) && valid_index(category, settings.categories);
    }
  }
  part.valid = in_range && suspect == 0;
}

void require_32_bits(size_t count) {
  if (count > std::numeric_limits<int32_t>::max()) throw std::invalid_argument("more than 2^31 - 1 elements");
}

void check(const Detections& detections, const Settings& settings) { check_detections(detections, settings); }
void check(const GroundTruths& truths, const Settings& settings) { check_ground_truths(truths, settings); }

template <class Element, class Elements, class Suspicion, class Make>
Grouped<Element> group(const Elements& elements, const Settings& settings, Suspicion suspicion, Make make) {
  require_32_bits(elements.count);
  std::vector<Part> parts = split(elements.count, settings.threads, settings.categories);
  for_each_task(parts.size(), settings.threads,
                [&](size_t p, unsigned) { count_part(parts[p], elements, settings, suspicion); });
  for (const Part& part : parts) {
    if (!part.valid) check(elements, settings);
  }
  Grouped<Element> grouped;
  grouped.begins = place(parts, settings);
  grouped.elements = std::make_unique_for_overwrite<Element[]>(grouped.begins.back());
  for_each_task(parts.size(), settings.threads, [&](size_t p, unsigned) {
    Part& part = parts[p];
    for (size_t i = part.begin; i < part.end; ++i) {
      const int32_t image = elements.image[i];
      const int32_t category = elements.category[i];
      if (image < 0 || category < 0) continue;
      grouped.elements[part.next[category]++] = make(i);
    }
  });
  return grouped;
}

}  // namespace

void check_detections(const Detections& detections, const Settings& settings) {
  for (size_t i = 0; i < detections.count; ++i) {
    check_indices("detection", i, detections.image[i], detections.category[i], settings);
    check_box("detection", i, detections.box.at(i));
    if (detections.score && std::isnan(detections.score[i])) fail("detection", i, "the score is NaN");
    if (detections.area && std::isnan(detections.area[i])) fail("detection", i, "the area is NaN");
  }
}

void check_ground_truths(const GroundTruths& truths, const Settings& settings) {
  for (size_t i = 0; i < truths.count; ++i) {
    check_indices("ground truth", i, truths.image[i], truths.category[i], settings);
    check_box("ground truth", i, truths.box.at(i));
    if (truths.area && std::isnan(truths.area[i])) fail("ground truth", i, "the area is NaN");
  }
}

uint64_t descending_key(double score) {
  const uint64_t bits = std::bit_cast<uint64_t>(score + 0.0);
  return bits >> 63 ? bits : ~(bits | uint64_t{1} << 63);
}

Grouped<Candidate> group_detections(const Detections& detections, const Settings& settings) {
  auto suspicion = [&](size_t i) {
    // An infinite score is fine: only NaN differs from itself.
    const double score = detections.score[i];
    const bool bad = score != score || (detections.area && std::isnan(detections.area[i]));
    return poison(detections.box.at(i)) + (bad ? 1.0 : 0.0);
  };
  auto make = [&](size_t i) {
    return Candidate{descending_key(detections.score[i]), static_cast<uint32_t>(i),
                     static_cast<uint32_t>(detections.image[i])};
  };
  return group<Candidate>(detections, settings, suspicion, make);
}

Grouped<uint32_t> group_ground_truths(const GroundTruths& truths, const Settings& settings) {
  auto suspicion = [&](size_t i) { return poison(truths.box.at(i)) + (std::isnan(truths.area[i]) ? 1.0 : 0.0); };
  return group<uint32_t>(truths, settings, suspicion, [](size_t i) { return static_cast<uint32_t>(i); });
}

}  // namespace qprof::coco
