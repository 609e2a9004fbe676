// SPDX-License-Identifier: Apache-2.0
// Gradients of the normalisers: a sum over the row, then each element with it.
#include "cpp/ops/formulas.hpp"
#include "cuda/kernels/launch.hpp"

namespace vastmax::VM_ISA {

constexpr unsigned tile_threads = 128, map_threads = 256, block_threads = 256;

// The operands of one row: g in `x`, the saved result in `second`.
struct GradRow {
  Bytes g, y;
  OutBytes out;
  VM_MEMBER GradRow(const RowOperands& a, std::int64_t row)
      : g(a.shape.row(a.x, row)), y(a.shape.row(a.second, row)), out(a.shape.row(a.out, row)) {}
};

// One warp; every lane returns the same.
template <template <class> class Formula, class T, bool plain>
VM_INLINE TwoSum dot_tile(const RowOperands& a, const GradRow& row, std::int64_t start) {
  using V = vec<compute_t<T>>;
  constexpr bool weighted = Formula<V>::weighted;
  LaneDot<V> dot;
  if constexpr (plain && weighted) {
    const PlainTile<T> g(row.g, a.shape.n, start, 0), y(row.y, a.shape.n, start, 0);
    VM_UNROLL(64)
    for (int j = 0; j < per_lane<T>; ++j) dot.add(g[j], y[j]);
  } else if constexpr (plain) {
    const PlainTile<T> g(row.g, a.shape.n, start, 0);
    VM_UNROLL(64)
    for (int j = 0; j < per_lane<T>; ++j) dot.sum.add(g[j]);
  } else {
    for (int j = 0; j < per_lane<T>; ++j) {
      const std::int64_t i = start + place_in_tile<T>(j);
      if (i >= a.shape.n) continue;
      const V g = number(load_one<T>(row.g + i * a.x.step));
      weighted ? dot.add(g, number(load_one<T>(row.y + i * a.second.step))) : dot.sum.add(g);
    }
  }
  return dot.sum.total();
}

VM_INLINE void add_dot(TwoSum& sum, const TwoSum& part) {
  sum.add(part.high);
  sum.low += part.low;
}

VM_INLINE RowParams params_of(const RowOperands& a, std::int64_t row, const TwoSum& dot) {
  RowParams p;
  p.grad = value_of(dot);
  p.scale = a.temperature.data == nullptr ? 1 : 1 / load_one<double>(a.shape.row(a.temperature, row));
  return p;
}

template <template <class> class Formula, class T, bool plain>
VM_INLINE void map_row(const RowOperands& a, const GradRow& row, std::int64_t begin, std::int64_t n, std::int64_t me,
                       std::int64_t team, const RowParams& params) {
  using V = vec<compute_t<T>>;
  const Formula<V> formula{RowValues<V>(params)};
  const Bytes g = row.g + begin * a.x.step, y = row.y + begin * a.second.step;
  const OutBytes out = row.out + begin * a.out.step;
  if constexpr (plain) {
    map_dense<T>(out, n, me, team, [&](V gi, V yi) { return formula(gi, yi); }, g, y);
  } else {
    for (std::int64_t i = me; i < n; i += team)
      store_one<T>(out + i * a.out.step, rounded<T>(formula(number(load_one<T>(g + i * a.x.step)),
                                                            number(load_one<T>(y + i * a.second.step)))));
  }
}

template <template <class> class Formula, class T, bool plain>
VM_KERNEL(tile_threads, 4)
tiles_kernel(RowOperands a, std::int64_t tiles, TwoSum* parts) {
  for (std::int64_t t = global_warp(); t < a.shape.count * tiles; t += global_warps()) {
    const TwoSum dot = dot_tile<Formula, T, plain>(a, GradRow(a, t / tiles), t % tiles * tile_length<T>);
    if (lane() == 0) parts[t] = dot;
  }
}

VM_KERNEL(block_threads, 2) finish_kernel(RowOperands a, std::int64_t tiles, const TwoSum* parts, RowParams* rows) {
  auto& scratch = *reinterpret_cast<TwoSum(*)[virtual_threads]>(shared_memory());
  for (std::int64_t row = block(); row < a.shape.count; row += blocks()) {
    const TwoSum* const own = parts + row * tiles;
    const TwoSum dot = total_by_block(tiles, scratch, [&](TwoSum& sum, std::int64_t t) { add_dot(sum, own[t]); });
    if (thread() == 0) rows[row] = params_of(a, row, dot);
    sync_block();
  }
}

template <template <class> class Formula, class T, bool plain>
VM_KERNEL(map_threads, 3)
map_kernel(RowOperands a, std::int64_t pieces, std::int64_t length, const RowParams* rows) {
  const std::int64_t all = a.shape.count * pieces;
  for (std::int64_t i = block(); i < all; i += blocks()) {
    const std::int64_t p = all - 1 - i, row = p / pieces, begin = p % pieces * length;
    const std::int64_t left = a.shape.n - begin;
    map_row<Formula, T, plain>(a, GradRow(a, row), begin, left < length ? left : length, thread(), threads(),
                               rows[row]);
  }
}

// A row by one block; the second read finds it in the cache.
template <template <class> class Formula, class T, bool plain>
VM_KERNEL(block_threads, 2 - fewer_blocks)
block_kernel(RowOperands a, std::int64_t tiles) {
  auto& scratch = *reinterpret_cast<TwoSum(*)[virtual_threads]>(shared_memory());
  auto& params = *reinterpret_cast<RowParams*>(&scratch + 1);
  auto* const parts = reinterpret_cast<TwoSum*>(&params + 1);
  for (std::int64_t r = block(); r < a.shape.count; r += blocks()) {
    const GradRow row(a, r);
    for (std::int64_t t = thread() / lanes_of_warp; t < tiles; t += threads() / lanes_of_warp) {
      const TwoSum dot = dot_tile<Formula, T, plain>(a, row, t * tile_length<T>);
      if (lane() == 0) parts[t] = dot;
    }
    sync_block();
    const TwoSum dot = total_by_block(tiles, scratch, [&](TwoSum& sum, std::int64_t t) { add_dot(sum, parts[t]); });
    if (thread() == 0) params = params_of(a, r, dot);
    sync_block();
    map_row<Formula, T, plain>(a, row, 0, a.shape.n, thread(), threads(), params);
    sync_block();
  }
}

template <template <class> class Formula>
static void start_tiles(DType dtype, bool plain, const RowOperands& a, std::int64_t tiles, TwoSum* parts,
                        const Stream& stream) {
  const Grid grid = grid_for(a.shape.count * tiles, tile_threads / lanes_of_warp, tile_threads, stream);
  with_dtype(dtype, [&]<class T>(T) {
    plain ? launch(tiles_kernel<Formula, T, true>, grid, stream, a, tiles, parts)
          : launch(tiles_kernel<Formula, T, false>, grid, stream, a, tiles, parts);
  });
}

void dot_finish(const RowOperands& a, std::int64_t tiles, const TwoSum* parts, RowParams* rows, const Stream& stream) {
  launch(finish_kernel, grid_for(a.shape.count, 1, block_threads, stream, virtual_threads * sizeof(TwoSum)), stream, a,
         tiles, parts, rows);
}

template <template <class> class Formula>
static void start_map(DType dtype, bool plain, const RowOperands& a, const RowParams* rows, const Stream& stream) {
  constexpr std::int64_t length = 8192;  // of a piece
  const std::int64_t pieces = (a.shape.n + length - 1) / length;
  const Grid grid = grid_for(a.shape.count * pieces, 1, map_threads, stream);
  with_dtype(dtype, [&]<class T>(T) {
    plain ? launch(map_kernel<Formula, T, true>, grid, stream, a, pieces, length, rows)
          : launch(map_kernel<Formula, T, false>, grid, stream, a, pieces, length, rows);
  });
}

template <template <class> class Formula>
static void start_block(DType dtype, bool plain, const RowOperands& a, const Stream& stream) {
  const std::int64_t tiles = tiles_of(a.shape.n, item_size(dtype));
  const std::size_t shared = (virtual_threads + static_cast<std::size_t>(tiles)) * sizeof(TwoSum) + sizeof(RowParams);
  const Grid grid = grid_for(a.shape.count, 1, block_threads, stream, shared);
  with_dtype(dtype, [&]<class T>(T) {
    plain ? launch(block_kernel<Formula, T, true>, grid, stream, a, tiles)
          : launch(block_kernel<Formula, T, false>, grid, stream, a, tiles);
  });
}

#define VM_OP(shape, name, Formula) VM_CASE_##shape(name, Formula)
#define VM_CASE_unary(name, Formula)
#define VM_CASE_binary(name, Formula)
#define VM_CASE_norm_map(name, Formula)
#define VM_CASE_row_grad(name, Formula) \
  case Op::name:                        \
    return VM_START(Formula);
void dot_tiles(Op op, DType dtype, bool plain, const RowOperands& a, std::int64_t tiles, TwoSum* parts,
               const Stream& stream) {
#define VM_START(Formula) start_tiles<Formula>(dtype, plain, a, tiles, parts, stream)
  switch (op) {
#include "cpp/ops.def"
    default:
      return;
  }
#undef VM_START
}
void row_grad(Op op, DType dtype, bool plain, const RowOperands& a, const RowParams* rows, const Stream& stream) {
#define VM_START(Formula) start_map<Formula>(dtype, plain, a, rows, stream)
  switch (op) {
#include "cpp/ops.def"
    default:
      return;
  }
#undef VM_START
}
void row_grad_block(Op op, DType dtype, bool plain, const RowOperands& a, const Stream& stream) {
#define VM_START(Formula) start_block<Formula>(dtype, plain, a, stream)
  switch (op) {
#include "cpp/ops.def"
    default:
      return;
  }
#undef VM_START
}

}  // namespace vastmax::VM_ISA
