// SPDX-License-Identifier: Apache-2.0
// What a kernel sees of the machine: threads, warps, barriers, memory.  Intrinsics are in this file only; under g++ the
// same names are fibers (simt/fibers.hpp), with checks.
#pragma once

#include "cpp/simd/isa.hpp"

#ifdef __CUDACC__
// A kernel of blocks of `threads`, of which `blocks` share a processor: what its registers must allow.
#define VM_KERNEL(threads, blocks) static __global__ __launch_bounds__(threads, blocks) void
// A parameter that may be referred to without a copy of it in local memory.
#define VM_PARAMETER const __grid_constant__
#else
#include "cuda/simt/fibers.hpp"
#define VM_KERNEL(threads, blocks) static void
#define VM_PARAMETER const
#endif

namespace vastmax::VM_ISA {

using Bytes = const std::byte*;
using OutBytes = std::byte*;

inline constexpr unsigned lanes_of_warp = 32;

// How many blocks fewer share a processor where nvcc 13.0 needs more registers for the same code: sm_100 and later.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
inline constexpr int fewer_blocks = 1;
#else
inline constexpr int fewer_blocks = 0;
#endif

// 16 bytes of elements: what one lane loads or stores at once.
template <class T>
struct alignas(16) Group {
  static constexpr int size = 16 / sizeof(T);
  T at[size];
};
struct alignas(16) Words {
  std::uint32_t at[4];
};

#ifdef __CUDACC__

VM_INLINE unsigned thread() { return threadIdx.x; }
VM_INLINE unsigned threads() { return blockDim.x; }
VM_INLINE unsigned block() { return blockIdx.x; }
VM_INLINE unsigned blocks() { return gridDim.x; }
VM_INLINE void sync_block() { __syncthreads(); }
VM_INLINE std::byte* shared_memory() {
  extern __shared__ __align__(16) unsigned char block_memory[];
  return reinterpret_cast<std::byte*>(block_memory);
}
template <class T>
VM_INLINE T shuffle_xor(T value, unsigned mask) {
  return __shfl_xor_sync(~0u, value, static_cast<int>(mask));
}
template <class T>
VM_INLINE T shuffle(T value, unsigned from) {
  return __shfl_sync(~0u, value, static_cast<int>(from));
}
VM_INLINE bool any(bool value) { return __any_sync(~0u, value) != 0; }
// What lanes of a warp wrote before, all of them see after.
VM_INLINE void sync_warp() { __syncwarp(); }
// Adds one to a counter that the threads of a block share; returns what it was.
VM_INLINE unsigned claim(unsigned& counter) { return atomicAdd(&counter, 1u); }
// Adds to a sum that the threads of a block share.
VM_INLINE void add(std::uint64_t& sum, std::uint64_t value) {
  atomicAdd(reinterpret_cast<unsigned long long*>(&sum), static_cast<unsigned long long>(value));
}

VM_INLINE Words load_words(Bytes at) {
  const uint4 v = *reinterpret_cast<const uint4*>(at);
  return {{v.x, v.y, v.z, v.w}};
}
VM_INLINE void store_words(OutBytes at, Words w) {
  *reinterpret_cast<uint4*>(at) = make_uint4(w.at[0], w.at[1], w.at[2], w.at[3]);
}
template <class T>
VM_INLINE T load_one(Bytes at) {
  return *reinterpret_cast<const T*>(at);
}
template <class T>
VM_INLINE void store_one(OutBytes at, T value) {
  *reinterpret_cast<T*>(at) = value;
}
// Makes the compiler forget where a value came from, lest it keeps what it could compute again.
VM_INLINE void renew(float& v) { asm volatile("" : "+f"(v)); }
VM_INLINE void renew(double& v) { asm volatile("" : "+d"(v)); }
// The low word of (high:low) shifted right by `bits` < 32.
VM_INLINE std::uint32_t funnel(std::uint32_t low, std::uint32_t high, unsigned bits) {
  return __funnelshift_r(low, high, bits);
}

#else

VM_INLINE unsigned thread() { return simt::place().thread; }
VM_INLINE unsigned threads() { return simt::place().threads; }
VM_INLINE unsigned block() { return simt::place().block; }
VM_INLINE unsigned blocks() { return simt::place().blocks; }
VM_INLINE void sync_block(const std::source_location& where = std::source_location::current()) {
  simt::sync_block(where);
}
VM_INLINE std::byte* shared_memory() { return simt::shared_memory(); }
template <class T>
VM_INLINE T shuffle(T value, unsigned from, const std::source_location& where = std::source_location::current()) {
  static_assert(sizeof(T) <= 8);
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  bits = simt::exchange(bits, from, where);
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
template <class T>
VM_INLINE T shuffle_xor(T value, unsigned mask, const std::source_location& where = std::source_location::current()) {
  return shuffle(value, thread() % lanes_of_warp ^ mask, where);
}
VM_INLINE bool any(bool value) {
  for (unsigned mask = 1; mask < lanes_of_warp; mask *= 2) value |= shuffle_xor(std::uint64_t{value}, mask) != 0;
  return value;
}
VM_INLINE void sync_warp(const std::source_location& where = std::source_location::current()) {
  simt::exchange(0, thread() % lanes_of_warp, where);
}
VM_INLINE unsigned claim(unsigned& counter) { return counter++; }
VM_INLINE void add(std::uint64_t& sum, std::uint64_t value) { sum += value; }

VM_INLINE Words load_words(Bytes at) {
  simt::check_access(at, 16, 16, false);
  return *reinterpret_cast<const Words*>(at);
}
VM_INLINE void store_words(OutBytes at, Words w) {
  simt::check_access(at, 16, 16, true);
  *reinterpret_cast<Words*>(at) = w;
}
template <class T>
VM_INLINE T load_one(Bytes at) {
  simt::check_access(at, sizeof(T), alignof(T), false);
  return *reinterpret_cast<const T*>(at);
}
template <class T>
VM_INLINE void store_one(OutBytes at, T value) {
  simt::check_access(at, sizeof(T), alignof(T), true);
  *reinterpret_cast<T*>(at) = value;
}
template <class F>
VM_INLINE void renew(F&) {}
VM_INLINE std::uint32_t funnel(std::uint32_t low, std::uint32_t high, unsigned bits) {
  return static_cast<std::uint32_t>(((std::uint64_t{high} << 32) | low) >> bits);
}

#endif

VM_INLINE unsigned lane() { return thread() % lanes_of_warp; }
// Index of this thread, or of its warp, in the whole launch, and how many there are.
VM_INLINE std::int64_t global_thread() { return static_cast<std::int64_t>(block()) * threads() + thread(); }
VM_INLINE std::int64_t global_threads() { return static_cast<std::int64_t>(blocks()) * threads(); }
VM_INLINE std::int64_t global_warp() { return global_thread() / lanes_of_warp; }
VM_INLINE std::int64_t global_warps() { return global_threads() / lanes_of_warp; }

}  // namespace vastmax::VM_ISA
