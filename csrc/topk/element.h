// The element types of logits: how one is widened to float outside of the vector loops.
#pragma once

#include <cstdint>
#include <cstring>

namespace qprof::topk {
namespace {

template <class Bits>
Bits read(const char* from) {
  Bits bits;
  std::memcpy(&bits, from, sizeof bits);
  return bits;
}

inline float float_of_bits(uint32_t bits) { return read<float>(reinterpret_cast<const char*>(&bits)); }

struct Float32 {
  using Bits = uint32_t;
  static constexpr Bits kMinusInfinity = 0xff800000;
  static float widen(Bits bits) { return float_of_bits(bits); }
};

struct Bfloat16 {
  using Bits = uint16_t;
  static constexpr Bits kMinusInfinity = 0xff80;
  static float widen(Bits bits) { return float_of_bits(static_cast<uint32_t>(bits) << 16); }
};

struct Float16 {
  using Bits = uint16_t;
  static constexpr Bits kMinusInfinity = 0xfc00;
  static float widen(Bits bits) {
    const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16;
    const uint32_t magnitude = bits & 0x7fff;
    if (magnitude < 0x0400) {  // zero and subnormals: multiples of 2^-24
      const float value = static_cast<float>(magnitude) * 0x1p-24f;
      return sign != 0 ? -value : value;
    }
    // The exponent's bias is 15 there and 127 here; that of infinity and NaN stays the highest.
    const uint32_t rebias = static_cast<uint32_t>(magnitude < 0x7c00 ? 127 - 15 : 255 - 31) << 23;
    return float_of_bits(sign | ((magnitude << 13) + rebias));
  }
};

// Logits lie as the caller has them, aligned or not: they are reached through bytes.
template <class Element>
constexpr int64_t kBytes = sizeof(typename Element::Bits);

template <class Element>
float logit_at(const char* row, int64_t column) {
  return Element::widen(read<typename Element::Bits>(row + column * kBytes<Element>));
}

}  // namespace
}  // namespace qprof::topk
