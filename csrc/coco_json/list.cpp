#include "list.h"

#include <algorithm>

namespace qprof::coco_json {

const char* guess_start(const char* p, const char* end) {
  // Farther than any entry without a mask is long.
  constexpr ptrdiff_t kReach = ptrdiff_t{1} << 20;
  end = p + std::min(end - p, kReach);
  while (p < end) {
    p = static_cast<const char*>(std::memchr(p, '}', static_cast<size_t>(end - p)));
    if (p == nullptr) return nullptr;
    const char* next = skip_space(++p);
    if (*next != ',') continue;
    next = skip_space(next + 1);
    if (*next == '{' && next < end) return next;
  }
  return nullptr;
}

}  // namespace qprof::coco_json
