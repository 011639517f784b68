"""Pairs of core ops that ONNX has one op for: integer contractions with their Requantize.

Runtimes have fast kernels for QLinearConv and QLinearMatMul, and none for the steps that an
int32 sum takes to become a code again. With both other scales 1, their multiplier
``(x_scale * w_scale) / y_scale`` is that of Requantize, bit for bit, and so is the rest:
``saturate(round_half_even(sum * multiplier) + y_zero_point)``.

A pair is taken where onnxruntime runs it, too: data and result of one format, weights signed if
they are; one zero point for all weights; something to sum (its QLinearMatMul over nothing forgets
the zero point, its QLinearConv reads memory that nobody wrote).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from accelsdk import formats as f
from accelsdk.exchange.emitter import Emitter
from accelsdk.exchange.group import Group
from accelsdk.graph.graph import CORE, Array, Graph, Node
from accelsdk.graph.opdef import required
from accelsdk.graph.ops import attribute
from accelsdk.graph.types import Value

_FUSED = {"ConvInteger": "QLinearConv", "MatMulInteger": "QLinearMatMul"}
_SIGNED = (f.INT8, f.INT4, f.INT2)


@dataclass(frozen=True, slots=True)
class _Pair:
    """An integer contraction whose sum one Requantize alone reads.

    Attributes:
        contraction: ConvInteger or MatMulInteger.
        requantize: Its reader.
        weight_zero: The one zero point of all weights; None if they have none.
        limited: Whether codes below the zero point become the zero point, and there are any.
    """

    contraction: Node
    requantize: Node
    weight_zero: Array | Value | None
    limited: bool


def groups(graph: Graph) -> list[Group]:
    """Returns the pairs of a graph."""
    outer = [node for node in graph.nodes if node.domain == CORE and node.op == "Requantize"]
    pairs = [pair for node in outer if (pair := _pair(graph, node)) is not None]
    return [
        Group(
            nodes=frozenset((pair.contraction.name, pair.requantize.name)),
            at=pair.requantize.name,
            name=_FUSED[pair.contraction.op],
            emit=partial(_emit, pair=pair),
        )
        for pair in pairs
    ]


def _pair(graph: Graph, requantize: Node) -> _Pair | None:
    total = required(requantize, 0)
    node = graph.producers.get(total.name)
    if node is None or node.domain != CORE or node.op not in _FUSED:
        return None
    alone = (
        graph.consumers.get(total.name) == (requantize,) and total.name not in graph.output_names
    )
    if not alone or attribute(requantize, "arithmetic") != "float32":
        return None
    x, w, y = required(node, 0), required(node, 1), requantize.result
    formats = x.format is y.format and w.format in _weights(node, x.format)
    zero = _weight_zero(graph, node)
    several = isinstance(zero, Value) and zero.type.count != 1
    if not formats or several or not _fits(node, requantize):
        return None
    return _Pair(node, requantize, zero, _is_limited(graph, requantize))


def _is_limited(graph: Graph, requantize: Node) -> bool:
    """Says whether the Relu of a Requantize changes any code."""
    zero, lowest = requantize.operand(3), int(requantize.result.format.min)
    known = graph.constant_by_name.get(zero.name) if zero is not None else None
    if zero is None or known is None:
        return bool(attribute(requantize, "relu")) and (zero is not None or lowest != 0)
    return bool(attribute(requantize, "relu")) and int(known.array()) != lowest


def _weights(node: Node, data: f.Format) -> Sequence[f.Format]:
    """Returns the formats of weights that go with data; those below 8 bits are widened."""
    narrow = node.op == "MatMulInteger"
    signed = _SIGNED if narrow else _SIGNED[:1]
    unsigned = (f.UINT8, f.UINT4, f.UINT2) if narrow else (f.UINT8,)
    return signed if data is f.INT8 else (*signed, *unsigned)


def _fits(node: Node, requantize: Node) -> bool:
    x, w, y = required(node, 0), required(node, 1), requantize.result
    multiplier, zero = required(requantize, 1), requantize.operand(3)
    last = attribute(requantize, "axis") in (-1, y.type.rank - 1)
    if zero is not None and zero.shape:
        return False
    if not (x.type.count and w.type.count and y.type.count):
        return False
    if node.op == "ConvInteger":
        return attribute(requantize, "axis") in (1, 1 - y.type.rank)
    data_zero, bias = node.operand(2), requantize.operand(4)
    plain = min(x.type.rank, w.type.rank) >= 2 and bias is None
    by_column = not multiplier.shape or (w.type.rank == 2 and last)
    return plain and by_column and (data_zero is None or data_zero.type.count == 1)


def _weight_zero(graph: Graph, node: Node) -> Array | Value | None:
    """Returns the zero point of the weights of an integer contraction.

    Constants that are one number throughout come as that number, and as None if it is 0.
    """
    zero = node.operand(3)
    known = graph.constant_by_name.get(zero.name) if zero is not None else None
    if zero is None or known is None or not zero.type.count:
        return zero
    numbers = np.asarray(known.array()).astype(np.int16).reshape(-1)
    if (numbers != numbers[0]).any():
        return zero
    return np.asarray(numbers[0]).astype(zero.format.dtype) if numbers[0] else None


def _emit(em: Emitter, pair: _Pair) -> None:
    """Emits the one op that a pair is."""
    output = pair.requantize.result.name
    node, requantize = pair.contraction, pair.requantize
    x, w, y = required(node, 0), required(node, 1), requantize.result
    one = em.constant(np.float32(1))
    multiplier = required(requantize, 1)
    scale = multiplier.name
    if multiplier.shape and math.prod(multiplier.shape) == 1:
        scale = em.node("Reshape", scale, em.ints(()))
    result_zero = _zero(em, requantize.operand(3), y.format)
    inputs = [
        *(x.name, one, _zero(em, node.operand(2), x.format)),
        *(w.name, scale, _zero(em, pair.weight_zero, w.format)),
        *(one, result_zero),
    ]
    attributes = {}
    if node.op == "ConvInteger":
        bias = requantize.operand(4)
        inputs.append(_bias(em, bias, w.shape[0]) if bias is not None else "")
        names = ("strides", "pads", "dilations", "group")
        attributes = {name: item for name in names if (item := attribute(node, name)) != ()}
    made = em.fresh(output) if pair.limited else output
    em.emit(_FUSED[node.op], inputs, (made,), attributes, name=requantize.name)
    if pair.limited:
        em.emit("Max", (made, result_zero), (output,))


def _zero(em: Emitter, zero: Array | Value | None, format: f.Format) -> str:
    """Emits a zero point as a scalar; None is 0."""
    if isinstance(zero, Value):
        return zero.name if not zero.shape else em.node("Reshape", zero.name, em.ints(()))
    return em.constant(np.zeros((), np.int8) if zero is None else zero, format)


def _bias(em: Emitter, bias: Value, channels: int) -> str:
    return bias.name if bias.shape else em.node("Expand", bias.name, em.ints((channels,)))
