// SPDX-License-Identifier: Apache-2.0
// Draws from the probabilities of a row: by the inverse of their distribution function, or without replacement.
#include <numeric>

#include "cpp/host/draw/row_law.hpp"
#include "cpp/math/random.hpp"
#include "vastmax/sampling.hpp"

namespace vastmax {
namespace {

class SampleRun : RowLaw {
 public:
  SampleRun(const ConstView& x, const Sampling& sampling, const Exec& exec)
      : RowLaw(x.dtype, x.shape, exec), sampling_(sampling), all_draws_(sampling.replace ? sampling.size : 0) {
    std::iota(all_draws_.begin(), all_draws_.end(), std::uint32_t{0});
  }
  void run(const ConstView& x, const RowOptions& o);

 private:
  Draws draws_of(const Source& s) const {
    Draws draws = sampling_.draws;
    draws.row += s.row;
    return draws;
  }

  // Some draws of a row, ascending, by random bits of a purpose.
  struct Some {
    std::span<const std::uint32_t> draws;
    Purpose purpose;
  };
  // Where those of [first, last) fall.
  void fall(const Source& s, const Row& row, const Some& some, std::size_t first, std::size_t last,
            std::span<Place> places) const {
    Bits bits;
    for (std::size_t i = first; i < last; ++i) {
      const std::uint32_t d = some.draws[i];
      if (i == first || d / 2 != some.draws[i - 1] / 2) bits = random_bits(draws_of(s), some.purpose, d / 2);
      places[i] = place(row.ends, unit(bits.at[d % 2]));
    }
  }
  // In the order of the blocks that they fall into.
  struct Sorted {
    std::vector<Place> places;
    std::vector<std::uint32_t> starts, order;
  };
  Sorted sorted(const Source& s, const Row& row, const Some& some, int threads) {
    const std::size_t size = some.draws.size();
    Sorted to{std::vector<Place>(size), std::vector<std::uint32_t>(blocks_ + 1), std::vector<std::uint32_t>(size)};
    if (threads > 1 && size > handful)
      spread_runs(size, handful, threads,
                  [&](std::size_t first, std::size_t last, Scratch&) { fall(s, row, some, first, last, to.places); });
    else
      fall(s, row, some, 0, size, to.places);
    for (const Place& at : to.places) ++to.starts[at.part];
    std::exclusive_scan(to.starts.begin(), to.starts.end(), to.starts.begin(), std::uint32_t{0});
    for (std::size_t i = 0; i < size; ++i) to.order[to.starts[to.places[i].part]++] = static_cast<std::uint32_t>(i);
    return to;
  }
  void resolve_block(const Source& s, const Row& row, const Some& some, const Sorted& from, std::size_t block,
                     std::int64_t* ids, Scratch& scratch) const {
    const std::size_t end = from.starts[block];
    for (std::size_t first = block == 0 ? 0 : from.starts[block - 1]; first < end; first += handful) {
      Fallen fallen;
      fallen.count = std::min(handful, end - first);
      for (std::size_t i = 0; i < fallen.count; ++i) {
        const std::uint32_t at = from.order[first + i];
        fallen.draw[i] = some.draws[at], fallen.share[i] = from.places[at].share;
      }
      resolve(s, row, block, fallen, ids, scratch);
    }
  }
  void draw_some(const Source& s, const Row& row, const Some& some, std::int64_t* ids, int threads, Scratch& scratch) {
    if (row.listed()) {
      std::vector<Place> places(some.draws.size());
      fall(s, row, some, 0, places.size(), places);
      for (std::size_t i = 0; i < places.size(); ++i) ids[some.draws[i]] = row.kept.entries[places[i].part].index;
      return;
    }
    if (some.draws.size() == 1) {
      Place at;
      fall(s, row, some, 0, 1, {&at, 1});
      Fallen one;
      one.count = 1, one.draw[0] = some.draws[0], one.share[0] = at.share;
      return resolve(s, row, at.part, one, ids, scratch);
    }
    const Sorted from = sorted(s, row, some, threads);
    if (threads > 1 && interrupted_) return;
    if (threads == 1) {
      for (std::size_t b = 0; b < blocks_; ++b) resolve_block(s, row, some, from, b, ids, scratch);
    } else {
      spread(blocks_, std::max<std::size_t>(1, blocks_ / 16), threads,
             [&](std::size_t b, Scratch& own) { resolve_block(s, row, some, from, b, ids, own); });
    }
  }
  void draw(const Source& s, Row& row, std::int64_t* ids, int threads, Scratch& scratch) {
    draw_some(s, row, {all_draws_, Purpose::sample}, ids, threads, scratch);
    if (!row.pending || interrupted_) return;
    const bool one = sampling_.size == 1 && sampling_.log_prob == nullptr;
    if (one && keeps(s, row, ids[0], threads, scratch) == true) return;
    cut_row(s, row, threads, scratch);
    std::vector<std::uint32_t> lost;
    for (const std::uint32_t d : all_draws_)
      if (!row.kept.cut.keeps(logit(s, ids[d]), ids[d])) lost.push_back(d);
    if (!lost.empty() && !interrupted_) draw_some(s, row, {lost, Purpose::again}, ids, threads, scratch);
  }

  // Without replacement: the largest of (z - max) / T + Gumbel noise.  Noise g > `least` has E = e^-g < e^-least, and
  // its bits are no more than 2^64 E: others are not looked at.
  struct Noise {
    std::uint32_t at[block_length(DType::float32)];
    std::uint64_t bits[block_length(DType::float32)];
    double g[block_length(DType::float32)];
  };
  std::uint64_t most_bits(double least) const {
    if (!(least > 0x1p-30)) return ~std::uint64_t{0};
    return static_cast<std::uint64_t>(math().exp_difference(-least) * (0x1p64 * (1 + 0x1p-40))) + 1;
  }
  void offer(const Source& s, const Row& row, std::size_t block, Top& top, Noise& noise, Scratch& scratch) const {
    const Partial& part = row.parts[block];
    if (part.max == -infinity) return;
    const double least = top.least(DType::float64, false) - gap(row, part.max);
    if (least > most_noise) return;
    const std::size_t start = block * block_,
                      count = all_.noise(draws_of(s), start, length(block), most_bits(least), noise.at, noise.bits);
    if (count == 0) return;
    all_.gumbel(noise.bits, count, noise.g);
    stage(s, block, 0, scratch.in);
    for (std::size_t i = 0; i < count; ++i) {
      const double z = load_number(scratch.in + noise.at[i] * compute_size(dtype_), reduced(dtype_));
      const auto index = static_cast<std::int64_t>(start + noise.at[i]);
      if (z > -infinity && (!row.cut() || row.kept.cut.keeps(z, index))) top.offer({gap(row, z) + noise.g[i], index});
    }
  }
  void offer_list(const Source& s, const Row& row, Top& top) const {
    const auto& entries = row.kept.entries;
    std::vector<std::uint64_t> bits(entries.size());
    std::vector<double> g(entries.size());
    for (std::size_t i = 0; i < entries.size(); ++i) {
      const std::int64_t index = entries[i].index;
      bits[i] = random_bits(draws_of(s), Purpose::noise, static_cast<std::uint32_t>(index / 2)).at[index % 2];
    }
    all_.gumbel(bits.data(), bits.size(), g.data());
    for (std::size_t i = 0; i < entries.size(); ++i) top.offer({gap(row, entries[i].value) + g[i], entries[i].index});
  }
  void draw_unique(const Source& s, const Row& row, std::int64_t* ids, int threads, Scratch& scratch) {
    Top top(sampling_.size);
    const auto look = [&](std::size_t first, std::size_t last, Top& best, Scratch& own) {
      const Lease<Noise> noise;
      for (std::size_t b = first; b < last; ++b) offer(s, row, b, best, *noise, own);
    };
    if (row.listed()) {
      offer_list(s, row, top);
    } else if (threads == 1) {
      look(0, blocks_, top, scratch);
    } else {
      each_run(threads, [&](std::size_t first, std::size_t last, Scratch& own) {
        Top best(sampling_.size);
        look(first, last, best, own);
        const std::lock_guard lock(top.mutex);
        for (const Entry& entry : best.sorted()) top.offer(entry);
      });
    }
    std::size_t found = 0;
    for (const Entry& entry : top.sorted()) ids[found++] = entry.index;
    std::fill(ids + found, ids + sampling_.size, -1);
  }

  void finish(const Source& s, Row& row, int threads, Scratch& scratch) {
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
    const auto of = [&](const auto* values, auto otherwise) { return values == nullptr ? otherwise : values[s.row]; };
    row.temperature = of(sampling_.temperature, 1.0);
    const Filters& f = sampling_.filters;
    row.filter = {of(f.top_k, std::int64_t{0}), of(f.top_p, 1.0), of(f.min_p, 0.0)};
    row.pending = sampling_.replace && row.filter.tries(static_cast<std::int64_t>(n_));
  }

  static constexpr double most_noise = 46;  // 65 log 2 and more
  const Sampling& sampling_;
  std::vector<std::uint32_t> all_draws_;
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
  const auto each = [&](std::size_t first, std::size_t last, int threads, Scratch& scratch) {
    Row row = empty_row();
    double max = NAN;
    for (std::size_t r = first; r < last && !interrupted_; ++r) {
      const Source s = source(r);
      begin(s, row);
      read(s, row, r + 1 < last, max, threads, scratch);
      if (threads == 1 || !interrupted_) finish(s, row, threads, scratch);
    }
  };
  if (plan.strategy == Strategy::split) {
    const KernelScope scope;
    const Lease<Scratch> lease;
    Scratch& scratch = *lease;
    each(0, rows, plan.threads, scratch);
  } else {
    spread_runs(rows, rows_a_task(), plan.threads,
                [&](std::size_t first, std::size_t last, Scratch& scratch) { each(first, last, 1, scratch); });
  }
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
