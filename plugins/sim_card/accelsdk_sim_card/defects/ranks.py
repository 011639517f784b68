"""Defects at ranks and axes that few models have, and of integers that leave a float or a sign."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from accelsdk.formats import INT32, INT64, UINT32, UINT64, Format
from accelsdk.graph.graph import Node
from accelsdk.kernels.kernel import Kernel, axis_of, integer, integers, text
from accelsdk_sim_card.defects.defect import (
    Array,
    Bind,
    Defect,
    When,
    floats,
    fmt_of,
    is_op,
    last_wrong,
    misread,
    of_format,
    operands,
    results,
    rows,
    shape_of,
    unsigned,
)
from accelsdk_sim_card.defects.tampering import integers_through

if TYPE_CHECKING:
    from accelsdk_sim_card.arithmetic import Arithmetic

_SCATTERS = ("ScatterElements", "ScatterND")
_REDUCTIONS = ("ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceSumSquare")
_REDUCED = ", ".join(_REDUCTIONS)
_MOVED = ("Transpose", "Split", "Slice", "Gather", "Expand", "Tile", "Pad")
_LONG_PART = 16
_LAYOUTS = {(0, 3, 1, 2), (0, 2, 3, 1)}


# -- ranks and axes ----------------------------------------------------------------------------


def _rank(node: Node) -> int:
    return len(shape_of(node))


def _of_rank(*ranks: int) -> When:
    """Concerns nodes whose first operand has one of some ranks."""
    return lambda node: _rank(node) in ranks


def _wrong(when: When, *ops: str) -> Bind:
    """Returns the binding of ops whose results end wrongly."""
    return results(last_wrong, when, *ops)


def _middle(node: Node) -> bool:
    """Concerns axes that are neither the first nor the last."""
    return 0 < axis_of(node) < _rank(node) - 1


def _layout(node: Node) -> bool:
    """Concerns changes between channels last and channels first, and every order of five axes."""
    return _rank(node) == 5 or integers(node, "perm") in _LAYOUTS


def _long_parts(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """The first part of a split ends wrongly where some part is long."""
    if not is_op(node, "Split") or max(integers(node, "split"), default=0) <= _LONG_PART:
        return None
    kernel = arithmetic.sound(node)

    def broken(x: Array) -> tuple[Array, ...]:
        first, *rest = kernel(x)
        return (last_wrong(np.array(first), node), *rest)

    return broken


def _swapped_rows(y: Array, node: Node) -> Array:
    """The rows of indices stand in the order of a column-major tensor."""
    return y[::-1].copy()


def _prefix(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """Slices are compared by their first 16 elements."""
    if not is_op(node, "Unique") or len(node.outputs) < 2 or _rank(node) < 2:
        return None
    kernel, axis = arithmetic.sound(node), axis_of(node)

    def broken(x: Array) -> tuple[Array, ...]:
        lines = np.moveaxis(x, axis, 0)
        cut = np.array(lines).reshape(len(lines), -1)
        cut[:, 16:] = np.zeros(1, x.dtype)
        given = np.moveaxis(cut.reshape(lines.shape), 0, axis)
        _, *rest = kernel(np.ascontiguousarray(given))
        return (x.take(rest[0], axis=axis), *rest)

    return broken


# -- integers and NaN --------------------------------------------------------------------------


def _extreme(node: Node) -> bool:
    return text(node, "reduction") in ("max", "min")


def _nan_updates(found: list[Any], node: Node) -> None:
    """A NaN loses against every number."""
    worst = -np.inf if text(node, "reduction") == "max" else np.inf
    given = found[2]
    found[2] = np.where(np.isnan(given), given.dtype.type(worst), given)


def _finite_updates(found: list[Any], node: Node) -> None:
    """An infinite update is dropped."""
    given = found[2]
    found[2] = np.where(np.isinf(given), given.dtype.type(0), given)


def _as_signed(*ops: str, when: When = unsigned) -> Bind:
    """Returns the binding of ops that take the highest bit of unsigned integers for a sign."""

    def bind(node: Node, arithmetic: Arithmetic) -> Kernel | None:
        fmt: Format | None = fmt_of(node)
        if not is_op(node, *ops) or fmt is None or not unsigned(node) or not when(node):
            return None
        kernel, dtype = arithmetic.sound(node), fmt.dtype
        top = np.array(1 << (fmt.bits - 1), dtype)

        def turned(x: Array | None) -> Array | None:
            return x ^ top if x is not None and x.dtype == dtype else x

        def broken(*given: Array | None) -> tuple[Array, ...]:
            found = kernel(*map(turned, given))
            return tuple(y ^ top if y.dtype == dtype else y for y in found)

        return broken

    return bind


def _low_halves(found: list[Any], node: Node) -> None:
    """Of 64-bit integers the lower half alone is looked at."""
    found[0] = found[0] & found[0].dtype.type(0xFFFFFFFF)


_WIDE = of_format(INT64, UINT64)
_SINGLE = of_format(INT32, UINT32)

_row = rows("")

DEFECTS: tuple[Defect, ...] = (
    *(
        _row(
            f"{op.lower()}_four_axes",
            "the last element is wrong where the data have four axes or more",
            f"{op} of rank 4 to 6",
            "a path of its own for many axes",
            _wrong(_of_rank(4, 5, 6), op),
        )
        for op in ("Slice", "Concat", "Pad", "Gather")
    ),
    _row(
        "pad_mode_four_axes",
        "edges are written instead of reflections where there are four axes or more",
        "Pad, reflect, of rank 4 to 6",
        "a mode that only the path of few axes knows",
        misread(
            "Pad",
            when=lambda node: _rank(node) >= 4 and text(node, "mode") == "reflect",
            mode="edge",
        ),
    ),
    _row(
        "gather_elements_five_axes",
        "the last element is wrong where there are five axes or more",
        "GatherElements and ScatterElements of rank 5 and 6",
        "strides kept in four registers",
        _wrong(_of_rank(5, 6), "GatherElements", "ScatterElements"),
    ),
    _row(
        "gather_nd_batches",
        "the last element is wrong where four axes or more have batches",
        "GatherND of rank 4 to 6, batch_dims",
        "a path of its own for many axes",
        _wrong(lambda node: _rank(node) >= 4 and integer(node, "batch_dims") > 0, "GatherND"),
    ),
    _row(
        "expand_four_axes",
        "the last element is wrong where the result has four axes or more",
        "Expand to rank 4 to 6",
        "a path of its own for many axes",
        _wrong(lambda node: len(node.result.shape) >= 4, "Expand"),
    ),
    _row(
        "tile_ranks",
        "the last element is wrong of three axes, or of five and more",
        "Tile of rank 3, 5 and 6",
        "only matrices and images were tried",
        _wrong(_of_rank(3, 5, 6), "Tile"),
    ),
    _row(
        "tile_long_rows",
        "the last element is wrong where rows have more than 16 items",
        "Tile",
        "a row that is longer than a vector",
        _wrong(lambda node: shape_of(node)[-1:] > (16,), "Tile"),
    ),
    _row(
        "split_long_parts",
        "the first part ends wrongly where a part has more than 16 items",
        "Split",
        "a part that is longer than a vector",
        _long_parts,
    ),
    _row(
        "transpose_layouts",
        "the last element is wrong between channels first and channels last",
        "Transpose by (0, 3, 1, 2) and (0, 2, 3, 1), and of rank 5",
        "a fast path of its own for layouts",
        _wrong(_layout, "Transpose"),
    ),
    _row(
        "transpose_six_axes",
        "the last element is wrong where there are six axes",
        "Transpose of rank 6",
        "strides kept in five registers",
        _wrong(lambda node: _rank(node) == 6, "Transpose"),
    ),
    _row(
        "topk_three_axes",
        "the last value is wrong where there are three axes or more",
        "TopK of rank 3 to 6",
        "rows that are taken for those of a matrix",
        _wrong(_of_rank(3, 4, 5, 6), "TopK"),
    ),
    _row(
        "topk_middle_axis",
        "the last value is wrong along an axis in the middle",
        "TopK",
        "strided lines that are not gathered first",
        _wrong(_middle, "TopK"),
    ),
    _row(
        "cumsum_ranks",
        "the last sum is wrong unless there are three axes",
        "CumSum of rank 1, 2 and 4 to 6",
        "only batches of matrices were tried",
        _wrong(_of_rank(1, 2, 4, 5, 6), "CumSum"),
    ),
    _row(
        "reduce_four_axes",
        "the last result is wrong of four and five axes",
        f"{_REDUCED} of rank 4 and 5",
        "a path of its own for many axes",
        _wrong(_of_rank(4, 5), *_REDUCTIONS),
    ),
    _row(
        "position_four_axes",
        "the last position is wrong of four axes and more",
        "ArgMax and ArgMin of rank 4 to 6",
        "a path of its own for many axes",
        _wrong(_of_rank(4, 5, 6), "ArgMax", "ArgMin"),
    ),
    _row(
        "unique_three_axes",
        "the last value is wrong of three axes and more",
        "Unique along an axis, of rank 3 to 6",
        "slices that are taken for rows of a matrix",
        _wrong(_of_rank(3, 4, 5, 6), "Unique"),
    ),
    _row(
        "unique_prefix",
        "slices are compared by their first 16 elements",
        "Unique along an axis",
        "a key of one vector",
        _prefix,
    ),
    _row(
        "nonzero_four_axes",
        "the indices of the axes come in reverse order of four axes and more",
        "NonZero of rank 4 to 6",
        "column-major order in the path for many axes",
        results(_swapped_rows, _of_rank(4, 5, 6), "NonZero"),
    ),
    _row(
        "compress_ranks",
        "the last element is wrong unless there are three axes",
        "Compress of rank 1, 2 and 4 to 6",
        "only batches of matrices were tried",
        _wrong(_of_rank(1, 2, 4, 5, 6), "Compress"),
    ),
    _row(
        "scatter_nan_lost",
        "NaN updates lose against numbers",
        "ScatterElements and ScatterND, max and min, on floats",
        "an atomic maximum that compares",
        operands(_nan_updates, lambda node: floats(node) and _extreme(node), *_SCATTERS),
    ),
    _row(
        "scatter_infinite_dropped",
        "an infinite update counts as zero",
        "ScatterElements and ScatterND, add, on floats",
        "fixed-point atomics",
        operands(
            _finite_updates,
            lambda node: floats(node) and text(node, "reduction") == "add",
            *_SCATTERS,
        ),
    ),
    _row(
        "scatter_signed",
        "unsigned updates are compared as signed ones",
        "ScatterElements and ScatterND, max and min, on unsigned integers",
        "one instruction for both kinds",
        _as_signed(*_SCATTERS, when=_extreme),
    ),
    _row(
        "unique_signed",
        "unsigned items are sorted as signed ones",
        "Unique on unsigned integers",
        "one instruction for both kinds",
        _as_signed("Unique"),
    ),
    _row(
        "position_signed",
        "unsigned items are compared as signed ones",
        "ArgMax, ArgMin and TopK on unsigned integers",
        "one instruction for both kinds",
        _as_signed("ArgMax", "ArgMin", "TopK"),
    ),
    _row(
        "scatter_double",
        "data and updates of 64 bits pass through a double",
        "ScatterElements and ScatterND on int64 and uint64",
        "float units for all arithmetic",
        operands(integers_through(np.float64, 0, 2), _WIDE, *_SCATTERS),
    ),
    _row(
        "scatter_merge_single",
        "data of 32 bits pass through a float32 where updates are merged",
        "ScatterElements and ScatterND, add, mul, max and min, on int32 and uint32",
        "float units for all arithmetic",
        operands(
            integers_through(np.float32, 0, 2),
            lambda node: _SINGLE(node) and text(node, "reduction") != "none",
            *_SCATTERS,
        ),
    ),
    _row(
        "reduce_double",
        "numbers of 64 bits pass through a double",
        "ReduceL1, ReduceSumSquare and ReduceProd on int64 and uint64",
        "float units for all arithmetic",
        operands(integers_through(np.float64), _WIDE, "ReduceL1", "ReduceSumSquare", "ReduceProd"),
    ),
    _row(
        "reduce_single",
        "numbers of 32 bits pass through a float32",
        f"{_REDUCED} on int32 and uint32",
        "float units for all arithmetic",
        operands(integers_through(np.float32), _SINGLE, *_REDUCTIONS),
    ),
    _row(
        "move_double",
        "integers of 64 bits pass through a double",
        "Transpose, Split, Slice, Gather, Expand, Tile and Pad on int64 and uint64",
        "a copy by way of the float unit",
        operands(integers_through(np.float64, 0), _WIDE, *_MOVED),
    ),
    _row(
        "unique_double",
        "numbers of 64 bits pass through a double",
        "Unique on int64 and uint64",
        "float units for all arithmetic",
        operands(integers_through(np.float64), _WIDE, "Unique"),
    ),
    _row(
        "nonzero_low_word",
        "of 64 bits the lower 32 alone are looked at",
        "NonZero on int64 and uint64",
        "a test of one register of two",
        operands(_low_halves, _WIDE, "NonZero"),
    ),
)
