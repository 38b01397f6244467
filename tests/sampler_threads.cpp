// The sampler's threads under ThreadSanitizer: built and run by tests/integration/test_sanitizers.py.
//
// While files are read at 1000 Hz and others rewrite them, several threads ask for everything that can be asked for;
// one sensor hangs, is left behind, and comes back after the sampler has ended. Prints "all well".
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "clock.h"
#include "files.h"
#include "sampler.h"

namespace {

using namespace qprof::sampler;

constexpr int64_t kMs = 1'000'000;

void pause(int64_t ns) {
  const timespec time = as_timespec(ns);
  nanosleep(&time, nullptr);
}

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "not so: %s\n", what);
  std::exit(1);
}

// What a test and its sensor share. Not on the test's stack, which others would write to while a thread of the sampler
// that was left behind still ends.
struct Told {
  std::atomic<bool> hangs = false;
  std::atomic<int> sensors = 0;
};

// A sensor that hangs where it is told to.
class Hanging : public Source {
 public:
  explicit Hanging(std::shared_ptr<Told> told) : told_(std::move(told)) { ++told_->sensors; }
  ~Hanging() override { --told_->sensors; }
  Hanging(const Hanging&) = delete;
  Hanging& operator=(const Hanging&) = delete;
  size_t channels() const noexcept override { return 1; }
  bool read(double* values, Failure& failure) noexcept override {
    while (told_->hangs.load()) pause(kMs);
    if (++reads_ % 3 == 0) {
      failure.fault = Fault::kForm;
      failure.content.assign("a reading that is none");
      return false;
    }
    values[0] = static_cast<double>(reads_);
    return true;
  }

 private:
  const std::shared_ptr<Told> told_;
  int reads_ = 0;
};

class TemporaryFile {
 public:
  TemporaryFile() {
    char name[] = "/tmp/qprof-sampler-XXXXXX";
    descriptor = mkstemp(name);
    require(descriptor >= 0, "a temporary file can be made");
    unlink(name);
    write(0);
  }
  ~TemporaryFile() { close(descriptor); }

  void write(int number) const {
    char text[16];
    const int length = std::snprintf(text, sizeof text, number % 5 == 4 ? "none %05d\n" : "%010d\n", number);
    require(pwrite(descriptor, text, static_cast<size_t>(length), 0) == length, "the file can be written");
  }

  int descriptor;
};

std::shared_ptr<Sampler> made(const TemporaryFile& file, const std::shared_ptr<Told>& told, bool alone) {
  Options options;
  options.timeout_ns = 50 * kMs;
  options.failures_in_a_row = 1000;
  options.first_readings = 8;
  options.most_readings = 64;
  auto sampler = std::make_shared<Sampler>(options);
  if (!alone) {
    const size_t files = sampler->add_probe(kMs);
    sampler->probe(files).add_group();
    for (int zone = 0; zone < 5; ++zone)
      sampler->probe(files).add_part(open_files(Form::kNumber, {file.descriptor}, 1000.0), 0);
  }
  const size_t hanging = sampler->add_probe(2 * kMs);
  sampler->probe(hanging).add_group();
  sampler->probe(hanging).add_part(std::make_unique<Hanging>(told), 0);
  return sampler;
}

// Each question has a thread of its own: one that takes the lock for another question would be in step with the sampler
// whether this one takes it or not.
void ask_for_states(Sampler& sampler, const std::atomic<bool>& done) {
  while (!done.load()) {
    for (size_t probe = 0; probe < 2; ++probe) {
      const ProbeState state = sampler.state(probe);
      require(state.reads + state.failed <= 100000, "a count is a count");
    }
    pause(kMs / 4);
  }
}

void ask_for_failures(Sampler& sampler, const std::atomic<bool>& done) {
  while (!done.load()) {
    for (size_t probe = 0; probe < 2; ++probe) {
      for (const PartState& part : sampler.parts(probe))
        require(part.failures == 0 || !part.last.content.empty(), "a failure has its content");
    }
    pause(kMs / 4);
  }
}

void ask_for_windows(Sampler& sampler, const std::atomic<bool>& done) {
  std::vector<int64_t> times;
  std::vector<double> values;
  while (!done.load()) {
    for (size_t probe = 0; probe < 2; ++probe) {
      times.clear();
      values.clear();
      sampler.between(probe, 0, INT64_MAX - 1, INT64_MAX, 1000, times, values);
      for (size_t i = 1; i < times.size(); ++i) require(times[i - 1] <= times[i], "times go up");
    }
    pause(kMs / 4);
  }
}

void forget(Sampler& sampler, const std::atomic<bool>& done) {
  while (!done.load()) {
    for (size_t probe = 0; probe < 2; ++probe) sampler.forget(probe, 0, now_ns() - 20 * kMs);
    pause(kMs / 4);
  }
}

void run_and_hang() {
  const TemporaryFile file;
  const auto told = std::make_shared<Told>();
  std::atomic<bool> done = false;
  std::shared_ptr<Sampler> sampler = made(file, told, false);
  sampler->start();
  std::vector<std::thread> askers;
  for (const auto ask : {ask_for_states, ask_for_failures, ask_for_windows, forget})
    askers.emplace_back(ask, std::ref(*sampler), std::cref(done));
  for (int number = 0; sampler->state(1).reads < 20; ++number) {
    file.write(number);
    pause(kMs);
  }
  told->hangs = true;
  while (sampler->state(1).lost == Loss::kNone) pause(kMs);
  const uint64_t reads = sampler->state(0).reads;
  for (int number = 0; sampler->state(0).reads < reads + 20; ++number) {
    file.write(number);
    pause(kMs);
  }
  sampler->ask_to_stop();
  require(sampler->wait_for_end(10'000 * kMs), "it ends while a sensor hangs");
  require(sampler->state(1).lost == Loss::kHung, "the sensor that hangs is the one that is lost");
  require(sampler->state(0).lost == Loss::kNone, "the others are not");
  done = true;
  for (std::thread& asker : askers) asker.join();
  told->hangs = false;
  sampler->wait_for_all();
}

// Dropped by its owner while it reads, and while it hangs: the last of its threads takes it away.
void drop() {
  const TemporaryFile file;
  for (const bool hanging : {false, true}) {
    const auto told = std::make_shared<Told>();
    std::shared_ptr<Sampler> sampler = made(file, told, false);
    sampler->start();
    pause(5 * kMs);
    told->hangs = hanging;
    pause(5 * kMs);
    sampler->ask_to_stop();
    sampler.reset();
    pause(2 * kMs);
    told->hangs = false;
    // Not std::weak_ptr::expired(): it tells that the sampler is gone, but is not ordered after what its threads did.
    while (told->sensors.load() > 0) pause(kMs);
  }
}

// The end is asked for while the only sensor hangs.
void end_while_hanging() {
  const TemporaryFile file;
  const auto told = std::make_shared<Told>();
  std::shared_ptr<Sampler> sampler = made(file, told, true);
  sampler->start();
  while (sampler->state(0).reads == 0) pause(kMs);
  told->hangs = true;
  pause(5 * kMs);
  sampler->ask_to_stop();
  require(sampler->wait_for_end(20 * kMs), "patience ends");
  told->hangs = false;
  sampler->wait_for_all();
}

bool a_thread_of_the_sampler_lives() {
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::string name;
    std::getline(std::ifstream(task.path() / "comm"), name);
    if (name.starts_with("qprof ")) return true;
  }
  return false;
}

}  // namespace

int main() {
  for (int round = 0; round < 3; ++round) {
    run_and_hang();
    drop();
    end_while_hanging();
  }
  // They are detached: one that still ends while the program does would end in what is no longer there.
  while (a_thread_of_the_sampler_lives()) pause(kMs);
  std::puts("all well");
  return 0;
}
