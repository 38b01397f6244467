#include "machine_state.h"

#include <cstddef>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace qprof::litert {

namespace {

constexpr std::size_t kCacheLineBytes = 64;

// Not part of any function that the compiler might give vector registers to: the statement itself is all there is.
void reset_vectors() noexcept {
#if defined(__x86_64__)
  __asm__ volatile("vzeroupper" ::: "memory");
#endif
}

void flush_line([[maybe_unused]] const char* line) noexcept {
#if defined(__x86_64__)
  _mm_clflush(line);
#endif
}

void read_line(const char* line) noexcept { static_cast<void>(*static_cast<const volatile char*>(line)); }

template <class Action>
void for_each_line(const abi::Context* context, const abi::IntArray* indices, Action action) noexcept {
  if (indices == nullptr) return;
  for (int i = 0; i < indices->size; ++i) {
    const int index = indices->data[i];
    // An optional input that is not given has the index -1.
    if (index < 0 || static_cast<std::size_t>(index) >= context->tensors_size) continue;
    const abi::Tensor& tensor = context->tensors[index];
    const char* data = static_cast<const char*>(tensor.data);
    if (data == nullptr) continue;
    for (std::size_t at = 0; at < tensor.bytes; at += kCacheLineBytes) action(data + at);
  }
}

template <class Action>
void for_each_line(const abi::Context* context, const abi::Node* node, Action action) noexcept {
  for_each_line(context, node->inputs, action);
  for_each_line(context, node->outputs, action);
}

void fence() noexcept {
#if defined(__x86_64__)
  _mm_mfence();  // clflush is ordered by no weaker fence on every processor
#endif
}

}  // namespace

bool can_prepare(Before before) noexcept {
  switch (before) {
    case Before::kNothing:
    case Before::kWarmCaches: return true;
    case Before::kResetVectors:
    case Before::kResetVectorsBuiltin:
#if defined(__x86_64__)
      return __builtin_cpu_supports("avx") != 0;
#else
      return false;
#endif
    case Before::kFlushCaches:
#if defined(__x86_64__)
      return true;
#else
      return false;
#endif
  }
  return false;
}

void prepare_state(Before before, abi::Context* context, const abi::Node* node) noexcept {
  switch (before) {
    case Before::kNothing: return;
    case Before::kResetVectors: return reset_vectors();
    case Before::kResetVectorsBuiltin:
      if (node->delegate == nullptr) reset_vectors();
      return;
    case Before::kFlushCaches: for_each_line(context, node, flush_line); return fence();
    case Before::kWarmCaches: return for_each_line(context, node, read_line);
  }
}

}  // namespace qprof::litert
