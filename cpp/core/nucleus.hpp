// SPDX-License-Identifier: Apache-2.0
// The nucleus of a row: the smallest start of its order with a share p of the mass.
//
// No class of less than (1 - p) / n of the mass is needed, so where few have more, these are listed and searched.  Else
// a sample says about where the border lies; one pass in float64 sums what is above that bracket and lists what is in
// it. What a sample misses, radix select of the row finds.
#pragma once

#include <atomic>
#include <map>
#include <optional>

#include "core/top_run.hpp"

namespace vastmax {

class Nucleus : protected TopRun {
 public:
  using TopRun::TopRun;

 protected:
  // What a normaliser of float32 terms may be off by.
  static constexpr double total_error = 0x1p-18;

  // 0 < p < 1.  `total`: sum e^((z - max) rate) within that, or 0.  `largest`: of each block.  Few classes are listed.
  void nucleus(const Source& s, double p, const Weigh& weigh, double total, std::span<const double> largest,
               int threads, Kept& kept, Scratch& scratch) {
    const Row row{s, p, weigh, largest, threads, kept, scratch};
    std::optional<Cut> cut;
    if (!weigh.alike) cut = dtype_ == DType::float64 ? quick<double>(row, total) : quick<float>(row, total);
    kept.cut = cut ? *cut : border(s, {}, weigh.max, weigh, {0, p}, threads, scratch).cut;
  }

 private:
  struct Row {
    const Source& s;
    double p;
    const Weigh& weigh;
    std::span<const double> largest;
    int threads;
    Kept& kept;
    Scratch& scratch;
  };
  struct Total {
    double value, error;  // relative
  };
  struct Range {
    double least, below;
  };

  static Mass mass(double units) { return static_cast<Mass>(units + 0.5); }

  bool small() const { return n_ <= 2 * block_; }

  template <class F>
  std::optional<Cut> quick(const Row& row, double given) {
    const Total total = given > 0 ? Total{given * 0x1p62, total_error} : Total{sums(row, INFINITY).all, 0};
    const Range all{least_needed(row, total, 1), INFINITY}, likely{least_needed(row, total, 16), INFINITY};
    if (small())
      if (const auto cut = in_start<F>(row, all, total)) return cut;
    if (share_from(row, likely.least) <= 0.0625)
      if (const auto cut = in_start<F>(row, likely, total)) return cut;
    const Guess guess = sampled<F>(row, all.least);
    if (guess.heads <= 0.25)
      if (const auto cut = in_start<F>(row, guess.start, total)) return cut;
    if (const auto cut = guess.tied ? in_ties<F>(row, guess.border) : in_bracket<F>(row, guess.bracket)) return cut;
    return in_start<F>(row, all, total);
  }

  template <class F>
  std::optional<Cut> in_start(const Row& row, const Range& range, const Total& total) {
    List<F> list;
    if (!listed(row, range, small() ? n_ : n_ / 2, list)) return std::nullopt;
    Reached found = reached(row, list, range, 0, total);
    if (!found.certain && found.possible && total.error > 0)
      found = reached(row, list, range, 0, {sums(row, INFINITY).all, 0});
    if (found.certain && list.size() <= 2 * most_few) offer(list, found.at, row.kept);
    return found.cut();
  }
  template <class F>
  static void offer(const List<F>& list, const Cut& cut, Kept& kept) {
    kept.entries.resize(list.size());
    std::size_t count = 0;
    for (std::size_t i = 0; i < list.size(); ++i) {  // without a branch
      const Entry e{static_cast<double>(list.number[i]), list.index[i]};
      kept.entries[count] = e;
      count += cut.keeps(e.value, e.index);
    }
    kept.entries.resize(count);
    kept.listed = kept.entries.size() <= most_few;
    if (!kept.listed) kept.entries.clear();
  }
  template <class F>
  std::optional<Cut> in_bracket(const Row& row, const Range& range) {
    List<F> list;
    if (!listed(row, range, n_ / 4, list)) return std::nullopt;
    const MassSums exact = sums(row, range.below);
    return reached(row, list, range, exact.above, {exact.all, 0}).cut();
  }

  // The border, if it lies among logits that equal one number.
  template <class F>
  std::optional<Cut> in_ties(const Row& row, double value) {
    const double next = Top::next_above(dtype_, value);
    const MassSums exact = sums(row, next);
    std::byte number[sizeof(double)];
    store_number(number, reduced(dtype_), value);
    std::uint64_t each = 0;
    weights(row.weigh, number, 1, &each);
    const double left = row.p * exact.all - exact.above;
    if (!(left > 0) || each == 0) return std::nullopt;
    Mass rank = std::max<Mass>(1, (mass(left) + each - 1) / each);
    for (std::size_t b = 0; b < blocks_; ++b) {
      if (row.largest[b] < value) continue;
      const Piece x = piece(row.s, b * block_, length(b), row.scratch);
      Marks marks;
      const std::size_t ties = k_.mark_between[x.staged](x.x, length(b), value, next, marks);
      if (rank <= ties)
        return Cut{value, static_cast<std::int64_t>(b * block_ + nth(marks, static_cast<std::size_t>(rank)))};
      rank -= ties;
    }
    return std::nullopt;
  }
  static std::size_t nth(Marks& marks, std::size_t rank) {
    std::size_t w = 0;
    for (; rank > static_cast<std::size_t>(std::popcount(marks[w])); ++w)
      rank -= static_cast<std::size_t>(std::popcount(marks[w]));
    for (; rank > 1; --rank) marks[w] &= marks[w] - 1;
    return w * 64 + static_cast<std::size_t>(std::countr_zero(marks[w]));
  }

  // The border, if it lies in a list of that range.
  struct Reached {
    bool possible = false, certain = false;
    Cut at;
    std::optional<Cut> cut() const { return certain ? std::optional(at) : std::nullopt; }
  };
  template <class F>
  Reached reached(const Row& row, const List<F>& list, const Range& range, double above, const Total& total) const {
    const double wanted = row.p * total.value - above, margin = total.value * total.error;
    if (list.size() == 0 || !(wanted + margin > 0)) return {};
    const Border b =
        border(list, range.least, std::min(range.below, row.weigh.max), row.weigh, mass(std::max(wanted, 1.0)));
    const Mass off = mass(margin);
    return {b.total + off >= mass(wanted),
            wanted > margin && b.total >= mass(wanted) + off && b.needed > off && b.weight - b.needed >= off, b.cut};
  }

  // A little below max + log((1 - p) total / n) / rate.  What is left out there has far less than n times its largest
  // mass: so many `times` less, one may guess.
  double least_needed(const Row& row, const Total& total, double times) const {
    const double share = (1 - row.p) / static_cast<double>(n_) * times,
                 gap = (all_.log(total.value * 0x1p-62) + all_.log(share) - 2 * total_error) / row.weigh.rate,
                 max = row.weigh.max, least = max + gap - 0x1p-50 * (std::abs(max) - gap);
    return -Top::next_above(dtype_, dtype_ == DType::float64 ? -least : static_cast<float>(-least));
  }

  MassSums sums(const Row& row, double limit) {
    std::vector<MassSums> of(blocks_);
    each_part(row.threads, row.scratch, [&](std::size_t first, std::size_t last, Scratch& own) {
      for (std::size_t b = first; b < last; ++b) {
        const Piece x = piece(row.s, b * block_, length(b), own);
        of[b] = k_.mass_sums[x.staged](x.x, length(b), row.weigh.max, row.weigh.rate, limit);
      }
    });
    TwoSum all, above;
    for (const MassSums& each : of) all.add(each.all), above.add(each.above);
    return {all.value(), above.value()};
  }

  // Lists a range of numbers unless they are more than `most`.
  template <class F>
  bool listed(const Row& row, const Range& range, std::size_t most, List<F>& list) {
    std::map<std::size_t, List<F>> parts;
    std::mutex mutex;
    std::atomic<std::size_t> count = 0;
    each_part(row.threads, row.scratch, [&](std::size_t first, std::size_t last, Scratch& own) {
      List<F> part;
      for (std::size_t b = first; b < last && count <= most; ++b)
        if (row.largest[b] >= range.least) count += list_block(row, b, range, part, own);
      const std::lock_guard lock(mutex);
      parts[first] = std::move(part);
    });
    if (count > most) return false;
    list.clear();
    for (auto& [first, part] : parts) {
      if (parts.size() == 1) return list = std::move(part), true;
      list.number.insert(list.number.end(), part.number.begin(), part.number.end());
      list.index.insert(list.index.end(), part.index.begin(), part.index.end());
    }
    return true;
  }
  template <class F>
  std::size_t list_block(const Row& row, std::size_t block, const Range& range, List<F>& list, Scratch& scratch) const {
    const std::size_t n = length(block), first = block * block_, before = list.size();
    const Bytes x = numbers(row.s, first, n, scratch);
    Marks marks;
    const std::size_t count = range.below == INFINITY ? k_.mark_from[1](x, n, range.least, false, marks)
                                                      : k_.mark_between[1](x, n, range.least, range.below, marks);
    list.number.resize(before + count), list.index.resize(before + count);
    std::size_t to = before;
    for (std::size_t w = 0; w < (n + 63) / 64; ++w)
      for (; marks[w] != 0; marks[w] &= marks[w] - 1, ++to) {
        const std::size_t i = w * 64 + static_cast<std::size_t>(std::countr_zero(marks[w]));
        std::memcpy(&list.number[to], x + i * sizeof(F), sizeof(F));
        list.index[to] = static_cast<std::int64_t>(first + i);
      }
    return count;
  }

  // fn(numbers, n, scratch) for stretches all over the row, some 3 n^(2/3) numbers or 64 of each block.
  template <class Fn>
  void each_sample(const Row& row, std::size_t a_block, const Fn& fn) const {
    const double wanted = 3.2 * std::cbrt(static_cast<double>(n_)) * std::cbrt(static_cast<double>(n_));
    const std::size_t step =
        std::max<std::size_t>(1, static_cast<std::size_t>(static_cast<double>(blocks_ * a_block * 64) / wanted));
    for (std::size_t b = 0; b < blocks_; b += step)
      for (std::size_t j = 0; j < a_block; ++j) {
        const std::size_t at = (block_ / 64 * j / a_block + b % 16) * 64, n = length(b);
        if (at >= n) continue;
        const std::size_t some = std::min<std::size_t>(64, n - at);
        fn(numbers(row.s, b * block_ + at, some, row.scratch), some);
      }
  }

  double share_from(const Row& row, double least) const {
    std::size_t count = 0, all = 0;
    each_sample(row, 1, [&](Bytes x, std::size_t n) { count += k_.count_from[1](x, n, least), all += n; });
    return static_cast<double>(count) / static_cast<double>(std::max<std::size_t>(all, 1));
  }

  // What a sample says: where the border lies but for bad luck, three standard deviations about the share p of its
  // mass; a start of the order that should hold the nucleus, with its share of the classes; a number that should be at
  // the border, and whether many equal it.
  struct Guess {
    Range bracket, start;
    double heads, border;
    bool tied;
  };
  template <class F>
  Guess sampled(const Row& row, double least) const {
    std::vector<F> value;
    std::vector<double> mass;
    each_sample(row, 4, [&](Bytes x, std::size_t n) {
      const std::size_t at = value.size();
      value.resize(at + n), mass.resize(at + n);
      std::memcpy(&value[at], x, n * sizeof(F));
      k_.masses(x, n, row.weigh.max, row.weigh.rate, &mass[at]);
    });
    const double low = std::max(least, smallest(value)),
                 width = std::max((row.weigh.max - low) / (bins - 1), std::numeric_limits<double>::min());
    if (!(width < INFINITY)) return {{least, INFINITY}, {least, INFINITY}, 1, NAN, false};
    const double a_number = 1 / width;
    const auto bin_of = [&](F z) {  // without a branch
      return static_cast<std::size_t>(std::clamp((z - low) * a_number, 0.0, static_cast<double>(bins - 1)));
    };
    Sample sample;
    for (std::size_t i = 0; i < value.size(); ++i) sample.add(bin_of(value[i]), mass[i] * 0x1p-62);
    const Sample::Bounds at = sample.around(row.p);
    const auto edge = [&](std::size_t bin) {
      if (bin == bins) return static_cast<double>(INFINITY);
      return bin == 0 ? least : static_cast<double>(static_cast<F>(low + static_cast<double>(bin) * width));
    };
    Guess guess{{edge(at.low), edge(at.high)}, {edge(at.start), INFINITY}, sample.share_from(at.start), NAN, false};
    if (const std::size_t many = 16 + value.size() / 64; at.border < bins && sample.bin[at.border].count > many) {
      const F border = *std::ranges::find(value, at.border, bin_of);
      guess.border = border, guess.tied = static_cast<std::size_t>(std::ranges::count(value, border)) > many;
    }
    return guess;
  }
  template <class F>
  static double smallest(const std::vector<F>& value) {
    F least[8];
    std::ranges::fill(least, std::numeric_limits<F>::infinity());
    for (std::size_t i = 0; i < value.size(); ++i) least[i % 8] = value[i] < least[i % 8] ? value[i] : least[i % 8];
    return *std::ranges::min_element(least);
  }

  static constexpr std::size_t bins = 1024;
  struct Sample {
    struct Bin {
      double mass = 0, square = 0;
      std::size_t count = 0;
    };
    std::vector<Bin> bin = std::vector<Bin>(bins);

    void add(std::size_t at, double mass) {
      Bin& to = bin[at];
      to.mass += mass, to.square += mass * mass, ++to.count;
    }
    double share_from(std::size_t first) const {
      std::size_t from = 0, all = 0;
      for (std::size_t i = 0; i < bins; ++i) all += bin[i].count, from += i >= first ? bin[i].count : 0;
      return static_cast<double>(from) / static_cast<double>(std::max<std::size_t>(all, 1));
    }
    // Bins between which the border lies, and from which on twice as many are as it should need.
    struct Bounds {
      std::size_t low, high, start, border;
    };
    Bounds around(double p) const {
      double total = 0, squares = 0, through = 0, above = 0, heads = 0;
      for (const Bin& each : bin) total += each.mass, squares += each.square;
      const auto spread = [&] {
        return 3 * std::sqrt((1 - p) * (1 - p) * above + p * p * std::max(0.0, squares - above));
      };
      std::size_t at = bins, high = bins, start = bins;
      const auto down = [&] {
        const Bin& next = bin[--at];
        through += next.mass, above += next.square, heads += static_cast<double>(next.count);
      };
      while (at > 0 && through + bin[at - 1].mass < p * total - spread()) down();
      high = at;
      while (at > 0 && through < p * total) down();
      const std::size_t border = at;
      start = at;
      for (double more = 0; start > 0 && more <= heads; more += static_cast<double>(bin[start].count)) --start;
      while (at > 0 && through < p * total + spread()) down();
      return {at, high, start, border};
    }
  };
};

}  // namespace vastmax
