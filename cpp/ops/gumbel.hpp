// SPDX-License-Identifier: Apache-2.0
// Gumbel noise from 64 random bits.
#pragma once

#include "cpp/simd/math.hpp"

namespace vastmax::VM_ISA {

// -log(-log(1 - v)), v = (bits + 1/2) 2^-64, both v and 1 - v to full relative accuracy
template <class V>
struct Gumbel {
  VM_MEMBER V operator()(V sum, V low) const { return negate(log_pair(negate(log_pair(sum, low)), splat<V>(0))); }
};

// (bits + 1/2) 2^-64
VM_INLINE double fraction(std::uint64_t bits) {
  return static_cast<double>(static_cast<std::int64_t>(bits >> 32)) * 0x1p-32 +
         (static_cast<double>(static_cast<std::int64_t>(bits & 0xffffffff)) + 0.5) * 0x1p-64;
}
// 1 - v, as a sum
struct Complement {
  double sum, low;
  VM_MEMBER explicit Complement(std::uint64_t bits) {
    const double v = fraction(bits), rest = fraction(~bits), difference = 1 - v;
    const bool upper = bits >> 63 != 0;
    sum = upper ? rest : difference, low = upper ? 0 : (1 - difference) - v;
  }
};

}  // namespace vastmax::VM_ISA
