"""Recipes of random nodes: elementwise, contraction, reduction, quantisation, embedding."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from accelsdk import formats as f
from accelsdk.formats import FORMATS, MX_ELEMENTS, Format
from accelsdk.graph.families import sets
from accelsdk.graph.families.embedding import fused_row_bytes
from accelsdk.graph.families.quantisation import SCALE_RULES
from accelsdk.graph.types import Value
from tests.graph.source import REAL, Drawn, Recipe, Source


def unary(formats: Sequence[Format], low: int = 0, **options: Callable) -> Recipe:
    def recipe(s: Source) -> Drawn:
        x = s.any(formats, low)
        return (x,), {name: option(s) for name, option in options.items()}, 1

    return recipe


def binary(formats: Sequence[Format], **options: Callable) -> Recipe:
    def recipe(s: Source) -> Drawn:
        a = s.any(formats)
        b = s.new(a.format, s.narrowed(a.shape))
        operands = (a, b) if s.flag() else (b, a)
        return operands, {name: option(s) for name, option in options.items()}, 1

    return recipe


def one_way(formats: Sequence[Format]) -> Recipe:
    def recipe(s: Source) -> Drawn:
        x = s.any(formats)
        return (x, s.new(x.format, s.narrowed(x.shape))), {}, 1

    return recipe


def axis_of(formats: Sequence[Format], outputs: int = 1, **options: Callable) -> Recipe:
    def recipe(s: Source) -> Drawn:
        x = s.any(formats, 1)
        given = {name: option(s) for name, option in options.items()}
        return (x,), {"axis": s.int(-x.type.rank, x.type.rank - 1), **given}, outputs

    return recipe


def reduction(formats: Sequence[Format]) -> Recipe:
    def recipe(s: Source) -> Drawn:
        x = s.any(formats)
        return (x,), {"axes": s.axes(x.type.rank), "keepdims": s.flag()}, 1

    return recipe


def arg(s: Source) -> Drawn:
    x = s.new(s.pick(sets.NUMBERS), [max(n, 1) for n in s.shape(1)])
    given = {"axis": s.int(0, x.type.rank - 1), "keepdims": s.flag()}
    return (x,), {**given, "select_last_index": s.flag()}, 1


def topk(s: Source) -> Drawn:
    x = s.any(sets.NUMBERS, 1)
    axis = s.int(0, x.type.rank - 1)
    return (x,), {"k": s.int(0, x.shape[axis]), "axis": axis, "largest": s.flag()}, 2


def select(s: Source) -> Drawn:
    x = s.any(FORMATS)
    y, c = s.new(x.format, s.narrowed(x.shape)), s.new(f.BOOL, s.narrowed(x.shape))
    return (c, x, y), {}, 1


def power(s: Source) -> Drawn:
    x = s.any((*sets.FLOATS, f.INT32, f.INT64))
    return (x, s.new(s.pick(sets.NUMBERS), s.narrowed(x.shape))), {}, 1


def modulo(s: Source) -> Drawn:
    operands, _, _ = binary(sets.NUMBERS)(s)
    return operands, {"fmod": 1}, 1


# -- contraction -----------------------------------------------------------------------------


def matmul(formats: Sequence[Format]) -> Recipe:
    def recipe(s: Source) -> Drawn:
        a = s.any(formats, 1)
        shape = (a.shape[-1],) if s.flag() else (a.shape[-1], s.int(1, 4))
        return (a, s.new(a.format, shape)), {}, 1

    return recipe


def matmul_integer(s: Source) -> Drawn:
    codes = (f.INT8, f.UINT8, f.INT4, f.UINT4)
    a = s.any(codes, 2)
    b = s.new(s.pick(codes), (a.shape[-1], s.int(1, 4)))
    rows, columns = a.shape[-2], b.shape[-1]
    zero_a = s.new(a.format, s.pick([(), (rows,)])) if s.flag() else None
    zero_b = s.new(b.format, s.pick([(), (columns,)])) if s.flag() else None
    return (a, b, zero_a, zero_b), {}, 1


def window(s: Source, spatial: int) -> dict:
    return {
        "strides": tuple(s.int(1, 3) for _ in range(spatial)),
        "pads": tuple(s.int(0, 2) for _ in range(2 * spatial)),
        "dilations": tuple(s.int(1, 2) for _ in range(spatial)),
    }


def convolution(formats: Sequence[Format], integer: bool = False) -> Recipe:
    def recipe(s: Source) -> Drawn:
        spatial, group = s.int(1, 3), s.int(1, 2)
        channels, kernel = s.int(1, 2), tuple(s.int(1, 3) for _ in range(spatial))
        extents = [s.int(2 * (k - 1) + 1, 6) for k in kernel]
        x = s.new(s.pick(formats), (s.int(1, 2), channels * group, *extents))
        out = s.int(1, 2) * group
        w = s.new(s.pick(formats) if integer else x.format, (out, channels, *kernel))
        attributes = {**window(s, spatial), "group": group}
        if not integer:
            bias = s.new(x.format, (out,)) if s.flag() else None
            return (x, w, bias), attributes, 1
        zero_x = s.new(x.format, ()) if s.flag() else None
        zero_w = s.new(w.format, s.pick([(), (out,)])) if s.flag() else None
        return (x, w, zero_x, zero_w), attributes, 1

    return recipe


def transposed(s: Source) -> Drawn:
    spatial, group = s.int(1, 3), s.int(1, 2)
    x_channels, channels = s.int(1, 2) * group, s.int(1, 2)
    x = s.new(s.pick(sets.FLOATS), (1, x_channels, *(s.int(4, 5) for _ in range(spatial))))
    kernel = tuple(s.int(1, 3) for _ in range(spatial))
    bias = s.new(x.format, (channels * group,)) if s.flag() else None
    given = {**window(s, spatial), "group": group, "pads": (0,) * (2 * spatial)}
    given["output_padding"] = s.pick([(), (0,) * spatial])
    return (x, s.new(x.format, (x_channels, channels, *kernel)), bias), given, 1


def scaled_matmul(s: Source) -> Drawn:
    m, k, n, block = s.int(1, 3), s.int(1, 70), s.int(1, 3), s.pick([0, 32])
    a, b = s.new(s.pick(MX_ELEMENTS), (m, k)), s.new(s.pick(MX_ELEMENTS), (k, n))
    if block:
        scales = s.new(f.E8M0, (m, -(-k // 32))), s.new(f.E8M0, (-(-k // 32), n))
    else:
        scales = (
            s.new(f.FLOAT32, s.pick([(), (m, 1)])),
            s.new(f.FLOAT32, s.pick([(), (1, n)])),
        )
    return (a, b, *scales), {"block_size": block, "to": s.pick(REAL).name}, 1


def pool(indices: bool) -> Recipe:
    def recipe(s: Source) -> Drawn:
        spatial = s.int(1, 3)
        kernel = tuple(s.int(1, 3) for _ in range(spatial))
        formats = (*sets.FLOATS, *sets.BYTES) if indices else sets.FLOATS
        extents = [s.int(2 * (k - 1) + 1, 6) for k in kernel]
        x = s.new(s.pick(formats), (1, s.int(1, 2), *extents))
        pads = tuple(s.int(0, kernel[i % spatial] - 1) for i in range(2 * spatial))
        given = {**window(s, spatial), "pads": pads, "ceil_mode": s.flag()}
        return (x,), {**given, "kernel_shape": kernel}, s.int(1, 2) if indices else 1

    return recipe


# -- quantisation and embedding --------------------------------------------------------------


def scale_shape(s: Source, shape: tuple[int, ...], axis: int, block: int) -> tuple[int, ...]:
    if block:
        return (*shape[:axis], -(-shape[axis] // block), *shape[axis + 1 :])
    return s.pick([(), (shape[axis],)])


def quantize(s: Source) -> Drawn:
    codes = sets.AFFINE_CODES
    x, to = s.any(REAL, 1), s.pick(codes)
    axis, block = s.int(0, x.type.rank - 1), s.pick([0, 0, 2])
    shape = scale_shape(s, x.shape, axis, block)
    zero = s.new(to, shape) if s.flag() else None
    scale = s.new(s.pick(REAL), shape)
    return (x, scale, zero), {"to": to.name, "axis": axis, "block_size": block}, 1


def dequantize(s: Source) -> Drawn:
    codes = (*sets.AFFINE_CODES, f.INT32)
    q = s.any(codes, 1)
    axis, block = s.int(0, q.type.rank - 1), s.pick([0, 0, 2])
    shape = scale_shape(s, q.shape, axis, block)
    zero = s.new(q.format, shape) if s.flag() else None
    given = {"axis": axis, "block_size": block, "to": s.pick(REAL).name}
    return (q, s.new(s.pick(REAL), shape), zero), given, 1


def requantize(s: Source) -> Drawn:
    acc, to = s.any((f.INT32,), 1), s.pick(sets.BYTES)
    arithmetic = s.pick(["float32", "fixed_single", "fixed_double"])
    axis = s.int(0, acc.type.rank - 1)
    shape = s.pick([(), (acc.shape[axis],)])
    fixed = arithmetic != "float32"
    multiplier = s.new(f.INT32 if fixed else f.FLOAT32, shape)
    shift = s.new(f.INT32, shape) if fixed else None
    zero = s.new(to, s.pick([(), shape])) if s.flag() else None
    bias = s.new(f.INT32, (acc.shape[axis],)) if s.flag() else None
    given = {"arithmetic": arithmetic, "to": to.name, "axis": axis, "relu": s.flag()}
    return (acc, multiplier, shift, zero, bias), given, 1


def quantize_block(s: Source) -> Drawn:
    x = s.any(REAL, 1)
    given = {"to": s.pick(MX_ELEMENTS).name, "axis": s.int(-x.type.rank, x.type.rank - 1)}
    return (x,), {**given, "rule": s.pick(SCALE_RULES), "block_size": s.pick([2, 32])}, 2


def dequantize_block(s: Source) -> Drawn:
    elements = s.any(MX_ELEMENTS, 1)
    axis = s.int(0, elements.type.rank - 1)
    block = s.pick([2, 32])
    scales = s.new(f.E8M0, scale_shape(s, elements.shape, axis, block))
    given = {"axis": axis, "block_size": block, "to": s.pick(REAL).name}
    return (elements, scales), given, 1


def bags(s: Source) -> tuple[Value, Value, Value | None]:
    indices = s.new(s.pick(sets.INDICES), (s.int(0, 5),))
    lengths = s.new(s.pick(sets.INDICES), (s.int(0, 3),))
    return indices, lengths, s.new(f.FLOAT32, indices.shape) if s.flag() else None


def lengths_sum(s: Source) -> Drawn:
    return (s.any(sets.FLOATS, 2, 2), *bags(s)), {}, 1


def lengths_sum_fused(s: Source) -> Drawn:
    bits, columns = s.pick([8, 4, 2]), s.int(1, 5)
    table = s.new(f.UINT8, (3, fused_row_bytes(columns, bits)))
    return (table, *bags(s)), {"bits": bits, "columns": columns}, 1
