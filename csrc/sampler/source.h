// What one part of a probe is to the sampler: a few figures that one call reads, or the reason why there are none.
#pragma once

#include <cstddef>
#include <string>

namespace qprof::sampler {

enum class Fault : int {
  kNone = 0,
  kSystem = 1,  // a system call failed: `code` is its errno
  kForm = 2,    // the file holds something else: `content`
  kDriver = 3,  // the driver's library said no: `code` is what it returned
};

struct Failure {
  Fault fault = Fault::kNone;
  bool gone = false;  // for the rest of the run
  int code = 0;
  size_t which = 0;     // the file, the call or the field of the part
  std::string content;  // what was read, cut
};

// It is read by one thread at a time.
class Source {
 public:
  virtual ~Source() = default;
  virtual size_t channels() const noexcept = 0;
  // Fills `values`, one for each channel, and returns true; or fills `failure`.
  virtual bool read(double* values, Failure& failure) noexcept = 0;
};

}  // namespace qprof::sampler
