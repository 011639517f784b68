"""Ops that select: how much they give depends on the data, within a bound.

The type of a bounded result is its bound; what an execution makes is never larger along any
axis, and may be smaller along the one that `Result.help` names. See
docs/decisions/0011-bounded-outputs.md.
"""

from __future__ import annotations

from collections.abc import Sequence

from accelsdk.formats import BOOL, FLOAT32, INT64
from accelsdk.graph.families.sets import NUMBERS
from accelsdk.graph.graph import Node
from accelsdk.graph.opdef import (
    Call,
    Family,
    NumericsClass,
    OpDef,
    Result,
    Work,
    copied,
    flag,
    integer,
    operands,
    required,
    traffic,
)
from accelsdk.graph.types import TensorType

#: An intersection over union: four extremes, six differences, three products, one quotient.
_PAIR_OPERATIONS = 14


def _nonzero(call: Call) -> Sequence[TensorType]:
    x = call.operand(0)
    call.among(x, (*NUMBERS, BOOL))
    return (TensorType(INT64, (x.rank, x.count)),)


def _compress(call: Call) -> Sequence[TensorType]:
    x, condition = call.operand(0), call.operand(1)
    call.among(condition, (BOOL,), "condition")
    axis = call.axis(call.integer("axis"), x.rank)
    call.check(condition.rank == 1, "rank", f"condition is {condition}; it must be 1-D")
    length = condition.shape[0]
    call.check(
        length <= x.shape[axis],
        "shape",
        f"condition has {length} items; axis {axis} has {x.shape[axis]}",
    )
    return (TensorType(x.format, (*x.shape[:axis], length, *x.shape[axis + 1 :])),)


def _unique(call: Call) -> Sequence[TensorType]:
    x = call.operand(0)
    call.among(x, (*NUMBERS, BOOL))
    axis = call.axis(call.integer("axis"), x.rank)
    positions = TensorType(INT64, (x.shape[axis],))
    return (x, positions, positions, positions)


def _non_max_suppression(call: Call) -> Sequence[TensorType]:
    boxes, scores = call.operand(0), call.operand(1)
    call.among(boxes, (FLOAT32,), "boxes")
    call.among(scores, (FLOAT32,), "scores")
    call.check(
        boxes.rank == scores.rank == 3
        and boxes.shape[2] == 4
        and (boxes.shape[0], boxes.shape[1]) == (scores.shape[0], scores.shape[2]),
        "shape",
        f"boxes are {boxes} and scores {scores}; they must be [batch, boxes, 4] and "
        "[batch, classes, boxes]",
    )
    for index, what in ((2, "iou_threshold"), (3, "score_threshold")):
        threshold = call.optional(index)
        if threshold is not None:
            call.among(threshold, (FLOAT32,), what)
        call.has_shape(threshold, (), what)
    most = call.integer("max_output_boxes_per_class")
    call.check(most >= 0, "attribute", f"max_output_boxes_per_class is {most}")
    batches, classes, count = scores.shape
    return (TensorType(INT64, (batches * classes * min(most, count), 3)),)


def _sorting(node: Node) -> Work:
    x = required(node, 0)
    return Work(x.type.count * max(x.type.count, 2).bit_length(), traffic(node))


def _pairs(node: Node) -> Work:
    batches, classes, count = required(node, 1).shape
    selected = node.result.shape[0]
    lanes = max(batches * classes, 1)
    return Work(_PAIR_OPERATIONS * selected * count + lanes * count, traffic(node))


ROWS: tuple[OpDef, ...] = (
    OpDef(
        name="NonZero",
        family=Family.SELECTION,
        help="Indices of the elements that are not 0, a column each, in row-major order; a NaN "
        "is not 0",
        operands=operands("X"),
        results=(Result(name="Y", bounded=True, help="[rank, n]"),),
        infer=_nonzero,
        numerics=NumericsClass.EXACT,
        work=copied,
        formats="floats, integers, bool; int64 out",
    ),
    OpDef(
        name="Compress",
        family=Family.SELECTION,
        help="The slices along an axis whose condition is true; those past its end are left out",
        operands=operands("input condition"),
        results=(Result(name="output", bounded=True, help="shorter along axis"),),
        attributes=(integer("axis"),),
        infer=_compress,
        numerics=NumericsClass.EXACT,
        work=copied,
        formats="all; condition bool, 1-D",
    ),
    OpDef(
        name="Unique",
        family=Family.SELECTION,
        help="The different slices along an axis; where each occurs first; which one each slice "
        "of X is; how often each occurs. A NaN equals a NaN, and sorts last; -0 equals +0; of "
        "equal slices the first is given",
        operands=operands("X"),
        results=(
            Result(name="Y", bounded=True, help="shorter along axis"),
            Result(name="indices", optional=True, bounded=True, help="[n]"),
            Result(name="inverse_indices", optional=True, help="[extent of axis]"),
            Result(name="counts", optional=True, bounded=True, help="[n]"),
        ),
        attributes=(
            integer("axis"),
            flag("sorted", 1, "whether they ascend; else they are in order of occurrence"),
        ),
        infer=_unique,
        numerics=NumericsClass.EXACT,
        work=_sorting,
        formats="floats, integers, bool; positions and counts int64",
    ),
    OpDef(
        name="NonMaxSuppression",
        family=Family.SELECTION,
        help="Rows (batch, class, box): of each class the boxes of a score above the threshold, "
        "highest first (of equal scores the lower box), without those whose intersection over "
        "union with one already taken is above iou_threshold",
        operands=operands("boxes scores iou_threshold? score_threshold?"),
        results=(Result(name="selected_indices", bounded=True, help="[n, 3]"),),
        attributes=(
            integer("max_output_boxes_per_class", help="0 selects none"),
            integer(
                "center_point_box",
                0,
                "0: two opposite corners (y, x, y, x); 1: (x, y) of the centre, width, height",
                choices=(0, 1),
            ),
        ),
        infer=_non_max_suppression,
        numerics=NumericsClass.EXACT,
        work=_pairs,
        formats="float32 [batch, boxes, 4] and [batch, classes, boxes]; thresholds float32 "
        "scalars; int64 out",
    ),
)
