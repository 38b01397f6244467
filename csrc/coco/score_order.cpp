#include "score_order.h"

#include <algorithm>
#include <array>
#include <tuple>
#include <utility>

namespace qprof::coco {
namespace {

// The radix sort sees 32 bits, packed with the index: of a score's key the upper half (for a score in [0, 1], 20 bits
// of its mantissa). Candidates that are equal in it are put right one run at a time.
constexpr unsigned kDigitBits = 11;
constexpr unsigned kPasses = 3;
constexpr size_t kBuckets = size_t{1} << kDigitBits;
// Below this, clearing and adding up the buckets takes longer than sorting by comparison.
constexpr size_t kSmallestRadix = 1'000;

uint64_t pack(uint64_t upper, uint64_t index) { return upper << 32 | index; }

size_t digit(uint64_t packed, unsigned pass) { return (packed >> (32 + pass * kDigitBits)) & (kBuckets - 1); }

}  // namespace

void ScoreOrder::sort(std::span<const Candidate> candidates) {
  items_.resize(candidates.size());
  for (size_t i = 0; i < candidates.size(); ++i) items_[i] = i;
  if (candidates.size() < kSmallestRadix) {
    sort_few(candidates);
  } else {
    sort_many(candidates);
  }
}

void ScoreOrder::sort_few(std::span<const Candidate> candidates) {
  std::sort(items_.begin(), items_.end(), [&](uint64_t a, uint64_t b) {
    const Candidate& x = candidates[a];
    const Candidate& y = candidates[b];
    return std::tie(x.key, x.image, a) < std::tie(y.key, y.image, b);
  });
}

void ScoreOrder::sort_many(std::span<const Candidate> candidates) {
  order_by_image(candidates);
  for (uint64_t& item : items_) {
    const uint32_t index = static_cast<uint32_t>(item);
    item = pack(candidates[index].key >> 32, index);
  }
  radix_sort();
  order_runs(candidates);
}

// Equal scores then keep the order of their images through the stable sort by score.
void ScoreOrder::order_by_image(std::span<const Candidate> candidates) {
  auto by_image = [](const Candidate& a, const Candidate& b) { return a.image < b.image; };
  if (std::is_sorted(candidates.begin(), candidates.end(), by_image)) return;
  for (size_t i = 0; i < candidates.size(); ++i) items_[i] = pack(candidates[i].image, i);
  radix_sort();
}

// Stable, least significant digit first.
void ScoreOrder::radix_sort() {
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
  for (auto first = items_.begin(); first != items_.end();) {
    const uint64_t upper = *first >> 32;
    auto last = first + 1;
    while (last != items_.end() && *last >> 32 == upper) ++last;
    if (last - first > 1 && !std::is_sorted(first, last, before)) std::stable_sort(first, last, before);
    first = last;
  }
}

}  // namespace qprof::coco
