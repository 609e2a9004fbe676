// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <algorithm>

#include "vastmax/vastmax.hpp"

namespace vastmax {

Caches caches() {
  const auto bytes = [](int name) { return static_cast<std::int64_t>(std::max(0L, sysconf(name))); };
  return {bytes(_SC_LEVEL1_DCACHE_SIZE), bytes(_SC_LEVEL2_CACHE_SIZE), bytes(_SC_LEVEL3_CACHE_SIZE)};
}

}  // namespace vastmax
