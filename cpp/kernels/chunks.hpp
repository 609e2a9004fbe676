// SPDX-License-Identifier: Apache-2.0
// Random bits a few hundred at a time: plain loops, which the compiler makes vectors of.
#pragma once

#include "cpp/math/random.hpp"
#include "cpp/simd/isa.hpp"

namespace vastmax::VM_ISA {

static constexpr std::size_t chunk = 256;

// run(first, n, at): n draws or classes, at most a chunk, from `first` on, the at-th of all.
template <class Fn>
VM_INLINE void each_chunk(std::size_t first, std::size_t n, const Fn& run) {
  for (std::size_t at = 0; at < n; at += chunk) run(first + at, n - at < chunk ? n - at : chunk, at);
}

// 64 bits for each of a chunk's draws, two draws to a block of the generator.
class Halves {
 public:
  VM_MEMBER Halves(const Draws& draws, Purpose purpose, std::size_t first, std::size_t n) : skip_(first % 2) {
    const std::size_t blocks = (skip_ + n + 1) / 2;
    for (std::size_t i = 0; i < blocks; ++i) {
      const Bits b = random_bits(draws, purpose, static_cast<std::uint32_t>(first / 2 + i));
      bits_[2 * i] = b.at[0], bits_[2 * i + 1] = b.at[1];
    }
  }
  VM_MEMBER std::uint64_t operator[](std::size_t i) const { return bits_[skip_ + i]; }

 private:
  std::uint64_t bits_[chunk + 2];
  std::size_t skip_;
};

}  // namespace vastmax::VM_ISA
