# SPDX-License-Identifier: Apache-2.0
"""Sampled losses of arrays on the GPU: the tests of the CPU on arrays of other libraries, and what is special there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import test_sampled_softmax as cpu
from numpy.testing import assert_allclose, assert_array_equal
from test_sampled_softmax import B, D, S, V, problem

import vastmax
from support.fake_gpu_arrays import ByDlpack, Library, filled

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.any_isa,
    pytest.mark.skipif(not vastmax.cuda.is_available(), reason=f"no GPU, no SIMT build: {vastmax.cuda.reason()}"),
]
HOST = {name: getattr(vastmax, name) for name in ("sampled_softmax", "nce_loss")}
OF_ARRAYS = {"bias", "grad_output"}


def _simulated() -> bool:
    return bool(pytest.importorskip("vastmax._cuda").simulated)


def guest(value: Any) -> Any:
    """An array of another library where the machine takes memory of the host for its own, else a copy of our own."""
    if isinstance(value, tuple):
        return tuple(map(guest, value))
    if not isinstance(value, np.ndarray) or value.size == 0:
        return value
    return ByDlpack(value) if _simulated() else filled(value, 0)


def home(value: Any) -> Any:
    if isinstance(value, ByDlpack):
        return value.array
    return value.copy_to_host() if isinstance(value, vastmax.cuda.DeviceArray) else value


def rows_of(gradient: Any) -> vastmax.SparseRows:
    """Its rows as those of the CPU, summed on the GPU."""
    summed = gradient.coalesce()
    return vastmax.SparseRows(home(summed.ids), home(summed.rows), summed.shape)


class AtHome:
    """A gradient on the GPU, as the tests of the CPU look at one."""

    def __init__(self, gradient: Any) -> None:
        self.there, self.shape = gradient, gradient.shape

    def coalesce(self) -> vastmax.SparseRows:
        return rows_of(self.there)

    def ids(self) -> Any:
        return home(self.there.ids())


def there(name: str, x: Any, w: Any, target: Any, **options: Any) -> Any:
    """The function `name` of arrays on the GPU, its results brought back."""
    lent = {k: guest(np.asarray(v)) if k in OF_ARRAYS else v for k, v in options.items()}
    r = HOST[name](guest(x), guest(w), guest(target), **lent)
    assert isinstance(r.loss, vastmax.cuda.DeviceArray)
    grad_weight = None if r.grad_weight is None else AtHome(r.grad_weight)
    return type(r)(home(r.loss), home(r.lse), home(r.grad_input), grad_weight, home(r.num_hits), home(r[5]))


def both(x: Any, w: Any, t: Any, name: str = "sampled_softmax", **options: Any) -> tuple[Any, Any]:
    return HOST[name](x, w, t, **options), there(name, x, w, t, **options)


def assert_alike(a: Any, b: Any, tolerance: float) -> None:
    for name in ("loss", "lse", "grad_input", "effective_sample_size"):
        one, other = np.asarray(getattr(a, name), np.float64), np.asarray(getattr(b, name), np.float64)
        largest = np.nanmax(abs(one), initial=0)
        assert_allclose(other, one, rtol=0, atol=tolerance * largest, err_msg=name)
        assert getattr(a, name).dtype == getattr(b, name).dtype
    assert_array_equal(a.num_hits, b.num_hits)
    one, other = a.grad_weight.coalesce(), b.grad_weight.coalesce()
    assert_array_equal(one.ids, other.ids)
    assert one.rows.dtype == other.rows.dtype
    assert_allclose(other.rows, one.rows, rtol=0, atol=tolerance * abs(one.rows).max(initial=0))


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The functions of the CPU's tests send their arrays to the GPU."""
    for name in HOST:
        monkeypatch.setattr(vastmax, name, lambda *a, _name=name, **k: there(_name, *a, **k))


@pytest.mark.usefixtures("on_gpu")
@pytest.mark.parametrize("share", ["batch", "row"])
@pytest.mark.parametrize("correction", ["importance", "candidate", "refined", "none"])
@pytest.mark.parametrize("targets", [None, 3])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_formula(share: str, correction: str, targets: Any, dtype: Any) -> None:
    cpu.test_the_formula(None, share, correction, targets, dtype)


@pytest.mark.usefixtures("on_gpu")
@pytest.mark.parametrize("share", ["batch", "row"])
@pytest.mark.parametrize("drop", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_nce(share: str, drop: bool, dtype: Any) -> None:
    cpu.test_nce(None, share, drop, dtype)


@pytest.mark.usefixtures("on_gpu")
@pytest.mark.parametrize("share", ["batch", "row"])
@pytest.mark.parametrize("correction", ["importance", "candidate", "refined", "none"])
@pytest.mark.parametrize("targets", [None, 3])
def test_all_classes_are_the_full_softmax(share: str, correction: str, targets: Any) -> None:
    cpu.test_all_classes_are_the_full_softmax(share, correction, targets)


@pytest.mark.usefixtures("on_gpu")
@pytest.mark.parametrize("share", ["batch", "row"])
@pytest.mark.parametrize("correction", ["importance", "candidate"])
@pytest.mark.parametrize("size", [S, 250])
def test_unique(share: str, correction: str, size: int) -> None:
    cpu.test_unique(share, correction, size)


OTHERS = [
    cpu.test_refined_is_importance_with_another_value,
    cpu.test_a_row_without_a_target_spoils_nothing,
    cpu.test_a_gradient_is_of_the_arrays_that_were_given,
    cpu.test_preset_targets_stay_with_their_targets,
    cpu.test_targets_beyond_what_is_drawn,
    cpu.test_hits_may_stay,
    cpu.test_logits_that_overflow,
    cpu.test_a_row_whose_draws_are_all_hits,
]


@pytest.mark.usefixtures("on_gpu")
@pytest.mark.parametrize("share", ["batch", "row"])
@pytest.mark.parametrize("test", OTHERS, ids=lambda test: test.__name__)
def test_as_on_the_cpu(test: Any, share: str) -> None:
    several = {"bad": [np.nan, np.inf], "correction": ["importance", "candidate", "refined"]}
    names = [name for name in several if name in test.__code__.co_varnames[: test.__code__.co_argcount]]
    for value in several[names[0]] if names else [None]:
        test(share=share, **({names[0]: value} if names else {}))


SAMPLERS = {
    "uniform": vastmax.UniformSampler(V),
    "log-uniform": vastmax.LogUniformSampler(V),
    "unigram": vastmax.UnigramSampler(np.arange(V) * 7919 % 97),
    "mixture": vastmax.MixtureSampler([vastmax.UniformSampler(V), vastmax.LogUniformSampler(V)], [1, 2]),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_ids_of_the_cpu(name: str) -> None:
    x, w, _, t = problem(np.float32)
    options = {"sampler": SAMPLERS[name], "num_sampled": S, "share": "row", "seed": 5, "step": 2, "row_offset": 9}
    here, gpu = both(x, w, t, **options)
    assert_array_equal(gpu.grad_weight.ids(), here.grad_weight.ids())
    assert_alike(here, gpu, 3e-6)


# Rows in registers of one, two and four groups a lane, or in cache; on 16-byte boundaries and off them.
@pytest.mark.parametrize("features", [1, 4, 8, 33, 64, 128, 200, 256, 512, 516, 1030])
@pytest.mark.parametrize("share", ["batch", "row"])
def test_every_length(share: str, features: int, dtype: Any) -> None:
    rng = np.random.default_rng(features)
    x, w = (rng.normal(size=(n, features)) / np.sqrt(features) for n in (5, 60))
    x, w = (3 * x).astype(dtype), (3 * w).astype(dtype)
    options = {"sampler": vastmax.LogUniformSampler(60), "num_sampled": 37, "share": share, "seed": 1}
    here, gpu = both(x, w, rng.integers(0, 60, 5), **options)
    assert_alike(here, gpu, 1e-12 if np.dtype(dtype) == np.float64 else 2e-5 if np.dtype(dtype).itemsize == 4 else 1e-2)


@pytest.mark.usefixtures("simulated")
@pytest.mark.parametrize("offset", [1, 4])
def test_a_table_off_a_boundary(offset: int) -> None:
    x, w, b, t = problem(np.float32)
    room = np.zeros((V, D + 7), np.float32)
    table = room[:, offset : offset + D]
    table[:] = w
    options = {"bias": b, "sampler": vastmax.LogUniformSampler(V), "num_sampled": S, "share": "row", "seed": 3}
    here, gpu = both(x, table, t, **options)
    assert_alike(here, gpu, 3e-6)


@pytest.mark.parametrize("share", ["batch", "row"])
def test_ragged_targets(share: str) -> None:
    x, w, b, _ = problem(np.float32)
    offsets = np.minimum(np.arange(B + 1) * 3 // 2, 20)  # rows of 1, 2 and no targets
    ids = np.random.default_rng(4).integers(0, 30, 20)
    options = {"bias": b, "sampler": vastmax.LogUniformSampler(V), "num_sampled": S, "share": share, "seed": 3}
    here, gpu = both(x, w, (ids, offsets), **options)
    assert_alike(here, gpu, 3e-6)


@pytest.mark.parametrize(("share", "rows"), [("batch", S + B), ("row", B * S + B)])
def test_explain(share: str, rows: int) -> None:
    x, w, _, t = problem(np.float32)
    options = {"sampler": vastmax.LogUniformSampler(V), "num_sampled": S, "share": share}
    plan = vastmax.explain(HOST["sampled_softmax"], guest(x), guest(w), t, **options)
    assert (plan.backend, plan.isa, plan.bytes) == ("cuda", "cuda", rows * D * 4)
    assert f"{S} draws for" in plan.reason


def test_groups_of_many_entries_are_summed_in_pieces() -> None:
    """One class in most of the draws: more entries than a piece has."""
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(40, D)), rng.normal(size=(3, D))
    sampler = vastmax.UnigramSampler([1000, 1, 1], power=1)
    here, gpu = both(x, w, rng.integers(0, 3, 40), sampler=sampler, num_sampled=50, share="row", seed=1)
    assert_alike(here, gpu, 1e-12)


@pytest.mark.parametrize("classes", [2, 16, 17, 70_000])
def test_many_classes_are_put_in_order(classes: int) -> None:
    """More entries, and more classes, than one block puts in order."""
    x, w, _, t = problem(rows=150, classes=classes)
    options = {"sampler": vastmax.UniformSampler(classes), "num_sampled": 60, "share": "row", "seed": 2}
    here, gpu = both(x, w, t % classes, **options)
    assert_alike(here, gpu, 1e-12)


@pytest.mark.parametrize("share", ["batch", "row"])
@pytest.mark.parametrize("name", ["sampled_softmax", "nce_loss"])
def test_many_draws_at_once_or_few(monkeypatch: pytest.MonkeyPatch, share: str, name: str) -> None:
    from vastmax._ops.sampled import device as _cuda_sampled

    x, w, b, t = problem(np.float32)
    options = {"bias": b, "sampler": vastmax.LogUniformSampler(V), "num_sampled": S, "share": share, "seed": 3}
    once = there(name, x, w, t, **options)
    monkeypatch.setattr(_cuda_sampled, "_DRAWS_AT_ONCE", 3 * S)
    monkeypatch.setattr(_cuda_sampled, "_LOGITS_BYTES", 5 * 4 * S)
    again = there(name, x, w, t, **options)
    for a, b_ in zip(once[:3], again[:3], strict=True):
        assert_array_equal(a, b_) if share == "row" else assert_allclose(a, b_, rtol=1e-5)
    assert_allclose(rows_of(again.grad_weight.there).rows, rows_of(once.grad_weight.there).rows, rtol=0, atol=1e-5)


@pytest.mark.parametrize("share", ["batch", "row"])
def test_without_gradients(share: str) -> None:
    x, w, b, t = problem(np.float32)
    options = {"bias": b, "sampler": vastmax.LogUniformSampler(V), "num_sampled": S, "share": share, "seed": 3}
    with_grad, without = (
        there("sampled_softmax", x, w, t, **options),
        there("sampled_softmax", x, w, t, need_grad=False, **options),
    )
    assert without.grad_input is None
    assert without.grad_weight is None
    assert_array_equal(with_grad.loss, without.loss)


@pytest.mark.parametrize("share", ["batch", "row"])
def test_no_rows(share: str) -> None:
    x, w, _, t = problem(np.float32)
    options = {"sampler": vastmax.LogUniformSampler(V), "num_sampled": S, "share": share, "seed": 3}
    r = HOST["sampled_softmax"](x[:0], guest(w), t[:0], **options)
    assert home(r.loss).shape == (0,)
    assert home(r.grad_input).shape == (0, D)
    assert (home(r.grad_weight.coalesce().rows) == 0).all()


@pytest.mark.parametrize("share", ["batch", "row"])
def test_what_is_not_finite(share: str) -> None:
    """Infinite and NaN logits go where they go on the CPU."""
    x, w, b, t = problem(np.float32)
    w[40:45] = np.inf
    b[50:60] = -np.inf
    x[3] = np.nan
    options = {"bias": b, "sampler": vastmax.UniformSampler(V), "num_sampled": S, "share": share, "seed": 3}
    here, gpu = both(x, w, t, **options)
    assert_allclose(gpu.loss, here.loss, rtol=1e-5)
    assert_allclose(gpu.lse, here.lse, rtol=1e-5)
    assert_array_equal(np.isnan(gpu.grad_input), np.isnan(here.grad_input))


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize("share", ["batch", "row"])
def test_updates(share: str, dtype: Any) -> None:
    x, w, _, t = problem(dtype)
    options = {"sampler": vastmax.LogUniformSampler(V), "num_sampled": S, "share": share, "seed": 3}
    here = HOST["sampled_softmax"](x, w, t, **options)
    gpu = HOST["sampled_softmax"](guest(x), guest(w), guest(t), **options)
    for adagrad in (False, True):
        one, other, state, other_state = w.copy(), guest(w.copy()), np.ones(V), guest(np.ones(V))
        if adagrad:
            here.grad_weight.apply_adagrad_(one, state, lr=0.1)
            gpu.grad_weight.apply_adagrad_(other, other_state, lr=0.1)
        else:
            here.grad_weight.apply_sgd_(one, 0.1)
            gpu.grad_weight.apply_sgd_(other, 0.1)
        assert (one != w).any()
        assert_allclose(home(other), one, rtol=0, atol=1e-3 if dtype == np.float16 else 1e-5)
        assert_allclose(home(other_state), state, rtol=1e-4)


@pytest.mark.usefixtures("simulated")
@pytest.mark.parametrize("name", ["torch", "cupy", "numba"])
@pytest.mark.parametrize("share", ["batch", "row"])
def test_arrays_and_products_of_the_library(monkeypatch: pytest.MonkeyPatch, name: str, share: str) -> None:
    """Matrix products are those of the library where it has some; results are its arrays, beside the input."""
    from vastmax._backends import array_libraries as _guests
    from vastmax._ops.sampled import device as _cuda_sampled

    library, calls = Library(name, monkeypatch), list[bool]()
    made = _guests._PRODUCTS.get(name)
    if made is not None:
        monkeypatch.setitem(_guests._PRODUCTS, name, lambda *a: (calls.append(a[4]), made(*a)))
    monkeypatch.setattr(_cuda_sampled, "_LOGITS_BYTES", 7 * 4 * S)
    x, w, b, t = problem(np.float32)
    options = {"sampler": vastmax.LogUniformSampler(V), "num_sampled": S, "share": share, "seed": 3}
    here = HOST["sampled_softmax"](x, w, t, bias=b, **options)
    lent = [library.array(a, 1) for a in (x, w, b)]
    got = HOST["sampled_softmax"](lent[0], lent[1], library.array(t, 1), bias=lent[2], **options)
    summed = got.grad_weight.coalesce()
    for one, other in ((here.loss, got.loss), (here.grad_input, got.grad_input)):
        assert type(other) is library.kind
        assert other.memory.device == 1
        assert_allclose(other.get(), one, rtol=0, atol=3e-6 * abs(one).max())
    want = here.grad_weight.coalesce()
    assert_array_equal(summed.ids.get(), want.ids)
    assert_allclose(summed.rows.get(), want.rows, rtol=0, atol=3e-6 * abs(want.rows).max())
    assert (len(calls) > 3 and True in calls) == (share == "batch" and name != "numba")


@pytest.mark.usefixtures("simulated")
def test_what_the_gpu_refuses() -> None:
    x, w, b, t = problem(np.float32)
    options = {"sampler": vastmax.LogUniformSampler(V), "num_sampled": S}
    call = HOST["sampled_softmax"]
    with pytest.raises(ValueError, match="weight is not on a GPU; accepted: an array on cuda:0"):
        call(guest(x), w, t, **options)
    with pytest.raises(ValueError, match="bias is not on a GPU"):
        call(guest(x), guest(w), t, bias=b, **options)
    with pytest.raises(IndexError, match=f"target is {V} at row 2"):
        call(guest(x), guest(w), guest(np.where(np.arange(B) == 2, V, t)), **options)
    with pytest.raises(TypeError, match="input has dtype float64"):
        call(guest(x.astype(np.float64)), guest(w), t, **options)
    with pytest.raises(ValueError, match=r"input has shape \(17, 19\)"):
        call(guest(x[:, 1:]), guest(w), t, **options)
    with pytest.raises(ValueError, match=r"grad_output has shape \(3,\)"):
        call(guest(x), guest(w), t, grad_output=guest(np.ones(3)), **options)
    with pytest.raises(ValueError, match="weight has strides"):
        call(guest(x), guest(w.T.copy().T), t, **options)
    preset = vastmax.PresetSampler([1, V], np.log([0.5, 0.5]))
    with pytest.raises(IndexError, match="sampler"):
        call(guest(x), guest(w), t, sampler=preset, share="row")
    with vastmax.config(device="cuda"), pytest.raises(vastmax.BackendUnavailable, match="NumPy data"):
        call(x, w, t, **options)
    gradient = call(guest(x), guest(w), t, **options).grad_weight
    with pytest.raises(TypeError, match="to_scipy: ids and rows are on a GPU"):
        gradient.to_scipy()
    with pytest.raises(TypeError, match="weight is a ndarray; accepted: an array on cuda:0"):
        gradient.apply_sgd_(w, 0.1)
    with pytest.raises(ValueError, match=r"weight has shape \(299, 20\)"):
        gradient.apply_sgd_(guest(w[1:]), 0.1)
    with pytest.raises(TypeError, match="state is a NoneType"):
        gradient.apply_adagrad_(guest(w), None, 0.1)
    with pytest.raises(ValueError, match="state has dtype float32"):
        gradient.apply_adagrad_(guest(w), guest(b), 0.1)
