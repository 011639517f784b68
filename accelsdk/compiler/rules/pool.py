"""MaxPool, AveragePool, LpPool and the global pools."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod

from accelsdk.compiler.rules.common import Rewrite, integer, ops, refuse, required, rule, text
from accelsdk.compiler.rules.windows import AUTO_PAD, NAMES, Window, window
from accelsdk.formats import BFLOAT16, FLOAT16, FLOAT32
from accelsdk.graph.graph import Node
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import Value


def _window(node: Node) -> tuple[Value, Window]:
    x = required(node, 0)
    kernel = node.attributes.get("kernel_shape")
    if not isinstance(kernel, tuple):
        refuse(node, "it has no kernel_shape")
    return x, window(node, x.shape, tuple(int(k) for k in kernel))


def _ceil_mode(node: Node) -> int:
    """With auto_pad, ONNX's counts of windows are the same whatever ceil_mode says."""
    given = text(node, "auto_pad", "NOTSET", AUTO_PAD) == "NOTSET"
    return integer(node, "ceil_mode", 0) if given else 0


def _fitting(node: Node, window: Window, extents: Sequence[int]) -> Window:
    """The window, where ceil_mode lets one reach past an axis that it is wider than.

    Such an axis has that one window. It is narrowed to its taps within the padded axis, and the
    stride is such that the next window would start behind the operand.
    """
    if not _ceil_mode(node):
        return window
    kernel, strides, count = list(window.kernel), list(window.strides), len(extents)
    for i, extent in enumerate(extents):
        padded = extent + window.pads[i] + window.pads[i + count]
        excess = (kernel[i] - 1) * window.dilations[i] + 1 - padded
        if 0 < excess < strides[i] and extent + window.pads[i] > 0:
            kernel[i] = (padded - 1) // window.dilations[i] + 1
            strides[i] = padded
    return replace(window, kernel=tuple(kernel), strides=tuple(strides))


def _max_pool(b: Builder, node: Node) -> Sequence[Value | None]:
    x, shape = _window(node)
    shape = _fitting(node, shape, x.shape[2:])
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
        ceil_mode=_ceil_mode(node),
        storage_order=integer(node, "storage_order", 0),
    )


def _average_pool(b: Builder, node: Node) -> Sequence[Value | None]:
    x, shape = _window(node)
    shape = _fitting(node, shape, x.shape[2:])
    return ops(
        b,
        "AveragePool",
        x,
        outputs=1,
        kernel_shape=shape.kernel,
        strides=shape.strides,
        pads=shape.pads,
        dilations=shape.dilations,
        ceil_mode=_ceil_mode(node),
        count_include_pad=integer(node, "count_include_pad", 0),
    )


def _lp_pool(b: Builder, node: Node) -> Sequence[Value | None]:
    """(sum |x|^p)^(1/p) over each window: the mean with padding counted, times its size.

    With ceil_mode, what the last windows reach past the end becomes padding too, so that every
    window has the same size.
    """
    x, shape = _window(node)
    if _ceil_mode(node):
        shape = _reaching(shape, x.shape[2:])
    count = prod(shape.kernel)

    def total(powers: Value) -> Value:
        mean = b.op(
            "AveragePool",
            powers,
            kernel_shape=shape.kernel,
            strides=shape.strides,
            pads=shape.pads,
            dilations=shape.dilations,
            count_include_pad=1,
        )
        return b.op("Mul", mean, b.scalar(count, powers.format))

    return [_norm(b, node, x, total)]


def _reaching(window: Window, extents: Sequence[int]) -> Window:
    """The window with end pads such that the last one that ceil_mode adds fits."""
    pads, count = list(window.pads), len(extents)
    for i, extent in enumerate(extents):
        reach = (window.kernel[i] - 1) * window.dilations[i] + 1
        room = extent + pads[i] + pads[i + count] - reach
        steps = -(-room // window.strides[i])
        if steps * window.strides[i] >= extent + pads[i]:
            steps -= 1  # that window would start in the end padding
        pads[i + count] += steps * window.strides[i] - room
    return replace(window, pads=tuple(max(pad, 0) for pad in pads))


def _norm(b: Builder, node: Node, x: Value, total: Callable[[Value], Value]) -> Value:
    """(total |x|^p)^(1/p), in float32 for 16-bit floats, whose powers overflow soon."""
    p = integer(node, "p", 2)
    if p < 1:
        refuse(node, f"p = {p}; it must be positive")
    wide = b.op("Cast", x, to=FLOAT32.name) if x.format in (FLOAT16, BFLOAT16) else x
    magnitude = b.op("Abs", wide)
    if p == 1:
        made = total(magnitude)
    elif p == 2:
        made = b.op("Sqrt", total(b.op("Mul", wide, wide)))
    else:
        powers = b.op("Pow", magnitude, b.scalar(p, wide.format))
        made = b.op("Pow", total(powers), b.scalar(1 / p, wide.format))
    return made if wide is x else b.op("Cast", made, to=x.format.name)


def _global(core: str) -> Rewrite:
    def rewrite(b: Builder, node: Node) -> Sequence[Value | None]:
        x = required(node, 0)
        if x.type.rank < 3:
            refuse(node, f"its operand {x.shape} has no spatial axes")
        return [b.op(core, x, axes=tuple(range(2, x.type.rank)), keepdims=1)]

    return rewrite


def _global_lp(b: Builder, node: Node) -> Sequence[Value | None]:
    x = required(node, 0)
    if x.type.rank < 3:
        refuse(node, f"its operand {x.shape} has no spatial axes")
    axes = tuple(range(2, x.type.rank))
    return [_norm(b, node, x, lambda v: b.op("ReduceSum", v, axes=axes, keepdims=1))]


RULES: tuple[LoweringRule, ...] = (
    rule("MaxPool", _max_pool, f"{NAMES} ceil_mode storage_order"),
    rule("AveragePool", _average_pool, f"{NAMES} ceil_mode count_include_pad"),
    rule("LpPool", _lp_pool, f"{NAMES} ceil_mode p"),
    rule("GlobalAveragePool", _global("ReduceMean")),
    rule("GlobalMaxPool", _global("ReduceMax")),
    rule("GlobalLpPool", _global_lp, "p"),
)
