"""Strides, dilations and explicit pads of sliding windows (convolution and pooling)."""

from __future__ import annotations

from dataclasses import dataclass

from accelsdk.compiler.rules.common import refuse, spatial, text
from accelsdk.graph.graph import Node
from accelsdk.graph.types import Shape

#: Attributes that `window` heeds.
NAMES = "auto_pad pads strides dilations kernel_shape"

#: What auto_pad may be.
AUTO_PAD = ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")


@dataclass(frozen=True, slots=True)
class Window:
    """A sliding window with nothing left implicit; one item a spatial axis."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]  # begins, then ends


def window(node: Node, shape: Shape, kernel: tuple[int, ...]) -> Window:
    """Reads a node's window.

    Args:
        node: A convolution or pooling node.
        shape: Shape of its first operand: batch, channels, then the spatial extents.
        kernel: Extents of the kernel.
    """
    extents = shape[2:]
    count = len(extents)
    if count == 0 or len(kernel) != count:
        refuse(node, f"kernel {kernel} does not fit operand {shape}")
    declared = node.attributes.get("kernel_shape", kernel)
    if declared != kernel:
        refuse(node, f"kernel_shape {declared} differs from the weights' {kernel}")
    strides, dilations = spatial(node, "strides", count, 1), spatial(node, "dilations", count, 1)
    if min(*strides, *dilations, *kernel) < 1:
        refuse(node, f"strides {strides}, dilations {dilations} and {kernel} must be positive")
    mode = text(node, "auto_pad", "NOTSET", AUTO_PAD)
    if mode == "NOTSET":
        pads = spatial(node, "pads", 2 * count, 0)
    elif mode == "VALID":
        pads = (0,) * (2 * count)
    else:
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
        # SAME: the result has ceil(extent / stride) windows.
        totals = tuple(
            max((-(-n // s) - 1) * s + r - n, 0)
            for n, s, r in zip(extents, strides, reach, strict=True)
        )
        pads = halves(totals, upper=mode == "SAME_UPPER")
    return Window(kernel, strides, dilations, pads)


def halves(totals: tuple[int, ...], upper: bool) -> tuple[int, ...]:
    """Splits total pads into begins and ends; ``upper`` puts the odd one at the end."""
    small, large = tuple(t // 2 for t in totals), tuple(t - t // 2 for t in totals)
    return small + large if upper else large + small
