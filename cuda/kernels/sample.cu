// SPDX-License-Identifier: Apache-2.0
// Draws from the probabilities of a row by the inverse of their distribution function, classes in index order.  One
// read leaves the normalisers of tiles; a warp draws from their running sums, and then from the terms of one tile, made
// once more.
#include "cpp/math/random.hpp"
#include "cpp/ops/gumbel.hpp"
#include "cuda/kernels/sample.hpp"

namespace vastmax::VM_ISA {

constexpr unsigned tile_threads = 128, draw_threads = 128, noise_threads = 256;

VM_INLINE Draws draws_of(const SampleOperands& a, std::int64_t row) {
  return {a.draws.seed, a.draws.step, a.draws.row + static_cast<std::uint64_t>(row)};
}
VM_INLINE double uniform(const SampleOperands& a, std::int64_t row, std::int64_t draw, Purpose purpose) {
  const Bits bits = random_bits(draws_of(a, row), purpose, static_cast<std::uint32_t>(draw / 2));
  return unit(draw % 2 == 0 ? bits.at[0] : bits.at[1]);  // an index would put them into local memory
}

// (z - max) / T, 0 for any z where T is inf
VM_INLINE double gap(const DrawnRow& row, double z) {
  if (row.temperature == infinity) return z == -infinity ? z : 0;
  return (z - row.max) / row.temperature;
}

// (x - base) times `inverse`, where 0 and -inf stay what they are for any inverse from 0 to inf; by default x.
template <class V>
struct Temper {
  using F = typename V::scalar;
  V scale = splat<V>(1), from = splat<V>(0), times = splat<V>(1);
  VM_MEMBER Temper() {}
  VM_MEMBER Temper(double base, double inverse) {
    constexpr double most = sizeof(F) == 4 ? 0x1.fffffep127 : 0x1.fffffffffffffp1023,
                     vast = sizeof(F) == 4 ? 0x1p100 : 0x1p1000;
    const double part = base > vast ? 0.5 : 1, factor = inverse / part;  // differences of finite logits stay finite
    scale = splat<V>(static_cast<F>(part)), from = splat<V>(static_cast<F>(-base * part));
    times = splat<V>(factor > most ? Number<F>::infinity : static_cast<F>(factor));
  }
  VM_MEMBER V operator()(V x) const {
    const V none = splat<V>(-Number<F>::infinity), zero = splat<V>(0), away = fma(x, scale, from);
    return select(away == none, none, select(away == zero, zero, away * times));
  }
};

// A tile, cut and tempered.
template <class T, class Tile>
class Altered {
  using F = compute_t<T>;
  using V = vec<F>;

 public:
  VM_MEMBER Altered(const Tile& x, const SampleOperands& a, std::int64_t row, std::int64_t start) : x_(x) {
    const Cut cut = a.cuts == nullptr ? Cut{} : a.cuts[row];
    constexpr std::int64_t all = tile_length<T>;
    least_ = splat<V>(static_cast<F>(cut.least));
    ties_ = static_cast<int>(cut.last < start ? 0 : cut.last - start < all ? cut.last - start + 1 : all);
    const double temperature = a.temperature_of(row);
    V top = splat<V>(-Number<F>::infinity);
    VM_UNROLL(64)
    for (int j = 0; j < per_lane<T>; ++j) top = max(kept(j), top);
    max_ = static_cast<double>(warp_max(top).piece[0].v) + 0.0;
    tempered_ = temperature != 1 && temperature != 0 && max_ > -infinity && max_ < infinity;
    if (tempered_) temper_ = Temper<V>(max_, 1 / temperature);
  }
  VM_MEMBER V operator[](int j) const { return temper_(kept(j)); }
  // The normaliser of what this holds, with the largest logit.
  VM_MEMBER TilePart part(bool seen) const {
    TilePart part = norm_tile<T>(*this, seen);
    if (tempered_) part.max = max_;
    return part;
  }
  VM_MEMBER double base(const TilePart& part) const { return !tempered_ && shifted(part.max) ? part.max : 0; }

 private:
  VM_MEMBER V kept(int j) const {
    const V x = x_[j], none = splat<V>(-Number<F>::infinity);
    return place_in_tile<T>(j) < ties_ ? select(x < least_, none, x) : select(least_ < x, x, none);
  }
  const Tile& x_;
  V least_;
  int ties_;
  double max_;
  bool tempered_;
  Temper<V> temper_;
};
// A tile as it is.
template <class T, class Tile>
class Bare {
 public:
  VM_MEMBER Bare(const Tile& x, const SampleOperands&, std::int64_t, std::int64_t) : x_(x) {}
  VM_MEMBER auto operator[](int j) const { return x_[j]; }
  VM_MEMBER TilePart part(bool seen) const { return norm_tile<T>(x_, seen); }
  VM_MEMBER double base(const TilePart& part) const { return shifted(part.max) ? part.max : 0; }

 private:
  const Tile& x_;
};

// fn(tile, seen) with tile t of a row, by a warp.
template <class T, bool altered, bool plain, class Fn>
VM_INLINE void with_tile(const SampleOperands& a, std::int64_t row, std::int64_t t, const Fn& fn) {
  const std::int64_t start = t * tile_length<T>;
  const auto with = [&](const auto& x, bool seen) {
    using Tile = std::remove_cvref_t<decltype(x)>;
    using Made = std::conditional_t<altered, Altered<T, Tile>, Bare<T, Tile>>;
    fn(Made(x, a, row, start), seen);
  };
  if constexpr (plain) {
    with(PlainTile<T>(a.shape.row(a.x, row), a.shape.n, start, -Number<compute_t<T>>::infinity), true);
  } else {
    bool seen = false;
    const StagedTile<T> x(Staged<T>(a, row, true), a.shape.n, start, seen);
    with(x, any(seen));
  }
}

// Whether a tile holds anything that its row's cut leaves.
template <class F>
VM_INLINE bool in_reach(const SampleOperands& a, std::int64_t t) {
  return a.cuts == nullptr || a.bests[t].key >= key_of(static_cast<F>(a.cuts[t / a.tiles].least));
}

template <class T, bool altered, bool plain>
VM_KERNEL(tile_threads, sizeof(T) == 8 ? 2 : 3)
tiles_kernel(VM_PARAMETER SampleOperands a) {
  for (std::int64_t t = global_warp(); t < a.shape.count * a.tiles; t += global_warps()) {
    if (a.left_out(t / a.tiles)) continue;
    TilePart part{{-infinity, 0, 0, 0}, 1, 0};
    if (!altered || in_reach<compute_t<T>>(a, t))
      with_tile<T, altered, plain>(a, t / a.tiles, t % a.tiles, [&](const auto& x, bool seen) { part = x.part(seen); });
    if (lane() == 0) a.parts[t] = part;
  }
}

// Sums of the lanes up to this one, and of all.  Ascending where the terms are not negative.
struct Running {
  double up_to, all;
};
VM_INLINE Running running(double own) {
  Running sum{own, own};
  for (unsigned mask = 1; mask < lanes_of_warp; mask *= 2) {
    const double other = shuffle_xor(sum.all, mask);
    if ((lane() & mask) != 0) sum.up_to = other + sum.up_to;
    sum.all += other;
  }
  return sum;
}

// How the tiles of a row become one distribution function.
template <class F, bool by_block>
class Row {
  using Merging = Team<by_block>;

 public:
  VM_MEMBER Row(const SampleOperands& a, std::int64_t row)
      : tiles_(a.tiles),
        parts_(a.parts + row * a.tiles),
        best_(Merging::best(parts_, tiles_)),
        top_(parts_[best_.where]),
        out_{best_.max, a.temperature_of(row), 0, best_.where, false},
        tempered_(out_.temperature != 1 && out_.temperature != 0) {}

  VM_MEMBER void finish(double* ends, DrawnRow& to) {
    const TwoSum others = Merging::total(tiles_, [&](TwoSum& sum, std::int64_t t) {
      if (t == best_.where || parts_[t].sum == 0) return;
      const double unit = factor(parts_[t]);
      sum.add(parts_[t].sum * unit);
      sum.low += parts_[t].lost * unit;
    });
    run(ends);
    if (!Merging::first()) return;
    Norm norm = norm_of(best_, top_, others);
    if (tempered_ && best_.max > -infinity && best_.max < infinity) norm.max = 0;
    out_.log = log_over_max(RowMath<F>{}, norm, [rest = top_.rest] { return rest; });
    out_.valid = best_.max > -infinity && norm.sum() == norm.sum();
    to = out_;
  }

 private:
  VM_MEMBER double factor(const TilePart& part) const {
    if (part.max == -infinity || best_.max == infinity) return 0;
    return tempered_ ? RowMath<F>::exp_difference(gap(out_, part.max)) : ratio(RowMath<F>{}, part, top_);
  }
  // Of 32 tiles at a time, in index order.
  VM_MEMBER void run(double* ends) const {
    const unsigned warps = by_block ? threads() / lanes_of_warp : 1, warp = by_block ? thread() / lanes_of_warp : 0;
    double before = 0;
    for (std::int64_t base = 0; base < tiles_; base += warps * lanes_of_warp) {
      const std::int64_t t = base + warp * lanes_of_warp + lane();
      const Running sum = running(t < tiles_ ? (parts_[t].sum + parts_[t].lost) * factor(parts_[t]) : 0);
      if constexpr (by_block) {
        auto& of_warp = *reinterpret_cast<double (*)[slots]>(shared_memory());
        sync_block();
        if (lane() == 0) of_warp[warp] = sum.all;
        sync_block();
        double mine = before;
        for (unsigned w = 0; w < slots; ++w) {
          if (w == warp) mine = before;
          before += of_warp[w];
        }
        if (t < tiles_) ends[t] = mine + sum.up_to;
      } else {
        if (t < tiles_) ends[t] = before + sum.up_to;
        before += sum.all;
      }
    }
  }

  std::int64_t tiles_;
  const TilePart* parts_;
  Best best_;
  TilePart top_;
  DrawnRow out_;
  bool tempered_;
};

template <class F, bool by_block>
VM_KERNEL(virtual_threads, 1)
finish_kernel(VM_PARAMETER SampleOperands a) {
  Team<by_block>::each_row(a.shape.count, [&](std::int64_t row) {
    if (!a.left_out(row)) Row<F, by_block>(a, row).finish(a.ends + row * a.tiles, a.rows[row]);
  });
}

// Which tile a number in [0, 1) falls into, and how far.
struct Place {
  std::int64_t tile;
  double share;
};
VM_INLINE Place place(const double* ends, std::int64_t n, double share) {
  const double target = share * ends[n - 1];
  std::int64_t at = 0, beyond = n - 1;  // the first end beyond the target
  while (at < beyond) {
    const std::int64_t middle = at + (beyond - at) / 2;
    ends[middle] <= target ? at = middle + 1 : beyond = middle;
  }
  while (at > 0 && ends[at] == ends[at - 1]) --at;  // rounding led to the end
  const double before = at == 0 ? 0 : ends[at - 1], found = (target - before) / (ends[at] - before);
  return {at, found > 0 ? found : 0};
}

VM_INLINE int warp_min(int value) {
  for (unsigned mask = lanes_of_warp / 2; mask > 0; mask /= 2) {
    const int other = shuffle_xor(value, mask);
    value = other < value ? other : value;
  }
  return value;
}

// The first place in a tile at which the running sum of its terms is beyond a share of it all; never one without a
// term.
template <class T, class Tile>
VM_INLINE int find_share(const Tile& x, const TilePart& part, double share) {
  using V = vec<compute_t<T>>;
  constexpr int size = Group<T>::size, groups = per_lane<T> / size;
  const ScaledExp<V> exp(splat<V>(static_cast<compute_t<T>>(part.ref)));
  V base = splat<V>(static_cast<compute_t<T>>(x.base(part)));
  const auto term = [&](int j) { return static_cast<double>(exp(x[j] - base).piece[0].v); };
  double before[groups], all = 0;
  VM_UNROLL(16)
  for (int g = 0; g < groups; ++g) {
    double own = 0;
    VM_UNROLL(8)
    for (int e = 0; e < size; ++e) own += term(g * size + e);
    const Running sum = running(own);
    before[g] = all + (sum.up_to - own);
    all += sum.all;
  }
  renew(base.piece[0].v);  // the terms again: kept, they would take as many registers as the logits
  const double target = share * all;
  constexpr int none = 1 << 30;
  int first = none, last = -1;
  VM_UNROLL(16)
  for (int g = 0; g < groups; ++g) {
    double sum = before[g];
    VM_UNROLL(8)
    for (int e = 0; e < size; ++e) {
      const double own = term(g * size + e);
      sum += own;
      if (!(own > 0)) continue;
      const int at = place_in_tile<T>(g * size + e);
      if (sum > target && at < first) first = at;
      if (at > last) last = at;
    }
  }
  first = warp_min(first);
  return first != none ? first : -warp_min(-last);
}

template <class T, class Tile>
VM_INLINE int find_largest(const Tile& x, double largest) {
  const auto most = static_cast<compute_t<T>>(largest);
  int first = 1 << 30;
  VM_UNROLL(64)
  for (int j = 0; j < per_lane<T>; ++j)
    if (const int at = place_in_tile<T>(j); x[j].piece[0].v == most && at < first) first = at;
  return warp_min(first);
}

template <class T>
VM_INLINE double logit(const SampleOperands& a, std::int64_t row, std::int64_t id) {
  return static_cast<double>(Staged<T>(a, row, true).number_at(id).piece[0].v);
}

// By one thread: what is told of a draw.
template <class T>
VM_INLINE void put(const SampleOperands& a, std::int64_t d, std::int64_t id) {
  const std::int64_t r = d / a.size;
  const DrawnRow& row = a.rows[r];
  a.ids[d] = id;
  if (a.valid != nullptr) a.valid[d] = id >= 0;
  if (a.log_prob == nullptr) return;
  double log_prob = id < 0 ? __builtin_nan("") : 0;
  if (id >= 0 && !row.certain()) log_prob = gap(row, logit<T>(a, r, id)) - row.log;
  a.log_prob[d] = log_prob;
}

// A warp for each draw.
template <class T, bool altered, bool plain>
VM_KERNEL(draw_threads, 2)
draw_kernel(VM_PARAMETER SampleOperands a) {
  for (std::int64_t d = global_warp(); d < a.shape.count * a.size; d += global_warps()) {
    const std::int64_t r = d / a.size;
    if (a.left_out(r)) continue;
    const DrawnRow& row = a.rows[r];
    const bool tried = a.pass == Pass::second && row.valid && a.tries(r);
    std::int64_t id = tried ? a.ids[d] : -1;
    if (row.valid && !(tried && a.cuts[r].keeps(logit<T>(a, r, id), id))) {
      const Purpose purpose = tried ? Purpose::again : Purpose::sample;
      const Place at = row.certain() ? Place{row.where, 0}
                                     : place(a.ends + r * a.tiles, a.tiles, uniform(a, r, d % a.size, purpose));
      with_tile<T, altered, plain>(a, r, at.tile, [&](const auto& x, bool) {
        const TilePart& part = a.parts[r * a.tiles + at.tile];
        id =
            at.tile * tile_length<T> + (row.certain() ? find_largest<T>(x, row.max) : find_share<T>(x, part, at.share));
      });
    }
    if (lane() == 0) put<T>(a, d, id);
  }
}

// Without replacement: the largest of (z - max) / T + Gumbel noise, which each class has of its own.  Two classes share
// a block of random bits.
template <class T>
VM_KERNEL(noise_threads, 4)
noise_kernel(VM_PARAMETER SampleOperands a, std::int64_t first, std::int64_t count, double* keys) {
  using V = vec<double>;
  const std::int64_t n = a.shape.n, pairs = (n + 1) / 2;
  for (std::int64_t p = global_thread(); p < count * pairs; p += global_threads()) {
    const std::int64_t r = first + p / pairs, block = p % pairs;
    const DrawnRow& row = a.rows[r];
    const Cut cut = a.cuts == nullptr ? Cut{} : a.cuts[r];
    const Bits bits = random_bits(draws_of(a, r), Purpose::noise, static_cast<std::uint32_t>(block));
    const Staged<T> x(a, r, true);
    VM_UNROLL(2)
    for (int half = 0; half < 2; ++half) {
      const std::int64_t i = 2 * block + half;
      if (i >= n) continue;
      const auto z = static_cast<double>(x(i).piece[0].v);
      double key = -infinity;
      if (row.valid && row.certain()) {
        if (i == a.bests[a.shape.count * a.tiles + r].index) key = 0;
      } else if (row.valid && z > -infinity && cut.keeps(z, i)) {
        const Complement c(half == 0 ? bits.at[0] : bits.at[1]);
        key = gap(row, z) + Gumbel<V>()(splat<V>(c.sum), splat<V>(c.low)).piece[0].v;
      }
      keys[p / pairs * n + i] = key;
    }
  }
}

// Of the classes with the largest keys those that are possible.
template <class T>
VM_KERNEL(noise_threads, 4)
unique_kernel(VM_PARAMETER SampleOperands a, std::int64_t first, std::int64_t count, const double* keys) {
  for (std::int64_t d = global_thread(); d < count * a.size; d += global_threads()) {
    const std::int64_t at = first * a.size + d, id = a.ids[at];
    put<T>(a, at, keys[d / a.size * a.shape.n + id] > -infinity ? id : -1);
  }
}

template <class Fn>
static void with_kind(bool altered, bool plain, const Fn& fn) {
  altered ? (plain ? fn.template operator()<true, true>() : fn.template operator()<true, false>())
          : (plain ? fn.template operator()<false, true>() : fn.template operator()<false, false>());
}

void sample_rows(DType dtype, bool plain, const SampleOperands& a, const Stream& stream) {
  const Grid by_tile = grid_for(a.shape.count * a.tiles, tile_threads / lanes_of_warp, tile_threads, stream);
  with_dtype(dtype, [&]<class T>(T) {
    with_kind(a.altered(), plain,
              [&]<bool altered, bool dense>() { launch(tiles_kernel<T, altered, dense>, by_tile, stream, a); });
  });
  with_team(dtype, a.shape.count, a.tiles, stream, [&]<class F, bool by_block>(F, By<by_block>, const Grid& grid) {
    launch(finish_kernel<F, by_block>, grid, stream, a);
  });
}

void sample(DType dtype, bool plain, const SampleOperands& a, const Stream& stream) {
  const Grid grid = grid_for(a.shape.count * a.size, draw_threads / lanes_of_warp, draw_threads, stream);
  with_dtype(dtype, [&]<class T>(T) {
    with_kind(a.altered(), plain,
              [&]<bool altered, bool dense>() { launch(draw_kernel<T, altered, dense>, grid, stream, a); });
  });
}

void sample_noise(DType dtype, const SampleOperands& a, std::int64_t first, std::int64_t count, double* keys,
                  const Stream& stream) {
  const Grid grid = grid_for(count * ((a.shape.n + 1) / 2), noise_threads, noise_threads, stream);
  with_dtype(dtype, [&]<class T>(T) { launch(noise_kernel<T>, grid, stream, a, first, count, keys); });
}

void sample_unique(DType dtype, const SampleOperands& a, std::int64_t first, std::int64_t count, const double* keys,
                   const Stream& stream) {
  const Grid grid = grid_for(count * a.size, noise_threads, noise_threads, stream);
  with_dtype(dtype, [&]<class T>(T) { launch(unique_kernel<T>, grid, stream, a, first, count, keys); });
}

}  // namespace vastmax::VM_ISA
