"""Gemm with factors that have many digits, and of integers that no float of 64 bits holds."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.formats import FLOAT64, Format
from accelsdk_conformance.case import Case
from accelsdk_conformance.generators import axes as axes_of
from accelsdk_conformance.generators import data
from accelsdk_conformance.generators.composite import carried_problem
from accelsdk_conformance.oracles.carried import Carried
from accelsdk_conformance.oracles.tensor import Tensor, encode, from_integers
from accelsdk_conformance.problem import (
    Axis,
    Context,
    Problem,
    always,
    expect_exact,
    shrinkable,
)

_SHAPE = (7, 19, 5)


def scaled(case: Case, context: Context) -> Problem:
    """Gemm of ordinary numbers with factors that few bits do not hold, such as 0.1.

    A device may multiply the factors into A and C, or into the product.
    """
    fmt = data.format_of(case, 0)
    given = case.parameters
    rng = data.rng(case, context)
    # What ONNX's attributes of 32 bits hold.
    alpha, beta = (float(np.float32(given.get(key, 1.0))) for key in ("alpha", "beta"))
    trans_a, trans_b = int(given.get("trans_a", 0)), int(given.get("trans_b", 0))
    m, k, n = given.get("shape", _SHAPE)
    a, b = encode(rng.normal(size=(m, k)), fmt), encode(rng.normal(size=(k, n)), fmt)
    name = str(given.get("c", "none"))
    c = None if name == "none" else encode(rng.normal(size=_c_shape(name, m, n)), fmt)
    attributes: dict[str, Any] = {"transA": trans_a, "transB": trans_b}
    attributes |= {"alpha": alpha, "beta": beta}

    def make(a: Tensor, b: Tensor, c: Tensor | None) -> Problem:
        left = a.values.T if trans_a else a.values
        right = b.values.T if trans_b else b.values
        product = Carried.exact(left, fmt).matmul(Carried.exact(right, fmt))
        result = _by(alpha, product, fmt)
        if c is not None:
            added = _by(beta, Carried.exact(c.values, fmt), fmt)
            result = result + Carried(
                np.broadcast_to(added.value, result.value.shape),
                np.broadcast_to(added.error, result.value.shape),
                fmt,
            )
        # alpha may go to each of the numbers that are summed.
        size = np.abs(alpha) * (np.abs(left) @ np.abs(right))
        error = result.error + size * 2.0 ** (2 - fmt.precision)
        return carried_problem("Gemm", (a, b, c), attributes, [Carried(result.value, error, fmt)])

    def axes(a: Tensor, b: Tensor, c: Tensor | None) -> list[Axis]:
        return axes_of.gemm(a, b, c, trans_a, trans_b)

    operands = (_turned(a, trans_a), _turned(b, trans_b), c)
    return shrinkable(make, operands, axes)


def _by(factor: float, value: Carried, fmt: Format) -> Carried:
    """Returns the product with an attribute, which the format may have to round."""
    held = Carried.exact(np.array(factor), fmt)
    narrow = fmt != FLOAT64 and float(encode(held.value, fmt).values) != factor
    return value * (held.rounded(1.0) if narrow else held)


def _c_shape(name: str, m: int, n: int) -> tuple[int, ...]:
    shapes = {"row": (n,), "flat": (1, n), "column": (m, 1), "full": (m, n), "item": (1,)}
    return shapes[name]


def _turned(x: Tensor, transpose: int) -> Tensor:
    return Tensor(x.format, np.ascontiguousarray(x.codes.T)) if transpose else x


def far(case: Case, context: Context) -> Problem:
    """Gemm of integers whose last bit no float holds, in A, in B, in C or in the product alone.

    Numbers of the other matrix are small, so that no sum leaves the format.
    """
    fmt = data.format_of(case, 0)
    given = case.parameters
    rng = data.rng(case, context)
    trans_a, trans_b = int(given.get("trans_a", 0)), int(given.get("trans_b", 0))
    m, k, n = _SHAPE
    place = str(given["place"])
    a, b = (_small(rng, shape, fmt) for shape in ((m, k), (k, n)))
    c = _small(rng, (m, n), fmt)
    match place:
        case "a":
            a = _large(rng, (m, k), fmt, 6)
        case "b":
            b = _large(rng, (k, n), fmt, 6)
        case "c":
            c = _large(rng, (m, n), fmt, 2)
        case _:  # the sums alone
            a, b = (_large(rng, s, fmt, 4 + fmt.bits // 2) for s in ((m, k), (k, n)))
    attributes = {"alpha": 1.0, "beta": 1.0, "transA": trans_a, "transB": trans_b}

    def make(a: Tensor, b: Tensor, c: Tensor | None) -> Problem:
        left = a.integers.T if trans_a else a.integers
        right = b.integers.T if trans_b else b.integers
        terms = left[:, :, None] * right[None, :, :]
        total = terms.sum(axis=1, dtype=np.int64)
        found = total if c is None else total + c.integers
        expected = expect_exact(from_integers(found, fmt))
        return Problem(
            op="Gemm", operands=(a, b, c), attributes=attributes, oracle=always(expected)
        )

    def axes(a: Tensor, b: Tensor, c: Tensor | None) -> list[Axis]:
        return axes_of.gemm(a, b, c, trans_a, trans_b)

    wholes = [from_integers(x, fmt) for x in (a.T if trans_a else a, b.T if trans_b else b, c)]
    return shrinkable(make, wholes, axes)


def _small(rng: np.random.Generator, shape: tuple[int, ...], fmt: Format) -> NDArray[Any]:
    return rng.integers(-1 if fmt.is_signed else 0, 2, shape)


def _large(
    rng: np.random.Generator, shape: tuple[int, ...], fmt: Format, room: int
) -> NDArray[Any]:
    """Returns odd numbers of all but so many bits of the format, and of its sign."""
    top = 1 << (fmt.bits - room)
    return rng.integers(-top if fmt.is_signed else 0, top, shape) | 1
