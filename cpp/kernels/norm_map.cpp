// SPDX-License-Identifier: Apache-2.0
// The second read of a row: each logit through its formula, with what the first read found.
#include "cpp/kernels/fill.hpp"
#include "cpp/ops/formulas.hpp"
#include "cpp/simd/rows.hpp"

namespace vastmax::VM_ISA {

template <template <class, bool> class Formula, class In, class Out>
static void norm_map(Bytes x, OutBytes y, std::size_t n, const RowParams& row, bool streaming) {
  using V = vec<compute_t<Out>>;
  using B = Batch<V>;
  constexpr bool brief = sizeof(Out) == 2;
  map_inputs<Out, V>(y, n, streaming, Formula<B, brief>{RowValues<B>(row)}, Formula<V, brief>{RowValues<V>(row)},
                     Input<In>{x});
}

template <template <class, bool> class Formula>
static void fill_op(Kernels& k, Op op) {
  each_dtype(k, [op]<class T>(DTypeKernels& to, T) {
    to.norm_map[static_cast<int>(op)][0] = norm_map<Formula, T, T>;
    to.norm_map[static_cast<int>(op)][1] = norm_map<Formula, compute_t<T>, T>;
  });
}

void fill_norm_map(Kernels& k) {
#define VM_OP(shape, name, Formula) VM_FILL_##shape(name, Formula)
#define VM_FILL_norm_map(name, Formula) fill_op<Formula>(k, Op::name);
#define VM_FILL_row_grad(name, Formula)
#define VM_FILL_unary(name, Formula)
#define VM_FILL_binary(name, Formula)
#include "cpp/ops.def"
}

}  // namespace vastmax::VM_ISA
