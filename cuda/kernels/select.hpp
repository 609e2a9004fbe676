// SPDX-License-Identifier: Apache-2.0
// What the order of a row's logits offers the host.
#pragma once

#include "cpp/math/mass.hpp"
#include "cpp/math/threshold.hpp"
#include "cuda/kernels/launch.hpp"

namespace vastmax::VM_ISA {

// bests: of each tile, then of each row; without the temperature.
void best_tiles(DType, bool plain, const RowOperands&, std::int64_t tiles, Entry* bests, const Stream&);
void best_of_rows(std::int64_t rows, std::int64_t tiles, Entry* bests, const Stream&);  // from those of tiles

struct TopOperands : RowOperands {
  std::int64_t wanted;    // of each row
  std::int64_t* indices;  // [rows, wanted], dense
};
void top_indices(DType, bool plain, const TopOperands&, std::int64_t tiles, const Entry* bests, const char* op,
                 const Stream&);
void top_values(DType, const TopOperands&, std::byte* values, const Stream&);

// What is kept of each row: start, count and share of its order.  One of each for each row, dense; null for no filter.
struct CutOperands : RowOperands {  // out: the masked logits
  const std::int64_t* top_k = nullptr;
  const double *top_p = nullptr, *min_p = nullptr, *temperature = nullptr;
  std::int64_t tiles = 0;
  const Entry* bests = nullptr;  // as best_tiles leaves them
  Mass* masses = nullptr;        // of each tile; not needed without top_p
  Cut* cuts = nullptr;
};
void cut_rows(DType, const CutOperands&, const Stream&);
void mask(DType, bool plain, const CutOperands&, const Stream&);

}  // namespace vastmax::VM_ISA
