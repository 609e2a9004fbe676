// SPDX-License-Identifier: Apache-2.0
// Gradients of the normalisers: a sum over the row, then each element with it.
#include "cpp/host/run/row_run.hpp"

namespace vastmax {
namespace {

class RowGrad : RowRun {
 public:
  using RowRun::RowRun;
  void run(Op op, const ConstView& g, const ConstView& y, const View& out, const RowOptions& o);
};

void RowGrad::run(Op op, const ConstView& g, const ConstView& y, const View& out, const RowOptions& o) {
  const RowOperand grads = operand(g), saved = operand(y), to = operand(out);
  options(o);
  loop_.merge();
  const std::size_t rows = loop_.count();
  if (rows == 0 || n_ == 0) return;
  const int index = static_cast<int>(op);
  const bool streaming = g.data != out.data && y.data != out.data && rows * n_ * to.item >= policy::stream_bytes;
  const bool staged = !(grads.plain() && saved.plain());
  const auto stage_operand = [&](const RowOperand& operand, Bytes row, std::size_t b, std::byte* to) {
    const auto start = static_cast<std::int64_t>(b * block_);
    k_.stage({row + start * operand.step, operand.step, nullptr, 0, 1, 0}, length(b), to);
  };
  struct Inputs {
    Bytes g, y;
  };
  const auto inputs = [&](std::size_t r, std::size_t b, Scratch& scratch) -> Inputs {
    const Bytes rg = grads.row(loop_, r), ry = saved.row(loop_, r);
    if (!staged) return {at(rg, grads, b), at(ry, saved, b)};
    stage_operand(grads, rg, b, scratch.in);
    stage_operand(saved, ry, b, scratch.second);
    return {scratch.in, scratch.second};
  };
  const auto dot = [&](std::size_t r, std::size_t b, Scratch& scratch) {
    const Inputs in = inputs(r, b, scratch);
    return k_.row_dot[index][staged](in.g, in.y, length(b));
  };
  const auto apply = [&](std::size_t r, std::size_t b, const RowParams& row, Scratch& scratch) {
    const Inputs in = inputs(r, b, scratch);
    std::byte* target = to.row(loop_, r) + static_cast<std::int64_t>(b * block_) * to.step;
    if (to.plain()) {
      k_.row_grad[index][staged](in.g, in.y, target, length(b), row, streaming);
    } else {
      k_.row_grad[index][staged](in.g, in.y, scratch.out, length(b), row, false);
      Loop::copy(target, to.step, scratch.out, static_cast<std::int64_t>(to.item), to.item, length(b));
    }
  };
  const auto params = [&](std::size_t r, double sum) {
    RowParams row;
    row.grad = sum;
    row.scale = 1 / temperature(r);
    return row;
  };
  const Plan plan = cut();
  if (plan.strategy == Strategy::split) {
    const auto parts = std::make_unique_for_overwrite<double[]>(blocks_);
    for (std::size_t r = 0; r < rows && !interrupted_; ++r) {
      each_block(plan.threads, [&](std::size_t b, Scratch& scratch) { parts[b] = dot(r, b, scratch); });
      TwoSum sum;
      for (std::size_t b = 0; b < blocks_; ++b) sum.add(parts[b]);
      const RowParams row = params(r, value_of(sum));
      each_block(plan.threads, [&](std::size_t b, Scratch& scratch) { apply(r, b, row, scratch); });
    }
    return;
  }
  each_row(plan, [&](std::size_t r, Scratch& scratch) {
    TwoSum sum;
    for (std::size_t b = 0; b < blocks_; ++b) sum.add(dot(r, b, scratch));
    const RowParams row = params(r, value_of(sum));
    for (std::size_t b = 0; b < blocks_; ++b) apply(r, b, row, scratch);
  });
}

}  // namespace

#define VM_OP(shape, name, Formula) VM_DEFINE_##shape(name)
#define VM_DEFINE_norm_map(name)
#define VM_DEFINE_row_grad(name)                                                                              \
  void name(const ConstView& g, const ConstView& y, const View& out, const RowOptions& o, const Exec& exec) { \
    check_rows(#name, y, out);                                                                                \
    expect_like(#name, "grad_output", g, y);                                                                  \
    RowGrad(y.dtype, y.shape, exec).run(Op::name, g, y, out, o);                                              \
  }
#define VM_DEFINE_unary(name)
#define VM_DEFINE_binary(name)
#include "cpp/ops.def"
#undef VM_OP

}  // namespace vastmax
