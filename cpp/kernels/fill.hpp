// SPDX-License-Identifier: Apache-2.0
// Each kernel file puts its functions into this instruction set's table.
#pragma once

#include "cpp/kernels/kernel_table.hpp"

namespace vastmax::VM_ISA {

void fill(Kernels&);  // table.cpp, the only name that core/ calls

void fill_norm(Kernels&);
void fill_norm_map(Kernels&);
void fill_norm_weighted(Kernels&);
void fill_norm_loss(Kernels&);
void fill_row_stats(Kernels&);
void fill_columns(Kernels&);
void fill_row_grad(Kernels&);
void fill_elementwise(Kernels&);
void fill_binary_cross_entropy(Kernels&);
void fill_stage(Kernels&);
void fill_stream_copy(Kernels&);
void fill_class_rows(Kernels&);
void fill_sampled(Kernels&);
void fill_draw(Kernels&);
void fill_sample(Kernels&);
void fill_select(Kernels&);

template <class Fn>
[[gnu::always_inline]] inline void each_dtype(Kernels& k, const Fn& fn) {
  fn(k.dtype[static_cast<int>(DType::float16)], Half{});
  fn(k.dtype[static_cast<int>(DType::bfloat16)], BFloat16{});
  fn(k.dtype[static_cast<int>(DType::float32)], float{});
  fn(k.dtype[static_cast<int>(DType::float64)], double{});
}

}  // namespace vastmax::VM_ISA
