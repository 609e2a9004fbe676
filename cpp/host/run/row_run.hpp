// SPDX-License-Identifier: Apache-2.0
// What every op over rows shares: operands and options, canonical blocks, and how they are spread over threads.
//
// A task is a run of rows, or a run of blocks of one row when rows are few and vast.  Either way a row is the same
// blocks, merged in the same order, so its bits do not depend on the cut.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <memory>
#include <thread>

#include "cpp/host/run/check.hpp"
#include "cpp/host/run/isa.hpp"
#include "cpp/host/run/lease.hpp"
#include "cpp/host/run/loop.hpp"
#include "cpp/host/run/policy.hpp"
#include "cpp/host/run/threads.hpp"

namespace vastmax {

inline constexpr std::size_t scratch_bytes = 16384;  // a block of the compute type

struct Scratch {
  alignas(64) std::byte in[scratch_bytes], second[scratch_bytes], out[scratch_bytes];
};

// A row operand: where its rows are (through a Loop) and how its classes follow each other.
struct RowOperand {
  std::byte* data = nullptr;
  std::size_t item = 0;
  std::int64_t step = 0;
  std::size_t slot = 0;  // in the Loop

  std::byte* row(const Loop& loop, std::size_t index) const { return data + loop.offset(index, slot); }
  bool plain() const { return step == static_cast<std::int64_t>(item); }
};

inline void store_number(std::byte* to, DType d, double value) {
  if (std::isnan(value)) value = std::numeric_limits<double>::quiet_NaN();
  if (d == DType::float64) {
    std::memcpy(to, &value, sizeof value);
  } else {
    const auto narrow = static_cast<float>(value);
    std::memcpy(to, &narrow, sizeof narrow);
  }
}
inline double load_number(Bytes from, DType d) {
  if (d == DType::float64) {
    double value;
    std::memcpy(&value, from, sizeof value);
    return value;
  }
  float value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

class RowRun {
 public:
  RowRun(DType dtype, std::span<const std::int64_t> shape, const Exec& exec)
      : dtype_(dtype),
        all_(kernels(exec)),
        k_(of(all_, dtype)),
        exec_(exec),
        loop_(shape.first(shape.size() - 1)),
        n_(static_cast<std::size_t>(shape.back())),
        block_(block_length(dtype)),
        blocks_((n_ + block_ - 1) / block_) {}

 protected:
  template <class V>
  RowOperand operand(const V& view) {
    loop_.add(view.strides.first(view.strides.size() - 1));
    return {const_cast<std::byte*>(view.data), item_size(view.dtype), view.strides.back(), slots_++};
  }
  RowOperand per_row(const void* data, std::size_t item, std::span<const std::int64_t> strides) {
    loop_.add(strides);
    return {static_cast<std::byte*>(const_cast<void*>(data)), item, 0, slots_++};
  }
  void options(const RowOptions& o) {
    if (o.temperature != nullptr) temperature_ = per_row(o.temperature, sizeof(double), o.temperature_strides);
    if (o.where != nullptr) {
      loop_.add(o.where_strides.first(o.where_strides.size() - 1));
      where_ = {reinterpret_cast<std::byte*>(const_cast<std::uint8_t*>(o.where)), 1, o.where_strides.back(), slots_++};
    }
  }

  double temperature(std::size_t row) const {
    if (temperature_.data == nullptr) return 1;
    double t;
    std::memcpy(&t, temperature_.row(loop_, row), sizeof t);
    return t;
  }
  std::size_t length(std::size_t block) const { return std::min(block_, n_ - block * block_); }
  Bytes at(Bytes row, const RowOperand& operand, std::size_t block) const {
    return row + static_cast<std::int64_t>(block * block_) * operand.step;
  }

  // fn(first, last, scratch) over runs of `run` of `count`; nothing more once the call is interrupted.
  template <class Fn>
  void spread_runs(std::size_t count, std::size_t run, int threads, const Fn& fn) {
    if (interrupted_) return;
    const bool whole = parallel((count + run - 1) / run, threads, exec_, Task([&](std::size_t task) {
                                  if (interrupted_) return;
                                  const KernelScope scope;
                                  const Lease<Scratch> scratch;
                                  fn(task * run, std::min(count, (task + 1) * run), *scratch);
                                }));
    if (!whole) interrupted_ = true;
  }
  template <class Fn>
  void spread(std::size_t count, std::size_t run, int threads, const Fn& fn) {
    spread_runs(count, run, threads, [&](std::size_t first, std::size_t last, Scratch& scratch) {
      for (std::size_t i = first; i < last; ++i) fn(i, scratch);
    });
  }
  // Blocks a task: about a grain, and as many tasks for one thread as for the other.
  std::size_t blocks_a_task(int threads) const {
    const std::size_t a_round = policy::grain / block_ * static_cast<std::size_t>(threads),
                      rounds = (blocks_ + a_round - 1) / a_round, tasks = rounds * static_cast<std::size_t>(threads);
    return std::max<std::size_t>(1, (blocks_ + tasks - 1) / tasks);
  }
  template <class Fn>
  void each_run(int threads, const Fn& fn) {
    spread_runs(blocks_, blocks_a_task(threads), threads, fn);
  }
  std::size_t rows_a_task() const { return std::max<std::size_t>(1, policy::grain / std::max<std::size_t>(1, n_)); }
  template <class Fn>
  void each_row(const Plan& plan, const Fn& fn) {
    spread(loop_.count(), rows_a_task(), plan.threads, fn);
  }
  template <class Fn>
  void each_block(int threads, const Fn& fn) {
    spread(blocks_, blocks_a_task(threads), threads, fn);
  }
  // Whether the call is to end early, for loops over a row that no task divides: the caller's thread looks for Ctrl-C.
  bool stopped() const {
    if (!interrupted_ && std::this_thread::get_id() == caller_ && asked_to_stop(exec_)) interrupted_ = true;
    return interrupted_;
  }
  Plan cut() const {
    return vastmax::plan(static_cast<std::int64_t>(loop_.count()), static_cast<std::int64_t>(n_), exec_.threads);
  }

  DType dtype_;
  const Kernels& all_;
  const DTypeKernels& k_;
  const Exec& exec_;
  Loop loop_;
  std::size_t slots_ = 0, n_, block_, blocks_;
  RowOperand temperature_, where_;
  mutable std::atomic<bool> interrupted_{false};

 private:
  std::thread::id caller_ = std::this_thread::get_id();
};

}  // namespace vastmax
