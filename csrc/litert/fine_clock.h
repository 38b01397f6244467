// Nanoseconds of the kernels inside a delegate that reports whole microseconds.
//
// XNNPACK reads CLOCK_MONOTONIC when it begins and after each operator it ran, and reports each difference, cut down to
// whole microseconds (xnn_get_elapsed_time in its runtime.c): a kernel of 300 ns counts 0, each time. The library that
// holds the delegate imports clock_gettime, so this puts a function of ours into that library's import table. In the
// thread that runs a delegate's node, and for as long as it runs, that function keeps what the clock says, and tells
// XNNPACK a clock that has run a thousand times faster since the node began. What XNNPACK then reports as microseconds
// are nanoseconds. To all others the function is clock_gettime.
#pragma once

#include <cstdint>
#include <span>

namespace qprof::litert {

// Puts `fine_clock` in place of clock_gettime into the import table of the library that holds this function. Whether it
// stands there now; a library that is linked otherwise is left as it is. Not for use by two threads at once.
bool plant_fine_clock(const void* function) noexcept;

// While it exists, in this thread, the planted clock runs fast and keeps its readings. One at a time in a thread.
class FineClock {
 public:
  // `room`: for the readings, none of which is kept where there are more of them.
  FineClock(int64_t now_ns, std::span<int64_t> room) noexcept;
  ~FineClock();
  FineClock(const FineClock&) = delete;
  FineClock& operator=(const FineClock&) = delete;

  // What the clock said, in nanoseconds, reading by reading; nothing where the clock is not planted.
  std::span<const int64_t> readings() const noexcept;
};

// Nanoseconds from one reading of the planted clock to the next with nothing in between: the midmean of many.
int64_t fine_clock_cost_ns() noexcept;

}  // namespace qprof::litert
