// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cpp/kernels/kernel_table.hpp"
#include "vastmax/vastmax.hpp"

namespace vastmax {

const Kernels& kernels(const Exec&);

inline const DTypeKernels& of(const Kernels& k, DType d) { return k.dtype[static_cast<int>(d)]; }

}  // namespace vastmax
