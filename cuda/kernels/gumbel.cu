// SPDX-License-Identifier: Apache-2.0
// Logits with Gumbel noise: their softmax, or one at the largest.  Noise costs far more than memory does, so it is made
// once, and kept in the compute type where the softmax needs it again.
#include "cpp/math/random.hpp"
#include "cpp/ops/gumbel.hpp"
#include "cpp/ops/softmax.hpp"
#include "cuda/device/row_map.hpp"
#include "cuda/kernels/sample.hpp"
#include "cuda/kernels/select.hpp"

namespace vastmax::VM_ISA {

constexpr unsigned tile_threads = 128, map_threads = 256;

// fn(place, z) for the classes of tile t of a row, by a warp; two neighbours share a block of random bits.  Places from
// n - start on have no class, and -inf.
template <class T, class Fn>
VM_INLINE void with_noise(const NoisyOperands& a, std::int64_t row, std::int64_t start, const Fn& fn) {
  using F = compute_t<T>;
  using Wide = vec<double>;
  const Staged<T> x(a, row, true);
  const Draws draws{a.draws.seed, a.draws.step, a.draws.row + static_cast<std::uint64_t>(row)};
  for (int pair = static_cast<int>(lane()); pair < tile_length<T> / 2; pair += lanes_of_warp) {
    const Bits bits = random_bits(draws, Purpose::noise, static_cast<std::uint32_t>(start / 2 + pair));
    VM_UNROLL(2)
    for (int half = 0; half < 2; ++half) {
      const int place = 2 * pair + half;
      F z = -Number<F>::infinity;
      if (start + place < a.shape.n) {
        const Complement c(half == 0 ? bits.at[0] : bits.at[1]);  // an index would put them into local memory
        const double noise = Gumbel<Wide>()(splat<Wide>(c.sum), splat<Wide>(c.low)).piece[0].v;
        z = static_cast<F>(static_cast<double>(x(start + place).piece[0].v) + noise);
      }
      fn(place, z);
    }
  }
}

// A tile in shared memory.
template <class F>
struct SharedTile {
  F* at;
  VM_MEMBER vec<F> operator[](int j) const { return splat<vec<F>>(at[j * static_cast<int>(lanes_of_warp) + lane()]); }
};

template <class T>
VM_KERNEL(tile_threads, sizeof(T) == 8 ? 3 : 5)
noisy_tiles_kernel(VM_PARAMETER NoisyOperands a, std::int64_t first, std::int64_t count, OutBytes noisy,
                   TilePart* parts) {
  using F = compute_t<T>;
  const SharedTile<F> tile{reinterpret_cast<F*>(shared_memory()) + thread() / lanes_of_warp * tile_length<T>};
  const Quotient<vec<F>> quotient(a.tau);
  for (std::int64_t t = global_warp(); t < count * a.tiles; t += global_warps()) {
    const std::int64_t row = t / a.tiles, start = t % a.tiles * tile_length<T>;
    with_noise<T>(a, first + row, start,
                  [&](int place, F z) { tile.at[place] = quotient(splat<vec<F>>(z)).piece[0].v; });
    sync_warp();
    const TilePart part = norm_tile<T>(tile, true);
    if (lane() == 0) parts[t] = part;
    for (std::int64_t i = start + lane(); i < start + tile_length<T> && i < a.shape.n; i += lanes_of_warp)
      store_one<F>(noisy + (row * a.shape.n + i) * static_cast<std::int64_t>(sizeof(F)), tile.at[i - start]);
    sync_warp();  // before the next tile takes its place
  }
}

// fn(row, begin, end) for pieces of rows, by a block.
template <class Fn>
VM_INLINE void each_piece(std::int64_t rows, std::int64_t n, const Fn& fn) {
  constexpr std::int64_t length = 8192;
  const std::int64_t pieces = (n + length - 1) / length;
  for (std::int64_t i = block(); i < rows * pieces; i += blocks()) {
    const std::int64_t begin = i % pieces * length;
    fn(i / pieces, begin, begin + length < n ? begin + length : n);
  }
}
static Grid grid_of_pieces(const Shape& shape, std::int64_t rows, const Stream& stream) {
  return grid_for(rows * shape.n, 8192, map_threads, stream);
}

template <class T>
VM_KERNEL(map_threads, 4)
softmax_kernel(VM_PARAMETER NoisyOperands a, std::int64_t first, std::int64_t count, Bytes noisy,
               const RowResult* rows) {
  using F = compute_t<T>;
  each_piece(count, a.shape.n, [&](std::int64_t row, std::int64_t begin, std::int64_t end) {
    const RowResult r = rows[row];
    const RowMap<Softmax, F> map(r);
    const OutBytes y = a.shape.row(a.out, first + row);
    for (std::int64_t i = begin + thread(); i < end; i += threads()) {
      const auto z = number(load_one<F>(noisy + (row * a.shape.n + i) * static_cast<std::int64_t>(sizeof(F))));
      store_one<T>(y + i * a.out.step, r.special ? special_bits<T>(Role::probability, r, true, z) : rounded<T>(map(z)));
    }
  });
}

template <class T>
VM_KERNEL(tile_threads, 6)
largest_kernel(VM_PARAMETER NoisyOperands a, Entry* bests) {
  using F = compute_t<T>;
  for (std::int64_t t = global_warp(); t < a.shape.count * a.tiles; t += global_warps()) {
    const std::int64_t row = t / a.tiles, start = t % a.tiles * tile_length<T>;
    const OutBytes y = a.shape.row(a.out, row);
    for (std::int64_t i = start + lane(); i < start + tile_length<T> && i < a.shape.n; i += lanes_of_warp)
      store_one<T>(y + i * a.out.step, rounded<T>(splat<vec<F>>(0)));
    Entry best;
    with_noise<T>(a, row, start, [&](int place, F z) {
      if (start + place < a.shape.n) best.join({key_of(z), start + place});
    });
    best = warp_best(best);
    if (lane() == 0) bests[t] = best;
  }
}

// One where the largest is; NaN everywhere in rows that have no finite one.
template <class T>
VM_KERNEL(map_threads, 4)
mark_kernel(VM_PARAMETER NoisyOperands a, const Entry* largest) {
  using F = compute_t<T>;
  each_piece(a.shape.count, a.shape.n, [&](std::int64_t row, std::int64_t begin, std::int64_t end) {
    const Entry best = largest[row];
    const F z = number_of<F>(best.key);
    const OutBytes y = a.shape.row(a.out, row);
    const auto put = [&](std::int64_t i, F value) {
      store_one<T>(y + i * a.out.step, rounded<T>(splat<vec<F>>(value)));
    };
    if (is_nan_key<F>(best.key) || z == Number<F>::infinity || z == -Number<F>::infinity) {
      for (std::int64_t i = begin + thread(); i < end; i += threads()) put(i, Number<F>::nan);
    } else if (thread() == 0 && best.index >= begin && best.index < end) {
      put(best.index, 1);
    }
  });
}

void noise_tiles(DType dtype, const NoisyOperands& a, std::int64_t first, std::int64_t count, std::byte* noisy,
                 TilePart* parts, const Stream& stream) {
  constexpr unsigned warps = tile_threads / lanes_of_warp;
  with_dtype(dtype, [&]<class T>(T) {
    const Grid grid =
        grid_for(count * a.tiles, warps, tile_threads, stream, warps * tile_length<T> * sizeof(compute_t<T>));
    launch(noisy_tiles_kernel<T>, grid, stream, a, first, count, noisy, parts);
  });
}

void noise_softmax(DType dtype, const NoisyOperands& a, std::int64_t first, std::int64_t count, const std::byte* noisy,
                   const RowResult* rows, const Stream& stream) {
  const Grid grid = grid_of_pieces(a.shape, count, stream);
  with_dtype(dtype, [&]<class T>(T) { launch(softmax_kernel<T>, grid, stream, a, first, count, noisy, rows); });
}

void noise_largest(DType dtype, const NoisyOperands& a, Entry* bests, const Stream& stream) {
  const std::int64_t rows = a.shape.count;
  const Grid by_tile = grid_for(rows * a.tiles, tile_threads / lanes_of_warp, tile_threads, stream);
  with_dtype(dtype, [&]<class T>(T) { launch(largest_kernel<T>, by_tile, stream, a, bests); });
  best_of_rows(rows, a.tiles, bests, stream);
  const Grid by_piece = grid_of_pieces(a.shape, rows, stream);
  with_dtype(dtype, [&]<class T>(T) { launch(mark_kernel<T>, by_piece, stream, a, bests + rows * a.tiles); });
}

}  // namespace vastmax::VM_ISA
