// SPDX-License-Identifier: Apache-2.0
// softmax, log_softmax and the gradient of logsumexp: normalise, then each logit through its formula.
#include "cpp/host/rows/norm_map_run.hpp"

namespace vastmax {
namespace {

class NormMap : NormMapRun {
 public:
  using NormMapRun::NormMapRun;
  void run(Op op, const ConstView& x, const ConstView* grad, const View& out, const RowOptions& o);
  void run(Op op, const ConstView& x, const RowState* states, const ConstView* grad, const View& out);

 private:
  bool prepare(const ConstView& x, const ConstView* grad, const View& out, const RowOptions& o) {
    x_ = operand(x), y_ = operand(out);
    if (grad != nullptr) grad_ = per_row(grad->data, item_size(grad->dtype), grad->strides);
    options(o);
    loop_.merge();
    stream_ = x.data != out.data && loop_.count() * n_ * y_.item >= policy::stream_bytes;
    return loop_.count() != 0 && n_ != 0;
  }
  void finish(Op op, const Group& g, GroupState& state, Scratch& scratch) const {
    for (std::size_t c = 0; c < g.width; ++c) {
      state.row[c] = params(op, state.norm[c], source(g.first + c), scratch);
      state.ordinary &= !state.norm[c].special() && !shifted(state.norm[c].max);
    }
  }

  RowParams params(Op op, const Norm& norm, const Source& s, Scratch& scratch) const {
    const auto left = [&] { return rest(norm, s, scratch); };
    const bool logarithm = op == Op::log_softmax;
    RowParams row = dtype_ == DType::float64 ? row_params<double>(math(), logarithm, norm, left)
                                             : row_params<float>(math(), logarithm, norm, left);
    if (op == Op::logsumexp_backward) row.grad = load_number(grad_.row(loop_, s.row), reduced(dtype_)) / s.divisor;
    return row;
  }

  RowOperand grad_;
};

void NormMap::run(Op op, const ConstView& x, const ConstView* grad, const View& out, const RowOptions& o) {
  if (!prepare(x, grad, out, o)) return;
  brief_ = op != Op::log_softmax && item_size(dtype_) == 2;
  if (columns(true))
    return each_group([&](const Group& g, GroupState& state, Scratch& scratch) { finish(op, g, state, scratch); },
                      [&](const Group& g, std::size_t b, const GroupState& state, Scratch& scratch) {
                        map_columns(op, g, b, state, scratch);
                      });
  const Plan plan = cut();
  if (plan.strategy == Strategy::split) {
    const KernelScope scope;
    const Lease<Scratch> lease;
    Scratch& scratch = *lease;
    for (std::size_t r = 0; r < loop_.count() && !interrupted_; ++r) {
      const Source s = source(r);
      const Norm norm = norm_parallel(s, plan.threads);
      const RowParams row = params(op, norm, s, scratch);
      each_block(plan.threads, [&](std::size_t b, Scratch& own) { map_block(op, norm, row, s, b, own); });
    }
    return;
  }
  each_norm(plan, [&](const Source& s, const Norm& norm, Scratch& scratch) {
    const RowParams row = params(op, norm, s, scratch);
    for (std::size_t b = 0; b < blocks_; ++b) map_block(op, norm, row, s, b, scratch);
  });
}

void NormMap::run(Op op, const ConstView& x, const RowState* states, const ConstView* grad, const View& out) {
  states_ = states;
  if (!prepare(x, grad, out, {})) return;
  const Plan plan = cut();
  if (columns(true))
    return spread(groups() * blocks_, 1, plan.threads, [&](std::size_t i, Scratch& scratch) {
      const Group g = group(i / blocks_);
      GroupState state = before(g);
      finish(op, g, state, scratch);
      map_columns(op, g, i % blocks_, state, scratch);
    });
  const auto map = [&](std::size_t r, std::size_t first, std::size_t last, Scratch& scratch) {
    const Source s = source(r);
    const Norm norm = before(r);
    const RowParams row = params(op, norm, s, scratch);
    for (std::size_t b = first; b < last; ++b) map_block(op, norm, row, s, b, scratch);
  };
  if (plan.strategy != Strategy::split)
    return each_row(plan, [&](std::size_t r, Scratch& scratch) { map(r, 0, blocks_, scratch); });
  for (std::size_t r = 0; r < loop_.count(); ++r)
    each_run(plan.threads,
             [&](std::size_t first, std::size_t last, Scratch& scratch) { map(r, first, last, scratch); });
}

}  // namespace

void softmax(const ConstView& x, const View& out, const RowOptions& o, const Exec& exec) {
  check_rows("softmax", x, out);
  NormMap(x.dtype, x.shape, exec).run(Op::softmax, x, nullptr, out, o);
}

void log_softmax(const ConstView& x, const View& out, const RowOptions& o, const Exec& exec) {
  check_rows("log_softmax", x, out);
  NormMap(x.dtype, x.shape, exec).run(Op::log_softmax, x, nullptr, out, o);
}

void logsumexp_backward(const ConstView& grad, const ConstView& x, const View& out, const RowOptions& o,
                        const Exec& exec) {
  check_rows("logsumexp_backward", x, out);
  check_reduced("logsumexp_backward", x, grad.dtype, grad.shape, "grad_output");
  NormMap(x.dtype, x.shape, exec).run(Op::logsumexp_backward, x, &grad, out, o);
}

void normalize(const ConstView& x, std::span<const RowState> states, const ConstView* grad, const View& out,
               const Exec& exec) {
  check_rows("normalize", x, out);
  check_states("normalize", x, states);
  if (grad != nullptr) check_reduced("normalize", x, grad->dtype, grad->shape, "grad");
  NormMap(x.dtype, x.shape, exec)
      .run(grad == nullptr ? Op::softmax : Op::logsumexp_backward, x, states.data(), grad, out);
}

}  // namespace vastmax
