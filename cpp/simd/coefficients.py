# SPDX-License-Identifier: Apache-2.0
"""Minimax polynomials of simd/math.hpp, by the Remez exchange in 60 digits.

Run ``python coefficients.py > coefficients.hpp``.
"""

import mpmath as mp

mp.mp.dps = 60
LN2 = mp.log(2)
HALF = LN2 / 2 * (1 + mp.mpf(2) ** -20)  # k = rint(x log2 e) may miss the nearest by a rounding


def remez(f, weight, low, high, degree):
    """Coefficients c[0..degree] that minimise max |weight(x) (f(x) - sum c_i x^i)| on [low, high], and that maximum."""
    count = degree + 2
    middle, half = (low + high) / 2, (high - low) / 2
    nodes = [middle - half * mp.cos(mp.pi * (2 * i + 1) / (2 * count)) for i in range(count)]
    grid = [middle - half * mp.cos(mp.pi * i / (40 * count)) for i in range(40 * count + 1)]
    for _ in range(12):
        rows = [[x**j for j in range(count - 1)] + [(-1) ** i / weight(x)] for i, x in enumerate(nodes)]
        solved = mp.lu_solve(mp.matrix(rows), mp.matrix([f(x) for x in nodes]))
        coefficients = list(solved[: count - 1])
        error = [weight(x) * (f(x) - mp.polyval(coefficients[::-1], x)) for x in grid]
        peaks, start = [], 0
        for i in range(1, len(grid) + 1):
            if i == len(grid) or (error[i] > 0) != (error[start] > 0):
                peaks.append(max(range(start, i), key=lambda j: abs(error[j])))
                start = i
        while len(peaks) > count:
            peaks.pop(0 if abs(error[peaks[0]]) < abs(error[peaks[-1]]) else -1)
        if len(peaks) < count:
            break
        nodes = [grid[i] for i in peaks]
    return coefficients, max(abs(e) for e in error)


def series(numerator, power, limit, first):
    """numerator(x) / x^power, by its Taylor terms first(k) near 0 where the quotient cancels."""

    def f(x):
        return mp.nsum(lambda k: first(int(k)) * x ** int(k), [0, 12]) if abs(x) < limit else numerator(x) / x**power

    return f


exp_tail = series(lambda r: mp.expm1(r) - r, 2, 1e-4, lambda k: 1 / mp.factorial(k + 2))
exp_slope = series(mp.expm1, 1, 1e-4, lambda k: 1 / mp.factorial(k + 1))
log1p_slope = series(mp.log1p, 1, 1e-4, lambda k: (-1) ** k / mp.mpf(k + 1))
log1p_tail = series(lambda f: mp.log1p(f) - f + f**2 / 2, 3, 1e-4, lambda k: (-1) ** k / mp.mpf(k + 3))


def atanh_tail(z):  # log((1 + s) / (1 - s)) = 2 s + s R(z), z = s^2
    s = mp.sqrt(z)
    return (
        mp.nsum(lambda k: 2 * z ** int(k) / (2 * int(k) + 1), [1, 14]) / z
        if z < 1e-3
        else (2 * mp.atanh(s) / s - 2) / z
    )


# name, meaning, function, weight (relative error of the result), interval, degree for float and double
TABLES = [
    (
        "exp_tail",
        "(e^r - 1 - r) / r^2",
        exp_tail,
        lambda r: (r**2 + mp.mpf(10) ** -30) / mp.exp(r),
        (-HALF, HALF),
        {"float": 4, "double": 9},
    ),
    (
        "exp_curve",
        "(e^r - 1 - r) / r^2 as a result of its own",
        exp_tail,
        lambda r: 1 / exp_tail(r),
        (-HALF, HALF),
        {"double": 10},
    ),
    (
        "exp_short",
        "(e^r - 1) / r, enough for 16-bit results",
        exp_slope,
        lambda r: abs(r) / mp.exp(r) + mp.mpf(10) ** -30,
        (-HALF, HALF),
        {"float": 2},
    ),
    (
        "exp_medium",
        "(e^r - 1) / r, for 16-bit results, all but one in a thousand rounded correctly",
        exp_slope,
        lambda r: abs(r) / mp.exp(r) + mp.mpf(10) ** -30,
        (-HALF, HALF),
        {"float": 4},
    ),
    (
        "exp_close",
        "(e^(r/2) - 1) / r, for sums with a bound",
        lambda r: exp_slope(r / 2) / 2,
        lambda r: abs(r) / mp.exp(r / 2) + mp.mpf(10) ** -30,
        (-HALF, HALF),
        {"double": 5},
    ),
    (
        "log1p_slope",
        "log(1 + e) / e, e in [0, 1], for the same",
        log1p_slope,
        lambda e: e / (mp.log1p(e) + mp.mpf(10) ** -30),
        (mp.mpf(10) ** -12, mp.mpf(1)),
        {"float": 7},
    ),
    (
        "log1p_tail",
        "(log(1 + f) - f + f^2 / 2) / f^3, f in [-1/4, 1/2]",
        log1p_tail,
        lambda f: abs(f) ** 3 / abs(mp.log1p(f) + mp.mpf(10) ** -30),
        (mp.mpf("-0.2501"), mp.mpf("0.5001")),
        {"float": 8, "double": 20},
    ),
    (
        "atanh_tail",
        "(2 atanh(s) / s - 2) / s^2 in s^2, |s| <= 3 - sqrt(8)",
        atanh_tail,
        lambda z: z,
        (mp.mpf(0), mp.mpf("0.0295")),
        {"float": 3, "double": 6},
    ),
]


def literal(value, kind):
    """The nearest binary32 or binary64 number as a C++ hexadecimal literal."""
    bits = 24 if kind == "float" else 53
    mantissa, exponent = mp.frexp(value)
    sign, digits = "-" if mantissa < 0 else "", int(mp.nint(abs(mantissa) * 2**bits))
    return f"{sign}0x{digits:x}p{int(exponent) - bits}{'f' if kind == 'float' else ''}"


def main():
    print("// SPDX-License-Identifier: Apache-2.0\n// Made by coefficients.py; edit that.\n#pragma once\n")
    print('#include "cpp/simd/isa.hpp"\n')
    print("// Functions, because device code cannot name a static array of the host.")
    print("namespace vastmax::VM_ISA {\n\ntemplate <class F>\nstruct Coefficients;\n")
    for kind in ("float", "double"):
        print(f"template <>\nstruct Coefficients<{kind}> {{")
        for name, meaning, f, weight, (low, high), degrees in TABLES:
            if kind not in degrees:
                continue
            positive = mp.mpf(10) ** -12 if low == 0 else low
            found, error = remez(f, weight, positive, high, degrees[kind])
            print(f"  // {meaning}: relative error 2^{mp.nstr(mp.log(error, 2), 4)}")
            print(f"  struct {name} {{\n    static constexpr int count = {len(found)};")
            print(f"    VM_MEMBER static constexpr {kind} at(int i) {{\n      constexpr {kind} c[] = {{")
            print(
                "".join(f"          {literal(c, kind)},\n" for c in found) + "      };\n      return c[i];\n    }\n  };"
            )
        print("};\n")
    print("}  // namespace vastmax::VM_ISA")


if __name__ == "__main__":
    main()
