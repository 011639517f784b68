"""Quantised pools and convolutions of com.microsoft, channels first or last."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from accelsdk.compiler.rules import pool
from accelsdk.compiler.rules.common import Rewrite, integer, refuse, required
from accelsdk.compiler.rules.microsoft_common import (
    dequantized,
    microsoft,
    only_integers,
    quantized,
    same_as,
    transposed,
)
from accelsdk.compiler.rules.qlinear import qlinear_conv
from accelsdk.compiler.rules.windows import NAMES
from accelsdk.graph.graph import Node
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import Value


def _first(rank: int) -> tuple[int, ...]:
    """The permutation from channels last to channels first."""
    return (0, rank - 1, *range(1, rank - 1))


def _last(rank: int) -> tuple[int, ...]:
    """The permutation from channels first to channels last."""
    return (0, *range(2, rank), 1)


def _channels(last: Callable[[Node], bool], rewrite: Rewrite) -> Rewrite:
    """Returns a rewrite that moves the channels of the first operand and result if need be."""

    def moved(b: Builder, node: Node) -> Sequence[Value | None]:
        x = required(node, 0)
        if not last(node):
            return rewrite(b, _without_layout(node))
        if x.type.rank < 3:
            refuse(node, f"its operand {x.shape} has no spatial axes")
        inner = replace(node, inputs=(transposed(b, x, _first(x.type.rank)), *node.inputs[1:]))
        inner = _without_layout(inner)
        (y, *_) = rewrite(b, inner)
        return [None if y is None else transposed(b, y, _last(y.type.rank))]

    return moved


def _without_layout(node: Node) -> Node:
    return replace(
        node, attributes={k: v for k, v in node.attributes.items() if k != "channels_last"}
    )


def _says_so(node: Node) -> bool:
    return bool(integer(node, "channels_last", 0))


def _pooled(op: str) -> Rewrite:
    """Operands: X, scale, zero?, then scale and zero? of the result."""
    of_floats = same_as(pool.RULES, op)

    def rewrite(b: Builder, node: Node) -> Sequence[Value | None]:
        x = required(node, 0)
        only_integers(node, x)
        real = dequantized(b, x, required(node, 1), node.operand(2))
        (y, *_) = of_floats(b, replace(node, inputs=(real,)))
        if y is None:
            refuse(node, "it makes no result")
        return [quantized(b, y, required(node, 3), node.operand(4), x.format)]

    return rewrite


RULES: tuple[LoweringRule, ...] = (
    microsoft(
        "QLinearAveragePool",
        _channels(_says_so, _pooled("AveragePool")),
        f"{NAMES} ceil_mode count_include_pad channels_last",
    ),
    microsoft(
        "QLinearGlobalAveragePool",
        _channels(_says_so, _pooled("GlobalAveragePool")),
        "channels_last",
    ),
    microsoft("QLinearConv", _channels(_says_so, qlinear_conv), f"{NAMES} group channels_last"),
    microsoft(
        "NhwcMaxPool",
        _channels(lambda _: True, same_as(pool.RULES, "MaxPool")),
        f"{NAMES} ceil_mode",
    ),
)
