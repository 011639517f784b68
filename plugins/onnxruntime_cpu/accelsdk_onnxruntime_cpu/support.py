"""What onnxruntime runs right: a measured table of ops and formats, and a few rules.

The table, ``kernels.toml``, is written by ``python -m tests.plugins.onnxruntime_kernels``, which
runs every op in every format; a test repeats a part of that. A format that onnxruntime has no
kernel for is not in it; one that it computes wrongly is in a table of its own. The
rules are what formats alone do not tell.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any, cast

from accelsdk import formats as f
from accelsdk.backend.backend import EMULATED, NATIVE, Refusal, Support, refuse
from accelsdk.exchange import standard
from accelsdk.formats import Format
from accelsdk.graph.families import sets
from accelsdk.graph.graph import CORE, Node
from accelsdk.graph.ops import attribute
from accelsdk.graph.types import Value

#: Formats of the exponent that Pow has kernels for, for bases of any of its formats.
_EXPONENTS = (f.FLOAT32, f.FLOAT64, f.INT32, f.INT64)
_WINDOW = ("kernel_shape", "pads")


def supports(node: Node, every: bool = False) -> Support:
    """Says whether, and how, onnxruntime runs a node.

    Args:
        node: What is asked about.
        every: Whether kernels count that were measured to go wrong.
    """
    table = kernels()["formats"]
    if node.domain != CORE or node.op not in table:
        return refuse(Refusal.OPERATOR, f"onnxruntime_cpu does not run {node.domain}:{node.op}")
    obstacle = obstacle_to(node)
    if obstacle is not None:
        return obstacle
    format = main_format(node)
    wrong = kernels()["wrong"].get(node.op, ()) if every else ()
    if format.name not in (*table[node.op], *wrong):
        return refuse(Refusal.FORMAT, f"onnxruntime has no right {node.op} in {format} on the CPU")
    own = standard.has_equivalent(node, detours=not every)
    if is_empty(node) and not (every and own) and node.op not in kernels()["empty"]["ops"]:
        return refuse(Refusal.SHAPE, f"onnxruntime's {node.op} is not right for empty tensors")
    return NATIVE if own else EMULATED


@cache
def kernels() -> Mapping[str, Any]:
    """Returns the measured table: formats of the main operand, by op; ``wrong``; ``empty``."""
    return tomllib.loads(resources.files(__package__).joinpath("kernels.toml").read_text("utf-8"))


def main_format(node: Node) -> Format:
    """Returns the format that the table is asked about: that of the first data operand."""
    operand: Value | None = node.operand(1 if node.op == "Where" else 0)
    return node.result.format if operand is None else operand.format


def is_empty(node: Node) -> bool:
    """Says whether an operand or a result has no elements."""
    return any(v is not None and not v.type.count for v in (*node.inputs, *node.outputs))


def obstacle_to(node: Node) -> Support | None:
    """Returns what stands in the way whatever the table says, or None."""
    match node.op:
        case "ScatterElements" | "ScatterND":
            small = main_format(node) in (f.FLOAT16, f.BFLOAT16)
            if small and attribute(node, "reduction") != "none":
                return refuse(Refusal.ATTRIBUTE, "onnxruntime reduces no 16-bit floats here")
        case "ReduceMax" | "ReduceMin":
            if main_format(node) == f.BOOL and is_empty(node):
                return refuse(Refusal.SHAPE, "onnxruntime has no extreme of no booleans")
        case "Resize":
            if main_format(node) in sets.INTEGERS and attribute(node, "mode") != "nearest":
                return refuse(Refusal.ATTRIBUTE, "onnxruntime rounds interpolated integers down")
            if attribute(node, "mode") == "cubic" and not _is_flat(node):
                return refuse(Refusal.SHAPE, "onnxruntime interpolates by cubics in planes alone")
        case "MaxPool" | "AveragePool":
            if _is_padded_wide(node):
                return refuse(Refusal.ATTRIBUTE, "onnxruntime pads pools by less than the kernel")
        case "Pow":
            exponent = node.operand(1)
            if exponent is not None and exponent.format not in _EXPONENTS:
                return refuse(Refusal.FORMAT, f"onnxruntime raises to no {exponent.format}")
    return None


def _is_flat(node: Node) -> bool:
    """Says whether only the last two axes, of two or four, are resized."""
    x = node.inputs[0]
    if x is None or x.type.rank not in (2, 4):
        return False
    return x.shape[:-2] == node.result.shape[:-2]


def _is_padded_wide(node: Node) -> bool:
    """Says whether a pool is padded by as much as its kernel, dilated or not."""
    kernel, pads = (cast("tuple[int, ...]", attribute(node, key)) for key in _WINDOW)
    return any(pad >= extent for pad, extent in zip(pads, (*kernel, *kernel), strict=False))
