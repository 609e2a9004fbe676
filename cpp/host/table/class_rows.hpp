// SPDX-License-Identifier: Apache-2.0
// A table of classes as kernels see it: one row at a time, found by number.
#pragma once

#include <algorithm>
#include <cstring>

#include "cpp/host/run/isa.hpp"
#include "cpp/host/run/policy.hpp"
#include "cpp/host/run/threads.hpp"
#include "vastmax/sampled.hpp"

namespace vastmax {

class ClassRows {
 public:
  ClassRows(const ClassTable& table, const Exec& exec)
      : all_(kernels(exec)), k_(of(all_, table.dtype)), table_(table), exec_(exec) {}

 protected:
  std::size_t features() const { return table_.features; }
  std::size_t item() const { return compute_size(table_.dtype); }
  std::size_t width() const { return features() * item(); }  // bytes of a staged row
  std::byte* at(std::int64_t id) const { return table_.data + id * table_.pitch; }

  // The rows of a random walk through the table come from DRAM one by one: each is asked for before its turn.
  void prefetch(std::int64_t id) const { fetch(at(id)); }
  void fetch(Bytes row) const {
    const std::size_t bytes = std::min(features() * item_size(table_.dtype), policy::prefetch_bytes);
    for (std::size_t b = 0; b < bytes; b += 64) __builtin_prefetch(row + b, 0, 3);
  }
  std::size_t ahead() const {  // rows
    return std::max<std::size_t>(2, policy::prefetch_bytes / std::max<std::size_t>(1, width()));
  }

  // One element of any dtype.
  double number(Bytes at, DType dtype) const {
    alignas(8) std::byte staged[8];
    of(all_, dtype).copy_row(at, 1, staged);
    return load_staged(staged, dtype);
  }
  static double load_staged(Bytes at, DType dtype) {
    if (dtype == DType::float64) return load_as<double>(at);
    return static_cast<double>(load_as<float>(at));
  }
  void store_staged(OutBytes at, std::size_t i, double value) const {
    if (table_.dtype == DType::float64)
      std::memcpy(at + i * 8, &value, 8);
    else
      store_as(at + i * 4, static_cast<float>(value));
  }

  // fn(i) for i < count, each of about so many elements of work.
  template <class Fn>
  void spread(std::size_t count, std::size_t work, const Fn& fn) const {
    const std::size_t run = std::max<std::size_t>(1, policy::grain / std::max<std::size_t>(1, work));
    const int threads = exec_.threads > 0 ? exec_.threads : get_num_threads();
    parallel((count + run - 1) / run, threads, exec_, Task([&](std::size_t task) {
               const KernelScope scope;
               for (std::size_t i = task * run, end = std::min(count, i + run); i < end; ++i) fn(i);
             }));
  }

  const Kernels& all_;
  const DTypeKernels& k_;
  const ClassTable& table_;
  const Exec& exec_;

 private:
  template <class F>
  static F load_as(Bytes at) {
    F value;
    std::memcpy(&value, at, sizeof value);
    return value;
  }
  static void store_as(OutBytes at, float value) { std::memcpy(at, &value, sizeof value); }
};

}  // namespace vastmax
