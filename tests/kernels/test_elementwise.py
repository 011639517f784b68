"""Elementwise kernels against onnxruntime and Python's math."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import mutually_broadcastable_shapes

from accelsdk.formats import FLOAT32
from accelsdk.graph.graph import Node
from accelsdk.graph.types import TensorType, Value
from accelsdk.kernels.api import run

SHAPES = [(), (1,), (7,), (3, 1, 5), (0, 4), (2, 3, 4, 5)]
EDGES = np.array(
    [
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        -0.5,
        1.5,
        2.5,
        -2.5,
        1e-40,
        -1e-40,
        1e30,
        -1e30,
        3.4e38,
        math.inf,
        -math.inf,
        math.nan,
        1e-20,
        88.0,
        -104.0,
        16.0,
    ],
    np.float32,
)

EXACT = {
    "Abs": np.abs, "Neg": np.negative, "Sign": np.sign, "Floor": np.floor,
    "Ceil": np.ceil, "Round": np.rint,
}  # fmt: skip
FUNCTIONS = {
    "Exp": math.exp, "Log": math.log, "Sin": math.sin, "Cos": math.cos, "Tan": math.tan,
    "Asin": math.asin, "Acos": math.acos, "Atan": math.atan, "Sinh": math.sinh,
    "Cosh": math.cosh, "Asinh": math.asinh, "Acosh": math.acosh, "Atanh": math.atanh,
    "Tanh": math.tanh, "Erf": math.erf,
    "Sigmoid": lambda x: 1 / (1 + math.exp(-x)) if x > -700 else math.exp(x),
    "Sqrt": math.sqrt, "Reciprocal": lambda x: 1 / x,
}  # fmt: skip


def scalar(function, x: float) -> float:
    """``function`` with IEEE results where Python raises."""
    try:
        return function(x)
    except ValueError:
        if (function is math.log and x == 0) or (function is math.atanh and abs(x) == 1):
            return math.copysign(math.inf, -1.0 if function is math.log else x)
        return math.nan
    except OverflowError:
        return math.inf if function in (math.exp, math.cosh) else math.copysign(math.inf, x)
    except ZeroDivisionError:
        return math.copysign(math.inf, x)


def arguments(count: int = 3000) -> np.ndarray:
    rng = np.random.default_rng(7)
    spread = np.exp2(rng.uniform(-30, 8, count)) * rng.choice([-1, 1], count)
    return np.concatenate([EDGES, spread, rng.uniform(-1, 1, count)]).astype(np.float32)


@pytest.mark.parametrize("op", FUNCTIONS)
def test_function_is_rounded_once(op, compute, within_ulp):
    x = arguments()
    reference = np.array([scalar(FUNCTIONS[op], float(v)) for v in x])
    with np.errstate(over="ignore"):
        reference = np.where(
            np.abs(reference) > np.finfo(np.float32).max * (1 + 2.0**-25),
            np.copysign(np.inf, reference),
            reference,
        )
    actual = compute(op, x)
    # 0.5 ulp of rounding, and what float64 functions (at most 4 of their ulp) add to it.
    within_ulp(actual, reference, 0.5 + 2.0**-20)


@pytest.mark.parametrize("op", FUNCTIONS)
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_function_in_other_formats(op, dtype, compute):
    with np.errstate(over="ignore"):
        x = arguments(200).astype(np.float16).astype(dtype)
        reference = np.array([scalar(FUNCTIONS[op], float(v)) for v in x])
        expected = reference.astype(dtype)
    actual = compute(op, x)
    finite = np.isfinite(expected.astype(np.float64))
    assert np.array_equal(np.isnan(actual.astype(float)), np.isnan(expected.astype(float)))
    info = ml_dtypes.finfo(dtype)
    magnitude = np.maximum(np.abs(reference[finite]), float(info.smallest_normal))
    unit = 2.0 ** (np.floor(np.log2(magnitude)) - info.nmant)
    error = np.abs(actual[finite].astype(np.float64) - reference[finite])
    limit = 4.0 if dtype is np.float64 else 0.5 + 2.0**-8
    assert np.all(error <= limit * unit)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("op", [*EXACT, *FUNCTIONS])
def test_unary_shapes_and_layouts(op, shape, compute):
    x = np.random.default_rng(1).uniform(0.1, 0.9, shape).astype(np.float32)
    whole = compute(op, x)
    for index in np.ndindex(*shape):
        assert np.array_equal(whole[index], compute(op, x[index]), equal_nan=True)
    assert np.array_equal(compute(op, x.T), whole.T, equal_nan=True)


def test_large_tensors_are_blocked_without_seams(compute):
    x = np.linspace(-9, 9, 100_003).astype(np.float32)
    for op in ("Sigmoid", "Erf", "Exp"):
        assert np.array_equal(
            compute(op, x), np.concatenate([compute(op, part) for part in np.split(x, [777])])
        )


@pytest.mark.parametrize("op", EXACT)
def test_exact_unary_against_onnxruntime(op, compute, peer):
    x = arguments(500)
    x = x[~np.isnan(x)] if op == "Sign" else x
    assert np.array_equal(compute(op, x), peer(op, x), equal_nan=True)


BINARY_FLOAT = ["Add", "Sub", "Mul", "Div", "Min", "Max", "Pow"]
COMPARE = ["Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"]


@pytest.mark.parametrize("op", BINARY_FLOAT + COMPARE)
def test_binary_against_onnxruntime(op, compute, peer, within_ulp):
    a, b = np.meshgrid(EDGES, EDGES)
    ours, theirs = compute(op, a, b), peer(op, a, b)
    if op == "Pow":
        with np.errstate(all="ignore"):
            exact = np.power(a.astype(np.float64), b.astype(np.float64))
            within_ulp(ours, exact.astype(np.float32), 0.5)
    else:
        assert np.array_equal(ours, theirs, equal_nan=ours.dtype.kind == "f")


@settings(max_examples=60)
@given(shapes=mutually_broadcastable_shapes(num_shapes=2, min_side=0, max_side=4))
def test_binary_broadcast(shapes):
    a, b = (np.arange(math.prod(s), dtype=np.float32).reshape(s) for s in shapes.input_shapes)
    values = [
        Value(n, TensorType(FLOAT32, s)) for n, s in zip("ab", shapes.input_shapes, strict=True)
    ]
    out = Value("c", TensorType(FLOAT32, shapes.result_shape))
    (sums,) = run(Node("Add", tuple(values), (out,)), (a, b))
    assert sums.shape == shapes.result_shape
    assert np.array_equal(sums, np.add(a, b))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint32, np.int64, np.uint64])
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Mod", "Min", "Max"])
def test_binary_integers(op, dtype, compute):
    info = np.iinfo(dtype)
    edges = sorted({info.min, info.min + 1, -7, -2, -1, 0, 1, 2, 3, 7, info.max - 1, info.max})
    values = np.array([v for v in edges if info.min <= v <= info.max], dtype)
    a, b = np.meshgrid(values, values[values != 0] if op in ("Div", "Mod") else values)
    actual = compute(op, a, b)
    bits = info.bits
    for x, y, z in zip(
        a.ravel().tolist(), b.ravel().tolist(), actual.ravel().tolist(), strict=True
    ):
        expected = {
            "Add": x + y, "Sub": x - y, "Mul": x * y, "Min": min(x, y), "Max": max(x, y),
            "Div": int(math.copysign(1, x) * math.copysign(1, y)) * (abs(x) // abs(y)) if y else 0,
            "Mod": x % y if y else 0,
        }[op]  # fmt: skip
        wrapped = expected & ((1 << bits) - 1)
        if info.min < 0 and wrapped >= 1 << (bits - 1):
            wrapped -= 1 << bits
        assert z == wrapped, (x, y)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_fmod(dtype, compute, peer):
    a = np.array([5.5, -5.5, 5.5, -5.5, 0.0, 1e4], dtype)
    b = np.array([2.0, 2.0, -2.0, -2.0, 3.0, 0.7], dtype)
    assert np.array_equal(compute("Mod", a, b, fmod=1), peer("Mod", a, b, fmod=1))


def test_fmod_of_integers_has_the_sign_of_the_dividend(compute):
    a, b = np.array([-7, 7, -7, 7], np.int32), np.array([3, -3, -3, 3], np.int32)
    assert compute("Mod", a, b, fmod=1).tolist() == [-1, 1, -1, 1]
    assert compute("Mod", a, b).tolist() == [2, -2, -1, 1]


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (np.array([2.0, -3.0], np.float32), np.array([3, 2], np.int64)),
        (np.array([2, 3, -2], np.int32), np.array([3.0, 0.5, 3.0], np.float32)),
        (np.array([2, 3, 10], np.int64), np.array([52, 30, 15], np.int64)),
        (np.array([[2.0], [3.0]], np.float32), np.array(2.0, np.float32)),
    ],
)
def test_pow_of_mixed_types(x, y, compute, peer):
    assert np.array_equal(compute("Pow", x, y), peer("Pow", x, y))


def test_integer_power_is_exact(compute):
    x, y = np.array([2, 3, 10], np.int64), np.array([62, 39, 18], np.int64)
    assert compute("Pow", x, y).tolist() == [2**62, 3**39, 10**18]


def test_integer_power_with_negative_exponent(compute):
    x, y = np.array([1, -1, -1, 2, 0], np.int32), np.array([-3, -3, -2, -1, 2], np.int32)
    assert compute("Pow", x, y).tolist() == [1, -1, 1, 0, 0]


@pytest.mark.parametrize("direction", ["LEFT", "RIGHT"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.uint64])
def test_bit_shift(direction, dtype, compute):
    x = np.array([1, 3, 200, 255], dtype)
    y = np.array([0, 1, 7, 3], dtype)
    bits = np.iinfo(dtype).bits
    expected = [
        (int(a) << int(b)) & ((1 << bits) - 1) if direction == "LEFT" else int(a) >> int(b)
        for a, b in zip(x, y, strict=True)
    ]
    assert compute("BitShift", x, y, direction=direction).tolist() == expected


def test_logic_and_bits(compute):
    a, b = np.array([True, True, False, False]), np.array([True, False, True, False])
    assert compute("And", a, b).tolist() == [True, False, False, False]
    assert compute("Or", a, b).tolist() == [True, True, True, False]
    assert compute("Xor", a, b).tolist() == [False, True, True, False]
    assert compute("Not", a).tolist() == [False, False, True, True]
    x, y = np.array([12, -1], np.int8), np.array([10, 3], np.int8)
    assert compute("BitwiseAnd", x, y).tolist() == [8, 3]
    assert compute("BitwiseOr", x, y).tolist() == [14, -1]
    assert compute("BitwiseXor", x, y).tolist() == [6, -4]
    assert compute("BitwiseNot", x).tolist() == [-13, 0]


def test_nan_and_inf_predicates_over_every_e5m2_code(compute):
    codes = np.arange(256, dtype=np.uint8).view(ml_dtypes.float8_e5m2)
    wide = codes.astype(np.float32)
    assert np.array_equal(compute("IsNaN", codes), np.isnan(wide))
    assert np.array_equal(compute("IsInf", codes), np.isinf(wide))
    assert np.array_equal(compute("IsInf", codes, detect_negative=0), wide == np.inf)
    assert np.array_equal(compute("IsInf", codes, detect_positive=0), wide == -np.inf)


def test_min_and_max_propagate_nan_in_every_lane(compute):
    ones = np.ones((3, 37), np.float32)
    for lane in range(37):
        a = ones.copy()
        a[1, lane] = np.nan
        for op in ("Min", "Max"):
            for pair in ((a, ones), (ones, a)):
                assert np.argwhere(np.isnan(compute(op, *pair))).tolist() == [[1, lane]]


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
def test_half_arithmetic_rounds_once(op, dtype, compute):
    rng = np.random.default_rng(3)
    a, b = (rng.normal(size=4000).astype(dtype) for _ in range(2))
    wide = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}[op]
    expected = wide(a.astype(np.float64), b.astype(np.float64)).astype(np.float32).astype(dtype)
    assert np.array_equal(compute(op, a, b), expected)


def test_where_selects_any_format(compute):
    c = np.array([[True], [False]])
    x = np.arange(3).astype(ml_dtypes.float8_e4m3fn)
    y = np.array(7.0).astype(ml_dtypes.float8_e4m3fn)
    assert compute("Where", c, x, y).astype(float).tolist() == [[0, 1, 2], [7, 7, 7]]
