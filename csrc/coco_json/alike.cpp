#include "alike.h"

#include "scan.h"

namespace qprof::coco_json {
namespace {

// Where entries differ in their form, what was learnt last stays.
constexpr unsigned kMostAttempts = 1'000;

}  // namespace

bool Between::set(const char* begin, const char* end) {
  *this = {};
  length = static_cast<size_t>(end - begin);
  if (length > kMost) return false;
  for (size_t i = 0; i < length; ++i) {
    words[i / 8] |= uint64_t{static_cast<unsigned char>(begin[i])} << (i % 8 * 8);
    masks[i / 8] |= uint64_t{0xff} << (i % 8 * 8);
  }
  return true;
}

void Alike::learn(const char* const start) {
  if (attempts_ == kMostAttempts) return;
  ++attempts_;
  size_t members = 0, numbers = 0;
  bool fits = true;
  const char* behind = start;  // the last number
  const auto add_number = [&](const char* p) {
    fits = fits && numbers < kNumbers && before_[numbers].set(behind, p);
    ++numbers;
    bool valid = true;
    behind = skip_number(p, valid);
    fits = fits && valid;
  };
  uint32_t seen = 0;
  const char* const end = read_members(start, [&](const char* p) {
    const Key key = read_key(p, nullptr);
    const bool wanted = key == Key::kImageId || key == Key::kCategoryId || key == Key::kBbox || key == Key::kScore;
    fits = fits && wanted && (seen & bit(key)) == 0 && members < kMembers;
    seen |= bit(key);
    if (!fits) return skip_value(p);
    keys_[members++] = key;
    const char* value = p;
    for (int i = 0; i < (key == Key::kBbox ? 4 : 1); ++i) {
      if (key == Key::kBbox) value = skip_space(value + 1);
      add_number(value);
      fits = fits && (i == 0 || before_[numbers - 1].length <= sizeof(uint64_t));
      value = skip_space(behind);
    }
    return skip_value(p);
  });
  known_ = fits && numbers == kNumbers && before_[kNumbers].set(behind, end);
}

}  // namespace qprof::coco_json
