// SPDX-License-Identifier: Apache-2.0
// logsumexp: the normaliser itself.
#include "cpp/host/rows/norm_run.hpp"

namespace vastmax {
namespace {

class NormReduce : NormRun {
 public:
  using NormRun::NormRun;
  void run(const ConstView& x, const View& out, const RowOptions& o);
};

void NormReduce::run(const ConstView& x, const View& out, const RowOptions& o) {
  x_ = operand(x), y_ = per_row(out.data, item_size(out.dtype), out.strides);
  options(o);
  loop_.merge();
  reduce([&](const Norm& norm, const Source& s, Scratch& scratch) {
    const double value = log_sum(norm, log_over_max(norm, s, scratch));
    store_number(y_.row(loop_, s.row), reduced(dtype_), value);
  });
}

}  // namespace

void logsumexp(const ConstView& x, const View& out, const RowOptions& o, const Exec& exec) {
  check_reduced("logsumexp", x, out.dtype, out.shape, "out");
  NormReduce(x.dtype, x.shape, exec).run(x, out, o);
}

}  // namespace vastmax
