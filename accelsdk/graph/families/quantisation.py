"""Changes of number format: affine, per block (OCP MX), and plain casts."""

from __future__ import annotations

from collections.abc import Sequence

from accelsdk import formats as f
from accelsdk.formats import FORMATS
from accelsdk.graph.families.sets import AFFINE_CODES
from accelsdk.graph.opdef import (
    AttributeDef,
    Call,
    Family,
    NumericsClass,
    OpDef,
    choice,
    flag,
    format_name,
    integer,
    operands,
    per_operand,
    per_result,
    results,
)
from accelsdk.graph.types import TensorType
from accelsdk.numerics.block import ScaleRule
from accelsdk.numerics.rounding import ScaleMode

_SCALES = (f.FLOAT32, f.FLOAT16, f.BFLOAT16, f.E8M0)
_REAL = (f.FLOAT32, f.FLOAT16, f.BFLOAT16)
#: Published scale rules of MX blocks; `accelsdk.numerics.block` computes them.
SCALE_RULES = tuple(rule.value for rule in ScaleRule)
_AXIS = integer("axis", 1, "axis of 1-D scales and of blocks")
_BLOCK = integer("block_size", 0, "items of the axis that share a scale; 0: no blocks")


def _check_scale(call: Call, x: TensorType, scale: TensorType, zero: TensorType | None) -> None:
    """Checks a scale: scalar (per tensor), 1-D (per channel), or one per block."""
    block = call.integer("block_size")
    call.check(block >= 0, "block", f"block_size is {block}")
    if block:
        axis = call.axis(call.integer("axis"), x.rank)
        shape = (*x.shape[:axis], -(-x.shape[axis] // block), *x.shape[axis + 1 :])
        call.has_shape(scale, shape, "scale")
    elif scale.rank:
        axis = call.axis(call.integer("axis"), x.rank)
        call.has_shape(scale, (x.shape[axis],), "scale")
    call.has_shape(zero, scale.shape, "zero_point")


def _quantize(call: Call) -> Sequence[TensorType]:
    x, scale, zero = call.operand(0), call.operand(1), call.optional(2)
    target = call.format("to")
    call.among(x, (*_REAL, f.INT32), "x")
    call.among(scale, _SCALES, "scale")
    if zero is not None:
        call.among(zero, (target,), "zero_point")
    _check_scale(call, x, scale, zero)
    return (TensorType(target, x.shape),)


def _dequantize(call: Call) -> Sequence[TensorType]:
    q, scale, zero = call.operand(0), call.operand(1), call.optional(2)
    call.among(q, (*AFFINE_CODES, f.INT32), "q")
    call.among(scale, _SCALES, "scale")
    call.same_format(q, zero)
    _check_scale(call, q, scale, zero)
    return (TensorType(call.format("to"), q.shape),)


def _requantize(call: Call) -> Sequence[TensorType]:
    acc, multiplier = call.operand(0), call.operand(1)
    shift, zero, bias = (call.optional(index) for index in (2, 3, 4))
    target = call.format("to")
    call.among(acc, (f.INT32,), "acc")
    fixed = call.string("arithmetic") != "float32"
    call.among(multiplier, (f.INT32 if fixed else f.FLOAT32,), "multiplier")
    call.check((shift is not None) == fixed, "operands", "shift goes with fixed arithmetic")
    shapes: tuple[tuple[int, ...], ...] = ((),)
    if acc.rank:
        shapes = ((), (acc.shape[call.axis(call.integer("axis"), acc.rank)],))
    for given, wanted, what in (
        (multiplier, None, "multiplier"),
        (shift, f.INT32, "shift"),
        (zero, target, "zero_point"),
        (bias, f.INT32, "bias"),
    ):
        if given is None:
            continue
        if wanted is not None:
            call.among(given, (wanted,), what)
        if given.shape not in shapes:
            call.fail("shape", f"{what} is {list(given.shape)}; it may be {shapes}")
    call.has_shape(shift, multiplier.shape, "shift")
    return (TensorType(target, acc.shape),)


def _scales_type(call: Call, x: TensorType) -> TensorType:
    block = call.integer("block_size")
    call.check(block >= 1, "block", f"block_size is {block}")
    axis = call.axis(call.integer("axis"), x.rank)
    blocks = -(-x.shape[axis] // block)
    return TensorType(f.E8M0, (*x.shape[:axis], blocks, *x.shape[axis + 1 :]))


def _quantize_block(call: Call) -> Sequence[TensorType]:
    x = call.operand(0)
    call.among(x, _REAL)
    return TensorType(call.format("to"), x.shape), _scales_type(call, x)


def _dequantize_block(call: Call) -> Sequence[TensorType]:
    elements, scales = call.operand(0), call.operand(1)
    call.among(elements, f.MX_ELEMENTS, "elements")
    call.among(scales, (f.E8M0,), "scales")
    call.has_shape(scales, _scales_type(call, elements).shape, "scales")
    return (TensorType(call.format("to"), elements.shape),)


def _cast(call: Call) -> Sequence[TensorType]:
    return (TensorType(call.format("to"), call.operand(0).shape),)


_BLOCK_AXIS: tuple[AttributeDef, ...] = (
    integer("axis", -1, "axis along which blocks lie"),
    integer("block_size", 32, "items that share a scale; the last block may be short"),
)

ROWS: tuple[OpDef, ...] = (
    OpDef(
        name="Quantize",
        family=Family.QUANTISATION,
        help="ONNX QuantizeLinear: saturate(round_half_even(x / scale) + zero_point)",
        operands=operands("x scale zero_point?"),
        results=results("y"),
        attributes=(
            format_name("to", AFFINE_CODES, help="format of the result"),
            _AXIS,
            _BLOCK,
            flag("saturate", 1, "for float results: overflow gives the largest finite value"),
        ),
        infer=_quantize,
        numerics=NumericsClass.QUANTISATION,
        work=per_result(3),
        formats="float32, float16, bfloat16, int32 in; 2- to 16-bit integers, FP8, FP6, FP4 out",
    ),
    OpDef(
        name="Dequantize",
        family=Family.QUANTISATION,
        help="ONNX DequantizeLinear: (q - zero_point) * scale",
        operands=operands("q scale zero_point?"),
        results=results("y"),
        attributes=(_AXIS, _BLOCK, format_name("to", _REAL, "float32", "format of the result")),
        infer=_dequantize,
        numerics=NumericsClass.QUANTISATION,
        work=per_result(2),
        formats="2- to 32-bit integers, FP8, FP6, FP4 in; floats out",
    ),
    OpDef(
        name="Requantize",
        family=Family.QUANTISATION,
        help="Brings an int32 accumulator to 8 bits: saturate(round((acc + bias) * multiplier) + "
        "zero_point); acc + bias wraps. Fixed-point multipliers are Q31 with a right shift "
        "(FBGEMM single rounding, gemmlowp double rounding)",
        operands=operands("acc multiplier shift? zero_point? bias?"),
        results=results("y"),
        attributes=(
            choice("arithmetic", ("float32", "fixed_single", "fixed_double"), "float32"),
            format_name("to", (f.INT8, f.UINT8), help="format of the result"),
            integer("axis", -1, "axis of 1-D operands"),
            flag("relu", 0, "whether results below zero_point become zero_point"),
        ),
        infer=_requantize,
        numerics=NumericsClass.QUANTISATION,
        work=per_result(4),
        formats="int32 in; int8, uint8 out",
    ),
    OpDef(
        name="QuantizeBlock",
        family=Family.QUANTISATION,
        help="OCP MX quantisation: elements, and one E8M0 scale per block",
        operands=operands("x"),
        results=results("elements scales"),
        attributes=(
            format_name("to", f.MX_ELEMENTS, help="format of the elements"),
            *_BLOCK_AXIS,
            choice("rule", SCALE_RULES, "floor", "how the shared scale is chosen"),
        ),
        infer=_quantize_block,
        numerics=NumericsClass.QUANTISATION,
        work=per_operand(3),
        formats="float32, float16, bfloat16 in",
    ),
    OpDef(
        name="DequantizeBlock",
        family=Family.QUANTISATION,
        help="Value of MX elements: element * 2^(scale - 127); scale 0xFF is NaN",
        operands=operands("elements scales"),
        results=results("y"),
        attributes=(*_BLOCK_AXIS, format_name("to", _REAL, "float32", "format of the result")),
        infer=_dequantize_block,
        numerics=NumericsClass.QUANTISATION,
        work=per_result(1),
        formats="MX elements and E8M0 in",
    ),
    OpDef(
        name="Cast",
        family=Family.QUANTISATION,
        help="Converts to another format, rounding half to even; integers from floats truncate",
        operands=operands("x"),
        results=results("y"),
        attributes=(
            format_name("to", FORMATS, help="format of the result"),
            flag("saturate", 1, "for FP8 results: overflow gives the largest finite value"),
            choice("round_mode", tuple(mode.value for mode in ScaleMode), "up", "for E8M0 results"),
        ),
        infer=_cast,
        numerics=NumericsClass.QUANTISATION,
        work=per_result(1),
        formats="any",
    ),
)
