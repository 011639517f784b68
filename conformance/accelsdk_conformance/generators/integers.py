"""Integer matrix products: every pair, both ends, zero points of every kind."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from accelsdk.formats import Format
from accelsdk_conformance.case import Case
from accelsdk_conformance.generators import axes, data
from accelsdk_conformance.generators.products import integer_problem
from accelsdk_conformance.oracles.tensor import Codes, Tensor, code_dtype, from_integers
from accelsdk_conformance.problem import (
    Along,
    Axis,
    Context,
    Exact,
    Expected,
    Problem,
    always,
    expect_exact,
    shrinkable,
)


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


def batches(case: Case, context: Context) -> Problem:
    """Products of three dimensions and more, with zero points of rows and of columns."""
    formats = data.format_of(case, 0), data.format_of(case, 1)
    rng = data.rng(case, context)
    shapes: list[tuple[int, ...]] = [tuple(shape) for shape in case.parameters["shapes"]]
    a, b = (_full(fmt, shape, rng) for fmt, shape in zip(formats, shapes, strict=True))
    kinds: dict[str, tuple[int, ...] | None] = {"none": None, "scalar": (), "one": (1,)}
    left, right = (
        {**kinds, "each": (extent,)}[str(case.parameters[key])]
        for key, extent in (("rows", a.shape[-2]), ("columns", b.shape[-1]))
    )
    zeros = (
        None if shape is None else _full(fmt, shape, rng)
        for fmt, shape in zip(formats, (left, right), strict=True)
    )

    def make(a: Tensor, b: Tensor, left: Tensor | None, right: Tensor | None) -> Problem:
        expected = _of_batches(case, context, (a, b), (left, right))
        return Problem(op=case.op, operands=(a, b, left, right), oracle=always(expected))

    return shrinkable(make, (a, b, *zeros), _batch_axes)


def _of_batches(
    case: Case,
    context: Context,
    factors: tuple[Tensor, Tensor],
    zeros: tuple[Tensor | None, Tensor | None],
) -> Expected:
    """Returns what a product of stacked matrices must be: that of each two by itself."""
    lead = np.broadcast_shapes(*(factor.shape[:-2] for factor in factors))
    a, b = (np.broadcast_to(f.codes, (*lead, *f.shape[-2:])) for f in factors)
    found = [
        _of_two(
            case,
            context,
            (Tensor(factors[0].format, a[at]), Tensor(factors[1].format, b[at])),
            zeros,
        )
        for at in np.ndindex(*lead)
    ]
    codes = np.stack([codes for codes, _ in found])
    first = found[0][1]
    whole = Tensor(first.format, codes.reshape(*lead, *codes.shape[1:]))
    return expect_exact(whole, claim=first.claim)


def _of_two(
    case: Case,
    context: Context,
    factors: tuple[Tensor, Tensor],
    zeros: tuple[Tensor | None, Tensor | None],
) -> tuple[Codes, Expected]:
    """Returns the codes that the product of two matrices must be, and the expectation.

    Raises:
        ArithmeticError: It is not exact.
    """
    (expected,) = integer_problem(case, context, *factors, *zeros).oracle(())
    exact = expected.tiers[0][1]
    if not isinstance(exact, Exact):
        raise ArithmeticError(f"{case.id}: an integer product that is not exact")
    return exact.codes, expected


def _batch_axes(a: Tensor, b: Tensor, left: Tensor | None, right: Tensor | None) -> Iterator[Axis]:
    """Yields rows and columns with their zero points, and what else a product can do without."""
    inner, rows, columns, *batch = axes.product(a, b)
    yield inner
    yield (*rows, *((Along(2, 0),) if left is not None and left.shape == (a.shape[-2],) else ()))
    yield (
        *columns,
        *((Along(3, 0),) if right is not None and right.shape == (b.shape[-1],) else ()),
    )
    yield from batch
