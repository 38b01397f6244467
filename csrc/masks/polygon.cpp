// Polygons to run lengths. The rule is maskApi.c's: the outline is drawn on a grid five times as fine, point by point;
// wherever it steps over the middle of a column, foreground begins or ends at the row that it is in.
//
// maskApi.c visits every point of the fine outline. Only the steps over a column's middle matter, so those alone are
// computed here, by the same operations: an edge costs no more than the image has columns.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <stdexcept>

#include "mask.h"

namespace qprof::masks {
namespace {

constexpr int64_t kFine = 5;
// Where a column's middle lies between its fine points: it is stepped over between 2 and 3.
constexpr int64_t kMiddle = 2;
constexpr double kFarthest = 2e8;
constexpr size_t kMostCrossings = size_t{1} << 26;

struct Point {
  int32_t x;
  int32_t y;
};

int32_t fine(double coordinate) {
  if (!(std::abs(coordinate) <= kFarthest)) {
    throw std::invalid_argument("a polygon has a coordinate that is not finite, or beyond 2e8 pixels");
  }
  return static_cast<int32_t>(kFine * coordinate + .5);
}

class Outline {
 public:
  explicit Outline(Size size) : size_(size) {}

  void add_edge(Point from, Point to) {
    const int64_t dx = std::abs(int64_t{from.x} - to.x), dy = std::abs(int64_t{from.y} - to.y);
    const bool flat = dx >= dy;
    if (flat ? from.x > to.x : from.y > to.y) std::swap(from, to);
    const int64_t left = std::min(from.x, to.x), right = std::max(from.x, to.x);
    // The columns whose middle may lie between the ends: in column c it is between the fine points 5c + 2 and 5c + 3.
    const int64_t first = std::max<int64_t>(0, (left - kMiddle + kFine - 1) / kFine);
    const int64_t last = std::min<int64_t>(size_.width, (right - kMiddle - 1 + kFine) / kFine);
    for (int64_t column = first; column < last; ++column) {
      const int64_t x = column * kFine + kMiddle;
      if (x < left || x >= right) continue;
      add(column, flat ? row_of_flat(from, to, dx, x) : row_of_steep(from, to, dy, x));
    }
  }

  Counts fill() {
    Counts counts{size_, {}};
    crossings_.push_back(size_.pixels());
    std::sort(crossings_.begin(), crossings_.end());
    uint32_t before = 0;
    for (uint32_t& crossing : crossings_) {
      const uint32_t length = crossing - before;
      before = crossing;
      crossing = length;
    }
    // A run without length joins its neighbours.
    counts.lengths.push_back(crossings_[0]);
    for (size_t i = 1; i < crossings_.size(); ++i) {
      if (crossings_[i] > 0) {
        counts.lengths.push_back(crossings_[i]);
      } else if (++i < crossings_.size()) {
        counts.lengths.back() += crossings_[i];
      }
    }
    return counts;
  }

 private:
  // Between the points x and x + 1: the upper one's y.
  static int64_t row_of_flat(Point from, Point to, int64_t dx, int64_t x) {
    const double slope = static_cast<double>(int64_t{to.y} - from.y) / static_cast<double>(dx);
    auto y = [&](int64_t step) { return static_cast<int32_t>(from.y + slope * static_cast<double>(step) + .5); };
    const int64_t step = x - from.x;
    return std::min(y(step), y(step + 1));
  }

  // The steps go down the rows; the one that changes from x to x + 1, or back, is looked for.
  static int64_t row_of_steep(Point from, Point to, int64_t dy, int64_t x) {
    const double slope = static_cast<double>(int64_t{to.x} - from.x) / static_cast<double>(dy);
    auto beyond = [&](int64_t step) {
      const int64_t at = static_cast<int32_t>(from.x + slope * static_cast<double>(step) + .5);
      return slope > 0 ? at > x : at <= x;
    };
    // The first step that is beyond, near where the line itself is.
    const double guess = (static_cast<double>(x - from.x) + .5) / slope;
    int64_t step = std::clamp<int64_t>(static_cast<int64_t>(guess), 1, dy);
    while (step > 1 && beyond(step - 1)) --step;
    while (step < dy && !beyond(step)) ++step;
    return from.y + step - 1;
  }

  void add(int64_t column, int64_t y) {
    if (crossings_.size() >= kMostCrossings) {
      throw std::invalid_argument("a polygon's outline crosses more than 2^26 columns");
    }
    // To the next pixel's middle, on the coarse grid.
    const int64_t row = y < 0 ? 0 : std::min<int64_t>(size_.height, (y + kMiddle) / kFine);
    crossings_.push_back(static_cast<uint32_t>(column * size_.height + row));
  }

  Size size_;
  std::vector<uint32_t> crossings_;
};

}  // namespace

Counts from_polygon(std::span<const double> xy, Size size) {
  const size_t points = xy.size() / 2;
  if (size.pixels() == 0) return {size, {0}};
  Outline outline(size);
  for (size_t i = 0; i < points; ++i) {
    const size_t next = i + 1 == points ? 0 : i + 1;
    outline.add_edge({fine(xy[2 * i]), fine(xy[2 * i + 1])}, {fine(xy[2 * next]), fine(xy[2 * next + 1])});
  }
  return outline.fill();
}

}  // namespace qprof::masks
