#include "grouping.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
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

// One range of what is grouped: how many elements each group has in it.
struct Part {
  size_t begin;
  size_t end;
  std::vector<size_t> next;  // first the counts, then where each group's next element goes
};

std::vector<Part> split(size_t count, unsigned threads) {
  // A thread that starts for less than this costs more than it saves.
  constexpr size_t kSmallestPart = 20'000;
  const size_t parts = std::max<size_t>(1, std::min<size_t>(threads, count / kSmallestPart));
  std::vector<Part> out(parts);
  for (size_t p = 0; p < parts; ++p) {
    out[p].begin = count * p / parts;
    out[p].end = count * (p + 1) / parts;
  }
  return out;
}

// Turns counts into places, group by group and within it part by part; returns where each group begins, and the end.
std::vector<size_t> place(std::vector<Part>& parts, size_t groups) {
  std::vector<size_t> begins(groups + 1);
  size_t total = 0;
  for (size_t group = 0; group < groups; ++group) {
    begins[group] = total;
    for (Part& part : parts) {
      const size_t count = part.next[group];
      part.next[group] = total;
      total += count;
    }
  }
  begins[groups] = total;
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

// Whether all elements of a range are valid (`check` says what is wrong), and whether they ascend by `minor` already,
// none of them being left out.
struct Survey {
  bool valid = true;
  bool ordered = true;
};

template <class Elements, class Suspicion>
Survey survey(const Part& part, const Elements& elements, const Column<int32_t>& minor, const Settings& settings,
              Suspicion suspicion) {
  double suspect = 0;
  bool in_range = true;
  bool ordered = true;
  int32_t last = part.begin == 0 ? 0 : minor[part.begin - 1];
  for (size_t i = part.begin; i < part.end; ++i) {
    const int32_t image = elements.image[i];
    const int32_t category = elements.category[i];
    const int32_t here = minor[i];
    suspect += suspicion(i);
    in_range &= valid_index(image, settings.images) & valid_index(category, settings.categories);
    ordered &= (image >= 0) & (category >= 0) & (last <= here);
    last = here;
  }
  return {in_range && suspect == 0, ordered};
}

// The positions of the elements that are not left out, by `minor`, of the same in input order.
template <class Elements>
LargeArray<uint32_t> order_by(const Column<int32_t>& minor, size_t groups, const Elements& elements) {
  std::vector<uint32_t> next(groups + 1);
  auto present = [&](size_t i) { return elements.image[i] >= 0 && elements.category[i] >= 0; };
  for (size_t i = 0; i < elements.count; ++i) {
    if (present(i)) ++next[static_cast<size_t>(minor[i]) + 1];
  }
  for (size_t group = 0; group < groups; ++group) next[group + 1] += next[group];
  LargeArray<uint32_t> order(next[groups]);
  for (size_t i = 0; i < elements.count; ++i) {
    if (present(i)) order[next[static_cast<size_t>(minor[i])]++] = static_cast<uint32_t>(i);
  }
  return order;
}

void require_32_bits(size_t count) {
  if (count > std::numeric_limits<int32_t>::max()) throw std::invalid_argument("more than 2^31 - 1 elements");
}

void check(const Detections& detections, const Settings& settings) { check_detections(detections, settings); }
void check(const GroundTruths& truths, const Settings& settings) { check_ground_truths(truths, settings); }

// By two stable counting sorts, the less significant first.
template <class Element, class Elements, class Suspicion, class Make>
Grouped<Element> group(const Elements& elements, const Settings& settings, Suspicion suspicion, Make make) {
  require_32_bits(elements.count);
  const bool by_category = settings.use_categories;
  const Column<int32_t>& minor = by_category ? elements.image : elements.category;
  const Column<int32_t>& major = by_category ? elements.category : elements.image;
  std::vector<Part> parts = split(elements.count, settings.threads);
  std::vector<Survey> surveys(parts.size());
  for_each_task(parts.size(), settings.threads,
                [&](size_t p, unsigned) { surveys[p] = survey(parts[p], elements, minor, settings, suspicion); });
  bool ordered = true;
  for (const Survey& found : surveys) {
    if (!found.valid) check(elements, settings);
    ordered &= found.ordered;
  }
  LargeArray<uint32_t> order;
  if (!ordered) order = order_by(minor, by_category ? settings.images : settings.categories, elements);
  const size_t groups = by_category ? settings.categories : settings.images;
  parts = split(ordered ? elements.count : order.size(), settings.threads);
  auto position = [&](size_t i) { return ordered ? i : order[i]; };
  for_each_task(parts.size(), settings.threads, [&](size_t p, unsigned) {
    parts[p].next.assign(groups, 0);
    for (size_t i = parts[p].begin; i < parts[p].end; ++i) ++parts[p].next[static_cast<size_t>(major[position(i)])];
  });
  Grouped<Element> grouped;
  grouped.begins = place(parts, groups);
  grouped.elements.resize(grouped.begins.back());
  for_each_task(parts.size(), settings.threads, [&](size_t p, unsigned) {
    for (size_t i = parts[p].begin; i < parts[p].end; ++i) {
      const size_t at = position(i);
      grouped.elements[parts[p].next[static_cast<size_t>(major[at])]++] = make(at);
    }
  });
  if (!by_category) grouped.begins = {0, grouped.begins.back()};
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
