// SPDX-License-Identifier: Apache-2.0
// logsumexp: the normaliser itself.
#include "core/norm_run.hpp"

namespace vastmax {
namespace {

class NormReduce : NormRun {
 public:
  using NormRun::NormRun;
  void run(const ConstView& x, const View& out, const RowOptions& o);

 private:
  double reduce(const Norm& norm, const Source& s, Scratch& scratch) const {
    return log_sum(math(), norm, [&] { return rest(norm, s, scratch); });
  }
};

void NormReduce::run(const ConstView& x, const View& out, const RowOptions& o) {
  x_ = operand(x), y_ = per_row(out.data, item_size(out.dtype), out.strides);
  options(o);
  loop_.merge();
  const std::size_t rows = loop_.count();
  if (rows == 0) return;
  const Plan plan = cut();
  const auto put = [&](const Norm& norm, const Source& s, Scratch& scratch) {
    store_number(y_.row(loop_, s.row), reduced(dtype_), reduce(norm, s, scratch));
  };
  if (columns(false))
    return each_group(
        [&](const Group& g, GroupState& state, Scratch& scratch) {
          for (std::size_t c = 0; c < g.width; ++c) put(state.norm[c], source(g.first + c), scratch);
        },
        [](const Group&, std::size_t, const GroupState&, Scratch&) {});
  if (plan.strategy == Strategy::split) {
    const KernelScope scope;
    Scratch scratch;
    for (std::size_t r = 0; r < rows && !interrupted_; ++r)
      put(norm_parallel(source(r), plan.threads), source(r), scratch);
    return;
  }
  each_norm(plan, [&](const Source& s, const Norm& norm, Scratch& scratch) { put(norm, s, scratch); });
}

}  // namespace

void logsumexp(const ConstView& x, const View& out, const RowOptions& o, const Exec& exec) {
  check_reduced("logsumexp", x, out.dtype, out.shape, "out");
  NormReduce(x.dtype, x.shape, exec).run(x, out, o);
}

}  // namespace vastmax
