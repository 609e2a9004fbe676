// SPDX-License-Identifier: Apache-2.0
// logsumexp with weights of either sign.
#include "cpp/host/rows/norm_run.hpp"

namespace vastmax {
namespace {

class NormWeighted : NormRun {
 public:
  using NormRun::NormRun;
  void run(const ConstView& a, const ConstView& b, const View& out, const View* sign, const RowOptions& o);

 private:
  RowOperand weights_;
};

void NormWeighted::run(const ConstView& a, const ConstView& b, const View& out, const View* sign, const RowOptions& o) {
  x_ = operand(a), weights_ = operand(b), y_ = per_row(out.data, item_size(out.dtype), out.strides);
  RowOperand sign_operand;
  if (sign != nullptr) sign_operand = per_row(sign->data, item_size(sign->dtype), sign->strides);
  options(o);
  loop_.merge();
  each_row(cut(), [&](std::size_t r, Scratch& scratch) {
    const Source s = source(r);
    const Bytes weights = weights_.row(loop_, r);
    const auto load_block = [&](std::size_t block) {
      stage(s, block, 0, scratch.in);
      const auto start = static_cast<std::int64_t>(block * block_);
      k_.stage({weights + start * weights_.step, weights_.step, nullptr, 0, 1, 0}, length(block), scratch.second);
      const std::size_t item = compute_size(dtype_);
      for (std::size_t i = 0; s.where != nullptr && i < length(block); ++i)  // a masked term has no weight
        if (s.where[static_cast<std::int64_t>(block * block_ + i) * where_.step] == 0)
          std::memset(scratch.second + i * item, 0, item);
    };
    double max = -INFINITY;
    for (std::size_t i = 0; i < blocks_; ++i) {
      load_block(i);
      max = std::max(max, k_.weighted_max(scratch.in, scratch.second, length(i)));
    }
    ScaledSum sum;
    for (std::size_t i = 0; i < blocks_; ++i) {
      load_block(i);
      TwoSum part;
      const int exponent = k_.weighted(scratch.in, scratch.second, length(i), max, part);
      sum.add(part, exponent);
    }
    const SignedLog result = signed_log(max, sum, sign != nullptr, all_.log_pair);
    store_number(y_.row(loop_, r), reduced(dtype_), result.value);
    if (sign != nullptr) store_number(sign_operand.row(loop_, r), reduced(dtype_), result.sign);
  });
}

}  // namespace

void logsumexp_weighted(const ConstView& a, const ConstView& b, const View& out, const View* sign, const RowOptions& o,
                        const Exec& exec) {
  check_reduced("logsumexp", a, out.dtype, out.shape, "out");
  expect_like("logsumexp", "b", b, a);
  if (sign != nullptr) check_reduced("logsumexp", a, sign->dtype, sign->shape, "sign");
  NormWeighted(a.dtype, a.shape, exec).run(a, b, out, sign, o);
}

}  // namespace vastmax
