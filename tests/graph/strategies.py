"""Random typed graphs over the whole op table, for property tests.

`RECIPES` says for each op how to draw operands and attributes that its rules accept (the
recipes are in `recipes_compute` and `recipes_shape`); a value that exists already is taken as
an operand wherever one of the right type does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hypothesis import strategies as st

from accelsdk import formats as f
from accelsdk.formats import FORMATS
from accelsdk.graph.families import sets
from accelsdk.graph.graph import Graph
from accelsdk.graph.ops import TABLE, bounded
from accelsdk.graph.types import Value
from tests.graph.recipes_bounded import compress, nonzero, suppression, unique
from tests.graph.recipes_compute import (
    arg,
    axis_of,
    binary,
    convolution,
    dequantize,
    dequantize_block,
    lengths_sum,
    lengths_sum_fused,
    matmul,
    matmul_integer,
    modulo,
    one_way,
    pool,
    power,
    quantize,
    quantize_block,
    reduction,
    requantize,
    scaled_matmul,
    select,
    topk,
    transposed,
    unary,
)
from tests.graph.recipes_shape import (
    attention,
    clip,
    concat,
    cut,
    expand,
    gather,
    gather_elements,
    gather_nd,
    gemm,
    layer_norm,
    pad,
    per_channel,
    recurrent,
    reshape,
    resize,
    rms_norm,
    scatter_elements,
    scatter_nd,
    split,
    tile,
    transpose,
)
from tests.graph.source import CODES, Recipe, Source

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
    "NonZero": nonzero,
    "Compress": compress,
    "Unique": unique,
    "NonMaxSuppression": suppression,
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
    # Nothing may read a value whose size depends on the data.
    unreadable = bounded(source.builder.nodes[-1])
    source.pool.extend(value for value in results if value.name not in unreadable)
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
