// What files of /proc and /sys tell. Each function accepts what its namesake in qprof.probes accepts, and gives the
// same figures to the last bit.
#pragma once

#include <cstdint>
#include <string_view>

namespace qprof::sampler {

// A whole number of at most 64 bits and a sign.
struct Whole {
  bool negative = false;
  uint64_t magnitude = 0;

  __int128 value() const noexcept { return negative ? -__int128{magnitude} : __int128{magnitude}; }
};

// As `probes.base.whole`: Python's int(), up to 64 bits.
bool parse_whole(std::string_view text, Whole& found) noexcept;

struct CpuTicks {
  __int128 busy = 0;
  __int128 stolen = 0;
};

bool parse_cpu_ticks(std::string_view content, CpuTicks& found) noexcept;

struct ProcessCounts {
  __int128 ticks = 0;
  __int128 minor_faults = 0;
  __int128 major_faults = 0;
  bool ended = false;
};

bool parse_process_counts(std::string_view content, ProcessCounts& found) noexcept;

struct Pressure {
  double share = 0.0;
  Whole total;
};

bool parse_some_pressure(std::string_view content, Pressure& found) noexcept;

struct Spread {
  size_t count = 0;
  double sum = 0.0;
  double least = 0.0;
  double most = 0.0;

  void add(double value) noexcept;
};

// The "cpu MHz" lines of /proc/cpuinfo; false where there is none.
bool parse_listed_mhz(std::string_view content, Spread& found) noexcept;

}  // namespace qprof::sampler
