// SPDX-License-Identifier: Apache-2.0
// Element types in memory and the type each is computed in.
#pragma once

#include <cstddef>
#include <cstdint>

namespace vastmax {

enum class DType : std::uint8_t { float16, bfloat16, float32, float64 };
inline constexpr int dtype_count = 4;

struct Half {
  std::uint16_t bits;
};
struct BFloat16 {
  std::uint16_t bits;
};

template <class T>
struct ComputeType {
  using type = float;
};
template <>
struct ComputeType<double> {
  using type = double;
};
template <class T>
using compute_t = typename ComputeType<T>::type;

constexpr std::size_t item_size(DType d) { return d == DType::float64 ? 8 : d == DType::float32 ? 4 : 2; }
constexpr std::size_t compute_size(DType d) { return d == DType::float64 ? 8 : 4; }
// Reductions and losses of 16-bit logits come out in float32.
constexpr DType reduced(DType d) { return d == DType::float64 ? DType::float64 : DType::float32; }

// Classes in one canonical block: 16 KiB of the compute type, so that a block and the next one share a 48 KiB
// first-level cache. Independent of threads, batch and ISA: it fixes the order of every sum, hence the bits.
constexpr std::size_t block_length(DType d) { return 16384 / compute_size(d); }

}  // namespace vastmax
