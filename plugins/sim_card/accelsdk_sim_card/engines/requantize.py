"""The output stage of the integer engine: 32-bit sums to 8-bit codes.

Float multipliers follow ONNX QLinearMatMul; fixed-point ones FBGEMM (one rounding) and
gemmlowp (two): see `accelsdk.numerics.requantize` for the published rules.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.graph.graph import Node
from accelsdk.kernels.kernel import Binders, Kernel, format_of, integer, shape_of, text
from accelsdk.numerics.requantize import fixed_multiply

Array = NDArray[Any]
Multiply = Callable[[Array, Array, Array], Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequantUnit:
    """How the stage scales and rounds.

    Attributes:
        to_integer: Rounds scaled sums to integers.
        carry: What sums and float32 multipliers are multiplied in.
        fixed: Multiplies by a Q31 multiplier and shifts right, in place of the sound way.
        relu_first: Whether ReLU looks at the sum before the bias is added.
    """

    to_integer: Callable[[Array], Array] = np.rint
    carry: type[np.float32] | type[np.float64] = np.float32
    fixed: Multiply | None = None
    relu_first: bool = False


SOUND = RequantUnit()


def per_channel(node: Node) -> Callable[[Array | None], Array]:
    """Returns what lays a parameter of a Requantize along the channels; one left out is zero."""
    rank = len(shape_of(node, 0))
    axis = integer(node, "axis") % max(rank, 1)
    spread = tuple(-1 if dim == axis else 1 for dim in range(rank))

    def channel(x: Array | None) -> Array:
        if x is None:
            return np.zeros((), np.int32)
        return x.reshape(()) if x.size == 1 else x.reshape(spread)

    return channel


def bind_requantize(node: Node, unit: RequantUnit = SOUND) -> Kernel:
    """Returns the kernel of a Requantize."""
    target, arithmetic = format_of(node, "to"), text(node, "arithmetic")
    relu, channel = bool(integer(node, "relu")), per_channel(node)

    def fixed(acc: Array, q31: Array, shift: Array) -> Array:
        if unit.fixed is not None:
            return unit.fixed(acc, q31, shift)
        return fixed_multiply(acc, q31, shift, arithmetic == "fixed_double")

    def requantize(
        acc: Array,
        multiplier: Array,
        shift: Array | None = None,
        zero: Array | None = None,
        bias: Array | None = None,
    ) -> tuple[Array, ...]:
        if relu and unit.relu_first:
            acc = np.maximum(acc, 0)
        total = acc + channel(bias).astype(np.int32)  # wraps at 32 bits, as in hardware
        zeros = channel(zero).astype(np.int64)
        if shift is None:
            scaled = total.astype(unit.carry) * channel(multiplier).astype(unit.carry, copy=False)
            steps = np.clip(unit.to_integer(scaled) + zeros, target.min, target.max)
        else:
            steps = fixed(total, channel(multiplier), channel(shift)) + zeros
            steps = np.clip(steps, int(target.min), int(target.max))
        if relu and not unit.relu_first:
            steps = np.maximum(steps, zeros)
        return (np.asarray(steps).astype(target.dtype),)

    return requantize


BINDERS: Binders = {"Requantize": bind_requantize}
