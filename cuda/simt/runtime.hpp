// SPDX-License-Identifier: Apache-2.0
// What tests can ask of, and set in, the CUDA runtime of the SIMT machine.
#pragma once

#include <cuda_runtime_api.h>

namespace vastmax::simt {

bool has_context(int device);
void capture(cudaStream_t stream, bool on);  // into a graph that nobody keeps
std::size_t streams();                       // that were made and not destroyed
void limit_pinned(std::size_t bytes);        // of one allocation
void set_capability(int capability);         // of every device

}  // namespace vastmax::simt
