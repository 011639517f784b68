"""DepthToSpace and SpaceToDepth as Reshape, Transpose, Reshape (ONNX operator documentation)."""

from __future__ import annotations

from collections.abc import Sequence

from accelsdk.compiler.rules.common import integer, refuse, required, rule, text
from accelsdk.graph.graph import Node
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import Value


def _operand(node: Node) -> tuple[Value, int]:
    x, block = required(node, 0), integer(node, "blocksize", 0)
    if x.type.rank != 4 or block < 1:
        refuse(node, f"it needs a 4-D operand and a block size, not {x.shape} and {block}")
    return x, block


def _depth_to_space(b: Builder, node: Node) -> Sequence[Value | None]:
    x, s = _operand(node)
    n, c, h, w = x.shape
    if c % (s * s):
        refuse(node, f"{c} channels are no multiple of {s * s}")
    if text(node, "mode", "DCR", ("DCR", "CRD")) == "DCR":
        split, perm = (n, s, s, c // (s * s), h, w), (0, 3, 4, 1, 5, 2)
    else:
        split, perm = (n, c // (s * s), s, s, h, w), (0, 1, 4, 2, 5, 3)
    moved = b.op("Transpose", b.op("Reshape", x, shape=split), perm=perm)
    return [b.op("Reshape", moved, shape=(n, c // (s * s), h * s, w * s))]


def _space_to_depth(b: Builder, node: Node) -> Sequence[Value | None]:
    x, s = _operand(node)
    n, c, h, w = x.shape
    if h % s or w % s:
        refuse(node, f"{h} x {w} is no multiple of block size {s}")
    if text(node, "mode", "DCR", ("DCR", "CRD")) == "DCR":
        perm, channels = (0, 3, 5, 1, 2, 4), c * s * s
    else:
        perm, channels = (0, 1, 3, 5, 2, 4), c * s * s
    split = b.op("Reshape", x, shape=(n, c, h // s, s, w // s, s))
    moved = b.op("Transpose", split, perm=perm)
    return [b.op("Reshape", moved, shape=(n, channels, h // s, w // s))]


RULES: tuple[LoweringRule, ...] = (
    rule("DepthToSpace", _depth_to_space, "blocksize mode"),
    rule("SpaceToDepth", _space_to_depth, "blocksize mode"),
)
