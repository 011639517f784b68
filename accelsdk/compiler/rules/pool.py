"""MaxPool, AveragePool, LpPool and the global pools."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from accelsdk.compiler.rules.common import Rewrite, integer, ops, refuse, required, rule
from accelsdk.compiler.rules.windows import NAMES, Window, window
from accelsdk.graph.graph import Node
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import Value


def _window(node: Node) -> tuple[Value, Window]:
    x = required(node, 0)
    kernel = node.attributes.get("kernel_shape")
    if not isinstance(kernel, tuple):
        refuse(node, "it has no kernel_shape")
    return x, window(node, x.shape, tuple(int(k) for k in kernel))


def _max_pool(b: Builder, node: Node) -> Sequence[Value | None]:
    x, shape = _window(node)
    wants_indices = len(node.outputs) > 1 and node.outputs[1] is not None
    return ops(
        b,
        "MaxPool",
        x,
        outputs=2 if wants_indices else 1,
        kernel_shape=shape.kernel,
        strides=shape.strides,
        pads=shape.pads,
        dilations=shape.dilations,
        ceil_mode=integer(node, "ceil_mode", 0),
        storage_order=integer(node, "storage_order", 0),
    )


def _average_pool(b: Builder, node: Node) -> Sequence[Value | None]:
    x, shape = _window(node)
    return [_average(b, node, x, shape, integer(node, "count_include_pad", 0))]


def _average(b: Builder, node: Node, x: Value, shape: Window, include: int) -> Value:
    return b.op(
        "AveragePool",
        x,
        kernel_shape=shape.kernel,
        strides=shape.strides,
        pads=shape.pads,
        dilations=shape.dilations,
        ceil_mode=integer(node, "ceil_mode", 0),
        count_include_pad=include,
    )


def _lp_pool(b: Builder, node: Node) -> Sequence[Value | None]:
    """(sum |x|^p)^(1/p) over the window: the mean with padding counted, times its size."""
    x, shape = _window(node)
    p = integer(node, "p", 2)
    if p not in (1, 2) or integer(node, "ceil_mode", 0):
        refuse(node, f"p = {p} or ceil_mode; only p = 1 and 2 without ceil_mode are supported")
    magnitude = b.op("Abs", x) if p == 1 else b.op("Mul", x, x)
    mean = _average(b, node, magnitude, shape, include=1)
    total = b.op("Mul", mean, b.scalar(prod(shape.kernel), x.format))
    return [total if p == 1 else b.op("Sqrt", total)]


def _global(core: str) -> Rewrite:
    def rewrite(b: Builder, node: Node) -> Sequence[Value | None]:
        x = required(node, 0)
        if x.type.rank < 3:
            refuse(node, f"its operand {x.shape} has no spatial axes")
        return [b.op(core, x, axes=tuple(range(2, x.type.rank)), keepdims=1)]

    return rewrite


def _global_lp(b: Builder, node: Node) -> Sequence[Value | None]:
    p = integer(node, "p", 2)
    if p not in (1, 2):
        refuse(node, f"p = {p}; only 1 and 2 are supported")
    return _global(f"ReduceL{p}")(b, node)


RULES: tuple[LoweringRule, ...] = (
    rule("MaxPool", _max_pool, f"{NAMES} ceil_mode storage_order"),
    rule("AveragePool", _average_pool, f"{NAMES} ceil_mode count_include_pad"),
    rule("LpPool", _lp_pool, f"{NAMES} ceil_mode p"),
    rule("GlobalAveragePool", _global("ReduceMean")),
    rule("GlobalMaxPool", _global("ReduceMax")),
    rule("GlobalLpPool", _global_lp, "p"),
)
