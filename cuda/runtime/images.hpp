// SPDX-License-Identifier: Apache-2.0
// Which GPUs have kernels, by the architectures that CMake compiled them for.
#pragma once

#include <cstdlib>
#include <sstream>
#include <string>

namespace vastmax::cuda {

// `architectures` as in CMAKE_CUDA_ARCHITECTURES, with commas: "80-real,90", where 90 has machine code for 9.x from 9.0
// on, and PTX for whatever comes later.  "native", "all" and the like count as an image for every GPU: a launch will
// tell.
inline bool has_image(const std::string& architectures, int capability) {
  std::istringstream list(architectures);
  for (std::string one; std::getline(list, one, ',');) {
    char* rest = nullptr;
    const auto built = static_cast<int>(std::strtol(one.c_str(), &rest, 10));
    if (rest == one.c_str()) return true;
    const std::string kind(rest);
    const bool only_there = kind.starts_with("a");  // 90a runs on 9.0 only
    if (only_there ? built == capability : built <= capability && (built / 10 == capability / 10 || kind != "-real"))
      return true;
  }
  return false;
}

}  // namespace vastmax::cuda
