"""Elementwise functions: exact or high-precision references, and their error limits.

References are float64, whose error (a few units of 2**-53) is below 2**-25 of any limit of a
float32, float16 or bfloat16 result. Limits follow OpenCL C 3.0 section 7.4, TOSA 1.1, WebNN
and exhaustive runs of NumPy; docs/conformance.md has the table with the source of each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from accelsdk.formats import Format
from accelsdk_conformance.oracles.tensor import F64

Attributes = Mapping[str, object]
Unary = Callable[[F64], F64]


@dataclass(frozen=True, slots=True)
class Limit:
    """Error limits of one op: unclaimed default and cap of any claim.

    Attributes:
        ulp: Default for float32.
        cap: Largest claim for float32.
        ulp16: Default for float16 and bfloat16.
        cap16: Largest claim for them.
        floor: Absolute error allowed near zero, in units of 2**(1-p) times ``of``.
        floor_cap: Largest claim of it.
        of: What the floor is measured in.
        domain: Largest |x| for which the limit holds; None is everywhere.
    """

    ulp: float
    cap: float
    ulp16: float = 2.0
    cap16: float = 3.0
    floor: float = 0.0
    floor_cap: float = 0.0
    of: Literal["1", "|x|"] = "1"
    domain: float | None = None

    def default(self, fmt: Format) -> float:
        """Returns the limit where nothing is claimed."""
        return self.ulp if fmt.bits >= 32 else self.ulp16

    def largest(self, fmt: Format) -> float:
        """Returns the loosest claim that a profile admits."""
        return self.cap if fmt.bits >= 32 else self.cap16


_GENTLE = Limit(4, 8, 4, 8, floor=3, floor_cap=2, of="|x|")

#: Error limits; an op that is not here is exact. Floors of the activations are those of their
#: decompositions with the limits of their parts: where nothing is claimed of an activation, a
#: compiler may take it apart. A claim of the activation itself is held to its cap.
LIMITS: Mapping[str, Limit] = {
    **dict.fromkeys(("Add", "Sub", "Mul"), Limit(0.5, 0.5, 0.5, 1)),
    **dict.fromkeys(("Div", "Reciprocal"), Limit(0.5, 2.5, 0.5, 1)),
    "Sqrt": Limit(0.5, 3, 0.5, 1.5),
    "Exp": Limit(3, 4),
    "Log": Limit(4, 5, floor_cap=0.5),
    "Pow": Limit(16, 16, 4, 5),
    **dict.fromkeys(("Sin", "Cos"), Limit(4, 4, 2, 2, floor_cap=1, domain=2.0**15)),
    "Tan": Limit(5, 5, 2.5, 3, domain=2.0**15),
    **dict.fromkeys(("Asin", "Acos", "Atan"), Limit(5, 6)),
    **dict.fromkeys(("Sinh", "Cosh", "Asinh", "Acosh", "Atanh"), Limit(4, 5)),
    "Tanh": Limit(5, 5, floor=0.5, floor_cap=0.5),
    "Sigmoid": Limit(2, 2, 2, 3, floor_cap=2),
    "Erf": Limit(5, 16, 4, 4, floor=0.5, floor_cap=0.5),
    "Softplus": Limit(5, 18, 3, 4, floor=4),
    **dict.fromkeys(("Elu", "Selu", "Celu"), Limit(4, 18, 3, 4, floor=3, floor_cap=1)),
    **dict.fromkeys(("Gelu", "HardSwish", "Swish"), _GENTLE),
    "Mish": Limit(4, 8, 4, 8, floor=7, floor_cap=2, of="|x|"),
    "HardSigmoid": Limit(2, 3, floor=2, floor_cap=2),
    "Softsign": Limit(2, 3),
    **dict.fromkeys(("LeakyRelu", "PRelu"), Limit(0.5, 1, 0.5, 1)),
}

#: Ops whose signs of zero are left open (IEEE 754-2019 section 9.6, ONNX).
ZERO_FREE = frozenset({"Max", "Min", "Clip", "Relu", "PRelu", "LeakyRelu", "ThresholdedRelu"})

#: Ops whose formula gives NaN at -Inf (-Inf * 0) where the function has a limit: both pass.
LIMIT_FREE = frozenset({"Gelu", "HardSwish", "Mish", "Swish"})


def unary(op: str, attributes: Attributes) -> Unary:
    """Returns the float64 reference of a one-operand function."""
    alpha = float(str(attributes.get("alpha", _ALPHA.get(op, 1.0))))
    beta = float(str(attributes.get("beta", 0.5)))
    gamma = float(str(attributes.get("gamma", _GAMMA)))
    match op:
        case "Elu":
            return lambda x: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))
        case "Selu":
            return lambda x: gamma * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))
        case "Celu":
            return lambda x: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0) / alpha))
        case "HardSigmoid":
            return lambda x: np.clip(alpha * x + beta, 0.0, 1.0)
        case "LeakyRelu":
            return lambda x: np.where(x < 0, alpha * x, x)
        case "ThresholdedRelu":
            return lambda x: np.where(np.isnan(x) | (x > alpha), x, 0.0)
        case "Swish":
            return lambda x: _times(x, _sigmoid(alpha * x))
        case "Gelu" if attributes.get("approximate") == "tanh":
            return _gelu_tanh
    return _UNARY[op]


def weight(op: str, attributes: Attributes) -> float:
    """Returns what an activation multiplies its exponential by: the unit of its error floor."""
    if op not in ("Elu", "Selu", "Celu"):
        return 1.0
    alpha = float(str(attributes.get("alpha", _ALPHA.get(op, 1.0))))
    gamma = float(str(attributes.get("gamma", _GAMMA))) if op == "Selu" else 1.0
    return max(1.0, abs(alpha * gamma))


# ONNX's attributes are float32, and so are their defaults.
_ALPHA = {
    name: float(np.float32(alpha))
    for name, alpha in {"LeakyRelu": 0.01, "HardSigmoid": 0.2, "Selu": 1.6732632423543772}.items()
}
_GAMMA = float(np.float32(1.0507009873554805))


def _times(x: F64, factor: F64) -> F64:
    """X * factor with -Inf * 0 as the limit 0."""
    return np.where(factor == 0, np.where(np.isnan(x), x, 0.0), x * factor)


def _sigmoid(x: F64) -> F64:
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + small), small / (1 + small))


def _each(function: Callable[[float], float], x: F64) -> F64:
    """Applies a function of the C library to each number."""
    return np.fromiter(map(function, x.ravel().tolist()), np.float64, x.size).reshape(x.shape)


_NEAR = 1.5  # below it the series of erf is short, and erfc loses little by 1 - erf


def _erf(x: F64) -> F64:
    if x.dtype == np.float64:
        return _each(math.erf, x)
    size = np.abs(x)
    near, found = size < _NEAR, np.empty_like(size)
    found[near], found[~near] = _series(size[near]), 1 - _fraction(size[~near])
    return np.copysign(found, x)


def _erfc(x: F64) -> F64:
    if x.dtype == np.float64:
        return _each(math.erfc, x)
    size = np.abs(x)
    near, found = size < _NEAR, np.empty_like(size)
    found[near], found[~near] = 1 - _series(size[near]), _fraction(size[~near])
    return np.where(x < 0, 2 - found, found)


def _series(a: F64) -> F64:
    """Erf of values from 0 to 1.5 in extended precision (DLMF 7.6.2)."""
    a = np.minimum(a, _NEAR)
    term = total = np.ones_like(a)
    for n in range(1, 70):
        term = term * (2 * a * a / (2 * n + 1))
        total = total + term
    return 2 / np.sqrt(_pi(a)) * a * np.exp(-a * a) * total


def _fraction(a: F64) -> F64:
    """Erfc of values from 1.5 in extended precision, by a continued fraction (DLMF 7.9.1)."""
    a = np.where(np.isnan(a), a, np.clip(a, _NEAR, 1000))
    tail = np.ones_like(a)
    for n in range(400, 0, -1):
        tail = 1 + n / (2 * a * a) / tail
    return np.exp(-a * a) / (a * np.sqrt(_pi(a)) * tail)


def _pi(x: F64) -> F64:
    return np.arccos(np.full((), -1, x.dtype))


def _gelu(x: F64) -> F64:
    return _times(x, 0.5 * _erfc(-x / np.sqrt(np.full((), 2, x.dtype))))


def _gelu_tanh(x: F64) -> F64:
    inner = np.sqrt(2 / _pi(x)) * (x + 0.044715 * x * x * x)
    return _times(x, _sigmoid(2 * inner))


def _softplus(x: F64) -> F64:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _mish(x: F64) -> F64:
    # tanh(log1p(e)) = e (e + 2) / (e (e + 2) + 2): no cancellation for small e
    e = np.exp(np.minimum(x, 40.0))
    return _times(x, e * (e + 2) / (e * (e + 2) + 2))


def _softsign(x: F64) -> F64:
    return np.where(np.isinf(x), np.copysign(1.0, x), x / (1 + np.abs(x)))


_UNARY: Mapping[str, Unary] = {
    "Abs": np.abs,
    "Neg": np.negative,
    "Sign": np.sign,
    "Floor": np.floor,
    "Ceil": np.ceil,
    "Round": np.rint,
    "Sqrt": np.sqrt,
    "Reciprocal": lambda x: 1.0 / x,
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
    "Sigmoid": _sigmoid,
    "Erf": _erf,
    "Relu": lambda x: np.where(x < 0, 0.0, x),
    "Softplus": _softplus,
    "Softsign": _softsign,
    "HardSwish": lambda x: _times(x, np.clip(x / 6 + 0.5, 0.0, 1.0)),
    "Mish": _mish,
    "Gelu": _gelu,
}


def binary(op: str, x: F64, y: F64, fmod: bool = False, ignore: bool = False) -> F64:
    """Returns the float64 reference of a two-operand function.

    Args:
        op: Name of the op.
        x: First operand.
        y: Second operand.
        fmod: Whether Mod has the sign of the dividend.
        ignore: Whether Max and Min of a NaN and a number are the number.
    """
    match op:
        case "Add":
            return x + y
        case "Sub":
            return x - y
        case "Mul":
            return x * y
        case "Div":
            return x / y
        case "Pow":
            return np.power(x, y)
        case "Mod":
            return np.fmod(x, y) if fmod else np.mod(x, y)
        case "Min":
            return np.fmin(x, y) if ignore else np.minimum(x, y)
        case "Max":
            return np.fmax(x, y) if ignore else np.maximum(x, y)
        case "PRelu":
            return np.where(x < 0, x * y, x)
    raise KeyError(op)
