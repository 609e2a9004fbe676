// SPDX-License-Identifier: Apache-2.0
// Row ops: which kernels serve a call, and the workspace between them.
#include "cuda/host/row_operands.hpp"
#include "cuda/tuning.hpp"
#include "cuda/vastmax_cuda.hpp"

namespace vastmax::cuda {
namespace {

bool fits(std::int64_t classes, DType dtype, bool keep, const Stream& stream) {
  return shared_for_row(classes, item_size(dtype), keep) <= stream.shared_per_block();
}

Strategy choose(const Exec& exec, const RowOperands& a, DType dtype, bool reduces, bool plain) {
  const bool brief = tiles_of(a.shape.n, item_size(dtype)) == 1;
  const bool block = !reduces && plain && fits(a.shape.n, dtype, false, exec.stream);
  switch (exec.strategy) {
    case Strategy::brief:
      if (brief) return Strategy::brief;
      break;
    case Strategy::block:
      if (block) return Strategy::block;
      break;
    case Strategy::split:
      return Strategy::split;
    case Strategy::automatic:
      break;
  }
  const Strategy wanted = plan(a.shape.count, a.shape.n, dtype, reduces, exec.stream);
  return wanted == Strategy::block && !block ? Strategy::split : wanted;
}

void map(Op op, const char* name, const ConstView& x, const ConstView* grad, const View& out, const RowOptions& o,
         const Exec& exec) {
  Rows rows(name, x);
  const std::size_t from = rows.full("x", x), to = rows.full("out", out);
  const std::size_t incoming = grad != nullptr ? rows.per_row("grad_output", *grad) : 0;
  rows.options(o);
  RowOperands a = rows.merged();
  a.x = rows.full_operand(from, x), a.out = rows.full_operand(to, out);
  if (grad != nullptr) a.second = rows.row_operand(incoming, *grad);
  if (a.shape.count == 0 || a.shape.n == 0) return;
  const bool plain = rows.dense(a.x) && rows.dense(a.out) && !rows.options_given();
  switch (choose(exec, a, x.dtype, false, plain)) {
    case Strategy::brief:
      return norm_map_short(op, x.dtype, plain, a, exec.stream);
    case Strategy::block:
      return norm_map_block(op, x.dtype, a, fits(a.shape.n, x.dtype, true, exec.stream), exec.stream);
    default:
      break;
  }
  const std::int64_t tiles = tiles_of(a.shape.n, item_size(x.dtype));
  const Workspace<TilePart> parts(a.shape.count * tiles, exec.stream, name);
  const Workspace<RowResult> results(a.shape.count, exec.stream, name);
  norm_tiles(x.dtype, plain, a, tiles, parts.data(), exec.stream);
  norm_finish(op, x.dtype, a, tiles, parts.data(), results.data(), exec.stream);
  norm_map(op, x.dtype, plain, a, results.data(), exec.stream);
}

void grad(Op op, const char* name, const ConstView& g, const ConstView& y, const View& out, const RowOptions& o,
          const Exec& exec) {
  check_rows(name, y, out);
  expect_like(name, "grad_output", g, y);
  Rows rows(name, y);
  const std::size_t incoming = rows.full("grad_output", g), saved = rows.full("output", y), to = rows.full("out", out);
  rows.options(o);
  RowOperands a = rows.merged();
  a.x = rows.full_operand(incoming, g), a.second = rows.full_operand(saved, y), a.out = rows.full_operand(to, out);
  if (a.shape.count == 0 || a.shape.n == 0) return;
  const bool plain = rows.dense(a.x) && rows.dense(a.second) && rows.dense(a.out);
  const std::int64_t tiles = tiles_of(a.shape.n, item_size(y.dtype));
  const bool fitting = tiles <= 1024;  // their sums in 16 KiB of shared memory
  Strategy strategy = exec.strategy;
  if (strategy == Strategy::automatic) strategy = plan(a.shape.count, a.shape.n, y.dtype, false, exec.stream);
  if (strategy != Strategy::split && fitting) return row_grad_block(op, y.dtype, plain, a, exec.stream);
  const Workspace<TwoSum> parts(a.shape.count * tiles, exec.stream, name);
  const Workspace<RowParams> results(a.shape.count, exec.stream, name);
  dot_tiles(op, y.dtype, plain, a, tiles, parts.data(), exec.stream);
  dot_finish(a, tiles, parts.data(), results.data(), exec.stream);
  row_grad(op, y.dtype, plain, a, results.data(), exec.stream);
}

}  // namespace

Strategy plan(std::int64_t rows, std::int64_t classes, DType dtype, bool reduces, const Stream& stream) {
  if (tiles_of(classes, item_size(dtype)) == 1) return Strategy::brief;
  if (reduces) return Strategy::split;
  const bool enough = rows >= tuning::rows_per_processor * stream.processors();
  const bool near = classes * static_cast<std::int64_t>(item_size(dtype)) <= tuning::cached_row_bytes;
  return enough && (near || fits(classes, dtype, true, stream)) ? Strategy::block : Strategy::split;
}

void softmax(const ConstView& x, const View& out, const RowOptions& o, const Exec& exec) {
  check_rows("softmax", x, out);
  map(Op::softmax, "softmax", x, nullptr, out, o, exec);
}

void log_softmax(const ConstView& x, const View& out, const RowOptions& o, const Exec& exec) {
  check_rows("log_softmax", x, out);
  map(Op::log_softmax, "log_softmax", x, nullptr, out, o, exec);
}

void logsumexp_backward(const ConstView& g, const ConstView& x, const View& out, const RowOptions& o,
                        const Exec& exec) {
  check_rows("logsumexp_backward", x, out);
  check_reduced("logsumexp_backward", x, g.dtype, g.shape, "grad_output");
  map(Op::logsumexp_backward, "logsumexp_backward", x, &g, out, o, exec);
}

void logsumexp(const ConstView& x, const View& out, const RowOptions& o, const Exec& exec) {
  check_reduced("logsumexp", x, out.dtype, out.shape, "out");
  Rows rows("logsumexp", x);
  const std::size_t from = rows.full("x", x), to = rows.per_row("out", out);
  rows.options(o);
  RowOperands a = rows.merged();
  a.x = rows.full_operand(from, x), a.out = rows.row_operand(to, out);
  if (a.shape.count == 0) return;
  const bool plain = rows.dense(a.x) && !rows.options_given();
  if (choose(exec, a, x.dtype, true, plain) == Strategy::brief)
    return norm_reduce_short(x.dtype, plain, a, exec.stream);
  const std::int64_t tiles = tiles_of(a.shape.n, item_size(x.dtype));
  const Workspace<TilePart> parts(a.shape.count * tiles, exec.stream, "logsumexp");
  norm_tiles(x.dtype, plain, a, tiles, parts.data(), exec.stream);
  norm_reduce(x.dtype, a, tiles, parts.data(), exec.stream);
}

void logsumexp_weighted(const ConstView& x, const ConstView& weights, const View& out, const View* sign,
                        const RowOptions& o, const Exec& exec) {
  constexpr const char* op = "logsumexp";
  check_reduced(op, x, out.dtype, out.shape, "out");
  expect_like(op, "b", weights, x);
  if (sign != nullptr) check_reduced(op, x, sign->dtype, sign->shape, "sign");
  Rows rows(op, x);
  const std::size_t from = rows.full("x", x), by = rows.full("b", weights), to = rows.per_row("out", out);
  const std::size_t direction = sign != nullptr ? rows.per_row("sign", *sign) : 0;
  rows.options(o);
  WeightedOperands a{rows.merged(), {}};
  a.x = rows.full_operand(from, x), a.second = rows.full_operand(by, weights), a.out = rows.row_operand(to, out);
  if (sign != nullptr) a.signs = rows.row_operand(direction, *sign);
  if (a.shape.count == 0) return;
  const std::int64_t tiles = tiles_of(a.shape.n, item_size(x.dtype));
  const Workspace<double> of_tile(a.shape.count * tiles, exec.stream, op);
  const Workspace<double> top_of_row(a.shape.count, exec.stream, op), exponent_of_row(a.shape.count, exec.stream, op);
  const Workspace<TwoSum> parts(a.shape.count * tiles, exec.stream, op);
  norm_weighted(x.dtype, a, tiles, {of_tile.data(), top_of_row.data(), exponent_of_row.data(), parts.data()},
                exec.stream);
}

#define VM_OP(shape, name, Formula) VM_DEFINE_##shape(name)
#define VM_DEFINE_norm_map(name)
#define VM_DEFINE_row_grad(name)                                                                              \
  void name(const ConstView& g, const ConstView& y, const View& out, const RowOptions& o, const Exec& exec) { \
    grad(Op::name, #name, g, y, out, o, exec);                                                                \
  }
#define VM_DEFINE_unary(name)
#define VM_DEFINE_binary(name)
#include "cpp/ops.def"
#undef VM_OP

}  // namespace vastmax::cuda
