"""Core ops that ONNX has: one standard node each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from accelsdk import formats as f
from accelsdk.exchange.emitter import Emitter
from accelsdk.exchange.storage import is_coded, is_widened, onnx_type
from accelsdk.graph.decompose.gates import parameters
from accelsdk.graph.graph import Node
from accelsdk.graph.opdef import Family
from accelsdk.graph.ops import attribute, lookup

#: Attributes that ONNX takes as int64 inputs, in the order of those inputs.
_AS_INPUTS: Mapping[str, tuple[str, ...]] = {
    "Reshape": ("shape",),
    "Expand": ("shape",),
    "Tile": ("repeats",),
    "Slice": ("starts", "ends", "axes", "steps"),
    "Split": ("split",),
    "Pad": ("pads",),
    "CumSum": ("axis",),
    "TopK": ("k",),
}
_REDUCTIONS = (
    *("ReduceSum", "ReduceProd", "ReduceMax", "ReduceMin", "ReduceMean", "ReduceL1", "ReduceL2"),
    *("ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp"),
)
#: Ops whose core attributes are those of ONNX.
_SAME = frozenset(
    (
        *("MatMul", "Conv", "ConvTranspose", "ConvInteger", "Transpose", "Concat", "Gather"),
        *("GatherND", "GatherElements", "ScatterElements", "ScatterND", "ArgMax", "ArgMin"),
        *("MaxPool", "AveragePool", "Softmax", "LogSoftmax", "LayerNormalization"),
        *("RMSNormalization", "BatchNormalization", "InstanceNormalization"),
        *("GroupNormalization", "Gemm", "NonZero", "Compress", "Unique", "NonMaxSuppression"),
    )
)
_RECURRENT = ("LSTM", "GRU", "RNN")
#: Composites that opset 23 does not have, or does not define as the core table does.
_FUNCTIONS_ONLY = ("Swish", "Attention")
#: Sub-byte and coded values may be moved as they are stored, and nothing else.
_FULL_INTEGERS = (f.INT8, f.UINT8, f.INT16, f.UINT16)


def has_equivalent(node: Node, detours: bool = True) -> bool:
    """Says whether one standard ONNX node means the same as a core node.

    Args:
        node: A core node.
        detours: Whether a node that onnxruntime is known to compute wrongly counts as none.
    """
    match node.op:
        case "Max" | "Min" | "Clip" | "Sign" if not detours:
            return True
        case "LSTM" | "GRU" | "RNN":
            return not attribute(node, "layout")
        case "IsNaN" | "IsInf":
            return not any(v is not None and is_coded(v.format) for v in node.inputs)
        case "Quantize" | "Dequantize":
            return _is_plain_affine(node)
        case "Cast":
            return _is_plain_cast(node) or _keeps_format(node)
        case "Div" | "Mod":
            # ONNX leaves division by zero open, where onnxruntime fails.
            return node.result.format.is_float
        case "Max" | "Min" | "Clip" | "Sign":
            # It looks at the lower halves of 64-bit integers (1.31, AVX-512).
            return node.result.format != f.INT64
        case "Where":
            # onnxruntime selects no booleans.
            return node.result.format != f.BOOL
        case "Pad":
            # Nor does it pad scalars.
            return node.result.type.rank > 0
        case "NonZero":
            return node.result.shape[0] > 0
        case "MatMulInteger":
            # Only one zero point of a; that of the columns of stacked matrices has their rank.
            b, a_zero, b_zero = (node.operand(index) for index in (1, 2, 3))
            if b is not None and b.type.rank > 2 and b_zero is not None and b_zero.type.count != 1:
                return False
            return a_zero is None or a_zero.type.count == 1
        case "ConvInteger":
            # Only one zero point of all filters.
            zero = node.operand(3)
            return zero is None or zero.type.count == 1
        case op if op in _REDUCTIONS:
            return bool(attribute(node, "axes"))
        case op if op in _FUNCTIONS_ONLY:
            return False
    simple = lookup(node).family in (Family.ELEMENTWISE, Family.ACTIVATION)
    return simple or node.op in _SAME or node.op in _AS_INPUTS or node.op == "Resize"


def _formats(node: Node) -> tuple[f.Format, ...]:
    return tuple(v.format for v in (*node.inputs, *node.outputs) if v is not None)


def _is_plain_affine(node: Node) -> bool:
    """Says whether the classical form fits: float32 on one side, 8 or 16 bits on the other."""
    real, scale = (node.inputs[0], node.inputs[1])
    code = node.result
    if node.op == "Dequantize":
        real, code = node.result, node.inputs[0] or node.result
    blocked = attribute(node, "block_size") != 0
    return (
        real is not None
        and scale is not None
        and real.format == scale.format == f.FLOAT32
        and code.format in _FULL_INTEGERS
        and not blocked
    )


def _is_plain_cast(node: Node) -> bool:
    return not any(is_coded(row) or is_widened(row) for row in _formats(node))


def _keeps_format(node: Node) -> bool:
    return len({row.name for row in _formats(node)}) == 1


def emit(em: Emitter, node: Node, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Emits the standard node that means the same as a core node."""
    special: Callable[..., None] | None = _SPECIAL.get(node.op)
    if special is not None:
        special(em, node, inputs, outputs)
        return
    if node.op in _AS_INPUTS:
        _with_inputs(em, node, inputs, outputs)
    elif node.op in _REDUCTIONS:
        axes = em.ints(_ints(node, "axes"))
        given = {"keepdims": int(_flag(node, "keepdims"))}
        em.emit(node.op, (*inputs, axes), outputs, given, name=node.name)
    else:
        em.emit(node.op, inputs, outputs, _attributes(node), name=node.name)


def _attributes(node: Node, *without: str) -> dict[str, Any]:
    """Returns all attributes, defaults filled in; empty tuples stand for nothing in ONNX."""
    found: dict[str, Any] = {}
    for definition in lookup(node).attributes:
        item = attribute(node, definition.name)
        if definition.name in without or item == () or _implied(node, definition.name):
            continue
        found[definition.name] = int(item) if isinstance(item, bool) else item
    return found


def _implied(node: Node, name: str) -> bool:
    """Whether an attribute goes without saying, and must, for onnxruntime to run the node.

    Between Dequantize and Quantize it makes AveragePool an op that knows no dilations.
    """
    return node.op == "AveragePool" and name == "dilations" and set(_ints(node, name)) == {1}


def _ints(node: Node, name: str) -> tuple[int, ...]:
    item = attribute(node, name)
    return tuple(int(n) for n in item) if isinstance(item, tuple) else (int(item),)


def _flag(node: Node, name: str) -> bool:
    return bool(attribute(node, name))


def _with_inputs(em: Emitter, node: Node, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    names = _AS_INPUTS[node.op]
    made = [em.ints(_ints(node, name)) for name in names]
    if node.op == "CumSum":
        made = [em.constant(np.int64(_ints(node, "axis")[0]))]
    attributes = _attributes(node, *names)
    if node.op == "Reshape":
        attributes["allowzero"] = 1
    # The attribute-made inputs stand second; Pad's constant_value comes after them.
    em.emit(node.op, (inputs[0], *made, *inputs[1:]), outputs, attributes, name=node.name)


def _recurrent(em: Emitter, node: Node, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    given = _attributes(node, "layout")
    if not given["clip"]:
        del given["clip"]
    # ONNX names no default for Affine and ScaledTanh; onnxruntime takes 0.
    alphas, betas = parameters(node)
    given |= {"activation_alpha": alphas or None, "activation_beta": betas or None}
    em.emit(node.op, inputs, outputs, given, name=node.name)


def _by_group(em: Emitter, node: Node, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Mean and variance are taken in FLOAT unless the node says otherwise."""
    given = _attributes(node)
    if node.result.format is f.FLOAT64:
        given["stash_type"] = onnx_type(f.FLOAT64)
    em.emit(node.op, inputs, outputs, given, name=node.name)


def _quantize(em: Emitter, node: Node, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    zero = inputs[2] if len(inputs) > 2 else ""
    given: dict[str, Any] = {"axis": _axis(node)}
    if not zero:
        given["output_dtype"] = onnx_type(node.result.format)
    em.emit("QuantizeLinear", (*inputs[:2], zero), outputs, given, name=node.name)


def _axis(node: Node) -> int:
    """Returns the axis; a scalar scale has none, and then any valid one will do."""
    scale, x = node.inputs[1], node.inputs[0]
    if scale is None or x is None or not scale.shape:
        return 0
    return _ints(node, "axis")[0]


def _dequantize(em: Emitter, node: Node, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    em.emit("DequantizeLinear", inputs, outputs, {"axis": _axis(node)}, name=node.name)


def _clip(em: Emitter, node: Node, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """A limit that is left out is an infinity; onnxruntime takes the largest finite number."""
    format = node.result.format
    limits = [*inputs[1:], "", ""][:2]
    if format.is_float:
        limits = [
            name or em.constant(np.array(end, format.dtype), format)
            for name, end in zip(limits, (-np.inf, np.inf), strict=True)
        ]
    em.emit("Clip", (inputs[0], *limits), outputs, name=node.name)


def _suppression(em: Emitter, node: Node, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    most = _ints(node, "max_output_boxes_per_class")
    given = _attributes(node, "max_output_boxes_per_class")
    operands = (*inputs[:2], em.ints(most), *inputs[2:])
    em.emit(node.op, operands, outputs, given, name=node.name)


def _cast(em: Emitter, node: Node, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    if _keeps_format(node):
        em.emit("Identity", inputs, outputs, name=node.name)
        return
    em.emit("Cast", inputs, outputs, {"to": onnx_type(node.result.format)}, name=node.name)


def _resize(em: Emitter, node: Node, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    without = ("output_shape", "scales", "roi")
    given = _attributes(node, *without)
    scales, shape = attribute(node, "scales"), _ints(node, "output_shape")
    roi = attribute(node, "roi")
    source = node.inputs[0]
    exact = source is not None and all(
        # in float32 as in float64: runtimes do either, the latter for 16-bit tensors
        int(np.floor(kind(np.float32(scale)) * kind(extent))) == wanted
        for kind in (np.float32, np.float64)
        for scale, extent, wanted in zip(_floats(scales), source.shape, shape, strict=True)
    )
    region = em.constant(np.array(roi, np.float32)) if roi else ""
    operands: tuple[str, ...]
    if exact:
        operands = (inputs[0], region, em.constant(np.array(scales, np.float32)))
    else:
        operands = (inputs[0], region, "", em.ints(shape))
    em.emit("Resize", operands, outputs, given, name=node.name)


def _floats(item: object) -> tuple[float, ...]:
    return tuple(float(number) for number in item) if isinstance(item, tuple) else ()


_SPECIAL: Mapping[str, Callable[..., None]] = {
    **dict.fromkeys(_RECURRENT, _recurrent),
    "GroupNormalization": _by_group,
    "Quantize": _quantize,
    "Dequantize": _dequantize,
    "Cast": _cast,
    "Clip": _clip,
    "Resize": _resize,
    "NonMaxSuppression": _suppression,
}
