// Growing arrays whose memory NumPy takes over as it is.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace qprof::coco_json {

// `block` (or nothing, if null) moved to a size of `bytes`; free() releases it. Throws std::bad_alloc.
void* resized(void* block, size_t bytes);

// `kWidth` values per row. The rows are counted by the table it belongs to. Unlike a std::vector it neither fills its
// memory nor copies it to grow: realloc moves large blocks by their pages.
template <class T, size_t kWidth = 1>
class Column {
 public:
  Column() = default;
  Column(Column&& other) noexcept : data_(std::exchange(other.data_, nullptr)) {}
  Column& operator=(Column&& other) noexcept {
    std::swap(data_, other.data_);
    return *this;
  }
  ~Column() { std::free(data_); }

  void resize(size_t rows) { data_ = static_cast<T*>(resized(data_, rows * kWidth * sizeof(T))); }
  void copy(size_t at, const Column& other, size_t rows) {
    if (rows != 0) std::memcpy(data_ + at * kWidth, other.data_, rows * kWidth * sizeof(T));
  }

  T& operator[](size_t row) { return data_[row]; }
  T* row(size_t row) { return data_ + row * kWidth; }
  T* data() { return data_; }
  // The caller frees the memory, with free().
  T* release() { return std::exchange(data_, nullptr); }

 private:
  T* data_ = nullptr;
};

// The rows of columns that grow together. `Table` has `columns(other, f)`, which calls f on each of its columns and
// the same one of `other`.
template <class Table>
class Rows {
 public:
  size_t size() const { return size_; }
  void push() { ++size_; }

  // Room for one row more.
  void reserve_one() {
    if (size_ < capacity_) [[likely]] {
      return;
    }
    resize(capacity_ < 1024 ? 1024 : capacity_ * 2);
  }
  // Room for about as many rows in all; only a guess, which costs no memory that is not written to.
  void expect(size_t rows) {
    if (rows > capacity_) resize(rows);
  }
  void append(Table& other) {
    if (size_ + other.size() > capacity_) resize(size_ + other.size());
    self().columns(other, [&](auto& mine, auto& theirs) { mine.copy(size_, theirs, other.size()); });
    size_ += other.size();
  }
  void shrink() { resize(size_); }

 private:
  Table& self() { return static_cast<Table&>(*this); }
  void resize(size_t rows) {
    self().columns(self(), [rows](auto& mine, auto&) { mine.resize(rows); });
    capacity_ = rows;
  }

  size_t size_ = 0, capacity_ = 0;
};

}  // namespace qprof::coco_json
