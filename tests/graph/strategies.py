"""Random typed graphs over the whole op table, for property tests.

`RECIPES` says for each op how to draw operands and attributes that its rules accept; a value
that exists already is taken as an operand wherever one of the right type does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from hypothesis import strategies as st

from accelsdk import formats as f
from accelsdk.formats import FORMATS, MX_ELEMENTS, Format, Kind
from accelsdk.graph.families import sets
from accelsdk.graph.families.embedding import fused_row_bytes
from accelsdk.graph.families.quantisation import SCALE_RULES
from accelsdk.graph.graph import Graph
from accelsdk.graph.ops import TABLE
from accelsdk.graph.rewrite import Builder
from accelsdk.graph.types import Value

REAL = (f.FLOAT32, f.FLOAT16, f.BFLOAT16)
CODES = tuple(row for row in FORMATS if row.kind is Kind.FLOAT)


@dataclass
class Source:
    """Where a recipe gets operands and numbers from."""

    draw: Callable
    least: int = 1
    formats: Sequence[Format] = FORMATS
    builder: Builder = field(default_factory=Builder)
    inputs: list[Value] = field(default_factory=list)
    pool: list[Value] = field(default_factory=list)

    def int(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def flag(self) -> int:
        return self.int(0, 1)

    def pick(self, options):
        return self.draw(st.sampled_from(list(options)))

    def shape(self, low: int = 0, high: int = 4) -> tuple[int, ...]:
        return tuple(self.int(self.least, 4) for _ in range(self.int(low, high)))

    def new(self, format: Format, shape: Sequence[int]) -> Value:
        """An operand of that type: one that exists, a new input or a new constant."""
        same = [v for v in self.pool if v.format == format and v.shape == tuple(shape)]
        if same and self.flag():
            return self.pick(same)
        if self.int(0, 3) == 0:
            zeros = np.zeros(tuple(shape), format.dtype)
            value = self.builder.constant(zeros, format, name=f"c{len(self.pool)}")
        else:
            value = self.builder.input(f"x{len(self.inputs)}", format, shape)
            self.inputs.append(value)
        self.pool.append(value)
        return value

    def any(self, formats: Sequence[Format], low: int = 0, high: int = 4) -> Value:
        """An operand of one of the formats, of a rank within bounds."""
        formats = [row for row in formats if row in self.formats] or list(formats)
        fits = [v for v in self.pool if v.format in formats and low <= v.type.rank <= high]
        if fits and self.int(0, 2):
            return self.pick(fits)
        return self.new(self.pick(formats), self.shape(low, high))

    def narrowed(self, shape: Sequence[int]) -> tuple[int, ...]:
        """A shape that broadcasts to ``shape``."""
        kept = shape[self.int(0, len(shape)) :]
        return tuple(1 if self.flag() else extent for extent in kept)

    def axes(self, rank: int) -> tuple[int, ...]:
        return tuple(axis for axis in range(rank) if self.flag())


Drawn = tuple[Sequence[Value | None], dict, int]
Recipe = Callable[[Source], Drawn]


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
    codes = (f.INT8, f.UINT8, f.INT4, f.UINT4, f.INT16, f.UINT16, *sets.NARROW_FLOATS)
    x, to = s.any(REAL, 1), s.pick(codes)
    axis, block = s.int(0, x.type.rank - 1), s.pick([0, 0, 2])
    shape = scale_shape(s, x.shape, axis, block)
    zero = s.new(to, shape) if s.flag() else None
    scale = s.new(s.pick(REAL), shape)
    return (x, scale, zero), {"to": to.name, "axis": axis, "block_size": block}, 1


def dequantize(s: Source) -> Drawn:
    codes = (f.INT8, f.UINT8, f.INT4, f.UINT4, f.INT16, f.UINT16, f.INT32, *sets.NARROW_FLOATS)
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


# -- movement --------------------------------------------------------------------------------


def reshape(s: Source) -> Drawn:
    x = s.any(FORMATS)
    return (x,), {"shape": s.pick([(x.type.count,), (1, *x.shape), (*reversed(x.shape),)])}, 1


def transpose(s: Source) -> Drawn:
    x = s.any(FORMATS)
    return (x,), {"perm": tuple(s.draw(st.permutations(range(x.type.rank))))}, 1


def concat(s: Source) -> Drawn:
    first = s.any(FORMATS, 1)
    axis = s.int(0, first.type.rank - 1)
    shapes = [
        tuple(s.int(1, 3) if i == axis else n for i, n in enumerate(first.shape))
        for _ in range(s.int(0, 2))
    ]
    return (first, *(s.new(first.format, shape) for shape in shapes)), {"axis": axis}, 1


def cut(s: Source) -> Drawn:
    x = s.any(FORMATS, 1)
    axes = s.axes(x.type.rank)
    numbers = [tuple(s.int(-5, 5) for _ in axes) for _ in range(2)]
    steps = tuple(s.pick([-2, -1, 1, 2]) for _ in axes)
    return (x,), {"starts": numbers[0], "ends": numbers[1], "axes": axes, "steps": steps}, 1


def split(s: Source) -> Drawn:
    x = s.any(FORMATS, 1)
    axis = s.int(0, x.type.rank - 1)
    first = s.int(0, x.shape[axis])
    return (x,), {"axis": axis, "split": (first, x.shape[axis] - first)}, 2


def gather(s: Source) -> Drawn:
    x = s.any(FORMATS, 1)
    return (x, s.any(sets.INDICES, 0, 2)), {"axis": s.int(0, x.type.rank - 1)}, 1


def gather_nd(s: Source) -> Drawn:
    x = s.any(FORMATS, 1)
    return (x, s.new(f.INT64, (*s.shape(0, 2), s.int(1, x.type.rank)))), {"batch_dims": 0}, 1


def gather_elements(s: Source) -> Drawn:
    x = s.any(FORMATS, 1)
    return (x, s.new(s.pick(sets.INDICES), x.shape)), {"axis": s.int(0, x.type.rank - 1)}, 1


def scatter_elements(s: Source) -> Drawn:
    x = s.any(sets.NUMBERS, 1)
    indices = s.new(s.pick(sets.INDICES), x.shape)
    given = {"axis": s.int(0, x.type.rank - 1), "reduction": s.pick(["none", "add", "max"])}
    return (x, indices, s.new(x.format, x.shape)), given, 1


def scatter_nd(s: Source) -> Drawn:
    x, count = s.any(FORMATS, 1), s.int(0, 3)
    depth = s.int(1, x.type.rank)
    indices = s.new(f.INT64, (count, depth))
    return (x, indices, s.new(x.format, (count, *x.shape[depth:]))), {}, 1


def pad(s: Source) -> Drawn:
    x = s.any(FORMATS)
    fill = s.new(x.format, ()) if s.flag() else None
    return (x, fill), {"pads": tuple(s.int(0, 2) for _ in range(2 * x.type.rank))}, 1


def expand(s: Source) -> Drawn:
    x = s.any(FORMATS)
    return (x,), {"shape": (s.int(1, 3), *x.shape)}, 1


def tile(s: Source) -> Drawn:
    x = s.any(FORMATS)
    return (x,), {"repeats": tuple(s.int(0, 2) for _ in x.shape)}, 1


def resize(s: Source) -> Drawn:
    x = s.new(s.pick((*sets.FLOATS, *sets.BYTES)), (1, 1, s.int(1, 4), s.int(1, 4)))
    shape = (1, 1, s.int(1, 6), s.int(1, 6))
    scales = tuple(a / b for a, b in zip(shape, x.shape, strict=True))
    mode = s.pick(["nearest", "linear", "cubic"])
    return (x,), {"output_shape": shape, "scales": scales, "mode": mode}, 1


# -- composites ------------------------------------------------------------------------------


def clip(s: Source) -> Drawn:
    x = s.any(sets.NUMBERS)
    limits = [s.new(x.format, ()) if s.flag() else None for _ in range(2)]
    return (x, *limits), {}, 1


def layer_norm(s: Source) -> Drawn:
    x = s.any(sets.FLOATS, 1)
    axis = s.int(0, x.type.rank - 1)
    bias = s.new(x.format, x.shape[axis:]) if s.flag() else None
    return (x, s.new(x.format, x.shape[axis:]), bias), {"axis": axis}, s.int(1, 3)


def rms_norm(s: Source) -> Drawn:
    x = s.any(sets.FLOATS, 1)
    axis = s.int(0, x.type.rank - 1)
    return (x, s.new(x.format, x.shape[axis:])), {"axis": axis}, 1


def per_channel(count: int, rank: int, **options: int) -> Recipe:
    def recipe(s: Source) -> Drawn:
        x = s.any(sets.FLOATS, rank)
        return (x, *(s.new(x.format, (x.shape[1],)) for _ in range(count))), dict(options), 1

    return recipe


def gemm(s: Source) -> Drawn:
    m, k, n, left, right = s.int(1, 3), s.int(1, 4), s.int(1, 3), s.flag(), s.flag()
    a = s.new(s.pick(sets.FLOATS), (k, m) if left else (m, k))
    b = s.new(a.format, (n, k) if right else (k, n))
    c = s.new(a.format, s.narrowed((m, n))) if s.flag() else None
    return (a, b, c), {"alpha": 0.5, "beta": 2.0, "transA": left, "transB": right}, 1


def attention(s: Source) -> Drawn:
    groups, own, size, length, rows = (
        s.int(1, 2),
        s.int(1, 2),
        s.int(1, 4),
        s.int(1, 4),
        s.int(1, 4),
    )
    q = s.new(s.pick(sets.FLOATS), (1, groups * own, rows, size))
    k = s.new(q.format, (1, own, length, size))
    v = s.new(q.format, (1, own, length, s.int(1, 4)))
    mask = s.new(s.pick([f.BOOL, q.format]), (rows, length)) if s.flag() else None
    return (q, k, v, mask), {"is_causal": s.flag(), "scale": s.pick([0.0, 0.25])}, 1


def recurrent(gates: int, biases: int, states: int, outputs: int, **options: Callable) -> Recipe:
    def recipe(s: Source) -> Drawn:
        time, batch, size, hidden = (s.int(1, 3) for _ in range(4))
        direction, layout = s.pick(["forward", "reverse", "bidirectional"]), s.flag()
        d = 2 if direction == "bidirectional" else 1
        x = s.new(s.pick(sets.FLOATS), (batch, time, size) if layout else (time, batch, size))
        kind = x.format
        operands = [x, s.new(kind, (d, gates * hidden, size))]
        operands.append(s.new(kind, (d, gates * hidden, hidden)))
        operands.append(s.new(kind, (d, biases * hidden)) if s.flag() else None)
        operands.append(s.new(f.INT32, (batch,)) if s.flag() else None)
        state = (batch, d, hidden) if layout else (d, batch, hidden)
        operands += [s.new(kind, state) if s.flag() else None for _ in range(states)]
        if states == 2:
            operands.append(s.new(kind, (d, 3 * hidden)) if s.flag() else None)
        given = {"direction": direction, "layout": layout, "hidden_size": hidden}
        given["clip"] = s.pick([0.0, 0.5])
        given |= {name: option(s) for name, option in options.items()}
        return operands, given, s.int(1, outputs)

    return recipe


_ONE = (f.BOOL,)
_FLAG = Source.flag

RECIPES: dict[str, Recipe] = {
    **{name: unary(sets.NUMBERS) for name in ("Abs", "Sign")},
    "Neg": unary((*sets.FLOATS, *sets.SIGNED)),
    "Relu": unary((*sets.FLOATS, *sets.SIGNED)),
    "Not": unary(_ONE),
    "BitwiseNot": unary(sets.INTEGERS),
    "IsNaN": unary(CODES),
    "IsInf": unary(CODES, detect_negative=_FLAG),
    **{name: binary(_ONE) for name in ("And", "Or", "Xor")},
    **{name: binary(sets.NUMBERS) for name in ("Add", "Sub", "Mul", "Div", "Min", "Max")},
    **{name: binary(sets.NUMBERS) for name in ("Less", "LessOrEqual", "Greater")},
    "GreaterOrEqual": binary(sets.NUMBERS),
    "Equal": binary((*sets.NUMBERS, f.BOOL)),
    **{f"Bitwise{name}": binary(sets.INTEGERS) for name in ("And", "Or", "Xor")},
    "BitShift": binary(sets.UNSIGNED, direction=lambda s: s.pick(["LEFT", "RIGHT"])),
    "Mod": modulo,
    "Pow": power,
    "Where": select,
    "MatMul": matmul(sets.SUMMABLE),
    "Conv": convolution(sets.FLOATS),
    "ConvTranspose": transposed,
    "MatMulInteger": matmul_integer,
    "ConvInteger": convolution(sets.BYTES, integer=True),
    "ScaledMatMul": scaled_matmul,
    "Quantize": quantize,
    "Dequantize": dequantize,
    "Requantize": requantize,
    "QuantizeBlock": quantize_block,
    "DequantizeBlock": dequantize_block,
    "Cast": unary(FORMATS, to=lambda s: s.pick(FORMATS).name),
    "SparseLengthsSum": lengths_sum,
    "SparseLengthsSumFused": lengths_sum_fused,
    **{name: reduction(sets.SUMMABLE) for name in ("ReduceSum", "ReduceProd")},
    **{name: reduction((*sets.NUMBERS, f.BOOL)) for name in ("ReduceMax", "ReduceMin")},
    **{name: reduction(sets.SUMMABLE) for name in ("ReduceL1", "ReduceSumSquare")},
    **{name: reduction(sets.FLOATS) for name in ("ReduceMean", "ReduceL2", "ReduceLogSum")},
    "ReduceLogSumExp": reduction(sets.FLOATS),
    "ArgMax": arg,
    "ArgMin": arg,
    "CumSum": axis_of(sets.SUMMABLE, exclusive=_FLAG, reverse=_FLAG),
    "TopK": topk,
    "MaxPool": pool(indices=True),
    "AveragePool": pool(indices=False),
    "Reshape": reshape,
    "Transpose": transpose,
    "Concat": concat,
    "Slice": cut,
    "Split": split,
    "Gather": gather,
    "GatherND": gather_nd,
    "GatherElements": gather_elements,
    "ScatterElements": scatter_elements,
    "ScatterND": scatter_nd,
    "Pad": pad,
    "Expand": expand,
    "Tile": tile,
    "Resize": resize,
    "PRelu": one_way((*sets.FLOATS, *sets.SIGNED)),
    "Clip": clip,
    **{name: axis_of(sets.FLOATS) for name in ("Softmax", "LogSoftmax")},
    "LayerNormalization": layer_norm,
    "RMSNormalization": rms_norm,
    "BatchNormalization": per_channel(4, 2),
    "InstanceNormalization": per_channel(2, 3),
    "GroupNormalization": per_channel(2, 2, num_groups=1),
    "Gemm": gemm,
    "Attention": attention,
    "LSTM": recurrent(4, 8, 2, 3, input_forget=_FLAG),
    "GRU": recurrent(3, 6, 1, 2, linear_before_reset=_FLAG),
    "RNN": recurrent(1, 2, 1, 2),
}
#: Every other op is a function of one float tensor.
RECIPES |= {name: unary(sets.FLOATS) for name in TABLE if name not in RECIPES}


def add_node(source: Source, op: str) -> tuple[Value, ...]:
    """Draws a node of ``op`` into the source's graph; returns its results."""
    operands, attributes, outputs = RECIPES[op](source)
    made = source.builder.op(op, *operands, outputs=outputs, **attributes)
    results = made if isinstance(made, tuple) else (made,)
    source.pool.extend(results)
    return results


@st.composite
def graphs(
    draw: Callable,
    ops: Sequence[str] = tuple(TABLE),
    most: int = 8,
    least_extent: int = 1,
) -> Graph:
    """Verified graphs of up to ``most`` nodes, with every unread result as an output."""
    source = Source(draw, least_extent)
    results: list[Value] = []
    for _ in range(draw(st.integers(1, most))):
        results.extend(add_node(source, draw(st.sampled_from(list(ops)))))
    read = {v.name for node in source.builder.nodes for v in node.inputs if v is not None}
    outputs = [v for v in results if v.name not in read]
    return source.builder.graph(source.inputs, outputs, "random")
