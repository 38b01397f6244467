// Masks of images as run lengths, column by column, in the two forms that are used here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace qprof::masks {

// The most pixels of an image: positions in it and sums of them then fit into 32 bits, with the sign that maskApi uses.
constexpr uint64_t kMostPixels = (uint64_t{1} << 31) - 1;

struct Size {
  uint32_t height = 0;
  uint32_t width = 0;
  uint32_t pixels() const { return height * width; }
  bool operator==(const Size&) const = default;
};

// Throws std::invalid_argument for sides that are negative, or more than kMostPixels together.
Size checked_size(int64_t height, int64_t width);

// As COCO's files have it: lengths of background and foreground by turns. They may end early, the rest is background,
// but never go beyond the image.
struct Counts {
  Size size;
  std::vector<uint32_t> lengths;
};

// Throws std::invalid_argument where the lengths go beyond the image.
void check_sum(const Counts& counts);

// The compressed form, as maskApi.c writes it: differences to the length before the last, 6 bits a character. Reading
// throws std::invalid_argument for other characters, a number that does not end, and lengths as above.
Counts from_text(std::string_view text, Size size);
std::string to_text(const Counts& counts);

// Lengths as a list states them; throws std::invalid_argument for negative ones and as above.
Counts from_lengths(std::span<const int64_t> lengths, Size size);

// A mask of `size.pixels()` bytes, column by column: where it is not 0 (any other value begins a run of its own, as in
// maskApi.c).
Counts from_bytes(const uint8_t* bytes, Size size);
void to_bytes(const Counts& counts, uint8_t* bytes);  // `bytes` are 0

// The polygon x, y, x, y ..., filled exactly as maskApi.c fills it. Throws std::invalid_argument for coordinates that
// are not finite or beyond +-2e8, and for outlines that cross too many columns.
Counts from_polygon(std::span<const double> xy, Size size);

// What all (or with `intersect` every one) of them cover, in the lengths that maskApi.c gives. Of different sizes: no
// lengths and the size 0. `parts` is not empty.
Counts merge(std::span<const Counts> parts, bool intersect);

struct Box {
  uint32_t left = 0, top = 0, right = 0, bottom = 0;  // right and bottom are outside
  bool empty() const { return left >= right; }
};

// Positions [begin, end) of foreground.
struct Run {
  uint32_t begin;
  uint32_t end;
};

// For comparing: runs ascend and do not touch.
struct Mask {
  Size size;
  uint32_t area = 0;
  Box box;
  std::vector<Run> runs;

  // Appends a run that does not begin before the last one's end.
  void add(uint32_t begin, uint32_t end);
  // Area and box of the runs.
  void measure();
};

Mask to_mask(const Counts& counts);
Counts to_counts(const Mask& mask);

// The pixels of the mask within `reach` rows and columns of its outline or of the image's border: what is gone when a
// square of 2 x reach + 1 pixels erodes it.
Mask boundary(const Mask& mask, uint32_t reach);

// What maskApi.c's rleIou gives: intersection over union, over the detection's own area for a crowd; -1 where the sizes
// differ but the boxes overlap. 0 may be given instead for what is certainly below `floor`.
double iou(const Mask& detection, const Mask& truth, bool crowd, double floor);

}  // namespace qprof::masks
