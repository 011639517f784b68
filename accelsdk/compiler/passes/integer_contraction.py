"""Computes MatMul and Conv of dequantised codes in integers.

``Quantize(f(Dequantize(a), Dequantize(b)) + bias)`` becomes Requantize of the integer sum, with
the multiplier ``sa * sb / sy``. The value before the last rounding is
``v = (sum (qa - za) (qb - zb) + bias) sa sb / sy``. With u = 2**-24, the integer way computes
the sum exactly, and rounds it, the multiplier and their product: it is off v by at most 4 u |v|,
and 2 u more of the bias's share, if the bias's scale is ``sa * sb`` but for its last bit. The
way over float32 rounds both operands, each product, every addition but one and the quotient:
its bound is (K + 3) u times the sum of magnitudes, which is never less. Results may so differ by
a code, where v lies as close as that to the middle between two codes.

It applies where all is known: constant scales above 0 and zero points; one scale for the data
and the result, and one for all weights or for each column (MatMul) or channel (Conv); no sum
beyond int32; a multiplier that is a normal float32; and a bias in int32 at the scale
``sa * sb``, if any. A Relu before Quantize is part of it: ``max(v, 0)`` rounds to no code below
the zero point.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from accelsdk.compiler.passes.affine import Affine
from accelsdk.compiler.passes.common import is_core, maker, only_for, origins
from accelsdk.compiler.passes.manager import Pass
from accelsdk.formats import FLOAT32, INT4, INT8, INT32, UINT4, UINT8
from accelsdk.graph.graph import Graph, Node
from accelsdk.graph.rewrite import Builder, remove_dead
from accelsdk.graph.types import TensorType, Value

_BYTES = (INT8, UINT8)
_INTEGER = {"MatMul": "MatMulInteger", "Conv": "ConvInteger"}
#: A scale of the bias may differ from sa * sb by the last bit of a float32.
_LAST_BIT = 2.0**-23


@dataclass(frozen=True, slots=True)
class _Found:
    """The nodes of one pattern, and what they were given."""

    quantize: Node
    relu: Node | None
    add: Node | None
    contraction: Node
    data: Node
    weights: Node
    bias: Value | None
    bias_maker: Node | None

    def nodes(self) -> tuple[Node, ...]:
        """All of them, in the order of the computation."""
        found = (self.data, self.weights, self.bias_maker, self.contraction, self.add, self.relu)
        return (*(node for node in found if node is not None), self.quantize)


def _run(graph: Graph) -> Graph:
    builder = Builder.of(graph)
    nodes: list[Node] = []
    for node in graph.nodes:
        found = _match(graph, node) if is_core(node, "Quantize") else None
        multiplier = _multiplier(graph, found) if found is not None else None
        if found is None or multiplier is None:
            nodes.append(node)
        else:
            nodes += _integer(builder, found, multiplier)
    if len(nodes) == len(graph.nodes):
        return graph
    constants = (*graph.constants, *builder.constants)
    return remove_dead(replace(graph, nodes=tuple(nodes), constants=constants))


def _match(graph: Graph, quantize: Node) -> _Found | None:
    def sole(reader: Node, value: Value | None, *ops: str) -> Node | None:
        made = maker(graph, value, *ops)
        alone = value is not None and only_for(graph, value, reader)
        return made if alone and value is not None and value.format is FLOAT32 else None

    reader, relu = quantize, sole(quantize, quantize.inputs[0], "Relu")
    reader = relu or reader
    add = sole(reader, reader.inputs[0], "Add")
    bias: Value | None = None
    contraction = None
    if add is not None:
        for value, other in (add.inputs, add.inputs[::-1]):
            contraction = contraction or sole(add, value, *_INTEGER)
            bias = other if contraction is not None and bias is None else bias
    else:
        contraction = sole(reader, reader.inputs[0], *_INTEGER)
    if contraction is None:
        return None
    if contraction.op == "Conv" and contraction.operand(2) is not None:
        if add is not None:
            return None
        bias = contraction.operand(2)
    data = maker(graph, contraction.inputs[0], "Dequantize")
    weights = maker(graph, contraction.inputs[1], "Dequantize")
    bias_maker = maker(graph, bias, "Dequantize")
    if data is None or weights is None or (bias is not None and bias_maker is None):
        return None
    return _Found(quantize, relu, add, contraction, data, weights, bias, bias_maker)


def _multiplier(graph: Graph, found: _Found) -> NDArray[np.float32] | None:
    """Returns sa * sb / sy as float32 if the pattern can be computed in integers, else None."""
    data, weights = Affine.of(graph, found.data), Affine.of(graph, found.weights)
    result = Affine.of(graph, found.quantize)
    narrow = (*_BYTES, INT4, UINT4) if found.contraction.op == "MatMul" else _BYTES
    if data.codes not in narrow or weights.codes not in narrow or result.codes not in _BYTES:
        return None
    if not (data.per_tensor and result.per_tensor and _by_column(found, weights)):
        return None
    scales = [affine.scales() for affine in (data, weights, result)]
    if any(affine.scale.format is not FLOAT32 for affine in (data, weights, result)):
        return None
    most = _most(found, data, weights)
    if scales[0] is None or scales[1] is None or scales[2] is None or most is None:
        return None
    steps = scales[0] * scales[1]
    bias = _most_of_bias(graph, found, steps)
    if bias is None or most + bias > int(INT32.max) or result.offset() is None:
        return None
    found_multiplier = (steps / scales[2]).astype(np.float32)
    normal = (found_multiplier >= FLOAT32.smallest_normal) & np.isfinite(found_multiplier)
    return found_multiplier if normal.all() else None


def _by_column(found: _Found, weights: Affine) -> bool:
    """Whether weights have one scale, or one for each column or channel of the result."""
    if weights.per_tensor:
        return True
    rank = found.weights.result.type.rank
    axis = 0 if found.contraction.op == "Conv" else 1
    stacked = found.contraction.op == "MatMul" and rank != 2
    return not weights.block and weights.axis == axis and not stacked


def _most(found: _Found, data: Affine, weights: Affine) -> int | None:
    """Returns the largest magnitude of the integer sum, or None if it is not known."""
    first, second = data.most(), weights.most()
    x, w = found.data.result.type, found.weights.result.type
    if first is None or second is None or min(x.rank, w.rank) < 2:
        return None
    taps = math.prod(w.shape[1:]) if found.contraction.op == "Conv" else x.shape[-1]
    return taps * first * second


def _most_of_bias(graph: Graph, found: _Found, steps: NDArray[np.float64]) -> int | None:
    """Returns the largest magnitude of the bias, or None if it is not one in int32."""
    if found.bias is None or found.bias_maker is None:
        return 0
    affine = Affine.of(graph, found.bias_maker)
    codes = found.bias_maker.inputs[0]
    known = graph.constant_by_name.get(codes.name) if codes is not None else None
    scales, offset = affine.scales(), affine.offset()
    if known is None or scales is None or offset is None or affine.codes is not INT32:
        return None
    axis = 1 if found.contraction.op == "Conv" else found.contraction.result.type.rank - 1
    channels = found.contraction.result.shape[axis]
    trailing = found.add is None or axis == found.contraction.result.type.rank - 1
    fits = known.value.shape == (channels,) and trailing and affine.real is FLOAT32
    if not fits or offset.any() or affine.block or not channels:
        return None
    if not (np.abs(scales - steps) <= _LAST_BIT * steps).all():
        return None
    return int(np.abs(np.asarray(known.array()).astype(np.int64)).max())


def _integer(builder: Builder, found: _Found, multiplier: NDArray[np.float32]) -> list[Node]:
    node, quantize = found.contraction, found.quantize
    data, weights = found.data, found.weights
    name = builder.fresh(f"{node.name}/sum")
    total = Value(f"{name}:0", TensorType(INT32, node.result.shape))
    operands = (data.inputs[0], weights.inputs[0], data.operand(2), weights.operand(2))
    inner = replace(
        node,
        op=_INTEGER[node.op],
        inputs=operands,
        outputs=(total,),
        name=name,
        origin=origins((data, weights, node)),
    )
    bias = found.bias_maker.inputs[0] if found.bias_maker is not None else None
    scale = builder.constant(multiplier, FLOAT32, name=f"{node.name}/multiplier")
    outer = replace(
        quantize,
        op="Requantize",
        inputs=(total, scale, None, quantize.operand(2), bias),
        attributes={
            "to": quantize.result.format.name,
            "axis": 1 if node.op == "Conv" else node.result.type.rank - 1,
            "relu": int(found.relu is not None),
        },
        origin=origins(found.nodes()),
    )
    return [inner, outer]


INTEGER_CONTRACTION = Pass(
    name="integer-contraction",
    changes="computes Quantize of MatMul or Conv, with bias and Relu, of dequantised codes as "
    "MatMulInteger or ConvInteger and Requantize, where scales are constant and no sum leaves "
    "int32; one rounding instead of many, so bits change towards the exact result",
    run=_run,
    exact=False,
)
