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

// The executor of vastmax._cuda: (device, stream, strategy).
struct OnDevice {
  int device;
  std::uintptr_t stream;
  int strategy;

  template <class Fn>
  void run(std::size_t, const Fn& fn) const {
    enqueue(device, stream, strategy, fn);
  }
  template <class R, class... A, class Fn, class... Names>
  static void def(py::module_& m, const char* name, Fn fn, const Names&... names) {
    m.def(
        name,
        [fn](A... a, int device, std::uintptr_t stream, int strategy) -> R {
          return fn(OnDevice{device, stream, strategy}, std::forward<A>(a)...);
        },
        names..., py::arg("device"), py::arg("stream"), py::arg("strategy"));
  }
};

}  // namespace vastmax::python
