// SPDX-License-Identifier: Apache-2.0
// Binary cross-entropy with logits, its gradient, and the sum of the losses by tiles of elements.
#include "cpp/ops/binary_cross_entropy.hpp"
#include "cuda/kernels/launch.hpp"

namespace vastmax::VM_ISA {

constexpr unsigned block_threads = 128;

template <class T>
VM_KERNEL(block_threads, 4)
tiles_kernel(BceOperands a, std::int64_t tiles, TwoSum* parts) {
  using F = compute_t<T>;
  using V = vec<F>;
  const V scale = splat<V>(static_cast<F>(a.scale));
  const auto read = [&](int operand, std::int64_t i) {
    const Operand& from = a.in[operand];
    return from.data == nullptr ? splat<V>(1) : number(load_one<T>(a.shape.row(from, i)));
  };
  for (std::int64_t t = global_warp(); t < tiles; t += global_warps()) {
    LaneSum<V> sum;
    for (int j = 0; j < per_lane<T>; ++j) {
      const std::int64_t i = t * tile_length<T> + j * lanes_of_warp + lane();
      if (i >= a.shape.count) continue;
      const BinaryCrossEntropy<V> at(read(0, i), read(1, i), read(2, i), read(3, i));
      if (a.gradient.data != nullptr) store_one<T>(a.shape.row(a.gradient, i), rounded<T>(at.grad * scale));
      if (a.loss.data != nullptr) store_one<F>(a.shape.row(a.loss, i), at.loss.piece[0].v);
      sum.add(at.loss);
    }
    if (parts == nullptr) continue;
    const TwoSum all = sum.total();
    if (lane() == 0) parts[t] = all;
  }
}

VM_KERNEL(virtual_threads, 2) sum_kernel(std::int64_t tiles, const TwoSum* parts, double* sum) {
  auto& scratch = *reinterpret_cast<TwoSum(*)[virtual_threads]>(shared_memory());
  const TwoSum all = total_by_block(tiles, scratch, [&](TwoSum& to, std::int64_t t) {
    to.add(parts[t].high);
    to.low += parts[t].low;
  });
  if (thread() == 0) *sum = value_of(all);
}

void bce(DType dtype, const BceOperands& a, TwoSum* parts, const Stream& stream) {
  const std::int64_t tiles = tiles_of(a.shape.count, item_size(dtype));
  const Grid grid = grid_for(tiles, block_threads / lanes_of_warp, block_threads, stream);
  with_dtype(dtype, [&]<class T>(T) { launch(tiles_kernel<T>, grid, stream, a, tiles, parts); });
}

void bce_total(std::int64_t tiles, const TwoSum* parts, double* sum, const Stream& stream) {
  launch(sum_kernel, Grid{1, virtual_threads, virtual_threads * sizeof(TwoSum)}, stream, tiles, parts, sum);
}

}  // namespace vastmax::VM_ISA
