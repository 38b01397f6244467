// Any bytes as a COCO file: read or refused, by one thread as by three.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "reader.h"

using namespace qprof::coco_json;

namespace {

void hold(bool is_so, const char* what) {
  if (is_so) return;
  std::fprintf(stderr, "%s\n", what);
  std::abort();
}

template <class T>
bool same(const T* one, const T* other, size_t count) {
  return count == 0 || std::memcmp(one, other, count * sizeof(T)) == 0;
}

template <class Column>
void hold_same(Column& one, Column& other, size_t count, const char* what) {
  auto* a = one.release();
  auto* b = other.release();
  hold(same(a, b, count), what);
  std::free(a);
  std::free(b);
}

void results(const Text& text) {
  Detections one, three;
  const std::string wrong = read_results(text, 1, one);
  hold(wrong == read_results(text, 3, three), "threads change what is wrong with results");
  hold(wrong.find('\n') == std::string::npos, "a message of several lines");
  if (!wrong.empty()) return;
  hold(one.size() == three.size(), "threads change the number of detections");
  hold_same(one.image_id, three.image_id, one.size(), "image_id");
  hold_same(one.category_id, three.category_id, one.size(), "category_id");
  hold_same(one.bbox, three.bbox, 4 * one.size(), "bbox");
  hold_same(one.score, three.score, one.size(), "score");
}

void ground_truth(const Text& text) {
  GroundTruth one, three;
  const std::string wrong = read_ground_truth(text, 1, one);
  hold(wrong == read_ground_truth(text, 3, three), "threads change what is wrong with ground truth");
  hold(wrong.find('\n') == std::string::npos, "a message of several lines");
  if (!wrong.empty()) return;
  hold(one.annotations.size() == three.annotations.size(), "threads change the number of annotations");
  hold(one.categories.size() == one.categories.names.size(), "a category without a place for its name");
  hold_same(one.annotations.image_id, three.annotations.image_id, one.annotations.size(), "annotations' image_id");
  hold_same(one.annotations.area, three.annotations.area, one.annotations.size(), "area");
  hold_same(one.images.id, three.images.id, one.images.size(), "images' id");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Text text;
  text.copy(reinterpret_cast<const char*>(data), size);
  results(text);
  ground_truth(text);
  return 0;
}
