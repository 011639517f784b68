"""Pools over sliding windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from accelsdk.formats import INT64
from accelsdk.graph.families.sets import BYTES, FLOATS
from accelsdk.graph.families.spatial import (
    DILATIONS,
    PADS,
    STRIDES,
    check_window,
    window_extents,
)
from accelsdk.graph.graph import Node
from accelsdk.graph.opdef import (
    Call,
    Family,
    NumericsClass,
    OpDef,
    Work,
    flag,
    integers,
    operands,
    product,
    results,
    traffic,
)
from accelsdk.graph.types import TensorType

_WINDOW = (
    integers("kernel_shape", help="one per spatial axis"),
    STRIDES,
    PADS,
    DILATIONS,
    flag("ceil_mode", 0, "whether the last window may reach over the end"),
)


def _pooled(call: Call, x: TensorType) -> TensorType:
    kernel = call.ints("kernel_shape")
    call.check(x.rank == len(kernel) + 2, "rank", f"X is {x}, kernel_shape {kernel}")
    check_window(call, kernel)
    spatial = window_extents(call, x.shape[2:], kernel, bool(call.integer("ceil_mode")))
    return TensorType(x.format, (*x.shape[:2], *spatial))


def _max(call: Call) -> Sequence[TensorType]:
    x = call.operand(0)
    call.among(x, (*FLOATS, *BYTES))
    y = _pooled(call, x)
    return y, TensorType(INT64, y.shape)


def _average(call: Call) -> Sequence[TensorType]:
    x = call.operand(0)
    call.among(x, FLOATS)
    return (_pooled(call, x),)


def _work(node: Node) -> Work:
    taps = product(cast("tuple[int, ...]", node.attributes["kernel_shape"]))
    return Work(node.result.type.count * taps, traffic(node))


ROWS: tuple[OpDef, ...] = (
    OpDef(
        name="MaxPool",
        family=Family.REDUCTION,
        help="Maximum of each window, and its flat position in X",
        operands=operands("X"),
        results=results("Y Indices?"),
        attributes=(*_WINDOW, flag("storage_order", 0, "1: positions count columns first")),
        infer=_max,
        numerics=NumericsClass.EXACT,
        work=_work,
        formats="floats, int8, uint8; indices int64",
    ),
    OpDef(
        name="AveragePool",
        family=Family.REDUCTION,
        help="Mean of each window",
        operands=operands("X"),
        results=results("Y"),
        attributes=(*_WINDOW, flag("count_include_pad", 0, "whether padding counts as items")),
        infer=_average,
        numerics=NumericsClass.REDUCTION,
        work=_work,
        formats="floats",
    ),
)
