#include "scan.h"

#include "number_list.h"
#include "numbers.h"

namespace qprof::coco_json {
namespace {

unsigned hex_digit(const char* p) {
  if (is_digit(*p)) return static_cast<unsigned>(*p - '0');
  const char letter = static_cast<char>(*p | 0x20);
  if (letter < 'a' || letter > 'f') fail(p, "expected four hexadecimal digits after \\u");
  return static_cast<unsigned>(letter - 'a' + 10);
}

// `p` is behind the "\u".
unsigned hex_escape(const char* p) {
  unsigned code = 0;
  for (int i = 0; i < 4; ++i) code = code * 16 + hex_digit(p + i);
  return code;
}

// Length of the UTF-8 sequence at p, whose first byte is beyond ASCII (Unicode 16, table 3-7).
unsigned utf8_length(const char* p) {
  const auto byte = [p](int i) { return static_cast<unsigned char>(p[i]); };
  const auto continues = [&](int i) { return (byte(i) & 0xc0) == 0x80; };
  const unsigned first = byte(0);
  if (first >= 0xc2 && first <= 0xdf && continues(1)) return 2;
  if (first >= 0xe0 && first <= 0xef && continues(1) && continues(2)) {
    const bool is_overlong = first == 0xe0 && byte(1) < 0xa0, is_surrogate = first == 0xed && byte(1) >= 0xa0;
    if (!is_overlong && !is_surrogate) return 3;
  }
  if (first >= 0xf0 && first <= 0xf4 && continues(1) && continues(2) && continues(3)) {
    const bool is_overlong = first == 0xf0 && byte(1) < 0x90, is_beyond = first == 0xf4 && byte(1) >= 0x90;
    if (!is_overlong && !is_beyond) return 4;
  }
  fail(p, "bytes that are not UTF-8");
}

void append_utf8(std::string& text, unsigned code) {
  const auto put = [&text](unsigned byte) { text.push_back(static_cast<char>(byte)); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xc0 | code >> 6);
    put(0x80 | (code & 0x3f));
  } else if (code < 0x10000) {
    put(0xe0 | code >> 12);
    put(0x80 | (code >> 6 & 0x3f));
    put(0x80 | (code & 0x3f));
  } else {
    put(0xf0 | code >> 18);
    put(0x80 | (code >> 12 & 0x3f));
    put(0x80 | (code >> 6 & 0x3f));
    put(0x80 | (code & 0x3f));
  }
}

// The escape at p (a backslash), appended to `text` unless that is null.
const char* read_escape(const char* p, std::string* text) {
  unsigned code;
  switch (p[1]) {
    case '"':
    case '\\':
    case '/': code = static_cast<unsigned char>(p[1]); break;
    case 'b': code = '\b'; break;
    case 'f': code = '\f'; break;
    case 'n': code = '\n'; break;
    case 'r': code = '\r'; break;
    case 't': code = '\t'; break;
    case 'u':
      code = hex_escape(p + 2);
      p += 4;
      break;
    default: fail(p, "unknown escape in a string");
  }
  p += 2;
  // A pair of surrogates is one character; a lone one stays, as in Python.
  if (text != nullptr && code >= 0xd800 && code < 0xdc00 && p[0] == '\\' && p[1] == 'u') {
    const unsigned low = hex_escape(p + 2);
    if (low >= 0xdc00 && low < 0xe000) {
      code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
      p += 6;
    }
  }
  if (text != nullptr) append_utf8(*text, code);
  return p;
}

// The part of a string at p that is not plain: an escape or one character beyond ASCII.
const char* read_special(const char* p, std::string* text) {
  if (*p == '\\') return read_escape(p, text);
  if (static_cast<unsigned char>(*p) < 0x80) fail(p, "control character in a string");
  const unsigned length = utf8_length(p);
  if (text != nullptr) text->append(p, length);
  return p + length;
}

const char* skip_scalar(const char* p) {
  if (*p == '"') return skip_string(p + 1);
  if (starts_with(p, "true") || starts_with(p, "null")) return p + 4;
  if (starts_with(p, "false")) return p + 5;
  if (starts_with(p, "NaN")) return p + 3;
  if (starts_with(p, "Infinity")) return p + 8;
  if (starts_with(p, "-Infinity")) return p + 9;
  if (*p != '-' && !is_digit(*p)) fail(p, "expected a value");
  bool valid;
  p = skip_number(p, valid);
  if (!valid) fail(p, "expected a digit");
  return p;
}

const char* skip_name(const char* p) {
  if (*p != '"') fail(p, "expected a member's name in double quotes");
  return skip_colon(skip_string(p + 1));
}

// The arrays and objects around a place, one bit each.
class Nesting {
 public:
  unsigned depth() const { return depth_; }
  bool in_object() const { return (is_object_[(depth_ - 1) / 64] >> ((depth_ - 1) % 64) & 1) != 0; }
  void leave() { --depth_; }
  void enter(const char* p) {
    if (depth_ == kMaxDepth) fail(p, "nested too deep");
    uint64_t& word = is_object_[depth_ / 64];
    const uint64_t bit = uint64_t{1} << (depth_ % 64);
    word = *p == '{' ? word | bit : word & ~bit;
    ++depth_;
  }

 private:
  unsigned depth_ = 0;
  uint64_t is_object_[kMaxDepth / 64] = {};
};

}  // namespace

void fail(const char* at, const char* what) { throw SyntaxError{at, what}; }

const char* skip_string_from(const char* p) {
  while (*p != '"') p = skip_plain(read_special(p, nullptr));
  return p + 1;
}

std::string read_string(const char*& p) {
  std::string text;
  for (;;) {
    const char* special = skip_plain(p);
    text.append(p, static_cast<size_t>(special - p));
    p = special;
    if (*p == '"') break;
    p = read_special(p, &text);
  }
  ++p;
  return text;
}

const char* skip_value(const char* p) {
  if (*p != '[' && *p != '{') return skip_scalar(p);
  Nesting nesting;
  for (;;) {
    // At a value.
    if (*p == '[') {
      nesting.enter(p);
      p = skip_space(p + 1);
      if (*p != ']') {
        p = skip_space(skip_numbers(p));
        continue;
      }
      nesting.leave();
      ++p;
    } else if (*p == '{') {
      nesting.enter(p);
      p = skip_space(p + 1);
      if (*p != '}') {
        p = skip_name(p);
        continue;
      }
      nesting.leave();
      ++p;
    } else {
      p = skip_scalar(p);
    }
    // Behind a value: leave what ends here, up to the next value.
    for (;;) {
      if (nesting.depth() == 0) return p;
      p = skip_space(p);
      const bool in_object = nesting.in_object();
      if (*p == ',') {
        p = skip_space(p + 1);
        p = in_object ? skip_name(p) : skip_space(skip_numbers(p));
        break;
      }
      if (*p != (in_object ? '}' : ']')) fail(p, in_object ? "expected ',' or '}'" : "expected ',' or ']'");
      nesting.leave();
      ++p;
    }
  }
}

}  // namespace qprof::coco_json
