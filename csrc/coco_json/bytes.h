// Eight or sixteen bytes of text at a time. Every text that is scanned ends in kPadding readable bytes, the first of
// them NUL: a load may run past the end, and a scan stops there, since NUL is valid nowhere in JSON.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace qprof::coco_json {

constexpr size_t kPadding = 128;

// The eight bytes at p, the first in the lowest bits.
inline uint64_t load8(const char* p) {
  uint64_t word;
  std::memcpy(&word, p, sizeof word);
  if constexpr (std::endian::native == std::endian::big) word = __builtin_bswap64(word);
  return word;
}

// Up to 16 bytes of text as `load8` sees them: the first eight, and the last eight where there are more.
struct Literal {
  uint64_t first = 0, mask = 0, last = 0;
  size_t length;

  template <size_t N>
  consteval Literal(const char (&text)[N]) : length(N - 1) {
    static_assert(N >= 2 && N <= 17);
    for (size_t i = 0; i < length && i < 8; ++i) {
      first |= uint64_t{static_cast<unsigned char>(text[i])} << (8 * i);
      mask |= uint64_t{0xff} << (8 * i);
    }
    for (size_t i = 0; length > 8 && i < 8; ++i) {
      last |= uint64_t{static_cast<unsigned char>(text[length - 8 + i])} << (8 * i);
    }
  }
};

// Whether the bytes at p are the literal: a comparison or two, its words being constants of the program.
[[gnu::always_inline]] inline bool starts_with(const char* p, const Literal& text) {
  if ((load8(p) & text.mask) != text.first) return false;
  return text.length <= 8 || load8(p + text.length - 8) == text.last;
}

inline bool is_digit(char c) { return static_cast<unsigned char>(c - '0') < 10; }
inline bool is_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

// The high bit of each of the eight bytes that is no digit.
inline uint64_t other_than_digits(uint64_t word) {
  word ^= 0x3030303030303030;
  return (((word & 0x7f7f7f7f7f7f7f7f) + 0x7676767676767676) | word) & 0x8080808080808080;
}

// How many of the eight bytes are digits before the first that is none.
inline unsigned leading_digits(uint64_t word) {
  const uint64_t other = other_than_digits(word);
  return other == 0 ? 8 : static_cast<unsigned>(std::countr_zero(other)) >> 3;
}

// Value of the first `count` bytes of `word`, 1 to 8 digits: pairs, then fours, then eight in three multiplications.
inline uint64_t digits_value(uint64_t word, unsigned count) {
  word <<= 64 - 8 * count;
  word = ((word & 0x0f0f0f0f0f0f0f0f) * 2561) >> 8;
  word = ((word & 0x00ff00ff00ff00ff) * 6553601) >> 16;
  return ((word & 0x0000ffff0000ffff) * 42949672960001) >> 32;
}

inline const char* skip_space(const char* p) {
  // Most files have none or one; an indented one has many.
  if (!is_space(*p)) return p;
  ++p;
  while (is_space(*p)) ++p;
  return p;
}

// First byte from p on that is not plain text inside a string: quote, backslash, control character or beyond ASCII.
inline const char* skip_plain(const char* p) {
#if defined(__SSE2__)
  const __m128i quote = _mm_set1_epi8('"'), backslash = _mm_set1_epi8('\\'), space = _mm_set1_epi8(' ');
  for (;; p += 16) {
    const __m128i text = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    // Signed: bytes from 0x80 on count as less than a space too.
    const __m128i special = _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(text, quote), _mm_cmpeq_epi8(text, backslash)),
                                         _mm_cmplt_epi8(text, space));
    const unsigned mask = static_cast<unsigned>(_mm_movemask_epi8(special));
    if (mask != 0) return p + std::countr_zero(mask);
  }
#else
  while (*p != '"' && *p != '\\' && static_cast<unsigned char>(*p - ' ') < 0x60) ++p;
  return p;
#endif
}

}  // namespace qprof::coco_json
