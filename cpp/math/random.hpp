// SPDX-License-Identifier: Apache-2.0
// Random numbers by counter: which draw of which row of which step decides the bits, never who asks or when.
// Philox4x32-10 (Salmon, Moraes, Dror and Shaw 2011), the same on the host and on a GPU.
#pragma once

#include "cpp/math/algebra.hpp"
#include "vastmax/sampler.hpp"

namespace vastmax {

struct Words {
  std::uint32_t at[4];
};

VM_SHARED Words philox(Words c, std::uint64_t key) {
  std::uint32_t low = static_cast<std::uint32_t>(key), high = static_cast<std::uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = std::uint64_t{0xd2511f53} * c.at[0], b = std::uint64_t{0xcd9e8d57} * c.at[2];
    c = {{static_cast<std::uint32_t>(b >> 32) ^ c.at[1] ^ low, static_cast<std::uint32_t>(b),
          static_cast<std::uint32_t>(a >> 32) ^ c.at[3] ^ high, static_cast<std::uint32_t>(a)}};
    low += 0x9e3779b9, high += 0xbb67ae85;
  }
  return c;
}

// What numbers are for: streams that share nothing.
enum class Purpose : std::uint16_t { ids, part, clock, sample, noise, again };

struct Bits {
  std::uint64_t at[2];
};
VM_SHARED Bits random_bits(const Draws& d, Purpose purpose, std::uint32_t block) {
  const std::uint32_t row_high = static_cast<std::uint32_t>(d.row >> 32) & 0xffff;
  const Words w = philox({{block, static_cast<std::uint32_t>(d.row),
                           row_high | static_cast<std::uint32_t>(static_cast<std::uint16_t>(purpose)) << 16, d.step}},
                         d.seed);
  return {{std::uint64_t{w.at[1]} << 32 | w.at[0], std::uint64_t{w.at[3]} << 32 | w.at[2]}};
}

// [0, 1) in steps of 2^-53
VM_SHARED double unit(std::uint64_t bits) {
  return static_cast<double>(static_cast<std::int64_t>(bits >> 11)) * 0x1p-53;
}

// floor(a b / 2^64): of random bits `a`, a number below b, each within b 2^-64 of equally likely.
VM_SHARED std::uint64_t multiply_high(std::uint64_t a, std::uint64_t b) {  // in 32-bit products, which vectorise
  const std::uint64_t a0 = a & 0xffffffff, a1 = a >> 32, b0 = b & 0xffffffff, b1 = b >> 32;
  const std::uint64_t middle = a1 * b0 + (a0 * b0 >> 32), other = a0 * b1 + (middle & 0xffffffff);
  return a1 * b1 + (middle >> 32) + (other >> 32);
}

}  // namespace vastmax
