// SPDX-License-Identifier: Apache-2.0
// What drawing from logits asks of a block: sums of its stretches along with its own, and where in a stretch a running
// sum passes a number; a temperature; noise.
#include "cpp/kernels/chunks.hpp"
#include "cpp/kernels/fill.hpp"
#include "cpp/kernels/norm_block.hpp"
#include "cpp/ops/gumbel.hpp"

namespace vastmax::VM_ISA {

// Sums of the terms of each stretch, lane by lane.
template <class V>
struct StretchSums {
  OutBytes lanes;
  std::size_t done = 0;
  V sum = splat<V>(0);

  VM_MEMBER explicit StretchSums(OutBytes to) : lanes(to) {}
  VM_MEMBER void begin(double) {}
  template <class W>
  VM_MEMBER void add(std::size_t i, std::size_t, W, W term) {
    if (i - done == stretch_length) put();
    VM_UNROLL(4)
    for (int j = 0; j < W::K / V::K; ++j) sum = sum + part<V>(term, j);
  }
  VM_MEMBER void put() {
    store(lanes + done / stretch_length * sizeof(V), sum, to_type<typename V::scalar>);
    sum = splat<V>(0), done += stretch_length;
  }
};

template <class In>
static void norm_stretches(Bytes x, std::size_t n, Bytes ahead, double& max, Partial& out, OutBytes lanes) {
  StretchSums<wide<compute_t<In>>> sums(lanes);
  normalise<In, Terms::exact>(x, n, ahead, max, out, sums);
  sums.put();
}

static constexpr std::size_t group = 16;

// Sixteen onto one, halves onto halves.
template <class F>
VM_INLINE double sum_of_group(const F* x) {
  double at[group / 2];
  for (std::size_t i = 0; i < group / 2; ++i) at[i] = static_cast<double>(x[i]) + static_cast<double>(x[i + 8]);
  for (std::size_t i = 0; i < 4; ++i) at[i] += at[i + 4];
  for (std::size_t i = 0; i < 2; ++i) at[i] += at[i + 2];
  return at[0] + at[1];
}

template <class F>
static double stretch_sum(Bytes lanes) {
  F x[group] = {};
  std::memcpy(x, lanes, 64);
  return sum_of_group(x);
}

// The terms of a stretch, and the running sum at the end of each group of them.
template <class F>
struct Running {
  alignas(64) F terms[stretch_length];
  double ends[stretch_length / group];
  std::size_t groups;

  template <class In>
  VM_MEMBER Running(Bytes x, std::size_t n, int ref, const In*) : groups((n + group - 1) / group) {
    using V = wide<F>;
    using B = Batch<V>;
    const F unit = static_cast<F>(ref);
    std::size_t i = 0;
    for (; i + B::lanes <= n; i += B::lanes)
      put(i, exp_terms<Terms::exact>(load<B>(x + i * sizeof(In), type<In>), splat<B>(unit)));
    for (; i < groups * group; i += V::lanes) {
      const std::size_t left = i >= n ? 0 : n - i < V::lanes ? n - i : std::size_t{V::lanes};
      put(i, exp_terms<Terms::exact>(load_first<V>(x + i * sizeof(In), left, -Number<F>::infinity, type<In>),
                                     splat<V>(unit)));
    }
    double sum = 0;
    for (std::size_t g = 0; g < groups; ++g) ends[g] = sum += sum_of_group(terms + g * group);
  }
  template <class W>
  VM_MEMBER void put(std::size_t i, W term) {
    store(reinterpret_cast<OutBytes>(terms + i), term, to_type<F>);
  }

  // The first class at which the running sum is beyond `share` of it all; never one without a term.
  VM_MEMBER std::size_t find(double share) const {
    const double target = share * ends[groups - 1];
    std::size_t g = 0;
    for (std::size_t i = 0; i < groups; ++i) g += ends[i] <= target;
    while (g == groups || (g > 0 && ends[g] == ends[g - 1])) --g;  // rounding led beyond the end
    const F* const at = terms + g * group;
    double sum = g == 0 ? 0 : ends[g - 1];
    std::size_t i = 0;
    for (std::size_t j = 0; j < group; ++j) sum += static_cast<double>(at[j]), i += sum <= target;
    while (i > 0 && (i == group || at[i] == 0)) --i;
    return g * group + i;
  }
};

template <class In>
static void find_shares(Bytes x, std::size_t n, int ref, const double* shares, std::size_t count, std::uint32_t* at) {
  const Running<compute_t<In>> sums(x, n, ref, type<In>);
  for (std::size_t i = 0; i < count; ++i) at[i] = static_cast<std::uint32_t>(sums.find(shares[i]));
}

template <class In>
static double block_max(Bytes x, std::size_t n) {
  return largest(max_lanes<In, wide<compute_t<In>>>(x, n));
}

// (x - base) times `inverse`, where 0 and -inf stay what they are for any inverse from 0 to inf.
template <class In>
static void temper(Bytes x, std::size_t n, double base, double inverse, OutBytes y) {
  using F = compute_t<In>;
  using V = wide<F>;
  constexpr double most = sizeof(F) == 4 ? 0x1.fffffep127 : 0x1.fffffffffffffp1023,
                   vast = sizeof(F) == 4 ? 0x1p100 : 0x1p1000;
  const double part = base > vast ? 0.5 : 1;  // differences of finite logits stay finite
  const double factor = inverse / part;
  const V scale = splat<V>(static_cast<F>(part)), from = splat<V>(static_cast<F>(-base * part)),
          times = splat<V>(factor > most ? Number<F>::infinity : static_cast<F>(factor)), zero = splat<V>(0),
          none = splat<V>(-Number<F>::infinity);
  for (std::size_t i = 0; i < n; i += V::lanes) {
    const std::size_t left = n - i < V::lanes ? n - i : std::size_t{V::lanes};
    const V v = load_up_to<V>(x + i * sizeof(In), left, 0, type<In>), gap = fma(v, scale, from);
    const V out = select(v == none, none, select(gap == zero, zero, gap * times));
    if (left == V::lanes)
      store(y + i * sizeof(F), out, to_type<F>);
    else
      store_first(y + i * sizeof(F), left, out, to_type<F>);
  }
}

static std::size_t noise(const Draws& draws, std::size_t first, std::size_t n, std::uint64_t most, std::uint32_t* at,
                         std::uint64_t* bits) {
  std::size_t found = 0;
  each_chunk(first, n, [&](std::size_t from, std::size_t count, std::size_t begin) {
    const Halves drawn(draws, Purpose::noise, from, count);
    for (std::size_t i = 0; i < count; ++i) {
      at[found] = static_cast<std::uint32_t>(begin + i), bits[found] = drawn[i];
      found += drawn[i] <= most;
    }
  });
  return found;
}

static void gumbel(const std::uint64_t* bits, std::size_t n, double* g) {
  each_chunk(0, n, [&](std::size_t, std::size_t count, std::size_t at) {
    alignas(64) double low[chunk];
    for (std::size_t i = 0; i < count; ++i) {  // 1 - v = g + low
      const Complement c(bits[at + i]);
      g[at + i] = c.sum, low[i] = c.low;
    }
    using V = vec<double>;
    map_inputs<double, V>(reinterpret_cast<OutBytes>(g + at), count, false, Gumbel<Batch<V>>(), Gumbel<V>(),
                          Input<double>{reinterpret_cast<Bytes>(g + at)}, Input<double>{reinterpret_cast<Bytes>(low)});
  });
}

template <class F>
static void add_gumbel(OutBytes staged, const std::uint64_t* bits, std::size_t n) {
  F* const z = reinterpret_cast<F*>(staged);
  each_chunk(0, n, [&](std::size_t, std::size_t count, std::size_t at) {
    alignas(64) double g[chunk];
    gumbel(bits + at, count, g);
    for (std::size_t i = 0; i < count; ++i) z[at + i] = static_cast<F>(static_cast<double>(z[at + i]) + g[i]);
  });
}

void fill_sample(Kernels& k) {
  k.noise = noise;
  k.gumbel = gumbel;
  each_dtype(k, []<class T>(DTypeKernels& to, T) {
    using F = compute_t<T>;
    to.norm_stretches[0] = norm_stretches<T>, to.norm_stretches[1] = norm_stretches<F>;
    to.stretch_sum = stretch_sum<F>;
    to.find_shares[0] = find_shares<T>, to.find_shares[1] = find_shares<F>;
    to.block_max[0] = block_max<T>, to.block_max[1] = block_max<F>;
    to.temper[0] = temper<T>, to.temper[1] = temper<F>;
    to.add_gumbel = add_gumbel<F>;
  });
}

}  // namespace vastmax::VM_ISA
