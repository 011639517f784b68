"""Matrix products: exact grids, constructions that single out one bit, and published data.

Exact-grid data are the sharpest: every order, width and rounding of a legal accumulator must
give the same bits, so a lost element, a swapped index or one missing bit has nowhere to hide.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.formats import E8M0, FLOAT32, Format
from accelsdk_conformance.case import Case
from accelsdk_conformance.generators import data, grids
from accelsdk_conformance.generators.products import (
    Product,
    domain_bits,
    floor_bits,
    integer_problem,
    problem,
    specification,
)
from accelsdk_conformance.oracles.tensor import (
    F64,
    Tensor,
    code_dtype,
    encode,
    magnitudes,
    represent,
)
from accelsdk_conformance.problem import Context, NotApplicable, Problem


def _operands(case: Case) -> tuple[Format, Format]:
    return data.format_of(case, 0), data.format_of(case, 1)


def exact_grid(case: Case, context: Context) -> Problem:
    """Whole numbers whose every partial sum is exact: one right answer for everyone."""
    a_format, b_format = _operands(case)
    k = int(case.parameters["k"])
    m, n = (int(extent) for extent in case.parameters.get("mn", (18, 9)))
    rng = data.rng(case, context)
    a, b = grids.operands((a_format, b_format), (m, k, n), floor_bits(case), rng)
    # The first rows meet the first columns without any sign: nothing there can cancel.
    left, right = rng.integers(0, 2, a.shape) == 1, rng.integers(0, 2, b.shape) == 1
    left[: (m + 1) // 2], right[:, : (n + 1) // 2] = False, False
    product = Product(a=grids.negated(a, left), b=grids.negated(b, right), exact=True)
    return problem(case, context, product)


def positional(case: Case, context: Context) -> Problem:
    """Rows that select K by each bit of its index: a lost or swapped position shows its number."""
    a_format, b_format = _operands(case)
    k = int(case.parameters["k"])
    index = np.arange(k)
    width = max(1, (k - 1).bit_length())
    bits = (index[None, :] >> np.arange(width)[:, None]) & 1
    chosen = np.concatenate([bits, 1 - bits, np.ones((1, k), np.int64)])
    right_side = case.parameters.get("side") == "right"
    few, many = (b_format, a_format) if right_side else (a_format, b_format)
    one = grids.whole(few)[0][0]
    rows = Tensor(few, chosen.astype(one.dtype) * one)
    codes, values = grids.whole(many)
    odd = codes[(values % 2 == 1) & (values <= (3 if floor_bits(case) < 24 else 15))]
    b = Tensor(many, data.rng(case, context).choice(odd, (k, 8)))
    if right_side:
        rows, b = Tensor(many, b.codes.T), Tensor(few, rows.codes.T)
    return problem(case, context, Product(a=rows, b=b, exact=True))


def one_hot(case: Case, context: Context) -> Problem:
    """Each row picks one place of K: whatever is there comes out as it is, one by one."""
    a_format, b_format = _operands(case)
    k = int(case.parameters["k"])
    one = grids.whole(a_format)[0][0]
    a = np.zeros((k, k), one.dtype)
    a[np.arange(k), data.rng(case, context).permutation(k)] = one
    b = Tensor(b_format, _finite_codes(b_format, (k, 5), data.rng(case, context)))
    return problem(case, context, Product(a=Tensor(a_format, a), b=b))


def _finite_codes(
    fmt: Format, shape: tuple[int, ...], rng: np.random.Generator
) -> NDArray[np.unsignedinteger[Any]]:
    """Draws any normal numbers of a format, by their codes."""
    drawn = data.noise(rng, fmt, math.prod(shape))
    values = drawn.values
    plain = np.isfinite(values) & (np.abs(values) < 2.0**12) & (np.abs(values) > 2.0**-12)
    if fmt.is_float:
        plain &= np.abs(values) >= fmt.smallest_normal
    one = grids.whole(fmt)[0][0]
    found = np.where(plain, drawn.codes, one).astype(one.dtype)
    return found.reshape(shape)


def poisoned(case: Case, context: Context) -> Problem:
    """Exact grids amid bytes of NaN, after an execution with NaN: neither may be seen."""
    made = exact_grid(case, context)
    how = str(case.parameters["how"])
    if how == "around":
        return replace(made, poison=0xFF)
    earlier = tuple(operand and _noisy(operand) for operand in made.operands)
    return replace(made, before=earlier, runs=2)


def repeated(case: Case, context: Context) -> Problem:
    """Ordinary data several times: equal bits, unless a device declares that it may not be so."""
    a_format, b_format = _operands(case)
    spec = specification(case, context, a_format, b_format)
    if spec is None or not spec.deterministic:
        raise NotApplicable("equal bits of equal products are not claimed")
    return replace(normal(case, context), repeats=int(case.parameters["times"]))


def _noisy(x: Tensor) -> Tensor:
    """Returns NaN everywhere, or the largest number of a format that has none."""
    if x.format.has_nan:
        return Tensor(x.format, np.full_like(x.codes, encode(np.array(np.nan), x.format).codes))
    return Tensor(x.format, np.full_like(x.codes, encode(np.array(x.format.max), x.format).codes))


def all_pairs(case: Case, context: Context) -> Problem:
    """Every code times every code, K = 1; a sample of codes for 16-bit formats."""
    a_format, b_format = _operands(case)
    a, b = _every(a_format), _every(b_format)
    product = Product(
        a=Tensor(a_format, a.codes[:, None]), b=Tensor(b_format, b.codes[None]), exact=True
    )
    spec = specification(case, context, a_format, b_format)
    if spec is not None and (spec.subnormals_in, spec.subnormals_out) != ("keep", "keep"):
        raise NotApplicable("subnormals are declared flushed; see the subnormal cases")
    if a_format.precision + b_format.precision > floor_bits(case):
        product = Product(a=product.a, b=product.b)
    return problem(case, context, product)


def _every(fmt: Format) -> Tensor:
    if fmt.bits <= 8:
        return data.all_codes(fmt)
    if fmt.bits == 16:
        codes = np.arange(0, 1 << 16, 211)
        edges = represent(data.specials(fmt), fmt).codes
        return Tensor(fmt, np.concatenate([codes.astype(np.uint16), edges]))
    values = np.concatenate([data.specials(fmt), np.ldexp(1.0, np.arange(-60, 61, 10)) * 1.1])
    return encode(values, fmt)


def all_ones(case: Case, context: Context) -> Problem:
    """A sum of ``2**q - 1``: it needs all q bits that the declaration grants, in any order.

    [448, 448, 15, 15] . [32, 4, 16, 1] = 16383 is its E4M3 form: 13 bits give 16382, and
    float16 accumulation gives 16384.
    """
    a_format, b_format = _operands(case)
    spec = specification(case, context, a_format, b_format)
    bits = min(domain_bits(case, spec), 24)
    block = int(case.parameters.get("block_size", 0))
    group = min(a_format.precision if a_format.is_float else 7, 7)
    starts = list(range(0, bits, group))
    parts = [((1 << min(group, bits - s)) - 1, s) for s in starts]
    stride = block or 1
    rng = data.rng(case, context)
    orders = [list(range(len(parts))), list(range(len(parts)))[::-1]]
    orders += [rng.permutation(len(parts)).tolist() for _ in range(22)]
    k = len(parts) * stride
    a, b = np.zeros((len(orders), k)), np.zeros((k, 1))
    a_code = np.full((len(orders), -(-k // 32) if block else 1), 127)
    for row, order in enumerate(orders):
        for place, part in enumerate(order):
            value, shift = parts[part]
            if block:
                # In [1, 2), so that no operand is subnormal and aligns higher than it is.
                top = value.bit_length() - 1
                a[row, place * stride + (row * 5) % 32] = value * 2.0**-top
                a_code[row, place] = 127 + shift + top
            else:
                a[row, place] = value * 2.0 ** (shift - shift // 2)
    if not block:
        return _ones_plain(case, context, parts, orders)
    b[:] = 1.0
    left = represent(a, a_format)
    product = Product(
        a=left,
        b=represent(np.concatenate([b, -b], axis=1), b_format),
        a_scales=Tensor(E8M0, a_code.astype(np.uint8)),
        b_scales=Tensor(E8M0, np.full((a_code.shape[1], 2), 127, np.uint8)),
        exact=True,
    )
    return problem(_with_bits(case, bits), context, product)


def _ones_plain(
    case: Case, context: Context, parts: list[tuple[int, int]], orders: list[list[int]]
) -> Problem:
    """Without block scales every order has columns of its own, for b must move with a."""
    a_format, b_format = _operands(case)
    count = len(parts)
    a, b = np.zeros((len(orders), count * len(orders))), np.zeros((count * len(orders), 2))
    split = _powers_for(parts, a_format, b_format)
    for row, order in enumerate(orders):
        for place, part in enumerate(order):
            value, (left, right) = parts[part][0], split[part]
            at = row * count + place
            a[row, at] = value * 2.0**left
            b[at] = [2.0**right, -(2.0**right)]
    bits = sum(value.bit_length() for value, _ in parts)
    product = Product(a=represent(a, a_format), b=represent(b, b_format), exact=True)
    return problem(_with_bits(case, bits), context, product)


def _powers_for(
    parts: list[tuple[int, int]], a_format: Format, b_format: Format
) -> list[tuple[int, int]]:
    """Splits the weight of each part into powers of two that both formats reach.

    All parts are scaled down by the same power, as little as possible.
    """
    for down in range(64):
        found = []
        for value, shift in parts:
            places = [
                (left, shift - down - left)
                for left in range(a_format.emin, a_format.emax + 1)
                if value * 2.0**left <= a_format.max
                and b_format.emin <= shift - down - left <= b_format.emax
            ]
            found += sorted(places, key=lambda place: abs(place[0] - place[1]))[:1]
        if len(found) == len(parts):
            return found
    raise ArithmeticError(f"{a_format} and {b_format} do not span the parts")


def _with_bits(case: Case, bits: int) -> Case:
    """Returns the case with the exact domain that the declaration, not the floor, grants."""
    return replace(case, parameters={**case.parameters, "bits": bits})


def ladder(case: Case, context: Context) -> Problem:
    """Large products that cancel beside small ones just above and below every cut.

    They decide F, the alignment rounding, the store rounding and the width (T1, T2).
    """
    a_format, b_format = _operands(case)
    rng = data.rng(case, context)
    k, rows = int(case.parameters["k"]), 40
    grids = [_powers(fmt) for fmt in (a_format, b_format)]
    tops = [grid[-1] for grid in grids]
    a, b = rng.choice(grids[0], (rows, k)), rng.choice(grids[1], (k, 6))
    b[:2] = tops[1]
    a[:, 0] = tops[0]
    a[:, 1] = np.where(np.arange(rows) % 3 == 0, tops[0] / 2, -tops[0])
    a[:, 2:] *= rng.choice([-1, 1, 0], (rows, max(k - 2, 0)))
    shuffled = rng.permutation(k)
    return problem(
        case,
        context,
        Product(a=encode(a[:, shuffled], a_format), b=encode(b[shuffled], b_format)),
    )


def _powers(fmt: Format) -> F64:
    """Returns the powers of two of a format, up to 2**12 and down to 2**-14."""
    low = fmt.emin if fmt.is_float else -fmt.mantissa_bits
    return np.ldexp(1.0, np.arange(max(low, -14), min(fmt.emax, 12) + 1))


def normal(case: Case, context: Context) -> Problem:
    """Ordinary data, and scales that are no powers of two."""
    a_format, b_format = _operands(case)
    rng = data.rng(case, context)
    k = int(case.parameters["k"])
    m, n = 12, 8
    block = int(case.parameters.get("block_size", 0))
    spread = min(1.0, a_format.max / 8, b_format.max / 8)
    a = _saturated(rng.normal(size=(m, k)) * spread * _width(a_format), a_format)
    b = _saturated(rng.normal(size=(k, n)) * spread * _width(b_format), b_format)
    product = Product(a=a, b=b)
    if case.op == "ScaledMatMul" and not block:
        scales = encode(np.exp2(rng.uniform(-5, 5, m + n)), FLOAT32)
        product = Product(
            a=a,
            b=b,
            a_scales=Tensor(FLOAT32, scales.codes[:m, None]),
            b_scales=Tensor(FLOAT32, scales.codes[None, m:]),
        )
    elif block:
        left, right = _block_scales(rng, (m, k, n), 4)
        product = Product(a=a, b=b, a_scales=left, b_scales=right)
    return problem(case, context, product)


def _width(fmt: Format) -> float:
    return 16.0 if fmt.is_float and fmt.bits <= 8 and fmt.emax >= 4 else 1.0


def _saturated(x: F64, fmt: Format) -> Tensor:
    return encode(np.clip(x, fmt.min, fmt.max), fmt)


def _block_scales(
    rng: np.random.Generator, shape: tuple[int, int, int], spread: int
) -> tuple[Tensor, Tensor]:
    m, k, n = shape
    count = -(-k // 32)
    left = rng.integers(127 - spread, 128 + spread, (m, count)).astype(np.uint8)
    right = rng.integers(127 - spread, 128 + spread, (count, n)).astype(np.uint8)
    return Tensor(E8M0, left), Tensor(E8M0, right)


def specials(case: Case, context: Context) -> Problem:
    """NaN and infinities in every lane, 0 * Inf, Inf - Inf, negative zeros."""
    a_format, b_format = _operands(case)
    k = int(case.parameters["k"])
    rng = data.rng(case, context)
    a, b = grids.operands((a_format, b_format), (k + 6, k, 5), floor_bits(case), rng)
    left, right = (grids.mixed(x, rng).values.copy() for x in (a, b))
    for lane in range(k):
        left[lane, lane] = np.nan if a_format.has_nan else left[lane, lane]
    if a_format.has_inf:
        left[k, 0], left[k + 1, k - 1] = np.inf, -np.inf
        left[k + 2, 0], left[k + 2, k - 1] = np.inf, -np.inf
        left[k + 3, k // 2] = np.inf
        right[k // 2, 1] = 0.0
    if b_format.has_inf:
        right[k - 1, 2] = np.inf
    if b_format.has_nan:
        right[0, 3] = np.nan
    left[k + 4], left[k + 5] = 0.0, -0.0
    product = Product(a=represent(left, a_format), b=represent(right, b_format), exact=True)
    return problem(case, context, product)


def empty(case: Case, context: Context) -> Problem:
    """Extents of zero: an empty sum is zero, whatever the memory held before."""
    a_format, b_format = _operands(case)
    m, k, n = (int(x) for x in case.parameters["shape"])
    a = Tensor(a_format, np.zeros((m, k), code_dtype(a_format)))
    b = Tensor(b_format, np.zeros((k, n), code_dtype(b_format)))
    if case.op == "MatMulInteger":
        return integer_problem(case, context, a, b)
    block = int(case.parameters.get("block_size", 0))
    if not block:
        return problem(case, context, Product(a=a, b=b, exact=True))
    count = -(-k // 32)
    scales = [Tensor(E8M0, np.full(shape, 127, np.uint8)) for shape in ((m, count), (count, n))]
    return problem(
        case, context, Product(a=a, b=b, a_scales=scales[0], b_scales=scales[1], exact=True)
    )


def subnormal(case: Case, context: Context) -> Problem:
    """Subnormal operands, and products below the smallest normal result."""
    a_format, b_format = _operands(case)
    spec = specification(case, context, a_format, b_format)
    if spec is not None and (spec.subnormals_in, spec.subnormals_out) != ("keep", "keep"):
        raise NotApplicable("subnormals are declared flushed")
    low: F64
    if a_format.bits <= 16 and a_format.is_float:
        low = magnitudes(a_format)[:-1][:9]
    else:
        low = float(a_format.smallest_subnormal) * np.arange(9.0)
    a = np.concatenate([low, [a_format.smallest_normal if a_format.is_float else 0.5, 1.0]])
    big = [1.0, 2.0, 0.5, 4.0, 1.5, b_format.smallest_normal if b_format.is_float else 0.25]
    b = np.array([value for value in big if value <= b_format.max])
    if b_format.bits >= 16 and a_format.bits >= 16 and a_format.emin < -100:
        b = np.array([1.0, 2.0, 4.0, 2.0**20])
    product = Product(
        a=represent(data.both_signs(a)[:, None], a_format),
        b=represent(b[None], b_format),
        exact=True,
    )
    return problem(case, context, product)
