// SPDX-License-Identifier: Apache-2.0
// What every kernel unit sees first: the vocabulary of the instruction set it is compiled for.
//
// Rule of this folder and of kernels/: each file is compiled once per instruction set with other flags, so everything
// lives in vastmax::VM_ISA and is inlined by force. An inline function shared by two sets of flags would be kept once
// by the linker and could run AVX-512 on a machine without it (numpy#25274).
// tests/project/test_isa_objects.py sees to it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "vastmax/dtype.hpp"

#ifdef __CUDACC__
#define VM_INLINE [[gnu::always_inline]] static inline __device__
#define VM_MEMBER [[gnu::always_inline]] inline __device__
#define VM_UNROLL(n) _Pragma("unroll")
#else
#define VM_INLINE [[gnu::always_inline]] static inline
#define VM_MEMBER [[gnu::always_inline]] inline
#define VM_PRAGMA(text) _Pragma(#text)
#ifdef VASTMAX_ROLLED  // sanitizers check each copy of a loop's body, and take minutes for it
#define VM_UNROLL(n)
#else
#define VM_UNROLL(n) VM_PRAGMA(GCC unroll n)
#endif
#endif

#define VM_ISA_HEADER_scalar "cpp/simd/vec_scalar.hpp"
#define VM_ISA_HEADER_avx2 "cpp/simd/vec_avx2.hpp"
#define VM_ISA_HEADER_avx512 "cpp/simd/vec_avx512.hpp"
#define VM_ISA_HEADER_neon "cpp/simd/vec_neon.hpp"
#define VM_ISA_HEADER_cuda \
  "cpp/simd/vec_scalar.hpp"  // a lane of a warp (docs/development/decisions/0010-one-formula-two-backends.md)
#define VM_CONCAT_(a, b) a##b
#define VM_CONCAT(a, b) VM_CONCAT_(a, b)

#include VM_CONCAT(VM_ISA_HEADER_, VM_ISA)

#include "cpp/simd/wide.hpp"
