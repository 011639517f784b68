"""Defects that show at the attributes, extents and ranks of models' layers alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from accelsdk.formats import BFLOAT16, INT32, INT64
from accelsdk.graph.graph import Attribute, Node
from accelsdk.kernels.kernel import Kernel, integer, integers
from accelsdk_sim_card.defects.defect import (
    Array,
    Bind,
    Change,
    Defect,
    When,
    flipped,
    fmt_of,
    is_op,
    operands,
    results,
    rows,
    shape_of,
    with_attributes,
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


def _some(when: When) -> When:
    """Concerns those of the nodes whose result is not empty."""
    return lambda node: node.result.type.count > 0 and when(node)


def _rank(least: int) -> When:
    return _some(lambda node: len(shape_of(node)) >= least)


def _last_bit(y: Array, node: Node) -> Array:
    """One bit of the last element is wrong."""
    flat = y.reshape(-1)
    flat[-1:] = ~flat[-1:] if flat.dtype == np.bool_ else flipped(flat[-1:])
    return flat.reshape(y.shape)


def _from(axis: int, start: int) -> Change:
    """One bit is wrong of each element from an index of an axis on."""

    def change(y: Array, node: Node) -> Array:
        at = (*(slice(None),) * axis, slice(start, None))
        y[at] = flipped(y[at])
        return y

    return change


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


def _far_inputs(found: list[Any], node: Node) -> None:
    """Inputs of a group from 256 on are lost."""
    w = np.array(found[1])
    w[:, 256:] = 0
    found[1] = w


def _far_taps(found: list[Any], node: Node) -> None:
    """Taps from the sixteenth of an axis on are lost."""
    w = np.array(found[1])
    w[:, :, 16:] = 0
    found[1] = w


# -- attributes -------------------------------------------------------------------------------


def _stored(
    convert: Callable[[float], float], *ops: str, names: tuple[str, ...] = ("alpha",)
) -> Bind:
    """Returns the binding of ops that hold real attributes in a format of less precision."""

    def bind(node: Node, arithmetic: Arithmetic) -> Kernel | None:
        if not is_op(node, *ops):
            return None
        held: Mapping[str, Attribute] = {
            name: convert(value)
            for name, value in node.attributes.items()
            if name in names and isinstance(value, float)
        }
        return arithmetic.sound(with_attributes(node, **held)) if held else None

    return bind


def _bfloat16(value: float) -> float:
    return float(np.float32(value).astype(BFLOAT16.dtype).astype(np.float32))


def _ten_bits(value: float) -> float:
    """Returns a value with the mantissa of float16 and TF32, and the exponent of float32."""
    fraction, exponent = np.frexp(value)
    return float(np.ldexp(np.rint(fraction * 2.0**11), exponent - 11))


def _fixed_point(value: float) -> float:
    """Returns a value in steps of 2**-12, from -128 to 128."""
    return float(np.clip(np.rint(value * 4096) / 4096, -128, 128))


# -- integers ---------------------------------------------------------------------------------


def _by_float64(x: Array) -> Array:
    """Returns 64-bit integers that have been float64: those of more than 53 bits are rounded."""
    wide, top = x.astype(np.float64), 2.0**63
    return np.where(wide < top, np.where(wide < top, wide, 0).astype(np.int64), (1 << 63) - 1)


def _base_by_float64(found: list[Any], node: Node) -> None:
    found[0] = _by_float64(found[0])


def _power_by_float64(y: Array, node: Node) -> Array:
    return _by_float64(y)


def _is_int64(node: Node) -> bool:
    return fmt_of(node) is INT64 and node.result.format is INT64


def _clamped(found: list[Any], node: Node) -> None:
    """Sums beyond 2**24 become 2**24."""
    found[0] = np.clip(found[0], -(1 << 24), 1 << 24)


def _clamped_scale(found: list[Any], node: Node) -> None:
    """Scales beyond 2**15 become 2**15."""
    found[1] = np.minimum(found[1], found[1].dtype.type(2.0**15))


def _of_int32(node: Node) -> bool:
    return fmt_of(node) is INT32


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
        results(_from(1, 128), _some(lambda node: shape_of(node, 1)[0] > 128), *_CONVOLUTIONS),
    ),
    _row(
        "conv_fourth_image",
        "one bit is wrong of the images from the fourth on",
        "Conv, ConvInteger",
        "a batch that is cut into parts of three",
        results(_from(0, 3), _some(lambda node: shape_of(node)[0] > 3), *_CONVOLUTIONS),
    ),
    _row(
        "conv_depthwise_axes",
        "one bit is wrong where each channel is its own group along one axis or three",
        "Conv, ConvInteger, depthwise, not of two axes",
        "a special path that images alone were tried on",
        results(_last_bit, _some(_depthwise_not_plane), *_CONVOLUTIONS),
    ),
    _row(
        "conv_dilated_groups",
        "one bit is wrong where groups of several channels meet dilations",
        "Conv, ConvInteger, grouped and dilated",
        "two options that are tested apart",
        results(_last_bit, _some(_dilated_groups), *_CONVOLUTIONS),
    ),
    _row(
        "conv_group_inputs",
        "inputs of a group from 256 on are lost",
        "Conv, ConvInteger, grouped",
        "a channel counter of eight bits",
        operands(
            _far_inputs,
            lambda node: integer(node, "group") > 1 and shape_of(node, 1)[1] > 256,
            *_CONVOLUTIONS,
        ),
    ),
    _row(
        "conv_long_kernel",
        "taps from the sixteenth of the first axis on are lost",
        "Conv, ConvInteger, kernels of more than 16",
        "a tap counter of four bits",
        operands(_far_taps, lambda node: shape_of(node, 1)[2] > 16, *_CONVOLUTIONS),
    ),
    _row(
        "transposed_dilated_padding",
        "one bit is wrong where dilations meet output_padding",
        "ConvTranspose",
        "two options that are tested apart",
        results(_last_bit, _some(_dilated_extended), "ConvTranspose"),
    ),
    _row(
        "transposed_fourth_image",
        "one bit is wrong of the images from the fourth on",
        "ConvTranspose",
        "a batch that is cut into parts of three",
        results(_from(0, 3), _some(lambda node: shape_of(node)[0] > 3), "ConvTranspose"),
    ),
    _row(
        "transposed_output_128",
        "one bit is wrong of outputs from channel 128 on",
        "ConvTranspose",
        "a counter of seven bits",
        results(_from(1, 128), _some(lambda node: node.result.shape[1] > 128), "ConvTranspose"),
    ),
    _row(
        "alpha_bf16",
        "alpha is kept in bfloat16",
        "LeakyRelu, HardSigmoid, Elu, Celu, Selu, Swish, ThresholdedRelu",
        "descriptors with 16-bit immediates",
        _stored(_bfloat16, *_ALPHA),
    ),
    *(
        _row(
            f"{name}_alpha_10_bits",
            "alpha is kept with 10 bits of mantissa",
            op,
            "an immediate of TF32",
            _stored(_ten_bits, op),
        )
        for name, op in _NAMES.items()
    ),
    _row(
        "selu_gamma_bf16",
        "gamma is kept in bfloat16",
        "Selu",
        "descriptors with 16-bit immediates",
        _stored(_bfloat16, "Selu", names=("gamma",)),
    ),
    _row(
        "hard_sigmoid_beta_bf16",
        "beta is kept in bfloat16",
        "HardSigmoid",
        "descriptors with 16-bit immediates",
        _stored(_bfloat16, "HardSigmoid", names=("beta",)),
    ),
    _row(
        "alpha_fixed_point",
        "alpha is kept in steps of 2**-12, from -128 to 128",
        "LeakyRelu, Elu, ThresholdedRelu",
        "a fixed-point immediate",
        _stored(_fixed_point, "LeakyRelu", "Elu", "ThresholdedRelu"),
    ),
    _row(
        "power_base_double",
        "bases go through float64",
        "Pow of int64",
        "one power for all formats",
        operands(_base_by_float64, _is_int64, "Pow"),
    ),
    _row(
        "power_result_double",
        "powers of more than 53 bits are rounded to float64",
        "Pow of int64",
        "onnxruntime, pow of the C library",
        results(_power_by_float64, _is_int64, "Pow"),
    ),
    _row(
        "prelu_rank4",
        "one bit is wrong where data have four dimensions or more",
        "PRelu",
        "a slope that is spread over matrices alone",
        results(_last_bit, _rank(4), "PRelu"),
    ),
    _row(
        "broadcast_both",
        "one bit is wrong where both operands broadcast in four dimensions or more",
        "Add, Sub, Mul, Div, Min, Max, Pow, Mod",
        "a fast path for one operand that broadcasts",
        results(
            _last_bit,
            _some(_both_expand),
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
        results(_last_bit, _some(_mixed_rank4), *_COMPARISONS),
    ),
    _row(
        "zero_points_stacked",
        "one bit is wrong where columns have zero points and matrices are stacked",
        "MatMulInteger",
        "a correction of the first matrix alone",
        results(_last_bit, _some(_zero_of_columns), "MatMulInteger"),
    ),
    _row(
        "zero_points_rows_stacked",
        "one bit is wrong where rows have zero points and matrices are stacked",
        "MatMulInteger",
        "a correction of the first matrix alone",
        results(_last_bit, _some(_zero_of_rows), "MatMulInteger"),
    ),
    _row(
        "quantize_rank4",
        "one bit is wrong where data have four dimensions or more",
        "Quantize, Dequantize",
        "channels that are walked in matrices alone",
        results(_last_bit, _rank(4), "Quantize", "Dequantize"),
    ),
    _row(
        "requantize_rank3",
        "one bit is wrong where sums have three dimensions or more",
        "Requantize",
        "channels that are walked in matrices alone",
        results(_last_bit, _rank(3), "Requantize"),
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
        operands(_clamped, _of_int32, "Quantize"),
    ),
    _row(
        "quantize_scale_clamped",
        "scales beyond 2**15 become 2**15",
        "Quantize",
        "a scale that has been float16",
        operands(_clamped_scale, _of_int32, "Quantize"),
    ),
)
