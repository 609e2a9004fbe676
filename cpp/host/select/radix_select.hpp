// SPDX-License-Identifier: Apache-2.0
// Radix select: the class at which weights, added up along the order of a row, reach a share of their sum.
//
// Weights are integers, so that a sum has one value whoever adds it up.  Each pass divides a range of order-preserving
// keys into bins and goes on with the one in which the sum is reached: five passes of float32 at most, eleven of
// float64, whatever the logits.
#pragma once

#include <bit>
#include <mutex>
#include <type_traits>

#include "cpp/host/rows/row_order.hpp"
#include "cpp/math/mass.hpp"

namespace vastmax {

// The last class that is needed, how much of its weight is, and what all weigh.
struct Border {
  Cut cut;
  Mass needed = 0, weight = 0, total = 0;
};

// Keys of numbers, in their order: NaN last, zeros alike.
template <class F>
struct Ordinal {
  using Key = std::conditional_t<sizeof(F) == 4, std::uint32_t, std::uint64_t>;
  static constexpr Key sign = Key{1} << (8 * sizeof(Key) - 1), nan = ~Key{0};
  static Key of(F x) {
    const Key bits = std::bit_cast<Key>(x + F{0});
    const Key flipped = static_cast<Key>(Key{0} - (bits >> (8 * sizeof(Key) - 1))) | sign;  // signs come as they like
    return std::isnan(x) ? nan : bits ^ flipped;
  }
  static F number(Key key) { return std::bit_cast<F>(key & sign ? key ^ sign : static_cast<Key>(~key)); }
};

// Some numbers and where they are.
template <class F>
struct Found {
  static constexpr std::size_t most = block_length(sizeof(F) == 4 ? DType::float32 : DType::float64);
  alignas(64) F number[most];
  std::int64_t index[most];
  std::size_t count;
  void offer(F z, std::int64_t at, bool in) {  // without a branch
    number[count] = z, index[count] = at;
    count += in;
  }
};

// Numbers: blocks(), each_part(fn), gather(block, low, high, found, scratch) and weights(...), as below.
template <class F, class Numbers>
class Search {
 public:
  Search(const Numbers& numbers, const Weigh& weigh) : numbers_(numbers), weigh_(weigh) {}

  Border run(double least, double most, const Wanted& wanted) {
    low_ = Keys::of(static_cast<F>(least)), high_ = Keys::of(static_cast<F>(most));
    Mass left = 0;
    for (bool first = true;; first = false) {
      Bins bins;
      const int shift = std::max(0, static_cast<int>(std::bit_width(static_cast<Key>(high_ - low_))) - bin_bits);
      fill(bins, shift);
      if (first) left = wanted.of(total_ = bins.total());
      std::size_t bin = static_cast<std::size_t>((high_ - low_) >> shift);
      for (; bin > 0 && bins.mass[bin] < left; --bin) left -= bins.mass[bin];
      low_ = static_cast<Key>(low_ + (static_cast<Key>(bin) << shift));
      high_ = static_cast<Key>(low_ + std::min<Key>(high_ - low_, (Key{1} << shift) - 1));
      if (low_ == high_ || bins.count[bin] <= Numbers::most_sorted) return settled(left, bins.count[bin]);
    }
  }

 private:
  using Keys = Ordinal<F>;
  using Key = typename Keys::Key;
  static constexpr int bin_bits = 10;
  static constexpr std::size_t bin_count = std::size_t{1} << bin_bits;

  struct Bins {
    Mass mass[bin_count] = {};
    std::uint64_t count[bin_count] = {};
    Mass total() const {
      Mass sum = 0;
      for (const Mass m : mass) sum += m;
      return sum;
    }
    void add(const Bins& other) {
      for (std::size_t i = 0; i < bin_count; ++i) mass[i] += other.mass[i], count[i] += other.count[i];
    }
  };
  struct Weighed {
    Found<F> found;
    std::uint64_t weight[Found<F>::most];
  };

  void gather(std::size_t block, Weighed& to, Scratch& scratch) const {
    numbers_.gather(block, low_, high_, to.found, scratch);
    numbers_.weights(weigh_, reinterpret_cast<Bytes>(to.found.number), to.found.count, to.weight);
  }

  void fill(Bins& bins, int shift) const {
    std::mutex mutex;
    numbers_.each_part([&](std::size_t first, std::size_t last, Scratch& scratch) {
      const Lease<Weighed> lease;
      Weighed& some = *lease;
      const bool all = last - first == numbers_.blocks();
      const auto mine = all ? nullptr : std::make_unique<Bins>();
      Bins& to = all ? bins : *mine;
      for (std::size_t b = first; b < last; ++b) {
        gather(b, some, scratch);
        for (std::size_t i = 0; i < some.found.count; ++i) {
          const auto bin = static_cast<std::size_t>((Keys::of(some.found.number[i]) - low_) >> shift);
          to.mass[bin] += some.weight[i], ++to.count[bin];
        }
      }
      if (all) return;
      const std::lock_guard lock(mutex);
      bins.add(to);
    });
  }

  // The class in the range, of `count`, at which the weights that are still wanted are reached.
  Border settled(Mass left, std::uint64_t count) const {
    const Lease<Weighed> weighed;
    Weighed& some = *weighed;
    struct One {
      Entry entry;
      std::uint64_t weight;
    };
    std::vector<One> list;
    const Lease<Scratch> lease;
    Scratch& scratch = *lease;
    for (std::size_t b = 0; b < numbers_.blocks() && count > 0; ++b) {
      gather(b, some, scratch);
      for (std::size_t i = 0; i < some.found.count; ++i, --count) {
        const One one{{static_cast<double>(some.found.number[i]), some.found.index[i]}, some.weight[i]};
        if (low_ != high_)
          list.push_back(one);
        else if (one.weight >= left || count == 1)
          return {{one.entry.value, one.entry.index}, left, one.weight, total_};
        else
          left -= one.weight;
      }
    }
    std::sort(list.begin(), list.end(), [](const One& a, const One& b) { return precedes(a.entry, b.entry); });
    std::size_t last = 0;
    for (; last + 1 < list.size() && list[last].weight < left; ++last) left -= list[last].weight;
    if (list.empty()) return {};
    return {{list[last].entry.value, list[last].entry.index}, left, list[last].weight, total_};
  }

  Numbers numbers_;
  Weigh weigh_;
  Key low_ = 0, high_ = 0;
  Mass total_ = 0;
};

class RadixSelect : protected RowOrder {
 public:
  using RowOrder::RowOrder;

 protected:
  // The last of the classes within a cut that are needed for what is wanted of their weights; none weighs more than at
  // `most`.
  Border border(const Source& s, const Cut& within, double most, const Weigh& weigh, const Wanted& wanted, int threads,
                Scratch& scratch) {
    const auto search = [&]<class F>(F) {
      const OfRow<F> row{*this, s, within, threads, scratch};
      return Search<F, OfRow<F>>(row, weigh).run(within.least, most, wanted);
    };
    return dtype_ == DType::float64 ? search(0.0) : search(0.0f);
  }
  // Weights of n numbers of the compute type.
  void weights(const Weigh& weigh, Bytes numbers, std::size_t n, std::uint64_t* to) const {
    constexpr std::size_t some = 256;
    alignas(64) double mass[some];
    for (std::size_t i = 0; i < n; i += some) {
      const std::size_t left = std::min(some, n - i);
      if (!weigh.alike) k_.masses(numbers + i * compute_size(dtype_), left, weigh.max, weigh.rate, mass);
      for (std::size_t j = 0; j < left; ++j)
        to[i + j] = weigh.alike ? 1 : static_cast<std::uint64_t>(static_cast<std::int64_t>(mass[j] + 0.5));
    }
  }

 private:
  // What a search reads, block by block: a row, within a cut, or a list.
  template <class F>
  struct OfRow {
    using Key = typename Ordinal<F>::Key;
    static constexpr std::size_t most_sorted = 256;  // rather than read again
    RadixSelect& run;
    const Source& s;
    const Cut& within;
    int threads;
    Scratch& scratch;

    void weights(const Weigh& weigh, Bytes x, std::size_t n, std::uint64_t* to) const { run.weights(weigh, x, n, to); }
    std::size_t blocks() const { return run.blocks_; }
    template <class Fn>
    void each_part(const Fn& fn) const {
      run.each_part(threads, scratch, fn);
    }
    void gather(std::size_t block, Key low, Key high, Found<F>& found, Scratch& own) const {
      const std::size_t n = run.length(block), first = block * run.block_;
      const Bytes x = run.numbers(s, first, n, own);
      const Key ties = Ordinal<F>::of(static_cast<F>(within.least));
      const auto offer = [&](std::size_t i) {
        F z;
        std::memcpy(&z, x + i * sizeof z, sizeof z);
        const Key key = Ordinal<F>::of(z);
        const auto at = static_cast<std::int64_t>(first + i);
        found.offer(z, at, key >= low && key <= high && (key != ties || at <= within.last));
      };
      found.count = 0;
      if (run.stopped()) return;
      if (low <= Ordinal<F>::of(-std::numeric_limits<F>::infinity())) {
        for (std::size_t i = 0; i < n; ++i) offer(i);
      } else {
        Marks marks;
        run.each_marked({x, true}, n, static_cast<double>(Ordinal<F>::number(low)), marks, offer);
      }
    }
  };
};

}  // namespace vastmax
