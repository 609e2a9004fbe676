// SPDX-License-Identifier: Apache-2.0
// kl_divergence: both normalisers, and how far p and q differ between them, in one read of each.  In float64 for every
// dtype: where p and q are alike, what is left is far below the rounding of a float32 probability.
#include <vector>

#include "cpp/host/rows/norm_run.hpp"
#include "cpp/math/statistics.hpp"

namespace vastmax {
namespace {

// The rows of one of the two arrays.
class Logits : public NormRun {
 public:
  Logits(const ConstView& x, const Exec& exec) : NormRun(DType::float64, x.shape, exec) {
    if (x.dtype != DType::float64) narrow_ = &of(all_, x.dtype);
    x_ = operand(x);
    loop_.merge();
  }
  // A block as its normaliser has seen it.
  Bytes seen(const Source& s, std::size_t b, const Partial& part, Scratch& scratch) const {
    const double shift = shift_of(part.max);
    if (plain() && shift == 0) return at(s.x, x_, b);
    if (plain()) stage(s, b, shift, scratch.in);
    return scratch.in;
  }
  using NormRun::all_;
  using NormRun::blocks_;
  using NormRun::cut;
  using NormRun::each_run;
  using NormRun::interrupted_;
  using NormRun::length;
  using NormRun::loop_;
  using NormRun::math;
  using NormRun::merge;
  using NormRun::n_;
  using NormRun::norm_block;
  using NormRun::rows_a_task;
  using NormRun::Source;
  using NormRun::source;
  using NormRun::spread_runs;
};

class Divergence {
 public:
  Divergence(const ConstView& p, const ConstView& q, const Exec& exec) : p_(p, exec), q_(q, exec) {}
  void run(double* out);

 private:
  struct Block {
    Partial p, q;
    Differences differences;
  };

  void look(std::size_t row, std::size_t b, Block& to, Scratch& scratch, Scratch& other) const {
    const auto p = p_.source(row), q = q_.source(row);
    double unknown = NAN;
    bool seen = false;
    to.q = q_.norm_block(q, b, nullptr, unknown, other, seen);
    unknown = NAN;
    to.p = p_.norm_block(p, b, nullptr, unknown, scratch, seen);
    to.differences.offset = offset_of(p_.math(), to.p, to.q);
    p_.all_.differences(p_.seen(p, b, to.p, scratch), q_.seen(q, b, to.q, other), p_.length(b), to.p, to.q,
                        to.differences);
  }
  double finish(const std::vector<Block>& blocks) const {
    if (blocks.empty()) return 0;
    Norm p, q;
    for (std::size_t b = 0; b < blocks.size(); ++b) {
      p_.merge(p, blocks[b].p, b);
      q_.merge(q, blocks[b].q, b);
    }
    const CallMath math = p_.math();
    const double offset = offset_of(math, whole(p), whole(q));
    TwoSum gaps, above, far;
    for (const Block& block : blocks) {
      const RowDifferences part = in_row(math, p, q, offset, block.p, block.q, block.differences);
      gaps.add(part.gaps), above.add(part.above), far.add(part.far);
    }
    return divergence_of(math, p, q, offset, gaps, above, far.value());
  }

  Logits p_, q_;
};

void Divergence::run(double* out) {
  const std::size_t rows = p_.loop_.count();
  if (rows == 0) return;
  const Plan plan = p_.cut();
  if (plan.strategy == Strategy::split) {
    const KernelScope scope;
    for (std::size_t r = 0; r < rows && !p_.interrupted_; ++r) {
      std::vector<Block> blocks(p_.blocks_);
      p_.each_run(plan.threads, [&](std::size_t first, std::size_t last, Scratch& own) {
        const Lease<Scratch> other;
        for (std::size_t b = first; b < last; ++b) look(r, b, blocks[b], own, *other);
      });
      if (!p_.interrupted_) out[r] = finish(blocks);
    }
    return;
  }
  p_.spread_runs(rows, p_.rows_a_task(), plan.threads, [&](std::size_t first, std::size_t last, Scratch& scratch) {
    const Lease<Scratch> other;
    std::vector<Block> blocks(p_.blocks_);
    for (std::size_t r = first; r < last; ++r) {
      for (std::size_t b = 0; b < blocks.size(); ++b) look(r, b, blocks[b] = {}, scratch, *other);
      out[r] = finish(blocks);
    }
  });
}

}  // namespace

void kl_divergence(const ConstView& p, const ConstView& q, double* out, const Exec& exec) {
  if (p.shape.empty()) throw std::invalid_argument("kl_divergence: logits have no axis to reduce");
  expect_like("kl_divergence", "q_logits", q, p);
  Divergence(p, q, exec).run(out);
}

}  // namespace vastmax
