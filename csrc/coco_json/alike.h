// Entries that look like the one before: programs write all entries of a list with the same members, order and spaces.
// Then only the numbers have to be read, and the text between them compared.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "bytes.h"
#include "members.h"
#include "numbers.h"

namespace qprof::coco_json {

// The text before a number, or at the end of an entry.
struct Between {
  static constexpr size_t kMost = 24;
  uint64_t words[kMost / 8] = {};
  uint64_t masks[kMost / 8] = {};
  size_t length = 0;

  // False where it is too long to be kept.
  bool set(const char* begin, const char* end);
  // Looks at kMost bytes from p on, whatever the length is.
  [[gnu::always_inline]] bool is_at(const char* p) const {
    static_assert(kMost == 24);
    return (differs(p, 0) | differs(p, 1) | differs(p, 2)) == 0;
  }
  // The same where it is no longer than a word.
  [[gnu::always_inline]] bool is_short_at(const char* p) const { return differs(p, 0) == 0; }

 private:
  uint64_t differs(const char* p, size_t word) const { return (load8(p + 8 * word) ^ words[word]) & masks[word]; }
};

// How the last detection that was read member by member was written.
class Alike {
 public:
  // Learns from the detection at p, which is valid.
  void learn(const char* p);

  // Reads the detection at p if it is written like that one: its end, or null, and then the values are undefined.
  [[gnu::always_inline]] const char* read(const char* p, int64_t& image, int64_t& category, double* box,
                                          double& score) const {
    if (!known_) return nullptr;
    const Between* between = before_.data();
    for (const Key key : keys_) {
      if (!between->is_at(p)) [[unlikely]] {
        return nullptr;
      }
      p += between++->length;
      if (key == Key::kImageId || key == Key::kCategoryId) {
        const Integer read = read_integer(p);
        if (!read.valid) [[unlikely]] {
          return nullptr;
        }
        (key == Key::kImageId ? image : category) = read.value;
        p = read.end;
      } else if (key == Key::kScore) {
        const Number read = read_number(p);
        if (!read.valid) [[unlikely]] {
          return nullptr;
        }
        score = read.value;
        p = read.end;
      } else {
        for (int i = 0;; ++i) {
          const Number read = read_number(p);
          if (!read.valid) [[unlikely]] {
            return nullptr;
          }
          box[i] = read.value;
          p = read.end;
          if (i == 3) break;
          if (!between->is_short_at(p)) [[unlikely]] {
            return nullptr;
          }
          p += between++->length;
        }
      }
    }
    return between->is_at(p) ? p + between->length : nullptr;
  }

 private:
  static constexpr size_t kMembers = 4, kNumbers = 7;

  bool known_ = false;
  unsigned attempts_ = 0;
  std::array<Key, kMembers> keys_{};
  std::array<Between, kNumbers + 1> before_;
};

}  // namespace qprof::coco_json
