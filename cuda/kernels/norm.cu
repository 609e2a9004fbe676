// SPDX-License-Identifier: Apache-2.0
// The normaliser: a warp reduces a tile of a row to a TilePart, and the parts of a row are merged in index order.  Any
// number of rows and classes, one read.
#include "cuda/kernels/launch.hpp"

namespace vastmax::VM_ISA {

constexpr unsigned block_threads = 128;
template <class T>  // 128 registers a thread, 168 for float64: with 96 nvcc 13.0 spills in bfloat16
constexpr int blocks_for = sizeof(T) == 8 ? 3 : 4;
constexpr std::int64_t warps_of_block = block_threads / lanes_of_warp;

// fn(row, first class) with this warp's tile, for every tile of the launch.
template <class Fn>
VM_INLINE void each_tile(std::int64_t rows, std::int64_t tiles, std::int64_t length, const Fn& fn) {
  for (std::int64_t t = global_warp(); t < rows * tiles; t += global_warps()) fn(t / tiles, t % tiles * length, t);
}

template <class T, bool plain>
VM_INLINE TilePart part_of(const RowOperands& a, std::int64_t row, std::int64_t start) {
  if constexpr (plain) {
    return norm_tile<T>(PlainTile<T>(a.shape.row(a.x, row), a.shape.n, start, -Number<compute_t<T>>::infinity), true);
  } else {
    bool seen = false;
    const StagedTile<T> tile(Staged<T>(a, row), a.shape.n, start, seen);
    return norm_tile<T>(tile, any(seen));
  }
}

template <class T, bool plain>
VM_KERNEL(block_threads, blocks_for<T>)
tiles_kernel(RowOperands a, std::int64_t tiles, TilePart* parts) {
  each_tile(a.shape.count, tiles, tile_length<T>, [&](std::int64_t row, std::int64_t start, std::int64_t t) {
    const TilePart part = part_of<T, plain>(a, row, start);
    if (lane() == 0) parts[t] = part;
  });
}

template <class F>
VM_INLINE void store_sum(const RowOperands& a, std::int64_t row, const Norm& norm, double rest) {
  const auto value = static_cast<F>(finish_sum<F>(norm, rest));
  store_one<F>(a.shape.row(a.out, row), value == value ? value : Number<F>::nan);
}

template <class T, bool plain>
VM_KERNEL(block_threads, blocks_for<T> - 2 * fewer_blocks)
short_kernel(RowOperands a) {
  using F = compute_t<T>;
  for (std::int64_t row = global_warp(); row < a.shape.count; row += global_warps()) {
    const TilePart part = part_of<T, plain>(a, row, 0);
    if (lane() == 0) store_sum<F>(a, row, norm_of({part.max, 0, part.seen}, part, {}), part.rest);
  }
}

// put(row, norm, rest) once for each row.
template <class F, bool by_block, class Put>
VM_INLINE void each_norm(std::int64_t rows, std::int64_t tiles, const TilePart* parts, const Put& put) {
  using Merging = Team<by_block>;
  Merging::each_row(rows, [&](std::int64_t row) {
    const TilePart* const own = parts + row * tiles;
    const Norm norm = Merging::template norm<F>(own, tiles);
    if (Merging::first()) put(row, norm, own[norm.where].rest);
  });
}

template <class F, bool by_block>
VM_KERNEL(virtual_threads, 2)
reduce_kernel(RowOperands a, std::int64_t tiles, const TilePart* parts) {
  each_norm<F, by_block>(a.shape.count, tiles, parts,
                         [&](std::int64_t row, const Norm& norm, double rest) { store_sum<F>(a, row, norm, rest); });
}

template <class F, bool by_block>
VM_KERNEL(virtual_threads, 2)
finish_kernel(Role role, RowOperands a, std::int64_t tiles, const TilePart* parts, RowResult* rows) {
  each_norm<F, by_block>(a.shape.count, tiles, parts, [&](std::int64_t row, const Norm& norm, double rest) {
    rows[row] = finish<F>(role, norm, rest);
    rows[row].params.grad = gradient_of<F>(a, row);
  });
}

void norm_tiles(DType dtype, bool plain, const RowOperands& a, std::int64_t tiles, TilePart* parts,
                const Stream& stream) {
  const Grid grid = grid_for(a.shape.count * tiles, warps_of_block, block_threads, stream);
  with_dtype(dtype, [&]<class T>(T) {
    plain ? launch(tiles_kernel<T, true>, grid, stream, a, tiles, parts)
          : launch(tiles_kernel<T, false>, grid, stream, a, tiles, parts);
  });
}

void norm_reduce_short(DType dtype, bool plain, const RowOperands& a, const Stream& stream) {
  const Grid grid = grid_for(a.shape.count, warps_of_block, block_threads, stream);
  with_dtype(dtype, [&]<class T>(T) {
    plain ? launch(short_kernel<T, true>, grid, stream, a) : launch(short_kernel<T, false>, grid, stream, a);
  });
}

void norm_reduce(DType dtype, const RowOperands& a, std::int64_t tiles, const TilePart* parts, const Stream& stream) {
  with_team(dtype, a.shape.count, tiles, stream, [&]<class F, bool by_block>(F, By<by_block>, const Grid& grid) {
    launch(reduce_kernel<F, by_block>, grid, stream, a, tiles, parts);
  });
}

void norm_finish(Op op, DType dtype, const RowOperands& a, std::int64_t tiles, const TilePart* parts, RowResult* rows,
                 const Stream& stream) {
  with_team(dtype, a.shape.count, tiles, stream, [&]<class F, bool by_block>(F, By<by_block>, const Grid& grid) {
    launch(finish_kernel<F, by_block>, grid, stream, role_of(op), a, tiles, parts, rows);
  });
}

}  // namespace vastmax::VM_ISA
