// The bytes of a document, padded as bytes.h demands.
#pragma once

#include <cstddef>

namespace qprof::coco_json {

class Text {
 public:
  Text() = default;
  Text(const Text&) = delete;
  Text& operator=(const Text&) = delete;
  ~Text();

  // Maps a regular file, or reads anything else to its end. Returns 0, or the errno that says why not. The file must
  // not be shortened while it is mapped: the system answers that with SIGBUS.
  int open(const char* path);
  // Copies bytes that the caller owns.
  void copy(const char* bytes, size_t size);

  const char* begin() const { return bytes_; }
  const char* end() const { return bytes_ + size_; }

 private:
  int map(int file, size_t size);
  int read_all(int file);
  void reserve(size_t capacity);

  char* bytes_ = nullptr;
  size_t size_ = 0;
  size_t mapped_ = 0;  // bytes of the mapping; 0 where the bytes are our own
};

}  // namespace qprof::coco_json
