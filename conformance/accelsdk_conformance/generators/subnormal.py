"""Sums, products and choices of subnormal numbers: exact, unless they are declared flushed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from accelsdk.formats import Format
from accelsdk_conformance.case import Case
from accelsdk_conformance.generators import data
from accelsdk_conformance.generators.composite import claimed, flushes
from accelsdk_conformance.oracles.tensor import F64, Tensor, represent
from accelsdk_conformance.problem import (
    Context,
    NotApplicable,
    Problem,
    always,
    expect_exact,
    separate_axes,
    shrinkable,
)
from accelsdk_conformance.registry import generator

_ROWS = 12
_WINDOW = 3  # lanes of a pooling window
_OPS: Mapping[str, tuple[Callable[[F64], F64], dict[str, Any]]] = {
    "ReduceSum": (lambda x: x.sum(axis=-1), {"axes": (2,), "keepdims": 0}),
    "ReduceL1": (lambda x: np.abs(x).sum(axis=-1), {"axes": (2,), "keepdims": 0}),
    "ReduceMax": (lambda x: x.max(axis=-1), {"axes": (2,), "keepdims": 0}),
    "ReduceMin": (lambda x: x.min(axis=-1), {"axes": (2,), "keepdims": 0}),
    "CumSum": (lambda x: x.cumsum(axis=-1), {"axis": 2}),
    "MaxPool": (
        lambda x: x.reshape(*x.shape[:-1], -1, _WINDOW).max(axis=-1),
        {"kernel_shape": (_WINDOW,), "strides": (_WINDOW,), "pads": (0, 0), "dilations": (1,)},
    ),
}


def rows(case: Case, context: Context) -> Problem:
    """Rows of subnormal numbers, and rows of normal ones that leave a subnormal result.

    All are multiples of the least number, and their sums in any order are subnormal, too: no
    order rounds. Where the declaration flushes, operands may count as zeros, and results may be
    zeros.
    """
    fmt = data.format_of(case, 0)
    lanes = int(case.parameters["lanes"])
    flush = flushes(case.op, fmt, context.datasheet)
    claim = claimed(case.op, fmt, context.datasheet)
    apply, attributes = _OPS[case.op]
    drawn = represent(_drawn(fmt, lanes, data.rng(case, context))[None], fmt)

    def make(x: Tensor) -> Problem:
        exact = apply(x.values)
        legal = [exact]
        if flush:
            without = apply(_flushed(x.values, fmt))
            legal += [_flushed(exact, fmt), without, _flushed(without, fmt)]
        found, *others = (represent(values, fmt) for values in legal)
        expected = expect_exact(
            found, signed_zero=False, others=tuple(t.codes for t in others), claim=claim
        )
        return Problem(op=case.op, operands=(x,), attributes=attributes, oracle=always(expected))

    # A window loses no lanes: what is left would not fill it.
    axes = separate_axes if case.op != "MaxPool" else (lambda x: separate_axes(x)[:2])
    return shrinkable(make, (drawn,), axes)


def like(case: Case, context: Context) -> Problem:
    """Another generator's problem of small numbers, some operands times the least number.

    ``like`` names the generator, whose results must be proportional to what is scaled (or be
    indices); ``scaled`` are the operands, ``steps`` a further factor. Infinities, which decide
    too much, become numbers.

    Raises:
        NotApplicable: Subnormal numbers are declared flushed.
    """
    fmt = data.format_of(case, 0)
    if _declared_flushed(case, context):
        raise NotApplicable("subnormal numbers are declared flushed")
    made = generator(str(case.parameters["like"]))(case, context)
    scaled = set(case.parameters["scaled"])
    unit = fmt.smallest_subnormal * int(case.parameters.get("steps", 1))
    operands = tuple(
        represent(np.nan_to_num(tensor.values, nan=np.nan, posinf=2, neginf=-2) * unit, fmt)
        if tensor is not None and i in scaled
        else tensor
        for i, tensor in enumerate(made.operands)
    )
    return made.with_operands(operands)


def _declared_flushed(case: Case, context: Context) -> bool:
    fmt, sheet = data.format_of(case, 0), context.datasheet
    product = sheet.contraction(case.op, fmt.name, fmt.name, fmt.name)
    if product is not None:
        return "flush" in (product.subnormals_in, product.subnormals_out)
    return flushes(case.op, fmt, sheet)


def _drawn(fmt: Format, lanes: int, rng: np.random.Generator) -> F64:
    """Returns rows of whole multiples of the least number."""
    least, normal = fmt.smallest_subnormal, fmt.smallest_normal
    top = max(min(200, int(normal / least) // lanes - 1), 1)
    steps = rng.integers(-top, top + 1, (_ROWS, lanes)).astype(np.float64)
    steps[0], steps[1] = np.abs(steps[0]) + 1, -np.abs(steps[1]) - 1  # no zero, one sign
    steps[:2] = np.clip(steps[:2], -top, top)
    found = steps * least
    found[2:5] = 0.0
    if lanes > 1:
        for row, place in ((2, 0), (3, lanes // 2), (4, lanes - 1)):
            found[row, place] = normal
            found[row, place - 1] = 3 * least - normal
    return found


def _flushed(values: F64, fmt: Format) -> F64:
    return np.where(np.abs(values) < fmt.smallest_normal, 0.0, values)
