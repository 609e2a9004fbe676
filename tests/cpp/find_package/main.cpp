// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <vastmax/vastmax.hpp>

int main() {
  const float x[] = {0, 0, 0, 0};
  float out[1];
  const std::int64_t x_shape[] = {1, 4}, x_strides[] = {16, 4}, out_shape[] = {1}, out_strides[] = {4};
  vastmax::logsumexp({reinterpret_cast<const std::byte*>(x), vastmax::DType::float32, x_shape, x_strides},
                     {reinterpret_cast<std::byte*>(out), vastmax::DType::float32, out_shape, out_strides});
  std::printf("logsumexp of four zeros: %.9g\n", out[0]);
  return std::fabs(out[0] - 1.3862944f) < 1e-6f ? 0 : 1;
}
