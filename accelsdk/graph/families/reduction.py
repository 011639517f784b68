"""Reductions, positions of extremes, running sums and the largest items."""

from __future__ import annotations

from collections.abc import Sequence

from accelsdk.formats import BOOL, INT64, Format
from accelsdk.graph.families.sets import NUMBERS, SUMMABLE
from accelsdk.graph.opdef import (
    Call,
    Family,
    InferRule,
    NumericsClass,
    OpDef,
    flag,
    integer,
    integers,
    operands,
    per_operand,
    results,
)
from accelsdk.graph.types import Shape, TensorType

#: Attributes of every reduction. Empty axes reduce nothing: the importer makes them explicit.
AXES = (integers("axes", help="axes to reduce; () reduces none"), flag("keepdims", 1))


def reduced(call: Call, shape: Shape) -> Shape:
    """Returns the shape after reducing the axes of a call."""
    axes = call.axes("axes", len(shape))
    if call.integer("keepdims"):
        return tuple(1 if i in axes else extent for i, extent in enumerate(shape))
    return tuple(extent for i, extent in enumerate(shape) if i not in axes)


def reduction(formats: Sequence[Format]) -> InferRule:
    """Returns the rule of a reduction over ``axes`` that keeps the format."""

    def infer(call: Call) -> Sequence[TensorType]:
        x = call.operand(0)
        call.among(x, formats)
        return (TensorType(x.format, reduced(call, x.shape)),)

    return infer


def _arg(call: Call) -> Sequence[TensorType]:
    x = call.operand(0)
    call.among(x, NUMBERS)
    axis = call.axis(call.integer("axis"), x.rank)
    call.check(x.shape[axis] > 0, "shape", f"axis {axis} is empty: it has no extreme")
    kept = (1,) if call.integer("keepdims") else ()
    return (TensorType(INT64, (*x.shape[:axis], *kept, *x.shape[axis + 1 :])),)


def _cumsum(call: Call) -> Sequence[TensorType]:
    x = call.operand(0)
    call.among(x, SUMMABLE)
    call.axis(call.integer("axis"), x.rank)
    return (x,)


def _topk(call: Call) -> Sequence[TensorType]:
    x, k = call.operand(0), call.integer("k")
    call.among(x, NUMBERS)
    axis = call.axis(call.integer("axis"), x.rank)
    call.check(0 <= k <= x.shape[axis], "shape", f"k is {k}; axis {axis} has {x.shape[axis]}")
    shape = (*x.shape[:axis], k, *x.shape[axis + 1 :])
    return TensorType(x.format, shape), TensorType(INT64, shape)


def _reduce(name: str, formats: Sequence[Format], numerics: NumericsClass, help: str) -> OpDef:
    return OpDef(
        name=name,
        family=Family.REDUCTION,
        help=help,
        operands=operands("data"),
        results=results("reduced"),
        attributes=AXES,
        infer=reduction(formats),
        numerics=numerics,
        work=per_operand(),
        formats="floats, 32- and 64-bit integers"
        if formats is SUMMABLE
        else "floats, integers, bool",
    )


def _arg_row(name: str, help: str) -> OpDef:
    return OpDef(
        name=name,
        family=Family.REDUCTION,
        help=help,
        operands=operands("data"),
        results=results("reduced"),
        attributes=(
            integer("axis", 0),
            flag("keepdims", 1),
            flag("select_last_index", 0, "which of equal extremes"),
        ),
        infer=_arg,
        numerics=NumericsClass.EXACT,
        work=per_operand(),
        formats="floats, integers; int64 out",
    )


ROWS: tuple[OpDef, ...] = (
    _reduce("ReduceSum", SUMMABLE, NumericsClass.REDUCTION, "Sum; of nothing, 0"),
    _reduce("ReduceProd", SUMMABLE, NumericsClass.REDUCTION, "Product; of nothing, 1"),
    _reduce(
        "ReduceMax", (*NUMBERS, BOOL), NumericsClass.EXACT, "Maximum; of nothing, -Inf or lowest"
    ),
    _reduce(
        "ReduceMin", (*NUMBERS, BOOL), NumericsClass.EXACT, "Minimum; of nothing, +Inf or highest"
    ),
    _arg_row("ArgMax", "Position of the maximum along an axis"),
    _arg_row("ArgMin", "Position of the minimum along an axis"),
    OpDef(
        name="CumSum",
        family=Family.REDUCTION,
        help="Running sum along an axis",
        operands=operands("x"),
        results=results("y"),
        attributes=(
            integer("axis"),
            flag("exclusive", 0, "whether an item is left out of its own sum"),
            flag("reverse", 0, "whether it runs from the end"),
        ),
        infer=_cumsum,
        numerics=NumericsClass.REDUCTION,
        work=per_operand(),
        formats="floats, 32- and 64-bit integers",
    ),
    OpDef(
        name="TopK",
        family=Family.REDUCTION,
        help="The k largest (or smallest) items along an axis and their positions; of equal "
        "items the lower position comes first",
        operands=operands("X"),
        results=results("Values Indices"),
        attributes=(integer("k"), integer("axis", -1), flag("largest", 1), flag("sorted", 1)),
        infer=_topk,
        numerics=NumericsClass.EXACT,
        work=per_operand(),
        formats="floats, integers; indices int64",
    ),
)
