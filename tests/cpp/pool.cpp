// SPDX-License-Identifier: Apache-2.0
// An error of a task reaches the caller, whichever thread it came from, and the pool works on.
#include <atomic>
#include <cstdio>
#include <new>

#include "cpp/host/run/threads.hpp"

namespace {

bool throws_what_a_task_throws(int threads, std::size_t bad) {
  std::atomic<int> done = 0;
  try {
    vastmax::parallel(1000, threads, {}, vastmax::Task([&](std::size_t i) {
                        if (i == bad) throw std::bad_alloc();
                        ++done;
                      }));
  } catch (const std::bad_alloc&) {
    return done < 1000;
  }
  return false;
}

bool runs_all(int threads) {
  std::atomic<int> done = 0;
  const bool whole = vastmax::parallel(1000, threads, {}, vastmax::Task([&](std::size_t) { ++done; }));
  return whole && done == 1000;
}

}  // namespace

int main() {
  for (int round = 0; round < 200; ++round)
    for (const int threads : {1, 2, 4})
      for (const std::size_t bad : {0, 1, 499, 500, 999})
        if (!throws_what_a_task_throws(threads, bad) || !runs_all(threads)) {
          std::printf("%d threads, task %zu, round %d: the error is lost, or the pool\n", threads, bad, round);
          return 1;
        }
  return 0;
}
