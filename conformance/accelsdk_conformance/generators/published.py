"""Matrix products on published data sets."""

from __future__ import annotations

from functools import cache

import numpy as np

from accelsdk.formats import Format
from accelsdk_conformance.case import Case
from accelsdk_conformance.generators import data
from accelsdk_conformance.generators.products import Product, problem
from accelsdk_conformance.oracles.tensor import F64, encode
from accelsdk_conformance.problem import Context, Problem


@cache
def _tosa_stream(seed: int, count: int) -> F64:
    """TOSA 1.1 appendix A: numbers in [-1, 1] from a fixed congruence."""
    multiplier = ((8 * seed + 1) * 0x705A5E75) & 0xFFFFFFFF
    state, found = (multiplier + 1) & 0xFFFFFFFF, np.empty(count)
    for index in range(count):
        sign = -1.0 if state >> 31 else 1.0
        found[index] = sign * (state & 0x7FFFFFFF) / 0x7FFFFFFF
        state = (state * multiplier + 1) & 0xFFFFFFFF
    return found


def tosa(case: Case, context: Context) -> Problem:
    """The published data sets S0 to S5, quantised to the operand formats."""
    a_format, b_format = data.format_of(case, 0), data.format_of(case, 1)
    name, k = str(case.parameters["set"]), int(case.parameters["k"])
    m, n = 8, 6
    left = _tosa_stream(2 * int(case.parameters.get("stream", 1)), m * k).reshape(m, k)
    right = _tosa_stream(2 * int(case.parameters.get("stream", 1)) + 1, k * n).reshape(k, n)
    top = _tosa_largest(a_format, b_format)
    first = np.arange(k) == 0
    match name:
        case "s0":
            zero = _tosa_stream(7, k) < 0
            a, b = np.where(zero, 0.0, left), np.where(zero[:, None], right, 0.0)
        case "s1":
            factor = top / float(np.sqrt(k + 1))
            a = factor * np.where(left < 0, -0.75, 0.75) + factor * 0.25 * left[:, ::-1]
            b = factor * np.where(right < 0, -0.75, 0.75) + factor * 0.25 * right[::-1]
        case "s4":
            factor, middle = top / float(np.sqrt(k)), np.arange(k) == k // 2
            zero = _tosa_stream(9, k) < 0
            a = np.where(middle, -0.5, np.where(first, 0.5, np.where(zero, 0.0, factor * left)))
            b = np.where(
                middle[:, None] | first[:, None],
                0.5,
                np.where(zero[:, None], factor * right, factor * right / 2),
            )
        case "s2":
            a = np.where(first, 1.0, left / np.sqrt(k))
            b = np.where(first[:, None], 1.0, right / np.sqrt(k))
        case "s3":
            a = np.where(first, 16.0, np.exp(2 * left) * left[:, ::-1])
            b = np.where(first[:, None], 16.0, np.exp(2 * right) * right[::-1])
        case _:
            factor = top / float(np.sqrt(k))
            a, b = factor * left, factor * right
    left, right = _within(a, a_format), _within(b, b_format)
    return problem(case, context, Product(a=encode(left, a_format), b=encode(right, b_format)))


def _tosa_largest(a: Format, b: Format) -> float:
    """B: the largest value whose square does not overflow the result."""
    return min(a.max, b.max, 2.0**63 if a.bits >= 16 and a.emax > 100 else 2.0**15)


def _within(x: F64, fmt: Format) -> F64:
    return np.clip(x, fmt.min, fmt.max)
