# SPDX-License-Identifier: Apache-2.0
"""The accuracy contract of each op (`vastmax._contracts`), and the one measure of error that the tests use.

The error of a result is its distance to the exact value, in units of the last place of the output's format in the exact
value's binade (or the binade of `scale`, where a contract names a larger magnitude); below the smallest normal number
the unit is the smallest subnormal. There are no absolute tolerances.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from support import oracle
from vastmax._contracts import MAX_ULP

try:
    import ml_dtypes
except ImportError:
    ml_dtypes = None


class Format(NamedTuple):
    dtype: np.dtype[Any]
    precision: int
    min_exponent: int
    max: float


FORMATS: dict[str, Format] = {
    "f16": Format(np.dtype(np.float16), 11, -14, 65504.0),
    "f32": Format(np.dtype(np.float32), 24, -126, float(np.finfo(np.float32).max)),
    "f64": Format(np.dtype(np.float64), 53, -1022, float(np.finfo(np.float64).max)),
}
if ml_dtypes is not None:
    FORMATS["bf16"] = Format(np.dtype(ml_dtypes.bfloat16), 8, -126, float(ml_dtypes.finfo(ml_dtypes.bfloat16).max))
DTYPES = tuple(FORMATS)


def name_of(dtype: Any) -> str:
    return next(name for name, f in FORMATS.items() if f.dtype == np.dtype(dtype))


def reduced(name: str) -> str:
    """The dtype of reductions and losses."""
    return "f64" if name == "f64" else "f32"


def computed_in(name: str) -> Any:
    return np.float64 if name == "f64" else np.float32


CORRECTLY_ROUNDED_16_BIT = 0.999  # share of all inputs, element-wise ops


def ulp_error(got: Any, want: oracle.Exact, fmt: Format, scale: Any = None) -> npt.NDArray[np.float64]:
    """Error of each element; 0 where NaN meets NaN or equal infinities meet, inf where only one of them is one."""
    got = np.asarray(got).astype(np.float64)
    with np.errstate(all="ignore"):
        if scale is None:
            m, e = np.frexp(want.hi)
            e = np.where(m == 0, fmt.min_exponent, e - 1 + want.exp)
        else:
            m, e = np.frexp(np.asarray(scale, np.float64))
            e = np.where(m == 0, fmt.min_exponent, e - 1)
        unit = np.maximum(e, fmt.min_exponent) - (fmt.precision - 1)
        # Both sides in units: ldexp is exact, and nothing is subnormal there.
        error = np.abs((_ldexp(got, -unit) - _ldexp(want.hi, want.exp - unit)) - _ldexp(want.lo, want.exp - unit))
        value = want.float()
        limit = fmt.max * (1.0 + 2.0 ** -(fmt.precision + 1))
        same_end = np.isinf(got) & (np.sign(got) == np.sign(value)) & (np.isinf(value) | (np.abs(value) >= limit))
        error = np.where(np.isnan(got) | np.isnan(value), np.where(np.isnan(got) & np.isnan(value), 0.0, np.inf), error)
        error = np.where(np.isinf(got) | np.isinf(value), np.where(same_end, 0.0, np.inf), error)
        return np.asarray(error)


def _ldexp(x: Any, e: Any) -> Any:
    """In two steps: the exponent may be past what a float64 power of two can be."""
    half = e // 2
    return np.ldexp(np.ldexp(x, half), e - half)


def check(
    op: str, got: Any, want: oracle.Exact, *, scale: Any = None, hint: Any = "", within: float | None = None
) -> None:
    """Assert the contract of `op` for every element of `got`."""
    got = np.asarray(got)
    assert got.shape == want.hi.shape, f"{op}: shape {got.shape}, expected {want.hi.shape}"
    name = name_of(got.dtype)
    bound = MAX_ULP[op][name] if within is None else within
    error = ulp_error(got, want, FORMATS[name], scale)
    if error.size and not error.max() <= bound:
        worst = np.unravel_index(np.argmax(error), error.shape)
        at = tuple(int(i) for i in worst)
        bad = int((~(error <= bound)).sum())
        raise AssertionError(
            f"{op} {name} {hint}: {error[worst]:.3g} ULP at {at} (got {got[worst]!r}, want {want.float()[worst]!r}); "
            f"{bad} of {error.size} beyond {bound}"
        )


def check_softmax(got: Any, want: oracle.Exact, *, hint: Any = "") -> None:
    """The ULP contract of softmax, and the promises for results near and below the smallest normal."""
    check("softmax", got, want, hint=hint)
    got = np.asarray(got)
    fmt = FORMATS[name_of(got.dtype)]
    values = got.astype(np.float64)
    assert ((values >= 0) & (values <= 1)).all(), f"softmax {hint}: outside [0, 1]"
    error = ulp_error(got, want, fmt)
    with np.errstate(all="ignore"):
        smallest = fmt.min_exponent - (fmt.precision - 1)
        units = _ldexp(want.hi, want.exp - smallest)
    # A subnormal rounds once more; its relative error before that is the one of a normal result.
    share = units / 2.0 ** (fmt.precision - 1)
    excess = (error - (0.5 + MAX_ULP["softmax"][name_of(got.dtype)] * share))[share < 1]
    assert (excess <= 0).all(), f"softmax {hint}: a subnormal result off by {excess.max()} spacings more than it may"
    # Half the smallest subnormal decides; closer to it than the relative error before the last rounding, either side is
    # right. That error is the ULP bound for the wide types, and 2**-12 where a shorter exp serves 16-bit results.
    near = 2.0**-12 if fmt.precision <= 11 else MAX_ULP["softmax"][name_of(got.dtype)] * 2.0 ** (1 - fmt.precision)
    assert (values[units > 0.5 * (1 + near)] > 0).all(), f"softmax {hint}: 0 for a value that has a subnormal"
    assert (values[units < 0.5 * (1 - near)] == 0).all(), f"softmax {hint}: not 0 below half the smallest subnormal"


def check_logsumexp(got: Any, want: oracle.Exact, logits: Any, *, axis: int = -1, hint: Any = "") -> None:
    """`logits` are those the result is of, after temperature; the largest one decides which rule holds."""
    largest = np.max(np.asarray(logits, np.float64), axis=axis)
    at_zero = np.broadcast_to(largest == 0, want.hi.shape)
    with np.errstate(all="ignore"):
        size = np.max(np.where(np.isfinite(logits), np.abs(np.asarray(logits, np.float64)), 0.0), axis=axis)
        scale = np.maximum(np.abs(want.float()), size)
    got = np.asarray(got)
    assert got.shape == want.hi.shape, f"logsumexp: shape {got.shape}, expected {want.hi.shape}"
    check("logsumexp", got[~at_zero], want[~at_zero], scale=scale[~at_zero], hint=hint)
    check("logsumexp where the largest logit is 0", got[at_zero], want[at_zero], hint=hint)


def check_elementwise(op: str, got: Any, want: oracle.Exact, *, hint: Any = "") -> None:
    """The ULP contract, and for all inputs of a 16-bit type the share that is correctly rounded."""
    check(op, got, want, hint=hint)
    name = name_of(np.asarray(got).dtype)
    if name in ("f16", "bf16") and np.asarray(got).size >= 60_000:
        share = (ulp_error(got, want, FORMATS[name]) <= 0.5).mean()
        assert share >= CORRECTLY_ROUNDED_16_BIT, f"{op} {name}: only {share:.5f} of the results correctly rounded"


def times_a_subnormal(value: oracle.Exact, factor: Any, name: str) -> npt.NDArray[np.float64]:
    """The scale of `factor` times another result: where that one is subnormal, its spacing is multiplied as well."""
    smallest_normal = 2.0 ** FORMATS[name].min_exponent
    return np.maximum(np.abs(value.float()), np.abs(factor) * smallest_normal)


def assert_equal(got: Any, want: Any) -> None:
    """Equal shape, dtype and values, NaN being equal to NaN; NumPy's own does not know bfloat16's NaN."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got.astype(np.float64), want.astype(np.float64), strict=True)
