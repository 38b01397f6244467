// Figures of a GPU through the driver's library (https://docs.nvidia.com/deploy/nvml-api/), without Python between.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "source.h"

namespace qprof::sampler {

enum class Figure : int {
  kCounter = 0,      // function(device, unsigned long long*)
  kGauge = 1,        // function(device, unsigned*), divided by `scale`
  kOfSort = 2,       // function(device, sort, unsigned*) for each of `numbers`
  kFields = 3,       // function(device, count, nvmlFieldValue_t*) of `numbers`, divided by `scale`
  kUtilization = 4,  // function(device, nvmlUtilization_t*): gpu, memory
  kMemory = 5,       // function(device, nvmlMemory_t*): used
};

struct NvmlCall {
  std::string library;   // as dlopen takes it
  std::string function;  // of that library
  Figure figure = Figure::kCounter;
  uintptr_t device = 0;  // nvmlDevice_t, of a library that the caller has initialized
  std::vector<int> numbers;
  double scale = 1.0;
  uint32_t gone = 0;  // a bit for each nvmlReturn_t after which the device never answers again
};

// Throws `std::runtime_error` where the library or its function cannot be found.
std::unique_ptr<Source> open_nvml(const NvmlCall& call);

}  // namespace qprof::sampler
