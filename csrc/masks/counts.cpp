#include <algorithm>
#include <stdexcept>
#include <string>

#include "mask.h"

namespace qprof::masks {
namespace {

constexpr unsigned kFirst = 48;  // the character that stands for 0
constexpr unsigned kMore = 0x20;
constexpr unsigned kSign = 0x10;
constexpr unsigned kBits = 0x1f;

[[noreturn]] void fail_beyond(Size size) {
  throw std::invalid_argument("the counts go beyond the " + std::to_string(size.height) + " x " +
                              std::to_string(size.width) + " pixels of the image");
}

// One mask's runs, one after the other, as maskApi.c walks over them.
class Walk {
 public:
  explicit Walk(std::span<const uint32_t> lengths) : lengths_(lengths), left_(lengths.empty() ? 0 : lengths[0]) {}

  uint32_t left() const { return left_; }
  bool inside() const { return inside_; }

  void pass(uint32_t count) {
    left_ -= count;
    if (left_ != 0 || next_ >= lengths_.size()) return;
    left_ = lengths_[next_++];
    inside_ = !inside_;
  }

 private:
  std::span<const uint32_t> lengths_;
  uint32_t left_;
  size_t next_ = 1;
  bool inside_ = false;
};

std::vector<uint32_t> merge_two(std::span<const uint32_t> one, std::span<const uint32_t> other, bool intersect) {
  std::vector<uint32_t> merged;
  merged.reserve(one.size() + other.size());
  Walk a(one), b(other);
  bool inside = false;
  uint32_t length = 0;
  for (bool more = true; more;) {
    const uint32_t step = std::min(a.left(), b.left());
    length += step;
    a.pass(step);
    b.pass(step);
    more = a.left() != 0 || b.left() != 0;
    const bool was_inside = inside;
    inside = intersect ? a.inside() && b.inside() : a.inside() || b.inside();
    if (inside != was_inside || !more) {
      merged.push_back(length);
      length = 0;
    }
  }
  return merged;
}

}  // namespace

Size checked_size(int64_t height, int64_t width) {
  if (height < 0 || width < 0) throw std::invalid_argument("the size of the image has a negative side");
  const uint64_t h = static_cast<uint64_t>(height), w = static_cast<uint64_t>(width);
  if (h > kMostPixels || w > kMostPixels || h * w > kMostPixels) {
    throw std::invalid_argument("the image of " + std::to_string(height) + " x " + std::to_string(width) +
                                " pixels has more than 2^31 - 1 of them");
  }
  return {static_cast<uint32_t>(h), static_cast<uint32_t>(w)};
}

void check_sum(const Counts& counts) {
  uint64_t sum = 0;
  for (uint32_t length : counts.lengths) sum += length;
  if (sum > counts.size.pixels()) fail_beyond(counts.size);
}

Counts from_text(std::string_view text, Size size) {
  Counts counts{size, {}};
  counts.lengths.reserve(text.size() / 2 + 1);
  uint64_t sum = 0;
  for (size_t p = 0; p < text.size();) {
    int64_t value = 0;
    unsigned shift = 0, digit = kMore;
    while (digit & kMore) {
      if (p == text.size()) throw std::invalid_argument("the counts end within a number");
      digit = static_cast<unsigned>(static_cast<unsigned char>(text[p++])) - kFirst;
      if (digit > 63) throw std::invalid_argument("the counts have a character that is none of COCO's");
      // No length of 31 bits, nor the difference of two, takes more than 7 characters.
      if (shift > 30) throw std::invalid_argument("the counts have a number of more than 32 bits");
      value |= static_cast<int64_t>(digit & kBits) << shift;
      shift += 5;
    }
    if (digit & kSign) value -= int64_t{1} << shift;
    if (counts.lengths.size() > 2) value += counts.lengths[counts.lengths.size() - 2];
    if (value < 0) throw std::invalid_argument("the counts have a negative length");
    sum += static_cast<uint64_t>(value);
    if (sum > size.pixels()) fail_beyond(size);
    counts.lengths.push_back(static_cast<uint32_t>(value));
  }
  return counts;
}

std::string to_text(const Counts& counts) {
  std::string text;
  text.reserve(counts.lengths.size() * 2);
  for (size_t i = 0; i < counts.lengths.size(); ++i) {
    int64_t value = counts.lengths[i];
    if (i > 2) value -= counts.lengths[i - 2];
    for (bool more = true; more;) {
      unsigned digit = static_cast<unsigned>(value) & kBits;
      value >>= 5;
      more = digit & kSign ? value != -1 : value != 0;
      if (more) digit |= kMore;
      text.push_back(static_cast<char>(digit + kFirst));
    }
  }
  return text;
}

Counts from_lengths(std::span<const int64_t> lengths, Size size) {
  Counts counts{size, {}};
  counts.lengths.reserve(lengths.size());
  uint64_t sum = 0;
  for (int64_t length : lengths) {
    if (length < 0) throw std::invalid_argument("the counts have a negative length");
    if (static_cast<uint64_t>(length) > kMostPixels) fail_beyond(size);
    sum += static_cast<uint64_t>(length);
    if (sum > size.pixels()) fail_beyond(size);
    counts.lengths.push_back(static_cast<uint32_t>(length));
  }
  return counts;
}

Counts from_bytes(const uint8_t* bytes, Size size) {
  Counts counts{size, {}};
  const uint8_t* const end = bytes + size.pixels();
  uint8_t value = 0;
  const uint8_t* begin = bytes;
  for (const uint8_t* p = bytes; p != end; ++p) {
    if (*p == value) continue;
    counts.lengths.push_back(static_cast<uint32_t>(p - begin));
    value = *p;
    begin = p;
  }
  counts.lengths.push_back(static_cast<uint32_t>(end - begin));
  return counts;
}

void to_bytes(const Counts& counts, uint8_t* bytes) {
  for (size_t i = 0; i < counts.lengths.size(); ++i) {
    if (i & 1) std::fill_n(bytes, counts.lengths[i], uint8_t{1});
    bytes += counts.lengths[i];
  }
}

Counts merge(std::span<const Counts> parts, bool intersect) {
  Counts merged = parts[0];
  for (const Counts& part : parts.subspan(1)) {
    if (part.size != merged.size) return {};
    merged.lengths = merge_two(merged.lengths, part.lengths, intersect);
  }
  return merged;
}

}  // namespace qprof::masks
