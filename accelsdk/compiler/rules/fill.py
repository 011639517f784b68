"""ConstantOfShape, Range and EyeLike: constants, once shapes are static."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.compiler.rules.common import (
    affordable,
    constant,
    integer,
    integers,
    refuse,
    required,
    rule,
    text,
)
from accelsdk.formats import FLOAT32, by_name
from accelsdk.graph.graph import Node
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import Value

#: NumPy's arrays have no more.
_MOST_AXES = 64
#: Larger results are made at run time by Expand, so that the program does not carry them.
_LARGEST = 4096


def _constant_of_shape(b: Builder, node: Node) -> Sequence[Value | None]:
    shape = integers(b, node, 0, "shape")
    if shape is None or any(extent < 0 for extent in shape) or len(shape) > _MOST_AXES:
        refuse(node, f"shape {shape} is not valid")
    number = node.attributes.get("value", 0.0)
    kind = by_name(str(node.attributes.get("value_format", FLOAT32.name)))
    if not isinstance(number, (bool, int, float)):
        refuse(node, f"value {number!r} is no number")
    if math.prod(shape) <= _LARGEST:
        return [b.constant(np.full(shape, np.array(number).astype(kind.dtype)), kind)]
    one = b.constant(np.array(number).astype(kind.dtype), kind)
    return [b.op("Expand", one, shape=shape)]


def _range(b: Builder, node: Node) -> Sequence[Value | None]:
    start, limit, delta = (
        constant(b, node, index, what) for index, what in enumerate(("start", "limit", "delta"))
    )
    if start is None or limit is None or delta is None:
        refuse(node, "it needs start, limit and delta")
    first, last, step = (array.reshape(()).item() for array in (start, limit, delta))
    if step == 0 or not all(map(math.isfinite, (first, last, step))):
        refuse(node, f"there is no range from {first} to {last} in steps of {step}")
    count = max(math.ceil((last - first) / step), 0)
    affordable(node, count)
    # ONNX defines element i as start + i * delta, in the operands' format.
    steps: NDArray[Any] = np.arange(count).astype(start.dtype)
    numbers = steps * np.asarray(step, start.dtype) + np.asarray(first, start.dtype)
    return [b.constant(numbers.astype(start.dtype))]


def _eye_like(b: Builder, node: Node) -> Sequence[Value | None]:
    x = required(node, 0)
    kind = by_name(text(node, "dtype", x.format.name))
    if x.type.rank != 2:
        refuse(node, f"its operand has rank {x.type.rank} instead of 2")
    affordable(node, *x.shape)
    k = integer(node, "k", 0)
    return [b.constant(np.eye(x.shape[0], x.shape[1], k=k).astype(kind.dtype), kind)]


RULES: tuple[LoweringRule, ...] = (
    rule("ConstantOfShape", _constant_of_shape, "value value_format"),
    rule("Range", _range, "stash_type"),
    rule("EyeLike", _eye_like, "dtype k"),
)
