// SPDX-License-Identifier: Apache-2.0
// A GPU that runs on the host, for tests: a fiber per CUDA thread, the blocks of a launch one after the other in a
// shuffled order.  It computes; it says nothing about speed, nor about memory that several blocks write at once.
//
// What it asserts, with std::logic_error from the launch: every lane of a warp arrives at the same collective, every
// thread of a block at the same barrier; accesses lie inside the memory that the call was given, and vectors on 16-byte
// boundaries.  Shared memory, workspace and fresh outputs start as NaN.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <source_location>
#include <type_traits>

namespace vastmax::simt {

inline constexpr unsigned warp_size = 32;

struct Launch {
  unsigned grid, block;
  std::size_t shared_bytes;
};

class Kernel {  // a reference to a callable
 public:
  template <class Fn>
  explicit Kernel(const Fn& fn) : object_(&fn), call_([](const void* o) { (*static_cast<const Fn*>(o))(); }) {}
  void operator()() const { call_(object_); }

 private:
  const void* object_;
  void (*call_)(const void*);
};

void run(const Launch&, Kernel kernel);

// Another seed, another order of blocks and of the lanes between two collectives.
void shuffle(std::uint64_t seed);
// At most so many blocks: kernels must give the same bits under any launch shape.
void limit_grid(unsigned blocks);
// Launches since the process began, for tests that prove which kernel ran.
std::uint64_t launches();

// --- inside a kernel
struct Place {
  unsigned thread, threads, block, blocks;
};
const Place& place();
std::byte* shared_memory();
void sync_block(const std::source_location& = std::source_location::current());
// All 32 lanes exchange 8 bytes: returns those of lane `from`.
std::uint64_t exchange(std::uint64_t mine, unsigned from, const std::source_location&);

// --- memory
void allow(const void* begin, std::size_t bytes);  // until the matching forbid
void forbid(const void* begin, std::size_t bytes);
void check_access(const void* at, std::size_t bytes, std::size_t alignment, bool writes);

}  // namespace vastmax::simt
