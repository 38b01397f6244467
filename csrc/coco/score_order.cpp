#include "score_order.h"

#include <algorithm>
#include <array>
#include <utility>

namespace qprof::coco {
namespace {

// Below this, clearing and adding up the buckets takes longer than sorting by comparison; from the second on, fewer
// passes save more than larger buckets cost.
constexpr size_t kSmallestRadix = 100;
constexpr size_t kSmallestWideRadix = 8'000;

}  // namespace

// Sorting sees 32 bits, packed with the index: of a score's key the upper half (for a score in [0, 1], 20 bits of its
// mantissa). Candidates that are equal in it are put right one run at a time.
void ScoreOrder::sort_items(std::span<const Candidate> candidates) {
  if (items_.size() < kSmallestRadix) {
    std::sort(items_.begin(), items_.end());
  } else if (items_.size() < kSmallestWideRadix) {
    radix_sort<8, 4>();
  } else {
    radix_sort<11, 3>();
  }
  order_runs(candidates);
}

// Stable, least significant digit first.
template <unsigned kDigitBits, unsigned kPasses>
void ScoreOrder::radix_sort() {
  constexpr size_t kBuckets = size_t{1} << kDigitBits;
  auto digit = [](uint64_t item, unsigned pass) { return (item >> (32 + pass * kDigitBits)) & (kBuckets - 1); };
  std::array<std::array<uint32_t, kBuckets>, kPasses> counts{};
  for (uint64_t item : items_) {
    for (unsigned pass = 0; pass < kPasses; ++pass) ++counts[pass][digit(item, pass)];
  }
  other_.resize(items_.size());
  for (unsigned pass = 0; pass < kPasses; ++pass) {
    std::array<uint32_t, kBuckets>& next = counts[pass];
    if (next[digit(items_[0], pass)] == items_.size()) continue;
    uint32_t total = 0;
    for (uint32_t& bucket : next) bucket = std::exchange(total, total + bucket);
    for (uint64_t item : items_) other_[next[digit(item, pass)]++] = item;
    items_.swap(other_);
  }
}

// Within a run of equal upper halves: by the whole key, keeping the order of equal ones.
void ScoreOrder::order_runs(std::span<const Candidate> candidates) {
  auto before = [&](uint64_t a, uint64_t b) {
    return candidates[static_cast<uint32_t>(a)].key < candidates[static_cast<uint32_t>(b)].key;
  };
  for (uint64_t* first = items_.begin(); first != items_.end();) {
    const uint64_t upper = *first >> 32;
    uint64_t* last = first + 1;
    while (last != items_.end() && *last >> 32 == upper) ++last;
    if (last - first > 1 && !std::is_sorted(first, last, before)) std::stable_sort(first, last, before);
    first = last;
  }
}

}  // namespace qprof::coco
