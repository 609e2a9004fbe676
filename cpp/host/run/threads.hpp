// SPDX-License-Identifier: Apache-2.0
// The pool: helpers are opportunistic.  The caller claims chunks itself and waits only for helpers that have started
// one, so a busy core costs little.  Chunks go to whoever comes; results do not depend on it.
#pragma once

#include <cstddef>
#include <memory>

#include "vastmax/vastmax.hpp"

namespace vastmax {

class Task {  // a reference to a callable; what it names must outlive the call
 public:
  template <class Fn>
  explicit Task(const Fn& fn)
      : object_(&fn), call_([](const void* object, std::size_t i) { (*static_cast<const Fn*>(object))(i); }) {}
  void operator()(std::size_t i) const { call_(object_, i); }

 private:
  const void* object_;
  void (*call_)(const void*, std::size_t);
};

// Runs task(0) .. task(count - 1) on up to `threads` threads.  False if interrupted: then some did not run.  What a
// task throws ends the job, and is thrown here.
bool parallel(std::size_t count, int threads, const Exec&, Task task);

// Whether Ctrl-C has come.  Looked for every 50 ms of a thread, however short its passes; only by the caller's thread.
bool asked_to_stop(const Exec&);

// Around calls of kernels: the floating-point environment that they expect (nearest, subnormals kept, nothing trapped),
// the caller's put back after.  At the end what they streamed past the caches is made visible: a fence for each row
// would stall it.
class KernelScope {
 public:
  KernelScope();
  ~KernelScope();
  KernelScope(const KernelScope&) = delete;
  KernelScope& operator=(const KernelScope&) = delete;

 private:
  std::uint64_t saved_;
};

}  // namespace vastmax
