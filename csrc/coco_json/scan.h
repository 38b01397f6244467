// Walks over JSON (RFC 8259, and NaN, Infinity and -Infinity as Python reads them) without building anything.
// Every function takes the place where its token starts and returns the place behind it, or throws SyntaxError.
#pragma once

#include <string>

#include "bytes.h"

namespace qprof::coco_json {

struct SyntaxError {
  const char* at;
  const char* what;
};

[[noreturn]] void fail(const char* at, const char* what);

// Arrays and objects may be nested this deep, about as deep as Python's json goes.
constexpr unsigned kMaxDepth = 1024;

const char* skip_string_from(const char* p);

// `p` is behind the opening quote.
inline const char* skip_string(const char* p) {
  p = skip_plain(p);
  return *p == '"' ? p + 1 : skip_string_from(p);
}

// Text of a string whose opening quote is before `p`, as UTF-8 (a lone surrogate as its three bytes); moves p behind.
std::string read_string(const char*& p);

const char* skip_value(const char* p);

// From behind a member's name to its value.
inline const char* skip_colon(const char* p) {
  p = skip_space(p);
  if (*p != ':') fail(p, "expected ':' after a member's name");
  return skip_space(p + 1);
}

// Calls `member` behind the opening quote of each member's name of the object at p; it returns the place behind the
// member's value.
template <class Member>
inline const char* read_members(const char* p, Member&& member) {
  p = skip_space(p + 1);
  if (*p == '}') return p + 1;
  for (;;) {
    if (*p != '"') fail(p, "expected a member's name in double quotes");
    p = skip_space(member(p + 1));
    if (*p == ',') {
      p = skip_space(p + 1);
    } else if (*p == '}') {
      return p + 1;
    } else {
      fail(p, "expected ',' or '}' after a member");
    }
  }
}

}  // namespace qprof::coco_json
