#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <new>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <utility>

#include "parse.h"

namespace qprof::sampler {
namespace {

// Enough for one read of the files that tell much; most tell a line.
constexpr size_t kLineBytes = 256, kFirstBytes = size_t{1} << 16;
// Nothing in /proc or /sys that is read here comes near.
constexpr size_t kMostBytes = size_t{1} << 22;
constexpr size_t kKeptBytes = 4096;

class Descriptor {
 public:
  explicit Descriptor(int of) : number_(fcntl(of, F_DUPFD_CLOEXEC, 0)) {
    if (number_ < 0) throw std::system_error(errno, std::generic_category(), "a sensor's file");
  }
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&&) = delete;
  ~Descriptor() {
    if (number_ >= 0) close(number_);
  }
  int number() const noexcept { return number_; }

 private:
  int number_;
};

bool means_gone(int code) noexcept {
  return code == ENODEV || code == ENXIO || code == ESRCH || code == ENOENT || code == EBADF;
}

class Files : public Source {
 public:
  Files(Form form, const std::vector<int>& descriptors, double scale) : form_(form), scale_(scale) {
    const size_t wanted = form == Form::kProcess ? 2 : 1;
    if (form == Form::kFrequencies ? descriptors.empty() : descriptors.size() != wanted)
      throw std::invalid_argument("a sensor of that form has another number of files");
    files_.reserve(descriptors.size());
    for (const int descriptor : descriptors) files_.emplace_back(descriptor);
    buffer_.resize(form == Form::kNumber || form == Form::kFrequencies ? kLineBytes : kFirstBytes);
  }

  size_t channels() const noexcept override {
    switch (form_) {
      case Form::kNumber: return 1;
      case Form::kCpuTicks:
      case Form::kPressure: return 2;
      case Form::kProcess: return 4;
      case Form::kFrequencies:
      case Form::kListing: break;
    }
    return 3;
  }

  bool read(double* values, Failure& failure) noexcept override {
    switch (form_) {
      case Form::kNumber: return read_number(values, failure);
      case Form::kCpuTicks: return read_cpu_ticks(values, failure);
      case Form::kProcess: return read_process(values, failure);
      case Form::kPressure: return read_pressure(values, failure);
      case Form::kFrequencies: return read_frequencies(values, failure);
      case Form::kListing: break;
    }
    Spread found;
    if (!load(0, failure)) return false;
    if (!parse_listed_mhz(content_, found)) return fail(0, false, failure);
    return tell(found, values);
  }

 private:
  bool read_number(double* values, Failure& failure) noexcept {
    Whole found;
    if (!load(0, failure)) return false;
    if (!parse_whole(content_, found)) return fail(0, false, failure);
    values[0] = as_double(found) / scale_;
    return true;
  }

  bool read_cpu_ticks(double* values, Failure& failure) noexcept {
    CpuTicks found;
    if (!load(0, failure)) return false;
    if (!parse_cpu_ticks(content_, found)) return fail(0, false, failure);
    values[0] = static_cast<double>(found.busy) * scale_;
    values[1] = static_cast<double>(found.stolen) * scale_;
    return true;
  }

  bool read_process(double* values, Failure& failure) noexcept {
    ProcessCounts own;
    CpuTicks all;
    if (!load(0, failure)) return false;
    if (!parse_process_counts(content_, own)) return fail(0, false, failure);
    if (own.ended) return fail(0, true, failure);
    if (!load(1, failure)) return false;
    if (!parse_cpu_ticks(content_, all)) return fail(1, false, failure);
    others_ = std::max(others_, all.busy - own.ticks);
    values[0] = static_cast<double>(own.ticks) * scale_;
    values[1] = static_cast<double>(others_) * scale_;
    values[2] = static_cast<double>(own.minor_faults);
    values[3] = static_cast<double>(own.major_faults);
    return true;
  }

  bool read_pressure(double* values, Failure& failure) noexcept {
    Pressure found;
    if (!load(0, failure)) return false;
    if (!parse_some_pressure(content_, found)) return fail(0, false, failure);
    values[0] = found.share;
    values[1] = as_double(found.total);
    return true;
  }

  bool read_frequencies(double* values, Failure& failure) noexcept {
    Spread spread;
    for (size_t which = 0; which < files_.size(); ++which) {
      Whole found;
      if (!load(which, failure)) return false;
      if (!parse_whole(content_, found)) return fail(which, false, failure);
      spread.add(as_double(found) / scale_);
    }
    return tell(spread, values);
  }

  static double as_double(const Whole& found) noexcept {
    const double magnitude = static_cast<double>(found.magnitude);
    return found.negative ? -magnitude : magnitude;
  }

  static bool tell(const Spread& found, double* values) noexcept {
    values[0] = found.sum / static_cast<double>(found.count);
    values[1] = found.least;
    values[2] = found.most;
    return true;
  }

  // The whole file, into `content_`.
  bool load(size_t which, Failure& failure) noexcept {
    size_t used = 0;
    while (true) {
      const ssize_t got =
          pread(files_[which].number(), buffer_.data() + used, buffer_.size() - used, static_cast<off_t>(used));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return fail_system(which, errno, failure);
      used += static_cast<size_t>(got);
      if (got == 0 || used < buffer_.size()) break;
      if (buffer_.size() >= kMostBytes) return fail_system(which, EFBIG, failure);
      try {
        buffer_.resize(2 * buffer_.size());
      } catch (const std::bad_alloc&) {
        return fail_system(which, ENOMEM, failure);
      }
    }
    content_ = {buffer_.data(), used};
    return true;
  }

  bool fail(size_t which, bool gone, Failure& failure) noexcept {
    failure.fault = Fault::kForm;
    failure.gone = gone;
    failure.code = 0;
    failure.which = which;
    try {
      failure.content.assign(content_.substr(0, kKeptBytes));
    } catch (const std::bad_alloc&) {
      failure.content.clear();
    }
    return false;
  }

  static bool fail_system(size_t which, int code, Failure& failure) noexcept {
    failure.fault = Fault::kSystem;
    failure.gone = means_gone(code);
    failure.code = code;
    failure.which = which;
    failure.content.clear();
    return false;
  }

  Form form_;
  double scale_;
  std::vector<Descriptor> files_;
  std::vector<char> buffer_;
  std::string_view content_;
  __int128 others_ = 0;
};

}  // namespace

std::unique_ptr<Source> open_files(Form form, const std::vector<int>& descriptors, double scale) {
  return std::make_unique<Files>(form, descriptors, scale);
}

}  // namespace qprof::sampler
