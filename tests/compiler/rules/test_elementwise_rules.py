"""Elementwise rules: arithmetic, functions, comparison, logic, activations."""

import math
from functools import reduce

import numpy as np
import pytest

from tests.compiler.rules.inexact import exact, operand, where, wide
from tests.compiler.rules.peers import (
    ANY,
    BOOL,
    FLOATS,
    INTEGERS,
    NUMBERS,
    SIGNED,
    UNSIGNED,
    Case,
    Draw,
    Recipes,
    check,
    fmt_of,
    spread,
)

RECIPES = Recipes()


# -- one operand -----------------------------------------------------------------------------

#: In these, NumPy on float64 gives the result with no rounding, or one in the result's format.
_EXACT = {
    "Abs": (np.abs, NUMBERS),
    "Neg": (np.negative, (*FLOATS, *SIGNED)),
    "Sign": (np.sign, NUMBERS),
    "Floor": (np.floor, FLOATS),
    "Ceil": (np.ceil, FLOATS),
    "Round": (np.rint, FLOATS),
    "Sqrt": (np.sqrt, FLOATS),
    "Reciprocal": (np.reciprocal, FLOATS),
    "Relu": (lambda x: np.maximum(x, 0), (*FLOATS, *SIGNED)),
    "Identity": (lambda x: x, ANY),
}
_FUNCTIONS = {
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
    "Sigmoid": lambda x: np.where(x < 0, np.exp(x), 1.0) / (1.0 + np.exp(-np.abs(x))),
    "Erf": np.vectorize(math.erf, [float]),
    "Softplus": lambda x: np.logaddexp(x, 0.0),
}


@RECIPES(" ".join(_EXACT))
def _exact_unary(d: Draw) -> Case:
    function, formats = _EXACT[d.op]
    opset = d.opset()
    x = d.array(d.format(formats, opset), d.shape(0, 5), special=True)
    if x.dtype.kind in "iub":
        return Case([x], [function(x)], opset=opset)
    return Case([x], [exact(function(x.astype(np.float64)), wide(fmt_of(x)))], opset=opset)


@RECIPES(" ".join(_FUNCTIONS))
def _function(d: Draw) -> Case:
    opset = d.opset()
    x = d.array(d.format(FLOATS, opset), d.shape(0, 5), -20, 20, special=True)
    if x.size and d.flag():
        x = np.asarray(x / x.dtype.type(20)).astype(x.dtype)  # where Asin and Atanh are defined
    given = exact(x, wide(fmt_of(x)))
    return Case([x], [given.monotone(_FUNCTIONS[d.op])], opset=opset)


@RECIPES("Not BitwiseNot IsNaN")
def _predicate(d: Draw) -> Case:
    opset = d.opset()
    formats = {"Not": (BOOL,), "BitwiseNot": INTEGERS, "IsNaN": FLOATS}[d.op]
    x = d.array(d.format(formats, opset), d.shape(0, 5), special=True)
    function = {"Not": np.logical_not, "BitwiseNot": np.invert}.get(d.op, lambda v: v != v)
    return Case(
        [x], [np.asarray(function(x)).astype(bool if d.op == "IsNaN" else x.dtype)], opset=opset
    )


@RECIPES("IsInf", "detect_negative detect_positive")
def _is_inf(d: Draw) -> Case:
    opset = d.opset()
    x = d.array(d.format(FLOATS, opset), d.shape(), special=True).astype(np.float64)
    negative, positive = d.attr("detect_negative", 1, (0, 1)), d.attr("detect_positive", 1, (0, 1))
    found = ((x == np.inf) & bool(positive)) | ((x == -np.inf) & bool(negative))
    return Case([x], [np.asarray(found)], opset=opset)


# -- activations with attributes ---------------------------------------------------------------


@RECIPES("LeakyRelu Elu Celu ThresholdedRelu Swish", "alpha")
def _alpha(d: Draw) -> Case:
    opset = d.opset()
    x = d.array(d.format(FLOATS, opset), d.shape(), -8, 8)
    default = np.float32(0.01 if d.op == "LeakyRelu" else 1.0)
    alpha = d.attr("alpha", default, (0.25, 1.5, 3.0) if d.op == "Celu" else (0.25, -0.5, 0.0, 2.0))
    v, f64 = operand(x), x.astype(np.float64)
    match d.op:
        case "LeakyRelu":
            y = where(f64 < 0, v * alpha, v)
        case "Elu":
            y = where(f64 < 0, v.monotone(np.expm1) * alpha, v)
        case "Celu":
            y = v.maximum(0) + ((v / alpha).monotone(np.expm1) * alpha).minimum(0)
        case "ThresholdedRelu":
            y = where(f64 > alpha, v, 0.0)
        case _:
            y = v * (v * alpha).sigmoid()
    return Case([x], [y], opset=opset)


@RECIPES("Selu", "alpha gamma")
def _selu(d: Draw) -> Case:
    opset = d.opset()
    x = d.array(d.format(FLOATS, opset), d.shape(), -8, 8)
    alpha = d.attr("alpha", np.float32(1.6732632423543772), (0.25, 2.0))
    gamma = d.attr("gamma", np.float32(1.0507009873554805), (0.5, 3.0))
    v = operand(x)
    y = where(x.astype(np.float64) > 0, v, v.monotone(np.expm1) * alpha) * gamma
    return Case([x], [y], opset=opset)


@RECIPES("HardSigmoid", "alpha beta")
def _hard_sigmoid(d: Draw) -> Case:
    opset = d.opset()
    x = d.array(d.format(FLOATS, opset), d.shape(), -8, 8)
    alpha, beta = d.attr("alpha", np.float32(0.2), (0.25, -1.0)), d.attr("beta", 0.5, (0.0, -0.25))
    return Case([x], [(operand(x) * alpha + beta).minimum(1).maximum(0)], opset=opset)


@RECIPES("HardSwish Softsign Mish")
def _plain_activation(d: Draw) -> Case:
    opset = d.opset()
    x = d.array(d.format(FLOATS, opset), d.shape(), -8, 8)
    v = operand(x)
    match d.op:
        case "HardSwish":
            sixth = exact(1 / 6, v.unit).rounded()
            y = v * (v * sixth + 0.5).minimum(1).maximum(0)
        case "Softsign":
            y = v / (v.abs() + 1)
        case _:
            y = v * v.monotone(_FUNCTIONS["Softplus"]).tanh()
    return Case([x], [y], opset=opset)


@RECIPES("Gelu", "approximate")
def _gelu(d: Draw) -> Case:
    opset = d.opset()
    x = d.array(d.format(FLOATS, opset), d.shape(), -8, 8)
    v = operand(x)
    if d.attr("approximate", "none", ("none", "tanh")) == "none":
        bent = (v * math.sqrt(0.5)).monotone(_FUNCTIONS["Erf"])
    else:
        bent = ((v + v * v * v * 0.044715) * math.sqrt(2 / math.pi)).tanh()
    return Case([x], [v * 0.5 * (bent + 1)], opset=opset)


@RECIPES("PRelu")
def _prelu(d: Draw) -> Case:
    opset = d.opset()
    kind = d.format((*FLOATS, *SIGNED), opset)
    x = d.array(kind, d.shape())
    slope = d.array(kind, d.narrowed(x.shape))
    if kind.kind == "i":
        return Case([x, slope], [np.where(x < 0, x * slope, x)], opset=opset)
    return Case(
        [x, slope],
        [where(x.astype(float) < 0, operand(x) * operand(slope), operand(x))],
        opset=opset,
    )


_LARGEST = float(np.finfo(np.float32).max)


@RECIPES("Clip", "min max", examples=60)
def _clip(d: Draw) -> Case:
    opset = d.opset()
    kind = d.format(FLOATS if opset < 12 else NUMBERS, opset)
    x = d.array(kind, d.shape(), special=True)
    low, high, bounds = -np.inf, np.inf, []
    if opset < 11:
        # Left out, they are the largest finite numbers of float32, whatever the format.
        low, high = d.attr("min", -_LARGEST, (-1.5, 0.25)), d.attr("max", _LARGEST, (1.0, 0.0))
    else:
        bounds = [d.array(kind, ()) if d.flag() else None for _ in range(2)]
    if kind.kind in "iu":
        y = x
        for bound, function in zip(bounds, (np.maximum, np.minimum), strict=True):
            y = y if bound is None else np.asarray(function(y, bound))
        return Case([x, *bounds], [y], opset=opset)
    if bounds:
        low, high = (
            float(b) if b is not None else e for b, e in zip(bounds, (low, high), strict=True)
        )
    y = np.minimum(np.maximum(x.astype(np.float64), low), high)
    return Case([x, *bounds], [exact(y, wide(fmt_of(x)))], opset=opset)


# -- two operands and more ---------------------------------------------------------------------

_ARITHMETIC = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply}
_COMPARED = {
    "Equal": np.equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
}
_BITS = {"And": np.logical_and, "Or": np.logical_or, "Xor": np.logical_xor}
_BITS |= {f"Bitwise{k}": getattr(np, f"bitwise_{k.lower()}") for k in ("And", "Or", "Xor")}


def _pair(d: Draw, kind, special=True):
    shapes = spread(d, 2)
    return (d.array(kind, s, special=special) for s in shapes)


@RECIPES(" ".join(_ARITHMETIC))
def _arithmetic(d: Draw) -> Case:
    opset = d.opset()
    a, b = _pair(d, d.format(NUMBERS, opset))
    if a.dtype.kind in "iu":
        return Case([a, b], [np.asarray(_ARITHMETIC[d.op](a, b))], opset=opset)
    # Of formats up to float32, float64 rounds a second time without harm (53 >= 2 * 24 + 2).
    y = _ARITHMETIC[d.op](a.astype(np.float64), b.astype(np.float64))
    return Case([a, b], [exact(y, wide(fmt_of(a)))], opset=opset)


@RECIPES("Div")
def _div(d: Draw) -> Case:
    opset = d.opset()
    a, b = _pair(d, d.format(NUMBERS, opset))
    if a.dtype.kind in "iu":
        b = np.where(b == 0, b.dtype.type(1), b)  # ONNX leaves n / 0 undefined
        if a.dtype.kind == "i":
            b = np.where(b == -1, b.dtype.type(1), b)  # and the overflow of lowest / -1
        quotient = [
            int(abs(int(p)) // abs(int(q))) * (-1 if (p < 0) != (q < 0) else 1)
            for p, q in np.broadcast(a, b)
        ]
        return Case(
            [a, b], [np.array(quotient, a.dtype).reshape(np.broadcast(a, b).shape)], opset=opset
        )
    return Case(
        [a, b], [exact(a.astype(np.float64) / b.astype(np.float64), wide(fmt_of(a)))], opset=opset
    )


@RECIPES("Mod", "fmod")
def _mod(d: Draw) -> Case:
    opset = d.opset()
    kind = d.format(NUMBERS, opset)
    a, b = _pair(d, kind, special=kind.kind in "iu")
    b = np.where(b == 0, b.dtype.type(1), b)
    fmod = d.attr(
        "fmod", 0, (1,) if kind not in INTEGERS else (0, 1), required=kind not in INTEGERS
    )
    if kind in INTEGERS:
        pairs = [(int(p), int(q)) for p, q in np.broadcast(a, b)]
        y = [int(math.copysign(1, p)) * (abs(p) % abs(q)) if fmod else p % q for p, q in pairs]
        return Case([a, b], [np.array(y, kind).reshape(np.broadcast(a, b).shape)], opset=opset)
    return Case(
        [a, b],
        [exact(np.fmod(a.astype(np.float64), b.astype(np.float64)), wide(fmt_of(a)))],
        opset=opset,
    )


@RECIPES("Pow", examples=50)
def _pow(d: Draw) -> Case:
    opset = d.opset()
    base = d.format((*FLOATS, np.dtype("i4"), np.dtype("i8")), opset)
    exponent = base if opset < 12 else d.format(NUMBERS, opset, 1)
    shapes = spread(d, 2)
    x, y = d.array(base, shapes[0], -4, 4), d.array(exponent, shapes[1], -3, 3)
    if d.flag():
        y = np.full(shapes[1], 2).astype(exponent)
    wide_y = y.astype(np.float64)
    if base.kind == "i":
        if exponent.kind not in "iu":
            x, wide_y = np.abs(x) + base.type(1), np.abs(np.rint(wide_y))
            y = wide_y.astype(exponent)
        x = np.where(x == 0, base.type(1), x)  # 0 to a negative power has no integer
        found = np.trunc(np.power(x.astype(np.float64), wide_y)).astype(base)
        return Case([x, y], [np.asarray(found)], opset=opset)
    found = exact(np.power(x.astype(np.float64), wide_y), wide(fmt_of(x))).rounded(8.0)
    return Case([x, y], [found], opset=opset)


@RECIPES(" ".join(_COMPARED))
def _compared(d: Draw) -> Case:
    opset = d.opset()
    a, b = _pair(d, d.format((*NUMBERS, BOOL), opset))
    if d.flag():
        b = a
    return Case([a, b], [np.asarray(_COMPARED[d.op](a, b)).astype(bool)], opset=opset)


@RECIPES(" ".join(_BITS))
def _bits(d: Draw) -> Case:
    opset = d.opset()
    a, b = _pair(d, d.format(INTEGERS if "Bitwise" in d.op else (BOOL,), opset))
    return Case([a, b], [np.asarray(_BITS[d.op](a, b))], opset=opset)


@RECIPES("BitShift", "direction")
def _bit_shift(d: Draw) -> Case:
    opset = d.opset()
    kind = d.format(UNSIGNED, opset)
    shapes = spread(d, 2)
    a, b = (
        d.array(kind, shapes[0], special=True),
        d.array(kind, shapes[1], 0, 8 * kind.itemsize - 1),
    )
    left = d.attr("direction", None, ("LEFT", "RIGHT"), required=True) == "LEFT"
    mask = (1 << 8 * kind.itemsize) - 1
    y = [int(p) << int(q) & mask if left else int(p) >> int(q) for p, q in np.broadcast(a, b)]
    return Case([a, b], [np.array(y, kind).reshape(np.broadcast(a, b).shape)], opset=opset)


@RECIPES("Where")
def _where(d: Draw) -> Case:
    opset = d.opset()
    shapes = spread(d, 3)
    kind = d.format(ANY, opset, 1)
    c, a, b = d.array(BOOL, shapes[0]), *(d.array(kind, s, special=True) for s in shapes[1:])
    every = np.broadcast(c, a, b)
    found = np.array([p if t else q for t, p, q in every], kind).reshape(every.shape)
    return Case([c, a, b], [found], opset=opset)


@RECIPES("Sum Mean Max Min")
def _variadic(d: Draw) -> Case:
    opset = d.opset()
    kind = d.format(NUMBERS, opset)
    count = d.int(1, 4)
    arrays = [d.array(kind, s, special=d.op in ("Max", "Min")) for s in spread(d, count)]
    if d.op in ("Max", "Min"):
        if kind.kind in "iu":
            function = np.maximum if d.op == "Max" else np.minimum
            return Case(arrays, [np.asarray(reduce(function, arrays))], opset=opset)
        function = np.maximum if d.op == "Max" else np.minimum
        y = reduce(function, [a.astype(np.float64) for a in arrays])
        return Case(arrays, [exact(y, wide(fmt_of(arrays[0])))], opset=opset)
    total = reduce(lambda a, b: a + b, [operand(a) for a in arrays])
    return Case(arrays, [total / count if d.op == "Mean" else total], opset=opset)


@pytest.mark.parametrize("op", RECIPES.by_op)
def test_rule(op):
    check(op, RECIPES.by_op[op])
