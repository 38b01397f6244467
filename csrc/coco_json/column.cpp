#include "column.h"

#include <sys/mman.h>

#include <new>

namespace qprof::coco_json {

void* resized(void* block, size_t bytes) {
  void* moved = std::realloc(block, bytes == 0 ? 1 : bytes);
  if (moved == nullptr) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
  // As NumPy does for its own: the faults of small pages would take a tenth of the reading.
  constexpr size_t kLarge = size_t{4} << 20, kPage = size_t{4} << 10;
  if (bytes >= kLarge) {
    const uintptr_t first = (reinterpret_cast<uintptr_t>(moved) + kPage - 1) & ~(kPage - 1);
    // Advice: where it is not taken, nothing is lost.
    static_cast<void>(::madvise(reinterpret_cast<void*>(first), (bytes - kPage) & ~(kPage - 1), MADV_HUGEPAGE));
  }
#endif
  return moved;
}

}  // namespace qprof::coco_json
