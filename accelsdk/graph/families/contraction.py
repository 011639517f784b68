"""Matrix products and convolutions: sums of products."""

from __future__ import annotations

from collections.abc import Sequence

from accelsdk.formats import (
    BFLOAT16,
    E8M0,
    FLOAT16,
    FLOAT32,
    INT4,
    INT32,
    MX_ELEMENTS,
    UINT4,
)
from accelsdk.graph.families.sets import BYTES, FLOATS, SUMMABLE
from accelsdk.graph.families.spatial import (
    DILATIONS,
    PADS,
    STRIDES,
    check_window,
    window_extents,
)
from accelsdk.graph.graph import Node
from accelsdk.graph.opdef import (
    Call,
    Family,
    NumericsClass,
    OpDef,
    Work,
    format_name,
    integer,
    integers,
    operands,
    product,
    required,
    results,
    traffic,
)
from accelsdk.graph.types import Shape, TensorType

_GROUP = integer("group", 1, "channels are split into this many independent groups")
_WINDOW = (STRIDES, PADS, DILATIONS, _GROUP)
_EIGHT_BIT_OR_LESS = (*BYTES, INT4, UINT4)


def matmul_shape(call: Call, a: Shape, b: Shape) -> Shape:
    """Returns the shape of a NumPy-style matrix product."""
    call.check(len(a) >= 1 and len(b) >= 1, "rank", "operands need one axis or more")
    rows, columns = a[:-1][-1:], b[-1:] if len(b) > 1 else ()
    inner = b[-2] if len(b) > 1 else b[0]
    call.check(a[-1] == inner, "shape", f"inner extents {a[-1]} and {inner} differ")
    return (*call.broadcast(a[:-2], b[:-2]), *rows, *columns)


def _matmul(call: Call) -> Sequence[TensorType]:
    a, b = call.operand(0), call.operand(1)
    call.among(a, SUMMABLE)
    call.same_format(a, b)
    return (TensorType(a.format, matmul_shape(call, a.shape, b.shape)),)


def _per_axis(call: Call, given: TensorType | None, extent: int | None, what: str) -> None:
    """Checks a zero point: a scalar, or one item along an axis of that extent."""
    allowed: set[Shape] = {(), (1,)} if extent is None else {(), (1,), (extent,)}
    if given is not None and given.shape not in allowed:
        call.fail("shape", f"{what} is {list(given.shape)}; it may be one of {sorted(allowed)}")


def _matmul_integer(call: Call) -> Sequence[TensorType]:
    a, b = call.operand(0), call.operand(1)
    call.among(a, _EIGHT_BIT_OR_LESS, "A")
    call.among(b, _EIGHT_BIT_OR_LESS, "B")
    call.same_format(a, call.optional(2))
    call.same_format(b, call.optional(3))
    shape = matmul_shape(call, a.shape, b.shape)
    _per_axis(call, call.optional(2), a.shape[-2] if a.rank > 1 else None, "a_zero_point")
    _per_axis(call, call.optional(3), b.shape[-1] if b.rank > 1 else None, "b_zero_point")
    return (TensorType(INT32, shape),)


def _conv_shape(call: Call, x: TensorType, w: TensorType) -> Shape:
    call.check(x.rank == w.rank and x.rank >= 3, "rank", f"X is {x}, W is {w}")
    group, kernel = call.integer("group"), w.shape[2:]
    check_window(call, kernel)
    call.check(
        group >= 1 and x.shape[1] == w.shape[1] * group and w.shape[0] % group == 0,
        "group",
        f"{x.shape[1]} channels and a kernel of {w.shape[:2]} do not fit {group} groups",
    )
    return (x.shape[0], w.shape[0], *window_extents(call, x.shape[2:], kernel))


def _conv(call: Call) -> Sequence[TensorType]:
    x, w = call.operand(0), call.operand(1)
    call.among(x, FLOATS)
    call.same_format(x, w, call.optional(2))
    call.has_shape(call.optional(2), (w.shape[0],) if w.rank else (), "B")
    return (TensorType(x.format, _conv_shape(call, x, w)),)


def _conv_integer(call: Call) -> Sequence[TensorType]:
    x, w = call.operand(0), call.operand(1)
    call.among(x, BYTES, "x")
    call.among(w, BYTES, "w")
    call.same_format(x, call.optional(2))
    call.same_format(w, call.optional(3))
    _per_axis(call, call.optional(2), None, "x_zero_point")
    _per_axis(call, call.optional(3), w.shape[0] if w.rank else None, "w_zero_point")
    return (TensorType(INT32, _conv_shape(call, x, w)),)


def _conv_transpose(call: Call) -> Sequence[TensorType]:
    x, w = call.operand(0), call.operand(1)
    call.among(x, FLOATS)
    call.same_format(x, w, call.optional(2))
    call.check(x.rank == w.rank and x.rank >= 3, "rank", f"X is {x}, W is {w}")
    group, kernel, spatial = call.integer("group"), w.shape[2:], w.rank - 2
    check_window(call, kernel)
    call.check(
        group >= 1 and x.shape[1] == w.shape[0] and w.shape[0] % group == 0,
        "group",
        f"{x.shape[1]} channels and a kernel of {w.shape[:2]} do not fit {group} groups",
    )
    channels = w.shape[1] * group
    call.has_shape(call.optional(2), (channels,), "B")
    strides, pads, extra = call.ints("strides"), call.ints("pads"), call.ints("output_padding")
    dilations = call.ints("dilations")
    call.check(
        len(extra) in (0, spatial) and all(item >= 0 for item in extra),
        "window",
        f"output_padding is {extra}; it must be {spatial} integers",
    )
    extra = extra or (0,) * spatial
    found = tuple(
        strides[i] * (extent - 1)
        + extra[i]
        + ((kernel[i] - 1) * dilations[i] + 1)
        - pads[i]
        - pads[i + spatial]
        for i, extent in enumerate(x.shape[2:])
    )
    call.check(min(found) >= 0, "window", f"the result would have extents {found}")
    return (TensorType(x.format, (x.shape[0], channels, *found)),)


def _scaled_matmul(call: Call) -> Sequence[TensorType]:
    a, b, a_scale, b_scale = (call.operand(index) for index in range(4))
    call.among(a, MX_ELEMENTS, "A")
    call.among(b, MX_ELEMENTS, "B")
    call.check(a.rank >= 2 and b.rank >= 2, "rank", "A and B need two axes or more")
    shape = matmul_shape(call, a.shape, b.shape)
    block = call.integer("block_size")
    if block == 0:
        call.among(a_scale, (FLOAT32,), "a_scale")
        call.among(b_scale, (FLOAT32,), "b_scale")
        if a_scale.shape:
            call.has_shape(a_scale, (*a.shape[:-1], 1), "a_scale")
        if b_scale.shape:
            call.has_shape(b_scale, (*b.shape[:-2], 1, b.shape[-1]), "b_scale")
    else:
        blocks = -(-a.shape[-1] // block)
        call.among(a_scale, (E8M0,), "a_scale")
        call.among(b_scale, (E8M0,), "b_scale")
        call.has_shape(a_scale, (*a.shape[:-1], blocks), "a_scale")
        call.has_shape(b_scale, (*b.shape[:-2], blocks, b.shape[-1]), "b_scale")
    return (TensorType(call.format("to"), shape),)


def _matmul_work(node: Node) -> Work:
    inner = required(node, 0).shape[-1]
    return Work(2 * node.result.type.count * inner, traffic(node))


def _conv_work(node: Node) -> Work:
    taps = product(required(node, 1).shape[1:])
    return Work(2 * node.result.type.count * taps, traffic(node))


def _conv_transpose_work(node: Node) -> Work:
    taps = product(required(node, 1).shape[1:])
    return Work(2 * required(node, 0).type.count * taps, traffic(node))


ROWS: tuple[OpDef, ...] = (
    OpDef(
        name="MatMul",
        family=Family.CONTRACTION,
        help="Matrix product, batched and broadcast as numpy.matmul",
        operands=operands("A B"),
        results=results("Y"),
        infer=_matmul,
        numerics=NumericsClass.CONTRACTION,
        work=_matmul_work,
        formats="floats, 32- and 64-bit integers",
    ),
    OpDef(
        name="Conv",
        family=Family.CONTRACTION,
        help="Convolution over 1 to 3 spatial axes: X [N,C,...], W [M,C/group,...], B [M]",
        operands=operands("X W B?"),
        results=results("Y"),
        attributes=_WINDOW,
        infer=_conv,
        numerics=NumericsClass.CONTRACTION,
        work=_conv_work,
        formats="floats",
    ),
    OpDef(
        name="ConvTranspose",
        family=Family.CONTRACTION,
        help="Transposed convolution: X [N,C,...], W [C,M/group,...], B [M]",
        operands=operands("X W B?"),
        results=results("Y"),
        attributes=(*_WINDOW, integers("output_padding", (), "added to each end; () is none")),
        infer=_conv_transpose,
        numerics=NumericsClass.CONTRACTION,
        work=_conv_transpose_work,
        formats="floats",
    ),
    OpDef(
        name="MatMulInteger",
        family=Family.CONTRACTION,
        help="Sum of (a - a_zero_point) * (b - b_zero_point) in int32, wrapping; a zero point is "
        "scalar, or one per row of A, or one per column of B",
        operands=operands("A B a_zero_point? b_zero_point?"),
        results=results("Y"),
        infer=_matmul_integer,
        numerics=NumericsClass.EXACT,
        work=_matmul_work,
        formats="int8, uint8, int4, uint4 in; int32 out",
    ),
    OpDef(
        name="ConvInteger",
        family=Family.CONTRACTION,
        help="Convolution of (x - x_zero_point) and (w - w_zero_point) in int32, wrapping; "
        "padding is x_zero_point; w_zero_point is scalar or one per output channel",
        operands=operands("x w x_zero_point? w_zero_point?"),
        results=results("y"),
        attributes=_WINDOW,
        infer=_conv_integer,
        numerics=NumericsClass.EXACT,
        work=_conv_work,
        formats="int8, uint8 in; int32 out",
    ),
    OpDef(
        name="ScaledMatMul",
        family=Family.CONTRACTION,
        help="Matrix product of narrow codes, accumulated in float32. block_size 0: (sum A*B) * "
        "a_scale * b_scale, scales float32, scalar or per row of A and column of B. block_size "
        "32 (OCP MX): sum over blocks of 2^(sa+sb) * (sum A*B), scales E8M0 per block of K",
        operands=operands("A B a_scale b_scale"),
        results=results("Y"),
        attributes=(
            integer("block_size", 0, "items of K that share a scale; 0: none", (0, 32)),
            format_name("to", (FLOAT32, FLOAT16, BFLOAT16), "float32", "format of the result"),
        ),
        infer=_scaled_matmul,
        numerics=NumericsClass.CONTRACTION,
        work=_matmul_work,
        formats="FP8, FP6, FP4, MXINT8 codes",
    ),
)
