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

#include "core/row_order.hpp"

namespace vastmax {

__extension__ typedef unsigned __int128 Mass;

// Weights e^((z - max) rate) in units of 2^-62, or all alike.
struct Weigh {
  bool alike = true;
  double max = 0, rate = 0;
};

// What of the weights is wanted: so much, or such a share.
struct Wanted {
  Mass amount = 0;
  double share = 0;
  Mass of(Mass total) const {
    const Mass want = amount != 0 ? amount : static_cast<Mass>(std::ceil(share * static_cast<double>(total)));
    return std::clamp<Mass>(want, 1, std::max<Mass>(total, 1));
  }
};

// Keys of numbers, in their order: NaN last, zeros alike.
template <class F>
struct Ordinal {
  using Key = std::conditional_t<sizeof(F) == 4, std::uint32_t, std::uint64_t>;
  static constexpr Key sign = Key{1} << (8 * sizeof(Key) - 1), nan = ~Key{0};
  static Key of(F x) {
    const Key bits = std::bit_cast<Key>(x + F{0});
    return std::isnan(x) ? nan : bits & sign ? static_cast<Key>(~bits) : bits | sign;
  }
  static F number(Key key) { return std::bit_cast<F>(key & sign ? key ^ sign : static_cast<Key>(~key)); }
};

class RadixSelect : protected RowOrder {
 public:
  using RowOrder::RowOrder;

 protected:
  // The last of the classes within a cut that are needed for what is wanted of their weights; none weighs more than at
  // `most`.
  Cut border(const Source& s, const Cut& within, double most, const Weigh& weigh, const Wanted& wanted, int threads,
             Scratch& scratch);
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
  template <class F>
  class Search;
};

template <class F>
class RadixSelect::Search {
 public:
  Search(RadixSelect& run, const Source& s, const Cut& within, const Weigh& weigh)
      : run_(run), s_(s), within_(within), weigh_(weigh), low_(Keys::of(static_cast<F>(within.least))) {}

  Cut run(double most, const Wanted& wanted, int threads, Scratch& scratch) {
    high_ = Keys::of(static_cast<F>(most));
    Mass above = 0, target = 0;
    for (bool first = true;; first = false) {
      const auto bins = std::make_unique<Bins>();
      const int shift = std::max(0, static_cast<int>(std::bit_width(static_cast<Key>(high_ - low_))) - bin_bits);
      fill(*bins, shift, threads, scratch);
      if (first) target = wanted.of(bins->total());
      std::size_t bin = bin_count - 1;
      for (; bin > 0 && above + bins->mass[bin] < target; --bin) above += bins->mass[bin];
      low_ = static_cast<Key>(low_ + (static_cast<Key>(bin) << shift));
      high_ = static_cast<Key>(std::min<Key>(high_ - low_, ((Key{1} << shift) - 1)) + low_);
      if (low_ == high_ || bins->count[bin] <= most_listed) return settled(target - above, bins->count[bin], scratch);
    }
  }

 private:
  using Keys = Ordinal<F>;
  using Key = typename Keys::Key;
  static constexpr int bin_bits = 10;
  static constexpr std::size_t bin_count = std::size_t{1} << bin_bits, most_listed = 256;

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
  // The numbers of a block in the range, and where they are.
  struct Found {
    alignas(64) F number[block_length(DType::float32)];
    std::uint64_t weight[block_length(DType::float32)];
    std::uint32_t at[block_length(DType::float32)];
    std::size_t count;
  };

  void gather(std::size_t block, Found& found, Scratch& scratch) const {
    const std::size_t n = run_.length(block), first = block * run_.block_;
    const Bytes x = run_.numbers(s_, first, n, scratch);
    found.count = 0;
    const Key kept = Keys::of(static_cast<F>(within_.least));
    const auto offer = [&](std::size_t i) {
      F z;
      std::memcpy(&z, x + i * sizeof z, sizeof z);
      const Key key = Keys::of(z);
      const bool in =
          key >= low_ && key <= high_ && (key != kept || static_cast<std::int64_t>(first + i) <= within_.last);
      found.number[found.count] = z, found.at[found.count] = static_cast<std::uint32_t>(i);
      found.count += in;
    };
    if (low_ <= Keys::of(-std::numeric_limits<F>::infinity())) {
      for (std::size_t i = 0; i < n; ++i) offer(i);
    } else {
      Marks marks;
      run_.each_marked({x, true}, n, low_ == Keys::nan ? NAN : static_cast<double>(Keys::number(low_)), marks, offer);
    }
    run_.weights(weigh_, reinterpret_cast<Bytes>(found.number), found.count, found.weight);
  }

  void fill(Bins& bins, int shift, int threads, Scratch& scratch) {
    std::mutex mutex;
    run_.each_part(threads, scratch, [&](std::size_t first, std::size_t last, Scratch& own) {
      const auto found = std::make_unique_for_overwrite<Found>();
      const auto mine = threads > 1 ? std::make_unique<Bins>() : nullptr;
      Bins& to = mine ? *mine : bins;
      for (std::size_t b = first; b < last; ++b) {
        gather(b, *found, own);
        for (std::size_t i = 0; i < found->count; ++i) {
          const auto bin = static_cast<std::size_t>((Keys::of(found->number[i]) - low_) >> shift);
          to.mass[bin] += found->weight[i], ++to.count[bin];
        }
      }
      const std::lock_guard lock(mutex);
      if (mine) bins.add(to);
    });
  }

  // The class in the range at which the weights that are still wanted are reached.
  Cut settled(Mass wanted, std::uint64_t count, Scratch& scratch) const {
    const auto found = std::make_unique_for_overwrite<Found>();
    std::vector<Weighed> list;
    const bool alike = low_ == high_;
    for (std::size_t b = 0; b < run_.blocks_ && count > 0; ++b) {
      gather(b, *found, scratch);
      for (std::size_t i = 0; i < found->count; ++i, --count) {
        const Weighed w{{static_cast<double>(found->number[i]), index_of(b, found->at[i])}, found->weight[i]};
        if (!alike)
          list.push_back(w);
        else if (w.weight >= wanted || count == 1)
          return {w.entry.value, w.entry.index};
        else
          wanted -= w.weight;
      }
    }
    std::sort(list.begin(), list.end(), [](const Weighed& a, const Weighed& b) { return precedes(a.entry, b.entry); });
    for (const Weighed& w : list) {
      if (w.weight >= wanted || &w == &list.back()) return {w.entry.value, w.entry.index};
      wanted -= w.weight;
    }
    return within_;
  }
  struct Weighed {
    Entry entry;
    std::uint64_t weight;
  };
  std::int64_t index_of(std::size_t block, std::uint32_t at) const {
    return static_cast<std::int64_t>(block * run_.block_ + at);
  }

  RadixSelect& run_;
  const Source& s_;
  Cut within_;
  Weigh weigh_;
  Key low_, high_ = 0;
};

inline Cut RadixSelect::border(const Source& s, const Cut& within, double most, const Weigh& weigh,
                               const Wanted& wanted, int threads, Scratch& scratch) {
  return dtype_ == DType::float64 ? Search<double>(*this, s, within, weigh).run(most, wanted, threads, scratch)
                                  : Search<float>(*this, s, within, weigh).run(most, wanted, threads, scratch);
}

}  // namespace vastmax
