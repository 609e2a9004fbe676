// SPDX-License-Identifier: Apache-2.0
// Weights of classes along the order of a row: integers, so that a sum has one value whoever adds it up, on any
// backend.
#pragma once

#include "cpp/math/algebra.hpp"

namespace vastmax {

__extension__ typedef unsigned __int128 Mass;

// Weights e^((z - max) rate) in units of 2^-62, or all alike.
struct Weigh {
  bool alike = true;
  double max = 0, rate = 0;
};
// Beside +inf nothing weighs; where the temperature is infinite all that is possible weighs the same.
VM_SHARED Weigh weigh_of(double max, double temperature) {
  if (max == infinity || temperature == infinity) return {};
  constexpr double most = 0x1.fffffffffffffp1023;
  const double rate = 1 / temperature;
  return {false, max, rate < most ? rate : most};
}

// What of the weights is wanted: so much, or such a share.
struct Wanted {
  Mass amount = 0;
  double share = 0;
  VM_SHARED Mass of(Mass total) const {
    const Mass want = amount != 0 ? amount : static_cast<Mass>(ceil(share * static_cast<double>(total)));
    const Mass most = total < 1 ? 1 : total;
    return want < 1 ? 1 : want < most ? want : most;
  }
};

}  // namespace vastmax
