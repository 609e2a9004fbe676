// SPDX-License-Identifier: Apache-2.0
// softmax, log_softmax and the gradient of logsumexp: each logit through its formula, with what its row came to.
#include "cpp/ops/formulas.hpp"
#include "cuda/device/row_map.hpp"
#include "cuda/kernels/launch.hpp"

namespace vastmax::VM_ISA {

constexpr unsigned short_threads = 128, map_threads = 256;
template <class T>  // twice the registers for float64
constexpr unsigned block_threads = sizeof(T) == 8 ? 256 : 512;

// The second read of split rows, by pieces of a row.  The last pieces first: they are what caches still hold.
template <template <class, bool> class Formula, class T, bool plain>
VM_KERNEL(map_threads, 3)
map_kernel(Role role, RowOperands a, std::int64_t pieces, std::int64_t length, const RowResult* rows) {
  constexpr auto item = static_cast<std::int64_t>(sizeof(T));
  const std::int64_t all = a.shape.count * pieces;
  for (std::int64_t i = block(); i < all; i += blocks()) {
    const std::int64_t p = all - 1 - i, row = p / pieces, begin = p % pieces * length;
    const std::int64_t left = a.shape.n - begin, n = left < length ? left : length;
    const RowResult r = rows[row];
    const OutBytes y = a.shape.row(a.out, row);
    if constexpr (plain)
      map_plain<Formula, T>(role, a.shape.row(a.x, row) + begin * item, y + begin * item, n, thread(), threads(), r);
    else
      map_staged<Formula>(role, Staged<T>(a, row), y, a.out.step, begin + thread(), begin + n, threads(), r);
  }
}

// A row that is one tile, by one warp: read once, into registers.
template <template <class, bool> class Formula, class T>
VM_KERNEL(short_threads, 3 - fewer_blocks)
short_kernel(Role role, RowOperands a) {
  using F = compute_t<T>;
  constexpr int size = Group<T>::size;
  const std::int64_t n = a.shape.n;
  for (std::int64_t row = global_warp(); row < a.shape.count; row += global_warps()) {
    const PlainTile<T> x(a.shape.row(a.x, row), n, 0, -Number<F>::infinity);
    const TilePart part = norm_tile<T>(x, true);
    RowResult r = finish<F>(role, norm_of({part.max, 0, part.seen}, part, {}), part.rest);
    r.params.grad = gradient_of<F>(a, row);
    const RowMap<Formula, T> map(r);
    const OutBytes y = a.shape.row(a.out, row);
    VM_UNROLL(16)
    for (int g = 0; g < per_lane<T> / size; ++g) {
      const std::int64_t i = place_in_tile<T>(g * size);
      if (i >= n) continue;
      Group<T> out;
      VM_UNROLL(8)
      for (int e = 0; e < size; ++e) {
        const auto v = x[g * size + e];
        out.at[e] = r.special ? special_bits<T>(role, r, true, v) : rounded<T>(map(v));
      }
      const OutBytes at = y + i * static_cast<std::int64_t>(sizeof(T));
      if (i + size <= n && misaligned(at) == 0) {
        store_aligned<T>(at, out);
      } else {
        VM_UNROLL(8)
        for (int e = 0; e < size; ++e)
          if (i + e < n) store_one<T>(at + e * sizeof(T), out.at[e]);
      }
    }
  }
}

template <template <class, bool> class Formula, class T>
VM_KERNEL(short_threads, 3 - fewer_blocks)
short_staged_kernel(Role role, RowOperands a) {
  using F = compute_t<T>;
  for (std::int64_t row = global_warp(); row < a.shape.count; row += global_warps()) {
    const Staged<T> x(a, row);
    bool seen = false;
    const StagedTile<T> tile(x, a.shape.n, 0, seen);
    const TilePart part = norm_tile<T>(tile, any(seen));
    RowResult r = finish<F>(role, norm_of({part.max, 0, part.seen}, part, {}), part.rest);
    r.params.grad = gradient_of<F>(a, row);
    map_staged<Formula>(role, x, a.shape.row(a.out, row), a.out.step, lane(), a.shape.n, lanes_of_warp, r);
  }
}

// A row by one block, which keeps it in shared memory where it fits; else the second read finds it in the cache.
struct BlockScratch {
  MergeScratch merge;
  RowResult row;
};
VM_SHARED std::int64_t kept_offset(std::int64_t tiles) {  // behind the scratch and the parts, on a boundary
  return (static_cast<std::int64_t>(sizeof(BlockScratch)) + tiles * static_cast<std::int64_t>(sizeof(TilePart)) + 15) /
         16 * 16;
}
std::size_t shared_for_row(std::int64_t classes, std::size_t item, bool keep) {
  const auto row = (classes * static_cast<std::int64_t>(item) + 15) / 16 * 16;
  return static_cast<std::size_t>(kept_offset(tiles_of(classes, item)) + (keep ? row : 0));
}

template <template <class, bool> class Formula, class T>
VM_KERNEL(block_threads<T>, 1)
block_kernel(Role role, RowOperands a, std::int64_t tiles, bool keep) {
  using F = compute_t<T>;
  const std::int64_t n = a.shape.n;
  auto& scratch = *reinterpret_cast<BlockScratch*>(shared_memory());
  auto* const parts = reinterpret_cast<TilePart*>(&scratch + 1);
  const OutBytes kept = shared_memory() + kept_offset(tiles);
  for (std::int64_t row = block(); row < a.shape.count; row += blocks()) {
    const Bytes x = a.shape.row(a.x, row);
    for (std::int64_t t = thread() / lanes_of_warp; t < tiles; t += threads() / lanes_of_warp) {
      const PlainTile<T> tile(x, n, t * tile_length<T>, -Number<F>::infinity);
      if (keep) tile.keep(kept, n, t * tile_length<T>);
      const TilePart part = norm_tile<T>(tile, true);
      if (lane() == 0) parts[t] = part;
    }
    sync_block();
    const Norm norm = merge_by_block<F>(parts, tiles, scratch.merge);
    if (thread() == 0) {
      scratch.row = finish<F>(role, norm, parts[norm.where].rest);
      scratch.row.params.grad = gradient_of<F>(a, row);
    }
    sync_block();
    map_plain<Formula, T>(role, keep ? kept : x, a.shape.row(a.out, row), n, thread(), threads(), scratch.row);
    sync_block();  // before the next row takes its place
  }
}

template <template <class, bool> class Formula>
static void start_map(Op op, DType dtype, bool plain, const RowOperands& a, const RowResult* rows,
                      const Stream& stream) {
  constexpr std::int64_t length = 8192;  // of a piece
  const std::int64_t pieces = (a.shape.n + length - 1) / length;
  const Grid grid = grid_for(a.shape.count * pieces, 1, map_threads, stream);
  with_dtype(dtype, [&]<class T>(T) {
    plain ? launch(map_kernel<Formula, T, true>, grid, stream, role_of(op), a, pieces, length, rows)
          : launch(map_kernel<Formula, T, false>, grid, stream, role_of(op), a, pieces, length, rows);
  });
}

template <template <class, bool> class Formula>
static void start_short(Op op, DType dtype, bool plain, const RowOperands& a, const Stream& stream) {
  const Grid grid = grid_for(a.shape.count, short_threads / lanes_of_warp, short_threads, stream);
  with_dtype(dtype, [&]<class T>(T) {
    plain ? launch(short_kernel<Formula, T>, grid, stream, role_of(op), a)
          : launch(short_staged_kernel<Formula, T>, grid, stream, role_of(op), a);
  });
}

template <template <class, bool> class Formula>
static void start_block(Op op, DType dtype, const RowOperands& a, bool keep, const Stream& stream) {
  with_dtype(dtype, [&]<class T>(T) {
    const std::int64_t tiles = tiles_of(a.shape.n, sizeof(T));
    const Grid grid = grid_for(a.shape.count, 1, block_threads<T>, stream, shared_for_row(a.shape.n, sizeof(T), keep));
    launch(block_kernel<Formula, T>, grid, stream, role_of(op), a, tiles, keep);
  });
}

#define VM_OP(shape, name, Formula) VM_CASE_##shape(name, Formula)
#define VM_CASE_unary(name, Formula)
#define VM_CASE_binary(name, Formula)
#define VM_CASE_row_grad(name, Formula)
#define VM_CASE_norm_map(name, Formula) \
  case Op::name:                        \
    return VM_START(Formula);
void norm_map(Op op, DType dtype, bool plain, const RowOperands& a, const RowResult* rows, const Stream& stream) {
#define VM_START(Formula) start_map<Formula>(op, dtype, plain, a, rows, stream)
  switch (op) {
#include "cpp/ops.def"
    default:
      return;
  }
#undef VM_START
}
void norm_map_short(Op op, DType dtype, bool plain, const RowOperands& a, const Stream& stream) {
#define VM_START(Formula) start_short<Formula>(op, dtype, plain, a, stream)
  switch (op) {
#include "cpp/ops.def"
    default:
      return;
  }
#undef VM_START
}
void norm_map_block(Op op, DType dtype, const RowOperands& a, bool keep, const Stream& stream) {
#define VM_START(Formula) start_block<Formula>(op, dtype, a, keep, stream)
  switch (op) {
#include "cpp/ops.def"
    default:
      return;
  }
#undef VM_START
}

}  // namespace vastmax::VM_ISA
