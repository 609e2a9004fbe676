// SPDX-License-Identifier: Apache-2.0
// Cross-entropy: the normaliser, and where every class has a weight, what the weights add up to; then the rows; then
// the gradient.
#include "cpp/ops/logsumexp_backward.hpp"
#include "cpp/ops/softmax.hpp"
#include "cuda/device/row_map.hpp"
#include "cuda/kernels/launch.hpp"

namespace vastmax::VM_ISA {

constexpr unsigned tile_threads = 128, map_threads = 256;

// The target of a row.
class Target {
 public:
  VM_MEMBER Target(const LossOperands& a, std::int64_t row) : a_(a), row_(row) {}

  VM_MEMBER std::int64_t id(std::int64_t k) const { return a_.ids[row_ * a_.width + k]; }
  VM_MEMBER std::int64_t picks() const { return a_.ids == nullptr ? 0 : a_.width; }
  VM_MEMBER bool counts(std::int64_t id) const { return id != a_.ignore_index && id >= 0 && id < a_.shape.n; }
  VM_MEMBER double class_weight(std::int64_t i) const { return a_.class_weight == nullptr ? 1 : a_.class_weight[i]; }
  VM_MEMBER double pick_weight(std::int64_t k, std::int64_t id) const {
    const double share = a_.id_probabilities == nullptr ? 1 : a_.id_probabilities[row_ * a_.width + k];
    return (1 - a_.label_smoothing) * share * class_weight(id);
  }
  VM_MEMBER double row_weight() const { return a_.row_weight == nullptr ? 1 : a_.row_weight[row_]; }
  VM_MEMBER bool left_out() const {
    bool any = a_.ids == nullptr;
    for (std::int64_t k = 0; !any && k < a_.width; ++k) any = id(k) != a_.ignore_index;
    return !any || row_weight() == 0;
  }
  // What a mean divides by.
  VM_MEMBER double weight() const { return left_out() ? 0 : row_weight() * (a_.one_class() ? class_weight(id(0)) : 1); }
  // Of d loss / d logit, over the temperature.
  VM_MEMBER bool in_mean_of_nothing() const { return a_.mean && a_.total[1] == 0; }  // NaN, and its gradient 0
  VM_MEMBER double factor(double divisor) const {
    const double given = a_.grad_output == nullptr ? 1 : a_.grad_output[a_.grad_output_per_row ? row_ : 0];
    return given * (a_.mean ? 1 / a_.total[1] : 1) * row_weight() / divisor;
  }

 private:
  const LossOperands& a_;
  std::int64_t row_;
};

// The weight of every class of a row, without the picks.
template <class T>
class Weights {
  using F = compute_t<T>;

 public:
  VM_MEMBER Weights(const LossOperands& a, std::int64_t row, double uniform)
      : probability_(a.second.data == nullptr ? nullptr : a.shape.row(a.second, row)),
        step_(a.second.step),
        class_weight_(a.class_weight),
        keep_(1 - a.label_smoothing),
        uniform_(uniform) {}
  VM_MEMBER double operator()(std::int64_t i, bool in) const {
    const double q = probability_ == nullptr ? 0 : static_cast<double>(load_one<F>(probability_ + i * step_));
    const double share = q * keep_ + (in ? uniform_ : 0);
    return class_weight_ == nullptr ? share : share * class_weight_[i];
  }

 private:
  Bytes probability_;
  std::int64_t step_;
  const double* class_weight_;
  double keep_, uniform_;
};

VM_INLINE double uniform_of(const LossOperands& a, const double* uniform, std::int64_t row) {
  if (a.label_smoothing == 0) return 0;
  return uniform == nullptr ? a.label_smoothing / static_cast<double>(a.shape.n) : uniform[row];
}

// Sums over the rows by one block: the weight before the rows are known, the loss after.
VM_KERNEL(virtual_threads, 1) total_kernel(VM_PARAMETER LossOperands a, bool of_losses) {
  auto& scratch = *reinterpret_cast<TwoSum(*)[virtual_threads]>(shared_memory());
  const TwoSum sum = total_by_block(a.shape.count, scratch, [&](TwoSum& to, std::int64_t row) {
    to.add(of_losses ? a.loss[row] : Target(a, row).weight());
  });
  if (thread() == 0) a.total[of_losses ? 0 : 1] = value_of(sum);
}

// The share of label smoothing for each class that the mask leaves in.
VM_KERNEL(tile_threads, 4) uniform_kernel(VM_PARAMETER LossOperands a, double* uniform) {
  for (std::int64_t row = global_warp(); row < a.shape.count; row += global_warps()) {
    const Bytes where = a.shape.row(a.where, row);
    std::int64_t count = 0;
    for (std::int64_t i = lane(); i < a.shape.n; i += lanes_of_warp)
      count += load_one<std::uint8_t>(where + i * a.where.step) != 0;
    for (unsigned mask = lanes_of_warp / 2; mask > 0; mask /= 2) count += shuffle_xor(count, mask);
    if (lane() == 0) uniform[row] = count == 0 ? 0 : a.label_smoothing / static_cast<double>(count);
  }
}

template <class T>
VM_KERNEL(tile_threads, sizeof(T) == 8 ? 2 : 3)
capped_tiles_kernel(VM_PARAMETER LossOperands a, std::int64_t tiles, TilePart* parts) {
  for (std::int64_t t = global_warp(); t < a.shape.count * tiles; t += global_warps()) {
    bool seen = false;
    const StagedTile<T> tile(Staged<T, true>(a, t / tiles), a.shape.n, t % tiles * tile_length<T>, seen);
    const TilePart part = norm_tile<T>(tile, any(seen));
    if (lane() == 0) parts[t] = part;
  }
}

// What the weights of a tile add up to against its largest logit: along with its terms; by itself, from the cache,
// where the tile is not plain, which leaves no registers for it, or has no largest logit to speak of.
template <class T, class Row>
class Weighing {
  using V = vec<compute_t<T>>;

 public:
  VM_MEMBER Weighing(const Row& row, const Weights<T>& weights, std::int64_t start, std::int64_t n)
      : row_(row), weights_(weights), start_(start), n_(n) {}
  VM_MEMBER void begin(V top) { top_ = static_cast<double>(top.piece[0].v); }
  VM_MEMBER void add(int j, V z, V) {
    const std::int64_t i = start_ + place_in_tile<T>(j);
    if (i < n_) add(i, top_ - static_cast<double>(z.piece[0].v));
  }
  VM_MEMBER void add_below(int, V, V) {}
  VM_MEMBER void end_below() {}
  VM_MEMBER Weighed value(bool came_along, double top) {
    const bool usual = top - top == 0;
    const double base = usual ? top : 0;
    if (!came_along || !usual)
      for (std::int64_t i = start_ + lane(); i < start_ + tile_length<T> && i < n_; i += lanes_of_warp)
        add(i, base - static_cast<double>(row_(i).piece[0].v));
    return {base, warp_total(gaps_), warp_total(sum_)};
  }

 private:
  VM_MEMBER void add(std::int64_t i, double gap) {
    const double weight = weights_(i, row_.in(i));
    sum_.add(weight);
    gaps_.add(weight == 0 ? 0 : weight * gap);
  }
  const Row& row_;
  const Weights<T>& weights_;
  std::int64_t start_, n_;
  double top_ = 0;
  TwoSum gaps_, sum_;
};

// The same with a weight for every class.
template <class T, bool plain, bool capped>
VM_KERNEL(tile_threads, 2)
weighed_tiles_kernel(VM_PARAMETER LossOperands a, std::int64_t tiles, TilePart* parts, const double* uniform,
                     Weighed* weighed) {
  using F = compute_t<T>;
  for (std::int64_t t = global_warp(); t < a.shape.count * tiles; t += global_warps()) {
    const std::int64_t row = t / tiles, start = t % tiles * tile_length<T>;
    const Staged<T, capped> logits(a, row);
    const Weights<T> weights(a, row, uniform_of(a, uniform, row));
    Weighing<T, Staged<T, capped>> weighing(logits, weights, start, a.shape.n);
    TilePart part;
    if constexpr (plain) {
      const PlainTile<T> x(a.shape.row(a.x, row), a.shape.n, start, -Number<F>::infinity);
      part = norm_tile_with<F, per_lane<T>>(weighing, x, true);
    } else {
      bool seen = false;
      const StagedTile<T> x(logits, a.shape.n, start, seen);
      part = norm_tile<T>(x, any(seen));
    }
    const Weighed sums = weighing.value(plain, part.max);
    if (lane() == 0) parts[t] = part, weighed[t] = sums;
  }
}

template <class T, bool capped>
VM_INLINE LossResult finish_loss(const LossOperands& a, std::int64_t row, const Norm& norm, double rest_of_top,
                                 const WeighedRow& weighed, double uniform) {
  using F = compute_t<T>;
  const RowMath<F> math;
  const auto rest = [rest_of_top] { return rest_of_top; };
  const Target target(a, row);
  const Staged<T, capped> x(a, row);
  const double over = norm.special() ? 0 : over_max(math, norm, rest), log = math.log1p(over), lse = log_sum(norm, log);
  LossResult r{{{}, norm.max, shifted(norm.max) ? norm.max : 0, norm.special(), norm.has_nan()}, uniform, 0, 0, false};
  if (a.lse != nullptr) a.lse[row] = lse;
  a.loss[row] = 0;
  r.left_out = target.left_out();
  if (r.left_out) return r;
  RowLoss loss;
  if (a.everywhere()) loss.add(norm, log, weighed);
  for (std::int64_t k = 0; k < target.picks(); ++k)
    if (const std::int64_t i = target.id(k); target.counts(i))
      loss.add(norm, log, static_cast<double>(x(i).piece[0].v), target.pick_weight(k, i));
  loss.add_square(a.z_loss, lse);
  a.loss[row] = target.row_weight() * loss.loss;
  if (a.out.data == nullptr) return r;
  r.left_out = target.in_mean_of_nothing();
  if (r.left_out || r.row.special) return r;

  r.factor = target.factor(x.divisor());
  const double of_lse = 2 * a.z_loss * lse;
  r.row.params = scaled_params<F>(math, norm, r.factor * (loss.weight + of_lse), rest);
  if (a.one_class() && !a.everywhere()) {
    const std::int64_t i = target.id(0);
    r.at_target =
        gradient_at_target(math, norm, over, static_cast<double>(x(i).piece[0].v), r.factor, loss.weight, of_lse);
    if constexpr (capped) r.at_target *= static_cast<double>(x.slope_at(i).piece[0].v);
    if (!x.in(i)) r.at_target = 0;  // whatever the masked logit makes of the rest
  }
  return r;
}

template <class T, bool capped>
VM_KERNEL(virtual_threads, 1)
finish_kernel(VM_PARAMETER LossOperands a, std::int64_t tiles, const TilePart* parts, const Weighed* weighed,
              const double* uniform, LossResult* rows) {
  auto& scratch = *reinterpret_cast<MergeScratch*>(shared_memory());
  for (std::int64_t row = block(); row < a.shape.count; row += blocks()) {
    const TilePart* const own = parts + row * tiles;
    const Norm norm = merge_by_block<compute_t<T>>(own, tiles, scratch);
    WeighedRow sums;
    if (weighed != nullptr) {
      const auto total = [&](auto part_of) {
        sync_block();
        return total_by_block(tiles, scratch.sum, [&](TwoSum& to, std::int64_t t) { to.add(part_of(t)); });
      };
      const Weighed* const mine = weighed + row * tiles;
      sums.gaps = total([&](std::int64_t t) {
        WeighedRow one;
        one.add(mine[t], norm.max);  // which every thread has
        return value_of(one.gaps);
      });
      sums.sum = total([&](std::int64_t t) { return value_of(mine[t].sum); });
    }
    if (thread() == 0) {
      const LossResult r =
          finish_loss<T, capped>(a, row, norm, own[norm.where].rest, sums, uniform_of(a, uniform, row));
      if (rows != nullptr) rows[row] = r;
    }
    sync_block();
  }
}

// The gradient, but for the picks.
template <class T, bool capped>
class Gradient {
  using F = compute_t<T>;
  using V = vec<F>;

 public:
  VM_MEMBER Gradient(const LossOperands& a, std::int64_t row, const LossResult& r)
      : result_(r),
        x_(a, row),
        map_(r.row),
        weights_(a, row, r.uniform),
        everywhere_(a.everywhere()),
        unit_(unit_of(r.factor)) {}
  VM_MEMBER T operator()(std::int64_t i) const {
    if (result_.left_out) return rounded<T>(splat<V>(0));
    if (result_.row.special) return special_bits<T>(Role::probability, result_.row, x_.in(i), x_.number_at(i));
    return rounded<T>(value(i, 0));
  }
  // Of an ordinary row.
  VM_MEMBER V value(std::int64_t i, double pick) const {
    if (!x_.in(i)) return splat<V>(0);
    const double weight = (everywhere_ ? weights_(i, true) : 0) + pick;
    V g = map_(x_(i));
    if (weight != 0) g = nfma(number_of(weight / unit_), number_of(result_.factor * unit_), g);
    if constexpr (capped) g = g * x_.slope_at(i);
    return g;
  }

 private:
  VM_MEMBER static V number_of(double v) { return splat<V>(static_cast<F>(v)); }
  const LossResult& result_;
  Staged<T, capped> x_;
  RowMap<LogSumExpBackward, T> map_;
  Weights<T> weights_;
  bool everywhere_;
  double unit_;
};

template <class T, bool plain, bool capped>
VM_KERNEL(map_threads, 2)
grad_kernel(VM_PARAMETER LossOperands a, std::int64_t pieces, std::int64_t length, const LossResult* rows) {
  using V = vec<compute_t<T>>;
  constexpr auto item = static_cast<std::int64_t>(sizeof(T));
  const std::int64_t all = a.shape.count * pieces;
  for (std::int64_t i = block(); i < all; i += blocks()) {
    const std::int64_t p = all - 1 - i, row = p / pieces, begin = p % pieces * length;
    const std::int64_t left = a.shape.n - begin, n = left < length ? left : length;
    const LossResult r = rows[row];
    const OutBytes y = a.shape.row(a.out, row);
    if constexpr (plain) {
      const Bytes x = a.shape.row(a.x, row) + begin * item;
      if (r.left_out)
        map_dense<T>(y + begin * item, n, thread(), threads(), [](V) { return splat<V>(0); }, x);
      else
        map_plain<LogSumExpBackward, T>(Role::probability, x, y + begin * item, n, thread(), threads(), r.row);
    } else {
      const Gradient<T, capped> gradient(a, row, r);
      for (std::int64_t j = begin + thread(); j < begin + n; j += threads())
        store_one<T>(y + j * a.out.step, gradient(j));
    }
  }
}

// The gradient at the classes that are picked: made before the logits may be overwritten, put when the rest is there.
// One that is picked twice gets the same number twice.
template <class T, bool capped>
VM_KERNEL(map_threads, 2)
picks_kernel(VM_PARAMETER LossOperands a, const LossResult* rows, double* values) {
  for (std::int64_t i = global_thread(); i < a.shape.count * a.width; i += global_threads()) {
    const std::int64_t row = i / a.width;
    const LossResult r = rows[row];
    const Target target(a, row);
    const std::int64_t id = target.id(i % a.width);
    if (r.left_out || r.row.special || !target.counts(id)) continue;
    double pick = 0;
    for (std::int64_t k = 0; k < a.width; ++k)
      if (target.id(k) == id) pick += target.pick_weight(k, id);
    values[i] = static_cast<double>(Gradient<T, capped>(a, row, r).value(id, pick).piece[0].v);
  }
}

template <class T>
VM_KERNEL(map_threads, 4)
put_kernel(VM_PARAMETER LossOperands a, const LossResult* rows, const double* values) {
  using F = compute_t<T>;
  for (std::int64_t i = global_thread(); i < a.shape.count * a.width; i += global_threads()) {
    const std::int64_t row = i / a.width;
    const LossResult& r = rows[row];
    const Target target(a, row);
    const std::int64_t id = target.id(i % a.width);
    if (r.left_out || r.row.special || !target.counts(id)) continue;
    const auto value = static_cast<F>(values == nullptr ? r.at_target : values[i]);
    store_one<T>(a.shape.row(a.out, row) + id * a.out.step, rounded<T>(splat<vec<F>>(value)));
  }
}

static Grid one_block() { return {1, virtual_threads, virtual_threads * sizeof(TwoSum)}; }

void loss_weight(const LossOperands& a, const Stream& stream) { launch(total_kernel, one_block(), stream, a, false); }
void loss_total(const LossOperands& a, const Stream& stream) { launch(total_kernel, one_block(), stream, a, true); }

void loss_uniform(const LossOperands& a, double* uniform, const Stream& stream) {
  const Grid grid = grid_for(a.shape.count, tile_threads / lanes_of_warp, tile_threads, stream);
  launch(uniform_kernel, grid, stream, a, uniform);
}

void loss_tiles(DType dtype, bool plain, const LossOperands& a, std::int64_t tiles, TilePart* parts, Weighed* weighed,
                const double* uniform, const Stream& stream) {
  const Grid grid = grid_for(a.shape.count * tiles, tile_threads / lanes_of_warp, tile_threads, stream);
  if (weighed == nullptr && a.softcap == 0) return norm_tiles(dtype, plain, a, tiles, parts, stream);
  with_dtype(dtype, [&]<class T>(T) {
    if (weighed == nullptr)
      launch(capped_tiles_kernel<T>, grid, stream, a, tiles, parts);
    else if (a.softcap != 0)
      launch(weighed_tiles_kernel<T, false, true>, grid, stream, a, tiles, parts, uniform, weighed);
    else
      plain ? launch(weighed_tiles_kernel<T, true, false>, grid, stream, a, tiles, parts, uniform, weighed)
            : launch(weighed_tiles_kernel<T, false, false>, grid, stream, a, tiles, parts, uniform, weighed);
  });
}

void loss_finish(DType dtype, const LossOperands& a, std::int64_t tiles, const TilePart* parts, const Weighed* weighed,
                 const double* uniform, LossResult* rows, const Stream& stream) {
  const Grid grid = grid_for(a.shape.count, 1, virtual_threads, stream, sizeof(MergeScratch));
  with_dtype(dtype, [&]<class T>(T) {
    a.softcap == 0 ? launch(finish_kernel<T, false>, grid, stream, a, tiles, parts, weighed, uniform, rows)
                   : launch(finish_kernel<T, true>, grid, stream, a, tiles, parts, weighed, uniform, rows);
  });
}

template <class T, bool capped>
static void start_grad(bool plain, const LossOperands& a, const LossResult* rows, double* values,
                       const Stream& stream) {
  constexpr std::int64_t length = 8192;  // of a piece
  const std::int64_t pieces = (a.shape.n + length - 1) / length;
  const Grid grid = grid_for(a.shape.count * pieces, 1, map_threads, stream);
  const Grid by_pick = grid_for(a.shape.count * a.width, map_threads, map_threads, stream);
  if (values != nullptr) launch(picks_kernel<T, capped>, by_pick, stream, a, rows, values);
  plain ? launch(grad_kernel<T, true, capped>, grid, stream, a, pieces, length, rows)
        : launch(grad_kernel<T, false, capped>, grid, stream, a, pieces, length, rows);
  if (a.ids != nullptr) launch(put_kernel<T>, by_pick, stream, a, rows, values);
}

void loss_grad(DType dtype, bool plain, const LossOperands& a, const LossResult* rows, double* values,
               const Stream& stream) {
  with_dtype(dtype, [&]<class T>(T) {
    a.softcap == 0 ? start_grad<T, false>(plain, a, rows, values, stream)
                   : start_grad<T, true>(false, a, rows, values, stream);
  });
}

}  // namespace vastmax::VM_ISA
