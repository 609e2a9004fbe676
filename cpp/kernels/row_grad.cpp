// SPDX-License-Identifier: Apache-2.0
// Gradients of the normalisers: a sum over the row, then each element with it.  The sum is in float64, where products
// of two floats are exact; for float64 the product's rounding error is carried along (Ogita, Rump and Oishi 2005,
// Dot2).
#include "kernels/fill.hpp"
#include "ops/log_softmax_backward.hpp"
#include "ops/softmax_backward.hpp"
#include "simd/rows.hpp"

namespace vastmax::VM_ISA {

// A running sum of products and what rounding took from it.
struct Dot {
  F64 sum = splat<F64>(0), lost = splat<F64>(0);
  VM_MEMBER void add(F64 a, F64 b) {
    const F64 product = a * b, error = fma(a, b, negate(product));
    two_sum(sum, lost, product);
    lost = lost + error;
  }
};
VM_INLINE void add(Dot (&dot)[2], F64 a, F64 b) { dot[0].add(a, b); }
VM_INLINE void add(Dot (&dot)[2], F32 a, F32 b) {
  F64 low[2], high[2];
  widen(a, low[0], high[0]);
  widen(b, low[1], high[1]);
  dot[0].add(low[0], low[1]);
  dot[1].add(high[0], high[1]);
}

template <template <class> class Formula, class In>
static double row_dot(Bytes g, Bytes y, std::size_t n) {
  using V = wide<compute_t<In>>;
  Dot dot[2];
  for (std::size_t i = 0; i < n; i += V::lanes) {
    const std::size_t left = n - i < V::lanes ? n - i : V::lanes;
    prefetch<V::lanes * sizeof(In)>(g + i * sizeof(In) + fetch_ahead);
    prefetch<V::lanes * sizeof(In)>(y + i * sizeof(In) + fetch_ahead);
    const V a = load_first<V>(g + i * sizeof(In), left, 0, type<In>);
    add(dot, a, Formula<V>::weighted ? load_first<V>(y + i * sizeof(In), left, 0, type<In>) : splat<V>(1));
  }
  TwoSum all = fold(dot[0].sum, dot[1].sum);
  all.low += fold(dot[0].lost, dot[1].lost).value();
  return all.value();
}

template <template <class> class Formula, class In, class Out>
static void row_grad(Bytes g, Bytes y, OutBytes out, std::size_t n, const RowParams& row, bool streaming) {
  using V = vec<compute_t<Out>>;
  using B = Batch<V>;
  map_inputs<Out, V>(out, n, streaming, Formula<B>{RowValues<B>(row)}, Formula<V>{RowValues<V>(row)}, Input<In>{g},
                     Input<In>{y});
}

template <template <class> class Formula>
static void fill_op(Kernels& k, Op op) {
  each_dtype(k, [op]<class T>(DTypeKernels& to, T) {
    using F = compute_t<T>;
    const int i = static_cast<int>(op);
    to.row_dot[i][0] = row_dot<Formula, T>, to.row_dot[i][1] = row_dot<Formula, F>;
    to.row_grad[i][0] = row_grad<Formula, T, T>, to.row_grad[i][1] = row_grad<Formula, F, T>;
  });
}

void fill_row_grad(Kernels& k) {
#define VM_OP(shape, name, Formula) VM_FILL_##shape(name, Formula)
#define VM_FILL_norm_map(name, Formula)
#define VM_FILL_row_grad(name, Formula) fill_op<Formula>(k, Op::name);
#define VM_FILL_unary(name, Formula)
#define VM_FILL_binary(name, Formula)
#include "ops.def"
}

}  // namespace vastmax::VM_ISA
