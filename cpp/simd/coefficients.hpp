// SPDX-License-Identifier: Apache-2.0
// Made by coefficients.py; edit that.
#pragma once

namespace vastmax::VM_ISA {

template <class F>
struct Coefficients;

template <>
struct Coefficients<float> {
  // (e^r - 1 - r) / r^2: relative error 2^-28.29
  static constexpr float exp_tail[] = {
      0xfffffep-25f,
      0xaaaa49p-26f,
      0xaaac78p-28f,
      0x891ceap-30f,
      0xb5123fp-33f,
  };
  // (e^r - 1) / r, enough for 16-bit results: relative error 2^-13.27
  static constexpr float exp_short[] = {
      0x80066ap-23f,
      0x810eb2p-24f,
      0xa9251ep-26f,
  };
  // (log(1 + f) - f) / f^2, f in [-1/4, 1/2]: relative error 2^-30.41
  static constexpr float log1p_tail[] = {
      -0xffffffp-25f,
      0xaaaaaep-25f,
      -0x800062p-25f,
      0xcccbd1p-26f,
      -0xaa84ebp-26f,
      0x922515p-26f,
      -0x828fd8p-26f,
      0xf0c578p-27f,
      -0xbaf23cp-27f,
      0x98e24fp-28f,
  };
  // (2 atanh(s) / s - 2) / s^2 in s^2, |s| <= 3 - sqrt(8): relative error 2^-36.59
  static constexpr float atanh_tail[] = {
      0xaaaaaap-24f,
      0xcccd3ep-25f,
      0x921c3ap-25f,
      0xf1830fp-26f,
  };
};

template <>
struct Coefficients<double> {
  // (e^r - 1 - r) / r^2: relative error 2^-57.94
  static constexpr double exp_tail[] = {
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
  // (log(1 + f) - f) / f^2, f in [-1/4, 1/2]: relative error 2^-61.92
  static constexpr double log1p_tail[] = {
      -0x10000000000000p-53,
      0x15555555555550p-54,
      -0x1fffffffffffb4p-55,
      0x1999999999ab2cp-55,
      -0x1555555555b67cp-55,
      0x124924923fa3f0p-55,
      -0x1fffffff9148d6p-56,
      0x1c71c72120b397p-56,
      -0x199999ba24a9b7p-56,
      0x1745d0e977a379p-56,
      -0x1555500d043c2dp-56,
      0x13b13f76f64711p-56,
      -0x12499e4b9bd88bp-56,
      0x1111b19812da9dp-56,
      -0x1ff5134c531731p-57,
      0x1dfa2a8b94a41ep-57,
      -0x1c8edfc3248bb2p-57,
      0x1c38abdf1d74e3p-57,
      -0x1b89d4da32acbfp-57,
      0x167e27af14e09ep-57,
      -0x188a94cf647344p-58,
      0x1940bc5e490e21p-60,
  };
  // (2 atanh(s) / s - 2) / s^2 in s^2, |s| <= 3 - sqrt(8): relative error 2^-58.47
  static constexpr double atanh_tail[] = {
      0x15555555555593p-53,
      0x1999999997f856p-54,
      0x124924942433c5p-54,
      0x1c71c51c21f367p-55,
      0x174664e682095fp-55,
      0x139a0150fd0b7fp-55,
      0x12f16ce3b253e4p-55,
  };
};

}  // namespace vastmax::VM_ISA
