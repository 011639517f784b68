"""Elementwise arithmetic, functions, comparison, logic and selection."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.formats import FLOAT64, Format
from accelsdk.graph.graph import Node
from accelsdk.kernels import functions
from accelsdk.kernels.kernel import (
    Binder,
    Binders,
    Function,
    Kernel,
    computing,
    integer,
    is_half,
    one,
    operand_format,
    text,
)
from accelsdk.numerics import codec


def _plain(function: Function) -> Binder:
    """Binds a function whose result NumPy rounds correctly, or exactly."""

    def bind(node: Node) -> Kernel:
        computed = computing(operand_format(node, 0), function)
        # Only for scalars does NumPy return something else than an array.
        return one(computed) if node.result.shape == () else lambda *x: (computed(*x),)

    return bind


def _predicate(function: Function) -> Binder:
    """Binds a function with a boolean result."""

    def bind(node: Node) -> Kernel:
        widen = _widener(operand_format(node, 0))
        return one(lambda *operands: function(*map(widen, operands)))

    return bind


def _widener(fmt: Format) -> Function:
    """Float formats that NumPy does not know, and float16, are looked at in float32."""
    if fmt.is_float and fmt.bits <= 16:
        return lambda x: codec.decode(x, fmt)
    return lambda x: x


def _function(ufunc: np.ufunc) -> Binder:
    """Binds a transcendental function."""

    def bind(node: Node) -> Kernel:
        fmt = operand_format(node, 0)
        if is_half(fmt):
            return one(computing(fmt, ufunc))  # float32 leaves 13 bits to spare
        return one(ufunc if fmt is FLOAT64 else functions.through_float64(ufunc))

    return bind


def _blocked(single: functions.BlockFunction, double: functions.BlockFunction) -> Binder:
    """Binds a function of several steps: one variant up to float32 results, one for float64."""

    def bind(node: Node) -> Kernel:
        wide = operand_format(node, 0) is FLOAT64
        return one(functions.blockwise(double if wide else single))

    return bind


def _bind_div(node: Node) -> Kernel:
    fmt = operand_format(node, 0)
    return one(_truncating_divide if fmt.is_integer else computing(fmt, np.divide))


def _truncating_divide(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    quotient = np.floor_divide(a, b)
    if a.dtype.kind == "i":
        inexact = np.not_equal(quotient * b, a)
        quotient = quotient + (inexact & ((a < 0) != (b < 0)) & (b != 0))
    return np.asarray(quotient).astype(a.dtype, copy=False)


def _bind_mod(node: Node) -> Kernel:
    function = np.fmod if integer(node, "fmod") else np.remainder
    return one(computing(operand_format(node, 0), function))


def _bind_pow(node: Node) -> Kernel:
    base, exponent = operand_format(node, 0), operand_format(node, 1)
    if base.is_integer and exponent.is_integer:
        return one(_integer_power)
    widen_x, widen_y = _widener(base), _widener(exponent)

    def power(x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
        x, y = widen_x(x), widen_y(y)
        if y.size == 1 and y.reshape(-1)[0] == 2 and x.dtype.kind == "f":
            squares = np.multiply(x, x)  # correctly rounded, and the commonest exponent
            return np.broadcast_to(squares, np.broadcast_shapes(x.shape, y.shape)).astype(
                base.dtype
            )
        result = np.power(x.astype(np.float64, copy=False), y.astype(np.float64, copy=False))
        return codec.cast(np.asarray(result), FLOAT64, base)

    return one(power)


def _integer_power(x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    """Wraps like repeated multiplication; a negative exponent truncates 1 / x**n."""
    powers = np.power(x, np.maximum(y, y.dtype.type(0)).astype(x.dtype))
    if y.dtype.kind == "u" or not np.any(y < 0):
        return np.asarray(powers)
    odd = (y & 1) != 0
    inverse = np.where(x == 1, 1, np.where(x == -1, np.where(odd, -1, 1), 0))
    return np.where(y < 0, inverse, powers).astype(x.dtype)


def _bind_is_inf(node: Node) -> Kernel:
    widen = _widener(operand_format(node, 0))
    negative, positive = integer(node, "detect_negative"), integer(node, "detect_positive")

    def is_inf(x: NDArray[Any]) -> NDArray[Any]:
        x = widen(x)
        found: NDArray[np.bool_] = np.isinf(x)
        if not positive:
            found &= x < 0
        if not negative:
            found &= x > 0
        return found

    return one(is_inf)


def _bind_bit_shift(node: Node) -> Kernel:
    return one(np.left_shift if text(node, "direction") == "LEFT" else np.right_shift)


def _bind_where(node: Node) -> Kernel:
    return one(np.where)


BINDERS: Binders = {
    **{
        name: _plain(ufunc)
        for name, ufunc in {
            "Abs": np.abs,
            "Neg": np.negative,
            "Sign": np.sign,
            "Floor": np.floor,
            "Ceil": np.ceil,
            "Round": np.rint,
            "Sqrt": np.sqrt,
            "Reciprocal": np.reciprocal,
            "Not": np.logical_not,
            "BitwiseNot": np.bitwise_not,
            "Add": np.add,
            "Sub": np.subtract,
            "Mul": np.multiply,
            "Min": np.minimum,
            "Max": np.maximum,
            "And": np.logical_and,
            "Or": np.logical_or,
            "Xor": np.logical_xor,
            "BitwiseAnd": np.bitwise_and,
            "BitwiseOr": np.bitwise_or,
            "BitwiseXor": np.bitwise_xor,
        }.items()
    },
    **{
        name: _function(ufunc)
        for name, ufunc in {
            "Exp": np.exp,
            "Log": np.log,
            "Sin": np.sin,
            "Cos": np.cos,
            "Tan": np.tan,
            "Asin": np.arcsin,
            "Acos": np.arccos,
            "Atan": np.arctan,
            "Sinh": np.sinh,
            "Cosh": np.cosh,
            "Asinh": np.arcsinh,
            "Acosh": np.arccosh,
            "Atanh": np.arctanh,
            "Tanh": np.tanh,
        }.items()
    },
    "Sigmoid": _blocked(functions.sigmoid, functions.sigmoid_wide),
    "Erf": _blocked(functions.erf, functions.erf_wide),
    "Div": _bind_div,
    "Mod": _bind_mod,
    "Pow": _bind_pow,
    "BitShift": _bind_bit_shift,
    "Where": _bind_where,
    "IsNaN": _predicate(np.isnan),
    "IsInf": _bind_is_inf,
    "Equal": _predicate(np.equal),
    "Less": _predicate(np.less),
    "LessOrEqual": _predicate(np.less_equal),
    "Greater": _predicate(np.greater),
    "GreaterOrEqual": _predicate(np.greater_equal),
}
