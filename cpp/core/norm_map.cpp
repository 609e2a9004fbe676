// SPDX-License-Identifier: Apache-2.0
// softmax, log_softmax and the gradient of logsumexp: normalise, then each logit through its formula.
#include "core/norm_run.hpp"

namespace vastmax {
namespace {

// Special numbers in the bits of a dtype.
std::uint64_t bits(DType d, Special s) {
  constexpr std::uint64_t table[dtype_count][3] = {{0, 0xfc00, 0x7e00},
                                                   {0, 0xff80, 0x7fc0},
                                                   {0, 0xff800000, 0x7fc00000},
                                                   {0, 0xfff0000000000000, 0x7ff8000000000000}};
  return table[static_cast<int>(d)][static_cast<int>(s)];
}

class NormMap : NormRun {
 public:
  using NormRun::NormRun;
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

  void map_special(Op op, const Norm& norm, const Source& s, std::size_t block, Scratch& scratch) const {
    stage(s, block, 0, scratch.in);
    std::byte* to = y_.row(loop_, s.row) + static_cast<std::int64_t>(block * block_) * y_.step;
    const std::size_t compute = compute_size(dtype_);
    for (std::size_t i = 0; i < length(block); ++i, to += y_.step) {
      const bool in = s.where == nullptr || s.where[static_cast<std::int64_t>(block * block_ + i) * where_.step] != 0;
      const bool at_infinity =
          load_number(scratch.in + i * compute, dtype_ == DType::float64 ? dtype_ : DType::float32) == INFINITY;
      const std::uint64_t b = bits(dtype_, special_value(role_of(op), norm.has_nan(), norm.max, in, at_infinity));
      std::memcpy(to, &b, y_.item);
    }
  }

  void map_block(Op op, const Norm& norm, const RowParams& row, const Source& s, std::size_t block,
                 Scratch& scratch) const {
    if (norm.special()) return map_special(op, norm, s, block, scratch);
    const int index = static_cast<int>(op);
    const bool staged = !plain() || shifted(norm.max);
    if (staged) stage(s, block, shifted(norm.max) ? norm.max : 0, scratch.in);
    Bytes from = staged ? scratch.in : at(s.x, x_, block);
    std::byte* to = y_.row(loop_, s.row) + static_cast<std::int64_t>(block * block_) * y_.step;
    if (y_.plain()) {
      k_.norm_map[index][staged](from, to, length(block), row, stream_);
    } else {
      k_.norm_map[index][staged](from, scratch.out, length(block), row, false);
      Loop::copy(to, y_.step, scratch.out, static_cast<std::int64_t>(y_.item), y_.item, length(block));
    }
  }

  void map_columns(Op op, const Group& g, std::size_t block, const GroupState& state, Scratch& scratch) const {
    if (!state.ordinary) {
      for (std::size_t c = 0; c < g.width; ++c)
        map_block(op, state.norm[c], state.row[c], source(g.first + c), block, scratch);
      return;
    }
    std::byte* to = y_.row(loop_, g.first) + static_cast<std::int64_t>(block * block_) * y_.step;
    k_.map_columns[static_cast<int>(op)](at(x_.row(loop_, g.first), x_, block), x_.step, to, y_.step, length(block),
                                         g.width, state.row, stream_);
  }

  RowOperand grad_;
  bool stream_ = false;
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
    Scratch scratch;
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
