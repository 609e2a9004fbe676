// SPDX-License-Identifier: Apache-2.0
// One output element from one or two input elements.
#include "cpp/ops/formulas.hpp"
#include "cuda/kernels/launch.hpp"

namespace vastmax::VM_ISA {

constexpr unsigned block_threads = 256;
template <class T>
constexpr int blocks_for = 4 - (sizeof(T) == 8 ? 2 * fewer_blocks : 0);

template <template <class, bool> class Formula, class T>
VM_KERNEL(block_threads, blocks_for<T>)
unary_dense(Bytes x, OutBytes y, std::int64_t n, double beta) {
  using V = vec<compute_t<T>>;
  const Formula<V, sizeof(T) == 2> formula(beta);
  map_dense<T>(y, n, global_thread(), global_threads(), [&](V v) { return formula(v); }, x);
}

// softplus_backward in float32 needs a few more than the 64 registers that four blocks leave it.
template <template <class, bool> class Formula, class T>
VM_KERNEL(block_threads, blocks_for<T> - (sizeof(T) == 4))
binary_dense(Bytes g, Bytes x, OutBytes out, std::int64_t n, double beta) {
  using V = vec<compute_t<T>>;
  const Formula<V, sizeof(T) == 2> formula(beta);
  map_dense<T>(out, n, global_thread(), global_threads(), [&](V a, V b) { return formula(a, b); }, g, x);
}

template <template <class, bool> class Formula, class T>
VM_KERNEL(block_threads, blocks_for<T>)
unary_strided(ElementOperands e, double beta) {
  const Formula<vec<compute_t<T>>, sizeof(T) == 2> formula(beta);
  for (std::int64_t i = global_thread(); i < e.shape.count; i += global_threads())
    store_one<T>(e.shape.row(e.out, i), rounded<T>(formula(number(load_one<T>(e.shape.row(e.x, i))))));
}

template <template <class, bool> class Formula, class T>
VM_KERNEL(block_threads, blocks_for<T>)
binary_strided(ElementOperands e, double beta) {
  const Formula<vec<compute_t<T>>, sizeof(T) == 2> formula(beta);
  for (std::int64_t i = global_thread(); i < e.shape.count; i += global_threads())
    store_one<T>(e.shape.row(e.out, i), rounded<T>(formula(number(load_one<T>(e.shape.row(e.x, i))),
                                                           number(load_one<T>(e.shape.row(e.second, i))))));
}

template <template <class, bool> class Formula>
static void start_unary(DType dtype, const ElementOperands& e, double beta, const Stream& stream) {
  with_dtype(dtype, [&]<class T>(T) {
    const auto grid = [&](std::int64_t each) {
      return grid_for(e.shape.count, block_threads * each, block_threads, stream);
    };
    if (e.dense)
      launch(unary_dense<Formula, T>, grid(Group<T>::size), stream, e.x.data, e.out.data, e.shape.count, beta);
    else
      launch(unary_strided<Formula, T>, grid(1), stream, e, beta);
  });
}

template <template <class, bool> class Formula>
static void start_binary(DType dtype, const ElementOperands& e, double beta, const Stream& stream) {
  with_dtype(dtype, [&]<class T>(T) {
    const auto grid = [&](std::int64_t each) {
      return grid_for(e.shape.count, block_threads * each, block_threads, stream);
    };
    if (e.dense)
      launch(binary_dense<Formula, T>, grid(Group<T>::size), stream, e.x.data, e.second.data, e.out.data, e.shape.count,
             beta);
    else
      launch(binary_strided<Formula, T>, grid(1), stream, e, beta);
  });
}

#define VM_OP(shape, name, Formula) VM_CASE_##shape(name, Formula)
#define VM_CASE_norm_map(name, Formula)
#define VM_CASE_row_grad(name, Formula)
#define VM_CASE_binary(name, Formula)
#define VM_CASE_unary(name, Formula) \
  case Op::name:                     \
    return start_unary<Formula>(dtype, e, beta, stream);
void unary(Op op, DType dtype, const ElementOperands& e, double beta, const Stream& stream) {
  switch (op) {
#include "cpp/ops.def"
    default:
      return;
  }
}
#undef VM_CASE_unary
#undef VM_CASE_binary
#define VM_CASE_unary(name, Formula)
#define VM_CASE_binary(name, Formula) \
  case Op::name:                      \
    return start_binary<Formula>(dtype, e, beta, stream);
void binary(Op op, DType dtype, const ElementOperands& e, double beta, const Stream& stream) {
  switch (op) {
#include "cpp/ops.def"
    default:
      return;
  }
}

}  // namespace vastmax::VM_ISA
