// Reads one of COCO's lists, with several threads if asked to.
//
// Where an entry starts cannot be told from the middle of a file: the bytes "},{" may stand in a string, or in a list
// inside an entry. So the threads but the first guess, each at a place that looks like a start, and what they read
// counts only if the thread before arrives at exactly that place between two entries: then it would have read on just
// the same. A wrong guess costs time, never an answer.
#pragma once

#include <cstddef>
#include <exception>
#include <system_error>
#include <thread>
#include <vector>

#include "scan.h"

namespace qprof::coco_json {

// How far a run of entries went.
struct Stop {
  const char* at;
  bool is_end;        // of the list; `at` is behind its bracket. Otherwise another entry starts there.
  const char* error;  // not null: the syntax is wrong at `at`
};

// A syntax error, and the entry of the list that it is in.
struct EntrySyntaxError {
  SyntaxError error;
  const char* name;
  size_t entry;
};

// Reads the entry at p and those behind it that start before `until`.
template <class List>
Stop read_entries(const char* p, const char* until, List& list) {
  // From this many bytes on, growing step by step costs more than a guess from the first entries.
  constexpr ptrdiff_t kLarge = ptrdiff_t{1} << 20, kSample = 64;
  const char* const first = p;
  try {
    for (;;) {
      p = skip_space(list.entry(p));
      if (list.size() == kSample && until - p > kLarge) [[unlikely]] {
        list.expect(static_cast<size_t>(kSample + (until - p) / ((p - first) / kSample) * 33 / 32));
      }
      if (*p == ']') return {p + 1, true, nullptr};
      if (*p != ',') fail(p, "expected ',' or ']' after an entry");
      p = skip_space(p + 1);
      if (p >= until) return {p, false, nullptr};
    }
  } catch (const SyntaxError& error) {
    return {error.at, false, error.what};
  }
}

// A place from p on, but before `end`, that looks like the start of an entry; null if there is none near.
const char* guess_start(const char* p, const char* end);

// Entries read on a guess. Aligned so that no two threads count rows in one cache line.
template <class List>
struct alignas(128) Run {
  const char* start;
  const char* until;
  List list;
  Stop stop;
  std::exception_ptr failure;

  void read() noexcept {
    try {
      stop = read_entries(start, until, list);
    } catch (...) {
      failure = std::current_exception();
    }
  }
};

// The runs behind the first entry at `p`, by place. Less than this many bytes are not worth a thread.
constexpr ptrdiff_t kLeastBytes = ptrdiff_t{1} << 18;

template <class List>
std::vector<Run<List>> guess_runs(const char* p, const char* end, int threads) {
  std::vector<Run<List>> runs;
  const ptrdiff_t share = (end - p) / threads;
  if (threads < 2 || share < kLeastBytes) return runs;
  const char* last = p;
  for (int i = 1; i < threads; ++i) {
    const char* start = guess_start(p + share * i, end);
    if (start == nullptr || start <= last) continue;
    if (!runs.empty()) runs.back().until = start;
    runs.push_back({start, end, {}, {}, {}});
    last = start;
  }
  return runs;
}

// The list at p (its bracket) into `list`, which is empty; `end` is the end of the text.
template <class List>
const char* read_list(const char* p, const char* end, int threads, List& list) {
  p = skip_space(p + 1);
  if (*p == ']') return p + 1;
  std::vector<Run<List>> runs = guess_runs<List>(p, end, threads);
  Stop stop;
  {
    std::vector<std::jthread> workers;
    try {
      for (Run<List>& run : runs) workers.emplace_back([&run] { run.read(); });
    } catch (const std::system_error&) {
      // No more threads to be had: this one reads what they would have.
      runs.erase(runs.begin() + static_cast<ptrdiff_t>(workers.size()), runs.end());
    }
    stop = read_entries(p, runs.empty() ? end : runs.front().start, list);
  }
  for (auto run = runs.begin(); !stop.is_end && stop.error == nullptr;) {
    while (run != runs.end() && run->start < stop.at) ++run;
    if (run != runs.end() && run->start == stop.at) {
      if (run->failure) std::rethrow_exception(run->failure);
      list.append(run->list);
      stop = run->stop;
      ++run;
    } else {
      stop = read_entries(stop.at, run == runs.end() ? end : run->start, list);
    }
  }
  if (stop.error != nullptr) throw EntrySyntaxError{{stop.at, stop.error}, List::kEntry, list.seen()};
  return stop.at;
}

}  // namespace qprof::coco_json
