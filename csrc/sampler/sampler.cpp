#include "sampler.h"

#include <errno.h>
#include <signal.h>
#include <time.h>

#include <algorithm>
#include <new>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "clock.h"

namespace qprof::sampler {
namespace {

// Up to this long it sleeps without looking whether it is to stop: waking from a sleep costs less than from a
// condition.
constexpr int64_t kNapNs = 100'000'000;

}  // namespace

class Sampler::Locked {
 public:
  explicit Locked(pthread_mutex_t& mutex) noexcept : mutex_(mutex) { pthread_mutex_lock(&mutex_); }
  ~Locked() { pthread_mutex_unlock(&mutex_); }
  Locked(const Locked&) = delete;
  Locked& operator=(const Locked&) = delete;

 private:
  pthread_mutex_t& mutex_;
};

// What a thread begins with; it keeps the sampler alive.
struct Sampler::Start {
  std::shared_ptr<Sampler> sampler;
  uint64_t generation;
};

Sampler::Sampler(const Options& options) : options_(options) {
  pthread_mutex_init(&mutex_, nullptr);
  pthread_condattr_t attributes;
  pthread_condattr_init(&attributes);
  pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
  pthread_cond_init(&changed_, &attributes);
  pthread_condattr_destroy(&attributes);
}

Sampler::~Sampler() {
  pthread_cond_destroy(&changed_);
  pthread_mutex_destroy(&mutex_);
}

size_t Sampler::add_probe(int64_t period_ns) {
  const Locked locked(mutex_);
  if (started_) throw std::logic_error("a probe is added before the sampler starts");
  if (period_ns <= 0) throw std::invalid_argument("a period is longer than nothing");
  auto line = std::make_unique<Line>();
  line->probe = std::make_unique<Probe>();
  line->period_ns = period_ns;
  lines_.push_back(std::move(line));
  return lines_.size() - 1;
}

void Sampler::drop_last_probe() {
  const Locked locked(mutex_);
  if (started_ || lines_.empty()) throw std::logic_error("a probe is dropped before the sampler starts");
  lines_.pop_back();
}

Probe& Sampler::probe(size_t number) {
  const Locked locked(mutex_);
  if (started_) throw std::logic_error("a probe is changed before the sampler starts");
  return *lines_.at(number)->probe;
}

// --- threads

void Sampler::start() {
  const Locked locked(mutex_);
  if (started_) throw std::logic_error("a sampler is started once");
  begin();
  launch(enter_reading, "qprof sampler");
  if (lines_.size() > 1) launch(enter_watching, "qprof watch");
}

void Sampler::read_once(size_t number) {
  const Locked locked(mutex_);
  if (threads_ > 0) throw std::logic_error("the sampler's own thread reads already");
  if (!started_) begin();
  Line& line = *lines_.at(number);
  if (line.state.lost == Loss::kNone) take_turn(line);
}

void Sampler::begin() {
  for (const auto& line : lines_) {
    line->probe->prepare();
    line->traces.reserve(line->probe->channels());
    while (line->traces.size() < line->probe->channels())
      line->traces.emplace_back(options_.first_readings, options_.most_readings);
    line->parts.resize(line->probe->parts());
  }
  started_ns_ = now_ns();
  for (const auto& line : lines_) line->due_ns = line->state.last_seen_ns = started_ns_;
  started_ = true;
}

// With the lock held.
void Sampler::launch(void* (*entry)(void*), const char* name) {
  auto start = std::make_unique<Start>(shared_from_this(), generation_);
  // Signals are for the threads of whoever waits for them.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t thread;
  const int code = pthread_create(&thread, nullptr, entry, start.get());
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (code != 0) {
    stop_ = true;
    ended_ = threads_ == 0;
    throw std::system_error(code, std::generic_category(), name);
  }
  start.release();  // the thread's now
  ++threads_;
  pthread_setname_np(thread, name);
  pthread_detach(thread);
}

void* Sampler::enter_reading(void* of) {
  const std::unique_ptr<Start> start(static_cast<Start*>(of));
  start->sampler->read_until_stopped(start->generation);
  return nullptr;
}

void* Sampler::enter_watching(void* of) {
  const std::unique_ptr<Start> start(static_cast<Start*>(of));
  start->sampler->watch();
  return nullptr;
}

void Sampler::read_until_stopped(uint64_t generation) noexcept {
  const Locked locked(mutex_);
  // Asked for from outside, where the cost is to be told: to ask at every turn would be a part of it.
  if (generation_ == generation) counting_ = pthread_getcpuclockid(pthread_self(), &cpu_clock_) == 0;
  while (generation_ == generation) {
    Line* line = next_line();
    if (line == nullptr) break;
    if (line->due_ns > now_ns()) {
      if (stop_) break;
      sleep_until(line->due_ns);
      continue;
    }
    // A probe is read at least once, even where the sampler is stopped at once.
    if (stop_ && line->state.reads + line->state.failed > 0) break;
    if (!take_turn(*line)) break;
  }
  if (generation_ == generation) {
    stop_counting();
    ended_ = true;
  }
  --threads_;
  pthread_cond_broadcast(&changed_);
}

// Looks whether a read hangs, until all is over.
void Sampler::watch() noexcept {
  const Locked locked(mutex_);
  int64_t cpu_before = 0;
  while (!ended_) {
    const timespec next = as_timespec(now_ns() + std::max<int64_t>(options_.timeout_ns / 2, 1'000'000));
    pthread_cond_timedwait(&changed_, &mutex_, &next);
    replace_hung();
    const int64_t cpu = own_cpu_ns();
    cpu_before_ns_ += cpu - std::exchange(cpu_before, cpu);
  }
  --threads_;
  pthread_cond_broadcast(&changed_);
}

// With the lock held.
void Sampler::replace_hung() noexcept {
  if (reading_ == nullptr || now_ns() - reading_since_ns_ <= options_.timeout_ns) return;
  leave_behind(Loss::kHung);
  if (stop_) {
    ended_ = true;
  } else {
    try {
      launch(enter_reading, "qprof sampler");
    } catch (const std::exception&) {  // no memory, or no thread: nothing is read any more
      for (const auto& line : lines_) {
        if (line->state.lost == Loss::kNone) line->state.lost = Loss::kNoMemory;
      }
      ended_ = true;
    }
  }
  pthread_cond_broadcast(&changed_);
}

// With the lock held. What the thread may still read is thrown away; its probe is its own from now on.
void Sampler::leave_behind(Loss loss) noexcept {
  stop_counting();
  reading_->state.lost = loss;
  reading_ = nullptr;
  ++generation_;
}

// With the lock held, before the thread that reads ends or is left behind.
void Sampler::stop_counting() noexcept {
  cpu_before_ns_ = cpu_ns();
  counting_ = false;
}

int64_t Sampler::cpu_ns() const noexcept { return cpu_before_ns_ + (counting_ ? nanoseconds(cpu_clock_) : 0); }

void Sampler::ask_to_stop() noexcept {
  const Locked locked(mutex_);
  stop_ = true;
  pthread_cond_broadcast(&changed_);
}

bool Sampler::wait_for_end(int64_t patience_ns) noexcept {
  const Locked locked(mutex_);
  if (!started_ || threads_ == 0) return true;
  const timespec deadline = as_timespec(now_ns() + patience_ns);
  while (!ended_ && pthread_cond_timedwait(&changed_, &mutex_, &deadline) != ETIMEDOUT) {
  }
  replace_hung();
  if (!ended_ && reading_ != nullptr) {
    leave_behind(Loss::kNotEnded);
    ended_ = true;
    pthread_cond_broadcast(&changed_);
  }
  return ended_;
}

void Sampler::wait_for_all() noexcept {
  const Locked locked(mutex_);
  while (threads_ > 0) pthread_cond_wait(&changed_, &mutex_);
}

// --- turns

// The line whose deadline comes first; null where none is left. With the lock held.
Sampler::Line* Sampler::next_line() noexcept {
  Line* next = nullptr;
  for (const auto& line : lines_) {
    if (line->state.lost != Loss::kNone || line->traces.empty()) continue;
    if (next == nullptr || line->due_ns < next->due_ns) next = line.get();
  }
  return next;
}

// With the lock held, which is given up meanwhile.
void Sampler::sleep_until(int64_t due_ns) noexcept {
  const timespec due = as_timespec(due_ns);
  if (due_ns - now_ns() > kNapNs) {
    pthread_cond_timedwait(&changed_, &mutex_, &due);  // who wakes early looks again
    return;
  }
  pthread_mutex_unlock(&mutex_);
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, nullptr) == EINTR) {
  }
  pthread_mutex_lock(&mutex_);
}

// With the lock held, which is given up while the probe is read; false where the thread was left behind meanwhile.
bool Sampler::take_turn(Line& line) noexcept {
  const uint64_t generation = generation_;
  const int64_t began = now_ns();
  reading_ = &line;
  reading_since_ns_ = began;
  pthread_mutex_unlock(&mutex_);
  const Turn& turn = line.probe->read();
  pthread_mutex_lock(&mutex_);
  if (generation_ != generation) return false;
  reading_ = nullptr;
  const int64_t now = now_ns();
  ProbeState& state = line.state;
  state.busy_ns += now - began;
  state.longest_late_ns = std::max(state.longest_late_ns, began - line.due_ns);
  try {
    keep(line, turn, now - began);
  } catch (const std::bad_alloc&) {
    state.lost = Loss::kNoMemory;
  }
  state.last_seen_ns = now;
  const int64_t turns = std::max<int64_t>(1, (now - line.due_ns + line.period_ns - 1) / line.period_ns);
  state.skipped += static_cast<uint64_t>(turns - 1);
  line.due_ns += turns * line.period_ns;
  return true;
}

void Sampler::keep(Line& line, const Turn& turn, int64_t took_ns) {
  ProbeState& state = line.state;
  if (turn.outcome == Outcome::kRead) {
    state.in_a_row = 0;
  } else {
    ++state.failed;
    ++state.in_a_row;
    state.last_failing_group = turn.last_failing_group;
    if (turn.outcome == Outcome::kGone)
      state.lost = Loss::kGone;
    else if (state.in_a_row >= options_.failures_in_a_row)
      state.lost = Loss::kFailing;
  }
  if (took_ns > options_.timeout_ns && state.lost == Loss::kNone) state.lost = Loss::kHung;
  keep_failures(line, turn);
  if (turn.outcome != Outcome::kRead || state.lost != Loss::kNone) return;
  ++state.reads;
  state.read_ns += took_ns;
  state.longest_read_ns = std::max(state.longest_read_ns, took_ns);
  for (const Reading& reading : turn.readings) line.traces[reading.channel].append(reading.t_ns, reading.value);
}

void Sampler::keep_failures(Line& line, const Turn& turn) {
  for (size_t which = 0; which < turn.failed; ++which) {
    PartState& part = line.parts[turn.failures[which].part];
    if (part.failures++ == 0) part.first = ++line.failed_parts;
    part.last = turn.failures[which].failure;
  }
}

// --- what it found

ProbeState Sampler::state(size_t number) {
  const Locked locked(mutex_);
  replace_hung();
  ProbeState found = lines_.at(number)->state;
  int64_t busy = 0;
  for (const auto& line : lines_) busy += line->state.busy_ns;
  if (busy > 0) {
    const double share = static_cast<double>(found.busy_ns) / static_cast<double>(busy);
    found.cpu_ns = static_cast<int64_t>(share * static_cast<double>(cpu_ns()));
  }
  return found;
}

std::vector<PartState> Sampler::parts(size_t number) {
  const Locked locked(mutex_);
  return lines_.at(number)->parts;
}

Cut Sampler::between(size_t number, size_t channel, int64_t start_ns, int64_t end_ns, size_t neighbours,
                     std::vector<int64_t>& times, std::vector<double>& values) {
  const Locked locked(mutex_);
  if (lines_.at(number)->traces.empty()) return Cut::kFound;  // not started
  const Trace& trace = lines_.at(number)->traces.at(channel);
  if (trace.forgot(start_ns)) return Cut::kForgotten;
  const Window window = trace.between(start_ns, end_ns, neighbours);
  if (window.first < window.last) {
    times.assign(trace.times() + window.first, trace.times() + window.last);
    values.assign(trace.values() + window.first, trace.values() + window.last);
  }
  return Cut::kFound;
}

void Sampler::forget(size_t number, size_t channel, int64_t before_ns) {
  const Locked locked(mutex_);
  Line& line = *lines_.at(number);
  if (!line.traces.empty()) line.traces.at(channel).forget(before_ns);
}

int64_t Sampler::started_ns() noexcept {
  const Locked locked(mutex_);
  return started_ns_;
}

}  // namespace qprof::sampler
