"""Identity and Dropout (inference): nothing is computed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from accelsdk.compiler.rules.common import constant, refuse, required, rule
from accelsdk.graph.graph import Node
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import Value


def _identity(b: Builder, node: Node) -> Sequence[Value | None]:
    return [required(node, 0)]


def _dropout(b: Builder, node: Node) -> Sequence[Value | None]:
    training = constant(b, node, 2, "training_mode")
    if training is not None and training.any():
        refuse(node, "training mode is not supported")
    x = required(node, 0)
    wants_mask = len(node.outputs) > 1 and node.outputs[1] is not None
    if not wants_mask:
        return [x]
    return [x, b.op("Expand", b.constant(np.ones((), np.bool_)), shape=x.shape)]


RULES: tuple[LoweringRule, ...] = (
    rule("Identity", _identity),
    rule("Dropout", _dropout, "seed ratio"),
)
