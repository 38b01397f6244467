#include "probe.h"

#include <stdexcept>
#include <utility>

#include "clock.h"

namespace qprof::sampler {

void Turn::clear() noexcept {
  readings.clear();
  failed = 0;
  outcome = Outcome::kRead;
  last_failing_group = 0;
}

void Probe::add_group() { groups_.emplace_back(); }

void Probe::add_part(std::unique_ptr<Source> source, int64_t every_ns) {
  if (groups_.empty()) throw std::logic_error("a part belongs to a group");
  const size_t channels = source->channels();
  groups_.back().parts.push_back({parts_, channels_, std::move(source), every_ns, INT64_MIN, true});
  ++parts_;
  channels_ += channels;
}

void Probe::prepare() {
  values_.resize(channels_);
  turn_.readings.reserve(channels_);
  turn_.failures.resize(parts_);
}

const Turn& Probe::read() noexcept {
  turn_.clear();
  bool failed = false;
  bool all_gone = true;
  for (size_t number = 0; number < groups_.size(); ++number) {
    Group& group = groups_[number];
    if (group.parts.empty()) continue;
    const Outcome outcome = group.gone ? Outcome::kGone : read_group(group);
    group.gone = outcome == Outcome::kGone;
    all_gone = all_gone && group.gone;
    if (outcome == Outcome::kRead) continue;
    failed = true;
    turn_.last_failing_group = number;
  }
  if (failed && turn_.readings.empty()) turn_.outcome = all_gone ? Outcome::kGone : Outcome::kFailed;
  return turn_;
}

Outcome Probe::read_group(Group& group) noexcept {
  const size_t readings = turn_.readings.size();
  bool failed = false;
  int64_t before = now_ns();
  for (Part& part : group.parts) {
    if (!part.alive) continue;
    if (part.every_ns != 0) {
      if (before < part.due_ns) continue;
      part.due_ns = before + part.every_ns;
    }
    Failure& failure = turn_.failures[turn_.failed].failure;
    const bool answered = part.source->read(values_.data(), failure);
    const int64_t after = now_ns();
    if (answered) {
      keep(part, before + (after - before) / 2);
    } else {
      failed = true;
      part.alive = !failure.gone;
      turn_.failures[turn_.failed++].part = part.number;
    }
    before = after;
  }
  if (turn_.readings.size() > readings) return Outcome::kRead;
  for (const Part& part : group.parts) {
    if (part.alive) return failed ? Outcome::kFailed : Outcome::kRead;
  }
  return Outcome::kGone;
}

void Probe::keep(const Part& part, int64_t t_ns) noexcept {
  for (size_t offset = 0; offset < part.source->channels(); ++offset)
    turn_.readings.push_back({part.first_channel + offset, t_ns, values_[offset]});
}

}  // namespace qprof::sampler
