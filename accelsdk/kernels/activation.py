"""Activations as single kernels: exponential ones in float64 blocks, the rest in their own."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.formats import FLOAT64
from accelsdk.graph.graph import Node
from accelsdk.kernels import functions
from accelsdk.kernels.functions import Float64, blockwise
from accelsdk.kernels.kernel import (
    Binder,
    Binders,
    Function,
    Kernel,
    computing,
    one,
    operand_format,
    real,
    text,
)

Array = NDArray[Any]


def _own(make: Callable[..., Function], *names: str) -> Binder:
    """Binds an activation computed in its own format, given its float attributes."""

    def bind(node: Node) -> Kernel:
        function = blockwise(make(*(real(node, name) for name in names)), None)
        return one(computing(operand_format(node, 0), function))

    return bind


def _wide(make: Callable[..., functions.BlockFunction], *names: str) -> Binder:
    """Binds an activation computed in float64, given its float attributes."""

    def bind(node: Node) -> Kernel:
        return one(blockwise(make(*(real(node, name) for name in names))))

    return bind


def relu(x: Array) -> Array:
    """max(x, 0), in place."""
    np.maximum(x, x.dtype.type(0), out=x)
    return x


def leaky_relu(alpha: float) -> Function:
    """x, or alpha * x below 0."""

    def function(x: Array) -> Array:
        np.multiply(x, x.dtype.type(alpha), out=x, where=x < 0)
        return x

    return function


def hard_sigmoid(alpha: float, beta: float) -> Function:
    """max(0, min(1, alpha * x + beta))."""

    def function(x: Array) -> Array:
        x *= x.dtype.type(alpha)
        x += x.dtype.type(beta)
        return np.clip(x, 0, 1, out=x)

    return function


def hard_swish() -> Function:
    """X * max(0, min(1, x / 6 + 1 / 2))."""
    gate = hard_sigmoid(1 / 6, 0.5)

    def function(x: Array) -> Array:
        x *= gate(x.copy())
        return x

    return function


def softsign(x: Array) -> Array:
    """X / (1 + |x|)."""
    size = np.abs(x)
    size += 1
    return np.divide(x, size, out=x)


def thresholded_relu(alpha: float) -> Function:
    """X above alpha, else 0."""
    return lambda x: np.where(x > x.dtype.type(alpha), x, x.dtype.type(0))


def elu(alpha: float) -> functions.BlockFunction:
    """x, or alpha * (exp(x) - 1) below 0."""

    def function(x: Float64) -> Float64:
        curve = np.expm1(np.minimum(x, 0.0))
        curve *= alpha
        return np.where(x < 0, curve, x)

    return function


def _selu(alpha: float, gamma: float) -> functions.BlockFunction:
    inner = elu(alpha)

    def function(x: Float64) -> Float64:
        found = inner(x)
        found *= gamma
        return found

    return function


def _celu(alpha: float) -> functions.BlockFunction:
    def function(x: Float64) -> Float64:
        curve = np.expm1(x / alpha)
        curve *= alpha
        return np.maximum(x, 0.0) + np.minimum(curve, 0.0)

    return function


def _mish() -> functions.BlockFunction:
    def function(x: Float64) -> Float64:
        bent = functions.softplus(x.copy())
        x *= np.tanh(bent, out=bent)
        return x

    return function


def _swish(alpha: float) -> functions.BlockFunction:
    def function(x: Float64) -> Float64:
        x *= functions.sigmoid(x * alpha)
        return x

    return function


def _gelu_tanh(x: Float64) -> Float64:
    bent = x * x
    bent *= 0.044715
    bent += 1.0
    bent *= x
    bent *= math.sqrt(2 / math.pi)
    np.tanh(bent, out=bent)
    bent += 1.0
    x *= 0.5
    x *= bent
    return x


def _bind_gelu(node: Node) -> Kernel:
    if text(node, "approximate") == "tanh":
        return one(blockwise(_gelu_tanh))
    wide = operand_format(node, 0) is FLOAT64
    return one(blockwise(functions.gelu(functions.erf_wide if wide else functions.erf)))


def _bind_relu(node: Node) -> Kernel:
    return one(computing(operand_format(node, 0), lambda x: np.maximum(x, x.dtype.type(0))))


def _bind_prelu(node: Node) -> Kernel:
    def prelu(x: Array, slope: Array) -> Array:
        return np.where(x < 0, x * slope, x)

    return one(computing(operand_format(node, 0), prelu))


def _bind_clip(node: Node) -> Kernel:
    def clip(x: Array, low: Array | None = None, high: Array | None = None) -> Array:
        if low is None:
            return x if high is None else np.minimum(x, high)
        return np.maximum(x, low) if high is None else np.minimum(np.maximum(x, low), high)

    fmt = operand_format(node, 0)
    if fmt.is_integer or fmt.bits > 16:
        return one(clip)
    narrow = fmt.dtype

    def through_float32(x: Array, *limits: Array | None) -> Array:
        wide = (None if limit is None else limit.astype(np.float32) for limit in limits)
        return clip(x.astype(np.float32), *wide).astype(narrow)

    return one(through_float32)


BINDERS: Binders = {
    "Relu": _bind_relu,
    "LeakyRelu": _own(leaky_relu, "alpha"),
    "PRelu": _bind_prelu,
    "Elu": _wide(elu, "alpha"),
    "Selu": _wide(_selu, "alpha", "gamma"),
    "Celu": _wide(_celu, "alpha"),
    "HardSigmoid": _own(hard_sigmoid, "alpha", "beta"),
    "HardSwish": _own(hard_swish),
    "Softplus": _wide(lambda: functions.softplus),
    "Softsign": _own(lambda: softsign),
    "Mish": _wide(_mish),
    "ThresholdedRelu": _own(thresholded_relu, "alpha"),
    "Swish": _wide(_swish, "alpha"),
    "Gelu": _bind_gelu,
    "Clip": _bind_clip,
}
