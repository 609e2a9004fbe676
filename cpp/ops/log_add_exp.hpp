// SPDX-License-Identifier: Apache-2.0
// log(e^a + e^b), neither NaN nor +inf
#pragma once

#include "cpp/simd/math.hpp"

namespace vastmax::VM_ISA {

template <class V>
struct LogAddExp {
  VM_MEMBER V operator()(V a, V b) const {
    const V nothing = splat<V>(-Number<double>::infinity);
    const V high = max(a, b), low = negate(max(negate(a), negate(b)));
    return select(high == nothing, nothing, high + log1p(ScaledExp<V>(splat<V>(0))(low - high)));
  }
};

}  // namespace vastmax::VM_ISA
