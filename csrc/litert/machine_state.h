// What can be done to the machine's state before an op runs, so that what the op owes to its predecessor can be told
// from what is its own.
//
// After an instruction that wrote the upper half of a vector register, SSE code (the kernels that are built into the
// interpreter) is slower until `vzeroupper` marks the halves as unused: Intel 64 and IA-32 Architectures Optimization
// Reference Manual, 15.3 "Mixing AVX code with SSE code"; Agner Fog, "The microarchitecture of Intel, AMD and VIA
// CPUs".
#pragma once

#include "tflite_abi.h"

namespace qprof::litert {

enum class Before : int {
  kNothing = 0,
  kResetVectors = 1,         // mark the upper halves of the vector registers as unused
  kResetVectorsBuiltin = 2,  // that, before the interpreter's own kernels alone: not before a delegate's node
  kFlushCaches = 3,          // write back and drop every cache line of the op's tensors
  kWarmCaches = 4,           // read every cache line of the op's tensors
};

// Whether this processor can do it: without AVX there are no upper halves, and other architectures have neither.
bool can_prepare(Before before) noexcept;

// Does it, for the op of a node that is about to run.
void prepare_state(Before before, abi::Context* context, const abi::Node* node) noexcept;

}  // namespace qprof::litert
