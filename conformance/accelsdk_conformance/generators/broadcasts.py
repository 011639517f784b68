"""Operands of three to five dimensions that broadcast as the layers of models have it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from accelsdk.formats import Format
from accelsdk_conformance.case import Case
from accelsdk_conformance.generators import data, elementwise, select, whole
from accelsdk_conformance.oracles.tensor import Codes, Tensor
from accelsdk_conformance.problem import Context, Problem

Shape = tuple[int, ...]

#: Shapes of both operands. Extents differ, and leave a rest in vectors, but for `square` and
#: `cube`: there nothing tells a wrong axis but the values.
SHAPES: dict[str, tuple[Shape, Shape]] = {
    "bias": ((2, 5, 3, 7), (5, 1, 1)),
    "bias_rank4": ((2, 5, 3, 7), (1, 5, 1, 1)),
    "bias_first": ((1, 5, 1, 1), (2, 5, 3, 7)),
    "gate": ((2, 5, 3, 7), (2, 5, 1, 1)),
    "rows": ((2, 5, 3, 7), (2, 1, 3, 1)),
    "rows_first": ((2, 1, 3, 1), (2, 5, 3, 7)),
    "plane": ((2, 5, 3, 7), (3, 7)),
    "line": ((2, 5, 3, 7), (7,)),
    "items": ((3, 5, 2, 4), (3, 1, 1, 1)),
    "square": ((4, 4, 4, 4), (4, 1, 1)),
    "two_way": ((2, 1, 3, 1), (1, 5, 1, 7)),
    "two_way_ranks": ((5, 1, 7), (2, 1, 3, 1)),
    "mask": ((2, 3, 5, 7), (2, 1, 1, 7)),
    "tokens": ((3, 11, 13), (13,)),
    "places": ((3, 11, 13), (1, 11, 1)),
    "volume": ((2, 5, 3, 2, 3), (5, 1, 1, 1)),
    "volume_rows": ((2, 3, 2, 4, 3), (2, 1, 2, 1, 3)),
    "volume_two_way": ((2, 1, 3, 1, 4), (1, 5, 1, 2, 1)),
    "cube": ((3, 3, 3, 3, 3), (3, 1, 1)),
}
_FLOAT_LOGIC = frozenset({"Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"})


def binary(case: Case, context: Context) -> Problem:
    """Two operands of the shapes that a name stands for, of numbers that tell them apart.

    Raises:
        ValueError: The op's generator cannot make it of other operands.
    """
    fmt = data.format_of(case, 0)
    parameters = dict(case.parameters)
    first, second = SHAPES[str(parameters.pop("shape"))]
    made = _problem(replace(case, parameters={**parameters, "shape": "alias"}), context, fmt)
    codes = made.operands[0]
    if codes is None:
        raise ValueError(f"{made.op} has no first operand")
    rng = data.rng(case, context)
    parts = (_drawn(codes.codes, shape, rng) for shape in (first, second))
    return made.with_operands([Tensor(fmt, part) for part in parts])


def _problem(case: Case, context: Context, fmt: Format) -> Problem:
    if case.op in _FLOAT_LOGIC:
        return select.compare(case, context)
    if case.op in ("And", "Or", "Xor"):
        return whole.logic(case, context)
    return elementwise.binary(case, context) if fmt.is_float else whole.binary(case, context)


def _drawn(codes: Codes, shape: Shape, rng: np.random.Generator) -> Codes:
    """Returns codes of a shape: each is another as far as there are enough of them."""
    count = math.prod(shape)
    turns = [rng.permutation(codes.ravel()) for _ in range(-(-count // codes.size))]
    return np.concatenate(turns)[:count].reshape(shape)
