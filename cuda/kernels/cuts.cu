// SPDX-License-Identifier: Apache-2.0
// Where filters cut the order of a row, with the sets of the CPU, and what a cut leaves.  Tiles whose best logit is out
// of reach are not looked at.
#include "cuda/device/radix_select.hpp"
#include "cuda/kernels/select.hpp"

namespace vastmax::VM_ISA {

constexpr unsigned tile_threads = 128, map_threads = 256;

// fn(logit, index) for tile t of a row, by a warp; logits as given.
template <class T, class Fn>
VM_INLINE void each_logit(const CutOperands& a, std::int64_t row, std::int64_t t, const Fn& fn) {
  const Staged<T> x(a, row, true);
  const std::int64_t start = t * tile_length<T>,
                     end = start + tile_length<T> < a.shape.n ? start + tile_length<T> : a.shape.n;
  for (std::int64_t i = start + lane(); i < end; i += lanes_of_warp) fn(x(i).piece[0].v, i);
}

template <class F>
VM_INLINE std::uint64_t weight_of(const Weigh& weigh, F z) {
  using V = vec<double>;
  if (weigh.alike) return 1;
  const V gap = (splat<V>(static_cast<double>(z)) - splat<V>(weigh.max)) * splat<V>(weigh.rate);
  return static_cast<std::uint64_t>(static_cast<std::int64_t>(ScaledExp<V>(splat<V>(-62))(gap).piece[0].v + 0.5));
}

// A row to be cut: what of it can be kept so far, and what that weighs.
template <class F>
struct Cutting {
  double max, temperature;
  std::uint64_t highest;  // key
  bool possible;          // not without NaN and with a class

  VM_MEMBER Cutting(const CutOperands& a, std::int64_t row)
      : temperature(a.temperature == nullptr ? 1 : a.temperature[row]),
        highest(a.bests[a.shape.count * a.tiles + row].key),
        possible(!is_nan_key<F>(highest) && highest > key_of(-Number<F>::infinity)) {
    max = static_cast<double>(number_of<F>(highest));
  }
  VM_MEMBER std::int64_t count(const CutOperands& a, std::int64_t row) const {
    return temperature == 0 ? 1 : a.top_k == nullptr ? 0 : a.top_k[row];
  }
  VM_MEMBER bool by_mass(const CutOperands& a, std::int64_t row) const {
    return possible && a.top_p != nullptr && a.top_p[row] < 1 && count(a, row) != 1;
  }
  VM_MEMBER double least_possible() const {
    constexpr double most = sizeof(F) == 4 ? 0x1.fffffep127 : 0x1.fffffffffffffp1023;
    return max == infinity ? max : temperature == infinity ? -most : -infinity;
  }
  // The least number with e^((z - max) / temperature) >= min_p.
  VM_MEMBER double least_of(double min_p) const {
    if (max == infinity) return max;
    const double gap = temperature * signed_log(0, {{min_p, 0}, 0}, false, &RowMath<F>::log_pair).value;
    if (!(gap > -infinity)) return least_possible();
    const auto reaches = [&](std::uint64_t key) { return static_cast<double>(number_of<F>(key)) - max >= gap; };
    const std::uint64_t key = first_that(reaches, key_of(-Number<F>::infinity), highest);
    return static_cast<double>(number_of<F>(key));
  }
};

// The last class, within a cut, that is needed for what is wanted of the weights; by a block.
template <class T>
class Border {
  using F = compute_t<T>;

 public:
  VM_MEMBER Border(const CutOperands& a, std::int64_t row, const Cut& within, const Weigh& weigh, RadixScratch& scratch)
      : a_(a),
        row_(row),
        lowest_(key_of(static_cast<F>(within.least))),
        last_(within.last),
        weigh_(weigh),
        scratch_(scratch) {}

  VM_MEMBER Cut find(std::uint64_t first, std::uint64_t highest, Mass wanted) {
    std::uint64_t count = 0;
    Range keys = radix_select({lowest_, first > lowest_ ? first : lowest_, highest, wanted}, scratch_, count,
                              [&](std::uint64_t low, const auto& fn) {
                                each(low, [&](std::uint64_t key, std::int64_t, F z) { fn(key, weight_of(weigh_, z)); });
                              });
    // Many of one key: the last of them by its index.
    const auto end = static_cast<std::uint64_t>(a_.shape.n - 1);
    Range places{0, 0, end, keys.left};
    if (count > most_listed)
      places = radix_select(places, scratch_, count, [&](std::uint64_t, const auto& fn) {
        each(keys.low, [&](std::uint64_t key, std::int64_t i, F z) {
          if (key == keys.low) fn(end - static_cast<std::uint64_t>(i), weight_of(weigh_, z));
        });
      });
    if (count > most_listed)
      return {static_cast<double>(number_of<F>(keys.low)), static_cast<std::int64_t>(end - places.low)};
    const unsigned listed = filled(scratch_.tally, [&] {
      each(keys.low, [&](std::uint64_t key, std::int64_t i, F) {
        const std::uint64_t place = end - static_cast<std::uint64_t>(i);
        if (key <= keys.high && place >= places.low && place <= places.high)
          scratch_.entries[claim(scratch_.tally.filled)] = {key, i};
      });
    });
    return last_of_list(listed, places.left);
  }

 private:
  // fn(key, index, logit) for what is within the cut, from a key on
  template <class Fn>
  VM_MEMBER void each(std::uint64_t low, const Fn& fn) const {
    const Entry* const of_tile = a_.bests + row_ * a_.tiles;
    for (std::int64_t t = thread() / lanes_of_warp; t < a_.tiles; t += threads() / lanes_of_warp)
      if (of_tile[t].key >= low)
        each_logit<T>(a_, row_, t, [&](F z, std::int64_t i) {
          const std::uint64_t key = key_of(z);
          if (key >= low && (key != lowest_ || i <= last_)) fn(key, i, z);
        });
  }
  VM_MEMBER Cut last_of_list(unsigned listed, Mass left) {
    sort(scratch_.entries, listed);
    for (unsigned i = thread(); i < listed; i += threads())
      scratch_.weights[i] = weight_of(weigh_, number_of<F>(scratch_.entries[i].key));
    sync_block();
    unsigned last = 0;
    for (; last + 1 < listed && scratch_.weights[last] < left; ++last) left -= scratch_.weights[last];
    const Entry found = scratch_.entries[last];
    sync_block();
    return {static_cast<double>(number_of<F>(found.key)), found.index};
  }

  const CutOperands& a_;
  std::int64_t row_;
  std::uint64_t lowest_;
  std::int64_t last_;
  Weigh weigh_;
  RadixScratch& scratch_;
};

template <class T>
VM_KERNEL(virtual_threads, 1)
count_kernel(VM_PARAMETER CutOperands a) {
  using F = compute_t<T>;
  auto& scratch = *reinterpret_cast<RadixScratch*>(shared_memory());
  for (std::int64_t row = block(); row < a.shape.count; row += blocks()) {
    const Cutting<F> cutting(a, row);
    const std::int64_t k = cutting.count(a, row);
    Cut cut;
    if (cutting.possible && k == 1) {
      const Entry& best = a.bests[a.shape.count * a.tiles + row];
      cut = {cutting.max, best.index};
    } else if (cutting.possible && k > 0 && k < a.shape.n) {
      const Entry* const of_tile = a.bests + row * a.tiles;
      Entry edge;  // k are not below it
      if (a.tiles > k)
        edge = edge_between(edge, cutting.highest, a.shape.n, k, 2 * k, [&](const Entry& at) {
          std::int64_t count = 0;
          for (std::int64_t t = thread(); t < a.tiles; t += threads()) count += of_tile[t].reaches(at);
          return total(count, scratch.tally);
        });
      cut = Border<T>(a, row, {}, {}, scratch).find(edge.key, cutting.highest, static_cast<Mass>(k));
    }
    if (thread() == 0) a.cuts[row] = cut;
  }
}

template <class T>
VM_KERNEL(tile_threads, 4)
masses_kernel(VM_PARAMETER CutOperands a) {
  using F = compute_t<T>;
  for (std::int64_t t = global_warp(); t < a.shape.count * a.tiles; t += global_warps()) {
    const std::int64_t row = t / a.tiles;
    const Cutting<F> cutting(a, row);
    if (!cutting.by_mass(a, row)) continue;
    const Cut within = Cut::tighter(a.cuts[row], {cutting.least_possible()});
    const Weigh weigh = weigh_of(cutting.max, cutting.temperature);
    Mass sum = 0;
    if (a.bests[t].key >= key_of(static_cast<F>(within.least)))
      each_logit<T>(a, row, t % a.tiles, [&](F z, std::int64_t i) {
        if (within.keeps(static_cast<double>(z), i)) sum += weight_of(weigh, z);
      });
    for (unsigned mask = lanes_of_warp / 2; mask > 0; mask /= 2) sum += shuffle_mass(sum, mask);
    if (lane() == 0) a.masses[t] = sum;
  }
}

// Below this even all classes together are too little to matter for a share of p.
template <class F>
VM_INLINE std::uint64_t first_of_share(const Cutting<F>& cutting, const Weigh& weigh, double p, Mass total,
                                       std::int64_t n) {
  if (weigh.alike) return 0;
  const double share = (1 - p) * (static_cast<double>(total) * 0x1p-62) / static_cast<double>(n);
  return key_of(static_cast<F>(cutting.max + cutting.temperature * (RowMath<F>::log(share) - 0x1p-20)));
}

template <class T>
VM_KERNEL(virtual_threads, 1)
share_kernel(VM_PARAMETER CutOperands a) {
  using F = compute_t<T>;
  auto& scratch = *reinterpret_cast<RadixScratch*>(shared_memory());
  for (std::int64_t row = block(); row < a.shape.count; row += blocks()) {
    const Cutting<F> cutting(a, row);
    Cut cut = a.cuts[row];
    if (cutting.by_mass(a, row)) {
      const Weigh weigh = weigh_of(cutting.max, cutting.temperature);
      Mass own = 0;
      for (std::int64_t t = thread(); t < a.tiles; t += threads()) own += a.masses[row * a.tiles + t];
      const Mass total = total_mass(own, scratch);
      const std::uint64_t first = first_of_share(cutting, weigh, a.top_p[row], total, a.shape.n);
      cut = Border<T>(a, row, Cut::tighter(cut, {cutting.least_possible()}), weigh, scratch)
                .find(first, cutting.highest, Wanted{0, a.top_p[row]}.of(total));
    }
    if (cutting.possible && a.min_p != nullptr && a.min_p[row] > 0)
      cut = Cut::tighter(cut, {cutting.least_of(a.min_p[row])});
    if (thread() == 0) a.cuts[row] = cut;
    sync_block();
  }
}

// z from a limit on, or beyond it; NaN stays.
template <class V>
struct Keep {
  V least;
  bool ties;
  VM_MEMBER V operator()(V z) const {
    const V none = splat<V>(-Number<typename V::scalar>::infinity);
    return ties ? select(z < least, none, z) : select(least < z, z, none);
  }
};

template <class T, bool plain>
VM_KERNEL(map_threads, 3)
map_kernel(VM_PARAMETER CutOperands a, std::int64_t pieces, std::int64_t length) {
  using V = vec<compute_t<T>>;
  constexpr auto item = static_cast<std::int64_t>(sizeof(T));
  for (std::int64_t p = block(); p < a.shape.count * pieces; p += blocks()) {
    const std::int64_t row = p / pieces, begin = p % pieces * length;
    const std::int64_t left = a.shape.n - begin, n = left < length ? left : length;
    const Cut cut = a.cuts[row];
    const std::int64_t to = cut.last < begin ? 0 : cut.last - begin,
                       ties = to < n ? (cut.last < begin ? 0 : to + 1) : n;
    const V least = splat<V>(static_cast<compute_t<T>>(cut.least));
    const OutBytes y = a.shape.row(a.out, row);
    if constexpr (plain) {
      const Bytes x = a.shape.row(a.x, row) + begin * item;
      map_dense<T>(y + begin * item, ties, thread(), threads(), Keep<V>{least, true}, x);
      map_dense<T>(y + (begin + ties) * item, n - ties, thread(), threads(), Keep<V>{least, false}, x + ties * item);
    } else {
      const Staged<T> x(a, row, true);
      for (std::int64_t i = begin + thread(); i < begin + n; i += threads())
        store_one<T>(y + i * a.out.step, rounded<T>(Keep<V>{least, i < begin + ties}(x(i))));
    }
  }
}

void cut_rows(DType dtype, const CutOperands& a, const Stream& stream) {
  const Grid by_row = grid_for(a.shape.count, 1, virtual_threads, stream, sizeof(RadixScratch)),
             by_tile = grid_for(a.shape.count * a.tiles, tile_threads / lanes_of_warp, tile_threads, stream);
  with_dtype(dtype, [&]<class T>(T) {
    launch(count_kernel<T>, by_row, stream, a);
    if (a.top_p != nullptr) launch(masses_kernel<T>, by_tile, stream, a);
    if (a.top_p != nullptr || a.min_p != nullptr) launch(share_kernel<T>, by_row, stream, a);
  });
}

void mask(DType dtype, bool plain, const CutOperands& a, const Stream& stream) {
  constexpr std::int64_t length = 8192;
  const std::int64_t pieces = (a.shape.n + length - 1) / length;
  const Grid grid = grid_for(a.shape.count * pieces, 1, map_threads, stream);
  with_dtype(dtype, [&]<class T>(T) {
    plain ? launch(map_kernel<T, true>, grid, stream, a, pieces, length)
          : launch(map_kernel<T, false>, grid, stream, a, pieces, length);
  });
}

}  // namespace vastmax::VM_ISA
