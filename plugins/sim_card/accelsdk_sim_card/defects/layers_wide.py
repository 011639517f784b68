"""Defects of composites that show at the extents, ranks and attributes of models alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from accelsdk.formats import INT32, INT64, UINT32, UINT64
from accelsdk.graph.graph import Node
from accelsdk.kernels.kernel import Kernel, integer
from accelsdk_sim_card.defects.defect import (
    Array,
    Defect,
    Tamper,
    When,
    fmt_of,
    is_op,
    last_wrong,
    longer,
    nonempty,
    of_format,
    operands,
    ranked,
    results,
    rows,
    shape_of,
    with_attributes,
)
from accelsdk_sim_card.defects.tampering import coarse, integers_through, wrong_from, zeroed_from

if TYPE_CHECKING:
    from accelsdk_sim_card.arithmetic import Arithmetic

_PER_CHANNEL = ("BatchNormalization", "InstanceNormalization", "GroupNormalization")
_PER_ROW = ("LayerNormalization", "RMSNormalization")
_STEPS = (
    *("ReduceMean", "ReduceL1", "ReduceL2"),
    *("ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp"),
)


def _first_along(*axes: int) -> Tamper:
    """Returns the change of a mask that is read from the first place of some axes."""

    def change(found: list[Any], node: Node) -> None:
        first = found[3]
        for axis in axes:
            first = first.take([0], axis=axis)
        found[3] = np.broadcast_to(first, found[3].shape)

    return change


def _mask_of(test: Callable[[tuple[int, ...]], bool]) -> When:
    return lambda node: node.operand(3) is not None and test(shape_of(node, 3))


def _items_alone(mask: tuple[int, ...]) -> bool:
    return len(mask) == 4 and mask[0] > 1 and mask[1] == 1


def _heads_first(found: list[Any], node: Node) -> None:
    """A mask of three axes is read as if the first of them were the items."""
    mask, items = found[3], shape_of(node)[0]
    found[3] = mask[np.arange(items) % mask.shape[0]][:, None]


def _next_group(found: list[Any], node: Node) -> None:
    """The groups of heads of Q have the heads of keys from last to first."""
    found[1], found[2] = found[1][:, ::-1], found[2][:, ::-1]


def _grouped(node: Node) -> bool:
    heads, groups = shape_of(node)[1], shape_of(node, 1)[1]
    return 1 < groups < heads


def _rotated_c(found: list[Any], node: Node) -> None:
    found[2] = np.roll(found[2], 1, axis=1)


def _c_of_first_column(found: list[Any], node: Node) -> None:
    """One number is added to the first column alone."""
    row = np.zeros(node.result.shape[1], found[2].dtype)
    row[0] = found[2].reshape(-1)[0]
    found[2] = row


def _c_shape(test: Callable[[tuple[int, ...]], bool]) -> When:
    return lambda node: (
        node.operand(2) is not None and test(shape_of(node, 2)) and node.result.shape[1] > 1
    )


def _sum_through(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """The product, before C is added, goes through float64."""
    if not is_op(node, "Gemm") or fmt_of(node) not in (INT64, UINT64):
        return None
    trans_a, trans_b = integer(node, "transA"), integer(node, "transB")
    kernel = arithmetic.sound(node)

    def rounded(a: Array, b: Array, c: Array | None = None) -> tuple[Array, ...]:
        (y,) = kernel(a, b, c)
        left, right = (a.T if trans_a else a), (b.T if trans_b else b)
        exact = left @ right
        near = np.abs(exact.astype(np.float64)) < 2.0**62
        wide = np.where(near, exact, 0).astype(np.float64).astype(y.dtype)
        return (np.where(near, y - exact + wide, y),)

    return rounded


def _places(node: Node) -> int:
    """Returns the numbers that are normalised together."""
    shape = shape_of(node)
    groups = integer(node, "num_groups") if is_op(node, "GroupNormalization") else shape[1]
    return math.prod(shape[1:]) // max(groups, 1)


def _many_rows(node: Node) -> bool:
    shape = shape_of(node)
    return len(shape) > 2 and math.prod(shape[:-1]) > 64


def _fewer_groups(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """At most 32 groups are told apart; more of them are taken three at a time."""
    if not is_op(node, "GroupNormalization"):
        return None
    groups = integer(node, "num_groups")
    if groups <= 32 or groups % 3:
        return None
    return arithmetic.sound(with_attributes(node, num_groups=groups // 3))


_row = rows("")

DEFECTS: tuple[Defect, ...] = (
    _row(
        "attention_mask_item",
        "a mask of each item that the heads share is always that of the first item",
        "Attention with a mask of [items, 1, queries, keys]",
        "a stride of zero for every axis before the heads",
        operands(_first_along(0), _mask_of(_items_alone), "Attention"),
    ),
    _row(
        "attention_mask_rank",
        "the last result is wrong unless the mask has two or four axes",
        "Attention with a mask of 0, 1 or 3 axes",
        "kernels for the usual ranks alone",
        results(last_wrong, _mask_of(lambda mask: len(mask) in (0, 1, 3)), "Attention"),
    ),
    _row(
        "attention_mask_heads_first",
        "a mask of three axes is one of each item, not of each head",
        "Attention with a mask of [heads, queries, keys]",
        "the layout of torch's masks of batched attention",
        operands(_heads_first, _mask_of(lambda mask: len(mask) == 3 and mask[0] > 1), "Attention"),
    ),
    _row(
        "attention_mask_query",
        "a mask of each query that all keys share is always that of the first query",
        "Attention with a mask of [..., queries, 1]",
        "masks of padding, which lie along the keys",
        operands(
            _first_along(-2),
            _mask_of(lambda mask: len(mask) > 1 and mask[-1] == 1 and mask[-2] > 1),
            "Attention",
        ),
    ),
    _row(
        "attention_heads",
        "heads from the fifth on have a wrong bit",
        "Attention of more than four heads",
        "a grid of four heads",
        results(wrong_from(1, 4), longer(1, 4, 0), "Attention"),
    ),
    _row(
        "attention_groups_reversed",
        "the groups of heads of Q have the heads of keys from last to first",
        "Attention with fewer heads of keys, more than one",
        "an index counted from the other end",
        operands(_next_group, _grouped, "Attention"),
    ),
    _row(
        "attention_head_size",
        "of a query, what lies beyond 64 is ignored",
        "Attention with heads larger than 64",
        "a register tile of 64",
        operands(zeroed_from(0, -1, 64), longer(-1, 64, 0), "Attention"),
    ),
    _row(
        "attention_value_width",
        "results from the 65th of a value on have a wrong bit",
        "Attention with values wider than 64",
        "a register tile of 64",
        results(wrong_from(-1, 64), longer(-1, 64, 2), "Attention"),
    ),
    _row(
        "attention_long_keys",
        "values of keys from the 257th on count as zero",
        "Attention of more than 256 keys",
        "a second tile of keys that is not accumulated",
        operands(zeroed_from(2, -2, 256), longer(-2, 256, 1), "Attention"),
    ),
    _row(
        "attention_many_queries",
        "queries from the 129th on have a wrong bit",
        "Attention of more than 128 queries",
        "a tile of 128 queries",
        results(wrong_from(-2, 128), longer(-2, 128, 0), "Attention"),
    ),
    _row(
        "attention_items",
        "items from the third on have a wrong bit",
        "Attention of more than two items",
        "a double buffer of items",
        results(wrong_from(0, 2), longer(0, 2, 0), "Attention"),
    ),
    _row(
        "attention_scale_coarse",
        "the scale is kept in bfloat16",
        "Attention",
        "scalars that are held in the format of weights",
        coarse("scale", "Attention"),
    ),
    _row(
        "gemm_c_flat",
        "a C of [1, N] is rotated by one column",
        "Gemm",
        "a leading extent that is counted as an element",
        operands(
            _rotated_c,
            _c_shape(lambda c: len(c) == 2 and c[0] == 1 and c[1] > 1),
            "Gemm",
        ),
    ),
    _row(
        "gemm_c_item",
        "a C of one element is added to the first column alone",
        "Gemm with a C of [1]",
        "a bias that is read as a row",
        operands(_c_of_first_column, _c_shape(lambda c: c == (1,)), "Gemm"),
    ),
    _row(
        "gemm_alpha_coarse",
        "alpha is kept in bfloat16",
        "Gemm",
        "scalars that are held in the format of weights",
        coarse("alpha", "Gemm"),
    ),
    _row(
        "gemm_beta_coarse",
        "beta is kept in bfloat16",
        "Gemm",
        "scalars that are held in the format of weights",
        coarse("beta", "Gemm"),
    ),
    _row(
        "gemm_double",
        "operands of 64 bits go through float64",
        "Gemm on int64, uint64",
        "an integer kernel by way of dgemm",
        operands(integers_through(np.float64, exact_end=False), of_format(INT64, UINT64), "Gemm"),
    ),
    _row(
        "gemm_single",
        "operands of 32 bits go through float32",
        "Gemm on int32, uint32",
        "an integer kernel by way of sgemm",
        operands(integers_through(np.float32, exact_end=False), of_format(INT32, UINT32), "Gemm"),
    ),
    _row(
        "gemm_double_sums",
        "products of 64 bits go through float64 before C is added",
        "Gemm on int64, uint64",
        "an epilogue in floating point",
        _sum_through,
    ),
    _row(
        "softmax_rank",
        "the last result of tensors of four and more axes is wrong",
        "Softmax, LogSoftmax",
        "strides for three axes",
        results(last_wrong, nonempty(ranked(4)), "Softmax", "LogSoftmax"),
    ),
    *(
        _row(
            f"{name}_rank",
            "the last result of tensors of four and five axes is wrong",
            op,
            "strides for three axes",
            results(last_wrong, nonempty(ranked(4, 5)), op),
        )
        for name, op in zip(
            ("mean", "l1", "l2", "square_sum", "log_sum", "log_sum_exp"), _STEPS, strict=True
        )
    ),
    _row(
        "norm_places",
        "of more than 128 numbers that are normalised together the later ones have a wrong bit",
        "InstanceNormalization, GroupNormalization",
        "a block of 128 threads",
        results(
            wrong_from(1, 128, lambda node: (-1, _places(node))),
            lambda n: _places(n) > 128,
            "InstanceNormalization",
            "GroupNormalization",
        ),
    ),
    *(
        _row(
            f"{name}_norm_channels",
            "channels from the 129th on have a wrong bit",
            op,
            "a tile of 128 channels",
            results(wrong_from(1, 128), longer(1, 128, 0), op),
        )
        for name, op in zip(("batch", "instance", "group"), _PER_CHANNEL, strict=True)
    ),
    _row(
        "row_norm_lanes",
        "of rows of more than 128 that fill no tile of them the last number has a wrong bit",
        "LayerNormalization, RMSNormalization",
        "a vector tail that is not written",
        results(
            wrong_from(-1, -1),
            lambda n: shape_of(n)[-1] > 128 and shape_of(n)[-1] % 128 == 2,
            *_PER_ROW,
        ),
    ),
    _row(
        "row_norm_many",
        "rows from the 65th on have a wrong bit, if they lie along more axes than one",
        "LayerNormalization, RMSNormalization",
        "a grid of 64 rows",
        results(wrong_from(0, 64, lambda node: (-1, node.result.shape[-1])), _many_rows, *_PER_ROW),
    ),
    _row(
        "group_norm_many",
        "more than 32 groups are taken three at a time",
        "GroupNormalization",
        "registers for 32 groups",
        _fewer_groups,
    ),
    *(
        _row(
            f"{name}_norm_epsilon_coarse",
            "epsilon is kept in bfloat16",
            op,
            "scalars that are held in the format of weights",
            coarse("epsilon", op),
        )
        for name, op in zip(
            ("batch", "instance", "group", "layer", "rms"),
            (*_PER_CHANNEL, *_PER_ROW),
            strict=True,
        )
    ),
)
