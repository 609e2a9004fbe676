// SPDX-License-Identifier: Apache-2.0
// softmax_stats: what one read of a row tells.  The normaliser takes the entropy's sum along; each block whose largest
// logit matters is then looked through, while it is in cache, for logits larger than the target's and for the largest.
#include <atomic>
#include <bit>
#include <functional>
#include <vector>

#include "cpp/host/rows/norm_run.hpp"
#include "cpp/host/select/top.hpp"
#include "cpp/math/statistics.hpp"

namespace vastmax {
namespace {

class StatsRun : NormRun {
 public:
  StatsRun(const ConstView& x, const RowStats& stats, const Exec& exec)
      : NormRun(x.dtype, x.shape, exec), stats_(stats) {}
  void run(const ConstView& x, const RowOptions& o);

 private:
  struct Block {
    Partial part;
    TwoSum gaps;
  };
  struct Row {
    std::vector<Block> blocks;
    bool in_order;  // else threads share the row
    Top top;
    double target = NAN;
    std::atomic<std::size_t> above = 0;
  };
  // What norm_row and norm_parallel take along.
  struct Along {
    const StatsRun& run;
    const Source& s;
    Row& row;
    TwoSum* gaps(std::size_t block) const { return &row.blocks[block].gaps; }
    void operator()(std::size_t block, const Partial& part, Scratch& scratch) const {
      row.blocks[block].part = part;
      run.look(*this, block, part, scratch);
    }
  };

  std::size_t wanted() const { return std::max<std::size_t>(stats_.top_n, stats_.argmax != nullptr); }
  bool tempered() const { return temperature_.data != nullptr; }
  // As the user gave it: a temperature may round two logits into one.
  double raw(const Source& s, std::int64_t index) const {
    Source as_given = s;
    as_given.divisor = 1;
    return logit(as_given, static_cast<std::size_t>(index));
  }

  using Marks = std::uint64_t[block_length(DType::float32) / 64];

  // What an element must be at least to count as larger than the target, or to be worth an offer; NaN always is.
  double count_limit(double target) const { return target < INFINITY ? Top::next_above(dtype_, target) : INFINITY; }
  double mark_limit(const Along& a) const {
    if (wanted() == 0) return INFINITY;
    const double least = threshold(a);
    return std::isnan(least) ? INFINITY : least;
  }

  void look(const Along& a, std::size_t block, const Partial& part, Scratch& scratch) const {
    const bool staged = !plain(), ranked = stats_.target_rank != nullptr;
    const std::size_t n = length(block);
    const double count_from = ranked ? count_limit(a.row.target) : INFINITY, mark_from = mark_limit(a);
    const auto matters = [&](double limit) { return tempered() || part.max >= limit || std::isnan(part.sum); };
    const bool counts = ranked && matters(count_from), marks = wanted() > 0 && matters(mark_from);
    if (!counts && !marks) return;
    if (staged && (tempered() || shifted(part.max))) {
      Source as_given = a.s;
      as_given.divisor = 1;
      stage(as_given, block, 0, scratch.in);
    }
    const Bytes x = staged ? scratch.in : at(a.s.x, x_, block);
    if (counts) a.row.above += count_above(x, staged, n, a.row.target);
    if (marks) offer(a, block, x, staged, mark_from, tempered() || std::isnan(part.sum));
  }
  void offer(const Along& a, std::size_t block, Bytes x, bool staged, double limit, bool nans) const {
    const std::size_t n = length(block), words = (n + 63) / 64;
    Marks marks;
    const std::size_t marked = k_.mark_from[staged](x, n, limit, nans, marks);
    if (marked > 4 * wanted())
      if (const double higher = reached(x, staged, n); higher > limit) k_.mark_from[staged](x, n, higher, nans, marks);
    std::unique_lock lock(a.row.top.mutex, std::defer_lock);
    if (!a.row.in_order) lock.lock();
    for (std::size_t w = 0; w < words; ++w)
      for (; marks[w] != 0; marks[w] &= marks[w] - 1) {
        const std::size_t i = w * 64 + static_cast<std::size_t>(std::countr_zero(marks[w]));
        a.row.top.offer({number(x, staged, i), static_cast<std::int64_t>(block * block_ + i)});
      }
  }
  // A number that as many as are wanted of a block reach, and few others: as in its lanes' largest.  For a row's first
  // block, and where logits ascend.
  double reached(Bytes x, bool staged, std::size_t n) const {
    const std::size_t lanes = std::bit_ceil(std::max<std::size_t>(64, 3 * wanted()));
    if (lanes > block_) return -INFINITY;
    alignas(64) std::byte largest[scratch_bytes];
    k_.lane_max[staged](x, n, lanes, largest);
    std::vector<double> values(lanes);
    for (std::size_t i = 0; i < lanes; ++i)
      values[i] = load_number(largest + i * compute_size(dtype_), reduced(dtype_));
    const auto nth = values.begin() + static_cast<std::ptrdiff_t>(wanted() - 1);
    std::nth_element(values.begin(), nth, values.end(), std::greater<>());
    return *nth;
  }
  std::size_t count_above(Bytes x, bool staged, std::size_t n, double value) const {
    if (value < INFINITY) return k_.count_from[staged](x, n, count_limit(value));
    std::size_t nans = 0;  // nothing else is above infinity
    for (std::size_t i = 0; value == INFINITY && i < n; ++i) nans += std::isnan(number(x, staged, i));
    return nans;
  }
  double threshold(const Along& a) const {
    if (a.row.in_order) return a.row.top.least(dtype_, true);
    const std::lock_guard lock(a.row.top.mutex);
    return a.row.top.least(dtype_, false);
  }
  double number(Bytes x, bool staged, std::size_t i) const {
    if (staged || x_.item == compute_size(dtype_)) return load_number(x + i * compute_size(dtype_), reduced(dtype_));
    std::byte one[sizeof(double)];
    k_.stage({x + i * x_.item, x_.step, nullptr, 0, 1, 0}, 1, one);
    return load_number(one, reduced(dtype_));
  }

  double entropy(const Source& s, const Norm& norm, const Row& row, double log, Scratch& scratch) const {
    if (n_ == 0) return 0;
    if (norm.special()) return NAN;
    TwoSum sum;
    for (std::size_t b = 0; b < blocks_; ++b) {
      const auto& [part, gaps] = row.blocks[b];
      if (b != norm.where && part.sum != 0) sum.add(gaps_in_row(math(), norm, part, gaps));
    }
    sum.add(gaps_of_top(s, norm, row, scratch));
    return entropy_of(norm, log, sum);
  }
  double gaps_of_top(const Source& s, const Norm& norm, const Row& row, Scratch& scratch) const {
    if (!drowned(math(), norm)) return row.blocks[norm.where].gaps.value();
    const double shift = shifted(norm.max) ? norm.max : 0;
    stage(s, norm.where, shift, scratch.in);
    TwoSum gaps;
    k_.rest_entropy(scratch.in, length(norm.where), norm.max - shift, norm.ref, gaps);
    return gaps.value();
  }

  void begin(const Source& s, Row& row) const {
    row.top.clear();
    row.above = 0;
    if (!targets_.empty()) row.target = raw(s, targets_[s.row]);
  }
  void finish(const Source& s, const Norm& norm, Row& row, Scratch& scratch) const {
    const std::size_t r = s.row;
    const double log = log_over_max(norm, s, scratch);
    const auto put = [r](auto* to, auto value) {
      if (to != nullptr) to[r] = value;
    };
    put(stats_.lse, log_sum(norm, log));
    put(stats_.max, norm.has_nan() ? NAN : norm.max);
    if (stats_.entropy != nullptr) stats_.entropy[r] = entropy(s, norm, row, log, scratch);
    if (stats_.target_log_prob != nullptr)
      stats_.target_log_prob[r] = log_probability(norm, log, logit(s, static_cast<std::size_t>(targets_[r])));
    put(stats_.target_rank, static_cast<std::int64_t>(row.above) + 1);
    const auto top = row.top.sorted();
    if (!top.empty()) put(stats_.argmax, top.front().index);
    for (std::size_t k = 0; k < stats_.top_n; ++k) {
      const std::size_t to = r * stats_.top_n + k;
      stats_.top_indices[to] = top[k].index;
      stats_.top_log_probs[to] = log_probability(norm, log, logit(s, static_cast<std::size_t>(top[k].index)));
    }
  }
  Row empty_row(bool in_order) const { return {std::vector<Block>(blocks_), in_order, Top(wanted())}; }

  const RowStats& stats_;
  std::vector<std::int64_t> targets_;
};

void StatsRun::run(const ConstView& x, const RowOptions& o) {
  x_ = operand(x);
  options(o);
  loop_.merge();
  const std::size_t rows = loop_.count();
  if (stats_.target != nullptr) targets_ = class_ids("softmax_stats", "a target", {stats_.target, rows}, n_);
  if (rows == 0) return;
  const Plan plan = cut();
  if (plan.strategy == Strategy::split) {
    const KernelScope scope;
    const Lease<Scratch> lease;
    Scratch& scratch = *lease;
    for (std::size_t r = 0; r < rows && !interrupted_; ++r) {
      const Source s = source(r);
      Row row = empty_row(false);
      begin(s, row);
      const Norm norm = norm_parallel(s, plan.threads, Along{*this, s, row});
      if (!interrupted_) finish(s, norm, row, scratch);
    }
    return;
  }
  spread_runs(rows, rows_a_task(), plan.threads, [&](std::size_t first, std::size_t last, Scratch& scratch) {
    Row row = empty_row(true);
    double max = NAN;
    for (std::size_t r = first; r < last; ++r) {
      const Source s = source(r);
      begin(s, row);
      const Norm norm = norm_row(s, r + 1 < last, max, scratch, Along{*this, s, row});
      finish(s, norm, row, scratch);
    }
  });
}

}  // namespace

void softmax_stats(const ConstView& x, const RowStats& stats, const RowOptions& o, const Exec& exec) {
  if (x.shape.empty()) throw std::invalid_argument("softmax_stats: x has no axis to reduce");
  if (stats.top_n > static_cast<std::size_t>(x.shape.back()))
    throw std::invalid_argument("softmax_stats: top_n is larger than the number of classes");
  StatsRun(x, stats, exec).run(x, o);
}

}  // namespace vastmax
