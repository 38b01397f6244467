// Readings of one channel in the order they were taken, in arrays that double up to a limit and then lose their older
// half.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace qprof::sampler {

// Positions [first, last) of a trace.
struct Window {
  size_t first = 0;
  size_t last = 0;
};

class Trace {
 public:
  // Room for `first` readings is taken at once. Throws `std::bad_alloc`.
  Trace(size_t first, size_t limit) : limit_(limit) {
    times_.reserve(first);
    values_.reserve(first);
  }

  // Throws `std::bad_alloc`, and holds what it held then.
  void append(int64_t t_ns, double value) {
    if (times_.size() == times_.capacity()) make_room();
    times_.push_back(t_ns);
    values_.push_back(value);
  }

  // Whether readings from `start_ns` on may have been forgotten.
  bool forgot(int64_t start_ns) const noexcept { return forgotten_ns_ && start_ns <= *forgotten_ns_; }

  Window between(int64_t start_ns, int64_t end_ns, size_t neighbours) const noexcept {
    const auto begin = times_.begin();
    const size_t first = static_cast<size_t>(std::lower_bound(begin, times_.end(), start_ns) - begin);
    const size_t last = static_cast<size_t>(std::upper_bound(begin, times_.end(), end_ns) - begin);
    return {first > neighbours ? first - neighbours : 0, std::min(last + neighbours, times_.size())};
  }

  void forget(int64_t before_ns) noexcept {
    drop(static_cast<size_t>(std::lower_bound(times_.begin(), times_.end(), before_ns) - times_.begin()));
  }

  const int64_t* times() const noexcept { return times_.data(); }
  const double* values() const noexcept { return values_.data(); }

 private:
  void make_room() {
    const size_t room = std::min(limit_, std::max<size_t>(1, 2 * times_.capacity()));
    if (room <= times_.size()) return drop(times_.size() / 2);
    values_.reserve(room);
    times_.reserve(room);
  }

  void drop(size_t count) noexcept {
    if (count == 0) return;
    forgotten_ns_ = times_[count - 1];
    times_.erase(times_.begin(), times_.begin() + static_cast<std::ptrdiff_t>(count));
    values_.erase(values_.begin(), values_.begin() + static_cast<std::ptrdiff_t>(count));
  }

  size_t limit_;
  std::vector<int64_t> times_;
  std::vector<double> values_;
  std::optional<int64_t> forgotten_ns_;
};

}  // namespace qprof::sampler
