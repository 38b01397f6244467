// A probe as the sampler reads it: groups of parts that fail on their own. It follows `PartsProbe` and `JoinedProbe` of
// qprof.probes.base step by step: the same readings are kept, and the same faults lose a part, a group or the probe.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "source.h"

namespace qprof::sampler {

struct Reading {
  size_t channel;
  int64_t t_ns;
  double value;
};

// What failed in one turn of one part.
struct PartFailure {
  size_t part;
  Failure failure;
};

enum class Outcome { kRead, kFailed, kGone };

// What one turn brought; kept from turn to turn, so that a turn takes no memory.
struct Turn {
  std::vector<Reading> readings;
  std::vector<PartFailure> failures;  // the first `failed` of them
  size_t failed = 0;
  Outcome outcome = Outcome::kRead;
  size_t last_failing_group = 0;

  void clear() noexcept;
};

// It is read by one thread at a time, and asked about nothing else.
class Probe {
 public:
  // Groups are numbered from 0 on; parts and channels, too, over all groups.
  void add_group();
  void add_part(std::unique_ptr<Source> source, int64_t every_ns);

  size_t channels() const noexcept { return channels_; }
  size_t parts() const noexcept { return parts_; }
  size_t groups() const noexcept { return groups_.size(); }

  // Takes the memory that turns need. Throws `std::bad_alloc`.
  void prepare();
  const Turn& read() noexcept;

 private:
  struct Part {
    size_t number;
    size_t first_channel;
    std::unique_ptr<Source> source;
    int64_t every_ns;
    int64_t due_ns;
    bool alive;
  };

  struct Group {
    std::vector<Part> parts;
    bool gone = false;
  };

  Outcome read_group(Group& group) noexcept;
  void keep(const Part& part, int64_t t_ns) noexcept;

  std::vector<Group> groups_;
  size_t channels_ = 0;
  size_t parts_ = 0;
  std::vector<double> values_;
  Turn turn_;
};

}  // namespace qprof::sampler
