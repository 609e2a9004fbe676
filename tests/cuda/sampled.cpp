// SPDX-License-Identifier: Apache-2.0
// Losses over sampled classes, their gradients, sums of groups and plain products have the same bits whatever the order
// of blocks, the launch shape and where the table lies.  Prints a digest to compare machines by.
#include <algorithm>
#include <cstring>
#include <numeric>

#include "device_array.hpp"
#ifdef VASTMAX_SIMT
#include "cuda/simt/fibers.hpp"
#endif

namespace vastmax::testing {
namespace {

constexpr std::int64_t classes = 200, rows = 9, draws = 75;

template <class T>
class OnDevice {
 public:
  OnDevice(const std::vector<T>& host, const cuda::Stream& stream)
      : stream_(stream), size_(host.size()), memory_(static_cast<std::int64_t>(host.size()), stream, "test") {
    cuda::check(cudaMemcpyAsync(memory_.data(), host.data(), size_ * sizeof(T), cudaMemcpyDefault, stream.handle()));
    cuda::check(cudaStreamSynchronize(stream.handle()));
  }
  T* data() const { return memory_.data(); }
  std::vector<std::byte> bytes() const {
    std::vector<std::byte> host(size_ * sizeof(T));
    cuda::check(cudaMemcpyAsync(host.data(), memory_.data(), host.size(), cudaMemcpyDefault, stream_.handle()));
    cuda::check(cudaStreamSynchronize(stream_.handle()));
    return host;
  }

 private:
  const cuda::Stream& stream_;
  std::size_t size_;
  cuda::Workspace<T> memory_;
};

double number(std::uint64_t i) {  // in (-1, 1), the same everywhere
  i = (i + 1) * 0x9e3779b97f4a7c15u;
  i = (i ^ (i >> 29)) * 0xbf58476d1ce4e5b9u;
  return static_cast<double>(static_cast<std::int64_t>(i >> 11)) * 0x1p-52 - 1;
}

template <class F>
struct Problem {
  std::int64_t features, pitch;  // pitch: in elements
  const cuda::Stream& stream;
  std::vector<F> w, x;
  std::vector<std::int64_t> ids, target, offsets;

  Problem(std::int64_t n, std::int64_t more, const cuda::Stream& on) : features(n), pitch(n + more), stream(on) {
    w.assign(static_cast<std::size_t>(classes * pitch + 1), F(0));
    const double scale = 3 / static_cast<double>(n);
    for (std::int64_t c = 0; c < classes; ++c)
      for (std::int64_t f = 0; f < n; ++f)
        w[static_cast<std::size_t>(c * pitch + f + (more > 0))] =
            static_cast<F>(5 * number(static_cast<std::uint64_t>(c * 5000 + f)));
    for (std::int64_t i = 0; i < rows * n; ++i)
      x.push_back(static_cast<F>(scale * number(static_cast<std::uint64_t>(i))));
    for (std::int64_t i = 0; i < rows * draws; ++i) ids.push_back((i * i * 31 + i) % classes);
    for (std::int64_t i = 0; i <= rows; ++i) offsets.push_back(i), target.push_back(i * 17 % classes);
    target.pop_back();
  }

  ClassTable table(const OnDevice<F>& at) const {
    const bool off = pitch != features;
    return {reinterpret_cast<std::byte*>(at.data() + off), sizeof(F) == 8 ? DType::float64 : DType::float32, classes,
            pitch * static_cast<std::int64_t>(sizeof(F)), static_cast<std::size_t>(features)};
  }

  // All results of the loss, of a sum of its rows and of a product.
  std::vector<std::byte> run(SampledKind kind) const {
    const OnDevice<F> there(w, stream), input(x, stream), slopes(std::vector<F>(rows * draws), stream),
        grad(std::vector<F>(x.size()), stream), sums(std::vector<F>(static_cast<std::size_t>(3 * features)), stream),
        product(std::vector<F>(static_cast<std::size_t>(features * features)), stream);
    const OnDevice<std::int64_t> drawn(ids, stream), targets(target, stream), starts(offsets, stream),
        hits(std::vector<std::int64_t>(rows), stream);
    const std::vector<double> zeros(rows), ones(rows, 1.0);
    const OnDevice<double> share(ones, stream), shift(zeros, stream), row_shift(zeros, stream), loss(zeros, stream),
        lse(zeros, stream), effective(zeros, stream), target_slope(zeros, stream);
    SampledLoss o;
    o.rows = rows, o.draws = draws, o.input = reinterpret_cast<const std::byte*>(input.data());
    o.targets = {starts.data(), targets.data(), share.data(), shift.data()};
    o.kind = kind, o.average = true, o.shift = row_shift.data();
    o.loss = loss.data(), o.lse = lse.data(), o.effective = effective.data(), o.hits = hits.data();
    o.target_slope = target_slope.data();
    const ClassTable classes_there = table(there);
    const auto bytes_of = [](const OnDevice<F>& a) { return reinterpret_cast<std::byte*>(a.data()); };
    cuda::sampled_own(o, classes_there, nullptr, {drawn.data(), nullptr, 0.5}, bytes_of(slopes), bytes_of(grad),
                      {stream});

    // Three groups, one of them of more entries than a piece has.
    constexpr std::int64_t cuts[] = {0, 5, rows * draws - 1, rows * draws + rows};
    std::vector<std::int64_t> order(rows * draws + rows), from(std::begin(cuts), std::end(cuts)), pieces{0}, numbers;
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::int64_t>(i * 7 % order.size());
    for (int g = 0; g < 3; ++g)
      pieces.push_back(pieces.back() + (cuts[g + 1] - cuts[g] + cuda::most_of_a_piece() - 1) / cuda::most_of_a_piece());
    for (std::int64_t i = 0; i < rows; ++i) numbers.push_back(rows - 1 - i);
    const OnDevice<std::int64_t> sorted(order, stream), begins(from, stream), first(pieces, stream),
        its(numbers, stream);
    const OnDevice<F> weights(std::vector<F>(rows, F(0.25)), stream);
    const std::size_t both[] = {rows, rows};
    cuda::sum_groups(classes_there.dtype, static_cast<std::size_t>(features),
                     {rows * draws, draws, bytes_of(input), bytes_of(slopes), nullptr},
                     {rows, 1, bytes_of(grad), bytes_of(weights), its.data()}, both,
                     {3, pieces.back(), sorted.data(), begins.data(), first.data()}, bytes_of(sums), {stream});

    const std::int64_t item = sizeof(F), across[] = {item, features * item}, along[] = {features * item, item},
                       left[] = {features, rows}, right[] = {rows, features}, whole[] = {features, features};
    const ConstView a{bytes_of(input), classes_there.dtype, left, across}, b{bytes_of(grad), a.dtype, right, along};
    const View to{bytes_of(product), a.dtype, whole, along};
    cuda::product(a.dtype, a, b, to, false, {stream});
    cuda::product(a.dtype, a, b, to, true, {stream});

    std::vector<std::byte> all;
    for (const auto& each : {loss.bytes(), lse.bytes(), effective.bytes(), target_slope.bytes(), hits.bytes(),
                             slopes.bytes(), grad.bytes(), sums.bytes(), product.bytes()})
      all.insert(all.end(), each.begin(), each.end());
    return all;
  }
};

template <class F>
int check(const cuda::Stream& stream, std::uint64_t& digest) {
  int failures = 0;
  for (const std::int64_t features : {1, 8, 20, 64, 128, 132, 256, 300, 512, 700})
    for (const SampledKind kind : {SampledKind::softmax, SampledKind::nce}) {
      const auto want = Problem<F>(features, 0, stream).run(kind);
      for (const std::byte b : want) digest = (digest ^ std::to_integer<std::uint64_t>(b)) * 1099511628211u;
      for (const std::int64_t more : {0, 3, 4}) {
#ifdef VASTMAX_SIMT
        simt::shuffle(static_cast<std::uint64_t>(more + 77));
        simt::limit_grid(more == 3 ? 2 : 0);
#endif
        if (Problem<F>(features, more, stream).run(kind) == want) continue;
        std::printf("%lld features, kind %d: other bits %lld off\n", static_cast<long long>(features),
                    static_cast<int>(kind), static_cast<long long>(more));
        ++failures;
      }
#ifdef VASTMAX_SIMT
      simt::limit_grid(0);
#endif
    }
  return failures;
}

// The order of std::stable_sort, and the cuts between its groups, whatever the order of blocks.
int check_groups(const cuda::Stream& stream) {
  int failures = 0;
  for (const std::int64_t n : {1, 31, 4096, 4097, 20'000})
    for (const std::int64_t range : {1, 2, 1000, 3'000'000}) {
      std::vector<std::int64_t> ids(static_cast<std::size_t>(n)), order(ids.size()), starts, groups;
      for (std::size_t i = 0; i < ids.size(); ++i)
        ids[i] = static_cast<std::int64_t>((number(i) + 1) / 2 * static_cast<double>(range));
      std::iota(order.begin(), order.end(), 0);
      const auto id = [&](std::int64_t i) { return ids[static_cast<std::size_t>(i)]; };
      std::ranges::stable_sort(order, {}, id);
      for (std::size_t i = 0; i < order.size(); ++i)
        if (i == 0 || id(order[i]) != id(order[i - 1]))
          starts.push_back(static_cast<std::int64_t>(i)), groups.push_back(id(order[i]));
      starts.push_back(n);
#ifdef VASTMAX_SIMT
      simt::shuffle(static_cast<std::uint64_t>(n + range));
#endif
      const std::vector<std::int64_t> room(ids.size() + 1);
      const OnDevice<std::int64_t> given(ids, stream), to(room, stream), cuts(room, stream), found(room, stream);
      const std::int64_t count =
          cuda::group_ids(given.data(), n, range, to.data(), cuts.data(), found.data(), {stream});
      const auto begins = [](const std::vector<std::byte>& all, const std::vector<std::int64_t>& want) {
        return std::memcmp(all.data(), want.data(), want.size() * sizeof want[0]) == 0;
      };
      if (count == static_cast<std::int64_t>(groups.size()) && begins(to.bytes(), order) &&
          begins(cuts.bytes(), starts) && begins(found.bytes(), groups))
        continue;
      std::printf("%lld ids below %lld: not as std::stable_sort groups them\n", static_cast<long long>(n),
                  static_cast<long long>(range));
      ++failures;
    }
  return failures;
}

}  // namespace
}  // namespace vastmax::testing

int main() {
  const vastmax::cuda::Stream stream(0, nullptr);
  std::uint64_t digest = 14695981039346656037u;
  const int failures = vastmax::testing::check<float>(stream, digest) +
                       vastmax::testing::check<double>(stream, digest) + vastmax::testing::check_groups(stream);
  std::printf("digest %016llx\n", static_cast<unsigned long long>(digest));
  return failures != 0;
}
