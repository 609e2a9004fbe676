// SPDX-License-Identifier: Apache-2.0
// Element-wise ops: one dense stretch, or elements found one by one.
#include "cuda/host/operands.hpp"
#include "cuda/vastmax_cuda.hpp"

namespace vastmax::cuda {
namespace {

ElementOperands operands(const char* op, const ConstView& a, const ConstView& b, const View& out) {
  Loop loop(a.shape);
  loop.add(a.strides), loop.add(b.strides), loop.add(out.strides);
  loop.sort(2);
  loop.merge();
  const std::size_t item = item_size(a.dtype);
  return {shape_of(op, loop, 1), operand_of(loop, 0, a.data, 0), operand_of(loop, 1, b.data, 0),
          operand_of(loop, 2, out.data, 0), loop.plain(0, item) && loop.plain(1, item) && loop.plain(2, item)};
}

void run_unary(Op op, const char* name, const ConstView& x, const View& out, double beta, const Exec& exec) {
  expect_like(name, "out", out, x);
  Access access(name);
  access.add("x", x), access.add("out", out);
  if (const ElementOperands e = operands(name, x, x, out); e.shape.count != 0) unary(op, x.dtype, e, beta, exec.stream);
}

void run_binary(Op op, const char* name, const ConstView& g, const ConstView& x, const View& out, double beta,
                const Exec& exec) {
  expect_like(name, "grad_output", g, x);
  expect_like(name, "out", out, x);
  Access access(name);
  access.add("grad_output", g), access.add("x", x), access.add("out", out);
  if (const ElementOperands e = operands(name, g, x, out); e.shape.count != 0)
    binary(op, x.dtype, e, beta, exec.stream);
}

}  // namespace

#define VM_OP(shape, name, Formula) VM_DEFINE_##shape(name)
#define VM_DEFINE_norm_map(name)
#define VM_DEFINE_row_grad(name)
#define VM_DEFINE_unary(name)                                                     \
  void name(const ConstView& x, const View& out, double beta, const Exec& exec) { \
    run_unary(Op::name, #name, x, out, beta, exec);                               \
  }
#define VM_DEFINE_binary(name)                                                                        \
  void name(const ConstView& g, const ConstView& x, const View& out, double beta, const Exec& exec) { \
    run_binary(Op::name, #name, g, x, out, beta, exec);                                               \
  }
#include "cpp/ops.def"
#undef VM_OP

void logsumexp_signs(const ConstView& results, const View& signs, const Exec& exec) {
  constexpr const char* op = "logsumexp";
  expect_like(op, "signs", signs, results);
  Access access(op);
  access.add("results", results), access.add("signs", signs);
  if (const ElementOperands e = operands(op, results, results, signs); e.shape.count != 0)
    signs_of_sums(results.dtype, e, exec.stream);
}

void bce_with_logits(const ConstView& x, const ConstView& target, const ConstView* weight, const ConstView* pos_weight,
                     const View* loss, const View* grad, double grad_scale, void* parts, const Exec& exec) {
  constexpr const char* op = "binary_cross_entropy_with_logits";
  Loop loop(x.shape);
  Access access(op);
  const ConstView* inputs[] = {&x, &target, weight, pos_weight};
  for (const ConstView* in : inputs) {
    const ConstView& view = in != nullptr ? *in : x;
    expect_like(op, "an input", view, x);
    access.add("an input", view);
    loop.add(view.strides);
  }
  for (const View* out : {loss, grad}) {
    if (out != nullptr) expect_shape(op, "an output", out->shape, x.shape), access.add("an output", *out);
    loop.add(out != nullptr ? out->strides : x.strides);
  }
  if (loss != nullptr) expect_dtype(op, "loss", loss->dtype, reduced(x.dtype));
  if (grad != nullptr) expect_dtype(op, "grad", grad->dtype, x.dtype);
  loop.merge();
  BceOperands a;
  a.shape = shape_of(op, loop, 1);
  for (std::size_t i = 0; i < 4; ++i)
    a.in[i] = operand_of(loop, i, inputs[i] != nullptr ? inputs[i]->data : nullptr, 0);
  a.loss = operand_of(loop, 4, loss != nullptr ? loss->data : nullptr, 0);
  a.gradient = operand_of(loop, 5, grad != nullptr ? grad->data : nullptr, 0);
  a.scale = grad_scale;
  bce(x.dtype, a, static_cast<TwoSum*>(parts), exec.stream);
}

void bce_total(std::int64_t tiles, const void* parts, double* sum, const Exec& exec) {
  bce_total(tiles, static_cast<const TwoSum*>(parts), sum, exec.stream);
}

std::int64_t loss_tile(DType dtype) { return tile_of(item_size(dtype)); }

}  // namespace vastmax::cuda
