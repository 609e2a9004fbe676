// SPDX-License-Identifier: Apache-2.0
// The normaliser: a warp reduces a tile of a row to a TilePart, and the parts of a row are merged in index order.  Any
// number of rows and classes, one read.
#include "kernels/launch.hpp"

namespace vastmax::VM_ISA {

constexpr unsigned block_threads = 128;
template <class T>  // 128 registers a thread, 168 for float64: with 96 nvcc 13.0 spills in bfloat16
constexpr int blocks_for = sizeof(T) == 8 ? 3 : 4;
constexpr std::int64_t warps_of_block = block_threads / lanes_of_warp;
constexpr std::int64_t few_tiles = 256;  // up to here a warp merges a row, beyond a block

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

// By the first lane: put(row, norm, rest) for each row, merged by a warp or by a block.
template <class F, class Put>
VM_INLINE void each_norm_by_warp(std::int64_t rows, std::int64_t tiles, const TilePart* parts, const Put& put) {
  for (std::int64_t row = global_warp(); row < rows; row += global_warps()) {
    const TilePart* const own = parts + row * tiles;
    const Norm norm = merge_by_warp<F>(own, tiles);
    if (lane() == 0) put(row, norm, own[norm.where].rest);
  }
}
template <class F, class Put>
VM_INLINE void each_norm_by_block(std::int64_t rows, std::int64_t tiles, const TilePart* parts, const Put& put) {
  auto& scratch = *reinterpret_cast<MergeScratch*>(shared_memory());
  for (std::int64_t row = block(); row < rows; row += blocks()) {
    const TilePart* const own = parts + row * tiles;
    const Norm norm = merge_by_block<F>(own, tiles, scratch);
    if (thread() == 0) put(row, norm, own[norm.where].rest);
    sync_block();
  }
}

template <class F, bool by_block>
VM_KERNEL(virtual_threads, 2)
reduce_kernel(RowOperands a, std::int64_t tiles, const TilePart* parts) {
  const auto put = [&](std::int64_t row, const Norm& norm, double rest) { store_sum<F>(a, row, norm, rest); };
  if constexpr (by_block)
    each_norm_by_block<F>(a.shape.count, tiles, parts, put);
  else
    each_norm_by_warp<F>(a.shape.count, tiles, parts, put);
}

template <class F, bool by_block>
VM_KERNEL(virtual_threads, 2)
finish_kernel(Role role, RowOperands a, std::int64_t tiles, const TilePart* parts, RowResult* rows) {
  const auto put = [&](std::int64_t row, const Norm& norm, double rest) {
    rows[row] = finish<F>(role, norm, rest);
    rows[row].params.grad = gradient_of<F>(a, row);
  };
  if constexpr (by_block)
    each_norm_by_block<F>(a.shape.count, tiles, parts, put);
  else
    each_norm_by_warp<F>(a.shape.count, tiles, parts, put);
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

// How the rows of a merge are spread.
static Grid merge_grid(std::int64_t rows, std::int64_t tiles, const Stream& stream) {
  return tiles <= few_tiles ? grid_for(rows, virtual_threads / lanes_of_warp, virtual_threads, stream)
                            : grid_for(rows, 1, virtual_threads, stream, sizeof(MergeScratch));
}

void norm_reduce(DType dtype, const RowOperands& a, std::int64_t tiles, const TilePart* parts, const Stream& stream) {
  const Grid grid = merge_grid(a.shape.count, tiles, stream);
  const auto start = [&]<class F>(F) {
    tiles <= few_tiles ? launch(reduce_kernel<F, false>, grid, stream, a, tiles, parts)
                       : launch(reduce_kernel<F, true>, grid, stream, a, tiles, parts);
  };
  dtype == DType::float64 ? start(double{}) : start(float{});
}

void norm_finish(Op op, DType dtype, const RowOperands& a, std::int64_t tiles, const TilePart* parts, RowResult* rows,
                 const Stream& stream) {
  const Grid grid = merge_grid(a.shape.count, tiles, stream);
  const auto start = [&]<class F>(F) {
    tiles <= few_tiles ? launch(finish_kernel<F, false>, grid, stream, role_of(op), a, tiles, parts, rows)
                       : launch(finish_kernel<F, true>, grid, stream, role_of(op), a, tiles, parts, rows);
  };
  dtype == DType::float64 ? start(double{}) : start(float{});
}

}  // namespace vastmax::VM_ISA
