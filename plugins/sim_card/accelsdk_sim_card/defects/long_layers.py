"""Defects of layers as large as models have them: recurrent layers, tables, images, windows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from accelsdk.formats import FLOAT16, INT8
from accelsdk.graph.graph import Node
from accelsdk.kernels.kernel import Kernel, integer, integers, real, reals, text
from accelsdk_sim_card.defects.defect import (
    Array,
    Bind,
    Defect,
    When,
    fmt_of,
    halves,
    is_op,
    longer,
    misread,
    nonempty,
    operands,
    results,
    rows,
    shape_of,
    with_attributes,
)
from accelsdk_sim_card.defects.tampering import coarse, flip, wrong_from, zeroed_from

if TYPE_CHECKING:
    from accelsdk_sim_card.arithmetic import Arithmetic

_LAYERS = ("LSTM", "GRU", "RNN")
_TABLES = ("SparseLengthsSum", "SparseLengthsSumFused")
_POOLS = ("MaxPool", "AveragePool")
_NAMES, _TABLE_NAMES, _POOL_NAMES = map(", ".join, (_LAYERS, _TABLES, _POOLS))


def _beyond(axis: int, count: int, *ops: str) -> Bind:
    """Returns the binding of ops whose longer results have a wrong bit after so many indices."""
    return results(wrong_from(axis, count), nonempty(longer(axis, count)), *ops)


def _steps_and_items(steps: int, items: int) -> Bind:
    """Returns the binding of layers with a wrong bit from a step, or from an item, on."""

    def change(y: Array, node: Node) -> Array:
        turned = y if integer(node, "layout") else y.transpose(2, 0, 1, 3)  # item, step, ...
        flip(slice(items, None), slice(steps, None))(turned, node)
        return y

    def long(node: Node) -> bool:
        first = integer(node, "layout")
        has_steps, has_items = (shape_of(node)[axis] for axis in ((1, 0) if first else (0, 1)))
        given = node.outputs[0] is not None
        return given and has_steps > steps and has_items > items and node.result.type.count > 0

    return results(change, long, *_LAYERS)


def _clipped(node: Node) -> bool:
    return halves(node) and real(node, "clip") > 0


def _both_ways(node: Node) -> bool:
    return is_op(node, *_LAYERS) and text(node, "direction") == "bidirectional"


def _functions_of_first(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """The second direction has the functions of the first, each with the factors of its own."""
    names = node.attributes.get("activations") if _both_ways(node) else ()
    if not isinstance(names, tuple) or not names:
        return None
    first, second = names[: len(names) // 2], names[len(names) // 2 :]
    if first == second:
        return None
    return arithmetic.sound(with_attributes(node, activations=(*first, *first)))


def _factors_of_first(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """The functions of the second direction take the factors of the first one's."""
    if not _both_ways(node):
        return None
    changed = {}
    for name in ("activation_alpha", "activation_beta"):
        given = reals(node, name)
        if len(given) > 1:
            changed[name] = tuple(given[i % (len(given) // 2)] for i in range(len(given)))
    if all(reals(node, name) == now for name, now in changed.items()):
        return None
    return arithmetic.sound(with_attributes(node, **changed))


def _bag_longer(count: int) -> Bind:
    """Returns the binding of look-ups whose longer bags end after as many items."""

    def change(found: list[Any], node: Node) -> None:
        indices, lengths = found[1], found[2].astype(np.int64)
        owner = np.repeat(np.arange(len(lengths)), lengths)
        rank = np.arange(len(owner)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        keep = rank < count
        found[1] = indices[: len(owner)][keep]
        found[2] = np.bincount(owner[keep], minlength=len(lengths)).astype(found[2].dtype)
        if len(found) > 3 and found[3] is not None:
            found[3] = found[3][: len(owner)][keep]

    return operands(change, lambda node: shape_of(node, 1)[0] > count, *_TABLES)


def _wrapped(y: Array, node: Node) -> Array:
    """Results at the upper end of the range are those that have just wrapped."""
    ends = np.iinfo(y.dtype)
    return np.where(y == ends.max, ends.min, y).astype(y.dtype)


def _symmetric(y: Array, node: Node) -> Array:
    ends = np.iinfo(y.dtype)
    return np.where(y == ends.min, ends.min + 1, y).astype(y.dtype)


def _cubic_codes(node: Node) -> bool:
    fmt = fmt_of(node)
    return fmt is not None and fmt.is_integer and text(node, "mode") == "cubic"


def _signed_weighted(node: Node) -> bool:
    fmt = fmt_of(node)
    return fmt is INT8 and text(node, "mode") != "nearest"


def _taps(least: int) -> When:
    def when(node: Node) -> bool:
        return math.prod(integers(node, "kernel_shape")) > least and node.result.type.count > 0

    return when


def _line(least: int) -> When:
    def when(node: Node) -> bool:
        return max(integers(node, "kernel_shape")) > least and node.result.type.count > 0

    return when


def _far_strides(node: Node) -> bool:
    return max(integers(node, "strides")) > 15 and node.result.type.count > 0


def _half_sums(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """Windows are summed in float16: what lies beyond it is infinite."""
    if not is_op(node, "AveragePool") or fmt_of(node) is not FLOAT16:
        return None
    kernel, taps = arithmetic.sound(node), math.prod(integers(node, "kernel_shape"))

    def broken(x: Array) -> tuple[Array, ...]:
        (y,) = kernel(x)
        sums = y.astype(np.float64) * taps
        return (np.where(np.abs(sums) > FLOAT16.max, np.copysign(np.inf, y), y).astype(y.dtype),)

    return broken


def _numbers_place(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """The position of a maximum that is NaN is that of the largest number."""
    fmt = fmt_of(node)
    if not is_op(node, "MaxPool") or len(node.outputs) < 2 or fmt is None or not fmt.is_float:
        return None
    kernel = arithmetic.sound(node)

    def broken(x: Array) -> tuple[Array, ...]:
        y, place = kernel(x)
        _, other = kernel(np.where(np.isnan(x), x.dtype.type(-np.inf), x))
        return y, np.where(np.isnan(y), other, place)

    return broken


_row = rows("")

DEFECTS: tuple[Defect, ...] = (
    _row(
        "recurrent_features",
        "features after the 16th are ignored",
        _NAMES,
        "a tile of K that is loaded once",
        operands(zeroed_from(0, -1, 16), longer(-1, 16, 0), *_LAYERS),
    ),
    _row(
        "recurrent_features_wide",
        "features after the 128th are ignored",
        _NAMES,
        "a line of on-chip memory that is loaded once",
        operands(zeroed_from(0, -1, 128), longer(-1, 128, 0), *_LAYERS),
    ),
    _row(
        "recurrent_units",
        "one bit of the hidden units after the 32nd is wrong",
        _NAMES,
        "a tile of N that is stored once",
        _beyond(-1, 32, *_LAYERS),
    ),
    _row(
        "recurrent_state_units",
        "units of the state after the 64th do not count for the next step",
        _NAMES,
        "a recurrent product whose K is that of a tile",
        operands(zeroed_from(2, -1, 64), lambda node: integer(node, "hidden_size") > 64, *_LAYERS),
    ),
    _row(
        "recurrent_items",
        "one bit of the items of a batch after the 8th is wrong",
        _NAMES,
        "a tile of rows that is handled once",
        _steps_and_items(0, 8),
    ),
    _row(
        "recurrent_items_many",
        "one bit of the items of a batch after the 32nd is wrong",
        _NAMES,
        "a tile of rows that is handled once",
        _steps_and_items(0, 32),
    ),
    _row(
        "recurrent_steps",
        "one bit of the steps after the 16th is wrong",
        _NAMES,
        "a loop that was unrolled as often as the test needed",
        _steps_and_items(16, 0),
    ),
    _row(
        "recurrent_steps_many",
        "one bit of the steps after the 64th is wrong",
        _NAMES,
        "a ring of buffers that is too short",
        _steps_and_items(64, 0),
    ),
    _row(
        "recurrent_clip_coarse",
        "the limit of activation inputs is held in bfloat16",
        _NAMES,
        "constants of 16 bits",
        coarse("clip", *_LAYERS),
    ),
    _row(
        "recurrent_clip_halves",
        "activation inputs are not limited",
        f"{_NAMES} on float16 and bfloat16",
        "an attribute that one of two kernels reads",
        misread(*_LAYERS, when=_clipped, clip=0.0),
    ),
    _row(
        "recurrent_second_functions",
        "the second direction has the activations of the first",
        f"{_NAMES}, bidirectional",
        "one table of functions for both directions",
        _functions_of_first,
    ),
    _row(
        "recurrent_second_factors",
        "the activations of the second direction take the factors of the first",
        f"{_NAMES}, bidirectional",
        "factors that are counted anew for each direction",
        _factors_of_first,
    ),
    _row(
        "embedding_wide_rows",
        "one bit of the columns after the 131st is wrong",
        _TABLE_NAMES,
        "rows that are longer than a burst",
        _beyond(1, 131, *_TABLES),
    ),
    _row(
        "embedding_widest_rows",
        "one bit of the columns after the 1024th is wrong",
        _TABLE_NAMES,
        "as many columns as a block has threads",
        _beyond(1, 1024, *_TABLES),
    ),
    _row(
        "embedding_many_bags",
        "one bit of the bags after the 128th is wrong",
        _TABLE_NAMES,
        "a counter of seven bits",
        _beyond(0, 128, *_TABLES),
    ),
    _row(
        "embedding_long_bags",
        "bags end after 512 items",
        _TABLE_NAMES,
        "a list of indices that is held on chip",
        _bag_longer(512),
    ),
    _row(
        "resize_wraps",
        "results above the highest number are the lowest",
        "Resize on int8 and uint8, cubic",
        "a conversion that does not saturate",
        results(_wrapped, _cubic_codes, "Resize"),
    ),
    _row(
        "resize_symmetric",
        "results below -127 are -127",
        "Resize on int8, linear and cubic",
        "saturation to a symmetric range",
        results(_symmetric, _signed_weighted, "Resize"),
    ),
    _row(
        "resize_columns",
        "one bit of the columns after the 128th is wrong",
        "Resize",
        "a table of weights that is too short",
        _beyond(-1, 128, "Resize"),
    ),
    _row(
        "resize_rows",
        "one bit of the rows after the 128th is wrong",
        "Resize",
        "a table of weights that is too short",
        _beyond(-2, 128, "Resize"),
    ),
    _row(
        "resize_channels",
        "one bit of the channels after the 128th is wrong",
        "Resize",
        "a channel tile that is handled once",
        _beyond(1, 128, "Resize"),
    ),
    _row(
        "resize_batch",
        "one bit of the items of a batch after the 16th is wrong",
        "Resize",
        "an index that runs over a fixed number of planes",
        _beyond(0, 16, "Resize"),
    ),
    _row(
        "pool_taps",
        "one bit of the last column is wrong where a window has more than 32 taps",
        _POOL_NAMES,
        "a window that is held in registers",
        results(wrong_from(-1, -1), _taps(32), *_POOLS),
    ),
    _row(
        "pool_taps_many",
        "one bit of the last column is wrong where a window has more than 256 taps",
        _POOL_NAMES,
        "a counter of eight bits",
        results(wrong_from(-1, -1), _taps(256), *_POOLS),
    ),
    _row(
        "pool_long_window",
        "one bit of the last column is wrong where a window is longer than 64",
        _POOL_NAMES,
        "a line buffer that is too short",
        results(wrong_from(-1, -1), _line(64), *_POOLS),
    ),
    _row(
        "pool_far_strides",
        "one bit of the last column is wrong where a stride is greater than 15",
        _POOL_NAMES,
        "a field of four bits",
        results(wrong_from(-1, -1), _far_strides, *_POOLS),
    ),
    _row(
        "pool_half_sums",
        "windows whose sum lies beyond float16 have an infinite mean",
        "AveragePool on float16",
        "a sum in the format of the data",
        _half_sums,
    ),
    _row(
        "maxpool_place_of_nan",
        "the position of a maximum that is NaN is that of the largest number",
        "MaxPool on floats, with Indices",
        "a search with >, which NaN never passes",
        _numbers_place,
    ),
)
