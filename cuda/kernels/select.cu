// SPDX-License-Identifier: Apache-2.0
// The order of a row's logits.  Its k first lie in the tiles of the k best among the best of each tile, which are
// looked at once more.
#include <bit>

#include "cuda/device/select.hpp"
#include "cuda/kernels/select.hpp"

namespace vastmax::VM_ISA {

constexpr unsigned tile_threads = 128;

struct TopRoom {
  std::int64_t entries, tiles, blocks;
  std::size_t bytes;
  bool shared;
};

template <class T, bool plain>
VM_KERNEL(tile_threads, sizeof(T) == 8 ? 3 : 4)
tiles_kernel(VM_PARAMETER RowOperands a, std::int64_t tiles, Entry* bests) {
  for (std::int64_t t = global_warp(); t < a.shape.count * tiles; t += global_warps()) {
    const std::int64_t row = t / tiles, start = t % tiles * tile_length<T>;
    Entry best;
    if constexpr (plain) {
      best = best_of<T>(PlainTile<T>(a.shape.row(a.x, row), a.shape.n, start, -Number<compute_t<T>>::infinity), start);
    } else {
      bool seen = false;
      best = best_of<T>(StagedTile<T>(Staged<T>(a, row, true), a.shape.n, start, seen), start);
    }
    if (lane() == 0) bests[t] = best;
  }
}

template <bool by_block>
VM_KERNEL(virtual_threads, 2)
rows_kernel(std::int64_t rows, std::int64_t tiles, Entry* bests) {
  using Merging = Team<by_block>;
  Merging::each_row(rows, [&](std::int64_t row) {
    const Entry best = Merging::best(bests + row * tiles, tiles);
    if (Merging::first()) bests[rows * tiles + row] = best;
  });
}

// fn(entry) for the logits of tile t, by a warp.
template <class T, bool plain, class Fn>
VM_INLINE void each_entry(const RowOperands& a, std::int64_t row, std::int64_t t, const Fn& fn) {
  const std::int64_t start = t * tile_length<T>;
  const auto visit = [&](const auto& x) {
    VM_UNROLL(64)
    for (int j = 0; j < per_lane<T>; ++j)
      if (const std::int64_t i = start + place_in_tile<T>(j); i < a.shape.n) fn(Entry{key_of(x[j].piece[0].v), i});
  };
  if constexpr (plain) {
    visit(PlainTile<T>(a.shape.row(a.x, row), a.shape.n, start, 0));
  } else {
    bool seen = false;
    visit(StagedTile<T>(Staged<T>(a, row, true), a.shape.n, start, seen));
  }
}

template <class T, bool plain>
VM_KERNEL(virtual_threads, 1)
top_kernel(VM_PARAMETER TopOperands a, std::int64_t tiles, const Entry* bests, VM_PARAMETER TopRoom room,
           std::byte* memory) {
  auto& tally = *reinterpret_cast<Tally*>(shared_memory());
  std::byte* const own = room.shared ? shared_memory() + sizeof(Tally) : memory + block() * room.bytes;
  auto* const entries = reinterpret_cast<Entry*>(own);
  auto* const chosen = reinterpret_cast<unsigned*>(entries + room.entries);
  const auto wanted = a.wanted;
  constexpr unsigned warps = virtual_threads / lanes_of_warp;
  for (std::int64_t row = block(); row < a.shape.count; row += blocks()) {
    const Entry* const of_tile = bests + row * tiles;
    const std::uint64_t highest = bests[a.shape.count * tiles + row].key;
    Entry edge;  // everything reaches it
    if (tiles > wanted)
      edge = edge_between(edge, highest, a.shape.n, wanted, room.tiles, [&](const Entry& at) {
        std::int64_t count = 0;
        for (std::int64_t t = thread(); t < tiles; t += threads()) count += of_tile[t].reaches(at);
        return total(count, tally);
      });
    const unsigned some = filled(tally, [&] {
      for (std::int64_t t = thread(); t < tiles; t += threads())
        if (of_tile[t].reaches(edge)) chosen[claim(tally.filled)] = static_cast<unsigned>(t);
    });
    const auto each = [&](const auto& fn) {
      for (unsigned c = thread() / lanes_of_warp; c < some; c += warps) each_entry<T, plain>(a, row, chosen[c], fn);
    };
    const auto reaching = [&](const Entry& at) {
      std::int64_t count = 0;
      each([&](const Entry& e) { count += e.reaches(at); });
      return total(count, tally);
    };
    if (some * std::int64_t{tile_length<T>} > room.entries && reaching(edge) > room.entries)
      edge = edge_between(edge, highest, a.shape.n, wanted, room.entries, reaching);
    const unsigned found = filled(tally, [&] {
      each([&](const Entry& e) {
        if (e.reaches(edge)) entries[claim(tally.filled)] = e;
      });
    });
    sort(entries, found);
    for (std::int64_t k = thread(); k < wanted; k += threads()) a.indices[row * wanted + k] = entries[k].index;
    sync_block();
  }
}

// Elements as they lie in memory.
template <class T>
VM_KERNEL(virtual_threads, 4)
values_kernel(VM_PARAMETER TopOperands a, OutBytes values) {
  constexpr auto item = static_cast<std::int64_t>(sizeof(T));
  for (std::int64_t i = global_thread(); i < a.shape.count * a.wanted; i += global_threads())
    store_one<T>(values + i * item, load_one<T>(a.shape.row(a.x, i / a.wanted) + a.indices[i] * a.x.step));
}

void best_tiles(DType dtype, bool plain, const RowOperands& a, std::int64_t tiles, Entry* bests, const Stream& stream) {
  const Grid grid = grid_for(a.shape.count * tiles, tile_threads / lanes_of_warp, tile_threads, stream);
  with_dtype(dtype, [&]<class T>(T) {
    plain ? launch(tiles_kernel<T, true>, grid, stream, a, tiles, bests)
          : launch(tiles_kernel<T, false>, grid, stream, a, tiles, bests);
  });
  best_of_rows(a.shape.count, tiles, bests, stream);
}

void best_of_rows(std::int64_t rows, std::int64_t tiles, Entry* bests, const Stream& stream) {
  with_team(DType::float32, rows, tiles, stream, [&]<bool by_block>(float, By<by_block>, const Grid& grid) {
    launch(rows_kernel<by_block>, grid, stream, rows, tiles, bests);
  });
}

// Where the search keeps what it finds: in shared memory, or `bytes` for each of `blocks`.
static TopRoom top_room(const TopOperands& a, std::int64_t tiles, const Stream& stream) {
  constexpr std::size_t shared = 47 << 10;
  constexpr std::int64_t least = 512, most_bytes = 256 << 20;
  const std::int64_t wanted = a.wanted;
  const auto power_of_two = [](std::int64_t n) {
    return static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(n)));
  };
  TopRoom room{};
  room.tiles = tiles > 32 * wanted ? 2 * wanted : tiles < wanted ? tiles : wanted;
  room.entries = std::max(least, power_of_two(wanted <= 256 ? 8 * wanted : wanted <= 1024 ? 2048 : wanted));
  room.bytes = static_cast<std::size_t>(room.entries) * sizeof(Entry) +
               static_cast<std::size_t>((room.tiles + 3) / 4) * 4 * sizeof(unsigned);
  room.shared = room.bytes + sizeof(Tally) <= shared;
  room.blocks = grid_for(a.shape.count, 1, virtual_threads, stream).blocks;
  if (!room.shared)
    room.blocks = std::max<std::int64_t>(1, std::min(room.blocks, most_bytes / static_cast<std::int64_t>(room.bytes)));
  return room;
}

void top_indices(DType dtype, bool plain, const TopOperands& a, std::int64_t tiles, const Entry* bests, const char* op,
                 const Stream& stream) {
  const TopRoom room = top_room(a, tiles, stream);
  const Workspace<std::byte> memory(room.shared ? 0 : room.blocks * static_cast<std::int64_t>(room.bytes), stream, op);
  const Grid grid{room.blocks, virtual_threads, sizeof(Tally) + (room.shared ? room.bytes : 0)};
  with_dtype(dtype, [&]<class T>(T) {
    plain ? launch(top_kernel<T, true>, grid, stream, a, tiles, bests, room, memory.data())
          : launch(top_kernel<T, false>, grid, stream, a, tiles, bests, room, memory.data());
  });
}

void top_values(DType dtype, const TopOperands& a, std::byte* values, const Stream& stream) {
  const Grid grid = grid_for(a.shape.count * a.wanted, virtual_threads, virtual_threads, stream);
  with_dtype(dtype, [&]<class T>(T) { launch(values_kernel<T>, grid, stream, a, values); });
}

}  // namespace vastmax::VM_ISA
