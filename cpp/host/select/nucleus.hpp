// SPDX-License-Identifier: Apache-2.0
// The nucleus of a row: the smallest start of its order with a share p of the mass.
//
// No class of less than (1 - p) / n of the mass is needed, so where few have more, these are listed and searched.  Else
// a sample says about where the border lies; one pass in float64 sums what is above that bracket and lists what is in
// it.  Sums have bounds: what they leave open, sums of integers settle; what a sample misses, radix select of the row.
#pragma once

#include <atomic>
#include <map>
#include <numeric>
#include <optional>

#include "cpp/host/draw/mass_sample.hpp"
#include "cpp/host/select/list_search.hpp"

namespace vastmax {

class Nucleus : protected ListSearch {
 public:
  using ListSearch::ListSearch;

 protected:
  // What a normaliser of float32 terms may be off by: 1.2 ULP of each, and what a division by a temperature rounds.
  static double total_error(const Weigh& weigh) { return weigh.rate == 1 ? 0x1p-21 : 0x1p-18; }

  // 0 < p < 1.  `total`: sum e^((z - max) rate) within that, or 0.  `largest`: of each block.  Few classes are listed;
  // of many, the masses of the blocks are left where they are known.
  void nucleus(const Source& s, double p, const Weigh& weigh, double total, std::span<const double> largest,
               int threads, Kept& kept, Scratch& scratch) {
    const Row row{s, p, weigh, largest, threads, kept, scratch};
    std::optional<Cut> cut;
    if (!weigh.alike) cut = dtype_ == DType::float64 ? quick<double>(row, total) : quick<float>(row, total);
    kept.cut = cut ? *cut : border(s, {}, weigh.max, weigh, {0, p}, threads, scratch).cut;
  }

  bool is_short() const { return n_ <= 2 * block_; }

 private:
  struct Row {
    const Source& s;
    double p;
    const Weigh& weigh;
    std::span<const double> largest;
    int threads;
    Kept& kept;
    Scratch& scratch;
    template <class F>
    ClassList<F>& list() const {
      ClassList<F>& list = std::get<ClassList<F>>(kept.room);
      return list.resize(0), list;
    }
  };
  // What sums of blocks may be off by.
  double sums_error(const Row& row) const {
    return dtype_ == DType::float64 ? 0x1p-42 : 0x1p-33 + 0x1p-52 * std::abs(row.weigh.max * row.weigh.rate);
  }

  template <class F>
  std::optional<Cut> quick(const Row& row, double given) {
    if (is_short()) return in_row<F>(row);
    const Total total = given > 0 ? Total{given * 0x1p62, total_error(row.weigh)} : Total{sums(row), sums_error(row)};
    const Range all{least_needed(row, total, 1), INFINITY}, likely{least_needed(row, total, 16), INFINITY};
    if (share_from(row, likely.least) <= 0.0625)
      if (const auto cut = in_start<F>(row, likely, total)) return cut;
    const Guess guess = sampled<F>(row, all.least);
    if (guess.heads <= 0.0625)
      if (const auto cut = in_start<F>(row, guess.start, total)) return cut;
    if (const auto cut = guess.tied ? in_ties<F>(row, guess.border) : in_bracket<F>(row, guess.bracket)) return cut;
    return in_start<F>(row, all, total);
  }

  // All of a short row in one list.
  template <class F>
  std::optional<Cut> in_row(const Row& row) {
    ClassList<F>& list = row.template list<F>();
    list.resize(n_);
    for (std::size_t b = 0; b < blocks_; ++b)
      std::memcpy(&list.number[b * block_], numbers(row.s, b * block_, length(b), row.scratch), length(b) * sizeof(F));
    std::iota(list.index.data(), list.index.data() + n_, 0);
    weigh(row.weigh, list);
    const Total total{mass_from(list, std::numeric_limits<double>::lowest()).mass, list_error};
    const Reached found = reached({row.weigh, row.p}, list, {least_needed(row, total, 1), INFINITY}, 0, total);
    if (found.certain) sum_kept(list, found.at, {}, row.kept);
    return settled(row, found);
  }

  template <class F>
  std::optional<Cut> in_start(const Row& row, const Range& range, const Total& total) {
    ClassList<F>& list = row.template list<F>();
    if (!listed(row, range, n_ / 2, list, nullptr)) return std::nullopt;
    weigh(row.weigh, list);
    Reached found = reached({row.weigh, row.p}, list, range, 0, total);
    if (!found.certain && found.possible && total.error > sums_error(row))
      found = reached({row.weigh, row.p}, list, range, 0, {sums(row), sums_error(row)});
    if (found.certain && list.size() <= 2 * most_few) offer(list, found.at, row.kept);
    if (found.certain && !row.kept.listed) sum_kept(list, found.at, {}, row.kept);
    return settled(row, found);
  }
  template <class F>
  std::optional<Cut> in_bracket(const Row& row, const Range& range) {
    ClassList<F>& list = row.template list<F>();
    std::vector<MassSums> of(blocks_);
    if (!listed(row, range, n_ / 4, list, of.data())) return std::nullopt;
    weigh(row.weigh, list);
    const MassSums exact = sum_of(of);
    const Reached found = reached({row.weigh, row.p}, list, range, exact.above, {exact.all, sums_error(row)});
    if (found.certain) sum_kept(list, found.at, of, row.kept);
    return settled(row, found);
  }

  template <class F>
  static void offer(const ClassList<F>& list, const Cut& cut, Kept& kept) {
    kept.entries.resize(list.size());
    std::size_t count = 0;
    for (std::size_t i = 0; i < list.size(); ++i) {  // without a branch
      const Entry e = list.entry(i);
      kept.entries[count] = e;
      count += cut.keeps(e.value, e.index);
    }
    kept.entries.resize(count);
    kept.listed = kept.entries.size() <= most_few;
    if (!kept.listed) kept.entries.clear();
  }
  // The masses of what a cut keeps of each block: of what is above the list, if anything is, and of the list.
  template <class F>
  void sum_kept(const ClassList<F>& list, const Cut& cut, std::span<const MassSums> of, Kept& kept) const {
    kept.sums.assign(blocks_, 0);
    for (std::size_t b = 0; b < of.size(); ++b) kept.sums[b] = of[b].above;
    const double above = Top::next_above(dtype_, cut.least);
    const std::size_t ties = list.from(cut.last + 1);
    std::size_t at = 0;
    for (std::size_t b = 0; b < blocks_; ++b) {
      const std::size_t end = list.from(static_cast<std::int64_t>((b + 1) * block_)),
                        middle = std::clamp(ties, at, end);
      kept.sums[b] += mass_from(list, at, middle, cut.least).mass + mass_from(list, middle, end, above).mass;
      at = end;
    }
  }

  // The border, if it lies among logits that equal one number.
  template <class F>
  std::optional<Cut> in_ties(const Row& row, double value) {
    const double next = Top::next_above(dtype_, value);
    const MassSums exact = sum_of(block_sums(row, next));
    const double each = static_cast<double>(weight_of(row, value)), left = row.p * exact.all - exact.above,
                 off = exact.all * sums_error(row), rank = std::max(1.0, std::ceil(left / each));
    if (!(left > 0 && each > 0)) return std::nullopt;
    if (!(rank * each - left >= off && left - (rank - 1) * each > off)) return settled_by_integers(row, {value, next});
    return tie(row, value, static_cast<Mass>(rank));
  }
  // The class that is the rank-th of those that equal a number.
  std::optional<Cut> tie(const Row& row, double value, Mass rank) const {
    const double next = Top::next_above(dtype_, value);
    for (std::size_t b = 0; b < blocks_ && !stopped(); ++b) {
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

  std::optional<Cut> settled(const Row& row, const Reached& found) {
    if (found.certain) return found.at;
    return found.near.least < found.near.below ? settled_by_integers(row, found.near) : std::nullopt;
  }
  // The border, if it lies in a range that holds few numbers or one, by the integers that define it.
  std::optional<Cut> settled_by_integers(const Row& row, const Range& range) {
    std::vector<std::uint64_t> weight(block_);
    std::vector<Entry> entries;
    const bool one = Top::next_above(dtype_, range.least) >= range.below;
    Mass all = 0, above = 0;
    for (std::size_t b = 0; b < blocks_ && !stopped(); ++b) {
      const Bytes x = numbers(row.s, b * block_, length(b), row.scratch);
      weights(row.weigh, x, length(b), weight.data());
      for (std::size_t i = 0; i < length(b); ++i) {
        const double z = load_number(x + i * compute_size(dtype_), reduced(dtype_));
        all += weight[i], above += z >= range.below ? weight[i] : 0;
        if (!one && z >= range.least && z < range.below)
          entries.push_back({z, static_cast<std::int64_t>(b * block_ + i)});
      }
    }
    const Mass wanted = Wanted{0, row.p}.of(all);
    if (wanted <= above) return std::nullopt;
    if (one) {
      const Mass each = weight_of(row, range.least);
      return each == 0 ? std::nullopt : tie(row, range.least, (wanted - above + each - 1) / each);
    }
    std::ranges::sort(entries, precedes);
    Mass through = above;
    for (const Entry& e : entries)
      if ((through += weight_of(row, e.value)) >= wanted) return Cut{e.value, e.index};
    return std::nullopt;
  }
  std::uint64_t weight_of(const Row& row, double value) const {
    std::byte number[sizeof(double)];
    store_number(number, reduced(dtype_), value);
    std::uint64_t weight = 0;
    weights(row.weigh, number, 1, &weight);
    return weight;
  }

  // A little below max + log((1 - p) total / n) / rate.  What is left out there has far less than n times its largest
  // mass: so many `times` less, one may guess.
  double least_needed(const Row& row, const Total& total, double times) const {
    const double share = (1 - row.p) / static_cast<double>(n_) * times,
                 gap =
                     (all_.log(total.value * 0x1p-62) + all_.log(share) - 2 * total_error(row.weigh)) / row.weigh.rate,
                 max = row.weigh.max, least = max + gap - 0x1p-50 * (std::abs(max) - gap);
    return -Top::next_above(dtype_, dtype_ == DType::float64 ? -least : static_cast<float>(-least));
  }

  std::vector<MassSums> block_sums(const Row& row, double limit) {
    std::vector<MassSums> of(blocks_);
    each_part(row.threads, row.scratch, [&](std::size_t first, std::size_t last, Scratch& own) {
      for (std::size_t b = first; b < last; ++b) of[b] = sums_of_block(row, b, limit, own);
    });
    return of;
  }
  MassSums sums_of_block(const Row& row, std::size_t block, double limit, Scratch& scratch) const {
    const Piece x = piece(row.s, block * block_, length(block), scratch);
    return k_.mass_sums[x.staged](x.x, length(block), row.weigh.max, row.weigh.rate, limit);
  }
  static MassSums sum_of(std::span<const MassSums> of) {
    TwoSum all, above;
    for (const MassSums& each : of) all.add(each.all), above.add(each.above);
    return {all.value(), above.value()};
  }
  double sums(const Row& row) { return sum_of(block_sums(row, INFINITY)).all; }

  // Lists a range of numbers unless they are more than `most`; with the sums of blocks, from its upper end up, or
  // without.
  template <class F>
  bool listed(const Row& row, const Range& range, std::size_t most, ClassList<F>& list, MassSums* of) {
    std::map<std::size_t, ClassList<F>> parts;
    std::mutex mutex;
    std::atomic<std::size_t> count = 0;
    each_part(row.threads, row.scratch, [&](std::size_t first, std::size_t last, Scratch& own) {
      ClassList<F> piece;
      ClassList<F>& part = row.threads > 1 ? piece : list;
      for (std::size_t b = first; b < last && count <= most; ++b) {
        if (of != nullptr) of[b] = sums_of_block(row, b, range.below, own);
        if (row.largest[b] >= range.least) count += add_block(row, b, range, part, own);
      }
      if (row.threads == 1) return;
      const std::lock_guard lock(mutex);
      parts[first] = std::move(part);
    });
    if (count > most) return false;
    for (const auto& [first, part] : parts) list.add(part);
    return true;
  }
  template <class F>
  std::size_t add_block(const Row& row, std::size_t block, const Range& range, ClassList<F>& list,
                        Scratch& scratch) const {
    const std::size_t n = length(block), before = list.size();
    const auto first = static_cast<std::int64_t>(block * block_);
    const Bytes x = numbers(row.s, block * block_, n, scratch);
    Marks marks;
    const std::size_t count = range.below == INFINITY ? k_.mark_from[1](x, n, range.least, false, marks)
                                                      : k_.mark_between[1](x, n, range.least, range.below, marks);
    if (count == 0) return 0;
    std::uint16_t at[block_length(DType::float32) + 8];
    all_.places(marks, n, at);
    list.resize(before + count);
    for (std::size_t i = 0; i < count; ++i) {
      std::memcpy(&list.number[before + i], x + at[i] * sizeof(F), sizeof(F));
      list.index[before + i] = first + at[i];
    }
    return count;
  }

  // fn(numbers, n, scratch) for stretches all over the row, some n^(2/3) numbers or 64 of each block.
  template <class Fn>
  void each_sample(const Row& row, std::size_t a_block, const Fn& fn) const {
    const double wanted = std::cbrt(static_cast<double>(n_)) * std::cbrt(static_cast<double>(n_));
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

  // What a sample says: where the border lies but for bad luck, two and a half standard deviations about the share p of
  // its mass; a start of the order that should hold the nucleus, with its share of the classes; a number that should be
  // at the border, and whether many equal it.
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
                 width = std::max((row.weigh.max - low) / (MassSample::bins - 1), std::numeric_limits<double>::min());
    if (!(width < INFINITY)) return {{least, INFINITY}, {least, INFINITY}, 1, NAN, false};
    const double a_number = 1 / width;
    const auto bin_of = [&](F z) {  // without a branch
      return static_cast<std::size_t>(std::clamp((z - low) * a_number, 0.0, static_cast<double>(MassSample::bins - 1)));
    };
    MassSample sample;
    for (std::size_t i = 0; i < value.size(); ++i) sample.add(bin_of(value[i]), mass[i] * 0x1p-62);
    const MassSample::Bounds at = sample.around(row.p);
    const auto edge = [&](std::size_t bin) {
      if (bin == MassSample::bins) return static_cast<double>(INFINITY);
      return bin == 0 ? least : static_cast<double>(static_cast<F>(low + static_cast<double>(bin) * width));
    };
    Guess guess{{edge(at.low), edge(at.high)}, {edge(at.start), INFINITY}, sample.share_from(at.start), NAN, false};
    if (const std::size_t many = 16 + value.size() / 64;
        at.border < MassSample::bins && sample.bin[at.border].count > many) {
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
};

}  // namespace vastmax
