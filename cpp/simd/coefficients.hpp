// SPDX-License-Identifier: Apache-2.0
// Made by coefficients.py; edit that.
#pragma once

#include "cpp/simd/isa.hpp"

// Functions, because device code cannot name a static array of the host.
namespace vastmax::VM_ISA {

template <class F>
struct Coefficients;

template <>
struct Coefficients<float> {
  // (e^r - 1 - r) / r^2: relative error 2^-28.29
  struct exp_tail {
    static constexpr int count = 5;
    VM_MEMBER static constexpr float at(int i) {
      constexpr float c[] = {
          0xfffffep-25f,
          0xaaaa49p-26f,
          0xaaac78p-28f,
          0x891ceap-30f,
          0xb5123fp-33f,
      };
      return c[i];
    }
  };
  // (e^r - 1) / r, enough for 16-bit results: relative error 2^-13.27
  struct exp_short {
    static constexpr int count = 3;
    VM_MEMBER static constexpr float at(int i) {
      constexpr float c[] = {
          0x80066ap-23f,
          0x810eb2p-24f,
          0xa9251ep-26f,
      };
      return c[i];
    }
  };
  // (e^r - 1) / r, for 16-bit results, all but one in a thousand rounded correctly: relative error 2^-23.38
  struct exp_medium {
    static constexpr int count = 5;
    VM_MEMBER static constexpr float at(int i) {
      constexpr float c[] = {
          0xfffffbp-24f,
          0xfffee3p-25f,
          0xaaad35p-26f,
          0xab9d2ap-28f,
          0x87d424p-30f,
      };
      return c[i];
    }
  };
  // log(1 + e) / e, e in [0, 1], for the same: relative error 2^-22.3
  struct log1p_slope {
    static constexpr int count = 8;
    VM_MEMBER static constexpr float at(int i) {
      constexpr float c[] = {
          0xfffffdp-24f,
          -0xfffc99p-25f,
          0xaa5ed7p-25f,
          -0xfad567p-26f,
          0xb5b620p-26f,
          -0xdc8851p-27f,
          0xb49770p-28f,
          -0x8be825p-30f,
      };
      return c[i];
    }
  };
  // (log(1 + f) - f + f^2 / 2) / f^3, f in [-1/4, 1/2]: relative error 2^-30.03
  struct log1p_tail {
    static constexpr int count = 9;
    VM_MEMBER static constexpr float at(int i) {
      constexpr float c[] = {
          0xaaaaadp-25f,
          -0x800038p-25f,
          0xcccbc4p-26f,
          -0xaa8cd0p-26f,
          0x923020p-26f,
          -0x82556dp-26f,
          0xefa5cfp-27f,
          -0xbaba14p-27f,
          0x9a5515p-28f,
      };
      return c[i];
    }
  };
  // (2 atanh(s) / s - 2) / s^2 in s^2, |s| <= 3 - sqrt(8): relative error 2^-36.59
  struct atanh_tail {
    static constexpr int count = 4;
    VM_MEMBER static constexpr float at(int i) {
      constexpr float c[] = {
          0xaaaaaap-24f,
          0xcccd3ep-25f,
          0x921c3ap-25f,
          0xf1830fp-26f,
      };
      return c[i];
    }
  };
};

template <>
struct Coefficients<double> {
  // (e^r - 1 - r) / r^2: relative error 2^-57.94
  struct exp_tail {
    static constexpr int count = 10;
    VM_MEMBER static constexpr double at(int i) {
      constexpr double c[] = {
          0x1000000000000ap-53,
          0x155555555554fap-55,
          0x1555555555088bp-57,
          0x11111111127b78p-59,
          0x16c16c18426902p-62,
          0x1a01a012a73874p-65,
          0x1a0199a167f56bp-68,
          0x171df2527a3803p-71,
          0x128ad690267231p-74,
          0x1ad7f94922ade5p-78,
      };
      return c[i];
    }
  };
  // (e^r - 1 - r) / r^2 as a result of its own: relative error 2^-58.35
  struct exp_curve {
    static constexpr int count = 11;
    VM_MEMBER static constexpr double at(int i) {
      constexpr double c[] = {
          0x10000000000000p-53,
          0x15555555555557p-55,
          0x1555555555554ep-57,
          0x111111111100eep-59,
          0x16c16c16c1a066p-62,
          0x1a01a01abdf264p-65,
          0x1a01a0190681a6p-68,
          0x171de024adbb6dp-71,
          0x127e510cba1665p-74,
          0x1af4db963e9904p-78,
          0x11f1a0dc1a990fp-81,
      };
      return c[i];
    }
  };
  // (e^(r/2) - 1) / r, for sums with a bound: relative error 2^-35.96
  struct exp_close {
    static constexpr int count = 6;
    VM_MEMBER static constexpr double at(int i) {
      constexpr double c[] = {
          0x1000000025a0e8p-53,
          0x1fffffff07f8e3p-56,
          0x1555540e5dfeafp-58,
          0x15555817975588p-61,
          0x11167b0362b2e4p-64,
          0x16bcdade62d490p-68,
      };
      return c[i];
    }
  };
  // (log(1 + f) - f + f^2 / 2) / f^3, f in [-1/4, 1/2]: relative error 2^-61.89
  struct log1p_tail {
    static constexpr int count = 21;
    VM_MEMBER static constexpr double at(int i) {
      constexpr double c[] = {
          0x15555555555550p-54,
          -0x1fffffffffffcbp-55,
          0x1999999999aa11p-55,
          -0x1555555555aa0cp-55,
          0x12492492400245p-55,
          -0x1fffffff988a5fp-56,
          0x1c71c72104bb45p-56,
          -0x199999b8e88329p-56,
          0x1745d0eaed005ap-56,
          -0x1555502c67ba49p-56,
          0x13b13f8d4f05bdp-56,
          -0x12499c98222a60p-56,
          0x1111adbad508f3p-56,
          -0x1ff526e5c23986p-57,
          0x1dfa861c9592ebp-57,
          -0x1c8f08dc23061ap-57,
          0x1c375bf7ac917ap-57,
          -0x1b8714cad607d2p-57,
          0x167c5132569bc4p-57,
          -0x188ae99994cdefp-58,
          0x1944ad1773d45fp-60,
      };
      return c[i];
    }
  };
  // (2 atanh(s) / s - 2) / s^2 in s^2, |s| <= 3 - sqrt(8): relative error 2^-58.47
  struct atanh_tail {
    static constexpr int count = 7;
    VM_MEMBER static constexpr double at(int i) {
      constexpr double c[] = {
          0x15555555555593p-53,
          0x1999999997f856p-54,
          0x124924942433c5p-54,
          0x1c71c51c21f367p-55,
          0x174664e682095fp-55,
          0x139a0150fd0b7fp-55,
          0x12f16ce3b253e4p-55,
      };
      return c[i];
    }
  };
};

}  // namespace vastmax::VM_ISA
