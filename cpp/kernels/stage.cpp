// SPDX-License-Identifier: Apache-2.0
// A stretch with strides, a mask, a temperature or a shift, made into a plain one of the compute type: at most a block
// at a time.
#include "kernels/fill.hpp"
#include "ops/quotient.hpp"
#include "simd/rows.hpp"

namespace vastmax::VM_ISA {

template <class T>
static bool stage(const Staging& s, std::size_t n, OutBytes staged) {
  using F = compute_t<T>;
  using V = wide<F>;
  const bool plain = s.stride == static_cast<std::ptrdiff_t>(sizeof(T)), divide = s.divisor != 1, shift = s.shift != 0;
  const Quotient<V> quotient(s.divisor);
  const V base = splat<V>(static_cast<F>(s.shift));
  alignas(64) std::byte gathered[V::lanes * sizeof(T)];
  bool live = s.where == nullptr && n != 0;
  for (std::size_t i = 0; i < n; i += V::lanes) {
    const std::size_t left = n - i < V::lanes ? n - i : V::lanes;
    Bytes from = s.x + static_cast<std::ptrdiff_t>(i) * s.stride;
    if (!plain) {
      for (std::size_t j = 0; j < left; ++j)
        std::memcpy(gathered + j * sizeof(T), from + static_cast<std::ptrdiff_t>(j) * s.stride, sizeof(T));
      from = gathered;
    }
    V v = load_first<V>(from, left, 0, type<T>);
    if (divide) v = quotient(v);
    if (shift) v = v - base;
    store_first(staged + i * sizeof(F), left, v, to_type<F>);
    if (s.where != nullptr)
      for (std::size_t j = 0; j < left; ++j) {
        const bool in = s.where[static_cast<std::ptrdiff_t>(i + j) * s.where_stride] != 0;
        live |= in;
        if (!in) reinterpret_cast<F*>(staged)[i + j] = -Number<F>::infinity;
      }
  }
  return live;
}

void fill_stage(Kernels& k) {
  each_dtype(k, []<class T>(DTypeKernels& to, T) { to.stage = stage<T>; });
}

}  // namespace vastmax::VM_ISA
