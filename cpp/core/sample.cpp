// SPDX-License-Identifier: Apache-2.0
// Draws from the probabilities of a row by the inverse of their distribution function, classes in index order.  One
// read leaves the sums of blocks and, lane by lane, of their stretches; a draw then makes the terms of one stretch
// again.
#include <bit>
#include <numeric>

#include "core/norm_run.hpp"
#include "core/top.hpp"
#include "random.hpp"
#include "vastmax/sampling.hpp"

namespace vastmax {
namespace {

constexpr double below_one = 0x1.fffffffffffffp-1;

// The first of ascending ends that is beyond `target`, never one that equals its predecessor.
std::size_t first_beyond(std::span<const double> ends, double target) {
  std::size_t at = 0;
  for (std::size_t n = ends.size(); n > 1;) {  // without a branch that could be guessed wrong
    const std::size_t half = n / 2;
    at += ends[at + half - 1] <= target ? half : 0;
    n -= half;
  }
  while (at > 0 && ends[at] == ends[at - 1]) --at;  // rounding led to the end
  return at;
}

// Which part a number in [0, 1) of ascending ends falls into, and how far.
struct Place {
  std::size_t part;
  double share;  // of the part, in [0, 1)
};
Place place(std::span<const double> ends, double share) {
  const double target = share * ends.back();
  const std::size_t at = first_beyond(ends, target);
  const double before = at == 0 ? 0 : ends[at - 1];
  return {at, std::clamp((target - before) / (ends[at] - before), 0.0, below_one)};
}

class SampleRun : NormRun {
 public:
  SampleRun(const ConstView& x, const Sampling& sampling, const Exec& exec)
      : NormRun(x.dtype, x.shape, exec),
        sampling_(sampling),
        stretches_((block_ + stretch_length - 1) / stretch_length) {}
  void run(const ConstView& x, const RowOptions& o);

 private:
  static constexpr std::size_t lanes_bytes = 64;  // of a stretch

  struct Row {
    std::vector<Partial> parts;  // max: the largest logit, of any size; terms: see `tempered`
    std::vector<double> ends;    // running sums over the blocks, in the unit of the largest term
    std::unique_ptr<std::byte[]> lanes;
    double temperature;
    double max;
    std::size_t where;  // the block that holds it
    bool valid;

    // Terms are e^((x - max) / temperature) with the block's max; else those of NormRun::norm_block.
    bool tempered() const { return temperature != 1 && temperature != 0; }
    // Only the first class that has the largest logit is ever drawn.
    bool certain() const { return max == infinity || temperature == 0; }
  };
  Row empty_row() const {
    Row row;
    row.parts.resize(blocks_), row.ends.resize(blocks_);
    row.lanes = std::make_unique_for_overwrite<std::byte[]>(blocks_ * stretches_ * lanes_bytes);
    return row;
  }
  std::byte* lanes(const Row& row, std::size_t block) const {
    return row.lanes.get() + block * stretches_ * lanes_bytes;
  }
  static double gap(const Row& row, double z) {  // (z - max) / T, 0 for any z where T is inf
    if (row.temperature == infinity) return z == -infinity ? z : 0;
    return (z - row.max) / row.temperature;
  }

  // Logits [start, start + n) as the row's terms see them, and whether they are staged; base: their block's largest.
  struct Terms {
    Bytes x;
    bool staged;
  };
  Terms logits(const Source& s, const Row& row, std::size_t start, std::size_t n, double base, Scratch& scratch) const {
    const auto first = static_cast<std::int64_t>(start);
    const Bytes x = s.x + first * x_.step;
    if (plain() && row.tempered()) {
      k_.temper[0](x, n, base, 1 / row.temperature, scratch.in);
    } else if (row.tempered()) {
      k_.stage(staging(s, first, 0), n, scratch.in);
      k_.temper[1](scratch.in, n, base, 1 / row.temperature, scratch.in);
    } else if (plain() && !shifted(base)) {
      return {x, false};
    } else {
      k_.stage(staging(s, first, shifted(base) ? base : 0), n, scratch.in);
    }
    return {scratch.in, true};
  }

  void read(const Source& s, Row& row, std::size_t block, Bytes ahead, double& max, Scratch& scratch) const {
    bool seen = false;
    row.parts[block] = row.tempered() ? tempered_block(s, row, block, ahead, max, scratch)
                                      : norm_block(s, block, ahead, max, scratch, seen, nullptr, lanes(row, block));
  }
  // As norm_block, of logits less the block's largest, over the temperature.
  Partial tempered_block(const Source& s, const Row& row, std::size_t block, Bytes ahead, double& max,
                         Scratch& scratch) const {
    const bool staged = !plain();
    const std::size_t n = length(block);
    const Bytes x = staged ? scratch.in : at(s.x, x_, block);
    if (staged) stage(s, block, 0, scratch.in);
    double largest = max == max ? max : k_.block_max[staged](x, n);
    max = NAN;
    Partial part;
    if (!std::isfinite(largest)) {
      k_.norm[0][staged](x, n, nullptr, largest, part);
      return part;
    }
    k_.temper[staged](x, n, largest, 1 / row.temperature, scratch.in);
    const Bytes next = x_.item == compute_size(dtype_) ? ahead : nullptr;
    double zero = 0;
    k_.norm_stretches[1](scratch.in, n, next, zero, part, lanes(row, block));
    part.max = largest, max = zero;
    return part;
  }

  double weight(const Row& row, const Partial& part) const {
    if (part.max == -infinity) return 0;
    const double sum = part.sum + part.lost;
    return row.tempered() ? sum * math().exp_difference(gap(row, part.max))
                          : sum * ratio(math(), part, row.parts[row.where]);
  }
  void weigh(Row& row) const {
    row.max = -infinity, row.where = 0, row.valid = true;
    for (std::size_t b = 0; b < blocks_; ++b) {
      row.valid &= row.parts[b].sum == row.parts[b].sum;
      if (row.parts[b].max > row.max) row.max = row.parts[b].max, row.where = b;
    }
    row.valid &= row.max > -infinity;
    if (!row.valid || row.certain()) return;
    double sum = 0;
    for (std::size_t b = 0; b < blocks_; ++b) row.ends[b] = sum += weight(row, row.parts[b]);
  }

  // log of the sum over the largest term
  double log_mass(const Source& s, const Row& row, Scratch& scratch) const {
    const Partial& top = row.parts[row.where];
    const double base = row.tempered() || shifted(row.max) ? row.max : 0, largest = row.tempered() ? 0 : row.max - base;
    const double one = math().exp_scaled(largest, top.ref), sum = row.ends.back();
    if (sum > 1.75 * one) return math().log1p((sum - one) / one);
    TwoSum others;
    for (std::size_t b = 0; b < blocks_; ++b)
      if (b != row.where) others.add(weight(row, row.parts[b]));
    const std::size_t n = length(row.where);
    const Terms terms = logits(s, row, row.where * block_, n, row.max, scratch);
    if (!terms.staged) stage(s, row.where, 0, scratch.in);
    others.add(k_.rest(scratch.in, n, largest, top.ref));
    return math().log1p(others.value() / one);
  }

  double uniform(const Source& s, std::size_t draw) const {
    const Draws& d = sampling_.draws;
    const Bits bits =
        random_bits({d.seed, d.step, d.row + s.row}, Purpose::sample, static_cast<std::uint32_t>(draw / 2));
    return unit(bits.at[draw % 2]);
  }

  // Draws that fall into one block: which they are, and how far into it.
  static constexpr std::size_t handful = 256;
  struct Fallen {
    std::size_t count = 0;
    std::uint32_t draw[handful];
    double share[handful];
  };
  void resolve(const Source& s, const Row& row, std::size_t block, const Fallen& fallen, std::int64_t* ids,
               Scratch& scratch) const {
    const Partial& part = row.parts[block];
    const std::size_t parts = (length(block) + stretch_length - 1) / stretch_length;
    double ends[block_length(DType::float32) / stretch_length], sum = 0;
    for (std::size_t k = 0; k < parts; ++k) ends[k] = sum += k_.stretch_sum(lanes(row, block) + k * lanes_bytes);
    Place places[handful];
    std::size_t drawn[handful];
    for (std::size_t i = 0; i < fallen.count; ++i) places[i] = place({ends, parts}, fallen.share[i]);
    for (std::size_t k = 0; k < parts; ++k) {
      double shares[handful];
      std::uint32_t found[handful];
      std::size_t count = 0;
      for (std::size_t i = 0; i < fallen.count; ++i)
        if (places[i].part == k) drawn[count] = fallen.draw[i], shares[count++] = places[i].share;
      if (count == 0) continue;
      const std::size_t start = block * block_ + k * stretch_length, n = std::min(stretch_length, n_ - start);
      const Terms terms = logits(s, row, start, n, part.max, scratch);
      k_.find_shares[terms.staged](terms.x, n, part.ref, shares, count, found);
      for (std::size_t i = 0; i < count; ++i) ids[drawn[i]] = static_cast<std::int64_t>(start + found[i]);
    }
  }

  // The row's draws, in the order of the blocks that they fall into.
  struct Sorted {
    std::vector<Place> places;
    std::vector<std::uint32_t> starts, order;
  };
  Sorted sorted(const Source& s, const Row& row) const {
    Sorted to{std::vector<Place>(sampling_.size), std::vector<std::uint32_t>(blocks_ + 1),
              std::vector<std::uint32_t>(sampling_.size)};
    for (std::size_t d = 0; d < sampling_.size; ++d) {
      to.places[d] = place(row.ends, uniform(s, d));
      ++to.starts[to.places[d].part];
    }
    std::exclusive_scan(to.starts.begin(), to.starts.end(), to.starts.begin(), std::uint32_t{0});
    for (std::size_t d = 0; d < sampling_.size; ++d)
      to.order[to.starts[to.places[d].part]++] = static_cast<std::uint32_t>(d);
    return to;
  }
  void resolve(const Source& s, const Row& row, const Sorted& from, std::size_t block, std::int64_t* ids,
               Scratch& scratch) const {
    const std::size_t end = from.starts[block];
    for (std::size_t first = block == 0 ? 0 : from.starts[block - 1]; first < end; first += handful) {
      Fallen fallen;
      fallen.count = std::min(handful, end - first);
      for (std::size_t i = 0; i < fallen.count; ++i) {
        fallen.draw[i] = from.order[first + i];
        fallen.share[i] = from.places[fallen.draw[i]].share;
      }
      resolve(s, row, block, fallen, ids, scratch);
    }
  }
  void draw(const Source& s, const Row& row, std::int64_t* ids, int threads, Scratch& scratch) {
    if (sampling_.size == 1) {
      const Place at = place(row.ends, uniform(s, 0));
      Fallen one;
      one.count = 1, one.draw[0] = 0, one.share[0] = at.share;
      return resolve(s, row, at.part, one, ids, scratch);
    }
    const Sorted draws = sorted(s, row);
    if (threads == 1) {
      for (std::size_t b = 0; b < blocks_; ++b) resolve(s, row, draws, b, ids, scratch);
    } else {
      spread(blocks_, std::max<std::size_t>(1, blocks_ / 16), threads,
             [&](std::size_t b, Scratch& own) { resolve(s, row, draws, b, ids, own); });
    }
  }

  // Without replacement: the largest of (z - max) / T + Gumbel noise.  Noise g > `least` has E = e^-g < e^-least, and
  // its bits are no more than 2^64 E: others are not looked at.
  struct Noise {
    std::uint32_t at[block_length(DType::float32)];
    std::uint64_t bits[block_length(DType::float32)];
    double g[block_length(DType::float32)];
  };
  std::uint64_t most_bits(double least) const {
    if (!(least > 0)) return ~std::uint64_t{0};
    return static_cast<std::uint64_t>(math().exp_difference(-least) * (0x1p64 * (1 + 0x1p-40))) + 1;
  }
  void offer(const Source& s, const Row& row, std::size_t block, Top& top, Noise& noise, Scratch& scratch) const {
    const Partial& part = row.parts[block];
    if (part.max == -infinity) return;
    const double least = top.least(DType::float64, false) - gap(row, part.max);
    if (least > most_noise) return;
    Draws of_row = sampling_.draws;
    of_row.row += s.row;
    const std::size_t start = block * block_,
                      count = all_.noise(of_row, start, length(block), most_bits(least), noise.at, noise.bits);
    if (count == 0) return;
    all_.gumbel(noise.bits, count, noise.g);
    stage(s, block, 0, scratch.in);
    for (std::size_t i = 0; i < count; ++i) {
      const double z = load_number(scratch.in + noise.at[i] * compute_size(dtype_), reduced(dtype_));
      if (z > -infinity) top.offer({gap(row, z) + noise.g[i], static_cast<std::int64_t>(start + noise.at[i])});
    }
  }
  void draw_unique(const Source& s, const Row& row, std::int64_t* ids, int threads, Scratch& scratch) {
    Top top(sampling_.size);
    const auto look = [&](std::size_t first, std::size_t last, Top& best, Scratch& own) {
      const auto noise = std::make_unique_for_overwrite<Noise>();
      for (std::size_t b = first; b < last; ++b) offer(s, row, b, best, *noise, own);
    };
    if (threads == 1) {
      look(0, blocks_, top, scratch);
    } else {
      each_run(threads, [&](std::size_t first, std::size_t last, Scratch& own) {
        Top best(sampling_.size);
        look(first, last, best, own);
        const std::lock_guard lock(top.mutex);
        for (const Top::Entry& entry : best.sorted()) top.offer(entry);
      });
    }
    std::size_t found = 0;
    for (const Top::Entry& entry : top.sorted()) ids[found++] = entry.index;
    std::fill(ids + found, ids + sampling_.size, -1);
  }

  std::int64_t first_largest(const Source& s, const Row& row, Scratch& scratch) const {
    std::uint64_t marks[block_length(DType::float32) / 64];
    stage(s, row.where, 0, scratch.in);
    k_.mark_from[1](scratch.in, length(row.where), row.max, false, marks);
    std::size_t word = 0;
    while (marks[word] == 0) ++word;
    return static_cast<std::int64_t>(row.where * block_ + word * 64 +
                                     static_cast<std::size_t>(std::countr_zero(marks[word])));
  }

  void finish(const Source& s, Row& row, int threads, Scratch& scratch) {
    weigh(row);
    const std::size_t first = s.row * sampling_.size, size = sampling_.size;
    std::int64_t* const ids = sampling_.ids + first;
    if (!row.valid || row.certain()) {
      std::fill_n(ids, size, row.valid && sampling_.replace ? first_largest(s, row, scratch) : -1);
      if (row.valid) ids[0] = first_largest(s, row, scratch);
    } else if (sampling_.replace) {
      draw(s, row, ids, threads, scratch);
    } else {
      draw_unique(s, row, ids, threads, scratch);
    }
    if (interrupted_) return;
    for (std::size_t d = 0; sampling_.valid != nullptr && d < size; ++d) sampling_.valid[first + d] = ids[d] >= 0;
    if (sampling_.log_prob != nullptr) log_probs(s, row, ids, sampling_.log_prob + first, scratch);
  }
  void log_probs(const Source& s, const Row& row, const std::int64_t* ids, double* to, Scratch& scratch) const {
    const bool certain = !row.valid || row.certain();
    const double log = certain ? 0 : log_mass(s, row, scratch);
    for (std::size_t d = 0; d < sampling_.size; ++d)
      to[d] = ids[d] < 0 ? NAN : certain ? 0 : gap(row, logit(s, ids[d])) - log;
  }

  void begin(const Source& s, Row& row) const {
    row.temperature = sampling_.temperature == nullptr ? 1 : sampling_.temperature[s.row];
  }

  static constexpr double most_noise = 46;  // 65 log 2 and more

  const Sampling& sampling_;
  const std::size_t stretches_;  // of a block
};

void SampleRun::run(const ConstView& x, const RowOptions& o) {
  x_ = operand(x);
  options(o);
  loop_.merge();
  const std::size_t rows = loop_.count();
  for (std::size_t r = 0; sampling_.temperature != nullptr && r < rows; ++r)
    if (!(sampling_.temperature[r] >= 0)) throw std::invalid_argument("sample: a temperature is not in [0, inf]");
  if (rows == 0 || sampling_.size == 0) return;
  const Plan plan = cut();
  if (plan.strategy == Strategy::split) {
    const KernelScope scope;
    Scratch scratch;
    Row row = empty_row();
    for (std::size_t r = 0; r < rows && !interrupted_; ++r) {
      const Source s = source(r);
      begin(s, row);
      each_run(plan.threads, [&](std::size_t first, std::size_t last, Scratch& own) {
        double max = NAN;
        for (std::size_t b = first; b < last; ++b)
          read(s, row, b, b + 1 < last ? ahead(s, b, false) : nullptr, max, own);
      });
      if (!interrupted_) finish(s, row, plan.threads, scratch);
    }
    return;
  }
  spread_runs(rows, rows_a_task(), plan.threads, [&](std::size_t first, std::size_t last, Scratch& scratch) {
    Row row = empty_row();
    double max = NAN;
    for (std::size_t r = first; r < last; ++r) {
      const Source s = source(r);
      begin(s, row);
      for (std::size_t b = 0; b < blocks_; ++b) read(s, row, b, ahead(s, b, r + 1 < last), max, scratch);
      finish(s, row, 1, scratch);
    }
  });
}

void check(const ConstView& x, const Sampling& sampling) {
  if (x.shape.empty()) throw std::invalid_argument("sample: x has no axis to reduce");
  check_draws("sample", sampling.draws, x);
  if (sampling.size > std::numeric_limits<std::uint32_t>::max())
    throw std::invalid_argument("sample: a row has 2^32 draws");
  if (!sampling.replace && sampling.size > static_cast<std::size_t>(x.shape.back()))
    throw std::invalid_argument("sample: more draws without replacement than classes");
}

}  // namespace

void sample(const ConstView& x, const Sampling& sampling, const RowOptions& o, const Exec& exec) {
  check(x, sampling);
  SampleRun(x, sampling, exec).run(x, o);
}

}  // namespace vastmax
