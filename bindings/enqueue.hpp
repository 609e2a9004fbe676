// SPDX-License-Identifier: Apache-2.0
// How every binding starts its work on a stream.
#pragma once

#include "bindings/array.hpp"
#include "cuda/vastmax_cuda.hpp"

namespace vastmax::python {

inline cudaStream_t handle(std::uintptr_t stream) { return reinterpret_cast<cudaStream_t>(stream); }

// fn(exec) without the GIL: a launch may wait for room in the stream's queue.
template <class Fn>
void enqueue(int device, std::uintptr_t stream, int strategy, const Fn& fn) {
  without_gil([&] {
    const cuda::Stream on(device, handle(stream));
    fn(cuda::Exec{on, static_cast<cuda::Strategy>(strategy)});
  });
}

}  // namespace vastmax::python
