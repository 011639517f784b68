"""Defects that show at few extents, in few lanes or on few numbers alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from accelsdk.formats import FLOAT32, FLOAT64, INT64
from accelsdk.graph.graph import Node
from accelsdk.kernels.kernel import integers, text
from accelsdk_sim_card.defects.defect import (
    Array,
    Change,
    Defect,
    Tamper,
    fmt_of,
    of_format,
    operands,
    results,
    rows,
    shape_of,
    singles,
    unsigned,
)
from accelsdk_sim_card.defects.lanes import when_extents
from accelsdk_sim_card.defects.tampering import flip, wrong_from

_PRODUCTS = ("MatMul", "MatMulInteger", "ScaledMatMul")
_NAMES = ", ".join(_PRODUCTS)
_REDUCTIONS = ("ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1")


def _batches(node: Node) -> int:
    shape = node.result.shape
    return int(np.prod(shape[:-2])) if len(shape) > 2 and node.result.type.count else 0


def _wrapped(count: int) -> Change:
    """Matrices from one number on are those from the beginning."""

    def change(y: Array, node: Node) -> Array:
        flat = y.reshape(-1, *y.shape[-2:])
        flat[count:] = flat[: len(flat) - count]
        return flat.reshape(y.shape)

    return change


def _long(node: Node, least: int) -> bool:
    shape, axis = shape_of(node), node.attributes.get("axis", -1)
    return bool(shape) and isinstance(axis, int) and shape[axis] > least


def _lone_bits(lane: int, period: int, low: int) -> Tamper:
    """In one lane of K the last bit is lost where the bits beside it are set."""

    def change(found: list[Any], node: Node) -> None:
        a = np.array(found[0])
        codes = np.ascontiguousarray(a[..., lane::period]).view(f"u{a.dtype.itemsize}")
        codes[codes & low == low] ^= 1
        a[..., lane::period] = codes.view(a.dtype)
        found[0] = a

    return change


def _of_bytes(y: Array, node: Node) -> Array:
    return y & 0xFF


def _signed(found: list[Any], node: Node) -> None:
    x = found[0]
    found[0] = np.ascontiguousarray(x).view(f"i{x.dtype.itemsize}")


def _rounded(found: list[Any], node: Node) -> None:
    found[0] = found[0].astype(np.float64)


def _short_index(found: list[Any], node: Node) -> None:
    found[1] = np.where(found[1] >= 0, found[1] % 65536, found[1])


def _cropped(node: Node) -> bool:
    return text(node, "mode") == "reflect" and min(integers(node, "pads")) < 0


def _far_end(node: Node) -> bool:
    return max(integers(node, "ends")) >= (1 << 31) and node.result.type.count > 0


def _last_lost(y: Array, node: Node) -> Array:
    y[-1:] = y[:1]
    return y


def _of_high_word(found: list[Any], node: Node) -> None:
    found[0] = (np.ascontiguousarray(found[0]).view(np.uint64) >> 32 << 32).view(np.float64)


def _add_half(found: list[Any], node: Node) -> None:
    x = found[0]
    below = np.nextafter(np.float32(0.5), np.float32(0))
    found[0] = np.where(np.abs(x) == below, np.copysign(np.float32(1), x), x)


def _by_double(found: list[Any], node: Node) -> None:
    x = found[0]
    found[0] = np.where((x > 1) & (x < np.float32(1.0001)), np.float32(1), x)


def _coarse_logarithm(y: Array, node: Node) -> Array:
    steps = y.view(np.uint32)
    steps[(np.abs(y) > 100) & (np.abs(y) < 1e30)] += np.uint32(64)
    return y


def _point_padded(node: Node) -> bool:
    return max(shape_of(node, 1)[2:]) == 1 and max(integers(node, "pads")) > 0


def _spread_depthwise(node: Node) -> bool:
    return shape_of(node, 1)[1] == 1 and max(integers(node, "dilations")) > 1


def _many_rows(node: Node) -> bool:
    return node.result.type.count > 256


_row = rows("")

DEFECTS: tuple[Defect, ...] = (
    _row(
        "depth_rest_of_one",
        "one bit is wrong where K is one more than a multiple of 4096",
        _NAMES,
        "a last pass over K that is entered for two items and more",
        results(flip(...), when_extents(lambda m, k, n: k > 4096 and k % 4096 == 1), *_PRODUCTS),
    ),
    _row(
        "last_row_of_127",
        "one bit of the last row is wrong where 127 rows are left",
        _NAMES,
        "a mask made by shifting a word of 64 bits twice",
        results(
            flip(..., -1, slice(None)), when_extents(lambda m, k, n: m % 128 == 127), *_PRODUCTS
        ),
    ),
    _row(
        "column_after_tile",
        "the column that is left after a multiple of 128 has a wrong bit",
        _NAMES,
        "a tile count that is rounded down",
        results(flip(..., -1), when_extents(lambda m, k, n: n > 128 and n % 128 == 1), *_PRODUCTS),
    ),
    _row(
        "corner_of_three_tails",
        "the last element is wrong where rows, columns and depth all leave a rest of 32",
        _NAMES,
        "a corner tile with masks of its own",
        results(
            flip(..., -1, -1),
            when_extents(lambda m, k, n: min(m, k, n) > 32 and min(m % 32, k % 32, n % 32) > 0),
            *_PRODUCTS,
        ),
    ),
    _row(
        "square_of_64",
        "one bit is wrong where all extents are 64",
        _NAMES,
        "a kernel for one tile that skips the loop, and its last barrier",
        results(flip(...), when_extents(lambda m, k, n: m == k == n == 64), *_PRODUCTS),
    ),
    _row(
        "batch_byte",
        "batches from 256 on repeat those from 0 on",
        "MatMul, MatMulInteger",
        "a batch counter of 8 bits",
        results(_wrapped(256), lambda node: 256 < _batches(node) <= 512, "MatMul", "MatMulInteger"),
    ),
    _row(
        "batch_word",
        "batches from 65536 on repeat those from 0 on",
        "MatMul",
        "the largest extent of a grid's third axis",
        results(_wrapped(65536), lambda node: _batches(node) > 65536, "MatMul"),
    ),
    _row(
        "lane_2_of_8",
        "in one lane of K the last bit is lost where the eight lowest bits are set",
        "MatMul on float32",
        "a carry of one multiplier",
        operands(
            _lone_bits(2, 8, 0xFF),
            lambda node: singles(node) and len(shape_of(node)) > 1 and shape_of(node)[-1] > 2,
            "MatMul",
        ),
    ),
    _row(
        "rows_beyond_a_byte",
        "results from the 256th on are wrong",
        ", ".join(_REDUCTIONS),
        "a row counter of 8 bits",
        results(wrong_from(0, 256, lambda node: (-1,)), _many_rows, *_REDUCTIONS),
    ),
    _row(
        "long_softmax",
        "the last item of rows of more than 1024 has a wrong bit",
        "Softmax, LogSoftmax on floats",
        "a second pass of a block of 1024 threads",
        results(
            flip(..., -1),
            lambda node: _long(node, 1024) and node.attributes.get("axis", -1) in (-1, 1),
            "Softmax",
            "LogSoftmax",
        ),
    ),
    _row(
        "long_scan",
        "the last sums of an axis of more than 256 are wrong",
        "CumSum",
        "a block whose carry is not added",
        results(
            lambda y, node: np.where(np.arange(y.size).reshape(y.shape) == y.size - 1, 0, y + 0),
            lambda node: _long(node, 256),
            "CumSum",
        ),
    ),
    _row(
        "position_byte",
        "positions are counted modulo 256",
        "ArgMax, ArgMin",
        "an index that rides in a byte beside its value",
        results(_of_bytes, lambda node: True, "ArgMax", "ArgMin"),
    ),
    _row(
        "position_of_signed",
        "codes of the upper half count as negative",
        "ArgMax, ArgMin on unsigned integers",
        "a signed comparison",
        operands(_signed, unsigned, "ArgMax", "ArgMin"),
    ),
    _row(
        "position_by_double",
        "int64 is compared as float64",
        "ArgMax, ArgMin on int64",
        "one kernel for all types",
        operands(_rounded, of_format(INT64), "ArgMax", "ArgMin"),
    ),
    _row(
        "concat_last_of_many",
        "the last row is the first one where more than 16 operands are joined",
        "Concat",
        "a table of operands that is full",
        results(_last_lost, lambda node: len(node.inputs) > 16, "Concat"),
    ),
    _row(
        "slice_far_end",
        "one bit is wrong where an end lies beyond 32 bits",
        "Slice",
        "an end that is cut to an int before it is clamped",
        results(flip(...), _far_end, "Slice"),
    ),
    _row(
        "pad_crop_reflect",
        "one bit is wrong where an end is cropped and another reflected",
        "Pad, reflect",
        "a mirror at the place where the axis used to end",
        results(flip(...), _cropped, "Pad"),
    ),
    _row(
        "gather_short_index",
        "indices are taken modulo 65536",
        "Gather",
        "an address of 16 bits",
        operands(_short_index, lambda node: shape_of(node)[:1] > (65536,), "Gather"),
    ),
    _row(
        "conv_point_padded",
        "one bit is wrong where a kernel of one tap meets padding",
        "Conv, ConvInteger",
        "a product of matrices in place of a convolution",
        results(flip(...), _point_padded, "Conv", "ConvInteger"),
    ),
    _row(
        "conv_depthwise_dilated",
        "one bit is wrong where the kernel of a single channel is spread",
        "Conv, ConvInteger",
        "a depthwise kernel that knows strides alone",
        results(flip(...), _spread_depthwise, "Conv", "ConvInteger"),
    ),
    _row(
        "pool_many_channels",
        "one bit of the channels after the 64th is wrong",
        "MaxPool, AveragePool",
        "a channel tile that is handled once",
        results(
            flip(slice(None), slice(64, None)),
            lambda node: len(node.result.shape) > 1 and node.result.shape[1] > 64,
            "MaxPool",
            "AveragePool",
        ),
    ),
    _row(
        "nan_of_the_low_word",
        "NaN whose payload lies in the low word is not found",
        "IsNaN on float64",
        "a test of the upper 32 bits",
        operands(_of_high_word, of_format(FLOAT64), "IsNaN"),
    ),
    _row(
        "round_below_half",
        "the largest number below one half becomes 1",
        "Round on float32",
        "floor(x + 0.5) in the format itself",
        operands(_add_half, singles, "Round"),
    ),
    _row(
        "acosh_near_one",
        "arguments just above 1 are taken for 1",
        "Acosh on float32",
        "x * x - 1 in the format itself",
        operands(_by_double, singles, "Acosh"),
    ),
    _row(
        "power_coarse_logarithm",
        "large powers are 64 units in the last place too large",
        "Pow on float32",
        "a logarithm without extra bits",
        results(
            _coarse_logarithm,
            lambda node: singles(node) and fmt_of(node, 1) is FLOAT32,
            "Pow",
        ),
    ),
    _row(
        "nan_scale_lost",
        "a scale of NaN counts as 1",
        "ScaledMatMul, float32 scales",
        "a scale that is clamped to the range of its table",
        operands(
            lambda found, node: found.__setitem__(
                slice(2, 4), [np.where(np.isnan(s), np.float32(1), s) for s in found[2:4]]
            ),
            lambda node: fmt_of(node, 2) is FLOAT32,
            "ScaledMatMul",
        ),
    ),
)
