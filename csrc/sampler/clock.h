// The clock of all measurements, CLOCK_MONOTONIC, which is also Python's time.perf_counter_ns; and that of the CPU time
// of the calling thread.
#pragma once

#include <time.h>

#include <cstdint>

namespace qprof::sampler {

inline int64_t nanoseconds(clockid_t clock) noexcept {
  timespec now;
  clock_gettime(clock, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

inline int64_t now_ns() noexcept { return nanoseconds(CLOCK_MONOTONIC); }
inline int64_t own_cpu_ns() noexcept { return nanoseconds(CLOCK_THREAD_CPUTIME_ID); }

inline timespec as_timespec(int64_t t_ns) noexcept {
  timespec time;
  time.tv_sec = static_cast<time_t>(t_ns / 1'000'000'000);
  time.tv_nsec = static_cast<long>(t_ns % 1'000'000'000);
  return time;
}

}  // namespace qprof::sampler
