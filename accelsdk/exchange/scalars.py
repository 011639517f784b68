"""Constant scalars between Dequantize and Quantize, written as codes.

onnxruntime adds and multiplies codes (QLinearAdd, QLinearMul) where both operands are
Dequantize and the result is quantised again; a constant that was folded to one number stands in
the way. Any normal number c is ``(1 - 0) * c`` or ``(0 - 1) * -c``, exactly: a code, a zero
point, and a scale above 0.
"""

from __future__ import annotations

import numpy as np

from accelsdk import formats as f
from accelsdk.exchange.emitter import Emitter
from accelsdk.graph.graph import CORE, Graph, Node
from accelsdk.graph.types import Value

_BYTES = (f.INT8, f.UINT8)


def emit(em: Emitter, graph: Graph, node: Node) -> list[str]:
    """Emits the scalar operand of a node, if it is one of these; returns its operands' names."""
    names = [value.name if value is not None else "" for value in node.inputs]
    if node.domain != CORE or node.op not in ("Add", "Mul"):
        return names
    for index, (value, other) in enumerate(zip(node.inputs, node.inputs[::-1], strict=True)):
        format = _between(graph, node, other)
        number = _number(graph, value)
        if value is not None and format is not None and number is not None:
            code, zero = (1, 0) if number >= 0 else (0, 1)
            names[index] = em.node(
                "DequantizeLinear",
                em.constant(np.full(value.shape, code, format.dtype)),
                em.constant(np.float32(abs(number))),
                em.constant(np.asarray(zero, format.dtype)),
            )
            break
    return names


def _between(graph: Graph, node: Node, operand: Value | None) -> f.Format | None:
    """Returns the format of the codes that a node is between, if it is."""
    before = graph.producers.get(operand.name) if operand is not None else None
    readers = graph.consumers.get(node.result.name, ())
    if before is None or before.op != "Dequantize" or len(readers) != 1:
        return None
    (after,) = readers
    codes = before.inputs[0]
    if after.op != "Quantize" or codes is None or node.result.name in graph.output_names:
        return None
    plain = all(near.domain == CORE and _is_scalar(near.operand(1)) for near in (before, after))
    same = codes.format is after.result.format and codes.format in _BYTES
    return codes.format if plain and same else None


def _is_scalar(value: Value | None) -> bool:
    return value is not None and not value.shape and value.format is f.FLOAT32


def _number(graph: Graph, value: Value | None) -> float | None:
    """Returns a constant of one float32 that can be a scale or its opposite, else None."""
    known = graph.constant_by_name.get(value.name) if value is not None else None
    if value is None or known is None or value.type.count != 1 or value.format is not f.FLOAT32:
        return None
    number = float(np.asarray(known.array()).reshape(()))
    return number if np.isfinite(number) and abs(number) >= f.FLOAT32.smallest_normal else None
