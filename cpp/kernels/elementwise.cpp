// SPDX-License-Identifier: Apache-2.0
// One output element from one or two input elements.
#include "cpp/kernels/fill.hpp"
#include "cpp/ops/formulas.hpp"
#include "cpp/simd/rows.hpp"

namespace vastmax::VM_ISA {

template <template <class, bool> class Formula, class T>
static void unary(Bytes x, OutBytes y, std::size_t n, double beta, bool streaming) {
  using V = vec<compute_t<T>>;
  constexpr bool brief = sizeof(T) == 2;
  map_inputs<T, V>(y, n, streaming, Formula<Batch<V>, brief>(beta), Formula<V, brief>(beta), Input<T>{x});
}

template <template <class, bool> class Formula, class T>
static void binary(Bytes g, Bytes x, OutBytes out, std::size_t n, double beta, bool streaming) {
  using V = vec<compute_t<T>>;
  constexpr bool brief = sizeof(T) == 2;
  map_inputs<T, V>(out, n, streaming, Formula<Batch<V>, brief>(beta), Formula<V, brief>(beta), Input<T>{g},
                   Input<T>{x});
}

template <template <class, bool> class Formula>
static void fill_unary(Kernels& k, Op op) {
  each_dtype(k, [op]<class T>(DTypeKernels& to, T) { to.unary[static_cast<int>(op)] = unary<Formula, T>; });
}
template <template <class, bool> class Formula>
static void fill_binary(Kernels& k, Op op) {
  each_dtype(k, [op]<class T>(DTypeKernels& to, T) { to.binary[static_cast<int>(op)] = binary<Formula, T>; });
}

void fill_elementwise(Kernels& k) {
#define VM_OP(shape, name, Formula) VM_FILL_##shape(name, Formula)
#define VM_FILL_norm_map(name, Formula)
#define VM_FILL_row_grad(name, Formula)
#define VM_FILL_unary(name, Formula) fill_unary<Formula>(k, Op::name);
#define VM_FILL_binary(name, Formula) fill_binary<Formula>(k, Op::name);
#include "cpp/ops.def"
}

}  // namespace vastmax::VM_ISA
