// SPDX-License-Identifier: Apache-2.0
// The order of a row's logits: the largest of each stretch, masses in float64, and what a cut leaves.
#include <algorithm>
#include <limits>
#include <type_traits>

#include "cpp/kernels/fill.hpp"
#include "cpp/simd/rows.hpp"

namespace vastmax::VM_ISA {

// Along the way it adds everything up: NaN stays in a sum.
template <class V, class In>
VM_INLINE double largest_of(Bytes x, std::size_t n, V& sum) {
  using B = Batch<V>;
  using F = typename V::scalar;
  B max_of = splat<B>(-Number<F>::infinity), sums = splat<B>(0);
  std::size_t i = 0;
  for (; i + B::lanes <= n; i += B::lanes) {
    prefetch<B::lanes * sizeof(In)>(x + i * sizeof(In) + fetch_ahead);
    const B v = load<B>(x + i * sizeof(In), type<In>);
    max_of = max(v, max_of), sums = sums + v;
  }
  V top = part<V>(max_of, 0);
  VM_UNROLL(4)
  for (int j = 0; j < B::K / V::K; ++j) top = max(part<V>(max_of, j), top), sum = sum + part<V>(sums, j);
  for (; i < n; i += V::lanes) {
    const std::size_t left = n - i < V::lanes ? n - i : std::size_t{V::lanes};
    const V v = load_up_to<V>(x + i * sizeof(In), left, -Number<F>::infinity, type<In>);
    top = max(v, top), sum = sum + v;
  }
  return largest(top);
}

template <class In>
static bool any_nan(Bytes x, std::size_t n) {
  using V = wide<compute_t<In>>;
  std::uint64_t in = 0;
  for (std::size_t i = 0; i < n; i += V::lanes)
    in |= bits(is_nan(load_up_to<V>(x + i * sizeof(In), n - i < V::lanes ? n - i : V::lanes, 0, type<In>)));
  return in != 0;
}

template <class In>
static void stretch_max(Bytes x, std::size_t n, std::size_t stretch, double* to) {
  using V = wide<compute_t<In>>;
  V sum = splat<V>(0);
  const auto each = [&](const auto& fn) __attribute__((always_inline)) {
    for (std::size_t i = 0; i < n; i += stretch)
      fn(x + i * sizeof(In), n - i < stretch ? n - i : stretch, to[i / stretch]);
  };
  each([&](Bytes at, std::size_t length, double& max) { max = largest_of<V, In>(at, length, sum); });
  if (bits(is_nan(sum)) != 0)  // or infinities of both signs
    each([](Bytes at, std::size_t length, double& max) {
      if (any_nan<In>(at, length)) max = Number<double>::nan;
    });
}

// e^((z - max) rate) 2^62
struct MassOf {
  double max, rate;
  template <class V>
  VM_MEMBER V operator()(V z) const {
    return ScaledExp<V>(splat<V>(-62))((z - splat<V>(max)) * splat<V>(rate));
  }
};

template <class F>
static void masses(Bytes staged, std::size_t n, double max, double rate, double* to) {
  const MassOf op{max, rate};
  map_inputs<double, vec<double>>(reinterpret_cast<OutBytes>(to), n, false, op, op, Input<F>{staged});
}

VM_INLINE void load_wide(Bytes x, std::size_t left, F64 (&z)[2], const double* t) {
  const std::size_t first = left < F64::lanes ? left : std::size_t{F64::lanes};
  z[0] = load_up_to<F64>(x, first, -Number<double>::infinity, t);
  z[1] = load_up_to<F64>(x + first * sizeof(double), left - first, -Number<double>::infinity, t);
}
template <class In>
VM_INLINE void load_wide(Bytes x, std::size_t left, F64 (&z)[2], const In* t) {
  widen(load_up_to<F32>(x, left, -Number<float>::infinity, t), z[0], z[1]);
}

// The same for sums with a bound: e^(z rate - max rate), to 2^-34 and the rounding of max rate, which all share.
struct MassToSum {
  double max, rate;
  template <class V>
  VM_MEMBER V operator()(V z) const {
    return ScaledExp<V>(splat<V>(-62)).close(fma(z, splat<V>(rate), splat<V>(-max * rate)));
  }
};

// Plain sums in sixteen lanes: of a block they are good to 2^-44.
template <class In>
static MassSums mass_sums(Bytes x, std::size_t n, double max, double rate, double limit) {
  constexpr std::size_t lanes = 2 * F64::lanes;
  const std::conditional_t<sizeof(In) == sizeof(double), MassOf, MassToSum> of{max, rate};
  F64 all[2] = {splat<F64>(0), splat<F64>(0)}, above[2] = {splat<F64>(0), splat<F64>(0)};
  for (std::size_t i = 0; i < n; i += lanes) {
    F64 z[2];
    load_wide(x + i * sizeof(In), n - i < lanes ? n - i : lanes, z, type<In>);
    VM_UNROLL(2)
    for (int j = 0; j < 2; ++j) {
      const F64 mass = through(of, z[j]);
      all[j] = all[j] + mass;
      above[j] = add_where(not_less(z[j], splat<F64>(limit)), above[j], mass);
    }
  }
  return {fold(all[0], all[1]).value(), fold(above[0], above[1]).value()};
}

struct MassAbout {
  double max, rate;
  template <class V>
  VM_MEMBER V operator()(V x) const {
    using F = typename V::scalar;
    return ScaledExp<V>(splat<V>(0)).brief((x - splat<V>(static_cast<F>(max))) * splat<V>(static_cast<F>(rate)));
  }
};

template <class In>
static double mass_about(Bytes x, std::size_t n, double max, double rate, double limit) {
  using B = Batch<wide<compute_t<In>>>;
  using F = typename B::scalar;
  const MassAbout of{max, std::min<double>(rate, std::numeric_limits<F>::max())};
  B sum = splat<B>(0);
  for (std::size_t i = 0; i < n; i += B::lanes) {
    const std::size_t left = n - i < B::lanes ? n - i : std::size_t{B::lanes};
    const B v = load_up_to<B>(x + i * sizeof(In), left, -Number<F>::infinity, type<In>);
    sum = add_where(not_less(v, splat<B>(static_cast<F>(limit))), sum, through(of, v));
  }
  const Lanes<B> lanes(sum);
  double all = 0;
  for (const F each : lanes.at) all += each;
  return all;
}

template <class F>
static MassFrom mass_from(Bytes x, const double* mass, std::size_t n, double least) {
  constexpr std::size_t lanes = 2 * F64::lanes;
  const F64 from = splat<F64>(least);
  F64 sum[2] = {splat<F64>(0), splat<F64>(0)};
  std::size_t count = 0;
  for (std::size_t i = 0; i < n; i += lanes) {
    const std::size_t left = n - i < lanes ? n - i : lanes;
    F64 z[2], m[2];
    load_wide(x + i * sizeof(F), left, z, type<F>);
    load_wide(reinterpret_cast<Bytes>(mass + i), left, m, type<double>);
    VM_UNROLL(2)
    for (int j = 0; j < 2; ++j) {
      const auto in = not_less(z[j], from);
      sum[j] = add_where(in, sum[j], m[j]);
      count += static_cast<std::size_t>(__builtin_popcountll(bits(in)));
    }
  }
  return {fold(sum[0], sum[1]).value(), count};
}

template <class In>
static std::size_t mark_between(Bytes x, std::size_t n, double least, double below, std::uint64_t* marks) {
  using B = Batch<wide<compute_t<In>>>;
  using F = typename B::scalar;
  const B from = splat<B>(static_cast<F>(least)), to = splat<B>(static_cast<F>(below));
  std::size_t count = 0;
  for (std::size_t i = 0; i < n; i += 64) {
    std::uint64_t in = 0;
    for (std::size_t j = 0; j < 64 && i + j < n; j += B::lanes) {
      const std::size_t left = n - i - j < B::lanes ? n - i - j : std::size_t{B::lanes};
      const B v = load_up_to<B>(x + (i + j) * sizeof(In), left, -Number<F>::infinity, type<In>);
      const std::uint64_t here = bits(not_less(v, from)) & bits(v < to);
      in |= (left < 64 ? here & ((std::uint64_t{1} << left) - 1) : here) << j;
    }
    marks[i / 64] = in, count += static_cast<std::size_t>(__builtin_popcountll(in));
  }
  return count;
}

// Eight at a time, wanted or not: an end that is not foreseen costs more than they do.
static std::size_t places(const std::uint64_t* marks, std::size_t n, std::uint16_t* at) {
  std::size_t count = 0;
  for (std::size_t w = 0; w < (n + 63) / 64; ++w) {
    std::uint64_t in = marks[w];
    const std::size_t end = count + static_cast<std::size_t>(__builtin_popcountll(in));
    for (; count < end; count += 8)
      for (std::size_t j = 0; j < 8; ++j, in &= in - 1)
        at[count + j] =
            static_cast<std::uint16_t>(w * 64 + static_cast<unsigned>(__builtin_ctzll(in | std::uint64_t{1} << 63)));
    count = end;
  }
  return count;
}

template <class In, class T>
static void keep_from(Bytes x, std::size_t n, double limit, OutBytes y, bool stream) {
  using F = compute_t<In>;
  const auto op = [&]<class V>(V z) __attribute__((always_inline)) {
    return select(not_less(z, splat<V>(static_cast<F>(limit))), z, splat<V>(-Number<F>::infinity));
  };
  map_inputs<T, vec<F>>(y, n, stream, op, op, Input<In>{x});
}

void fill_select(Kernels& k) {
  k.places = places;
  each_dtype(k, []<class T>(DTypeKernels& to, T) {
    using F = compute_t<T>;
    to.stretch_max[0] = stretch_max<T>, to.stretch_max[1] = stretch_max<F>;
    to.mark_between[0] = mark_between<T>, to.mark_between[1] = mark_between<F>;
    to.masses = masses<F>, to.mass_from = mass_from<F>;
    to.mass_sums[0] = mass_sums<T>, to.mass_sums[1] = mass_sums<F>;
    to.mass_about[0] = mass_about<T>, to.mass_about[1] = mass_about<F>;
    to.keep_from[0] = keep_from<T, T>, to.keep_from[1] = keep_from<F, T>;
  });
}

}  // namespace vastmax::VM_ISA
