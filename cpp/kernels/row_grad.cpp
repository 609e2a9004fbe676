// SPDX-License-Identifier: Apache-2.0
// Gradients of the normalisers: a sum over the row, then each element with it.
#include "cpp/kernels/fill.hpp"
#include "cpp/ops/formulas.hpp"
#include "cpp/simd/dot.hpp"
#include "cpp/simd/rows.hpp"

namespace vastmax::VM_ISA {

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
  return value_of(fold(dot));
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
#include "cpp/ops.def"
}

}  // namespace vastmax::VM_ISA
