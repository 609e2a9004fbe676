// SPDX-License-Identifier: Apache-2.0
// The cross-entropy of a row from its normaliser, and what the gradient needs of it: what both backends share.
#pragma once

#include "cpp/math/algebra.hpp"

namespace vastmax {

// Weights of many classes: their sum, and the sum of weight (base - z) against some base.
struct Weighed {
  double base = 0;
  TwoSum gaps, sum;
};
// The same against the row's largest logit.
struct WeighedRow {
  TwoSum gaps, sum;
  VM_SHARED void add(const Weighed& part, double max) {
    const double weight = value_of(part.sum);
    gaps.add(value_of(part.gaps));
    if (weight != 0) gaps.add(weight * (max - part.base));
    sum.add(weight);
  }
  VM_SHARED void scale(double factor) {
    gaps.scale(factor);
    sum.scale(factor);
  }
};
// `log` is that of sum / e^max.
VM_SHARED double loss_of_weights(const Norm& norm, double log, const WeighedRow& weights) {
  const double weight = value_of(weights.sum);
  if (norm.has_nan() || (norm.seen && norm.max == -infinity)) return __builtin_nan("");
  if (!norm.seen) return weight == 0 ? 0 : infinity;
  return value_of(weights.gaps) + weight * log;
}

// A power of two that brings a number back to about 1 from where float32 may not hold it, or what it is multiplied
// with.
VM_SHARED double unit_of(double number) {
  const double size = number < 0 ? -number : number;
  if (!(size > 0 && size < infinity) || (size > 0x1p-60 && size < 0x1p60)) return 1;
  const int exponent = ilogb(size);
  return ldexp(1.0, exponent < -1000 ? 1000 : -exponent);
}

// What the target of a row comes to: the sum of its weights a_j, and that of a_j (L - z_j), where L is logsumexp. `log`
// is that of sum / e^max.
struct RowLoss {
  double weight = 0, loss = 0;

  VM_SHARED void add(const Norm& norm, double log, const WeighedRow& weights) {
    weight += value_of(weights.sum);
    loss += loss_of_weights(norm, log, weights);
  }
  VM_SHARED void add(const Norm& norm, double log, double z, double a) {
    weight += a;
    if (a != 0 || norm.has_nan()) loss += a * (0.0 - log_probability(norm, log, z));
  }
  // lambda L^2, whose square alone may not fit
  VM_SHARED void add_square(double lambda, double lse) {
    if (lambda == 0) return;
    const double square = lse * lse;
    loss += square < infinity ? lambda * square : lambda * lse * lse;
  }
};

// For e^z / sum * scale.  A power of two costs no rounding, so `grad` is one and the rest joins 1 / sum.
template <class F, class Math, class Rest>
VM_SHARED RowParams scaled_params(const Math& math, const Norm& norm, double scale, const Rest& rest) {
  const bool usual = scale != 0 && scale - scale == 0;
  const int exponent = usual ? ilogb(scale) : 0, power = exponent < 0 || exponent > 30 ? exponent : 0;
  RowParams row = row_params<F>(math, false, norm, rest, usual ? ldexp(scale, -power) : 1);
  row.grad = usual ? ldexp(1.0, power) : scale;
  return row;
}

// factor (p (weight + of_lse) - weight) for a class with the logit z; p - 1 is minus what the others have of the sum.
template <class Math>
VM_SHARED double gradient_at_target(const Math& math, const Norm& norm, double over, double z, double factor,
                                    double weight, double of_lse) {
  const double p = (z == norm.max ? 1 : math.exp_difference(z - norm.max)) / (1 + over),
               others = z == norm.max ? over / (1 + over) : 1 - p;
  return factor * (of_lse * p - weight * others);
}

}  // namespace vastmax
