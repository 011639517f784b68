"""Every code in every lane of K, on each side of a product: a fault of one multiplier shows.

A sum over K goes through as many multipliers as the engine is wide. What is sent alone through
one of them comes out as it is: all other products of the sum are zero.
"""

from __future__ import annotations

import numpy as np

from accelsdk.formats import Format
from accelsdk_conformance.case import Case
from accelsdk_conformance.generators import data, grids
from accelsdk_conformance.generators.products import Product, integer_problem, problem
from accelsdk_conformance.oracles.tensor import Codes, Tensor, code_dtype
from accelsdk_conformance.problem import Context, Problem

_ROWS = 251  # of formats with too many codes; prime, so that no lane sees a part of them alone


def codes(case: Case, context: Context) -> Problem:
    """Rows of codes times one unit in each place of K, or the other way around.

    Every number of up to 8 bits comes by in every lane; of wider formats a sample, half of it
    with a mantissa that ends in ones.
    """
    formats = data.format_of(case, 0), data.format_of(case, 1)
    k, rng = int(case.parameters["k"]), data.rng(case, context)
    right = case.parameters["side"] == "right"
    many, few = formats[::-1] if right else formats
    pool = _numbers(many, rng)
    rows = pool[(np.arange(len(pool))[:, None] + 37 * np.arange(k)) % len(pool)]
    units = np.zeros((k, k), code_dtype(few))
    units[rng.permutation(k), np.arange(k)] = grids.whole(few)[0][0]
    a, b = (units, rows.T) if right else (rows, units)
    return _problem(case, context, Tensor(formats[0], a), Tensor(formats[1], b))


def pairs(case: Case, context: Context) -> Problem:
    """Numbers times numbers, each pair through one lane; lanes take turns by row.

    Some of them meet, or, turn by turn, every one of 8 bits meets every other in every lane.
    """
    formats = data.format_of(case, 0), data.format_of(case, 1)
    k, rng = int(case.parameters["k"]), data.rng(case, context)
    left, right = (_numbers(fmt, rng) for fmt in formats)
    turn = int(case.parameters.get("turn", -1))
    if turn < 0:
        left, right = rng.permutation(left)[: 3 * k], rng.permutation(right)[: 2 * k]
    a = np.zeros((len(left), k), left.dtype)
    index = np.arange(len(left))
    a[index, (index + turn) % k] = left
    b = np.repeat(right[None], k, axis=0)
    return _problem(case, context, Tensor(formats[0], a), Tensor(formats[1], b))


def _problem(case: Case, context: Context, a: Tensor, b: Tensor) -> Problem:
    if case.op == "MatMulInteger":
        return integer_problem(case, context, a, b)
    return problem(case, context, Product(a=a, b=b))


def _numbers(fmt: Format, rng: np.random.Generator) -> Codes:
    """Returns normal numbers by their codes, of a wide format those of an ordinary size."""
    if fmt.bits <= 8:
        every = data.all_codes(fmt).codes
    else:
        every = data.noise(rng, fmt, 16 * _ROWS).codes
        every[::2] |= every.dtype.type((1 << (fmt.mantissa_bits // 2)) - 1)
    values = Tensor(fmt, every).values
    plain = np.isfinite(values)
    if fmt.is_float:
        plain &= np.abs(values) >= fmt.smallest_normal
    if fmt.bits > 8:
        plain &= (np.abs(values) < 2.0**12) & (np.abs(values) > 2.0**-12)
    return every[plain][:_ROWS] if fmt.bits > 8 else every[plain]
