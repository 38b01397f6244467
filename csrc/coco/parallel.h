// A loop over independent tasks on a few threads.
#pragma once

#include <atomic>
#include <cstddef>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace qprof::coco {

// Calls `body(task, worker)` once for every task in 0..tasks-1, in order of start; `worker` is below `threads`, so that
// each may have scratch memory of its own. The caller's thread takes part: with one thread none is started. The first
// exception stops the loop and is thrown again here.
template <class Body>
void for_each_task(size_t tasks, unsigned threads, Body body) {
  if (threads <= 1 || tasks <= 1) {
    for (size_t task = 0; task < tasks; ++task) body(task, 0u);
    return;
  }
  std::atomic<size_t> next{0};
  std::exception_ptr failure;
  std::mutex failure_mutex;
  auto work = [&](unsigned worker) {
    try {
      for (size_t task = next++; task < tasks; task = next++) body(task, worker);
    } catch (...) {
      next = tasks;
      std::lock_guard lock(failure_mutex);
      if (!failure) failure = std::current_exception();
    }
  };
  std::vector<std::thread> helpers;
  const size_t most = tasks < threads ? tasks : threads;
  helpers.reserve(most - 1);
  try {
    for (unsigned worker = 1; worker < most; ++worker) helpers.emplace_back(work, worker);
  } catch (const std::system_error&) {
    // No more threads to be had: those that run do it all.
  }
  work(0);
  for (std::thread& helper : helpers) helper.join();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace qprof::coco
