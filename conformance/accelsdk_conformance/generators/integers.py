"""Integer matrix products: every pair, both ends, zero points of every kind."""

from __future__ import annotations

import numpy as np

from accelsdk.formats import Format
from accelsdk_conformance.case import Case
from accelsdk_conformance.generators import data
from accelsdk_conformance.generators.products import integer_problem
from accelsdk_conformance.oracles.tensor import Tensor, code_dtype, from_integers
from accelsdk_conformance.problem import Context, Problem


def grid(case: Case, context: Context) -> Problem:
    """Full-range integers with odd zero points: scalar, per row, per column, or none."""
    a_format, b_format = data.format_of(case, 0), data.format_of(case, 1)
    m, k, n = (int(case.parameters.get(key, 7)) for key in ("m", "k", "n"))
    rng = data.rng(case, context)
    a, b = _full(a_format, (m, k), rng), _full(b_format, (k, n), rng)
    zeros = str(case.parameters.get("zeros", "none"))
    left = right = None
    if zeros != "none":
        left = _full(a_format, () if zeros == "scalar" else (m,), rng)
        right = _full(b_format, () if zeros == "scalar" else (n,), rng)
    return integer_problem(case, context, a, b, left, right)


def _full(fmt: Format, shape: tuple[int, ...], rng: np.random.Generator) -> Tensor:
    return Tensor(fmt, rng.integers(0, 1 << fmt.bits, shape).astype(code_dtype(fmt)))


def pairs(case: Case, context: Context) -> Problem:
    """Every pair of codes, and the pairs whose sum of two leaves int16."""
    a_format, b_format = data.format_of(case, 0), data.format_of(case, 1)
    a, b = data.all_codes(a_format).codes, data.all_codes(b_format).codes
    left = np.stack([a, np.roll(a, 1)], axis=1)
    right = np.stack([b, np.zeros_like(b)])
    if case.parameters["kind"] == "adjacent":
        right = np.stack([b, np.roll(b, 1)])
    return integer_problem(case, context, Tensor(a_format, left), Tensor(b_format, right))


def extremes(case: Case, context: Context) -> Problem:
    """All codes at their ends: sums beyond 16, 24 and 32 bits."""
    a_format, b_format = data.format_of(case, 0), data.format_of(case, 1)
    k = int(case.parameters["k"])
    ends = [[fmt.min, fmt.max] for fmt in (a_format, b_format)]
    a = from_integers(np.repeat(np.array(ends[0])[:, None], k, axis=1), a_format)
    b = from_integers(np.repeat(np.array(ends[1])[None], k, axis=0), b_format)
    return integer_problem(case, context, a, b)


def positional(case: Case, context: Context) -> Problem:
    """Rows that select K by the bits of its index, as in `contraction`."""
    a_format, b_format = data.format_of(case, 0), data.format_of(case, 1)
    k = int(case.parameters["k"])
    index = np.arange(k)
    bits = [(index >> bit) & 1 for bit in range(max(1, (k - 1).bit_length()))]
    a = from_integers(np.array([*bits, *(1 - row for row in bits), np.ones(k)]), a_format)
    return integer_problem(case, context, a, _full(b_format, (k, 8), data.rng(case, context)))
