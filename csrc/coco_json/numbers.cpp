#include "numbers.h"

#include <charconv>
#include <cmath>
#include <limits>

namespace qprof::coco_json {
namespace {

// 10^0 to 10^19.
constexpr auto kIntegerPowers = [] {
  struct {
    uint64_t of[20];
  } table{};
  uint64_t power = 1;
  for (uint64_t& entry : table.of) {
    entry = power;
    power *= 10;
  }
  return table;
}();

// What std::from_chars leaves open: whether a number out of range is too large or too small.
double out_of_range(const char* p, const char* end) {
  // The decimal point's distance from the first digit that is not 0, then the exponent, held far inside int64.
  int64_t magnitude = 0, exponent = 0;
  bool in_fraction = false, leading = true;
  for (; p < end && (*p | 0x20) != 'e'; ++p) {
    if (*p == '.') {
      in_fraction = true;
    } else if (is_digit(*p)) {
      leading = leading && *p == '0';
      if (leading && in_fraction) --magnitude;
      if (!leading && !in_fraction) ++magnitude;
    }
  }
  if (p < end) {
    const bool negative = *++p == '-';
    for (p += !is_digit(*p); p < end; ++p) {
      if (exponent < 1'000'000'000'000) exponent = exponent * 10 + (*p - '0');
    }
    if (negative) exponent = -exponent;
  }
  return magnitude + exponent > 0 ? std::numeric_limits<double>::infinity() : 0.0;
}

// w / 10^k correctly rounded, where w > 2^53, k <= 19 and the quotient is below 10^7.
double divided(uint64_t w, unsigned k) {
  // Both shifted to full width, the numerator below the denominator: the quotient then has exactly 64 bits.
  const int w_shift = std::countl_zero(w), d_shift = std::countl_zero(kIntegerPowers.of[k]);
  const uint64_t d = kIntegerPowers.of[k] << d_shift;
  w <<= w_shift;
  int exponent = d_shift - w_shift - 64;
  unsigned __int128 numerator = static_cast<unsigned __int128>(w) << 64;
  if (w >= d) {
    numerator >>= 1;
    ++exponent;
  }
  const uint64_t quotient = static_cast<uint64_t>(numerator / d);
  // The upper 53 bits, rounded by the one below. No quotient lies halfway between two doubles: it would be an odd
  // number of 54 bits over 2^j, j <= k, and below 10^7 only if j >= 30.
  const uint64_t mantissa = (quotient >> 11) + (quotient >> 10 & 1);
  // Neither factor is subnormal, so the product is exact.
  return static_cast<double>(mantissa) * std::bit_cast<double>(static_cast<uint64_t>(exponent + 11 + 1023) << 52);
}

// Any JSON number, and NaN, Infinity, -Infinity as Python's json writes them.
Number read_any_number(const char* const start) {
  bool valid = true;
  const char* end = skip_number(start, valid);
  if (!valid) {
    const char* p = start + (*start == '-');
    if (starts_with(p, "Infinity")) {
      const double infinity = std::numeric_limits<double>::infinity();
      return {p + 8, *start == '-' ? -infinity : infinity, true};
    }
    if (starts_with(start, "NaN")) return {start + 3, std::numeric_limits<double>::quiet_NaN(), true};
    return {end, 0, false};
  }
  double value = 0;
  const auto result = std::from_chars(start, end, value);
  if (result.ec == std::errc::result_out_of_range) {
    value = std::copysign(out_of_range(start, end), *start == '-' ? -1.0 : 1.0);
  }
  return {end, value, true};
}

}  // namespace

Number read_long_number(const char* const start) {
  const char* p = start + (*start == '-');
  uint64_t word = load8(p);
  unsigned count = leading_digits(word);
  // Nine digits before the point are no pixel.
  if (count == 0 || count == 8 || (*p == '0' && count > 1)) return read_any_number(start);
  uint64_t digits = digits_value(word, count);
  const unsigned before = digits == 0 ? 0 : count;
  p += count;
  unsigned fraction = 0;
  if (*p == '.') {
    ++p;
    do {
      word = load8(p);
      count = leading_digits(word);
      if (count == 0) break;
      fraction += count;
      if (before + fraction > 19) return read_any_number(start);
      digits = digits * kIntegerPowers.of[count] + digits_value(word, count);
      p += count;
    } while (count == 8);
    if (fraction == 0) return {p, 0, false};
  }
  if ((*p | 0x20) == 'e') return read_any_number(start);
  const bool is_double = digits <= uint64_t{1} << 53;
  const double value = is_double ? static_cast<double>(digits) / kPowers[fraction] : divided(digits, fraction);
  return {p, *start == '-' ? -value : value, true};
}

const char* skip_number(const char* p, bool& valid) {
  p += *p == '-';
  valid = is_digit(*p);
  if (*p == '0') {
    ++p;
  } else {
    while (is_digit(*p)) ++p;
  }
  if (valid && *p == '.') {
    ++p;
    valid = is_digit(*p);
    while (is_digit(*p)) ++p;
  }
  if (valid && (*p | 0x20) == 'e') {
    ++p;
    p += *p == '+' || *p == '-';
    valid = is_digit(*p);
    while (is_digit(*p)) ++p;
  }
  return p;
}

Integer general_integer(const char* const start) {
  bool valid = true;
  const char* const end = skip_number(start, valid);
  if (!valid) return {nullptr, 0, false};
  int64_t value = 0;
  const auto result = std::from_chars(start, end, value);
  if (result.ptr == end) return {end, value, result.ec == std::errc()};
  // A point or an exponent: Python's float, which is an id where it is whole.
  const double number = read_any_number(start).value;
  constexpr double kLimit = 0x1p63;
  if (number != std::trunc(number) || number < -kLimit || number >= kLimit) return {end, 0, false};
  return {end, static_cast<int64_t>(number), true};
}

}  // namespace qprof::coco_json
