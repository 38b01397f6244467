#include "parse.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <system_error>

namespace qprof::sampler {
namespace {

// bytes.isspace, which is also \s of a pattern of bytes.
bool is_space(char c) noexcept { return c == ' ' || (c >= '\t' && c <= '\r'); }
bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }

size_t skip_spaces(std::string_view text, size_t at) noexcept {
  while (at < text.size() && is_space(text[at])) ++at;
  return at;
}

size_t skip_digits(std::string_view text, size_t at) noexcept {
  while (at < text.size() && is_digit(text[at])) ++at;
  return at;
}

// The next word of `text` from `at` on, as bytes.split() gives it; empty at the end.
std::string_view next_word(std::string_view text, size_t& at) noexcept {
  const size_t first = skip_spaces(text, at);
  at = first;
  while (at < text.size() && !is_space(text[at])) ++at;
  return text.substr(first, at - first);
}

// Digits with a point between them, as float() reads them.
double decimal(std::string_view text) noexcept {
  double value = 0.0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc()) return value;
  // Out of range: too large, unless nothing stands before the point.
  const std::string_view whole = text.substr(0, text.find('.'));
  return whole.find_first_not_of('0') == std::string_view::npos ? 0.0 : std::numeric_limits<double>::infinity();
}

}  // namespace

bool parse_whole(std::string_view text, Whole& found) noexcept {
  size_t at = skip_spaces(text, 0);
  Whole whole;
  if (at < text.size() && (text[at] == '+' || text[at] == '-')) whole.negative = text[at++] == '-';
  if (at == text.size() || !is_digit(text[at])) return false;
  for (; at < text.size(); ++at) {
    if (text[at] == '_') ++at;  // between two digits, as in Python's literals
    if (at == text.size() || !is_digit(text[at])) break;
    if (__builtin_mul_overflow(whole.magnitude, uint64_t{10}, &whole.magnitude)) return false;
    if (__builtin_add_overflow(whole.magnitude, static_cast<uint64_t>(text[at] - '0'), &whole.magnitude)) return false;
  }
  if (text[at - 1] == '_' || skip_spaces(text, at) != text.size()) return false;
  found = whole;
  return true;
}

bool parse_cpu_ticks(std::string_view content, CpuTicks& found) noexcept {
  const std::string_view line = content.substr(0, content.find('\n'));
  size_t at = 0;
  if (next_word(line, at) != "cpu") return false;
  Whole fields[8];
  for (Whole& field : fields) {
    if (!parse_whole(next_word(line, at), field)) return false;
  }
  // user, nice, system, irq and softirq; between them stand idle and iowait.
  found.busy = fields[0].value() + fields[1].value() + fields[2].value() + fields[5].value() + fields[6].value();
  found.stolen = fields[7].value();
  return true;
}

bool parse_process_counts(std::string_view content, ProcessCounts& found) noexcept {
  const size_t bracket = content.rfind(')');
  if (bracket != std::string_view::npos) content.remove_prefix(bracket + 1);
  size_t at = 0;
  const std::string_view state = next_word(content, at);
  Whole counts[13];
  for (int field = 1; field < 13; ++field) {
    const std::string_view word = next_word(content, at);
    const bool wanted = field == 7 || field == 9 || field == 11 || field == 12;
    if (word.empty() || (wanted && !parse_whole(word, counts[field]))) return false;
  }
  found = {counts[11].value() + counts[12].value(), counts[7].value(), counts[9].value(), state == "Z" || state == "X"};
  return true;
}

bool parse_some_pressure(std::string_view content, Pressure& found) noexcept {
  constexpr std::string_view kBegin = "some avg10=";
  constexpr std::string_view kTotal = "total=";
  if (!content.starts_with(kBegin)) return false;
  const std::string_view line = content.substr(0, content.find('\n'));
  const size_t point = skip_digits(line, kBegin.size());
  if (point == kBegin.size() || point >= line.size() || line[point] != '.') return false;
  const size_t end = skip_digits(line, point + 1);
  if (end == point + 1 || end >= line.size() || line[end] != ' ') return false;
  // The first "total=" that a digit follows.
  for (size_t at = line.find(kTotal, end + 1); at != std::string_view::npos; at = line.find(kTotal, at + 1)) {
    const size_t first = at + kTotal.size();
    const size_t last = skip_digits(line, first);
    if (last == first) continue;
    if (!parse_whole(line.substr(first, last - first), found.total)) return false;
    found.share = decimal(line.substr(kBegin.size(), end - kBegin.size()));
    return true;
  }
  return false;
}

void Spread::add(double value) noexcept {
  least = count == 0 ? value : std::min(least, value);
  most = count == 0 ? value : std::max(most, value);
  sum += value;
  ++count;
}

bool parse_listed_mhz(std::string_view content, Spread& found) noexcept {
  constexpr std::string_view kLabel = "cpu MHz";
  size_t line = 0;
  while (line < content.size()) {
    size_t next = content.find('\n', line);
    if (content.substr(line).starts_with(kLabel)) {
      size_t at = skip_spaces(content, line + kLabel.size());
      if (at < content.size() && content[at] == ':') {
        const size_t first = skip_spaces(content, at + 1);
        size_t last = skip_digits(content, first);
        if (last > first && last < content.size() && content[last] == '.') {
          const size_t fraction = skip_digits(content, last + 1);
          if (fraction > last + 1) last = fraction;
        }
        if (last > first && (last == content.size() || content[last] == '\n')) {
          found.add(decimal(content.substr(first, last - first)));
          next = last < content.size() ? last : std::string_view::npos;
        }
      }
    }
    if (next == std::string_view::npos) break;
    line = next + 1;
  }
  return found.count > 0;
}

}  // namespace qprof::sampler
