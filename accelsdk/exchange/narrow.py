"""FP8 in the types that ONNX has for it, converted by ONNX's own ops.

Exported models store FP8 as codes and convert it by tables, because runtimes differ in how they
convert. To judge a runtime's own conversions, a graph that does nothing but convert is written
with theirs.
"""

from __future__ import annotations

from typing import Any

from onnx import TensorProto

from accelsdk import formats as f
from accelsdk.exchange.emitter import Emitter
from accelsdk.exchange.storage import is_coded, is_widened, onnx_type
from accelsdk.formats import Format
from accelsdk.graph.graph import CORE, Graph, Node
from accelsdk.graph.ops import attribute

_TYPES = {
    f.E4M3: TensorProto.FLOAT8E4M3FN,
    f.E4M3FNUZ: TensorProto.FLOAT8E4M3FNUZ,
    f.E5M2: TensorProto.FLOAT8E5M2,
    f.E5M2FNUZ: TensorProto.FLOAT8E5M2FNUZ,
}
_OPS = {"Cast": "Cast", "Quantize": "QuantizeLinear", "Dequantize": "DequantizeLinear"}


def data_type(format: Format) -> int:
    """Returns the ONNX type of a format, that of FP8 among them."""
    return int(_TYPES[format]) if format in _TYPES else onnx_type(format)


def converts_only(graph: Graph) -> bool:
    """Says whether a graph has FP8, and does nothing but convert it from and to wide formats."""
    values = [*graph.inputs, *(v for node in graph.nodes for v in node.outputs if v is not None)]
    formats = {value.format for value in values}
    known = all(row in _TYPES or not (is_coded(row) or is_widened(row)) for row in formats)
    plain = not any(constant.value.format in _TYPES for constant in graph.constants)
    ops = all(node.domain == CORE and _is_plain(node) for node in graph.nodes)
    return bool(formats & _TYPES.keys()) and known and plain and ops


def _is_plain(node: Node) -> bool:
    if node.op not in _OPS:
        return False
    result = node.result.format
    scale = node.operand(1)
    real = node.inputs[0].format if node.inputs[0] is not None else result
    if node.op == "Quantize":
        return result in _TYPES and scale is not None and scale.format is real is f.FLOAT32
    if node.op == "Dequantize":
        return real in _TYPES and scale is not None and scale.format is result is f.FLOAT32
    return True


def emit(em: Emitter, node: Node) -> None:
    """Emits a conversion."""
    given: dict[str, Any] = {}
    if node.op == "Cast":
        given["to"] = data_type(node.result.format)
    else:
        scale = node.inputs[1]
        axis = attribute(node, "axis") if scale is not None and scale.shape else 0
        given |= {"axis": axis, "block_size": attribute(node, "block_size") or None}
    if node.op == "Quantize" and node.operand(2) is None:
        given["output_dtype"] = data_type(node.result.format)
    if node.op != "Dequantize" and node.result.format in _TYPES:
        given["saturate"] = attribute(node, "saturate")
    inputs = [value.name if value is not None else "" for value in node.inputs]
    em.emit(_OPS[node.op], inputs, (node.result.name,), given, name=node.name)
