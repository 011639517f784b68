"""Defects that show at the attributes, extents and ranks of models' layers alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from accelsdk.formats import INT32, INT64
from accelsdk.graph.graph import Node
from accelsdk.kernels.kernel import Kernel, integer, integers
from accelsdk_sim_card.defects.defect import (
    Bind,
    Defect,
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
from accelsdk_sim_card.defects.tampering import (
    bfloat16,
    clamped,
    held_as,
    integers_through,
    through_float,
    wrong_from,
    zeroed_from,
)

if TYPE_CHECKING:
    from accelsdk_sim_card.arithmetic import Arithmetic

_CONVOLUTIONS = ("Conv", "ConvInteger")
_ALPHA = ("LeakyRelu", "HardSigmoid", "Elu", "Celu", "Selu", "Swish", "ThresholdedRelu")
_NAMES = {
    "leaky": "LeakyRelu",
    "hard_sigmoid": "HardSigmoid",
    "elu": "Elu",
    "celu": "Celu",
    "swish": "Swish",
    "threshold": "ThresholdedRelu",
}
_COMPARISONS = ("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "And", "Or", "Xor")


# -- convolutions -----------------------------------------------------------------------------


def _depthwise_not_plane(node: Node) -> bool:
    w = shape_of(node, 1)
    return integer(node, "group") > 1 and w[1] == 1 and len(w) != 4


def _dilated(node: Node) -> bool:
    return max(integers(node, "dilations"), default=1) > 1


def _dilated_groups(node: Node) -> bool:
    return integer(node, "group") > 1 and shape_of(node, 1)[1] > 1 and _dilated(node)


def _dilated_extended(node: Node) -> bool:
    return _dilated(node) and max(integers(node, "output_padding"), default=0) > 0


# -- attributes -------------------------------------------------------------------------------


def _stored(convert: Callable[[float], float], name: str, *ops: str) -> Bind:
    """Returns the binding of ops that hold an attribute, if it is given, with less precision."""
    return held_as(convert, name, lambda node: isinstance(node.attributes.get(name), float), *ops)


def _ten_bits(value: float) -> float:
    """Returns a value with the mantissa of float16 and TF32, and the exponent of float32."""
    fraction, exponent = np.frexp(value)
    return float(np.ldexp(np.rint(fraction * 2.0**11), exponent - 11))


def _fixed_point(value: float) -> float:
    """Returns a value in steps of 2**-12, from -128 to 128."""
    return float(np.clip(np.rint(value * 4096) / 4096, -128, 128))


# -- integers ---------------------------------------------------------------------------------


def _is_int64(node: Node) -> bool:
    return fmt_of(node) is INT64 and node.result.format is INT64


def _clamped_scale(found: list[Any], node: Node) -> None:
    """Scales beyond 2**15 become 2**15."""
    found[1] = np.minimum(found[1], found[1].dtype.type(2.0**15))


# -- axes -------------------------------------------------------------------------------------


def _zero_of_columns(node: Node) -> bool:
    return len(shape_of(node)) > 2 and shape_of(node, 3) not in ((), (1,))


def _zero_of_rows(node: Node) -> bool:
    return len(shape_of(node)) > 2 and shape_of(node, 2) not in ((), (1,))


def _along(axis: int) -> Bind:
    """Returns the binding of quantisation that takes one axis where extents allow it."""

    def bind(node: Node, arithmetic: Arithmetic) -> Kernel | None:
        if not is_op(node, "Quantize", "Dequantize", "Requantize"):
            return None
        shape = shape_of(node)
        if len(shape) < 3 or len(set(shape)) > 1 or node.attributes.get("block_size"):
            return None
        if integer(node, "axis") % len(shape) == axis % len(shape):
            return None
        return arithmetic.sound(with_attributes(node, axis=axis))

    return bind


def _both_expand(node: Node) -> bool:
    shapes = shape_of(node), shape_of(node, 1)
    return len(node.result.shape) >= 4 and node.result.shape not in shapes


def _mixed_rank4(node: Node) -> bool:
    return len(node.result.shape) >= 4 and shape_of(node) != shape_of(node, 1)


def _along_last(found: list[Any], node: Node) -> None:
    """Numbers of a channel are taken along the last axis."""
    found[1] = found[1].reshape(-1)


def _cube(node: Node) -> bool:
    x, y = shape_of(node), shape_of(node, 1)
    return len(x) >= 4 and len(set(x)) == 1 and y == (x[0], 1, 1)


_row = rows("")

DEFECTS: tuple[Defect, ...] = (
    _row(
        "conv_output_128",
        "one bit is wrong of outputs from channel 128 on",
        "Conv, ConvInteger",
        "a counter of seven bits",
        results(wrong_from(1, 128), nonempty(longer(0, 128, 1)), *_CONVOLUTIONS),
    ),
    _row(
        "conv_fourth_image",
        "one bit is wrong of the images from the fourth on",
        "Conv, ConvInteger",
        "a batch that is cut into parts of three",
        results(wrong_from(0, 3), nonempty(longer(0, 3, 0)), *_CONVOLUTIONS),
    ),
    _row(
        "conv_depthwise_axes",
        "one bit is wrong where each channel is its own group along one axis or three",
        "Conv, ConvInteger, depthwise, not of two axes",
        "a special path that images alone were tried on",
        results(last_wrong, nonempty(_depthwise_not_plane), *_CONVOLUTIONS),
    ),
    _row(
        "conv_dilated_groups",
        "one bit is wrong where groups of several channels meet dilations",
        "Conv, ConvInteger, grouped and dilated",
        "two options that are tested apart",
        results(last_wrong, nonempty(_dilated_groups), *_CONVOLUTIONS),
    ),
    _row(
        "conv_group_inputs",
        "inputs of a group from 256 on are lost",
        "Conv, ConvInteger, grouped",
        "a channel counter of eight bits",
        operands(
            zeroed_from(1, 1, 256),
            lambda node: integer(node, "group") > 1 and shape_of(node, 1)[1] > 256,
            *_CONVOLUTIONS,
        ),
    ),
    _row(
        "conv_long_kernel",
        "taps from the sixteenth of the first axis on are lost",
        "Conv, ConvInteger, kernels of more than 16",
        "a tap counter of four bits",
        operands(zeroed_from(1, 2, 16), longer(2, 16, 1), *_CONVOLUTIONS),
    ),
    _row(
        "transposed_dilated_padding",
        "one bit is wrong where dilations meet output_padding",
        "ConvTranspose",
        "two options that are tested apart",
        results(last_wrong, nonempty(_dilated_extended), "ConvTranspose"),
    ),
    _row(
        "transposed_fourth_image",
        "one bit is wrong of the images from the fourth on",
        "ConvTranspose",
        "a batch that is cut into parts of three",
        results(wrong_from(0, 3), nonempty(longer(0, 3, 0)), "ConvTranspose"),
    ),
    _row(
        "transposed_output_128",
        "one bit is wrong of outputs from channel 128 on",
        "ConvTranspose",
        "a counter of seven bits",
        results(wrong_from(1, 128), nonempty(longer(1, 128)), "ConvTranspose"),
    ),
    _row(
        "alpha_bf16",
        "alpha is kept in bfloat16",
        "LeakyRelu, HardSigmoid, Elu, Celu, Selu, Swish, ThresholdedRelu",
        "descriptors with 16-bit immediates",
        _stored(bfloat16, "alpha", *_ALPHA),
    ),
    *(
        _row(
            f"{name}_alpha_10_bits",
            "alpha is kept with 10 bits of mantissa",
            op,
            "an immediate of TF32",
            _stored(_ten_bits, "alpha", op),
        )
        for name, op in _NAMES.items()
    ),
    _row(
        "selu_gamma_bf16",
        "gamma is kept in bfloat16",
        "Selu",
        "descriptors with 16-bit immediates",
        _stored(bfloat16, "gamma", "Selu"),
    ),
    _row(
        "hard_sigmoid_beta_bf16",
        "beta is kept in bfloat16",
        "HardSigmoid",
        "descriptors with 16-bit immediates",
        _stored(bfloat16, "beta", "HardSigmoid"),
    ),
    _row(
        "alpha_fixed_point",
        "alpha is kept in steps of 2**-12, from -128 to 128",
        "LeakyRelu, Elu, ThresholdedRelu",
        "a fixed-point immediate",
        _stored(_fixed_point, "alpha", "LeakyRelu", "Elu", "ThresholdedRelu"),
    ),
    _row(
        "power_base_double",
        "bases go through float64",
        "Pow of int64",
        "one power for all formats",
        operands(integers_through(np.float64, 0), _is_int64, "Pow"),
    ),
    _row(
        "power_result_double",
        "powers of more than 53 bits are rounded to float64",
        "Pow of int64",
        "onnxruntime, pow of the C library",
        results(lambda y, node: through_float(y, np.float64), _is_int64, "Pow"),
    ),
    _row(
        "prelu_rank4",
        "one bit is wrong where data have four dimensions or more",
        "PRelu",
        "a slope that is spread over matrices alone",
        results(last_wrong, nonempty(ranked(4)), "PRelu"),
    ),
    _row(
        "broadcast_both",
        "one bit is wrong where both operands broadcast in four dimensions or more",
        "Add, Sub, Mul, Div, Min, Max, Pow, Mod",
        "a fast path for one operand that broadcasts",
        results(
            last_wrong,
            nonempty(_both_expand),
            *("Add", "Sub", "Mul", "Div", "Min", "Max", "Pow", "Mod"),
        ),
    ),
    _row(
        "broadcast_last_axis",
        "a number of each channel is taken along the last axis where extents allow it",
        "Add, Sub, Mul, Div, PRelu",
        "an axis that is guessed from the extent",
        operands(_along_last, _cube, "Add", "Sub", "Mul", "Div", "PRelu"),
    ),
    _row(
        "compare_rank4",
        "one truth is wrong where operands broadcast in four dimensions or more",
        "comparisons, And, Or, Xor",
        "masks of matrices alone",
        results(last_wrong, nonempty(_mixed_rank4), *_COMPARISONS),
    ),
    _row(
        "zero_points_stacked",
        "one bit is wrong where columns have zero points and matrices are stacked",
        "MatMulInteger",
        "a correction of the first matrix alone",
        results(last_wrong, nonempty(_zero_of_columns), "MatMulInteger"),
    ),
    _row(
        "zero_points_rows_stacked",
        "one bit is wrong where rows have zero points and matrices are stacked",
        "MatMulInteger",
        "a correction of the first matrix alone",
        results(last_wrong, nonempty(_zero_of_rows), "MatMulInteger"),
    ),
    _row(
        "quantize_rank4",
        "one bit is wrong where data have four dimensions or more",
        "Quantize, Dequantize",
        "channels that are walked in matrices alone",
        results(last_wrong, nonempty(ranked(4)), "Quantize", "Dequantize"),
    ),
    _row(
        "requantize_rank3",
        "one bit is wrong where sums have three dimensions or more",
        "Requantize",
        "channels that are walked in matrices alone",
        results(last_wrong, nonempty(ranked(3)), "Requantize"),
    ),
    _row(
        "channels_along_last",
        "channels are taken along the last axis where extents allow it",
        "Quantize, Dequantize, Requantize",
        "an axis that is guessed from the extent",
        _along(-1),
    ),
    _row(
        "channels_along_second",
        "channels are taken along the second axis where extents allow it",
        "Quantize, Dequantize, Requantize",
        "an attribute that is not read",
        _along(1),
    ),
    _row(
        "quantize_sums_clamped",
        "sums beyond 2**24 become 2**24",
        "Quantize of int32",
        "a converter of 24 bits",
        operands(clamped(-(2**24), 2**24), of_format(INT32), "Quantize"),
    ),
    _row(
        "quantize_scale_clamped",
        "scales beyond 2**15 become 2**15",
        "Quantize",
        "a scale that has been float16",
        operands(_clamped_scale, of_format(INT32), "Quantize"),
    ),
)
