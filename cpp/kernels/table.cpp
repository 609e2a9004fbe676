// SPDX-License-Identifier: Apache-2.0
#include "cpp/kernels/fill.hpp"

namespace vastmax::VM_ISA {

void fill(Kernels& k) {
  fill_norm(k);
  fill_norm_map(k);
  fill_norm_weighted(k);
  fill_norm_loss(k);
  fill_row_stats(k);
  fill_columns(k);
  fill_row_grad(k);
  fill_elementwise(k);
  fill_binary_cross_entropy(k);
  fill_stage(k);
  fill_stream_copy(k);
  fill_class_rows(k);
  fill_sampled(k);
  fill_draw(k);
  fill_sample(k);
  fill_select(k);
}

}  // namespace vastmax::VM_ISA
