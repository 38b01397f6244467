// Parts that are files of /proc and /sys: opened once, and read anew each time (the kernel writes them when they are
// read).
#pragma once

#include <memory>
#include <vector>

#include "source.h"

namespace qprof::sampler {

enum class Form : int {
  kNumber = 0,       // one whole number, divided by `scale`
  kCpuTicks = 1,     // /proc/stat: busy, stolen, times `scale`
  kProcess = 2,      // /proc/PID/stat, /proc/stat: its ticks, those of all others, its minor and major faults
  kPressure = 3,     // /proc/pressure/*: share, total
  kFrequencies = 4,  // a number in each file, divided by `scale`: mean, least, most
  kListing = 5,      // /proc/cpuinfo: mean, least, most
};

// `descriptors` are duplicated, and so stay the caller's to close. Throws `std::invalid_argument` where there are not
// as many as the form needs, `std::system_error` where one cannot be duplicated.
std::unique_ptr<Source> open_files(Form form, const std::vector<int>& descriptors, double scale);

}  // namespace qprof::sampler
