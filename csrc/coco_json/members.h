// The members of a COCO entry: which one a name is, and its value where it is what the format demands.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "numbers.h"
#include "scan.h"

namespace qprof::coco_json {

enum class Key : uint8_t {
  kOther,
  kId,
  kImageId,
  kCategoryId,
  kBbox,
  kScore,
  kArea,
  kIsCrowd,
  kIgnore,
  kWidth,
  kHeight,
  kName,
  kCount,
};

constexpr uint32_t bit(Key key) { return uint32_t{1} << static_cast<unsigned>(key); }

// The name of a member and what its value has to be, for messages.
const char* name_of(Key key);
const char* demand_of(Key key);

// Which of the names above this one is, however it is spelled; `p` is behind its opening quote and moves to its value.
// `other`, if given, collects the names that are none of them, each once and not without limit.
Key read_other_key(const char*& p, std::vector<std::string>* other);

[[gnu::always_inline]] inline Key read_key(const char*& p, std::vector<std::string>* other) {
  const auto found = [&p](size_t length, Key key) {
    p = skip_colon(p + length);
    return key;
  };
  if (starts_with(p, "image_id\"")) return found(9, Key::kImageId);
  if (starts_with(p, "category_id\"")) return found(12, Key::kCategoryId);
  if (starts_with(p, "bbox\"")) return found(5, Key::kBbox);
  if (starts_with(p, "score\"")) return found(6, Key::kScore);
  if (starts_with(p, "id\"")) return found(3, Key::kId);
  if (starts_with(p, "area\"")) return found(5, Key::kArea);
  if (starts_with(p, "iscrowd\"")) return found(8, Key::kIsCrowd);
  return read_other_key(p, other);
}

// The values of one entry as they come in. Of a name that is repeated the last value counts, as in Python: hence a
// wrong value is only noted, until the entry is over. All functions take the place of a value and return its end.
class Members {
 public:
  explicit Members(uint32_t required) : required_(required) {}

  const char* integer(const char* p, Key key, int64_t& value) {
    const Integer read = read_integer(p);
    if (!read.valid) [[unlikely]] {
      return wrong(p, key);
    }
    value = read.value;
    given_ |= bit(key);
    return read.end;
  }
  const char* number(const char* p, Key key, double& value) {
    const Number read = read_number(p);
    if (!read.valid) [[unlikely]] {
      return wrong(p, key);
    }
    value = read.value;
    given_ |= bit(key);
    return read.end;
  }
  [[gnu::always_inline]] const char* box(const char* const start, Key key, double* xywh) {
    const char* p = start;
    if (*p != '[') [[unlikely]] {
      return wrong(start, key);
    }
    for (int i = 0; i < 4; ++i) {
      const Number read = read_number(skip_space(p + 1));
      if (!read.valid) [[unlikely]] {
        return wrong(start, key);
      }
      xywh[i] = read.value;
      p = skip_space(read.end);
      if (*p != (i < 3 ? ',' : ']')) [[unlikely]] {
        return wrong(start, key);
      }
    }
    given_ |= bit(key);
    return p + 1;
  }
  // A number or a truth value.
  const char* flag(const char* p, Key key, uint8_t& value);
  // A count of pixels, or null, which stays -1.
  const char* pixels(const char* p, Key key, int64_t& value);
  // A string, or null, which leaves `is_given` false.
  const char* string(const char* p, Key key, std::string& value, bool& is_given);

  bool has(Key key) const { return (given_ & bit(key)) != 0; }
  bool is_complete() const { return ((required_ & ~given_) | (wrong_ & ~given_)) == 0; }
  // Of an entry that is not complete: the member to blame, and where its value is (null where it is missing).
  Key blamed() const;
  const char* blamed_at() const;

 private:
  const char* wrong(const char* p, Key key);

  uint32_t required_, given_ = 0, wrong_ = 0;
  const char* wrong_at_[static_cast<size_t>(Key::kCount)];  // where wrong_ has a bit
};

}  // namespace qprof::coco_json
