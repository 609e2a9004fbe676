// SPDX-License-Identifier: Apache-2.0
// Entries by their class: a stable radix sort, and where each class starts in it.  A block counts its tile, one block
// sums up the counts of all tiles, and every entry then knows its place: nothing depends on who comes first.
#include "cuda/kernels/group_ids.hpp"
#include "cuda/kernels/launch.hpp"

namespace vastmax::VM_ISA {

constexpr unsigned block_threads = 256;
constexpr int entries_of_thread = static_cast<int>(entries_of_tile / block_threads);
static_assert(digits * block_threads == entries_of_tile);

// The sum of what the threads before have; all: of all threads.  By a whole block.
VM_INLINE std::int64_t sum_before(std::int64_t mine, std::int64_t (&room)[block_threads], std::int64_t& all) {
  const unsigned me = thread();
  std::int64_t sum = mine;
  room[me] = sum;
  sync_block();
  for (unsigned step = 1; step < block_threads; step *= 2) {
    const std::int64_t before = me >= step ? room[me - step] : 0;
    sync_block();
    sum += before;
    room[me] = sum;
    sync_block();
  }
  all = room[block_threads - 1];
  sync_block();
  return sum - mine;
}

// counts become the sums of all before; to[n] gets the sum of all where there is such a place.  One block.
VM_KERNEL(block_threads, 2) scan_kernel(std::int64_t* counts, std::int64_t n, std::int64_t* total) {
  auto& room = *reinterpret_cast<std::int64_t (*)[block_threads]>(shared_memory());
  std::int64_t before = 0;
  for (std::int64_t first = 0; first < n; first += entries_of_tile) {
    const std::int64_t begin = first + static_cast<std::int64_t>(thread()) * entries_of_thread;
    std::int64_t mine = 0, all = 0;
    for (std::int64_t i = begin; i < begin + entries_of_thread && i < n; ++i) mine += counts[i];
    std::int64_t sum = before + sum_before(mine, room, all);
    for (std::int64_t i = begin; i < begin + entries_of_thread && i < n; ++i) {
      const std::int64_t count = counts[i];
      counts[i] = sum;
      sum += count;
    }
    before += all;
  }
  if (total != nullptr && thread() == 0) *total = before;
}

struct SortRoom {
  std::int64_t scan[block_threads];
  std::uint32_t count[digits][block_threads];  // of a thread's entries
};

VM_INLINE unsigned digit_of(std::int64_t id, int shift) { return static_cast<unsigned>(id >> shift) % digits; }

// fn(i, digit) for this thread's entries of a tile, in their order.
template <class Fn>
VM_INLINE void each_entry(const std::int64_t* ids, std::int64_t n, std::int64_t tile, int shift, const Fn& fn) {
  const std::int64_t begin = tile * entries_of_tile + static_cast<std::int64_t>(thread()) * entries_of_thread;
  for (std::int64_t i = begin; i < begin + entries_of_thread && i < n; ++i) fn(i, digit_of(ids[i], shift));
}
VM_INLINE void count_digits(SortRoom& room, const std::int64_t* ids, std::int64_t n, std::int64_t tile, int shift) {
  sync_block();
  for (unsigned d = 0; d < digits; ++d) room.count[d][thread()] = 0;
  each_entry(ids, n, tile, shift, [&](std::int64_t, unsigned digit) { ++room.count[digit][thread()]; });
  sync_block();
}

VM_KERNEL(block_threads, 2)
count_kernel(const std::int64_t* ids, std::int64_t n, std::int64_t tiles, int shift, std::int64_t* counts) {
  auto& room = *reinterpret_cast<SortRoom*>(shared_memory());
  for (std::int64_t tile = block(); tile < tiles; tile += blocks()) {
    count_digits(room, ids, n, tile, shift);
    if (thread() >= digits) continue;
    std::int64_t sum = 0;
    for (const std::uint32_t count : room.count[thread()]) sum += count;
    counts[thread() * tiles + tile] = sum;
  }
}

VM_KERNEL(block_threads, 2)
scatter_kernel(Numbered from, Numbered to, std::int64_t n, std::int64_t tiles, int shift, const std::int64_t* before) {
  auto& room = *reinterpret_cast<SortRoom*>(shared_memory());
  for (std::int64_t tile = block(); tile < tiles; tile += blocks()) {
    count_digits(room, from.ids, n, tile, shift);
    // What the entries before in the tile have, digit after digit: a stretch of the counts for each thread.
    std::uint32_t* const stretch = &room.count[0][0] + thread() * entries_of_thread;
    std::int64_t mine = 0, all = 0;
    for (int i = 0; i < entries_of_thread; ++i) mine += stretch[i];
    auto sum = static_cast<std::uint32_t>(sum_before(mine, room.scan, all));
    for (int i = 0; i < entries_of_thread; ++i) {
      const std::uint32_t count = stretch[i];
      stretch[i] = sum;
      sum += count;
    }
    sync_block();
    if (thread() < digits) room.scan[thread()] = room.count[thread()][0];  // where a digit starts in the tile
    sync_block();
    each_entry(from.ids, n, tile, shift, [&](std::int64_t i, unsigned digit) {
      const std::int64_t at = before[digit * tiles + tile] + room.count[digit][thread()]++ - room.scan[digit];
      to.ids[at] = from.ids[i];
      to.order[at] = from.order == nullptr ? i : from.order[i];
    });
  }
}

// How many of a thread's entries of a tile `is(i)` is true for.
template <class Value>
VM_INLINE std::int64_t own_sum(std::int64_t n, std::int64_t tile, const Value& value) {
  const std::int64_t begin = tile * entries_of_tile + static_cast<std::int64_t>(thread()) * entries_of_thread;
  std::int64_t sum = 0;
  for (std::int64_t i = begin; i < begin + entries_of_thread && i < n; ++i) sum += value(i);
  return sum;
}
// The sum of value(i) over each tile; then put(i, sum of all before i).
template <class Value>
VM_INLINE void sum_tiles(std::int64_t n, std::int64_t* counts, const Value& value) {
  auto& room = *reinterpret_cast<std::int64_t (*)[block_threads]>(shared_memory());
  for (std::int64_t tile = block(); tile < tiles_of_entries(n); tile += blocks()) {
    std::int64_t all = 0;
    sum_before(own_sum(n, tile, value), room, all);
    if (thread() == 0) counts[tile] = all;
  }
}
template <class Value, class Put>
VM_INLINE void put_sums(std::int64_t n, const std::int64_t* before, const Value& value, const Put& put) {
  auto& room = *reinterpret_cast<std::int64_t (*)[block_threads]>(shared_memory());
  for (std::int64_t tile = block(); tile < tiles_of_entries(n); tile += blocks()) {
    std::int64_t all = 0, sum = before[tile] + sum_before(own_sum(n, tile, value), room, all);
    const std::int64_t begin = tile * entries_of_tile + static_cast<std::int64_t>(thread()) * entries_of_thread;
    for (std::int64_t i = begin; i < begin + entries_of_thread && i < n; ++i) {
      put(i, sum);
      sum += value(i);
    }
  }
}

struct Heads {  // whether a group starts at an entry
  const std::int64_t* sorted;
  VM_MEMBER std::int64_t operator()(std::int64_t i) const { return i == 0 || sorted[i] != sorted[i - 1]; }
};
struct Pieces {  // of a group
  const std::int64_t* starts;
  VM_MEMBER std::int64_t operator()(std::int64_t group) const {
    return (starts[group + 1] - starts[group] + entries_of_piece - 1) / entries_of_piece;
  }
};

template <class Value>
VM_KERNEL(block_threads, 2)
sums_kernel(Value value, std::int64_t n, std::int64_t* counts) {
  sum_tiles(n, counts, value);
}
VM_KERNEL(block_threads, 2)
starts_kernel(Heads heads, std::int64_t n, const std::int64_t* before, std::int64_t* starts, std::int64_t* ids) {
  put_sums(n, before, heads, [&](std::int64_t i, std::int64_t group) {
    if (heads(i) != 0) starts[group] = i, ids[group] = heads.sorted[i];
    if (i + 1 == n) starts[group + heads(i)] = n;
  });
}
VM_KERNEL(block_threads, 2)
pieces_kernel(Pieces pieces, std::int64_t groups, const std::int64_t* before, std::int64_t* to) {
  put_sums(groups, before, pieces, [&](std::int64_t group, std::int64_t sum) {
    to[group] = sum;
    if (group + 1 == groups) to[groups] = sum + pieces(group);
  });
}

constexpr std::size_t scan_bytes = block_threads * sizeof(std::int64_t);

static void scan(std::int64_t* counts, std::int64_t n, std::int64_t* total, const Stream& stream) {
  launch(scan_kernel, Grid{1, block_threads, scan_bytes}, stream, counts, n, total);
}

void sort_pass(const Numbered& from, const Numbered& to, std::int64_t n, int shift, std::int64_t* counts,
               const Stream& stream) {
  const std::int64_t tiles = tiles_of_entries(n);
  const Grid grid = grid_for(tiles, 1, block_threads, stream, sizeof(SortRoom));
  launch(count_kernel, grid, stream, from.ids, n, tiles, shift, counts);
  scan(counts, digits * tiles, nullptr, stream);
  launch(scatter_kernel, grid, stream, from, to, n, tiles, shift, counts);
}

void cut_groups(const std::int64_t* sorted, std::int64_t n, std::int64_t* starts, std::int64_t* ids,
                std::int64_t* counts, const Stream& stream) {
  const Grid grid = grid_for(tiles_of_entries(n), 1, block_threads, stream, scan_bytes);
  launch(sums_kernel<Heads>, grid, stream, Heads{sorted}, n, counts);
  scan(counts, tiles_of_entries(n), counts + tiles_of_entries(n), stream);
  launch(starts_kernel, grid, stream, Heads{sorted}, n, counts, starts, ids);
}

void cut_pieces(const std::int64_t* starts, std::int64_t groups, std::int64_t* pieces, std::int64_t* counts,
                const Stream& stream) {
  const Grid grid = grid_for(tiles_of_entries(groups), 1, block_threads, stream, scan_bytes);
  launch(sums_kernel<Pieces>, grid, stream, Pieces{starts}, groups, counts);
  scan(counts, tiles_of_entries(groups), counts + tiles_of_entries(groups), stream);
  launch(pieces_kernel, grid, stream, Pieces{starts}, groups, counts, pieces);
}

}  // namespace vastmax::VM_ISA
