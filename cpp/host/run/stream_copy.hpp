// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vastmax/vastmax.hpp"

namespace vastmax {

// Copies float32 with our threads, prefetching and streaming stores: the roof that benchmarks hold results against.
void stream_copy(const ConstView& x, const View& out, const Exec& = {});

}  // namespace vastmax
