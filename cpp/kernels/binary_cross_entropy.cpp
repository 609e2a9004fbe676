// SPDX-License-Identifier: Apache-2.0
#include "cpp/ops/binary_cross_entropy.hpp"

#include "cpp/kernels/fill.hpp"
#include "cpp/simd/rows.hpp"

namespace vastmax::VM_ISA {

template <class T>
static TwoSum bce(Bytes x, Bytes target, Bytes weight, Bytes pos_weight, OutBytes loss, OutBytes grad,
                  double grad_scale, std::size_t n) {
  using F = compute_t<T>;
  using V = vec<F>;
  const auto read = [&](Bytes at, std::size_t i, std::size_t left, F missing) {
    return at == nullptr ? splat<V>(missing) : load_first<V>(at + i * sizeof(T), left, missing, type<T>);
  };
  const V scale = splat<V>(static_cast<F>(grad_scale));
  TwoSum sum;
  for (std::size_t i = 0; i < n; i += V::lanes) {
    const std::size_t left = n - i < V::lanes ? n - i : V::lanes;
    const BinaryCrossEntropy<V> at(read(x, i, left, 0), read(target, i, left, 0), read(weight, i, left, 1),
                                   read(pos_weight, i, left, 1));
    if (grad != nullptr) store_first(grad + i * sizeof(T), left, at.grad * scale, to_type<T>);
    if (loss != nullptr) store_first(loss + i * sizeof(F), left, at.loss, to_type<F>);
    const Lanes<V> losses(at.loss);
    for (std::size_t j = 0; j < left; ++j) sum.add(losses.at[j]);
  }
  return sum;
}

void fill_binary_cross_entropy(Kernels& k) {
  each_dtype(k, []<class T>(DTypeKernels& to, T) { to.bce = bce<T>; });
}

}  // namespace vastmax::VM_ISA
