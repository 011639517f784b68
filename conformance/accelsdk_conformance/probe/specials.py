"""The edges of a unit: subnormals, overflow, NaN and infinities, and what operands are cut to."""

from __future__ import annotations

import numpy as np

from accelsdk.formats import BFLOAT16, FLOAT32, Format
from accelsdk_conformance.oracles.tensor import F64
from accelsdk_conformance.probe.reading import Reading, unseen
from accelsdk_conformance.probe.structure import Structure
from accelsdk_conformance.probe.unit import Bench


def subnormals_in(bench: Bench) -> Reading:
    """The smallest subnormal of either side times a power of two that lifts it up."""
    found = []
    for side in (0, 1):
        fmt, other = (bench.unit.a, bench.unit.b) if side == 0 else (bench.unit.b, bench.unit.a)
        if not fmt.is_float:
            continue
        small = 2.0 ** (fmt.emin - fmt.mantissa_bits)
        large = 2.0 ** min(other.emax, -fmt.emin)
        pair = (np.array([[small]]), np.array([[large]]))
        if bench.spaced:
            pair = (np.full((1, 32), 0.0), np.full((1, 32), large))
            pair[0][0, 0] = small
        left, right = pair if side == 0 else (pair[1], pair[0])
        scales = np.zeros((1, 1), np.int64) if bench.spaced else None
        found.append(float(bench.raw(left, right, None, scales)[0]))
    if not found:
        return unseen("the formats have no subnormals")
    if all(found):
        return Reading("keep")
    return Reading("flush") if not any(found) else Reading("mixed")


def measure(bench: Bench, shape: Structure) -> dict[str, Reading]:
    """Measures what happens at the ends of the range."""
    found = {"subnormals_out": _subnormals_out(bench)}
    found |= _overflow(bench, shape)
    found["specials"] = _rules(bench)
    found["output_overflow"] = _output_overflow(bench)
    if bench.unit.a is FLOAT32:
        found["input_precision"] = _input_precision(bench)
    return found


def _subnormals_out(bench: Bench) -> Reading:
    unit = bench.unit
    out = unit.out
    if bench.spaced:
        a, b = np.zeros((1, 32)), np.zeros((1, 32))
        a[0, 0] = b[0, 0] = 1.0
        scales = np.array([[out.emin - 2]])
        return _kept(float(bench.raw(a, b, None, scales)[0]), out.emin - 2)
    if not (unit.a.is_float and unit.b.is_float):
        return unseen("no product is that small")
    want = out.emin - 2
    if unit.a.emin + unit.b.emin > want or out.emin != FLOAT32.emin:
        return unseen("no sum is that small")
    a = np.array([[2.0 ** (want // 2)]])
    b = np.array([[2.0 ** (want - want // 2)]])
    return _kept(float(bench.raw(a, b)[0]), want)


def _kept(found: float, exponent: int) -> Reading:
    if found == 2.0**exponent:
        return Reading("keep")
    return Reading("flush") if found == 0 else unseen(f"2**{exponent} becomes {found!r}")


def _overflow(bench: Bench, shape: Structure) -> dict[str, Reading]:
    """Sums beyond float32 that come back, and single products beyond it that cancel."""
    unit = bench.unit
    short = unseen("no product is that large")
    if bench.spaced or unit.a.emax + unit.b.emax < FLOAT32.emax + 1 or len(shape.chunks) < 2:
        return {"overflow": short, "product_overflow": short}
    length = shape.length
    a, b = np.zeros((2, length)), np.zeros((2, length))
    wide = len(shape.chunks[0]) > 1
    first = shape.chunks[0][:2] if wide else [shape.chunks[0][0], shape.chunks[1][0]]
    after = shape.chunks[1][0] if wide else shape.chunks[2][0]
    a[0, [*first, after]], b[0, [*first, after]] = [2.0**64] * 3, [2.0**63, 2.0**63, -(2.0**63)]
    a[1, first], b[1, first] = 2.0**65, [2.0**65, -(2.0**65)]
    total, products = bench.raw(a, b)
    sums = "inf" if np.isinf(total) else "wide" if total == 2.0**127 else "saturate"
    product = "wide" if products == 0 else "inf"
    if shape.kind == "pairwise" or (not wide and product == "inf"):
        return {"overflow": Reading(sums), "product_overflow": unseen("each is stored by itself")}
    return {"overflow": Reading(sums), "product_overflow": Reading(product)}


def _rules(bench: Bench) -> Reading:
    """NaN, 0 * Inf and Inf - Inf give NaN, Inf alone stays: IEEE 754 section 6 and 7.2."""
    unit = bench.unit
    nan, inf = _code(unit.a, "nan"), _code(unit.a, "inf")
    b_inf = _code(unit.b, "inf")
    one, b_one = 1.0, 1.0
    rows: list[tuple[list[float], list[float], str]] = []
    if nan:
        rows += [([np.nan, one], [b_one, b_one], "nan"), ([np.nan, one], [0.0, b_one], "nan")]
    if inf:
        rows += [([np.inf, one], [b_one, b_one], "inf"), ([-np.inf, one], [b_one, b_one], "-inf")]
        rows += [([np.inf, one], [0.0, b_one], "nan")]
        rows += [([np.inf, -np.inf], [b_one, b_one], "nan")]
    if b_inf:
        rows += [([0.0, one], [np.inf, b_one], "nan")]
    if not rows:
        return unseen("the formats have neither NaN nor infinities")
    width = 32 if bench.spaced else 2
    a, b = np.zeros((len(rows), width)), np.zeros((len(rows), width))
    for i, (left, right, _) in enumerate(rows):
        a[i, :2], b[i, :2] = left, right
    scales = np.zeros((len(rows), 1), np.int64) if bench.spaced else None
    # The diagonal of a product: other rows and columns do not reach it.
    found = bench.raw(a, b, None, scales)
    wrong = [
        f"{left} . {right} = {x:g}"
        for x, (left, right, want) in zip(found, rows, strict=True)
        if _named(float(x)) != want
    ]
    return Reading("ieee") if not wrong else Reading("other", note="; ".join(wrong))


def _code(fmt: Format, kind: str) -> bool:
    return fmt.has_nan if kind == "nan" else fmt.has_inf


def _named(x: float) -> str:
    return "nan" if x != x else "inf" if x == np.inf else "-inf" if x == -np.inf else "finite"


def _output_overflow(bench: Bench) -> Reading:
    """The largest result doubled: infinity, NaN, or the largest number."""
    out = bench.unit.out
    if bench.high < out.emax + 2 or bench.spaced:
        return unseen("no product is that large")
    found = float(bench.sums(np.array([[2.0 ** (out.emax + 1), 0.0]]))[0])
    return Reading("saturate" if found == out.max else _named(found))


_DRAWS = 256


def _input_precision(bench: Bench) -> Reading:
    """Single products of random numbers against each known way of splitting them."""
    rng = np.random.default_rng(11)
    a = rng.uniform(1, 2, (_DRAWS, 1)).astype(np.float32).astype(np.float64)
    b = rng.uniform(1, 2, (_DRAWS, 1)).astype(np.float32).astype(np.float64)
    found = bench.raw(a, b)
    exact = (a * b)[:, 0]
    cut = {name: _cut(a, bits, mode) * _cut(b, bits, mode) for name, bits, mode in _CUTS}
    if np.max(np.abs(found / exact - 1)) <= 2.0**-23:
        return Reading("native")
    for name, want in cut.items():
        if np.max(np.abs(found / want[:, 0] - 1)) <= 2.0**-23:
            return Reading(name.split()[0], note=name)
    error = float(np.max(np.abs(found / exact - 1)))
    for name, bound in (("bf16x6", 2.0**-21), ("bf16x3", 2.0**-14), ("tf32", 2.0**-9)):
        if error <= bound:
            return Reading(name, note=f"by its largest error, {error:.2g}")
    return Reading("bf16", note=f"by its largest error, {error:.2g}")


_CUTS = (
    ("tf32 truncated", 11, "rz"),
    ("tf32 rounded", 11, "rne"),
    ("bf16 truncated", BFLOAT16.precision, "rz"),
    ("bf16 rounded", BFLOAT16.precision, "rne"),
)


def _cut(x: F64, bits: int, mode: str) -> F64:
    unit = np.ldexp(1.0, np.frexp(x)[1] - bits)
    steps: F64 = np.trunc(x / unit) if mode == "rz" else np.rint(x / unit)
    return np.asarray(steps * unit)
