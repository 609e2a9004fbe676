# SPDX-License-Identifier: Apache-2.0
"""What a process may do around the library, and what the library may not do to a process."""

from __future__ import annotations

import json
import platform
import sys
import threading

import numpy as np
import pytest

import vastmax
from support import logit_rows, subprocesses

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc or uses Linux calls")
x86 = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="x86 machine code")
pytestmark = pytest.mark.any_isa


@linux
def test_forks_after_use() -> None:
    """The pool has run in the parent; 200 children use it, and so does the parent in between."""
    subprocesses.run(
        """
        import os, select, signal, sys, time, warnings
        import numpy as np, vastmax
        warnings.simplefilter("ignore")  # newer Pythons warn of fork beside threads
        vastmax.set_num_threads(3)
        x = np.random.default_rng(0).standard_normal((4, 200_000)).astype(np.float32)
        want = vastmax.logsumexp(x, axis=1).tobytes()
        for i in range(200):
            pid = os.fork()
            if pid == 0:
                signal.alarm(20)
                os._exit(0 if vastmax.logsumexp(x, axis=1).tobytes() == want else 7)
            assert vastmax.logsumexp(x, axis=1).tobytes() == want
            assert os.waitpid(pid, 0)[1] == 0, i
        """,
        timeout=200,
    )


@linux
def test_fork_while_another_thread_computes() -> None:
    subprocesses.run(
        """
        import os, signal, threading, warnings
        import numpy as np, vastmax
        warnings.simplefilter("ignore")
        vastmax.set_num_threads(2)
        x = np.ones((2, 400_000), np.float32)
        want = vastmax.softmax(x).tobytes()
        stop = threading.Event()
        def busy():
            while not stop.is_set():
                vastmax.softmax(x)
        thread = threading.Thread(target=busy)
        thread.start()
        try:
            for _ in range(30):
                pid = os.fork()
                if pid == 0:
                    signal.alarm(20)
                    os._exit(0 if vastmax.softmax(x).tobytes() == want else 7)
                assert os.waitpid(pid, 0)[1] == 0
        finally:
            stop.set()
            thread.join()
        """
    )


def test_multiprocessing_spawn_free_start() -> None:
    """A pool of forked workers, the usual way users meet fork."""
    out = subprocesses.run(
        """
        import multiprocessing, warnings
        import numpy as np, vastmax
        warnings.simplefilter("ignore")
        def work(seed):
            return float(vastmax.logsumexp(np.full((2, 300_000), float(seed)), axis=1)[0])
        vastmax.set_num_threads(2)
        work(0)
        with multiprocessing.get_context("fork").Pool(3) as pool:
            print(pool.map(work, range(6), chunksize=1) == [work(i) for i in range(6)])
        """
    )
    assert out.strip() == "True"


@pytest.mark.usefixtures("threads")
def test_eight_python_threads_at_once() -> None:
    """Each has its own configuration; all get the bits of a call made alone."""
    isas = vastmax.available_isas()
    x = [logit_rows.integer_logits(i, (3, 60_000)).astype(np.float32) for i in range(8)]
    want = [(vastmax.softmax(a).tobytes(), vastmax.logsumexp(a, axis=1).tobytes()) for a in x]
    vastmax.set_num_threads(3)
    wrong: list[object] = []
    start = threading.Barrier(8)

    def work(i: int) -> None:
        try:
            start.wait()
            isa = isas[i % len(isas)]
            for _ in range(3 if isa == "scalar" else 20):
                with vastmax.config(isa=isa, threads=1 + i % 4):
                    if vastmax.active_isa() != isa:
                        wrong.append((i, vastmax.active_isa()))
                    if (vastmax.softmax(x[i]).tobytes(), vastmax.logsumexp(x[i], axis=1).tobytes()) != want[i]:
                        wrong.append(i)
        except Exception as error:
            wrong.append(error)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert not any(worker.is_alive() for worker in workers)
    assert not wrong


@pytest.mark.conformance
@linux
def test_memory_stays_flat() -> None:
    """1e5 calls, a third of them errors."""
    out = subprocesses.run(
        """
        import gc, sys
        import numpy as np, vastmax
        x = np.ones((3, 40), np.float32)
        mask = np.ones(40, bool)
        frozen = np.ones((3, 40), np.float32)
        frozen.setflags(write=False)
        def resident():
            gc.collect()
            with open("/proc/self/smaps_rollup") as f:
                return next(int(line.split()[1]) for line in f if line.startswith("Rss:"))
        def bad(call, *args, **options):
            try:
                call(*args, **options)
            except (TypeError, ValueError):
                return
            raise AssertionError("no error")
        def round_of_calls():
            vastmax.softmax(x)
            vastmax.logsumexp(x, axis=1, temperature=2.0, where=mask)
            vastmax.logsumexp(x[0])
            vastmax.softplus(x, out=np.empty_like(x))
            vastmax.softmax(x, axis=0)
            vastmax.log_softmax([1, 2, 3])
            with vastmax.config(threads=1):
                vastmax.sigmoid(x)
            vastmax.binary_cross_entropy_with_logits(x, x, return_grad=True)
            bad(vastmax.softmax, x, axis=7)
            bad(vastmax.softmax, x, out=frozen)
            bad(vastmax.softmax, x.astype(complex))
            bad(vastmax.logsumexp, x, temperature=-1.0)
        for _ in range(500):
            round_of_calls()
        counts = [sys.getrefcount(o) for o in (x, mask, frozen, None, np.float32)]
        before = resident()
        for _ in range(100_000 // 12):
            round_of_calls()
        grown = resident() - before
        # None is counted all over the interpreter; on new Pythons it is immortal.
        after = [sys.getrefcount(o) for o in (x, mask, frozen, None, np.float32)]
        assert all(b - a <= 20 for a, b in zip(counts, after)), (counts, after)
        print(grown)
        """
    )
    assert int(out) < 1024, f"{out} KiB more"


@linux
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_extra_memory(axis: int, dtype: str) -> None:
    """Beside input and output: under 1 MiB plus a partial per block, where a copy would be 32 MiB or more."""
    out = subprocesses.run(
        """
        import sys
        import numpy as np, vastmax
        axis, dtype = int(sys.argv[1]), sys.argv[2]
        def peak(reset=False):
            if reset:
                with open("/proc/self/clear_refs", "w") as f:
                    f.write("5")
            with open("/proc/self/status") as f:
                return next(int(line.split()[1]) for line in f if line.startswith("VmHWM:"))
        x = np.ones((64, 2**18) if axis else (2**18, 64), dtype)
        out = np.ones_like(x)
        lse = np.ones(64, np.float64 if dtype == "float64" else np.float32)
        vastmax.set_num_threads(2)
        small = x[:64, :64]
        calls = [
            (lambda: vastmax.logsumexp(x, axis=axis, out=lse)),
            (lambda: vastmax.softmax(x, axis=axis, out=out)),
            (lambda: vastmax.softmax(x, axis=axis, out=x)),
            (lambda: vastmax.softplus(x, out=out)),
        ]
        # The pool and its stacks. Freed, this array would leave room for a copy that does not show.
        keep = np.ones((2, 300_000), dtype)
        vastmax.softmax(keep, out=keep)
        for call in calls:
            before = peak(reset=True)
            call()
            print(peak() - before)
        """,
        args=(str(axis), dtype),
    )
    extra = [int(line) for line in out.split()]
    blocks = 64 * 2**18 // 2048  # of float64, the shortest
    assert max(extra) < 1024 + blocks * 32 // 1024, f"KiB for logsumexp, softmax, in place, softplus: {extra}"


GARBAGE = [
    "",
    " ",
    "abc",
    "-1",
    "0",
    "4,3,2",
    "1e9",
    "1" + "0" * 30,
    "0x2",
    "true",
    "\x7f\x01",
    "2.0",
    "'1'",
    "-" * 5000,
]


@pytest.mark.parametrize("value", GARBAGE, ids=lambda v: repr(v)[:12])
def test_garbage_in_the_environment(value: str) -> None:
    """Never breaks the import or a call; one warning per variable, at first use, that names what is valid."""
    out = subprocesses.run(
        """
        import json, sys, warnings
        with warnings.catch_warnings(record=True) as at_import:
            warnings.simplefilter("always")
            import vastmax
        with warnings.catch_warnings(record=True) as at_use:
            warnings.simplefilter("always")
            vastmax.softmax([0.0, 1.0])
            vastmax.softmax([0.0, 1.0])
            info = vastmax.info()
        print(json.dumps([[str(w.message) for w in at_import], [str(w.message) for w in at_use],
                          [w.category.__name__ for w in at_use], info["threads"]["count"]]))
        """,
        env={"VASTMAX_ISA": value, "VASTMAX_NUM_THREADS": value, "VASTMAX_DEVICE": value, "OMP_NUM_THREADS": value},
    )
    at_import, at_use, categories, count = json.loads(out)
    assert at_import == []
    assert 1 <= count < 2**31
    if value.strip():
        assert set(categories) == {"RuntimeWarning"}
        for name, valid in (("VASTMAX_ISA", "scalar"), ("VASTMAX_DEVICE", "cpu")):
            about = [text for text in at_use if name in text]
            assert len(about) == 1, at_use
            assert valid in about[0]
        about = [text for text in at_use if "VASTMAX_NUM_THREADS" in text]
        assert len(about) == 1, at_use
    else:
        assert at_use == []


def test_environment_is_obeyed() -> None:
    script = """
        import vastmax
        print(vastmax.get_num_threads(), vastmax.active_isa())
        vastmax.softmax([1.0])
        info = vastmax.info()
        print(info["threads"]["source"], info["isa"]["source"])
    """
    out = subprocesses.run(
        script, env={"VASTMAX_NUM_THREADS": "5", "VASTMAX_ISA": "scalar", "OMP_NUM_THREADS": "3"}
    ).split("\n")
    assert out[0] == "5 scalar"
    assert "VASTMAX_NUM_THREADS" in out[1]
    assert "VASTMAX_ISA" in out[1]
    out = subprocesses.run(script, env={"OMP_NUM_THREADS": "3"}).split("\n")
    assert out[0].startswith("3 ")
    assert "OMP_NUM_THREADS" in out[1]


@linux
def test_import_is_cheap_and_starts_nothing() -> None:
    script = """
        import os, sys, time
        begin = time.process_time()
        import numpy
        before, modules = len(os.listdir("/proc/self/task")), set(sys.modules)
        environment = dict(os.environ)
        start = time.process_time()
        import vastmax
        print((time.process_time() - start) / (start - begin))
        assert len(os.listdir("/proc/self/task")) == before, "import started a thread"
        vastmax.softmax(numpy.zeros(16, numpy.float32))
        assert len(os.listdir("/proc/self/task")) == before, "a small call started a thread"
        assert dict(os.environ) == environment
        heavy = {"scipy", "torch", "rich", "matplotlib", "threadpoolctl", "numpy.ma", "vastmax.special"}
        heavy &= set(sys.modules) - modules
        assert not heavy, heavy
        """
    assert min(float(subprocesses.run(script)) for _ in range(3)) < 1  # of what NumPy takes


INTERRUPTED = """
    import os, signal, sys, threading, time
    import numpy as np, vastmax
    kind, threads = sys.argv[1], int(sys.argv[2])
    vastmax.set_num_threads(threads)
    # Zero strides: endless work, no memory.
    one = np.float32(1)
    long_calls = {
        "vast row": lambda: vastmax.logsumexp(np.broadcast_to(one, (1, 2**36)), axis=1),
        "many rows": lambda: vastmax.logsumexp(np.broadcast_to(one, (2**20, 2**16)), axis=1),
        "first axis": lambda: vastmax.logsumexp(np.broadcast_to(one, (2**33, 8)), axis=0),
        # Each pass over a row is short, and there are many.
        "top_p": lambda: vastmax.sample(vast, 4, top_p=0.5, seed=1),
        "top_k": lambda: vastmax.top_k(vast, 100_000),
        "draws": lambda: vastmax.sample(vast, 50, replace=False, seed=1),
        "statistics": lambda: vastmax.softmax_stats(vast, top_n=20),
        "divergence": lambda: vastmax.kl_divergence(vast, vast),
        "smoothing": lambda: vastmax.cross_entropy(vast, np.zeros(2000, int), label_smoothing=0.1),
        "weights": lambda: vastmax.logsumexp(vast, axis=1, b=one),
    }
    vast = np.broadcast_to(one, (2000, 2**22))
    vastmax.logsumexp(np.ones((2, 300_000), np.float32), axis=1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background inherits "ignore"
    sent = []
    def interrupt():
        time.sleep(0.3)
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)
    threading.Thread(target=interrupt, daemon=True).start()
    try:
        long_calls[kind]()
    except KeyboardInterrupt:
        print(time.perf_counter() - sent[0])
    else:
        raise AssertionError("ended before the interrupt")
    x = np.ones((2, 300_000), np.float32)
    assert vastmax.logsumexp(x, axis=1).tolist() == [float(np.float32(1 + np.log(300_000)))] * 2
"""


@linux
@pytest.mark.parametrize("threads", ["1", "3"])
@pytest.mark.parametrize(
    "kind",
    [
        "vast row",
        "many rows",
        "first axis",
        "top_p",
        "top_k",
        "draws",
        "statistics",
        "divergence",
        "smoothing",
        "weights",
    ],
)
def test_keyboard_interrupt(kind: str, threads: str) -> None:
    assert float(subprocesses.run(INTERRUPTED, args=(kind, threads), timeout=60)) < 0.5


SMALL_STACK = """
    import threading
    import numpy as np, vastmax
    vastmax.set_num_threads(1)
    x = np.random.default_rng(0).standard_normal((3, 70_000))
    ties, ids = np.zeros((3, 70_000)), np.array([1, 2, 3])
    calls = [lambda a: vastmax.softmax(a, temperature=0.7), lambda a: vastmax.logsumexp(a, axis=0, b=a),
             lambda a: vastmax.kl_divergence(a, a + 1), lambda a: vastmax.gumbel_softmax(a, seed=1),
             lambda a: vastmax.softmax_stats(a, ids, top_n=20), lambda a: vastmax.entropy(a),
             lambda a: vastmax.cross_entropy_with_grad(a, ids, label_smoothing=0.1, softcap=5.0),
             lambda a: vastmax.binary_cross_entropy_with_logits(a[:, ::2], a[:, 1::2], weight=a[:, ::2]),
             lambda a: vastmax.softplus_backward(a[:, ::2], a[:, 1::2], 3.0), lambda a: vastmax.top_k(a, 20_000)]
    calls += [lambda a, o=o: vastmax.sample(a, 5, seed=1, return_log_prob=True, **o)
              for o in ({}, {"top_p": 0.5}, {"top_k": 9000}, {"min_p": 0.1}, {"replace": False})]
    calls += [lambda a: vastmax.top_p_mask_logits(a, 0.5), lambda a: vastmax.top_k_mask_logits(a, 9000)]
    unigram = vastmax.UnigramSampler(np.arange(5000.0))
    calls += [lambda a, u=u: unigram.sample(1000, seed=1, unique=u) for u in (False, True)]
    done = []
    def run():
        for dtype in (np.float16, np.float32, np.float64):
            for call in calls:
                call(x.astype(dtype)), call(ties.astype(dtype))
        done.append(True)
    run()  # imports and what is made once, on a large stack
    threading.stack_size(192 * 1024)  # the interpreter and NumPy take up to 64
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert done == [True, True]
"""


@pytest.mark.conformance
@linux
def test_calls_fit_a_small_stack() -> None:
    """musl gives a thread 128 KiB."""
    for isa in vastmax.available_isas():
        subprocesses.run(SMALL_STACK, env={"VASTMAX_ISA": isa})


MXCSR = """
    import ctypes, mmap, sys
    import numpy as np
    def machine_code(code):
        page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        page.write(code)
        address = ctypes.addressof(ctypes.c_char.from_buffer(page))
        return ctypes.CFUNCTYPE(None, ctypes.c_void_p)(address), page
    store, keep1 = machine_code(b"\\x0f\\xae\\x1f\\xc3")  # stmxcsr [rdi]; ret
    load, keep2 = machine_code(b"\\x0f\\xae\\x17\\xc3")   # ldmxcsr [rdi]; ret
    word = ctypes.c_uint32()
    def get():
        store(ctypes.byref(word))
        return word.value & ~0x3F  # without the sticky flags
    def put(value):
        word.value = value
        load(ctypes.byref(word))
    default = get()
    import vastmax
    assert get() == default, "import changed MXCSR"
    tiny = np.array([1e-310, 5e-324, -3e-320, 0.0] * 40)
    rows = np.linspace(0.0, -748.0, 70_000 * 2).reshape(2, -1)
    def results():
        found = []
        for dtype in (np.float16, np.float32, np.float64):
            for x in (wide[dtype], small[dtype]):
                found += [vastmax.softmax(x), vastmax.log_softmax(x), vastmax.logsumexp(x, axis=-1),
                          vastmax.softplus(x), vastmax.sigmoid(x), vastmax.log_sigmoid(x),
                          vastmax.softmax(x, temperature=0.5)]
            found.append(vastmax.softmax_backward(grad[dtype], small_p[dtype]))
        return b"".join(np.asarray(a).tobytes() for a in found)
    wide = {d: np.clip(rows, -60000, 0).astype(d) for d in (np.float16, np.float32, np.float64)}
    small = {np.float16: np.full(65, 6e-8, np.float16), np.float32: np.full(65, 1e-44, np.float32), np.float64: tiny}
    grad = {d: (small[d] * 0 + 1).astype(d) for d in small}
    small_p = small
    for isa in vastmax.available_isas():
        with vastmax.config(isa=isa, threads=3):
            want = results()
            assert get() == default, "a call changed MXCSR"
            for mode in (default | 0x8000, default | 0x0040, default | 0x8040):  # FTZ, DAZ, both
                put(mode)
                got = results()
                left = get()
                put(default)
                assert left == mode, f"{isa}: MXCSR {mode:#x} became {left:#x}"
                assert got == want, f"{isa}: results under MXCSR {mode:#x} differ"
"""


@linux
@x86
def test_mxcsr_of_the_caller() -> None:
    subprocesses.run(MXCSR)


GUARDED = """
    import ctypes, mmap, sys
    import numpy as np
    import vastmax
    from support import contracts
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    PAGE, PAGES = mmap.PAGESIZE, 160
    class Guarded:
        '''Memory between two pages that must not be touched.'''
        def __init__(self):
            start = libc.mmap(None, (PAGES + 2) * PAGE, 3, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
            assert libc.mprotect(start, PAGE, 0) == 0
            assert libc.mprotect(start + (PAGES + 1) * PAGE, PAGE, 0) == 0
            self.bytes = np.ctypeslib.as_array((ctypes.c_uint8 * (PAGES * PAGE)).from_address(start + PAGE))
        def put(self, a, at_end):
            raw = self.bytes[-a.nbytes :] if at_end else self.bytes[: a.nbytes]
            if a.nbytes == 0:
                return a
            b = raw.view(a.dtype).reshape(a.shape)
            b[...] = a
            return b
"""

GUARD_MAPS = """
    memory = [Guarded() for _ in range(4)]
    lengths = [*range(1, 131), 255, 257, 1023, 4095, 4097, 8193]
    for isa in vastmax.available_isas():
        with vastmax.config(isa=isa, threads=2):
            for name in contracts.DTYPES:
                dtype = contracts.FORMATS[name].dtype
                wide = np.float64 if name == "f64" else np.float32
                for n in lengths if isa != "scalar" else lengths[::3]:
                    base = (np.arange(2 * n) % 7 - 3.0).astype(dtype).reshape(2, n)
                    for at_end in (True, False):
                        x, out, other = (m.put(base, at_end) for m in memory[:3])
                        mask = memory[3].put(np.ones((2, n), bool), at_end)
                        lse = np.empty(2, wide)
                        for f in (vastmax.softmax, vastmax.log_softmax):
                            f(x), f(x, out=out), f(x, where=mask, out=out), f(x, axis=0, out=out)
                        for f in (vastmax.softplus, vastmax.sigmoid, vastmax.log_sigmoid):
                            f(x), f(x, out=out)
                        vastmax.logsumexp(x, axis=1)
                        vastmax.logsumexp(x[-1] if at_end else x[0])
                        vastmax.logsumexp(x, axis=0)
                        vastmax.logsumexp(x, axis=1, b=other, where=mask)
                        for f in (vastmax.softmax_backward, vastmax.log_softmax_backward, vastmax.softplus_backward,
                                  vastmax.sigmoid_backward, vastmax.log_sigmoid_backward):
                            f(x, other, out=out)
                        g = np.ones(2, wide)
                        vastmax.logsumexp_backward(g, x, axis=1, where=mask, out=out)
                        vastmax.binary_cross_entropy_with_logits(x, other, other, return_grad=True)
                        if n > 2:  # a last element at the very end, by a stride
                            v = x[:, (n - 1) % 3 :: 3] if at_end else x[:, ::3]
                            w = out[:, (n - 1) % 3 :: 3] if at_end else out[:, ::3]
                            vastmax.softmax(v, out=w)
                            vastmax.softmax(v[:, ::-1], out=w)
                            vastmax.softplus(v, out=w)
                            vastmax.logsumexp(v, axis=1)
                        vastmax.softmax(x, out=x)
                        lse = memory[0].put(g, at_end)
                        vastmax.logsumexp(other, axis=1, out=lse)
                        t = memory[0].put(np.ones(2), at_end)
                        vastmax.softmax(other, temperature=t)
    print("done")
"""

GUARD_ROWS = """
    from vastmax import _core
    memory = [Guarded() for _ in range(8)]
    for isa in vastmax.available_isas():
        number = _core.isas().index(isa)
        with vastmax.config(isa=isa, threads=2):
            for name in contracts.DTYPES:
                dtype = contracts.FORMATS[name].dtype
                wide = np.float64 if name == "f64" else np.float32
                for n in (1, 2, 7, 15, 16, 17, 33, 64, 65, 130, 257, 1000, 4097, 8193, 70_001):
                    if isa == "scalar" and n > 5000:
                        continue
                    rng, rows = np.random.default_rng(n), 1 if n > 10_000 else 3
                    spread = np.array([3.0, 0.5, 9.0])[:rows, None]
                    base = (np.round(rng.standard_normal((rows, n)), 2) * spread).astype(dtype)
                    for at_end in (True, False):
                        def put(i, a):
                            return memory[i].put(a, at_end)
                        x, other, out = put(0, base), put(1, np.abs(base)), put(2, base)
                        where, t = put(3, rng.random((rows, n)) < 0.9), put(4, np.linspace(0.5, 2.0, rows))
                        target, weight = put(5, np.arange(rows) * 7919 % n), put(6, np.ones(n))
                        for goal in (target, other):
                            vastmax.cross_entropy(x, goal, weight, label_smoothing=0.1, temperature=t)
                            vastmax.cross_entropy_with_grad(x, goal, out=out)
                        vastmax.cross_entropy_with_grad(x, target, weight, softcap=9.0, where=where, out=out)
                        vastmax.softmax_stats(x, target, top_n=min(n, 20), temperature=t)
                        vastmax.entropy(x), vastmax.kl_divergence(x, other), vastmax.selective_log_softmax(x, target)
                        vastmax.selective_log_softmax(x, put(7, np.array([[0, n - 1]] * rows)))
                        share, some = put(6, np.full(rows, 0.8)), put(7, np.full(rows, n // 3 + 1))
                        for filters in ((some, None, None), (None, share, None), (None, None, share)):
                            _core.mask_logits(x, *filters, out, 2, number)
                            _core.mask_logits(out, *filters, out, 2, number)
                            if n > 2:  # a last element at the very end, by a stride
                                every = slice((n - 1) % 3 if at_end else 0, None, 3)
                                _core.mask_logits(x[:, every], *filters, out[:, every], 2, number)
                        for replace, size in ((True, 40), (True, 1), (False, min(n, 40)), (False, n // 2)):
                            ids, log_prob = put(1, np.zeros((rows, size), np.int64)), put(2, np.zeros((rows, size)))
                            valid = put(5, np.zeros((rows, size), bool))
                            for filters in ((None, None, None), (some, share, None), (None, share, share)):
                                _core.sample(
                                    x, size, replace, t, *filters, 1, 2, 3, ids, log_prob, valid, where, 2, number
                                )
                        _core.add_gumbel(x, put(1, base.astype(wide)), 1, 2, 3, 2, number)
                        for k in {1, min(n, 20), n // 3 + 1, n}:
                            values, ids = put(1, np.zeros((rows, k), dtype)), put(2, np.zeros((rows, k), np.int64))
                            _core.top_k(x, k, values, ids, 2, number)
                        if n < 500:
                            vastmax.top_k(x, 1, axis=0), vastmax.sample(x, 2, axis=0, top_p=0.9)
                            vastmax.top_p_mask_logits(x, 0.9, axis=0), vastmax.entropy(x, axis=0)
                for features in (1, 3, 15, 16, 17, 33, 100):
                    for at_end in (True, False):
                        table = memory[0].put(np.ones((50, features), dtype), at_end)
                        x, bias = (memory[i].put(np.ones(s, dtype), at_end) for i, s in ((1, (5, features)), (2, 50)))
                        target = memory[3].put(np.arange(10).reshape(5, 2) * 7 % 50, at_end)
                        sampler = vastmax.UnigramSampler(memory[4].put(np.arange(1.0, 51.0), at_end))
                        for op in (vastmax.sampled_softmax, vastmax.nce_loss):
                            for share in ("batch", "row"):
                                op(x, table, target, bias=bias, sampler=sampler, num_sampled=30, share=share, seed=1)
                        sampler.log_prob(target)
    print("done")
"""


@pytest.mark.conformance
@linux
@pytest.mark.parametrize("calls", [GUARD_MAPS, GUARD_ROWS], ids=["maps", "rows"])
def test_guard_pages(calls: str) -> None:
    """Arrays that end, or begin, at an inaccessible page: one byte too many is a crash."""
    assert subprocesses.run(GUARDED + calls, timeout=300).strip() == "done"


@linux
def test_exit_during_a_call() -> None:
    """A daemon thread is inside a long call when the interpreter ends."""
    script = """
        import threading, time
        import numpy as np, vastmax
        vastmax.set_num_threads(3)
        x = np.broadcast_to(np.float32(1), (1, 2**36))
        threading.Thread(target=lambda: vastmax.logsumexp(x, axis=1), daemon=True).start()
        time.sleep(0.05)
    """
    for _ in range(5):
        subprocesses.run(script, timeout=20)


@linux
def test_out_of_memory_is_a_memory_error() -> None:
    subprocesses.run(
        """
        import resource
        import numpy as np, vastmax
        x = np.ones((1, 300_000), np.float32)
        vastmax.set_num_threads(2)
        want = vastmax.softmax(x).tobytes()
        with open("/proc/self/statm") as f:
            used = int(f.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 64 * 2**20, resource.getrlimit(resource.RLIMIT_AS)[1]))
        for op in (vastmax.softmax, vastmax.softplus):
            try:
                op(np.broadcast_to(x, (1000, 300_000)))
            except MemoryError:
                pass
            else:
                raise AssertionError("no MemoryError")
        assert vastmax.softmax(x).tobytes() == want
        """
    )


def test_nothing_is_printed() -> None:
    done = subprocesses.attempt(
        """
        import numpy as np, vastmax
        vastmax.softmax(np.array([np.nan, np.inf, -np.inf, 1e38, -1e38], np.float32))
        vastmax.softplus(np.array([1e300, -1e300]))
        vastmax.logsumexp(np.zeros((2, 400_000)), axis=1)
        """
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
