// SPDX-License-Identifier: Apache-2.0
// The logits of a linear layer, in tiles that a matrix product leaves: bias, softcap, normaliser, the target's logit
// and what all shares add up to in one read, and the slopes in another; the losses in between.  Nothing is written back
// in between: a bias costs less than the memory for logits that have theirs.
#include <vector>

#include "cpp/host/rows/norm_map_run.hpp"
#include "cpp/math/loss.hpp"

namespace vastmax {
namespace {

class Head : NormMapRun {
 public:
  Head(const ConstView& x, const HeadTile& tile, std::span<const RowState> states, const Exec& exec)
      : NormMapRun(x.dtype, x.shape, exec), tile_(tile), shares_(static_cast<Bytes>(tile.shares)) {
    x_ = operand(x), states_ = states.data();
    bias_ = static_cast<Bytes>(tile.bias), cap_ = tile.softcap, head_ = true;
  }
  void update(RowState* states, HeadRow* rows);
  void slopes(const HeadSlopes& slopes, const View& out);

 private:
  // Where the target of a row is, if it is in this tile; else at least n_.
  std::size_t column(std::size_t row) const {
    return static_cast<std::size_t>(tile_.target[row]) - static_cast<std::size_t>(tile_.first);
  }
  Bytes shares(std::size_t block) const { return shares_ + block * block_ * compute_size(dtype_); }

  std::vector<TwoSum> masses() const {  // of each block
    std::vector<TwoSum> mass(shares_ == nullptr ? 0 : blocks_);
    for (std::size_t b = 0; b < mass.size(); ++b)
      for (std::size_t i = 0; i < length(b); ++i)
        mass[b].add(load_number(shares(b) + i * compute_size(dtype_), dtype_));
    return mass;
  }
  Weighed weigh(const Source& s, std::size_t block, const Partial& part, const TwoSum& mass, Scratch& scratch) const {
    const double base = std::isfinite(part.max) ? part.max : 0;
    if (!plain() && shifted(part.max)) stage(s, block, 0, scratch.in);
    const Bytes z = plain() ? at(s.x, x_, block) : scratch.in;
    return {base, k_.gaps(z, shares(block), length(block), base), mass};
  }

  double slope(const Source& s, std::size_t index) const {
    if (cap_ == 0) return 1;
    std::byte one[sizeof(double)];
    k_.softcap_slope(staging(s, static_cast<std::int64_t>(index), 0), 1, one);
    return load_number(one, dtype_);
  }
  void map(const Source& s, const Norm& norm, const RowParams& row, double even, std::size_t block,
           Scratch& scratch) const {
    if (norm.special()) return map_special(Role::probability, norm, s, block, scratch);
    if (shares_ == nullptr && cap_ == 0) return map_block(Op::logsumexp_backward, norm, row, s, block, scratch);
    const std::size_t n = length(block);
    stage(s, block, shifted(norm.max) ? norm.max : 0, scratch.in);
    if (cap_ != 0) k_.softcap_slope(staging(s, static_cast<std::int64_t>(block * block_), 0), n, scratch.out);
    if (shares_ == nullptr) std::memset(scratch.second, 0, n * compute_size(dtype_));
    k_.loss_grad(scratch.in, shares_ == nullptr ? scratch.second : shares(block), cap_ == 0 ? nullptr : scratch.out,
                 target(s.row, block), n, row, even, false);
  }

  const HeadTile& tile_;
  Bytes shares_;
};

void Head::update(RowState* states, HeadRow* rows) {
  loop_.merge();
  const std::vector<TwoSum> mass = masses();
  spread_runs(loop_.count(), rows_a_task(), cut().threads, [&](std::size_t first, std::size_t last, Scratch& scratch) {
    std::vector<Weighed> blocks(mass.size());
    double max = NAN;
    for (std::size_t r = first; r < last; ++r) {
      const Source s = source(r);
      const double before = std::isfinite(states[r].max) ? states[r].max : 0;
      const Norm norm = norm_row(s, r + 1 < last, max, scratch, [&](std::size_t b, const Partial& part, Scratch& own) {
        if (shares_ != nullptr) blocks[b] = weigh(s, b, part, mass[b], own);
      });
      states[r] = state(norm, s, scratch);
      if (shares_ != nullptr) {
        WeighedRow all;
        all.add({before, {rows[r].gaps, rows[r].gaps_lost}, {tile_.earlier, 0}}, norm.max);
        for (const Weighed& block : blocks) all.add(block, norm.max);
        rows[r].gaps = all.gaps.high, rows[r].gaps_lost = all.gaps.low;
      }
      if (const std::size_t at = column(r); at < n_) rows[r].target_logit = logit(s, static_cast<std::int64_t>(at));
    }
  });
}

void Head::slopes(const HeadSlopes& slopes, const View& out) {
  y_ = operand(out);
  loop_.merge();
  spread_runs(loop_.count(), rows_a_task(), cut().threads, [&](std::size_t first, std::size_t last, Scratch& scratch) {
    for (std::size_t r = first; r < last; ++r) {
      const Source s = source(r);
      const Norm norm = before(r);
      const auto rest = [] { return 0.0; };  // of a logarithm only
      const RowParams row = dtype_ == DType::float64 ? scaled_params<double>(math(), norm, slopes.every[r], rest)
                                                     : scaled_params<float>(math(), norm, slopes.every[r], rest);
      const std::size_t at = column(r);
      const double at_target = at < n_ ? slopes.at_target[r] * slope(s, at) : 0;  // before the logit is gone
      for (std::size_t b = 0; b < blocks_; ++b) map(s, norm, row, shares_ == nullptr ? 0 : slopes.even[r], b, scratch);
      if (at < n_) k_.put(at_target, y_.row(loop_, r) + static_cast<std::int64_t>(at) * y_.step);
    }
  });
}

void finish_row(const CallMath& math, const RowState& state, const HeadRow& row, const HeadLoss& o, std::size_t r) {
  const Norm norm = norm_of(state);
  const double over = norm.special() ? 0 : over_max(math, norm, [&] { return state.rest; }), log = math.log1p(over),
               lse = log_sum(norm, log);
  RowLoss loss;
  if (o.even != 0) {
    WeighedRow all{{row.gaps, row.gaps_lost}, {o.mass, 0}};
    all.scale(o.even);
    loss.add(norm, log, all);
  }
  loss.add(norm, log, row.target_logit, o.own[r]);
  loss.add_square(o.z_loss, lse);
  o.loss[r] = loss.loss, o.lse[r] = lse;
  if (o.factor == nullptr) return;
  const double factor = o.factor[r], of_lse = 2 * o.z_loss * lse, others = o.even * (o.mass - o.share[r]);
  o.every[r] = factor * (loss.weight + of_lse);
  o.at_target[r] = norm.special() ? NAN
                                  : gradient_at_target(math, norm, over, row.target_logit, factor,
                                                       o.own[r] + o.even * o.share[r], of_lse + others);
}

void check_head(const char* op, const ConstView& x, const HeadTile& tile, std::span<const RowState> states) {
  check_states(op, x, states);
  expect_dtype(op, "x", x.dtype, reduced(x.dtype));
  if (x.shape.back() > 1 && x.strides.back() != static_cast<std::int64_t>(item_size(x.dtype)))
    throw std::invalid_argument(std::string(op) + ": the classes of x must be adjacent");
  if (tile.target == nullptr) throw std::invalid_argument(std::string(op) + ": a target of each row is needed");
}

}  // namespace

void head_update(const ConstView& x, const HeadTile& tile, std::span<RowState> states, std::span<HeadRow> rows,
                 const Exec& exec) {
  check_head("head_update", x, tile, states);
  if (rows.size() != states.size()) throw std::invalid_argument("head_update: rows and states must be as many");
  Head(x, tile, states, exec).update(states.data(), rows.data());
}

void head_losses(std::span<const RowState> states, std::span<const HeadRow> rows, const HeadLoss& o, const Exec& exec) {
  if (rows.size() != states.size()) throw std::invalid_argument("head_losses: rows and states must be as many");
  if (o.own == nullptr || o.share == nullptr || o.loss == nullptr || o.lse == nullptr)
    throw std::invalid_argument("head_losses: an array is missing");
  if (o.factor != nullptr && (o.every == nullptr || o.at_target == nullptr))
    throw std::invalid_argument("head_losses: a slope is missing");
  const KernelScope scope;
  const Kernels& all = kernels(exec);
  const CallMath math{all, of(all, DType::float64)};
  for (std::size_t r = 0; r < rows.size(); ++r) finish_row(math, states[r], rows[r], o, r);
}

void head_slopes(const ConstView& x, const HeadTile& tile, std::span<const RowState> states, const HeadSlopes& slopes,
                 const View& out, const Exec& exec) {
  check_head("head_slopes", x, tile, states);
  expect_like("head_slopes", "out", out, x);
  if (x.shape.back() > 1 && out.strides.back() != static_cast<std::int64_t>(item_size(out.dtype)))
    throw std::invalid_argument("head_slopes: the classes of out must be adjacent");
  if (slopes.every == nullptr || slopes.at_target == nullptr || (tile.shares != nullptr && slopes.even == nullptr))
    throw std::invalid_argument("head_slopes: a slope is missing");
  Head(x, tile, states, exec).slopes(slopes, out);
}

}  // namespace vastmax
