// SPDX-License-Identifier: Apache-2.0
// What group_ids.cu offers the host.  All arrays are in device memory.
#pragma once

#include <cstdint>

#include "cpp/math/algebra.hpp"
#include "cuda/runtime/stream.hpp"

namespace vastmax::VM_ISA {

inline constexpr std::int64_t entries_of_tile = 4096;
VM_SHARED std::int64_t tiles_of_entries(std::int64_t n) { return (n + entries_of_tile - 1) / entries_of_tile; }

// One pass of a stable sort by the 4 bits of ids from `shift` on; from.order null: entry i is number i.
inline constexpr int digit_bits = 4, digits = 1 << digit_bits;
struct Numbered {
  std::int64_t *ids, *order;
};
// counts [digits, tiles]
void sort_pass(const Numbered& from, const Numbered& to, std::int64_t n, int shift, std::int64_t* counts,
               const Stream&);

// starts [groups + 1] of the groups of equal ids among sorted ones, and the id of each; counts [tiles + 1] ends with
// how many there are.
void cut_groups(const std::int64_t* sorted, std::int64_t n, std::int64_t* starts, std::int64_t* ids,
                std::int64_t* counts, const Stream&);
// pieces [groups + 1]: how many pieces all groups before have; counts [tiles of groups + 1] ends with all of them.
void cut_pieces(const std::int64_t* starts, std::int64_t groups, std::int64_t* pieces, std::int64_t* counts,
                const Stream&);

}  // namespace vastmax::VM_ISA
