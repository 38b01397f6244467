#include "nvml.h"

#include <dlfcn.h>

#include <stdexcept>

namespace qprof::sampler {
namespace {

// Of nvml.h, whose layout is part of its ABI.
struct FieldValue {
  unsigned field;
  unsigned scope;
  long long timestamp;
  long long latency_us;
  unsigned value_type;
  unsigned returned;
  union {
    double as_double;
    unsigned as_unsigned;
    unsigned long long as_long;
  } value;
};
static_assert(sizeof(FieldValue) == 40);

struct Utilization {
  unsigned gpu;
  unsigned memory;
};

struct Memory {
  unsigned long long total;
  unsigned long long free;
  unsigned long long used;
};

using Device = void*;
using Counter = int (*)(Device, unsigned long long*);
using Gauge = int (*)(Device, unsigned*);
using OfSort = int (*)(Device, int, unsigned*);
using Fields = int (*)(Device, int, FieldValue*);
using Utilized = int (*)(Device, Utilization*);
using MemoryInfo = int (*)(Device, Memory*);

class Library {
 public:
  explicit Library(const std::string& name) : handle_(dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL)) {
    if (handle_ == nullptr) throw std::runtime_error(reason(name));
  }
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;
  ~Library() { dlclose(handle_); }

  void* find(const std::string& function) const {
    void* found = dlsym(handle_, function.c_str());
    if (found == nullptr) throw std::runtime_error(reason(function));
    return found;
  }

 private:
  static std::string reason(const std::string& otherwise) {
    const char* told = dlerror();
    return told != nullptr ? told : otherwise + ": not found";
  }

  void* handle_;
};

class Nvml : public Source {
 public:
  explicit Nvml(const NvmlCall& call)
      : call_(call),
        library_(call.library),
        function_(library_.find(call.function)),
        device_(reinterpret_cast<Device>(call.device)) {
    const bool numbered = call.figure == Figure::kOfSort || call.figure == Figure::kFields;
    if (numbered == call.numbers.empty()) throw std::invalid_argument(call.function + ": of which sorts or fields?");
    if (call.figure == Figure::kFields) fields_.resize(call.numbers.size());
  }

  size_t channels() const noexcept override {
    if (call_.figure == Figure::kUtilization) return 2;
    return call_.numbers.empty() ? 1 : call_.numbers.size();
  }

  bool read(double* values, Failure& failure) noexcept override {
    switch (call_.figure) {
      case Figure::kCounter: return read_counter(values, failure);
      case Figure::kGauge: return read_gauge(values, failure);
      case Figure::kOfSort: return read_sorts(values, failure);
      case Figure::kFields: return read_fields(values, failure);
      case Figure::kUtilization: return read_utilization(values, failure);
      case Figure::kMemory: break;
    }
    Memory found{};
    const int code = reinterpret_cast<MemoryInfo>(function_)(device_, &found);
    if (code != 0) return fail(code, 0, failure);
    values[0] = static_cast<double>(found.used);
    return true;
  }

 private:
  bool read_counter(double* values, Failure& failure) noexcept {
    unsigned long long found = 0;
    const int code = reinterpret_cast<Counter>(function_)(device_, &found);
    if (code != 0) return fail(code, 0, failure);
    values[0] = static_cast<double>(found);
    return true;
  }

  bool read_gauge(double* values, Failure& failure) noexcept {
    unsigned found = 0;
    const int code = reinterpret_cast<Gauge>(function_)(device_, &found);
    if (code != 0) return fail(code, 0, failure);
    values[0] = static_cast<double>(found) / call_.scale;
    return true;
  }

  bool read_sorts(double* values, Failure& failure) noexcept {
    for (size_t which = 0; which < call_.numbers.size(); ++which) {
      unsigned found = 0;
      const int code = reinterpret_cast<OfSort>(function_)(device_, call_.numbers[which], &found);
      if (code != 0) return fail(code, 0, failure);
      values[which] = static_cast<double>(found);
    }
    return true;
  }

  // `which` of a failure is 0 for the call, or the number of the field from 1 on.
  bool read_fields(double* values, Failure& failure) noexcept {
    for (size_t which = 0; which < fields_.size(); ++which) {
      fields_[which] = FieldValue{};
      fields_[which].field = static_cast<unsigned>(call_.numbers[which]);
    }
    const int code = reinterpret_cast<Fields>(function_)(device_, static_cast<int>(fields_.size()), fields_.data());
    if (code != 0) return fail(code, 0, failure);
    for (size_t which = 0; which < fields_.size(); ++which) {
      if (fields_[which].returned != 0) return fail(static_cast<int>(fields_[which].returned), which + 1, failure);
      values[which] = static_cast<double>(fields_[which].value.as_unsigned) / call_.scale;
    }
    return true;
  }

  bool read_utilization(double* values, Failure& failure) noexcept {
    Utilization found{};
    const int code = reinterpret_cast<Utilized>(function_)(device_, &found);
    if (code != 0) return fail(code, 0, failure);
    values[0] = static_cast<double>(found.gpu);
    values[1] = static_cast<double>(found.memory);
    return true;
  }

  bool fail(int code, size_t which, Failure& failure) const noexcept {
    failure.fault = Fault::kDriver;
    failure.gone = code >= 0 && code < 32 && (call_.gone >> code & 1) != 0;
    failure.code = code;
    failure.which = which;
    failure.content.clear();
    return false;
  }

  NvmlCall call_;
  Library library_;
  void* function_;
  Device device_;
  std::vector<FieldValue> fields_;
};

}  // namespace

std::unique_ptr<Source> open_nvml(const NvmlCall& call) { return std::make_unique<Nvml>(call); }

}  // namespace qprof::sampler
