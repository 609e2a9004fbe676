// SPDX-License-Identifier: Apache-2.0
// A plain matrix product, for arrays of libraries that have none we can call.  A block makes 64 x 64 numbers, a thread
// 4 x 4 of them, each summed in the order of k.
#include "cuda/device/memory.hpp"
#include "cuda/kernels/launch.hpp"

namespace vastmax::VM_ISA {

constexpr int side = 64, depth = 16, share = 4;
constexpr unsigned block_threads = side / share * (side / share);

// Stretches of both factors; a row more keeps their columns on different banks.
template <class F>
struct Stretch {
  F a[depth][side + 1], b[depth][side + 1];
};

// to[k][i] = from(begin + i, first + k), 0 outside of n x depth; neighbours in memory to neighbouring threads.
template <class F>
VM_INLINE void fetch(F (&to)[depth][side + 1], const Factor& from, std::int64_t begin, std::int64_t n,
                     std::int64_t first, std::int64_t end) {
  for (unsigned e = thread(); e < depth * side; e += block_threads) {
    const unsigned i = from.along_depth == 1 ? e / depth : e % side, k = from.along_depth == 1 ? e % depth : e / side;
    const std::int64_t row = begin + i, at = first + k;
    to[k][i] = row < n && at < end ? load_one<F>(from.data + (row * from.across + at * from.along_depth) *
                                                                 static_cast<std::int64_t>(sizeof(F)))
                                   : F(0);
  }
}

template <class F>
VM_KERNEL(block_threads, 2)
product_kernel(VM_PARAMETER ProductOperands p) {
  auto& stretch = *reinterpret_cast<Stretch<F>*>(shared_memory());
  const std::int64_t columns = (p.columns + side - 1) / side, tiles = (p.rows + side - 1) / side * columns;
  const int i = static_cast<int>(thread()) / (side / share) * share, j = static_cast<int>(thread()) % (side / share);
  for (std::int64_t tile = block(); tile < tiles; tile += blocks()) {
    const std::int64_t row = tile / columns * side, column = tile % columns * side;
    F sum[share][share] = {};
    for (std::int64_t first = 0; first < p.depth; first += depth) {
      fetch(stretch.a, p.a, row, p.rows, first, p.depth);
      fetch(stretch.b, p.b, column, p.columns, first, p.depth);
      sync_block();
      VM_UNROLL(4)
      for (int k = 0; k < depth; ++k) {
        F a[share], b[share];
        VM_UNROLL(4)
        for (int s = 0; s < share; ++s) a[s] = stretch.a[k][i + s], b[s] = stretch.b[k][j + s * (side / share)];
        VM_UNROLL(4)
        for (int s = 0; s < share; ++s) VM_UNROLL(4)
        for (int t = 0; t < share; ++t)
          sum[s][t] = fma(splat<vec<F>>(a[s]), splat<vec<F>>(b[t]), splat<vec<F>>(sum[s][t])).piece[0].v;
      }
      sync_block();
    }
    VM_UNROLL(4)
    for (int s = 0; s < share; ++s) VM_UNROLL(4)
    for (int t = 0; t < share; ++t) {
      const std::int64_t y = row + i + s, x = column + j + t * (side / share);
      if (y >= p.rows || x >= p.columns) continue;
      OutBytes const at = p.to + (y * p.columns + x) * static_cast<std::int64_t>(sizeof(F));
      store_one<F>(at, p.add ? load_one<F>(at) + sum[s][t] : sum[s][t]);
    }
  }
}

void product(DType staged, const ProductOperands& p, const Stream& stream) {
  const std::int64_t tiles = (p.rows + side - 1) / side * ((p.columns + side - 1) / side);
  const auto with = [&]<class F>(F) {
    launch(product_kernel<F>, grid_for(tiles, 1, block_threads, stream, sizeof(Stretch<F>)), stream, p);
  };
  staged == DType::float64 ? with(double{}) : with(float{});
}

}  // namespace vastmax::VM_ISA
