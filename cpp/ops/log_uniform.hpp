// SPDX-License-Identifier: Apache-2.0
// q(k) = log((k + 2) / (k + 1)) / log(V + 1), by inversion.
#pragma once

#include "cpp/simd/math.hpp"

namespace vastmax::VM_ISA {

template <class V>
class LogUniform {
 public:
  VM_MEMBER explicit LogUniform(std::int64_t classes)
      : rate_(log1p(splat<V>(static_cast<double>(classes)))), log_rate_(log_pair(rate_, splat<V>(0))) {}

  // 1 + the class, before it is rounded down; u in [0, 1)
  VM_MEMBER V operator()(V u) const { return ScaledExp<V>(splat<V>(0))(u * rate_); }
  VM_MEMBER V log_q(V k) const {
    const V one = splat<V>(1), odds = log1p(one / (k + one));
    return log_pair(odds, splat<V>(0)) - log_rate_;
  }

 private:
  V rate_, log_rate_;
};

}  // namespace vastmax::VM_ISA
