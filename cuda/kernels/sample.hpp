// SPDX-License-Identifier: Apache-2.0
// What drawing from logits offers the host.
#pragma once

#include "cpp/math/threshold.hpp"
#include "cuda/kernels/launch.hpp"

namespace vastmax::VM_ISA {

// What draws need of a row.
struct DrawnRow {
  double max, temperature, log;  // log of the sum over the largest term
  std::int64_t where;            // the first tile that holds max
  bool valid;                    // something can be drawn
  // Only the first class that has the largest logit is ever drawn.
  VM_SHARED bool certain() const { return max == infinity || temperature == 0; }
};

// With a filter that has draws tried without it there are two passes: the first, of the rows whose filter tries, leaves
// ids; the second keeps those that the cut keeps.
enum class Pass : std::uint8_t { only, first, second };

// Arrays are dense; those of parameters may be null.
struct SampleOperands : RowOperands {
  const double* row_temperature = nullptr;  // of each row
  const std::int64_t* top_k = nullptr;
  const double* top_p = nullptr;
  const Cut* cuts = nullptr;
  Pass pass = Pass::only;
  const Entry* bests = nullptr;  // of each tile, then of each row; needed with cuts and without replacement
  Draws draws = {};
  std::int64_t size = 0, tiles = 0;
  // Of each tile.  Where the temperature is not 1 or 0, terms are e^((z - max) / temperature) with the tile's max.
  TilePart* parts = nullptr;
  double* ends = nullptr;  // running sums over the tiles of a row, in the unit of its largest term
  DrawnRow* rows = nullptr;
  std::int64_t* ids = nullptr;  // [rows, size]
  double* log_prob = nullptr;
  std::uint8_t* valid = nullptr;
  VM_SHARED double temperature_of(std::int64_t row) const {
    return row_temperature == nullptr ? 1 : row_temperature[row];
  }
  VM_SHARED bool tries(std::int64_t row) const {
    return Filter{top_k == nullptr ? 0 : top_k[row], top_p == nullptr ? 1 : top_p[row]}.tries(shape.n);
  }
  VM_SHARED bool left_out(std::int64_t row) const { return pass == Pass::first && !tries(row); }
  VM_SHARED bool altered() const { return row_temperature != nullptr || cuts != nullptr; }
};
void sample_rows(DType, bool plain, const SampleOperands&, const Stream&);  // parts, ends, rows
void sample(DType, bool plain, const SampleOperands&, const Stream&);
// Without replacement, of `count` rows: a key for each class, [count, classes], and once ids are those of the largest,
// what becomes of them.
void sample_noise(DType, const SampleOperands&, std::int64_t first, std::int64_t count, double* keys, const Stream&);
void sample_unique(DType, const SampleOperands&, std::int64_t first, std::int64_t count, const double* keys,
                   const Stream&);

struct NoisyOperands : RowOperands {  // out: the result
  Draws draws = {};
  double tau = 1;
  std::int64_t tiles = 0;
};
// Of `count` rows: (x + noise) / tau into `noisy`, of the compute type, [count, classes], and what its tiles add up to;
// once that is known of each row, the softmax.
void noise_tiles(DType, const NoisyOperands&, std::int64_t first, std::int64_t count, std::byte* noisy, TilePart* parts,
                 const Stream&);
void noise_softmax(DType, const NoisyOperands&, std::int64_t first, std::int64_t count, const std::byte* noisy,
                   const RowResult* rows, const Stream&);
// One where x + noise is largest, else zero.  bests: of each tile, then of each row.
void noise_largest(DType, const NoisyOperands&, Entry* bests, const Stream&);

}  // namespace vastmax::VM_ISA
