// Times nested calls on one thread: a stack of the calls under way, and a record of each that has ended.
#pragma once

#include <pthread.h>
#include <time.h>

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <vector>

namespace qprof::layers {

// One call that has ended. `own_ns`: its duration less that of the timed calls inside it.
struct Record {
  int32_t inference;
  int32_t layer;
  int64_t start_ns;
  int64_t duration_ns;
  int64_t own_ns;
};

class Recorder {
 public:
  void reserve(size_t records) {
    // Written once, so that no page is first touched within a timed call.
    const size_t used = records_.size();
    records_.resize(used + records);
    records_.resize(used);
    if (frames_.capacity() < kDepth) frames_.reserve(kDepth);
  }

  // Calls of the calling thread are recorded from now on.
  void start(int32_t inference) {
    if (!frames_.empty()) throw std::logic_error("a timed call is still under way");
    inference_ = inference;
    thread_ = pthread_self();
    recording_ = true;
  }

  void stop() noexcept { recording_ = false; }
  bool recording() const noexcept { return recording_; }

  // Whether the call is timed; `leave` must then follow it, whatever has happened in between.
  bool enter(int32_t layer) noexcept {
    if (!recording_) return false;
    if (!pthread_equal(thread_, pthread_self())) {
      ++foreign_;
      return false;
    }
    try {
      frames_.push_back({layer, 0, 0});
    } catch (...) {
      ++lost_;
      return false;
    }
    frames_.back().start_ns = monotonic_ns();
    return true;
  }

  void leave() noexcept {
    const int64_t end_ns = monotonic_ns();
    const Frame frame = frames_.back();
    frames_.pop_back();
    const int64_t duration_ns = end_ns - frame.start_ns;
    if (!frames_.empty()) frames_.back().inside_ns += duration_ns;
    try {
      records_.push_back({inference_, frame.layer, frame.start_ns, duration_ns, duration_ns - frame.inside_ns});
    } catch (...) {
      ++lost_;
    }
  }

  const std::vector<Record>& records() const noexcept { return records_; }
  void clear() noexcept { records_.clear(); }
  uint64_t lost() const noexcept { return lost_; }
  uint64_t foreign() const noexcept { return foreign_; }

 private:
  struct Frame {
    int32_t layer;
    int64_t start_ns;
    int64_t inside_ns;
  };

  static constexpr size_t kDepth = 64;

  static int64_t monotonic_ns() noexcept {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<int64_t>(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
  }

  std::vector<Record> records_;
  std::vector<Frame> frames_;
  pthread_t thread_{};
  int32_t inference_ = 0;
  bool recording_ = false;
  uint64_t lost_ = 0;
  uint64_t foreign_ = 0;
};

}  // namespace qprof::layers
