// SPDX-License-Identifier: Apache-2.0
// Every kernel that can write past the caches leaves the bytes that scalar code leaves without, wherever its output
// begins, and none beyond.  core/ streams outputs of policy::stream_bytes; a kernel does it at any length, so that
// every alignment, tail and pitch is cheap to try, under a sanitizer too.
#include <cstdio>
#include <cstring>

#include "cpp/host/run/isa.hpp"
#include "cpp/testing/every_op.hpp"

namespace vastmax::testing {
namespace {

constexpr std::size_t guard = 64;

// An output `offset` bytes after a cache line, between bytes that nobody may touch.
class Target {
 public:
  Target(std::size_t offset, std::size_t bytes) : memory_(bytes + offset + 3 * guard, untouched) {
    const auto misaligned = reinterpret_cast<std::uintptr_t>(memory_.data()) % guard;
    begin_ = guard + (guard - misaligned) % guard + offset;
  }
  std::byte* data() { return memory_.data() + begin_; }
  // Whether there is `want` in lines of `width` bytes, `pitch` apart, and nothing else anywhere.
  bool holds(const std::vector<std::byte>& want, std::size_t width, std::size_t pitch) const {
    std::vector<std::byte> all(memory_.size(), untouched);
    for (std::size_t i = 0; i * width < want.size(); ++i)
      std::memcpy(all.data() + begin_ + i * pitch, want.data() + i * width, width);
    return all == memory_;
  }

 private:
  static constexpr std::byte untouched{0xa5};
  std::size_t begin_;
  std::vector<std::byte> memory_;
};

// A row of its own for each column.
RowParams row(std::size_t column) {
  const auto c = static_cast<double>(column);
  RowParams found;
  found.ref = -40, found.max = 16, found.scale = (1 + c / 64) * 0x1p-62, found.correction = c * 0x1p-60;
  found.log = -3 - c / 16, found.grad = 0.5 + c / 32;
  return found;
}

// Every alignment that a dtype can have, and one that it should not.
std::vector<std::size_t> offsets(DType dtype) {
  std::vector<std::size_t> found{63};
  for (std::size_t offset = 0; offset < guard; offset += item_size(dtype)) found.push_back(offset);
  return found;
}

const Kernels& on(std::size_t isa) { return kernels(Exec{.isa = static_cast<int>(isa)}); }

int failures = 0;
void expect(bool good, const char* what, int op, const char* dtype, std::size_t isa, std::size_t offset, std::size_t n,
            std::size_t width) {
  if (good) return;
  std::printf("%s %d/%s/%s streamed to byte %zu of a line differs, %zu x %zu\n", what, op, dtype, name(isas()[isa]),
              offset, n, width);
  ++failures;
}

// call(kernels, to, n, streaming) on every instruction set, at every offset and tail.
template <class Call>
void stretch(const char* what, int op, DType dtype, const char* dtype_name, const Call& call) {
  const std::size_t item = item_size(dtype);
  for (const std::size_t n : {1, 5, 16, 33, 100, 131, 259}) {
    std::vector<std::byte> want(n * item);
    call(of(on(0), dtype), want.data(), n, false);
    for (std::size_t isa = 0; isa < isas().size(); ++isa)
      for (const std::size_t offset : offsets(dtype)) {
        if (!runnable(isas()[isa])) continue;
        Target to(offset, n * item);
        call(of(on(isa), dtype), to.data(), n, true);
        expect(to.holds(want, n * item, 0), what, op, dtype_name, isa, offset, n, 1);
      }
  }
}

void stretches(DType dtype, const char* dtype_name) {
  const DTypeKernels& any = of(on(0), dtype);
  const DType staged[] = {dtype, dtype == DType::float64 ? dtype : DType::float32};
  for (int op = 0; op < op_count; ++op) {
    const auto input = [&](DType from, std::size_t n, Values values) {
      return Array(from, {static_cast<std::int64_t>(n)}, values, 2);
    };
    const Values values = op == static_cast<int>(Op::logit) ? Values::unit : Values::bell;
    if (any.unary[op] != nullptr)
      stretch("unary", op, dtype, dtype_name, [&](const DTypeKernels& k, std::byte* to, std::size_t n, bool stream) {
        k.unary[op](input(dtype, n, values).data(), to, n, 1, stream);
      });
    if (any.binary[op] != nullptr)
      stretch("binary", op, dtype, dtype_name, [&](const DTypeKernels& k, std::byte* to, std::size_t n, bool stream) {
        const Array g = input(dtype, n, Values::bell), x = input(dtype, n, Values::unit);
        k.binary[op](g.data(), x.data(), to, n, 1, stream);
      });
    for (const int i : {0, 1}) {
      if (any.norm_map[op][i] != nullptr)
        stretch("norm_map", op, dtype, dtype_name,
                [&](const DTypeKernels& k, std::byte* to, std::size_t n, bool stream) {
                  k.norm_map[op][i](input(staged[i], n, Values::bell).data(), to, n, row(5), stream);
                });
      if (any.row_grad[op][i] != nullptr)
        stretch("row_grad", op, dtype, dtype_name,
                [&](const DTypeKernels& k, std::byte* to, std::size_t n, bool stream) {
                  const Array g = input(staged[i], n, Values::bell), y = input(staged[i], n, Values::unit);
                  k.row_grad[op][i](g.data(), y.data(), to, n, row(5), stream);
                });
    }
  }
}

// Rows side by side: classes `n`, `width` rows, and what lies between one class and the next.
struct Sides {
  std::size_t n, width, x_gap, y_gap;
};
std::vector<Sides> sides() {
  std::vector<Sides> found;
  for (const std::size_t width : {5, 16, 37, 48, 64})
    for (const std::size_t x_gap : {0, 3})
      for (const std::size_t y_gap : {0, 5, 32, 48}) {
        found.push_back({1, width, x_gap, y_gap});
        found.push_back({7, width, x_gap, y_gap});
      }
  found.push_back({515, 64, 0, 0});
  found.push_back({515, 48, 0, 16});
  return found;
}

void columns(DType dtype, const char* dtype_name) {
  const std::size_t item = item_size(dtype);
  std::vector<RowParams> rows;
  for (std::size_t c = 0; c < most_columns; ++c) rows.push_back(row(c));
  for (int op = 0; op < op_count; ++op)
    for (const auto& [n, width, x_gap, y_gap] : sides()) {
      if (of(on(0), dtype).map_columns[op] == nullptr) continue;
      const std::size_t x_pitch = (width + x_gap) * item, y_pitch = (width + y_gap) * item;
      const Array x(dtype, {static_cast<std::int64_t>((n - 1) * (width + x_gap) + width)}, Values::bell, 2);
      std::vector<std::byte> want(n * width * item), column(n * item), alone(n * item);
      for (std::size_t c = 0; c < width; ++c) {
        for (std::size_t i = 0; i < n; ++i)
          std::memcpy(column.data() + i * item, x.data() + i * x_pitch + c * item, item);
        of(on(0), dtype).norm_map[op][0](column.data(), alone.data(), n, rows[c], false);
        for (std::size_t i = 0; i < n; ++i)
          std::memcpy(want.data() + (i * width + c) * item, alone.data() + i * item, item);
      }
      for (std::size_t isa = 0; isa < isas().size(); ++isa)
        for (const std::size_t offset : offsets(dtype)) {
          if (!runnable(isas()[isa])) continue;
          Target to(offset, n * y_pitch);
          of(on(isa), dtype)
              .map_columns[op](x.data(), static_cast<std::ptrdiff_t>(x_pitch), to.data(),
                               static_cast<std::ptrdiff_t>(y_pitch), n, width, rows.data(), true);
          expect(to.holds(want, width * item, y_pitch), "map_columns", op, dtype_name, isa, offset, n, width);
        }
    }
}

}  // namespace
}  // namespace vastmax::testing

int main() {
  using namespace vastmax::testing;
  for (const auto& [dtype, dtype_name] : dtypes) {
    stretches(dtype, dtype_name);
    columns(dtype, dtype_name);
  }
  return failures != 0;
}
