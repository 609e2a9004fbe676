// SPDX-License-Identifier: Apache-2.0
// What rows, columns and both backends share: the reference exponent of a block, and the float64 arithmetic that
// finishes a row.
#pragma once

#include "cpp/math/algebra.hpp"
#include "cpp/simd/math.hpp"

namespace vastmax::VM_ISA {

// ScaledExp::times comes down from the head room by the factor that keeps subnormal results normal.
static_assert(Number<float>::lift == 0x1p64f && head_room<float> == 64);
static_assert(Number<double>::lift == 0x1p500 && head_room<double> == 500);

template <class F>
VM_INLINE int reference(double max) {
  const double exponent = max * Number<double>::log2e;
  return static_cast<int>(exponent < 0 ? exponent - 0.5 : exponent + 0.5) - head_room<F>;
}

// Of the double vectors here the first lane counts.
template <class F>
struct RowMath {
  using One = vec<double>;

  VM_MEMBER static double exp_scaled(double x, int ref) {
    return Lanes<One>(ScaledExp<One>(splat<One>(static_cast<double>(ref)))(splat<One>(x))).at[0];
  }
  VM_MEMBER static double exp_difference(double x) { return x < -750 ? 0 : exp_scaled(x, -500) * 0x1p-500; }
  VM_MEMBER static double log1p(double x) { return Lanes<One>(vastmax::VM_ISA::log1p(splat<One>(x))).at[0]; }
  VM_MEMBER static double above_tangent(double u) { return Lanes<One>(AboveTangent<One>()(splat<One>(u))).at[0]; }
  VM_MEMBER static double log_pair(double x, double low) {
    return Lanes<One>(vastmax::VM_ISA::log_pair(splat<One>(x), splat<One>(low))).at[0];
  }
  VM_MEMBER static double log(double x) { return log_pair(x, 0); }

  VM_MEMBER static Peak peak(double max, int ref) {
    using V = vec<F>;
    const auto e = ScaledExp<V>(splat<V>(static_cast<F>(ref))).parts(splat<V>(static_cast<F>(max)));
    const V one = splat<V>(1), sum = fma(e.slope, e.r, one);
    const V error = fma(e.slope, e.r, one - sum);
    return {static_cast<double>(Lanes<V>(power_of_two(e.rounded)).at[0]), static_cast<double>(Lanes<V>(sum).at[0]),
            static_cast<double>(Lanes<V>(error).at[0])};
  }
};

}  // namespace vastmax::VM_ISA
