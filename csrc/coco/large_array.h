// Arrays of plain values that are written before they are read: no filling, and few page faults.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <type_traits>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace qprof::coco {

template <class T>
class LargeArray {
  static_assert(std::is_trivially_copyable_v<T> && alignof(T) <= alignof(std::max_align_t));

 public:
  LargeArray() = default;
  explicit LargeArray(size_t size) { resize(size); }
  LargeArray(LargeArray&& other) noexcept { swap(other); }
  LargeArray& operator=(LargeArray&& other) noexcept {
    swap(other);
    return *this;
  }
  ~LargeArray() { std::free(data_); }

  // Of the size, with values that are undefined. Throws std::bad_alloc.
  void resize(size_t size) {
    if (size > capacity_) {
      if (size > SIZE_MAX / sizeof(T)) throw std::bad_alloc();
      void* fresh = std::malloc(size * sizeof(T));
      if (fresh == nullptr) throw std::bad_alloc();
      std::free(data_);
      data_ = static_cast<T*>(fresh);
      capacity_ = size;
      ask_for_large_pages();
    }
    size_ = size;
  }
  void swap(LargeArray& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(capacity_, other.capacity_);
  }

  size_t size() const { return size_; }
  T* data() { return data_; }
  const T* data() const { return data_; }
  T& operator[](size_t i) { return data_[i]; }
  const T& operator[](size_t i) const { return data_[i]; }
  T* begin() { return data_; }
  T* end() { return data_ + size_; }

 private:
  // As NumPy does for its own large arrays. Only advice: where it is not taken, nothing is lost.
  void ask_for_large_pages() {
#if defined(MADV_HUGEPAGE)
    constexpr size_t kLarge = size_t{4} << 20, kPage = size_t{4} << 10;
    const size_t bytes = capacity_ * sizeof(T);
    if (bytes < kLarge) return;
    const uintptr_t first = (reinterpret_cast<uintptr_t>(data_) + kPage - 1) & ~(kPage - 1);
    static_cast<void>(::madvise(reinterpret_cast<void*>(first), (bytes - kPage) & ~(kPage - 1), MADV_HUGEPAGE));
#endif
  }

  T* data_ = nullptr;
  size_t size_ = 0;
  size_t capacity_ = 0;
};

}  // namespace qprof::coco
