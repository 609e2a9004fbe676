// SPDX-License-Identifier: Apache-2.0
// A stretch with strides, a mask, a temperature, a softcap or a shift, made into a plain one of the compute type: at
// most a block at a time.
#include "cpp/kernels/fill.hpp"
#include "cpp/ops/quotient.hpp"
#include "cpp/ops/softcap.hpp"
#include "cpp/simd/rows.hpp"

namespace vastmax::VM_ISA {

// fn on the lanes of v in float64.
template <class Fn>
VM_INLINE F64 in_double(F64 v, const Fn& fn) {
  return through(fn, v);
}
template <class Fn>
VM_INLINE F32 in_double(F32 v, const Fn& fn) {
  F64 low, high;
  widen(v, low, high);
  const Lanes<F64> lanes[2] = {Lanes<F64>(through(fn, low)), Lanes<F64>(through(fn, high))};
  alignas(64) float narrow[F32::lanes];
  for (int i = 0; i < F32::lanes; ++i) narrow[i] = static_cast<float>(lanes[i / F64::lanes].at[i % F64::lanes]);
  return load<F32>(reinterpret_cast<Bytes>(narrow), narrow);
}

// each(i, left, v): the logits from element i on, of which `left` are inside, divided by the temperature.
template <class T, class Each>
VM_INLINE void gather(const Staging& s, std::size_t n, const Each& each) {
  using V = wide<compute_t<T>>;
  const bool plain = s.stride == static_cast<std::ptrdiff_t>(sizeof(T)), divide = s.divisor != 1;
  const Quotient<V> quotient(s.divisor);
  alignas(64) std::byte gathered[V::lanes * sizeof(T)];
  for (std::size_t i = 0; i < n; i += V::lanes) {
    const std::size_t left = n - i < V::lanes ? n - i : V::lanes;
    Bytes from = s.x + static_cast<std::ptrdiff_t>(i) * s.stride;
    if (!plain) {
      for (std::size_t j = 0; j < left; ++j)
        std::memcpy(gathered + j * sizeof(T), from + static_cast<std::ptrdiff_t>(j) * s.stride, sizeof(T));
      from = gathered;
    }
    const V v = load_first<V>(from, left, 0, type<T>);
    each(i, left, divide ? quotient(v) : v);
  }
}

// What a product left of the logits of a layer: bias, softcap in the compute type, shift; or the slope of the softcap.
enum class Finish { bias, cap, slope };
template <class V, Finish finish>
struct HeadLogit {
  Softcap<V, sizeof(typename V::scalar) == 8> cap;
  V base;
  VM_MEMBER explicit HeadLogit(const Staging& s)
      : cap(s.cap), base(splat<V>(static_cast<typename V::scalar>(s.shift))) {}
  VM_MEMBER V operator()(V x) const {
    if constexpr (finish == Finish::slope) return cap.slope(x);
    if constexpr (finish == Finish::cap) x = cap(x);
    return x - base;
  }
  VM_MEMBER V operator()(V x, V bias) const { return (*this)(x + bias); }
};
template <class F, Finish finish>
static void head_logits(const Staging& s, std::size_t n, OutBytes y) {
  using V = vec<F>;
  const HeadLogit<Batch<V>, finish> many(s);
  const HeadLogit<V, finish> one(s);
  if (s.bias == nullptr)
    map_inputs<F, V>(y, n, false, many, one, Input<F>{s.x});
  else
    map_inputs<F, V>(y, n, false, many, one, Input<F>{s.x}, Input<F>{s.bias});
}

template <class T>
static bool stage(const Staging& s, std::size_t n, OutBytes staged) {
  using F = compute_t<T>;
  using V = wide<F>;
  if (s.head) {
    s.cap == 0 ? head_logits<F, Finish::bias>(s, n, staged) : head_logits<F, Finish::cap>(s, n, staged);
    return true;
  }
  const bool capped = s.cap != 0, shift = s.shift != 0;
  const V base = splat<V>(static_cast<F>(s.shift));
  const Softcap<vec<double>, sizeof(F) == 8> cap(s.cap);
  bool live = s.where == nullptr && n != 0;
  gather<T>(s, n, [&](std::size_t i, std::size_t left, V v) {
    if (capped) v = in_double(v, cap);
    if (shift) v = v - base;
    store_first(staged + i * sizeof(F), left, v, to_type<F>);
    if (s.where != nullptr)
      for (std::size_t j = 0; j < left; ++j) {
        const bool in = s.where[static_cast<std::ptrdiff_t>(i + j) * s.where_stride] != 0;
        live |= in;
        if (!in) reinterpret_cast<F*>(staged)[i + j] = -Number<F>::infinity;
      }
  });
  return live;
}

// The slope of the softcap at each logit.
template <class T>
static void softcap_slope(const Staging& s, std::size_t n, OutBytes to) {
  using F = compute_t<T>;
  if (s.head) return head_logits<F, Finish::slope>(s, n, to);
  const auto slope = [cap = Softcap<vec<double>, sizeof(F) == 8>(s.cap)](auto x) { return cap.slope(x); };
  gather<T>(s, n, [&](std::size_t i, std::size_t left, wide<F> v) {
    store_first(to + i * sizeof(F), left, in_double(v, slope), to_type<F>);
  });
}

template <class T>
static void widened(Bytes x, std::size_t n, double shift, OutBytes y) {
  const F64 base = splat<F64>(shift);
  for (std::size_t i = 0; i < n; i += F32::lanes) {
    const std::size_t left = n - i < F32::lanes ? n - i : std::size_t{F32::lanes};
    F64 half[2];
    widen(load_first<F32>(x + i * sizeof(T), left, 0, type<T>), half[0], half[1]);
    for (std::size_t j = 0; j < 2 && j * F64::lanes < left; ++j) {
      const std::size_t some = left - j * F64::lanes < F64::lanes ? left - j * F64::lanes : std::size_t{F64::lanes};
      store_first(y + (i + j * F64::lanes) * sizeof(double), some, half[j] - base, to_type<double>);
    }
  }
}

void fill_stage(Kernels& k) {
  each_dtype(k, []<class T>(DTypeKernels& to, T) {
    to.stage = stage<T>, to.softcap_slope = softcap_slope<T>;
    if constexpr (sizeof(T) < sizeof(double)) to.widened = widened<T>;
  });
}

}  // namespace vastmax::VM_ISA
