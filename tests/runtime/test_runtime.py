# SPDX-License-Identifier: Apache-2.0
"""config, info, explain, threads, and the choice of a backend."""

from __future__ import annotations

import contextlib
import contextvars
import json
import os
import threading
from typing import Any

import numpy as np
import pytest

import vastmax
from support import subprocesses
from vastmax._backends import choose as _choose
from vastmax._backends import tuned as _tuned

ISAS = vastmax.available_isas()


def test_isas() -> None:
    known = ("scalar", "avx2", "avx512", "neon")
    assert ISAS[0] == "scalar"
    assert [i for i in known if i in ISAS] == list(ISAS), "slowest first"
    assert vastmax.active_isa() in ISAS


def test_isas_of_this_cpu() -> None:
    """NumPy's own detection must not see more than we do, nor less."""
    try:
        from numpy._core._multiarray_umath import __cpu_features__ as features
    except ImportError:
        pytest.skip("this NumPy does not tell")
    if "AVX2" not in features:
        pytest.skip("not x86")
    built = vastmax.info()["isa"]["built"]
    wanted = {"avx2": ("AVX2", "FMA3", "F16C"), "avx512": ("AVX512F", "AVX512BW", "AVX512DQ", "AVX512VL")}
    for isa, names in wanted.items():
        if isa in built and all(n in features for n in names):
            assert (isa in ISAS) == all(features[n] for n in names), isa


def test_config_nests_and_restores() -> None:
    before = vastmax.active_isa(), vastmax.get_num_threads()
    with vastmax.config(isa="scalar", threads=7):
        assert (vastmax.active_isa(), vastmax.get_num_threads()) == ("scalar", 7)
        with vastmax.config(threads=3):
            assert (vastmax.active_isa(), vastmax.get_num_threads()) == ("scalar", 3)
        with contextlib.suppress(ZeroDivisionError), vastmax.config(isa=ISAS[-1]):
            assert vastmax.active_isa() == ISAS[-1]
            raise ZeroDivisionError
        assert (vastmax.active_isa(), vastmax.get_num_threads()) == ("scalar", 7)
    assert (vastmax.active_isa(), vastmax.get_num_threads()) == before


def test_config_belongs_to_a_context() -> None:
    seen: list[str] = []
    with vastmax.config(isa="scalar"):
        elsewhere = contextvars.Context()
        worker = threading.Thread(target=lambda: seen.append(elsewhere.run(vastmax.active_isa)))
        worker.start()
        worker.join()
        seen.append(contextvars.copy_context().run(vastmax.active_isa))
    assert seen == [ISAS[-1] if "VASTMAX_ISA" not in os.environ else os.environ["VASTMAX_ISA"], "scalar"]


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"isa": "avx1024"}, ValueError, ("config", "isa", "avx1024", "scalar")),
        ({"isa": ""}, ValueError, ("config", "isa", "scalar")),
        ({"threads": 0}, ValueError, ("config", "threads", "0", "1")),
        ({"threads": -3}, ValueError, ("config", "threads", "-3", "1")),
        ({"threads": 2**70}, ValueError, ("config", "threads")),
        ({"threads": 1.5}, TypeError, ("config", "threads", "1.5", "int")),
        ({"threads": "2"}, TypeError, ("config", "threads", "2", "int")),
        ({"device": "tpu"}, ValueError, ("config", "device", "tpu", "cpu", "cuda", "auto")),
    ],
)
def test_config_errors(options: dict[str, Any], kind: type[Exception], words: tuple[str, ...]) -> None:
    with pytest.raises(kind) as caught, vastmax.config(**options):
        pass
    for word in words:
        assert word in str(caught.value)


def test_config_takes_keywords_only() -> None:
    with pytest.raises(TypeError):
        vastmax.config(2)  # type: ignore[misc]


@pytest.mark.usefixtures("threads")
def test_set_num_threads() -> None:
    for n in (1, 2, 64):
        vastmax.set_num_threads(n)
        assert vastmax.get_num_threads() == n
        assert vastmax.info()["threads"]["count"] == n
        assert vastmax.logsumexp(np.zeros(300_000, np.float32)) == np.float32(np.log(300_000))
    assert "set_num_threads" in vastmax.info()["threads"]["source"]
    for bad, kind in ((0, ValueError), (-1, ValueError), (1.5, TypeError), ("2", TypeError), (None, TypeError)):
        with pytest.raises(kind, match=r"set_num_threads.*int"):
            vastmax.set_num_threads(bad)  # type: ignore[arg-type]


def test_threads_follow_the_affinity() -> None:
    if not hasattr(os, "sched_getaffinity"):
        pytest.skip("no sched_getaffinity")
    from support import subprocesses

    out = subprocesses.run(
        """
        import os
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        import vastmax
        print(vastmax.get_num_threads())
        """,
        env={"VASTMAX_NUM_THREADS": "", "OMP_NUM_THREADS": ""},
    )
    assert out.strip() == "1"


@pytest.mark.usefixtures("threads")
def test_threadpoolctl() -> None:
    threadpoolctl = pytest.importorskip("threadpoolctl")
    vastmax.set_num_threads(4)
    assert vastmax.get_num_threads() == 4
    ours = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "vastmax"]
    assert len(ours) == 1, "not found, or found twice"
    assert ours[0]["num_threads"] == 4
    assert ours[0]["version"] == vastmax.__version__
    with threadpoolctl.threadpool_limits(1, user_api="vastmax"):
        assert vastmax.get_num_threads() == 1
    assert vastmax.get_num_threads() == 4
    with threadpoolctl.threadpool_limits(2):
        assert vastmax.get_num_threads() == 2
    assert vastmax.get_num_threads() == 4


@pytest.mark.parametrize(
    ("imports", "limited"),
    [
        ("import threadpoolctl, vastmax", 1),
        ("import vastmax, threadpoolctl; vastmax.get_num_threads()", 1),
        ("import vastmax; vastmax.softmax([0.0]); import threadpoolctl; vastmax.info()", 1),
        ("import threadpoolctl; del threadpoolctl.register; import vastmax", 3),  # as in threadpoolctl < 3.2
    ],
)
def test_threadpoolctl_imported_before_or_after(imports: str, limited: int) -> None:
    pytest.importorskip("threadpoolctl")
    from support import subprocesses

    out = subprocesses.run(
        f"""
        {imports}
        import threadpoolctl, vastmax
        with threadpoolctl.threadpool_limits(1):
            print(vastmax.get_num_threads())
        print(vastmax.get_num_threads())
        """,
        env={"VASTMAX_NUM_THREADS": "3"},
    )
    assert out.split() == [str(limited), "3"]


def test_info() -> None:
    info = vastmax.info()
    assert isinstance(info, dict)
    json.dumps(info)
    text = str(info)
    for value in (vastmax.__version__, np.__version__, vastmax.active_isa(), str(vastmax.get_num_threads())):
        assert value in text
    for variable in ("isa", "threads", "device"):
        assert "source" in info[variable]


def test_explain() -> None:
    x = np.zeros((3, 5), np.float32)
    plan = vastmax.explain(vastmax.softmax, x)
    assert (plan.op, plan.backend, plan.rows, plan.classes, plan.dtype) == ("softmax", "cpu", 3, 5, "float32")
    assert plan.isa == vastmax.active_isa()
    assert plan.strategy == "serial"
    assert plan.threads == 1
    assert plan.bytes > 0
    assert plan.reason
    with vastmax.config(threads=2, isa="scalar"):
        vast = vastmax.explain(vastmax.softmax, np.broadcast_to(np.float32(0), (1, 10_000_000)))
        assert (vast.strategy, vast.isa) == ("split", "scalar")
        assert vast.threads == 2
        many = vastmax.explain(vastmax.logsumexp, np.broadcast_to(np.float32(0), (100_000, 1000)), axis=1)
        assert many.strategy == "rows"
        assert (many.rows, many.classes) == (100_000, 1000)
    first = vastmax.explain(vastmax.softmax, np.zeros((7, 2)), axis=0)
    assert (first.rows, first.classes, first.dtype) == (2, 7, "float64")


def test_explain_writes_nothing() -> None:
    out = np.full((3, 5), 7.0, np.float32)
    vastmax.explain(vastmax.softmax, np.zeros((3, 5), np.float32), out=out)
    assert (out == 7).all()
    np.testing.assert_array_equal(vastmax.softmax([0.0, 0.0]), [0.5, 0.5])


def test_explain_every_function() -> None:
    x = np.zeros((3, 5))
    for name in ("softmax", "log_softmax", "logsumexp", "softplus", "sigmoid", "log_sigmoid"):
        assert name in vastmax.explain(getattr(vastmax, name), x).op
    for name in ("softmax", "log_softmax", "softplus", "sigmoid", "log_sigmoid"):
        assert name in vastmax.explain(getattr(vastmax, f"{name}_backward"), x, x).op
    assert vastmax.explain(vastmax.logsumexp_backward, 1.0, x).op == "logsumexp_backward"
    assert vastmax.explain(vastmax.binary_cross_entropy_with_logits, x, x).op == "binary_cross_entropy_with_logits"
    assert vastmax.explain(vastmax.special.logit, x).op == "logit"
    assert vastmax.explain(vastmax.special.softmax, x).op == "softmax"


def test_explain_errors() -> None:
    for fn in (np.exp, len, vastmax.info, vastmax.available_isas, 3):
        with pytest.raises(TypeError, match="explain"):
            vastmax.explain(fn)  # type: ignore[arg-type]
    with pytest.raises(np.exceptions.AxisError):
        vastmax.explain(vastmax.softmax, np.zeros((2, 2)), axis=9)


# The choice of a backend is a pure function, so its test is a table.

WITHOUT = {"cuda": "no CUDA here"}
F32 = np.dtype(np.float32)
CHOICES = [
    # home, wish, elements, CUDA is there, what is chosen
    ("cpu", None, 10**3, True, "cpu"),
    ("cpu", None, 10**10, True, "cpu"),
    ("cpu", "cpu", 10**10, True, "cpu"),
    ("cpu", "cuda", 10, True, "cuda"),
    ("cpu", "cuda", 10, False, None),
    ("cpu", "auto", 10, True, "cpu"),
    ("cpu", "auto", 900_000, True, "cpu"),
    ("cpu", "auto", 1_100_000, True, "cuda"),
    ("cpu", "auto", 10**9, True, "cuda"),
    ("cpu", "auto", 10**9, False, "cpu"),
    ("cuda", None, 10, True, "cuda"),
    ("cuda", "cpu", 10, True, "cuda"),
    ("cuda", "auto", 10, True, "cuda"),
    ("cuda", None, 10, False, None),
]
# 8 bytes a logit: 8 ns here, 2 ns there, after 4.4 ms: 80 % at a million.
MEASURED = _tuned.Policy({"softmax": {"float32": {"cpu": _tuned.Line(0, 1e-9), "cuda": _tuned.Line(4.4e-3, 0.25e-9)}}})


@pytest.mark.parametrize(("home", "wish", "elements", "cuda", "want"), CHOICES)
def test_choose(home: str, wish: str | None, elements: int, cuda: bool, want: str | None) -> None:
    absent = {} if cuda else WITHOUT
    options = {"absent": lambda: absent, "measured": lambda: MEASURED}
    if want is None:
        with pytest.raises(vastmax.BackendUnavailable, match=r"softmax.*no CUDA here"):
            _choose.choose("softmax", home, wish, elements, 1, F32, **options)
        return
    choice = _choose.choose("softmax", home, wish, elements, 1, F32, **options)
    assert choice.backend == want
    assert choice.reason


@pytest.mark.parametrize(
    ("op", "dtype", "policy", "words"),
    [
        ("softmax", F32, None, "python -m vastmax tune"),
        ("softmax", np.dtype(np.float64), MEASURED, "softmax was not measured in float64"),
        ("logsumexp", F32, MEASURED, "logsumexp was not measured in float32"),
    ],
)
def test_auto_stays_where_nothing_was_measured(op: str, dtype: Any, policy: Any, words: str) -> None:
    choice = _choose.choose(op, "cpu", "auto", 10**6, 10**6, dtype, absent=dict, measured=lambda: policy)
    assert choice.backend == "cpu"
    assert words in choice.reason


def test_nothing_is_asked_that_does_not_matter() -> None:
    for home, wish in (("cpu", None), ("cpu", "cpu")):
        _choose.choose("softmax", home, wish, 9, 9, F32, absent=pytest.fail, measured=pytest.fail)
    _choose.choose("softmax", "cpu", "cuda", 9, 9, F32, absent=dict, measured=pytest.fail)
    _choose.choose("softmax", "cpu", "auto", 9, 9, F32, absent=lambda: WITHOUT, measured=pytest.fail)


@pytest.mark.skipif(vastmax.cuda.is_available(), reason="there is a GPU")
def test_absent_backend_is_named_at_the_call() -> None:
    with vastmax.config(device="cuda"):
        for call in (
            lambda: vastmax.softmax(np.zeros(4)),
            lambda: vastmax.logsumexp([1.0, 2.0]),
            lambda: vastmax.softplus(1.0),
        ):
            with pytest.raises(vastmax.BackendUnavailable, match="cuda"):
                call()
    with vastmax.config(device="auto"):
        np.testing.assert_array_equal(vastmax.softmax([0.0, 0.0]), [0.5, 0.5])
    assert issubclass(vastmax.BackendUnavailable, RuntimeError)


def test_public_names() -> None:
    for name in vastmax.__all__:
        assert hasattr(vastmax, name), name
    assert set(vastmax.__all__) <= set(dir(vastmax))
    assert "special" in dir(vastmax)
    with pytest.raises(AttributeError, match="no_such_thing"):
        vastmax.no_such_thing  # noqa: B018


def test_an_import_loads_nothing_that_runs_on_a_gpu() -> None:
    modules = subprocesses.run("import sys, vastmax; print(*sys.modules)").split()
    loaded = {name.removeprefix("vastmax._backends.") for name in modules}
    assert "host" in loaded
    assert not loaded & {"array_libraries", "device", "device_array", "offload"}
