"""Bodies, in standard ONNX ops, of the core ops that ONNX does not have."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from onnx import TensorProto

from accelsdk import formats as f
from accelsdk.exchange import codes, embedding
from accelsdk.exchange.emitter import Emitter
from accelsdk.exchange.storage import is_coded, is_widened, onnx_type
from accelsdk.graph.decompose.common import whole
from accelsdk.graph.graph import Node
from accelsdk.graph.opdef import required
from accelsdk.graph.ops import attribute
from accelsdk.graph.types import Shape, TensorType, Value

Body = Callable[[Emitter, Node, Sequence[str]], Sequence[str]]

_FLOAT32 = np.dtype(np.float32)
#: Significant bits of float32: a product of operands with fewer in all is exact in it.
_FLOAT32_BITS = 24


def _real(em: Emitter, name: str, value: Value) -> str:
    """Emits a value as FLOAT, decoded if it is stored as codes."""
    if is_coded(value.format):
        return codes.decode(em, name, value.format)
    return name if value.format == f.FLOAT32 else em.float32(name)


def _narrowed(em: Emitter, x: str, format: f.Format) -> str:
    return x if format == f.FLOAT32 else em.cast(x, onnx_type(format))


def _along(em: Emitter, name: str, value: Value, target: TensorType, axis: int, block: int) -> str:
    """Emits a scale or zero point so that it broadcasts to ``target``.

    A scalar does as it is, a 1-D one is put along ``axis``, and of blocks each is repeated.
    """
    if block:
        index = np.arange(target.shape[axis], dtype=np.int64) // block
        return em.node("Gather", name, em.constant(index), axis=axis)
    if not value.shape:
        return name
    shape = [1] * target.rank
    shape[axis] = target.shape[axis]
    return em.node("Reshape", name, em.ints(shape), allowzero=1)


def _quantize(em: Emitter, node: Node, names: Sequence[str]) -> Sequence[str]:
    x, scale = required(node, 0), required(node, 1)
    zero, target = node.operand(2), node.result.format
    axis = whole(node, "axis") % max(x.type.rank, 1)
    block = whole(node, "block_size")
    divisor = _along(em, _real(em, names[1], scale), scale, x.type, axis, block)
    dividend = _real(em, names[0], x)
    half = scale.format in (f.FLOAT16, f.BFLOAT16)
    if half and x.format != scale.format:
        dividend = em.float32(em.cast(names[0], onnx_type(scale.format)))
    quotient = em.node("Div", dividend, divisor)
    if half:
        # Operand and quotient are rounded to the type of the scale (ONNX 23).
        quotient = em.float32(em.cast(quotient, onnx_type(scale.format)))
    if target.is_float:
        return (codes.encode(em, quotient, target, bool(attribute(node, "saturate"))),)
    steps = em.node("Round", quotient)
    if zero is not None:
        offset = _along(em, em.float32(names[2]), zero, x.type, axis, block)
        steps = em.node("Add", steps, offset)
    lowest = em.constant(np.float32(target.min))
    steps = em.node("Where", em.node("IsNaN", steps), lowest, steps)
    limited = em.node("Clip", steps, lowest, em.constant(np.float32(target.max)))
    return (em.cast(limited, onnx_type(target)),)


def _dequantize(em: Emitter, node: Node, names: Sequence[str]) -> Sequence[str]:
    """(q - zero_point) * scale, rounded once."""
    q, scale, zero = required(node, 0), required(node, 1), node.operand(2)
    axis = whole(node, "axis") % max(q.type.rank, 1)
    block = whole(node, "block_size")
    if zero is not None and not is_coded(q.format):
        # The difference of the codes is exact in int32 for up to 16 bits.
        codes32 = em.cast(names[0], TensorProto.INT32)
        zeros = em.cast(names[2], TensorProto.INT32)
        zeros = _along(em, zeros, zero, q.type, axis, block)
        values = em.float32(em.node("Sub", codes32, zeros))
    else:
        values = _real(em, names[0], q)
    factor = _along(em, _real(em, names[1], scale), scale, q.type, axis, block)
    target = node.result.format
    if target.bits == 16 and q.format.precision + scale.format.precision > _FLOAT32_BITS:
        return (codes.product(em, values, factor, target),)
    return (_narrowed(em, em.node("Mul", values, factor), target),)


def _requantize(em: Emitter, node: Node, names: Sequence[str]) -> Sequence[str]:
    acc = required(node, 0)
    axis = whole(node, "axis") % max(acc.type.rank, 1)

    def operand(index: int) -> str:
        given = node.operand(index)
        if given is None:
            return ""
        return _along(em, names[index], given, acc.type, axis, 0)

    total = em.node("Add", names[0], operand(4)) if node.operand(4) is not None else names[0]
    if attribute(node, "arithmetic") != "float32":
        return (_fixed_codes(em, node, total, [operand(index) for index in (1, 2, 3)]),)
    scaled = em.node("Mul", em.float32(total), operand(1))
    if attribute(node, "relu"):
        scaled = em.node("Relu", scaled)
    # Divided by 1, rounded half to even, moved by the zero point, and saturated.
    zero = node.operand(3)
    shape = zero.shape if zero is not None else ()
    offset = em.constant(np.zeros((), np.int8), node.result.format) if zero is None else names[3]
    ones = em.constant(np.ones(shape, np.float32))
    return (em.node("QuantizeLinear", scaled, ones, offset, axis=axis if shape else 0),)


def _fixed_codes(em: Emitter, node: Node, total: str, operands: Sequence[str]) -> str:
    """Emits the codes of a sum by a Q31 multiplier and a shift, in INT64."""
    target = node.result.format
    multiplier, shift, zero = operands
    double = attribute(node, "arithmetic") == "fixed_double"
    scaled = _fixed_product(em, em.cast(total, TensorProto.INT64), multiplier, shift, double)
    low, high = em.constant(np.int64(target.min)), em.constant(np.int64(target.max))
    if zero:
        wide = em.cast(zero, TensorProto.INT64)
        scaled = em.node("Add", scaled, wide)
        low = _greater(em, low, wide) if attribute(node, "relu") else low
    elif attribute(node, "relu"):
        low = em.constant(np.int64(0))
    limited = _lesser(em, _greater(em, scaled, low), high)
    return em.cast(limited, onnx_type(target))


def _fixed_product(em: Emitter, acc: str, q31: str, shift: str, double: bool) -> str:
    """Emits floor((acc * q31 + half) / 2^shift) in INT64 (FBGEMM, gemmlowp, TOSA)."""
    powers = em.constant(np.int64(1) << np.arange(63, dtype=np.int64))
    divisor = em.node("Gather", powers, shift)
    half = em.node("Div", divisor, em.constant(np.int64(2)))
    if double:
        extra = em.constant(np.int64(1 << 30))
        zero = em.constant(np.int64(0))
        signed = em.node("Where", em.node("Less", acc, zero), em.node("Neg", extra), extra)
        beyond = em.node("Greater", shift, em.constant(np.int32(31)))
        half = em.node("Add", half, em.node("Where", beyond, signed, zero))
    product = em.node("Mul", acc, em.cast(q31, TensorProto.INT64))
    product = em.node("Add", product, half)
    # Div truncates; taking the non-negative remainder off first makes it floor.
    rest = em.node("Mod", product, divisor)
    return em.node("Div", em.node("Sub", product, rest), divisor)


def _quantize_block(em: Emitter, node: Node, names: Sequence[str]) -> Sequence[str]:
    x = required(node, 0)
    axis = whole(node, "axis") % x.type.rank
    block, element = whole(node, "block_size"), node.result.format
    scales_shape = tuple(
        -(-extent // block) if i == axis else extent for i, extent in enumerate(x.shape)
    )
    real = _real(em, names[0], x)
    amax = _block_max(em, em.node("Abs", real), x.shape, axis, block)
    rule = str(attribute(node, "rule"))
    scale = codes.scale_codes(em, amax, element, rule)
    scale = em.node("Reshape", scale, em.ints(scales_shape), allowzero=1)
    # 2^(127 - code) may lie beyond float32; in float64 every step is exact.
    powers = np.ldexp(1.0, 127 - np.arange(256))
    factor = em.node("Gather", em.constant(powers), scale)
    index = em.constant(np.arange(x.shape[axis], dtype=np.int64) // block)
    factor = em.node("Gather", factor, index, axis=axis)
    scaled = em.node("Mul", em.cast(real, TensorProto.DOUBLE), factor)
    elements = codes.encode(em, scaled, element, wide=True)
    return elements, em.cast(scale, TensorProto.UINT8)


def _block_max(em: Emitter, x: str, shape: Shape, axis: int, block: int) -> str:
    """Emits the largest item of each block along ``axis``; NaN if the block has one."""
    blocks = -(-shape[axis] // block)
    pads = [0] * (2 * len(shape))
    pads[len(shape) + axis] = blocks * block - shape[axis]
    padded = em.node("Pad", x, em.ints(pads))
    cut = em.ints((*shape[:axis], blocks, block, *shape[axis + 1 :]))
    rows = em.node("Reshape", padded, cut, allowzero=1)
    nan = em.node("IsNaN", rows)
    zero = em.constant(np.float32(0))
    top = em.node("ReduceMax", em.node("Where", nan, zero, rows), em.ints([axis + 1]), keepdims=0)
    any_nan = em.node("ReduceMax", em.cast(nan, TensorProto.INT32), em.ints([axis + 1]), keepdims=0)
    poisoned = em.cast(any_nan, TensorProto.BOOL)
    return em.node("Where", poisoned, em.constant(np.float32(np.nan)), top)


def _dequantize_block(em: Emitter, node: Node, names: Sequence[str]) -> Sequence[str]:
    elements, scales = required(node, 0), required(node, 1)
    axis = whole(node, "axis") % elements.type.rank
    values = codes.decode(em, names[0], elements.format)
    factor = codes.decode(em, names[1], scales.format)
    factor = _along(em, factor, scales, elements.type, axis, whole(node, "block_size"))
    return (_narrowed(em, em.node("Mul", values, factor), node.result.format),)


def _scaled_matmul(em: Emitter, node: Node, names: Sequence[str]) -> Sequence[str]:
    a, b, a_scale, b_scale = (required(node, index) for index in range(4))
    left, right = (codes.decode(em, names[i], v.format) for i, v in enumerate((a, b)))
    block = whole(node, "block_size")
    if block:
        # One scale may take out of range what the other brings back: DOUBLE holds both.
        wide = [em.cast(name, TensorProto.DOUBLE) for name in (left, right)]
        scales = [codes.decode(em, names[i], v.format) for i, v in ((2, a_scale), (3, b_scale))]
        for_a, for_b = (em.cast(name, TensorProto.DOUBLE) for name in scales)
        last, rows = a.type.rank - 1, b.type.rank - 2
        left = em.node("Mul", wide[0], _along(em, for_a, a_scale, a.type, last, block))
        right = em.node("Mul", wide[1], _along(em, for_b, b_scale, b.type, rows, block))
        y = em.float32(em.node("MatMul", left, right))
        return (_narrowed(em, y, node.result.format),)
    y = em.node("Mul", em.node("MatMul", left, right), names[2])
    return (_narrowed(em, em.node("Mul", y, names[3]), node.result.format),)


def _matmul_integer(em: Emitter, node: Node, names: Sequence[str]) -> Sequence[str]:
    def shifted(index: int, column: bool) -> str:
        wide = em.cast(names[index], TensorProto.INT32)
        zero = node.operand(index + 2)
        if zero is None:
            return wide
        offset = em.cast(names[index + 2], TensorProto.INT32)
        if column and zero.type.count > 1:
            offset = em.node("Unsqueeze", offset, em.ints([-1]))
        return em.node("Sub", wide, offset)

    return (em.node("MatMul", shifted(0, column=True), shifted(1, column=False)),)


def _conv_integer(em: Emitter, node: Node, names: Sequence[str]) -> Sequence[str]:
    """A zero point for each filter: sum(x (w - z)) = sum(x w) - z sum(x), x less its own."""
    w, groups = required(node, 1), whole(node, "group")
    given = {name: attribute(node, name) for name in ("strides", "pads", "dilations")}
    given = {name: item for name, item in given.items() if item} | {"group": groups}
    shift = names[2] if node.operand(2) is not None else ""
    total = em.node("ConvInteger", names[0], names[1], *filter(None, [shift]), **given)
    ones = em.constant(np.ones((groups, *w.shape[1:])), w.format)
    plain = em.node("ConvInteger", names[0], ones, *filter(None, [shift]), **given)
    # One sum for each group, for all the filters of that group.
    group_of = np.arange(w.shape[0], dtype=np.int64) // (w.shape[0] // groups)
    plain = em.node("Gather", plain, em.constant(group_of), axis=1)
    column = (-1, *(1 for _ in w.shape[2:]))
    zero = em.node("Reshape", em.cast(names[3], TensorProto.INT32), em.ints(column))
    return (em.node("Sub", total, em.node("Mul", plain, zero)),)


def _cast(em: Emitter, node: Node, names: Sequence[str]) -> Sequence[str]:
    """A Cast from or to a format that is stored as codes, or to an integer below 8 bits."""
    x, target = required(node, 0), node.result.format
    wide = x.format in (f.FLOAT64, f.INT32, f.UINT32, f.INT64, f.UINT64)
    dtype = np.dtype(np.float64 if wide else np.float32)
    real = TensorProto.DOUBLE if wide else TensorProto.FLOAT
    value = codes.decode(em, names[0], x.format) if is_coded(x.format) else names[0]
    if target.kind is f.Kind.SCALE:
        mode, saturate = str(attribute(node, "round_mode")), bool(attribute(node, "saturate"))
        return (codes.encode_scale(em, em.cast(value, real), mode, saturate, wide),)
    if is_coded(target):
        saturate = bool(attribute(node, "saturate"))
        return (codes.encode(em, em.cast(value, real), target, saturate, wide),)
    if is_widened(target):
        return (_to_narrow_integer(em, value, x.format, target, dtype),)
    return (em.cast(value, onnx_type(target)),)


def _to_narrow_integer(
    em: Emitter, value: str, source: f.Format, target: f.Format, dtype: np.dtype[np.generic]
) -> str:
    """Emits an integer below 8 bits: integers wrap, floats truncate and saturate."""
    if source.is_integer or source == f.BOOL:
        low = np.int64(target.min)
        wide = em.cast(value, TensorProto.INT64)
        codes_there_are = em.constant(np.int64(1 << target.bits))
        wide = em.node("Mod", em.node("Sub", wide, em.constant(low)), codes_there_are)
        return em.cast(em.node("Add", wide, em.constant(low)), onnx_type(target))
    real = em.cast(value, TensorProto.DOUBLE if dtype == np.float64 else TensorProto.FLOAT)
    integral = em.node("Mul", em.node("Sign", real), em.node("Floor", em.node("Abs", real)))
    return codes.to_integer(em, integral, target, onnx_type(target), dtype)


def _decoded_test(em: Emitter, node: Node, names: Sequence[str]) -> Sequence[str]:
    """IsNaN and IsInf of codes."""
    real = codes.decode(em, names[0], required(node, 0).format)
    if node.op == "IsNaN":
        return (em.node("IsNaN", real),)
    flags = {name: whole(node, name) for name in ("detect_negative", "detect_positive")}
    return (em.node("IsInf", real, **flags),)


def _where(em: Emitter, node: Node, names: Sequence[str]) -> Sequence[str]:
    """Selects booleans."""
    condition, x, y = names
    chosen = em.node("And", condition, x)
    other = em.node("And", em.node("Not", condition), y)
    return (em.node("Or", chosen, other),)


def _greater(em: Emitter, a: str, b: str) -> str:
    return em.node("Where", em.node("Greater", a, b), a, b)


def _lesser(em: Emitter, a: str, b: str) -> str:
    return em.node("Where", em.node("Less", a, b), a, b)


def _sign(em: Emitter, node: Node, names: Sequence[str]) -> Sequence[str]:
    to = onnx_type(node.result.format)
    zero = em.constant(np.array(0, node.result.format.dtype))
    positive, negative = (em.node(op, names[0], zero) for op in ("Greater", "Less"))
    return (em.node("Sub", em.cast(positive, to), em.cast(negative, to)),)


def _divide(em: Emitter, node: Node, names: Sequence[str]) -> Sequence[str]:
    """Integer Div and Mod, 0 for a divisor of 0: no division that a processor refuses."""
    a, b = names
    format = node.result.format

    def is_equal(number: int) -> str:
        wanted = em.constant(np.array(number, format.dtype), format)
        return em.cast(em.node("Equal", b, wanted), onnx_type(format))

    def less(start: int, what: str) -> str:
        return em.node("Sub", em.constant(np.array(start, format.dtype), format), what)

    zero = is_equal(0)
    divisor = em.node("Add", b, zero)
    if format.is_signed:  # x / -1 is x / 1, negated
        minus = is_equal(-1)
        twice = em.node("Add", minus, minus)
        divisor = em.node("Add", divisor, twice)
    if node.op == "Mod" and not attribute(node, "fmod"):
        return (em.node("Mul", em.node("Mod", a, divisor), less(1, zero)),)
    if node.op == "Mod":
        # onnxruntime takes the remainder of 64-bit integers in float64.
        whole_part = em.node("Mul", em.node("Div", a, divisor), divisor)
        return (em.node("Mul", em.node("Sub", a, whole_part), less(1, zero)),)
    quotient = em.node("Mul", em.node("Div", a, divisor), less(1, zero))
    return (em.node("Mul", quotient, less(1, twice)) if format.is_signed else quotient,)


def _identity(em: Emitter, node: Node, names: Sequence[str]) -> Sequence[str]:
    """A reduction over no axes, or the padding of a scalar."""
    return (em.node("Identity", names[0]),)


def _nonzero(em: Emitter, node: Node, names: Sequence[str]) -> Sequence[str]:
    """The indices of a scalar: no rows, where onnxruntime gives one."""
    found = em.node("NonZero", names[0])
    return (em.node("Slice", found, em.ints([0]), em.ints([0]), em.ints([0])),)


BODIES: Mapping[str, Body] = {
    "NonZero": _nonzero,
    "Quantize": _quantize,
    "Dequantize": _dequantize,
    "Requantize": _requantize,
    "QuantizeBlock": _quantize_block,
    "DequantizeBlock": _dequantize_block,
    "ScaledMatMul": _scaled_matmul,
    "MatMulInteger": _matmul_integer,
    "ConvInteger": _conv_integer,
    "SparseLengthsSum": embedding.sparse_lengths_sum,
    "SparseLengthsSumFused": embedding.sparse_lengths_sum,
    "Cast": _cast,
    "Where": _where,
    "Div": _divide,
    "Mod": _divide,
    "Sign": _sign,
    "Max": lambda em, _, names: (_greater(em, *names),),
    "Min": lambda em, _, names: (_lesser(em, *names),),
    "Pad": _identity,
    "IsNaN": _decoded_test,
    "IsInf": _decoded_test,
    **dict.fromkeys(("ReduceSum", "ReduceProd", "ReduceMax", "ReduceMin"), _identity),
}
