// SPDX-License-Identifier: Apache-2.0
// gumbel_softmax, which the core composes of other kernels.
#pragma once

#include "bindings/enqueue.hpp"
#include "bindings/losses.hpp"
#include "vastmax/sampling.hpp"

namespace vastmax::python {

inline void bind_device_sampling(py::module_& m) {
  define<OnDevice>(m, "gumbel_softmax",
                   [](const OnDevice& on, const py::array& x, double tau, bool hard, std::uint64_t seed,
                      std::uint32_t step, std::uint64_t row, py::array out) {
                     const ConstView in = view(x);
                     const View to = writable(out);
                     on.run(static_cast<std::size_t>(x.size()), [&](const cuda::Exec& exec) {
                       cuda::gumbel_softmax(in, tau, hard, {seed, step, row}, to, exec);
                     });
                   },
                   {"x", "tau", "hard", "seed", "step", "row", "out"});
}

}  // namespace vastmax::python
