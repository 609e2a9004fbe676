// SPDX-License-Identifier: Apache-2.0
// Exponentials and logarithms on virtual vectors.  Every function is a fixed sequence of correctly rounded operations,
// so all instruction sets give the same bits.
#pragma once

#include "cpp/simd/coefficients.hpp"
#include "cpp/simd/isa.hpp"

namespace vastmax::VM_ISA {

template <class F>
struct Number;
template <>
struct Number<float> {
  static constexpr float log2e = 0x1.715476p+0f;
  static constexpr float ln2_high = 0x1.62e43p-1f, ln2_low = -0x1.05c61p-29f;
  static constexpr float integer =
      0x1.8p23f;  // adding it rounds to an integer and leaves that in the low mantissa bits
  static constexpr float exponent = integer + 127;  // the same, biased: what power_of_two takes
  static constexpr float infinity = __builtin_inff(), nan = __builtin_nanf("");
  static constexpr float span = 92;        // exponents of scaled exponentials reach this far down
  static constexpr float least = -104.5f;  // e^x is below half of the smallest subnormal
  static constexpr float lift = 0x1p64f,
                         unlift = 0x1p-64f;  // keeps a subnormal result normal until its one last rounding
};
template <>
struct Number<double> {
  static constexpr double log2e = 0x1.71547652b82fep+0;
  static constexpr double ln2_high = 0x1.62e42fefa39efp-1, ln2_low = 0x1.abc9e3b39803fp-56;
  static constexpr double integer = 0x1.8p52;
  static constexpr double exponent = integer + 1023;
  static constexpr double infinity = __builtin_inf(), nan = __builtin_nan("");
  static constexpr double span = 980;
  static constexpr double least = -746.0;
  static constexpr double lift = 0x1p500, unlift = 0x1p-500;
};

// c(0) + c(1) x + ... by Horner: one chain per vector, and enough independent vectors in flight to hide its latency.
template <class C, class V>
VM_INLINE V polynomial(V x) {
  V y = splat<V>(C::at(C::count - 1));
  VM_UNROLL(32)
  for (int i = C::count - 2; i >= 0; --i) y = fma(y, x, splat<V>(C::at(i)));
  return y;
}

// The sum of v and what came before, and what rounding took from it (Knuth's TwoSum).
template <class V>
VM_INLINE void two_sum(V& sum, V& lost, V v) {
  const V next = sum + v, part = next - sum;
  lost = lost + ((sum - (next - part)) + (v - part));
  sum = next;
}

// x = k ln 2 + r with integer k.  x - k ln2_high is exact: both are multiples of 2^-24 (2^-53) and the difference is
// below 1/2.
template <class V>
struct Reduced {
  V k, r, rounded;  // `rounded` carries k - ref in its low bits, for shift_exponent or power_of_two
};
template <class V>
VM_INLINE Reduced<V> reduce(V x, V bias) {
  using N = Number<typename V::scalar>;
  const V t = fma(x, splat<V>(N::log2e), bias);
  const V k = t - bias;
  return {k, nfma(k, splat<V>(N::ln2_high), x), t};
}

// x -> e^x 2^-ref for |x| <= 4096, x up to (ref + span) ln 2, and x down to -inf.
//
// x itself is reduced, never x - max: the rounding of that subtraction costs up to |x - max| ULP.  An integer `ref`
// scales exactly.  The power of two is multiplied, not added to the exponent: the bits of a NaN must stay those of one.
template <class V>
struct ScaledExp {
  using F = typename V::scalar;
  V bias, bias_of_shift;  // for power_of_two, for shift_exponent

  VM_MEMBER explicit ScaledExp(V ref)
      : bias(splat<V>(Number<F>::exponent) - ref), bias_of_shift(splat<V>(Number<F>::integer) - ref) {}

  // e^r = 1 + r slope(r) where x = k ln 2 + r; about 2^-25 (2^-54) off in r slope(r)
  struct Parts {
    V r, slope, rounded;
  };
  VM_MEMBER Parts parts(V x) const { return parts(x, bias); }
  VM_MEMBER static Parts parts(V x, V bias) {
    const Reduced<V> at = reduce(x, bias);
    const V r = nfma(at.k, splat<V>(Number<F>::ln2_low), at.r);
    return {r, fma(polynomial<typename Coefficients<F>::exp_tail>(r), r, splat<V>(1)), at.rounded};
  }
  // What is below 2^-span counts as 0: it is less than 2^-155 (2^-1480) of the row's largest term.  NaN is not below.
  VM_MEMBER static auto counts(V rounded, F zero = Number<F>::exponent) {
    return not_less(rounded, splat<V>(zero - Number<F>::span));
  }
  VM_MEMBER V operator()(V x) const {
    const Parts e = parts(x);
    return multiply_where(counts(e.rounded), fma(e.slope, e.r, splat<V>(1)), power_of_two(e.rounded));
  }

  // e^x scale (1 + correction), taken down from the head room: the rounding of scale and of 1 + r slope(r) never
  // happens.  A NaN is in `slope`, so the bits of scale may be shifted.
  VM_MEMBER V times(V x, V scale, V correction) const {
    const Parts e = parts(x, bias_of_shift);
    const V unit = shift_exponent(scale, e.rounded);
    return keep(counts(e.rounded, Number<F>::integer),
                fma(fma(e.slope, e.r, correction), unit, unit) * splat<V>(Number<F>::unlift));
  }

  // e^x to 2^-34 in float64, for sums with a bound: half of the exponent, squared, saves a step of the polynomial
  VM_MEMBER V close(V x) const {
    const Reduced<V> at = reduce(x, bias);
    const V half = fma(polynomial<typename Coefficients<F>::exp_close>(at.r), at.r, splat<V>(1));
    return multiply_where(counts(at.rounded), half * half, power_of_two(at.rounded));
  }

  // e^x to 2^-13, for results that are rounded to 16 bits
  VM_MEMBER V brief(V x) const {
    const Reduced<V> at = reduce(x, bias);
    const V e = fma(polynomial<Coefficients<float>::exp_short>(at.r), at.r, splat<V>(1));
    return multiply_where(counts(at.rounded), e, power_of_two(at.rounded));
  }
};

// 2^k of a reduction, for k down to the exponents of subnormals.
template <class V>
struct PowerOfTwo {
  using N = Number<typename V::scalar>;
  V lifted, unit;  // unit: 2^k, as long as that is normal
  VM_MEMBER explicit PowerOfTwo(V rounded)
      : lifted(shift_exponent(splat<V>(N::lift), rounded)), unit(lifted * splat<V>(N::unlift)) {}
  // y 2^k, rounded once, subnormals included
  VM_MEMBER V scale(V y) const { return y * lifted * splat<V>(N::unlift); }
};

// e^-a for a >= 0 as 2^k (high + low): about 2^-26 (2^-55) relative error.  `low` holds what rounding took from `high`
// and the low part of k ln 2, a few units in the last place of `high` at most.  `brief`: 2^-22, for results that are
// rounded to 16 bits.
template <class V, bool brief = false>
struct ExpPair : PowerOfTwo<V> {
  V high, low, rounded;  // `rounded` carries k in its low bits
  VM_MEMBER explicit ExpPair(V a) : ExpPair(reduced(a, N::least)) {}
  // e^-(a + a_low) for |a_low| up to half an ulp of a.  `rounded` goes on where the power of two has become 0.
  VM_MEMBER ExpPair(V a, V a_low) : ExpPair(reduced(a, 2 * N::least)) {
    static_cast<PowerOfTwo<V>&>(*this) = PowerOfTwo<V>(max(rounded, splat<V>(N::integer - 1 + N::least * N::log2e)));
    low = nfma(high, keep(a < splat<V>(-2 * N::least), a_low), low);
  }

 private:
  using F = typename V::scalar;
  using N = Number<F>;
  VM_MEMBER static Reduced<V> reduced(V a, F least) {
    return reduce(max(negate(a), splat<V>(least)), splat<V>(N::integer));
  }
  VM_MEMBER explicit ExpPair(const Reduced<V>& at) : PowerOfTwo<V>(at.rounded), rounded(at.rounded) {
    const V one = splat<V>(1);
    if constexpr (brief) {
      high = fma(polynomial<typename Coefficients<F>::exp_medium>(at.r), at.r, one);
      low = splat<V>(0);
    } else {
      const V slope = fma(at.r * at.r, polynomial<typename Coefficients<F>::exp_tail>(at.r), at.r);  // e^r - 1
      high = one + slope;
      low = nfma(at.k * high, splat<V>(N::ln2_low), slope - (high - one));
    }
  }
};

// e^-u - 1 + u, how far e^-u is above its tangent at 0, to full relative accuracy where that is small.  u > -700
template <class V>
struct AboveTangent {
  VM_MEMBER V operator()(V u) const {
    using N = Number<double>;
    const V a = max(negate(u), splat<V>(-50));  // beyond, e^-u does not show
    const Reduced<V> at = reduce(a, splat<V>(N::integer));
    const V r = nfma(at.k, splat<V>(N::ln2_low), at.r), one = splat<V>(1);
    const V unit = shift_exponent(one, at.rounded);  // e^-u = unit (1 + r + r^2 curve)
    return fma(unit * (r * r), polynomial<Coefficients<double>::exp_curve>(r), (unit - one) + fma(unit, r, u));
  }
};

// x - z less the same of two others, which are finite.
template <class V>
struct Difference {
  V whole, low;
  VM_MEMBER Difference(V x, V z) : whole(x - z) {
    const V part = whole - x;
    low = (x - (whole - part)) - (z + part);
  }
  VM_MEMBER V less(const Difference& other) const {
    const V high = whole - other.whole;
    return high + keep(abs(whole) < splat<V>(Number<typename V::scalar>::infinity), low - other.low);
  }
};

// log(1 + e^-a), kept in parts so that adding to it rounds once.  Below e^-a = 1/2 it is 2^k times a polynomial in the
// mantissa, small as it may be; from there on log 2 + log(1 + f) with f = (e^-a - 1) / 2, exact.  Both are a first
// term plus -square / 2, which carries most of the rest, plus the rest of the series.
template <class V, bool brief = false>
class LogOnePlusExp {
  using F = typename V::scalar;
  using N = Number<F>;

 public:
  VM_MEMBER explicit LogOnePlusExp(const ExpPair<V>& e) {
    const V whole = e.high * e.unit, one = splat<V>(1), half = splat<V>(F(0.5));
    large_ = not_less(whole, half);
    f_ = select(large_, half * (whole - one), whole);
    const V square = select(large_, f_, e.high) * f_;
    const V low = e.low * nfma(half, whole, one);  // times the derivative 1 / (1 + e), known to 12 %
    const V tail = f_ * polynomial<typename Coefficients<F>::log1p_tail>(f_);
    rest_ = nfma(square, half, fma(square, tail, select(large_, fma(low, e.unit, splat<V>(N::ln2_low)), low)));
    small_ = e.scale(e.high + rest_);
  }
  // base + log(1 + e^-a), base >= 0; to 0.9 ULP
  VM_MEMBER V added_to(V base) const {
    const V log2 = splat<V>(N::ln2_high);
    const V sum = base + log2, lost = base - (sum - log2);
    const V more = sum + f_, lost_too = f_ - (more - sum);
    return select(large_, more + (rest_ + (lost + lost_too)), small_ + base);
  }
  // log(1 + e^-a) as 2^k (high + low); `rounded` carries k in its low bits.
  struct Parts {
    V high, low, rounded;
  };
  VM_MEMBER Parts parts(const ExpPair<V>& e) const {
    const V log2 = splat<V>(N::ln2_high);
    const V first = select(large_, log2 + f_, e.high), left = keep(large_, (log2 - first) + f_) + rest_;
    const V high = first + left;
    return {high, (first - high) + left, select(large_, splat<V>(N::integer), e.rounded)};
  }

 private:
  typename V::mask large_;
  V small_, f_, rest_;
};

// To 2^-21, for results that are rounded to 16 bits.
template <class V>
class LogOnePlusExp<V, true> {
 public:
  VM_MEMBER explicit LogOnePlusExp(const ExpPair<V, true>& e)
      : log_(e.scale(e.high * polynomial<Coefficients<float>::log1p_slope>(e.high * e.unit))) {}
  VM_MEMBER V added_to(V base) const { return log_ + base; }

 private:
  V log_;
};

// log(x + low), x > 0 finite and normal, |low| <= ulp(x): the scheme of fdlibm's log1p, below 1 ULP.
template <class V>
VM_INLINE V log_pair(V x, V low) {
  using F = typename V::scalar;
  using N = Number<F>;
  const V k = exponent_sqrt2(x), half = splat<V>(F(0.5)), two = splat<V>(2);
  const V unit = shift_exponent(splat<V>(1), splat<V>(N::integer) - k);  // 2^-k
  const V f = fma(x, unit, splat<V>(-1));
  const V s = f / (two + f);
  const V z = s * s;
  const V hfsq = half * f * f;
  const V tail = z * polynomial<typename Coefficients<F>::atanh_tail>(z);
  const V small = fma(k, splat<V>(N::ln2_low), low / x);
  return fma(k, splat<V>(N::ln2_high), f - (hfsq - fma(s, hfsq + tail, small)));
}

// log(1 + x), x >= 0
template <class V>
VM_INLINE V log1p(V x) {
  const V one = splat<V>(1);
  const V sum = one + x;
  const V y = log_pair(sum, select(x < one, x - (sum - one), one - (sum - x)));
  return select(x < splat<V>(Number<typename V::scalar>::infinity), y, x);
}

template <class V>
VM_INLINE V quiet(V x,
                  V y) {  // y, or the one NaN of this library where x is NaN: hardware disagrees about sign and payload
  return select(is_nan(x), splat<V>(Number<typename V::scalar>::nan), y);
}

}  // namespace vastmax::VM_ISA
