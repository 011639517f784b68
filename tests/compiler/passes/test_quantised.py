"""Codes stay codes: they are moved, given back and multiplied as such."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsdk import formats as f
from accelsdk.compiler.passes.codes_back import CODES_BACK
from accelsdk.compiler.passes.dead_code import DEAD_CODE
from accelsdk.compiler.passes.integer_contraction import INTEGER_CONTRACTION
from accelsdk.compiler.passes.move_codes import MOVE_CODES
from accelsdk.graph.rewrite import Builder
from accelsdk.kernels.api import evaluate
from tests.compiler.passes.checks import ops, optimised, same_bits

REALS = {"float32": f.FLOAT32, "float16": f.FLOAT16, "bfloat16": f.BFLOAT16}


def every_code(fmt):
    return np.arange(int(fmt.min), int(fmt.max) + 1).astype(fmt.dtype)


def back_and_forth(codes, real, scale, zero=None, between=None):
    """Dequantize, something between, and Quantize with the same parameters."""
    b = Builder()
    q = b.input("q", codes, (int(codes.max - codes.min) + 1,))
    with np.errstate(over="ignore"):
        s = b.constant(np.array(scale).astype(real.dtype), real, name="s")
    z = None if zero is None else b.constant(np.array(zero).astype(codes.dtype), codes, name="z")
    x = b.op("Dequantize", q, s, z, to=real.name)
    x = between(b, x) if between else x
    return b.graph([q], [b.op("Quantize", x, s, z, to=codes.name)])


@pytest.mark.parametrize("zero", ["low", None, "high"])
@pytest.mark.parametrize(
    "scale", [1.0, 0.1, 1 / 3, 2.0**-14, 1.9999999, 3.4e38 / 1e6, 1.2e-38, 6e4 / 600]
)
@pytest.mark.parametrize(
    ("codes", "real"),
    [
        *((c, f.FLOAT32) for c in (f.INT8, f.UINT8, f.INT16, f.UINT16, f.INT4)),
        *((c, f.FLOAT16) for c in (f.INT8, f.UINT8, f.UINT4)),
        *((c, f.BFLOAT16) for c in (f.INT4, f.UINT4)),
    ],
)
def test_every_code_comes_back_where_the_proof_says_so(codes, real, scale, zero):
    at = {"low": int(codes.min), "high": int(codes.max), None: None}[zero]
    graph = back_and_forth(codes, real, scale, at)
    after = optimised(graph, CODES_BACK)
    if ops(after) == ["Reshape"]:  # a copy of the input, which has the name of the output
        feeds = {"q": every_code(codes)}
        with np.errstate(all="ignore"):
            (found,) = evaluate(graph, feeds).values()
        assert (found == feeds["q"]).all()
    else:
        with np.errstate(over="ignore"):
            held = np.array(scale).astype(real.dtype).astype(np.float64)
        assert not real.smallest_normal <= held <= real.max / 2**17


@pytest.mark.parametrize(
    ("codes", "real", "scale"),
    [
        (f.INT8, f.BFLOAT16, 0.1),  # 8 bits of precision do not hold 8 bits and the error
        (f.UINT16, f.FLOAT16, 0.1),
        (f.INT8, f.FLOAT32, 3e38),  # overflows
        (f.INT8, f.FLOAT32, 0.0),
        (f.INT8, f.FLOAT32, np.nan),
        (f.INT8, f.FLOAT32, 1e-40),
        (f.E4M3, f.FLOAT32, 1.0),  # a NaN might come back as another
    ],
)
def test_codes_that_might_not_come_back_stay(codes, real, scale):
    b = Builder()
    q = b.input("q", codes, (4,))
    s = b.constant(np.array(scale).astype(real.dtype), real, name="s")
    y = b.op("Quantize", b.op("Dequantize", q, s, to=real.name), s, to=codes.name)
    graph = b.graph([q], [y])
    assert CODES_BACK.run(graph) is graph


@pytest.mark.parametrize("other", ["scale", "zero", "format", "axis"])
def test_other_parameters_are_other_numbers(other):
    b = Builder()
    q = b.input("q", f.INT8, (2, 2))
    s = b.constant(np.array([1, 2], np.float32), name="s")
    t = b.constant(np.array([1, 2.5], np.float32), name="t")
    z = b.constant(np.array([0, 1], np.int8), name="z")
    u = b.constant(np.array([0, 0], np.int8), name="u")
    x = b.op("Dequantize", q, s, u, axis=0)
    given = {"scale": (t, u), "zero": (s, z), "format": (s,), "axis": (s, u)}[other]
    to = "uint8" if other == "format" else "int8"
    y = b.op("Quantize", x, *given, to=to, axis=int(other == "axis"))
    graph = b.graph([q], [y])
    assert CODES_BACK.run(graph) is graph


def test_a_zero_point_of_zero_is_none():
    b = Builder()
    q = b.input("q", f.INT8, (2, 2))
    s, z = b.scalar(0.5, f.FLOAT32), b.scalar(0, f.INT8)
    y = b.op("Quantize", b.op("Dequantize", q, s, z), s, to="int8")
    same_bits(b.graph([q], [b.op("Neg", y)]), CODES_BACK)
    assert ops(optimised(b.graph([q], [b.op("Neg", y)]), CODES_BACK)) == ["Neg"]


MOVES = {
    "Reshape": {"shape": (6, 4, 4)},
    "Transpose": {"perm": (0, 2, 3, 1)},
    "Slice": {"starts": (1,), "ends": (3,), "axes": (2,), "steps": (1,)},
    "Pad": {"pads": (0, 0, 1, 0, 0, 0, 0, 2)},
    "MaxPool": {
        "kernel_shape": (2, 2), "strides": (1, 1), "pads": (1, 0, 0, 1), "dilations": (1, 1)
    },
    "Relu": {},
}  # fmt: skip


@pytest.mark.parametrize("zero", [None, -128, 3])
@pytest.mark.parametrize("op", MOVES)
def test_movement_between_is_done_on_codes(op, zero):
    b = Builder()
    q = b.input("q", f.INT8, (2, 3, 4, 4))
    s = b.scalar(0.3, f.FLOAT32)
    z = None if zero is None else b.scalar(zero, f.INT8)
    x = b.op(op, b.op("Dequantize", q, s, z), **MOVES[op])
    graph = b.graph([q], [b.op("Quantize", x, s, z, to="int8")])
    codes = np.random.default_rng(0).integers(-128, 128, (2, 3, 4, 4)).astype(np.int8)
    after = same_bits(graph, MOVE_CODES, CODES_BACK, given={"q": codes})
    if op == "Relu":
        assert ops(after) == (["Reshape"] if zero == -128 else ["Max"])
    else:
        assert ops(after) == [op]
    assert {v.format for n in after.nodes for v in n.outputs if v} == {f.INT8}


def test_concat_and_split_of_codes():
    b = Builder()
    q, r = b.input("q", f.UINT8, (2, 3)), b.input("r", f.UINT8, (2, 5))
    s = [b.constant(np.float32(0.3), name="s") for _ in range(2)]  # equal, of other names
    joined = b.op("Concat", b.op("Dequantize", q, s[0]), b.op("Dequantize", r, s[1]), axis=1)
    parts = b.split(joined, 1, (4, 4))
    outputs = [b.op("Quantize", part, s[0], to="uint8") for part in parts]
    after = same_bits(b.graph([q, r], outputs), MOVE_CODES, CODES_BACK)
    assert ops(after) == ["Concat", "Split"]


def test_quantize_goes_before_movement():
    b = Builder()
    x = b.input("x", f.FLOAT32, (2, 3))
    y = b.op("Quantize", b.op("Transpose", x, perm=(1, 0)), b.scalar(0.3, f.FLOAT32), to="int8")
    assert ops(same_bits(b.graph([x], [y]), MOVE_CODES)) == ["Quantize", "Transpose"]


@pytest.mark.parametrize("why", ["read", "output", "grows", "channels", "relu of a negative scale"])
def test_dequantize_stays(why):
    b = Builder()
    q = b.input("q", f.INT8, (1, 3))
    scale = np.ones(3) if why == "channels" else np.array(-1 if "scale" in why else 1)
    x = b.op("Dequantize", q, b.constant(scale.astype(np.float32), name="s"), axis=1)
    op = "Relu" if "scale" in why else "Expand" if why == "grows" else "Reshape"
    y = b.op(op, x, **{"Relu": {}, "Expand": {"shape": (4, 3)}, "Reshape": {"shape": (3,)}}[op])
    outputs = [y, x] if why == "output" else [y, b.op("Exp", x)] if why == "read" else [y]
    graph = b.graph([q], outputs)
    assert MOVE_CODES.run(graph) is graph


# -- integer contractions ----------------------------------------------------------------------


def contraction(op, *, bias="none", relu=False, by_column=False, scale=0.0213, formats=None):
    b = Builder()
    random = np.random.default_rng(1)
    data, weights, result = formats or (f.UINT8, f.INT8, f.UINT8)
    wide = op == "MatMul"
    q = b.input("q", data, (5, 16) if wide else (2, 4, 6, 6))
    shape = (16, 6) if wide else (6, 4, 3, 3)
    w = b.constant(random.integers(int(weights.min), int(weights.max) + 1, shape), weights)
    sa = np.float32(scale)
    sb = random.uniform(0.01, 0.02, 6 if by_column else ()).astype(np.float32)
    x = b.op("Dequantize", q, b.constant(sa, name="sa"), b.scalar(3, data))
    k = b.op("Dequantize", w, b.constant(sb, name="sb"), axis=1 if wide else 0)
    operands = [x, k]
    if bias != "none":
        codes = random.integers(-5000, 5000, 6).astype(np.int32)
        factor = np.float32(1.5) if bias == "other scale" else np.float32(1)
        extra = b.op(
            "Dequantize", b.constant(codes, name="b"),
            b.constant((sa * sb * factor).astype(np.float32), name="sc"), axis=0,
        )  # fmt: skip
        if bias == "float":
            extra = b.constant(random.standard_normal(6).astype(np.float32), name="b")
        if not wide:
            operands.append(extra)
    window = {} if wide else {"strides": (2, 1), "pads": (1, 0, 1, 2), "dilations": (1, 1)}
    y = b.op(op, *operands, **window)
    if bias != "none" and wide:
        y = b.op("Add", extra, y)
    y = b.op("Relu", y) if relu else y
    y = b.op("Quantize", y, b.scalar(0.11, f.FLOAT32), b.scalar(7, result), to=result.name)
    return b.graph([q], [y])


@pytest.mark.parametrize("formats", [None, (f.INT8, f.INT8, f.INT8), (f.UINT8, f.UINT8, f.UINT8)])
@pytest.mark.parametrize("by_column", [False, True])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("bias", ["none", "int32"])
@pytest.mark.parametrize("op", ["MatMul", "Conv"])
def test_contraction_in_integers_is_exact_but_for_one_rounding(op, bias, relu, by_column, formats):
    graph = contraction(op, bias=bias, relu=relu, by_column=by_column, formats=formats)
    after = optimised(graph, INTEGER_CONTRACTION, DEAD_CODE)
    assert ops(after) == [{"MatMul": "MatMulInteger", "Conv": "ConvInteger"}[op], "Requantize"]
    assert set(after.nodes[1].origin) >= {op, "Quantize", "Dequantize"}
    q = graph.inputs[0]
    low, high = int(q.format.min), int(q.format.max)
    codes = np.random.default_rng(2).integers(low, high + 1, q.shape).astype(q.format.dtype)
    (old,), (new,) = (tuple(evaluate(g, {"q": codes}).values()) for g in (graph, after))
    differ = np.abs(old.astype(int) - new.astype(int))
    assert differ.max() <= 1  # the bounds of both reach over one middle between codes at most
    assert differ.mean() < 0.01


def test_the_integer_way_rounds_the_real_value():
    """Against rational arithmetic, and never further off than the way over float32."""
    graph = contraction("MatMul", bias="int32", scale=0.7)
    after = optimised(graph, INTEGER_CONTRACTION, DEAD_CODE)
    codes = np.random.default_rng(3).integers(0, 256, (5, 16)).astype(np.uint8)
    (new,) = evaluate(after, {"q": codes}).values()
    known = {c.name: c.array() for c in graph.constants}
    weights = next(a for a in known.values() if a.shape == (16, 6)).astype(int)
    bias = next(a for a in known.values() if a.dtype == np.int32)
    scales = [Fraction(float(known[name])) for name in ("sa", "sb")]
    step = scales[0] * scales[1] / Fraction(float(np.float32(0.11)))
    total = (codes.astype(int) - 3) @ weights + bias
    for value, found in zip(total.flat, new.flat, strict=True):
        exact = int(value) * step
        wanted = min(max(round(exact) + 7, 0), 255)
        near = abs(exact - (Fraction(2 * (exact.__floor__()) + 1, 2)))
        if near > 6 * abs(exact) * Fraction(1, 1 << 24):
            assert found == wanted


@pytest.mark.parametrize(
    "options",
    [
        {"bias": "float"},
        {"bias": "other scale"},
        {"formats": (f.UINT8, f.INT8, f.INT16)},
        {"formats": (f.INT16, f.INT8, f.INT8)},
    ],
)
@pytest.mark.parametrize("op", ["MatMul", "Conv"])
def test_incomplete_patterns_stay(op, options):
    graph = contraction(op, **options)
    assert INTEGER_CONTRACTION.run(graph) is graph


def test_sums_beyond_int32_stay():
    b = Builder()
    q = b.input("q", f.UINT8, (1, 40_000))
    w = b.constant(np.full((40_000, 1), 255, np.uint8), name="w")
    s = b.scalar(0.1, f.FLOAT32)
    y = b.op("MatMul", b.op("Dequantize", q, s), b.op("Dequantize", w, s))
    graph = b.graph([q], [b.op("Quantize", y, s, to="uint8")])
    assert INTEGER_CONTRACTION.run(graph) is graph


@given(st.data())
@settings(max_examples=40)
def test_random_movement_keeps_bits(data):
    b = Builder()
    q = b.input("q", f.UINT8, (2, 2, 4))
    scales = [b.scalar(s, f.FLOAT32) for s in (0.3, 0.5)]
    zero = b.scalar(2, f.UINT8)
    values = [b.op("Dequantize", q, scales[0], zero)]
    for _ in range(data.draw(st.integers(1, 8))):
        x = data.draw(st.sampled_from(values))
        rank = x.type.rank
        kind = data.draw(st.sampled_from(["t", "r", "c", "s", "q", "relu", "pad"]))
        scale = data.draw(st.sampled_from(scales))
        if kind == "t":
            x = b.op("Transpose", x, perm=tuple(data.draw(st.permutations(range(rank)))))
        elif kind == "r":
            x = b.op("Reshape", x, shape=(x.type.count, 1))
        elif kind == "c":
            x = b.op("Concat", x, x, axis=rank - 1)
        elif kind == "s":
            x = b.op("Slice", x, starts=(0,), ends=(1,), axes=(0,), steps=(1,))
        elif kind == "relu":
            x = b.op("Relu", x)
        elif kind == "pad":
            x = b.op("Pad", x, pads=(0, 1) + (0,) * (2 * rank - 2))
        else:
            x = b.op("Quantize", x, scale, zero, to="uint8")
            x = b.op("Dequantize", x, scale, zero)
        values.append(x)
    outputs = data.draw(st.lists(st.sampled_from(values), min_size=1, max_size=3))
    codes = np.random.default_rng(0).integers(0, 256, q.shape).astype(np.uint8)
    same_bits(b.graph([q], outputs), MOVE_CODES, CODES_BACK, given={"q": codes})
