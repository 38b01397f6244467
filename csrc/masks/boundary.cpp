// Boundary IoU (Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation", CVPR 2021) looks
// at the part of a mask near its outline: the mask less the mask eroded. The authors' code erodes `reach` times with a
// square of 3 x 3 pixels; once with a square of 2 x reach + 1 is the same, and outside of the image nothing is set.
#include <algorithm>

#include "mask.h"

namespace qprof::masks {
namespace {

// The rows of a mask, column after column.
class Columns {
 public:
  explicit Columns(const Mask& mask) : mask_(mask), height_(mask.size.height) {}

  // Calls action(top, bottom) for each run of rows in the column; columns have to ascend.
  template <class Action>
  void rows(uint32_t column, Action action) {
    const uint32_t begin = column * height_, end = begin + height_;
    while (next_ < mask_.runs.size() && mask_.runs[next_].end <= begin) ++next_;
    for (size_t i = next_; i < mask_.runs.size() && mask_.runs[i].begin < end; ++i) {
      action(std::max(mask_.runs[i].begin, begin) - begin, std::min(mask_.runs[i].end, end) - begin);
    }
  }

 private:
  const Mask& mask_;
  const uint32_t height_;
  size_t next_ = 0;
};

}  // namespace

Mask boundary(const Mask& mask, uint32_t reach) {
  const Box& box = mask.box;
  const uint64_t side = 2 * uint64_t{reach} + 1;
  if (mask.runs.empty() || box.right - box.left < side || box.bottom - box.top < side) return mask;
  Mask out;
  out.size = mask.size;
  // Per row: how many columns up to this one have the pixel set with `reach` set ones above and below it.
  std::vector<uint32_t> columns_set(box.bottom - box.top, 0);
  Columns ahead(mask), behind(mask);
  const uint32_t enough = static_cast<uint32_t>(side);
  for (uint64_t front = box.left; front < uint64_t{box.right} + reach; ++front) {
    uint32_t cleared = 0;  // rows below this one are done
    if (front < box.right) {
      ahead.rows(static_cast<uint32_t>(front), [&](uint32_t top, uint32_t bottom) {
        if (bottom - top < side) return;
        const uint32_t from = top - box.top + reach, to = bottom - box.top - reach;
        std::fill(columns_set.begin() + cleared, columns_set.begin() + from, 0);
        for (uint32_t row = from; row < to; ++row) ++columns_set[row];
        cleared = to;
      });
    }
    std::fill(columns_set.begin() + cleared, columns_set.end(), 0);
    if (front < uint64_t{box.left} + reach) continue;
    const uint32_t column = static_cast<uint32_t>(front - reach);
    const uint32_t at = column * mask.size.height;
    behind.rows(column, [&](uint32_t top, uint32_t bottom) {
      uint32_t row = top;
      while (row < bottom) {
        const uint32_t begin = row;
        while (row < bottom && columns_set[row - box.top] < enough) ++row;
        out.add(at + begin, at + row);
        while (row < bottom && columns_set[row - box.top] >= enough) ++row;
      }
    });
  }
  out.measure();
  return out;
}

}  // namespace qprof::masks
