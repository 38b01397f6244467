// Numbers as Python's float() and int() read them, to the last bit.
#pragma once

#include <cstdint>

#include "bytes.h"

namespace qprof::coco_json {

// Where a number ends, or the first byte that cannot belong to one (`valid` false).
struct Number {
  const char* end;
  double value;
  bool valid;
};

// Doubles exactly: 5^22 < 2^53.
inline constexpr double kPowers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                     1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

// Up to 19 digits are one integer w over a power of ten. If w and the power are doubles, so that only the division
// rounds, the quotient is right (Clinger, "How to read floating point numbers accurately", PLDI 1990, section 5);
// a longer w takes one integer division of 128 by 64 bits; the rest goes to std::from_chars.
Number read_long_number(const char* start);

// The number at `start`, up to the first byte that cannot belong to it.
[[gnu::always_inline]] inline Number read_number(const char* const start) {
  const char* const p = start + (*start == '-');
  // Most numbers of a COCO file, like 258.15, lie within eight bytes together with the byte behind them. Their length,
  // which the next read waits for, then comes from one load; the value, which nothing waits for, without the point.
  const uint64_t word = load8(p);
  const uint64_t other = other_than_digits(word);
  const uint64_t second = other & (other - 1);
  const unsigned before = static_cast<unsigned>(std::countr_zero(other)) >> 3;
  const unsigned length = static_cast<unsigned>(std::countr_zero(second)) >> 3;
  const char next = p[length];
  const uint64_t point = (other & -other) >> 7;
  const bool is_short = second != 0 && (word & (point * 0xff)) == point * '.' && before != 0 && length != before + 1;
  if (!is_short || (next | 0x20) == 'e' || (*p == '0' && before > 1)) return read_long_number(start);
  const uint64_t whole = word & (point - 1), rest = word & ~(point * 0x100 - 1);
  const double digits = static_cast<double>(digits_value(rest | whole << 8, length));
  const double value = digits / kPowers[length - before - 1];
  return {p + length, *start == '-' ? -value : value, true};
}

// Where the JSON number at p ends, without its value; `valid` as above.
const char* skip_number(const char* p, bool& valid);

// An integer as an id is: digits, or any other spelling of a whole number (42.0, 4.2e1). `valid` is false where the
// number is not whole or not an int64 (`end` is set all the same) or is no number at all (`end` is null).
struct Integer {
  const char* end;
  int64_t value;
  bool valid;
};
Integer general_integer(const char* start);

inline Integer read_integer(const char* const start) {
  const uint64_t word = load8(start);
  const unsigned count = leading_digits(word);
  const char next = start[count];
  if (count == 0 || count == 8 || next == '.' || (next | 0x20) == 'e' || (*start == '0' && count > 1)) {
    return general_integer(start);
  }
  return {start + count, static_cast<int64_t>(digits_value(word, count)), true};
}

}  // namespace qprof::coco_json
