// SPDX-License-Identifier: Apache-2.0
#include "cpp/host/run/threads.hpp"

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <fstream>
#include <mutex>
#include <stdexcept>
#include <system_error>
#include <thread>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace vastmax {
namespace {

using Clock = std::chrono::steady_clock;

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Each thread begins with its own stretch of the chunks and then helps with the others', so that passes over the same
// data, and calls that follow each other, mostly find it in the same core's cache.
class Job {
 public:
  Job(Task task, std::size_t count, int threads)
      : task_(task), count_(count), stretches_(std::clamp<std::size_t>(static_cast<std::size_t>(threads), 1, most)) {
    for (std::size_t i = 0; i < stretches_; ++i) stretch_[i].next.store(begin(i), std::memory_order_relaxed);
  }
  bool step(std::size_t seat) {  // one chunk, if one is left
    for (std::size_t turn = 0; turn < stretches_ && !stop.load(std::memory_order_relaxed); ++turn) {
      const std::size_t own = (seat + turn) % stretches_, end = begin(own + 1);
      auto& next = stretch_[own].next;
      if (next.load(std::memory_order_relaxed) >= end) continue;
      if (const std::size_t i = next.fetch_add(1, std::memory_order_relaxed); i < end) {
        attempt(i);
        return true;
      }
    }
    return false;
  }
  // The first error of a task, on whichever thread, once no thread works on the job any more.
  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }
  std::atomic<bool> stop{false};

 private:
  void attempt(std::size_t i) {
    try {
      task_(i);
    } catch (const std::exception&) {
      const std::lock_guard lock(mutex_);
      if (!error_) error_ = std::current_exception();
      stop = true;
    }
  }

  static constexpr std::size_t most = 64;
  struct alignas(64) Stretch {
    std::atomic<std::size_t> next;
  };
  std::size_t begin(std::size_t stretch) const {
    const std::size_t each = count_ / stretches_, more = count_ % stretches_;
    return stretch * each + std::min(stretch, more);
  }
  Task task_;
  std::size_t count_, stretches_;
  Stretch stretch_[most];
  std::mutex mutex_;
  std::exception_ptr error_;
};

class Pool {
 public:
  bool run(Job& job, int helpers, const Exec& exec) {
    if (busy_.exchange(true, std::memory_order_acquire)) return run_alone(job, exec);  // another Python thread has it
    grow(helpers);
    leave_the_core_of_the_caller();
    {
      const std::lock_guard lock(mutex_);
      job_ = &job;
      openings_ = helpers;
      round_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    const bool whole = run_alone(job, exec);
    {
      std::unique_lock lock(mutex_);
      job_ = nullptr;  // who has not started by now never will
      if (working_ != 0) {
        lock.unlock();
        spin_while([&] { return working_.load(std::memory_order_acquire) != 0; });
        lock.lock();
        done_.wait(lock, [&] { return working_ == 0; });
      }
    }
    busy_.store(false, std::memory_order_release);
    return whole;
  }

  static bool run_alone(Job& job, const Exec& exec) {
    while (job.step(0))
      if (asked_to_stop(exec)) job.stop = true;
    return !job.stop;
  }

 private:
  // Twenty microseconds: longer than a wake-up that comes at once, too short to be felt by who else wants the core.
  template <class Condition>
  static void spin_while(Condition condition) {
    const auto end = Clock::now() + std::chrono::microseconds(20);
    do {
      for (int i = 0; i < 8; ++i) {  // a pause is 40 ns and more
        if (!condition()) return;
        pause();
      }
    } while (Clock::now() < end);
  }

  void grow(int helpers) {
    while (size_ < helpers) {
      try {
        std::thread helper([this, seat = static_cast<std::size_t>(size_ + 1)] { help(seat); });
        helpers_[static_cast<std::size_t>(size_) % most_placed] = helper.native_handle();
        helper.detach();
        left_ = -1;
      } catch (const std::system_error&) {
        return;  // no thread to be had: the caller does the work
      }
      ++size_;
    }
  }

  // A helper that wakes on the caller's core waits for it.  The scheduler does that to it where every other core is
  // taken by a thread that waits in a loop, as those of a BLAS do after each product (docs/development/measured.md).
  void leave_the_core_of_the_caller() {
    const int core = sched_getcpu();
    if (core == left_ || core < 0 || core >= CPU_SETSIZE) return;
    left_ = core;
    cpu_set_t cores;
    if (sched_getaffinity(0, sizeof cores, &cores) != 0) return;
    CPU_CLR(core, &cores);
    if (CPU_COUNT(&cores) == 0) return;
    for (int i = 0; i < std::min<int>(size_, most_placed); ++i)
      pthread_setaffinity_np(helpers_[i], sizeof cores, &cores);
  }

  void help(std::size_t seat) {
    std::uint64_t seen = 0;
    for (;;) {
      spin_while([&] { return round_.load(std::memory_order_acquire) == seen; });
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [&] { return round_ != seen; });
      seen = round_;
      if (job_ == nullptr || openings_ == 0) continue;
      --openings_;
      ++working_;
      Job& job = *job_;
      lock.unlock();
      while (job.step(seat)) {
      }
      lock.lock();
      if (--working_ == 0) done_.notify_one();
    }
  }

  std::atomic<bool> busy_{false};
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::atomic<std::uint64_t> round_{0};
  std::atomic<int> working_{0};
  Job* job_ = nullptr;
  int openings_ = 0, size_ = 0;
  static constexpr int most_placed = 256;
  pthread_t helpers_[most_placed];
  int left_ = -1;  // the core that the helpers keep off
};

// Never destroyed: helpers sleep in it until the process ends.  A forked child has no helpers, so it forgets the pool
// and makes its own at the first need.
std::atomic<Pool*> current{nullptr};

Pool& pool() {
  static std::once_flag once;
  std::call_once(once, [] { pthread_atfork(nullptr, nullptr, [] { current.store(nullptr); }); });
  Pool* found = current.load();
  if (found == nullptr) {
    auto made = std::make_unique<Pool>();
    if (current.compare_exchange_strong(found, made.get())) found = made.release();
  }
  return *found;
}

std::atomic<int> thread_count{0};  // 0: not asked yet

int quota() {  // cgroup v2, then v1; 0 for none
  std::string limit;
  double period = 0;
  if (std::ifstream file("/sys/fs/cgroup/cpu.max"); file >> limit >> period && limit != "max" && period > 0)
    return std::max(1, static_cast<int>(std::stod(limit) / period));
  double microseconds = 0;
  std::ifstream quota("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), length("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
  if (quota >> microseconds && length >> period && microseconds > 0 && period > 0)
    return std::max(1, static_cast<int>(microseconds / period));
  return 0;
}

}  // namespace

bool asked_to_stop(const Exec& exec) {
  if (exec.interrupted == nullptr) return false;
  thread_local Clock::time_point looked{};
  const auto now = Clock::now();
  if (now - looked < std::chrono::milliseconds(50)) return false;
  looked = now;
  return exec.interrupted();
}

bool parallel(std::size_t count, int threads, const Exec& exec, Task task) {
  const int helpers = static_cast<int>(std::min<std::size_t>(static_cast<std::size_t>(threads), count)) - 1;
  Job job(task, count, helpers + 1);
  const bool whole = helpers > 0 ? pool().run(job, helpers, exec) : Pool::run_alone(job, exec);
  job.rethrow();
  return whole;
}

std::pair<int, std::string> default_threads() {
  cpu_set_t set;
  int count = 1;
  if (sched_getaffinity(0, sizeof set, &set) == 0)
    count = CPU_COUNT(&set);
  else
    count = static_cast<int>(std::max(1L, sysconf(_SC_NPROCESSORS_ONLN)));
  if (const int limit = quota(); limit > 0 && limit < count) return {limit, "cgroup quota"};
  return {count, "affinity"};
}

int get_num_threads() {
  int n = thread_count.load(std::memory_order_relaxed);
  if (n == 0) {
    int expected = 0;
    n = default_threads().first;
    if (!thread_count.compare_exchange_strong(expected, n)) n = expected;
  }
  return n;
}

void set_num_threads(int n) {
  if (n < 1) throw std::invalid_argument("set_num_threads: n is " + std::to_string(n) + "; it must be at least 1");
  thread_count.store(n, std::memory_order_relaxed);
}

#if defined(__x86_64__)
KernelScope::KernelScope() : saved_(_mm_getcsr()) {
  if (saved_ != 0x1f80) _mm_setcsr(0x1f80);
}
KernelScope::~KernelScope() {
  _mm_sfence();
  _mm_setcsr(static_cast<unsigned>(saved_));
}
#elif defined(__aarch64__)
KernelScope::KernelScope() {
  asm volatile("mrs %0, fpcr" : "=r"(saved_));
  asm volatile("msr fpcr, %0" : : "r"(std::uint64_t{0}));
}
KernelScope::~KernelScope() { asm volatile("msr fpcr, %0" : : "r"(saved_)); }
#else
KernelScope::KernelScope() : saved_(0) {}
KernelScope::~KernelScope() = default;
#endif

}  // namespace vastmax
