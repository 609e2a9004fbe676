// SPDX-License-Identifier: Apache-2.0
// The ops of vastmax/vastmax.hpp on a GPU: the same views and options, with device memory, enqueued on a stream.  Data
// and strides must be multiples of the item size.  Operands must stay alive until the stream has passed the call.
#pragma once

#include "cuda/runtime/stream.hpp"
#include "vastmax/sampled.hpp"
#include "vastmax/sampler.hpp"
#include "vastmax/sampling.hpp"
#include "vastmax/vastmax.hpp"

namespace vastmax::cuda {

// How rows fall to the machine.  brief: a warp per row of one tile.  block: a block per row.  split: a warp per tile,
// in several launches.  The choice never shows in a result.
enum class Strategy : std::uint8_t { automatic, brief, block, split };

struct Exec {
  const Stream& stream;
  Strategy strategy = Strategy::automatic;  // a wish; one that cannot serve the call is not followed
};

void softmax(const ConstView& x, const View& out, const RowOptions&, const Exec&);
void log_softmax(const ConstView& x, const View& out, const RowOptions&, const Exec&);
void logsumexp(const ConstView& x, const View& out, const RowOptions&, const Exec&);
// `sign` may be null, as in vastmax::logsumexp_weighted.
void logsumexp_weighted(const ConstView& x, const ConstView& weights, const View& out, const View* sign,
                        const RowOptions&, const Exec&);
// The signs that go with the results of logsumexp.
void logsumexp_signs(const ConstView& results, const View& signs, const Exec&);
void logsumexp_backward(const ConstView& grad, const ConstView& x, const View& out, const RowOptions&, const Exec&);
void softmax_backward(const ConstView& g, const ConstView& y, const View& out, const RowOptions&, const Exec&);
void log_softmax_backward(const ConstView& g, const ConstView& y, const View& out, const RowOptions&, const Exec&);

void softplus(const ConstView& x, const View& out, double beta, const Exec&);
void sigmoid(const ConstView& x, const View& out, double beta, const Exec&);
void log_sigmoid(const ConstView& x, const View& out, double beta, const Exec&);
void logit(const ConstView& x, const View& out, double beta, const Exec&);
void softplus_backward(const ConstView& g, const ConstView& x, const View& out, double beta, const Exec&);
void sigmoid_backward(const ConstView& g, const ConstView& y, const View& out, double beta, const Exec&);
void log_sigmoid_backward(const ConstView& g, const ConstView& x, const View& out, double beta, const Exec&);

// `weight`, `pos_weight`, `loss`, `grad` and `parts` may be null. `parts` takes two float64 for every loss_tile
// elements, in index order; bce_total adds them up, whichever calls they come from.
void bce_with_logits(const ConstView& x, const ConstView& target, const ConstView* weight, const ConstView* pos_weight,
                     const View* loss, const View* grad, double grad_scale, void* parts, const Exec&);
void bce_total(std::int64_t tiles, const void* parts, double* sum, const Exec&);
std::int64_t loss_tile(DType);

// Elements one by one into memory of another dtype, or of the same and other strides.
void convert(const ConstView& x, const View& out, const Exec&);
// The same for items of 1, 2, 4 or 8 bytes that are no numbers to us.
struct Items {
  std::byte* data;
  std::size_t item;
  std::span<const std::int64_t> shape, strides;
};
void copy(const Items& from, const Items& to, const Exec&);

// As vastmax::cross_entropy, with all arrays of `loss` in device memory, each dense, and ids that have been checked;
// probabilities in the compute type of x.  total: the loss and the weight of all rows, in device memory.
void cross_entropy(const ConstView& x, const View* grad, const CrossEntropy& loss, double* total, const RowOptions&,
                   const Exec&);

// A sampler with a copy of what it points at in device memory, for any stream of the device.
class DeviceSampler {
 public:
  DeviceSampler(const Sampler&, const Stream&);
  const Sampler& law() const { return law_; }

 private:
  template <class T>
  const T* copy(const T* host, std::size_t count);
  void fill(const Sampler& from, Sampler& to);
  struct Release {  // once nobody reads it
    int device;
    void operator()(void* memory) const noexcept;
  };
  const Stream* stream_;  // while it is made
  std::vector<std::unique_ptr<void, Release>> memory_;
  Sampler law_;
};
// As in vastmax/sampler.hpp, the same ids: ids and log_q are dense, in device memory, ids have been checked.
void draw_rows(const DeviceSampler&, const Draws&, std::size_t rows, std::size_t n, std::int64_t* ids, const Exec&);
void log_prob(const DeviceSampler&, const std::int64_t* ids, std::size_t n, double* log_q, const Exec&);

// Losses over sampled classes as in vastmax/sampled.hpp, with all arrays in device memory and ids that were checked.
// [rows, draws], log_expected null for 0: logits get `added` less that.
struct DeviceDraws {
  const std::int64_t* ids;
  const double* log_expected;
  double added;
};
// slopes and grad may be null, each for itself.
void sampled_own(const SampledLoss&, const ClassTable&, const ConstView* bias, const DeviceDraws&, std::byte* slopes,
                 std::byte* grad, const Exec&);
// biases [draws.n], staged, null for none: what `bias` is at the draws.  Without `slopes` the logits stay, but for
// hits.
void sampled_shared(const SampledLoss&, const ClassTable&, const ConstView* bias, const SharedDraws&,
                    const std::byte* biases, std::size_t first, std::size_t count, std::byte* logits, bool slopes,
                    const Exec&);
void add_targets(const SampledLoss&, const ClassTable&, std::size_t first, std::size_t count, std::byte* grad,
                 const Exec&);
void gather_rows(const ClassTable&, const std::int64_t* ids, std::size_t count, std::byte* to, const Exec&);
// Entries by their class, in device memory: their stable order [n], where each class starts in it, and which it is
// (starts and groups have room for n + 1 and n); returns how many classes there are, once the stream has got there.
std::int64_t group_ids(const std::int64_t* ids, std::int64_t n, std::int64_t classes, std::int64_t* order,
                       std::int64_t* starts, std::int64_t* groups, const Exec&);
// What sum_groups wants of the groups, pieces [groups + 1]; returns how many pieces there are.
std::int64_t cut_pieces(const std::int64_t* starts, std::int64_t groups, std::int64_t* pieces, const Exec&);
// A group of more entries than most_of_a_piece() is summed in several pieces, numbered over all groups.
std::int64_t most_of_a_piece();
struct DeviceGroups {
  std::int64_t count, piece_count;
  const std::int64_t *order, *starts, *pieces;  // starts, pieces [count + 1]: of each group, and the end
};
void sum_groups(DType staged, std::size_t features, const Entries& first, const Entries& second,
                std::span<const std::size_t> rows_of_both, const DeviceGroups&, std::byte* sums, const Exec&);
void update_rows(const ClassTable&, const std::int64_t* ids, std::size_t count, const std::byte* changes, double rate,
                 double* state, double eps, const Exec&);
// to = a b, or `add`ed to it: float32 or float64, a and b of any strides, each number summed in the order of k.
void product(DType staged, const ConstView& a, const ConstView& b, const View& to, bool add, const Exec&);

// As the functions of the same names in vastmax::, with all plain arrays in device memory, each dense, and class
// numbers that have been checked.
void selective_log_softmax(const ConstView& x, const std::int64_t* ids, std::int64_t width, double* out,
                           const RowOptions&, const Exec&);
void softmax_stats(const ConstView& x, const RowStats&, const RowOptions&, const Exec&);
void kl_divergence(const ConstView& p, const ConstView& q, double* out, const Exec&);

// As in vastmax/sampling.hpp, with all plain arrays in device memory, each dense, and parameters that have been
// checked.
void top_k(const ConstView& x, std::int64_t k, std::byte* values, std::int64_t* indices, const Exec&);
void mask_logits(const ConstView& x, const Filters&, const View& out, const Exec&);
void sample(const ConstView& x, const Sampling&, const RowOptions&, const Exec&);
// Softmax of (x + g) / tau with the noise g of vastmax::add_gumbel; hard: one where x + g is largest, else zero.
void gumbel_softmax(const ConstView& x, double tau, bool hard, const Draws&, const View& out, const Exec&);

// What a call over rows would run as.
Strategy plan(std::int64_t rows, std::int64_t classes, DType, bool reduces, const Stream&);

}  // namespace vastmax::cuda
