// SPDX-License-Identifier: Apache-2.0
// Rows of a table of classes, found by number, against the features of one row of input: dot products, and the sum of
// some of them by weights.  A few rows at a time, so that each lane has several loads in flight and every row is there
// for the sum while it is in registers, or in first-level cache.  The order of sums depends on the number of features
// and their dtype only.
#pragma once

#include "cuda/device/tile.hpp"
#include "cuda/kernels/launch.hpp"

namespace vastmax::VM_ISA {

inline constexpr std::int64_t no_class = -1;  // in the place of a row: none

// Elements from i on of a row of n; zeros beyond.
template <class T>
VM_INLINE Group<T> load_group(Bytes row, std::int64_t i, std::int64_t n) {
  return i + Group<T>::size <= n ? load_whole<T>(row, i, n) : load_some<T>(row, i, n, T{});
}

// Teams of lanes, each with rows of its own, of which a lane keeps `held` groups in registers.
template <class T, int held>
class HeldRows {
  using F = compute_t<T>;
  using V = vec<F>;
  static constexpr int size = Group<T>::size, count = held * size;

 public:
  static constexpr int tile = 8 / held;               // rows of a team at a time
  static constexpr int blocks = count == 32 ? 2 : 3;  // of 128 threads, that the registers allow

  VM_MEMBER HeldRows(const TableOperand& table, Bytes x, OutBytes sum) : table_(table), sum_to_(sum) {
    plain_ = misaligned(table.data) == 0 && table.pitch % 16 == 0 && table.features % size == 0;
    const auto groups = (table.features + size - 1) / size;
    if constexpr (held == 1) team_ = groups <= 8 ? 8 : groups <= 16 ? 16 : lanes_of_warp;
    VM_UNROLL(16)
    for (int e = 0; e < count; ++e) {
      const std::int64_t i = index(e / size) + e % size;
      x_[e] = splat<V>(i < table.features ? load_one<F>(x + i * static_cast<int>(sizeof(F))) : F(0));
      sum_[e] = splat<V>(0);
    }
  }
  VM_MEMBER unsigned team() const { return team_; }

  // What follows is of this team's rows, the same in all of its lanes.
  VM_MEMBER void take(const std::int64_t (&ids)[tile]) {
    const auto fetch = [&](const auto& load) {
      VM_UNROLL(8)
      for (int u = 0; u < tile; ++u) {
        VM_UNROLL(4)
        for (int g = 0; g < held; ++g) {
          const std::int64_t i = index(g);
          row_[u][g] = ids[u] != no_class && i < table_.features ? load(table_.row(ids[u]), i) : Group<T>{};
        }
      }
    };
    if (plain_)
      fetch([](Bytes row, std::int64_t i) { return load_aligned<T>(row + i * static_cast<int>(sizeof(T))); });
    else
      fetch([n = table_.features](Bytes row, std::int64_t i) { return load_group<T>(row, i, n); });
  }
  VM_MEMBER void dots(F (&dot)[tile]) const {
    VM_UNROLL(8)
    for (int u = 0; u < tile; ++u) {
      V sum = splat<V>(0);
      VM_UNROLL(16)
      for (int e = 0; e < count; ++e) sum = fma(number(row_[u][e / size].at[e % size]), x_[e], sum);
      F all = sum.piece[0].v;
      for (unsigned mask = team_ / 2; mask > 0; mask /= 2) all += shuffle_xor(all, mask);
      dot[u] = all;
    }
  }
  // A weight of 0 takes nothing of its row, not even NaN.
  VM_MEMBER void add(const F (&weight)[tile]) {
    VM_UNROLL(8)
    for (int u = 0; u < tile; ++u) {
      if (weight[u] == 0) continue;
      VM_UNROLL(16)
      for (int e = 0; e < count; ++e)
        sum_[e] = fma(splat<V>(weight[u]), number(row_[u][e / size].at[e % size]), sum_[e]);
    }
  }
  VM_MEMBER void scale(F by) {
    VM_UNROLL(16)
    for (int e = 0; e < count; ++e) sum_[e] = sum_[e] * splat<V>(by);
  }
  // What the teams have added up becomes one sum, to which only the first of them adds from now on.
  VM_MEMBER void join() {
    for (unsigned mask = lanes_of_warp / 2; mask >= team_; mask /= 2) {
      VM_UNROLL(16)
      for (int e = 0; e < count; ++e) sum_[e] = sum_[e] + splat<V>(shuffle_xor(sum_[e].piece[0].v, mask));
    }
  }
  VM_MEMBER void store() const {
    if (lane() >= team_) return;
    VM_UNROLL(16)
    for (int e = 0; e < count; ++e)
      if (const std::int64_t i = index(e / size) + e % size; i < table_.features)
        store_one<F>(sum_to_ + i * static_cast<int>(sizeof(F)), sum_[e].piece[0].v);
  }

 private:
  VM_MEMBER std::int64_t index(int group) const {
    return (static_cast<std::int64_t>(group) * team_ + lane() % team_) * size;
  }
  const TableOperand& table_;
  OutBytes sum_to_;
  unsigned team_ = lanes_of_warp;
  bool plain_;  // rows are whole groups on 16-byte boundaries
  V x_[count], sum_[count];
  Group<T> row_[tile][held];
};

// Rows of any length, at any address: the sum is kept where it will be, a lane's elements always the same.
template <class T>
class LongRows {
  using F = compute_t<T>;
  using V = vec<F>;
  static constexpr int size = Group<T>::size;
  static constexpr auto item = static_cast<std::int64_t>(sizeof(F));

 public:
  static constexpr int tile = 4, blocks = 3;

  // fresh: the sum begins with nothing
  VM_MEMBER LongRows(const TableOperand& table, Bytes x, OutBytes sum, bool fresh = true)
      : table_(table), x_(x), sum_(sum) {
    if (sum != nullptr && fresh) each([&](std::int64_t i) { store_one<F>(sum_ + i * item, 0); });
  }
  VM_MEMBER static constexpr unsigned team() { return lanes_of_warp; }

  VM_MEMBER void take(const std::int64_t (&ids)[tile]) {
    VM_UNROLL(4)
    for (int u = 0; u < tile; ++u) ids_[u] = ids[u];
  }
  VM_MEMBER void dots(F (&dot)[tile]) const {
    V sum[tile];
    VM_UNROLL(4)
    for (int u = 0; u < tile; ++u) sum[u] = splat<V>(0);
    for (std::int64_t i = lane() * size; i < table_.features; i += lanes_of_warp * size) {
      Group<T> row[tile];
      fetch(i, row);
      VM_UNROLL(8)
      for (int e = 0; e < size; ++e) {
        const V x = splat<V>(i + e < table_.features ? load_one<F>(x_ + (i + e) * item) : F(0));
        VM_UNROLL(4)
        for (int u = 0; u < tile; ++u) sum[u] = fma(number(row[u].at[e]), x, sum[u]);
      }
    }
    VM_UNROLL(4)
    for (int u = 0; u < tile; ++u) {
      dot[u] = sum[u].piece[0].v;
      for (unsigned mask = lanes_of_warp / 2; mask > 0; mask /= 2) dot[u] += shuffle_xor(dot[u], mask);
    }
  }
  VM_MEMBER void add(const F (&weight)[tile]) {
    for (std::int64_t i = lane() * size; i < table_.features; i += lanes_of_warp * size) {
      Group<T> row[tile];
      fetch(i, row);
      VM_UNROLL(8)
      for (int e = 0; e < size; ++e) {
        if (i + e >= table_.features) break;
        OutBytes const at = sum_ + (i + e) * item;
        V sum = splat<V>(load_one<F>(at));
        VM_UNROLL(4)
        for (int u = 0; u < tile; ++u)
          if (weight[u] != 0) sum = fma(splat<V>(weight[u]), number(row[u].at[e]), sum);
        store_one<F>(at, sum.piece[0].v);
      }
    }
  }
  VM_MEMBER void scale(F by) {
    each([&](std::int64_t i) { store_one<F>(sum_ + i * item, load_one<F>(sum_ + i * item) * by); });
  }
  VM_MEMBER static void join() {}
  VM_MEMBER static void store() {}

 private:
  template <class Fn>
  VM_MEMBER void each(const Fn& fn) const {  // of this lane's elements
    for (std::int64_t i = lane() * size; i < table_.features; i += lanes_of_warp * size)
      for (int e = 0; e < size && i + e < table_.features; ++e) fn(i + e);
  }
  VM_MEMBER void fetch(std::int64_t i, Group<T> (&row)[tile]) const {
    VM_UNROLL(4)
    for (int u = 0; u < tile; ++u)
      row[u] = ids_[u] != no_class ? load_group<T>(table_.row(ids_[u]), i, table_.features) : Group<T>{};
  }

  const TableOperand& table_;
  Bytes x_;
  OutBytes sum_;
  std::int64_t ids_[tile];
};

// The logit of a class, before the temperature, from its dot product.
VM_INLINE double with_bias(const TableOperand& table, std::int64_t id, double dot) {
  if (table.bias == nullptr) return dot;
  const Bytes at = table.bias + id * table.bias_step;
  switch (table.bias_dtype) {
    case DType::float16:
      return dot + static_cast<double>(number(load_one<Half>(at)).piece[0].v);
    case DType::bfloat16:
      return dot + static_cast<double>(number(load_one<BFloat16>(at)).piece[0].v);
    case DType::float32:
      return dot + static_cast<double>(load_one<float>(at));
    case DType::float64:
      return dot + load_one<double>(at);
  }
  return dot;
}

}  // namespace vastmax::VM_ISA
