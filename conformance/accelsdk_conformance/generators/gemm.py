"""Gemm: every option, factors with many digits, and integers that no float of their width holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.formats import FLOAT64, Format
from accelsdk_conformance.case import Case
from accelsdk_conformance.generators import axes as axes_of
from accelsdk_conformance.generators import data
from accelsdk_conformance.generators.composite import carried_problem
from accelsdk_conformance.oracles.carried import Carried
from accelsdk_conformance.oracles.tensor import F64, Tensor, encode, from_integers, represent
from accelsdk_conformance.problem import (
    Axis,
    Context,
    Expected,
    Problem,
    always,
    expect_exact,
    shrinkable,
)

_SHAPE = (7, 19, 5)

#: Says what comes of A and B as they are multiplied, and of C.
_Judge = Callable[[Tensor, Tensor, Tensor | None], Expected | Carried]


def gemm(case: Case, context: Context) -> Problem:
    """Gemm with transposes, alpha, beta and every broadcast of C; whole numbers, exact."""
    fmt = data.format_of(case, 0)
    given = case.parameters
    rng = data.rng(case, context)
    alpha, beta = float(given.get("alpha", 2.0)), float(given.get("beta", 0.5))
    m, k, n = given.get("shape", _SHAPE)
    low = -3 if fmt.is_signed else 0
    a, b = (_whole(rng.integers(low, 4, shape), fmt) for shape in ((m, k), (k, n)))
    shape = _c_shape(str(given["c"]), m, n)
    c = None if shape is None else _whole(rng.integers(2 * low, 9, shape) * 2, fmt)

    def judge(a: Tensor, b: Tensor, c: Tensor | None) -> Expected:
        value = alpha * (a.values @ b.values)
        if c is not None:
            value = value + beta * c.values
        return expect_exact(_whole(value, fmt), signed_zero=False)

    return _problem((a, b, c), _attributes(case, alpha, beta), judge)


def scaled(case: Case, context: Context) -> Problem:
    """Gemm of ordinary numbers with factors that few bits do not hold, such as 0.1.

    A device may multiply the factors into A, B and C, or into the product.
    """
    fmt = data.format_of(case, 0)
    given = case.parameters
    rng = data.rng(case, context)
    # What ONNX's attributes of 32 bits hold.
    alpha, beta = (float(np.float32(given[key])) for key in ("alpha", "beta"))
    m, k, n = _SHAPE
    a, b = encode(rng.normal(size=(m, k)), fmt), encode(rng.normal(size=(k, n)), fmt)
    shape = _c_shape(str(given["c"]), m, n)
    c = None if shape is None else encode(rng.normal(size=shape), fmt)

    def judge(a: Tensor, b: Tensor, c: Tensor | None) -> Carried:
        product = Carried.exact(a.values, fmt).matmul(Carried.exact(b.values, fmt))
        result = _by(alpha, product, fmt)
        if c is not None:
            added = _by(beta, Carried.exact(c.values, fmt), fmt)
            result = result + Carried(
                np.broadcast_to(added.value, result.value.shape),
                np.broadcast_to(added.error, result.value.shape),
                fmt,
            )
        early = _scaled_before(alpha, a.values, b.values, fmt)
        return Carried(result.value, result.error + early, fmt)

    return _problem((a, b, c), _attributes(case, alpha, beta), judge)


def _by(factor: float, value: Carried, fmt: Format) -> Carried:
    """Returns the product with an attribute, which the format may have to round."""
    held = Carried.exact(np.array(factor), fmt)
    narrow = fmt != FLOAT64 and float(encode(held.value, fmt).values) != factor
    return value * (held.rounded(1.0) if narrow else held)


def _scaled_before(alpha: float, a: F64, b: F64, fmt: Format) -> F64:
    """Returns how far sums are off whose factors of one side were multiplied by alpha, each.

    That is one rounding of each product, directed at worst, of A or of B: never of both. That
    alpha itself is rounded is one error of the whole sum, wherever it is multiplied in, which
    `_by` counts.
    """
    of_a, of_b = (Carried.exact(alpha * x, fmt).rounded(1.0).error for x in (a, b))
    return np.maximum(of_a @ np.abs(b), np.abs(a) @ of_b)


def far(case: Case, context: Context) -> Problem:
    """Gemm of integers whose last bit no float holds, in A, in B, in C or in the product alone.

    Numbers of the other matrix are small, so that no sum leaves the format.

    Raises:
        ValueError: The case names a place that is not known.
    """
    fmt = data.format_of(case, 0)
    rng = data.rng(case, context)
    m, k, n = _SHAPE
    place = str(case.parameters["place"])
    a, b, c = (_small(rng, shape, fmt) for shape in ((m, k), (k, n), (m, n)))
    match place:
        case "a":
            a = _large(rng, (m, k), fmt, 6)
        case "b":
            b = _large(rng, (k, n), fmt, 6)
        case "c":
            c = _large(rng, (m, n), fmt, 2)
        case "sum":
            a, b = (_large(rng, s, fmt, 4 + fmt.bits // 2) for s in ((m, k), (k, n)))
        case _:
            raise ValueError(f"{case.id}: place {place!r} is none of a, b, c, sum")

    def judge(a: Tensor, b: Tensor, c: Tensor | None) -> Expected:
        terms = a.integers[:, :, None] * b.integers[None, :, :]
        total = terms.sum(axis=1, dtype=np.int64)
        return expect_exact(from_integers(total if c is None else total + c.integers, fmt))

    operands = (from_integers(a, fmt), from_integers(b, fmt), from_integers(c, fmt))
    return _problem(operands, _attributes(case, 1.0, 1.0), judge)


def _small(rng: np.random.Generator, shape: tuple[int, ...], fmt: Format) -> NDArray[Any]:
    return rng.integers(-1 if fmt.is_signed else 0, 2, shape)


def _large(
    rng: np.random.Generator, shape: tuple[int, ...], fmt: Format, room: int
) -> NDArray[Any]:
    """Returns odd numbers of all but so many bits of the format, and of its sign."""
    top = 1 << (fmt.bits - room)
    return rng.integers(-top if fmt.is_signed else 0, top, shape) | 1


# -- what all share ----------------------------------------------------------------------------


def _whole(values: NDArray[Any], fmt: Format) -> Tensor:
    if not fmt.is_float and (values != np.rint(values)).any():
        raise ValueError("not whole numbers")
    return represent(values, fmt) if fmt.is_float else from_integers(values, fmt)


def _c_shape(name: str, m: int, n: int) -> tuple[int, ...] | None:
    """Returns the shape of C that broadcasts in the way of that name; ``none``: there is no C."""
    return {
        "none": None, "row": (n,), "column": (m, 1), "full": (m, n), "one": (), "ones": (1, 1),
        "item": (1,), "flat": (1, n),
    }[name]  # fmt: skip


def _attributes(case: Case, alpha: float, beta: float) -> dict[str, Any]:
    turned = {f"trans{side}": int(case.parameters.get(f"trans_{side.lower()}", 0)) for side in "AB"}
    return {"alpha": alpha, "beta": beta, **turned}


def _problem(
    operands: tuple[Tensor, Tensor, Tensor | None], attributes: dict[str, Any], judge: _Judge
) -> Problem:
    """Returns the problem of A and B as they are multiplied: operands are turned as is asked."""
    trans_a, trans_b = attributes["transA"], attributes["transB"]

    def make(a: Tensor, b: Tensor, c: Tensor | None) -> Problem:
        found = judge(_turned(a, trans_a), _turned(b, trans_b), c)
        if isinstance(found, Carried):
            return carried_problem("Gemm", (a, b, c), attributes, [found])
        return Problem(op="Gemm", operands=(a, b, c), attributes=attributes, oracle=always(found))

    def axes(a: Tensor, b: Tensor, c: Tensor | None) -> list[Axis]:
        return axes_of.gemm(a, b, c, trans_a, trans_b)

    a, b, c = operands
    return shrinkable(make, (_turned(a, trans_a), _turned(b, trans_b), c), axes)


def _turned(x: Tensor, transpose: int) -> Tensor:
    return Tensor(x.format, np.ascontiguousarray(x.codes.T)) if transpose else x
