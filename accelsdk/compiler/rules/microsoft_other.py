"""Ops of com.microsoft that ai.onnx has too, and those that are refused, with the reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from accelsdk.compiler.rules import fill, grid_sample, pad, select
from accelsdk.compiler.rules.common import constant, refuse, required, reshaped
from accelsdk.compiler.rules.microsoft_common import MICROSOFT, microsoft, same_as
from accelsdk.graph.graph import Node
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import Value

_SAMPLING_MODES = {"bilinear": "linear", "bicubic": "cubic"}


def _range(b: Builder, node: Node) -> Sequence[Value | None]:
    """Range whose delta may be left out: 1."""
    start, limit, *rest = node.inputs
    delta = rest[0] if rest else None
    if delta is None:
        form = required(node, 0).format
        delta = b.constant(np.ones((), form.dtype), form)
    return same_as(fill.RULES, "Range")(b, replace(node, inputs=(start, limit, delta)))


def _grid_sample(b: Builder, node: Node) -> Sequence[Value | None]:
    """GridSample with its modes under the names that ai.onnx had until opset 19."""
    mode = str(node.attributes.get("mode", "bilinear"))
    renamed = {**node.attributes, "mode": _SAMPLING_MODES.get(mode, mode)}
    return same_as(grid_sample.RULES, "GridSample")(b, replace(node, attributes=renamed))


def _expand_dims(b: Builder, node: Node) -> Sequence[Value | None]:
    """Unsqueeze by one axis, which may count from the end."""
    x, axis = required(node, 0), constant(b, node, 1, "axis")
    if axis is None or axis.size != 1 or not -x.type.rank - 1 <= int(axis.item()) <= x.type.rank:
        refuse(node, f"its axis {axis} is not valid for {x.shape}")
    at = int(axis.item()) % (x.type.rank + 1)
    return [reshaped(b, x, (*x.shape[:at], 1, *x.shape[at:]))]


def _gather_nd(b: Builder, node: Node) -> Sequence[Value | None]:
    return [b.op("GatherND", required(node, 0), required(node, 1))]


_SEARCH = "it runs a decoder graph as often as the data decide; export the decoder alone"
_EXPERTS = "which experts run depends on the data"
_LENGTHS = "the shapes of its results depend on the data"
_REFUSED = {
    "BeamSearch": _SEARCH,
    "GreedySearch": _SEARCH,
    "Sampling": f"{_SEARCH} (it also draws random numbers)",
    "WhisperBeamSearch": _SEARCH,
    "Unique": _LENGTHS,
    "RemovePadding": _LENGTHS,
    "RestorePadding": _LENGTHS,
    "Tokenizer": "strings are not supported",
    "MoE": _EXPERTS,
    "QMoE": _EXPERTS,
    "Inverse": "there is no core op that inverts matrices; solve for them before export",
    "PagedAttention": "its cache is written in place, at places that depend on the data",
    "SparseAttention": "its cache is written in place, at places that depend on the data",
    "EPContext": "it holds a program of another vendor",
    "MatMulBnb4": "its codes are no number format (NF4, FP4 tables); use MatMulNBits",
    "MatMulFpQ4": "its blocks have no published layout; use MatMulNBits",
}


def _refused(op: str, reason: str) -> LoweringRule:
    def rewrite(_b: Builder, node: Node) -> Sequence[Value | None]:
        refuse(node, reason)

    return LoweringRule(domain=MICROSOFT, op=op, rewrite=rewrite)


RULES: tuple[LoweringRule, ...] = (
    microsoft("Pad", same_as(pad.RULES, "Pad"), "mode"),
    microsoft("Range", _range),
    microsoft("Trilu", same_as(select.RULES, "Trilu"), "upper"),
    microsoft("GridSample", _grid_sample, "align_corners mode padding_mode"),
    microsoft("ExpandDims", _expand_dims),
    microsoft("GatherND", _gather_nd),
    *(_refused(op, reason) for op, reason in _REFUSED.items()),
)
