#include "lookup.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "parallel.h"

namespace qprof::coco {
namespace {

// A table over the whole span of ids is the quickest, as long as it stays this small (in entries).
constexpr uint64_t kLargestTable = 1 << 20;
constexpr size_t kPart = 1 << 16;

bool as_id(int64_t value, int64_t& id) {
  id = value;
  return true;
}

// A column of a float table: only a whole number in range is an id.
bool as_id(double value, int64_t& id) {
  if (!(value >= -9223372036854775808.0 && value < 9223372036854775808.0)) return false;
  id = static_cast<int64_t>(value);
  return static_cast<double>(id) == value;
}

class Index {
 public:
  explicit Index(std::span<const int64_t> sorted) : sorted_(sorted) {
    if (sorted.empty()) return;
    const uint64_t extent = distance(sorted.back());
    if (extent >= kLargestTable) return;
    table_.assign(extent + 1, -1);
    for (size_t i = 0; i < sorted.size(); ++i) table_[distance(sorted[i])] = static_cast<int32_t>(i);
  }

  int32_t find(int64_t id) const {
    if (!table_.empty()) {
      const uint64_t place = distance(id);
      return place < table_.size() ? table_[place] : -1;
    }
    const auto found = std::lower_bound(sorted_.begin(), sorted_.end(), id);
    return found != sorted_.end() && *found == id ? static_cast<int32_t>(found - sorted_.begin()) : -1;
  }

 private:
  // Unsigned, so that an id below the first one wraps around to a distance beyond the table.
  uint64_t distance(int64_t id) const { return static_cast<uint64_t>(id) - static_cast<uint64_t>(sorted_.front()); }

  std::span<const int64_t> sorted_;
  std::vector<int32_t> table_;
};

template <class Id>
size_t find_all(const Column<Id>& ids, size_t count, std::span<const int64_t> sorted, int32_t* out, unsigned threads) {
  const Index index(sorted);
  std::vector<size_t> missing((count + kPart - 1) / kPart);
  for_each_task(missing.size(), threads, [&](size_t part, unsigned) {
    size_t absent = 0;
    for (size_t i = part * kPart; i < std::min(count, (part + 1) * kPart); ++i) {
      int64_t id = 0;
      out[i] = as_id(ids[i], id) ? index.find(id) : -1;
      absent += out[i] < 0;
    }
    missing[part] = absent;
  });
  return std::accumulate(missing.begin(), missing.end(), size_t{0});
}

}  // namespace

size_t index_of(const Column<int64_t>& ids, size_t count, std::span<const int64_t> sorted, int32_t* out,
                unsigned threads) {
  return find_all(ids, count, sorted, out, threads);
}

size_t index_of(const Column<double>& ids, size_t count, std::span<const int64_t> sorted, int32_t* out,
                unsigned threads) {
  return find_all(ids, count, sorted, out, threads);
}

}  // namespace qprof::coco
