#include "number_list.h"

#include "bytes.h"

namespace qprof::coco_json {

#if defined(__SSE2__)
namespace {

// Which of 64 bytes are what, the first in the lowest bit.
struct Block {
  uint64_t digit = 0, zero = 0, point = 0, comma = 0, minus = 0, space = 0;

  explicit Block(const char* p) {
    for (int i = 0; i < 64; i += 16) {
      const __m128i text = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + i));
      const auto mask = [i](__m128i equal) { return uint64_t{static_cast<unsigned>(_mm_movemask_epi8(equal))} << i; };
      const auto find = [&](char c) { return mask(_mm_cmpeq_epi8(text, _mm_set1_epi8(c))); };
      const __m128i value = _mm_sub_epi8(text, _mm_set1_epi8('0'));
      digit |= mask(_mm_cmpeq_epi8(_mm_min_epu8(value, _mm_set1_epi8(9)), value));
      zero |= find('0');
      point |= find('.');
      comma |= find(',');
      minus |= find('-');
      space |= find(' ');
    }
  }
};

// The grammar of  ( ' '* '-'? integer ( '.' digit+ )? ',' )*  as conditions on neighbouring bytes, 64 at once; what
// one block leaves to the next is kept in between.
class Grammar {
 public:
  // The bytes of the block that are wrong where they stand.
  uint64_t errors(const Block& b) {
    const uint64_t after_digit = shift(b.digit, digit_), after_point = shift(b.point, point_);
    const uint64_t after_minus = shift(b.minus, minus_), after_gap = shift(b.comma | b.space, gap_);
    const uint64_t leading_zero = b.zero & ~after_digit & ~after_point;
    uint64_t wrong = (b.point | b.comma) & ~after_digit;
    wrong |= (after_point | after_minus) & ~b.digit;
    wrong |= (b.minus | b.space) & ~after_gap;
    wrong |= shift(leading_zero, leading_zero_) & b.digit;
    // A second point: the sum carries from the first digit of each fraction to the byte behind its last.
    uint64_t behind_fraction;
    bool carry = __builtin_add_overflow(b.digit, after_point & b.digit, &behind_fraction);
    carry |= __builtin_add_overflow(behind_fraction, uint64_t{fraction_}, &behind_fraction);
    fraction_ = carry;
    return wrong | (behind_fraction & ~b.digit & b.point);
  }

 private:
  static uint64_t shift(uint64_t mask, bool& carry) {
    const uint64_t shifted = mask << 1 | uint64_t{carry};
    carry = mask >> 63 != 0;
    return shifted;
  }

  bool digit_ = false, point_ = false, minus_ = false, gap_ = true, leading_zero_ = false, fraction_ = false;
};

}  // namespace

const char* skip_numbers(const char* p) {
  const char* done = p;
  Grammar grammar;
  for (;; p += 64) {
    const Block block(p);
    const uint64_t other = ~(block.digit | block.point | block.comma | block.minus | block.space);
    // Up to the last comma before the first byte of any other kind.
    const uint64_t known = (other & -other) - 1;
    const uint64_t commas = block.comma & known;
    const uint64_t upto = commas == 0 ? 0 : ~uint64_t{0} >> std::countl_zero(commas);
    const uint64_t errors = grammar.errors(block);
    if ((errors & (other != 0 ? upto : ~uint64_t{0})) != 0) return done;
    if (commas != 0) done = p + 64 - std::countl_zero(commas);
    if (other != 0) return done;
  }
}

#else

const char* skip_numbers(const char* p) { return p; }

#endif

}  // namespace qprof::coco_json
