// SPDX-License-Identifier: Apache-2.0
// mask_logits: what filters keep of each row, and -inf elsewhere.
#include "cpp/host/rows/norm_map_run.hpp"
#include "cpp/host/run/check.hpp"
#include "cpp/host/select/cuts.hpp"
#include "vastmax/sampling.hpp"

namespace vastmax {
namespace {

class MaskRun : CutRun {
 public:
  using CutRun::CutRun;
  void run(const ConstView& x, const Filters& filters, const View& out);

 private:
  // The largest logits of a row's blocks and, for a mass, their normaliser.
  struct Known {
    std::vector<double> largest;
    double total = 0;
  };
  void know(const Source& s, int threads, Known& known, Scratch& scratch) {
    known.largest.resize(blocks_);
    const auto also = [&](std::size_t b, const Partial& part, Scratch&) {
      known.largest[b] = std::isnan(part.sum) ? NAN : part.max;
    };
    double max = NAN;
    const Norm norm = threads > 1 ? norm_parallel(s, threads, also) : norm_row(s, false, max, scratch, also);
    known.total = norm.special() ? 0 : norm.sum() / top_of(math(), norm.max, norm.ref);
  }
  void cut_row(const Source& s, const Filters& filters, int threads, Known& known, Kept& kept, Scratch& scratch) {
    Filter f;
    if (filters.top_k != nullptr) f.top_k = filters.top_k[s.row];
    if (filters.top_p != nullptr) f.top_p = filters.top_p[s.row];
    if (filters.min_p != nullptr) f.min_p = filters.min_p[s.row];
    known = {};
    if (f.top_p < 1 && !is_short()) know(s, threads, known, scratch);
    find(s, f, 1, known.largest, threads, kept, scratch, known.total);
  }

  void mask_block(const Source& s, const Cut& cut, std::size_t block, Scratch& scratch) const {
    const std::size_t n = length(block), first = block * block_;
    const auto ties = static_cast<std::size_t>(std::clamp<std::int64_t>(
        cut.last < std::numeric_limits<std::int64_t>::max() ? cut.last + 1 - static_cast<std::int64_t>(first)
                                                            : static_cast<std::int64_t>(n),
        0, static_cast<std::int64_t>(n)));
    mask_stretch(s, first, ties, cut.least, scratch);
    if (cut.least == infinity) return nothing(s, first + ties, n - ties);
    mask_stretch(s, first + ties, n - ties, Top::next_above(dtype_, cut.least), scratch);
  }
  void nothing(const Source& s, std::size_t first, std::size_t n) const {
    const std::uint64_t b = bits(dtype_, Special::minus_infinity);
    Loop::copy(target(s, first), y_.step, reinterpret_cast<Bytes>(&b), 0, y_.item, n);
  }
  std::byte* target(const Source& s, std::size_t first) const {
    return y_.row(loop_, s.row) + static_cast<std::int64_t>(first) * y_.step;
  }
  void mask_stretch(const Source& s, std::size_t first, std::size_t n, double least, Scratch& scratch) const {
    if (n == 0) return;
    std::byte* const to = target(s, first);
    const Piece p = piece(s, first, n, scratch);
    if (y_.plain()) {
      k_.keep_from[p.staged](p.x, n, least, to, stream_);
    } else {
      k_.keep_from[p.staged](p.x, n, least, scratch.out, false);
      Loop::copy(to, y_.step, scratch.out, static_cast<std::int64_t>(y_.item), y_.item, n);
    }
  }
  bool stream_ = false;
};

void MaskRun::run(const ConstView& x, const Filters& filters, const View& out) {
  x_ = operand(x), y_ = operand(out);
  loop_.merge();
  const std::size_t rows = loop_.count();
  stream_ = x.data != out.data && rows * n_ * y_.item >= policy::stream_bytes;
  const Plan plan = cut();
  if (plan.strategy == Strategy::split) {
    const KernelScope scope;
    const Lease<Scratch> lease;
    Scratch& scratch = *lease;
    Kept kept;
    Known known;
    for (std::size_t r = 0; r < rows && !interrupted_; ++r) {
      const Source s = source(r);
      cut_row(s, filters, plan.threads, known, kept, scratch);
      each_block(plan.threads, [&](std::size_t b, Scratch& own) { mask_block(s, kept.cut, b, own); });
    }
    return;
  }
  spread_runs(rows, rows_a_task(), plan.threads, [&](std::size_t first, std::size_t last, Scratch& scratch) {
    Kept kept;
    Known known;
    for (std::size_t r = first; r < last; ++r) {
      const Source s = source(r);
      cut_row(s, filters, 1, known, kept, scratch);
      for (std::size_t b = 0; b < blocks_; ++b) mask_block(s, kept.cut, b, scratch);
    }
  });
}

}  // namespace

void mask_logits(const ConstView& x, const Filters& filters, const View& out, const Exec& exec) {
  check_rows("mask_logits", x, out);
  MaskRun(x.dtype, x.shape, exec).run(x, filters, out);
}

}  // namespace vastmax
