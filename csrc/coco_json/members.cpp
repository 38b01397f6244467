#include "members.h"

#include <algorithm>
#include <bit>
#include <string_view>

namespace qprof::coco_json {
namespace {

struct Name {
  Key key;
  const char* text;
  const char* demand;
};

constexpr Name kNames[] = {
    {Key::kOther, "", ""},
    {Key::kId, "id", "an integer of 64 bits: number the entries with integers"},
    {Key::kImageId, "image_id", "an integer of 64 bits: give the id of its image"},
    {Key::kCategoryId, "category_id", "an integer of 64 bits: give the id of its category"},
    {Key::kBbox, "bbox", "a list of four numbers: give x, y, width, height in pixels"},
    {Key::kScore, "score", "a number: give the detector's confidence"},
    {Key::kArea, "area", "a number: give the object's area in square pixels"},
    {Key::kIsCrowd, "iscrowd", "0 or 1: correct it"},
    {Key::kIgnore, "ignore", "0 or 1: correct it"},
    {Key::kWidth, "width", "a count of pixels: correct or remove it"},
    {Key::kHeight, "height", "a count of pixels: correct or remove it"},
    {Key::kName, "name", "a string: give the category's name"},
};
static_assert(std::size(kNames) == static_cast<size_t>(Key::kCount));

// A file may name each of its members differently; nobody reads more than some of them.
constexpr size_t kMostOthers = 32;

// The opening quote is before `p`.
bool is_name(const char* p, size_t length, std::string_view text) {
  return length == text.size() + 1 && std::string_view(p, text.size()) == text;
}

}  // namespace

const char* name_of(Key key) { return kNames[static_cast<size_t>(key)].text; }
const char* demand_of(Key key) { return kNames[static_cast<size_t>(key)].demand; }

Key read_other_key(const char*& p, std::vector<std::string>* other) {
  const char* const start = p;
  p = skip_string(p);
  const size_t length = static_cast<size_t>(p - start);
  // Nearly always a name that was met before.
  if (other != nullptr) {
    for (const std::string& known : *other) {
      if (is_name(start, length, known)) {
        p = skip_colon(p);
        return Key::kOther;
      }
    }
  }
  const char* again = start;
  const std::string text = read_string(again);
  p = skip_colon(p);
  for (const Name& name : kNames) {
    if (name.key != Key::kOther && text == name.text) return name.key;
  }
  if (other != nullptr && other->size() < kMostOthers && std::ranges::find(*other, text) == other->end()) {
    other->push_back(text);
  }
  return Key::kOther;
}

const char* Members::flag(const char* p, Key key, uint8_t& value) {
  const char* end = p;
  if (starts_with(p, "true")) {
    value = 1;
    end = p + 4;
  } else if (starts_with(p, "false")) {
    value = 0;
    end = p + 5;
  } else {
    const Number read = read_number(p);
    // NaN is neither.
    if (!read.valid || read.value != read.value) return wrong(p, key);
    value = read.value != 0;
    end = read.end;
  }
  given_ |= bit(key);
  return end;
}

const char* Members::pixels(const char* p, Key key, int64_t& value) {
  if (starts_with(p, "null")) {
    value = -1;
    given_ |= bit(key);
    return p + 4;
  }
  const Integer read = read_integer(p);
  if (!read.valid || read.value < 0) return wrong(p, key);
  value = read.value;
  given_ |= bit(key);
  return read.end;
}

const char* Members::string(const char* p, Key key, std::string& value, bool& is_given) {
  is_given = *p == '"';
  if (!is_given && !starts_with(p, "null")) return wrong(p, key);
  given_ |= bit(key);
  if (!is_given) return p + 4;
  ++p;
  value = read_string(p);
  return p;
}

Key Members::blamed() const {
  const uint32_t wrong = wrong_ & ~given_, missing = required_ & ~given_;
  return static_cast<Key>(std::countr_zero(wrong != 0 ? wrong : missing));
}

const char* Members::blamed_at() const {
  const Key key = blamed();
  return (wrong_ & bit(key)) != 0 ? wrong_at_[static_cast<size_t>(key)] : nullptr;
}

const char* Members::wrong(const char* p, Key key) {
  given_ &= ~bit(key);
  wrong_ |= bit(key);
  wrong_at_[static_cast<size_t>(key)] = p;
  return skip_value(p);
}

}  // namespace qprof::coco_json
