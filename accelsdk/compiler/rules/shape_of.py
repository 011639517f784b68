"""Shape and Size: constants, because shapes are static."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from accelsdk.compiler.rules.common import int64s, integer, required, rule
from accelsdk.graph.graph import Node
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import Value


def _shape(b: Builder, node: Node) -> Sequence[Value | None]:
    shape = required(node, 0).shape
    # Python's slice clamps and counts from the end exactly as ONNX does here.
    start, end = integer(node, "start", 0), integer(node, "end", len(shape))
    return [int64s(b, shape[slice(start, end)])]


def _size(b: Builder, node: Node) -> Sequence[Value | None]:
    return [b.constant(np.array(required(node, 0).type.count, np.int64))]


RULES: tuple[LoweringRule, ...] = (rule("Shape", _shape, "start end"), rule("Size", _size))
