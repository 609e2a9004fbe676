// SPDX-License-Identifier: Apache-2.0
// Memory of elements whose dtype is known elsewhere.
#pragma once

#include <cstddef>

namespace vastmax {

using Bytes = const std::byte*;
using OutBytes = std::byte*;

}  // namespace vastmax
