// Reads probes at steady rates on a thread of its own, which never takes Python's lock.
//
// One thread reads all probes, each at its deadlines on CLOCK_MONOTONIC. Where a read does not come back in time, its
// thread is left behind with its probe, and a new one goes on with the others: a second thread, which wakes twice in
// that time, sees to it wherever there is more than one probe.
#pragma once

#include <pthread.h>
#include <time.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "probe.h"
#include "trace.h"

namespace qprof::sampler {

enum class Loss : int {
  kNone = 0,
  kHung = 1,      // a read did not come back in time
  kGone = 2,      // no group will answer again
  kFailing = 3,   // too many turns in a row failed
  kNoMemory = 4,  // there was none for what it read
  kNotEnded = 5,  // a read was still under way when the sampler was to end
};

struct ProbeState {
  uint64_t reads = 0;
  uint64_t failed = 0;
  uint64_t skipped = 0;  // deadlines that had passed by the time that the turn before them ended
  uint64_t in_a_row = 0;
  int64_t read_ns = 0;
  int64_t longest_read_ns = 0;
  int64_t longest_late_ns = 0;  // from a deadline to the read that it was for
  int64_t busy_ns = 0;          // in all turns
  int64_t cpu_ns = 0;           // of the sampler's threads, in proportion to `busy_ns`
  int64_t last_seen_ns = 0;
  Loss lost = Loss::kNone;
  size_t last_failing_group = 0;
};

struct PartState {
  uint64_t failures = 0;
  uint64_t first = 0;  // among the first failures of all parts of the probe, from 1 on
  Failure last;
};

struct Options {
  int64_t timeout_ns = 0;
  uint64_t failures_in_a_row = 0;  // so many lose a probe
  size_t first_readings = 0;
  size_t most_readings = 0;  // of each channel
};

enum class Cut { kFound, kForgotten };

class Sampler : public std::enable_shared_from_this<Sampler> {
 public:
  explicit Sampler(const Options& options);
  ~Sampler();
  Sampler(const Sampler&) = delete;
  Sampler& operator=(const Sampler&) = delete;

  // Before `start`.
  size_t add_probe(int64_t period_ns);
  void drop_last_probe();
  Probe& probe(size_t number);

  // Takes the memory, then begins. Throws `std::bad_alloc`, `std::system_error`, or `std::logic_error` where it was
  // started before.
  void start();
  void ask_to_stop() noexcept;
  // Waits until no thread reads, for at most so long; what is still being read then is lost.
  bool wait_for_end(int64_t patience_ns) noexcept;
  // Waits for as long as it takes: also for reads that were given up.
  void wait_for_all() noexcept;
  // One turn of a probe on the calling thread, instead of `start`.
  void read_once(size_t number);

  // Looks first whether a read hangs.
  ProbeState state(size_t number);
  std::vector<PartState> parts(size_t number);
  int64_t started_ns() noexcept;

  // Readings of a channel with start_ns <= t_ns <= end_ns, and so many before and after. Throws `std::bad_alloc`.
  Cut between(size_t number, size_t channel, int64_t start_ns, int64_t end_ns, size_t neighbours,
              std::vector<int64_t>& times, std::vector<double>& values);
  void forget(size_t number, size_t channel, int64_t before_ns);

 private:
  struct Line {
    std::unique_ptr<Probe> probe;
    int64_t period_ns = 0;
    int64_t due_ns = 0;
    std::vector<Trace> traces;
    std::vector<PartState> parts;
    uint64_t failed_parts = 0;
    ProbeState state;
  };

  class Locked;
  struct Start;

  static void* enter_reading(void* of);
  static void* enter_watching(void* of);
  void begin();
  void launch(void* (*entry)(void*), const char* name);
  void read_until_stopped(uint64_t generation) noexcept;
  void watch() noexcept;
  Line* next_line() noexcept;
  void sleep_until(int64_t due_ns) noexcept;
  bool take_turn(Line& line) noexcept;
  void keep(Line& line, const Turn& turn, int64_t took_ns);
  void keep_failures(Line& line, const Turn& turn);
  void replace_hung() noexcept;
  void leave_behind(Loss loss) noexcept;
  void stop_counting() noexcept;
  int64_t cpu_ns() const noexcept;

  Options options_;
  std::vector<std::unique_ptr<Line>> lines_;
  int64_t started_ns_ = 0;

  pthread_mutex_t mutex_;
  pthread_cond_t changed_;
  // All of these, and the lines' traces, parts and states, under the lock.
  bool started_ = false;
  bool stop_ = false;
  bool ended_ = false;       // nothing is read any more
  uint64_t generation_ = 0;  // of the thread that reads
  size_t threads_ = 0;       // that have not ended
  Line* reading_ = nullptr;  // what is being read
  int64_t reading_since_ns_ = 0;
  bool counting_ = false;  // `cpu_clock_` is that of the thread that reads, which has not ended
  clockid_t cpu_clock_ = CLOCK_MONOTONIC;
  int64_t cpu_before_ns_ = 0;  // of other threads
};

}  // namespace qprof::sampler
