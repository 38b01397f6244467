#include "tables.h"

#include <algorithm>

namespace qprof::coco_json {

const char* Detections::read(const char* const start) {
  Members members(bit(Key::kImageId) | bit(Key::kCategoryId) | bit(Key::kBbox) | bit(Key::kScore));
  const size_t row = size();
  int64_t& image = image_id[row];
  int64_t& category = category_id[row];
  double& confidence = score[row];
  double* const box = bbox.row(row);
  if (const char* end = alike_.read(start, image, category, box, confidence)) [[likely]] {
    push();
    return end;
  }
  const char* end = read_members(start, [&](const char* p) {
    const Key key = read_key(p, &skipped);
    switch (key) {
      case Key::kImageId: return members.integer(p, key, image);
      case Key::kCategoryId: return members.integer(p, key, category);
      case Key::kBbox: return members.box(p, key, box);
      case Key::kScore: return members.number(p, key, confidence);
      case Key::kOther: break;
      default:
        if (std::ranges::find(skipped, name_of(key)) == skipped.end()) skipped.emplace_back(name_of(key));
    }
    return skip_value(p);
  });
  finish(start, members);
  if (members.is_complete()) alike_.learn(start);
  return end;
}

void Detections::join(Detections& other) {
  for (std::string& name : other.skipped) {
    if (std::ranges::find(skipped, name) == skipped.end()) skipped.push_back(std::move(name));
  }
}

const char* Annotations::read(const char* const start) {
  Members members(bit(Key::kId) | bit(Key::kImageId) | bit(Key::kCategoryId) | bit(Key::kBbox));
  const size_t row = size();
  iscrowd[row] = 0;
  ignore[row] = 0;
  double* const box = bbox.row(row);
  const char* end = read_members(start, [&](const char* p) {
    const Key key = read_key(p, nullptr);
    switch (key) {
      case Key::kId: return members.integer(p, key, id[row]);
      case Key::kImageId: return members.integer(p, key, image_id[row]);
      case Key::kCategoryId: return members.integer(p, key, category_id[row]);
      case Key::kBbox: return members.box(p, key, box);
      case Key::kArea: return members.number(p, key, area[row]);
      case Key::kIsCrowd: return members.flag(p, key, iscrowd[row]);
      case Key::kIgnore: return members.flag(p, key, ignore[row]);
      default: return skip_value(p);
    }
  });
  if (!members.has(Key::kArea) && members.is_complete()) {
    area[row] = box[2] * box[3];
    ++without_area;
  }
  finish(start, members);
  return end;
}

const char* Images::read(const char* const start) {
  Members members(bit(Key::kId));
  const size_t row = size();
  width[row] = height[row] = -1;
  const char* end = read_members(start, [&](const char* p) {
    const Key key = read_key(p, nullptr);
    switch (key) {
      case Key::kId: return members.integer(p, key, id[row]);
      case Key::kWidth: return members.pixels(p, key, width[row]);
      case Key::kHeight: return members.pixels(p, key, height[row]);
      default: return skip_value(p);
    }
  });
  finish(start, members);
  return end;
}

const char* Categories::read(const char* const start) {
  Members members(bit(Key::kId));
  const size_t row = size();
  std::string name;
  bool has_name = false;
  const char* end = read_members(start, [&](const char* p) {
    const Key key = read_key(p, nullptr);
    switch (key) {
      case Key::kId: return members.integer(p, key, id[row]);
      case Key::kName: return members.string(p, key, name, has_name);
      default: return skip_value(p);
    }
  });
  is_named[row] = has_name;
  finish(start, members);
  if (size() > row) names.push_back(has_name ? std::move(name) : std::string());
  return end;
}

}  // namespace qprof::coco_json
