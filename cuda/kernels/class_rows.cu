// SPDX-License-Identifier: Apache-2.0
// Rows of a table of classes by number: gathered, summed in groups, updated; a warp for each.  No sum depends on who
// comes first.
#include "cuda/device/class_rows.hpp"

namespace vastmax::VM_ISA {

constexpr unsigned block_threads = 128;

// fn(i) for i < count.
template <class Fn>
VM_INLINE void each_warp(std::int64_t count, const Fn& fn) {
  for (std::int64_t i = global_warp(); i < count; i += global_warps()) fn(i);
}
// fn(i, group) for this lane's groups of a row; what is beyond the row is 0.
template <class T, class Fn>
VM_INLINE void each_group(Bytes row, std::int64_t n, const Fn& fn) {
  constexpr int size = Group<T>::size;
  for (std::int64_t i = lane() * size; i < n; i += lanes_of_warp * size) fn(i, load_group<T>(row, i, n));
}
template <class T>
VM_INLINE void store_group(OutBytes row, std::int64_t i, std::int64_t n, const vec<compute_t<T>>* v, int count) {
  for (int e = 0; e < count && i + e < n; ++e)
    store_one<T>(row + (i + e) * static_cast<int>(sizeof(T)), rounded<T>(v[e]));
}

template <class T>
VM_KERNEL(block_threads, 4)
gather_kernel(TableOperand table, const std::int64_t* ids, std::int64_t count, std::byte* to) {
  using F = compute_t<T>;
  each_warp(count, [&](std::int64_t i) {
    OutBytes const row = to + i * table.features * static_cast<int>(sizeof(F));
    each_group<T>(table.row(ids[i]), table.features, [&](std::int64_t at, const Group<T>& g) {
      VM_UNROLL(8)
      for (int e = 0; e < Group<T>::size; ++e)
        if (at + e < table.features)
          store_one<F>(row + (at + e) * static_cast<int>(sizeof(F)), number(g.at[e]).piece[0].v);
    });
  });
}

// The group that a piece belongs to.
VM_INLINE std::int64_t group_of(const GroupOperands& a, std::int64_t piece) {
  std::int64_t low = 0, high = a.groups;  // pieces[low] <= piece < pieces[high]
  while (high - low > 1) {
    const std::int64_t middle = low + (high - low) / 2;
    a.pieces[middle] <= piece ? low = middle : high = middle;
  }
  return low;
}

template <class F>
VM_KERNEL(block_threads, 4)
pieces_kernel(VM_PARAMETER GroupOperands a) {
  using V = vec<F>;
  constexpr int size = Group<F>::size;
  constexpr auto item = static_cast<std::int64_t>(sizeof(F));
  each_warp(a.piece_count, [&](std::int64_t piece) {
    const std::int64_t group = group_of(a, piece), part = piece - a.pieces[group], end = a.starts[group + 1],
                       begin = a.starts[group] + part * entries_of_piece,
                       last = begin + entries_of_piece < end ? begin + entries_of_piece : end;
    OutBytes const to =
        part == 0 ? a.sums + group * a.features * item : a.more + (piece - group - 1) * a.features * item;
    for (std::int64_t base = 0; base < a.features; base += lanes_of_warp * size) {
      const std::int64_t i = base + lane() * size;
      V sum[size];
      VM_UNROLL(4)
      for (int e = 0; e < size; ++e) sum[e] = splat<V>(0);
      for (std::int64_t first = begin; first < last; first += lanes_of_warp) {  // a lane looks up one of 32 entries
        Bytes row = nullptr;
        F by = 0;
        if (first + lane() < last) {
          const auto e = static_cast<std::size_t>(a.order[first + lane()]);
          const Entries& from = e < a.first.count ? a.first : a.second;
          const std::size_t at = e < a.first.count ? e : e - a.first.count;
          const auto number = from.numbers != nullptr ? from.numbers[at] : static_cast<std::int64_t>(at / from.width);
          row = from.rows + number * a.features * item;
          by = from.coefficients == nullptr ? F(1)
                                            : load_one<F>(from.coefficients + static_cast<std::int64_t>(at) * item);
        }
        const auto some = static_cast<unsigned>(last - first < lanes_of_warp ? last - first : lanes_of_warp);
        for (unsigned l = 0; l < some; ++l) {
          const auto its_row = reinterpret_cast<Bytes>(shuffle(reinterpret_cast<std::uintptr_t>(row), l));
          const V its = splat<V>(shuffle(by, l));
          if (i >= a.features) continue;
          const Group<F> g = load_group<F>(its_row, i, a.features);
          VM_UNROLL(4)
          for (int e = 0; e < size; ++e) sum[e] = fma(its, splat<V>(g.at[e]), sum[e]);
        }
      }
      store_group<F>(to, i, a.features, sum, size);
    }
  });
}

// The pieces of a group, in their order.
template <class F>
VM_KERNEL(block_threads, 4)
merge_kernel(VM_PARAMETER GroupOperands a) {
  constexpr auto item = static_cast<std::int64_t>(sizeof(F));
  each_warp(a.groups, [&](std::int64_t group) {
    const std::int64_t first = a.pieces[group], end = a.pieces[group + 1];
    if (end - first == 1) return;
    for (std::int64_t i = lane(); i < a.features; i += lanes_of_warp) {
      OutBytes const at = a.sums + (group * a.features + i) * item;
      F sum = load_one<F>(at);
      for (std::int64_t piece = first + 1; piece < end; ++piece)
        sum += load_one<F>(a.more + ((piece - group - 1) * a.features + i) * item);
      store_one<F>(at, sum);
    }
  });
}

template <class T>
VM_KERNEL(block_threads, 4)
update_kernel(VM_PARAMETER UpdateOperands a) {
  using F = compute_t<T>;
  using V = vec<F>;
  constexpr auto item = static_cast<std::int64_t>(sizeof(F));
  each_warp(a.count, [&](std::int64_t i) {
    const Bytes change = a.changes + i * a.features * item;
    double step = a.rate;
    if (a.state != nullptr) {
      F square = 0;
      for (std::int64_t f = lane(); f < a.features; f += lanes_of_warp) {
        const V v = splat<V>(load_one<F>(change + f * item));
        square = fma(v, v, splat<V>(square)).piece[0].v;
      }
      for (unsigned mask = lanes_of_warp / 2; mask > 0; mask /= 2) square += shuffle_xor(square, mask);
      const double total = a.state[a.ids[i]] + static_cast<double>(square) / static_cast<double>(a.features);
      sync_warp();
      if (lane() == 0) a.state[a.ids[i]] = total;
      step /= sqrt(total) + a.eps;
    }
    OutBytes const row = a.table + a.ids[i] * a.pitch;
    const V by = splat<V>(static_cast<F>(step));
    for (std::int64_t f = lane(); f < a.features; f += lanes_of_warp) {
      OutBytes const at = row + f * static_cast<int>(sizeof(T));
      store_one<T>(at, rounded<T>(nfma(by, splat<V>(load_one<F>(change + f * item)), number(load_one<T>(at)))));
    }
  });
}

static Grid warps_for(std::int64_t count, const Stream& stream) {
  return grid_for(count, block_threads / lanes_of_warp, block_threads, stream);
}

void gather_rows(DType dtype, const TableOperand& table, const std::int64_t* ids, std::int64_t count, std::byte* to,
                 const Stream& stream) {
  with_dtype(dtype,
             [&]<class T>(T) { launch(gather_kernel<T>, warps_for(count, stream), stream, table, ids, count, to); });
}

void sum_groups(DType staged, const GroupOperands& a, const Stream& stream) {
  const auto with = [&]<class F>(F) {
    launch(pieces_kernel<F>, warps_for(a.piece_count, stream), stream, a);
    if (a.piece_count > a.groups) launch(merge_kernel<F>, warps_for(a.groups, stream), stream, a);
  };
  staged == DType::float64 ? with(double{}) : with(float{});
}

void update_rows(DType dtype, const UpdateOperands& a, const Stream& stream) {
  with_dtype(dtype, [&]<class T>(T) { launch(update_kernel<T>, warps_for(a.count, stream), stream, a); });
}

}  // namespace vastmax::VM_ISA
