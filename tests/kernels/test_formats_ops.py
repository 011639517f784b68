"""Quantisation, casts and embedding bags: exact against onnxruntime and direct arithmetic."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from accelsdk.errors import InvalidArgument
from accelsdk.numerics.embedding import dequantize_rows, quantize_rows

RNG = np.random.default_rng(9)
E4M3, E5M2, E8M0 = ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, ml_dtypes.float8_e8m0fnu


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16])
@pytest.mark.parametrize("kind", ["tensor", "channel", "block"])
def test_quantize_and_back_against_onnxruntime(dtype, kind, compute, peer):
    x = (RNG.normal(size=(4, 6)) * 40).astype(np.float32)
    x[0, :3] = [np.inf, -np.inf, 2.5]
    shape = {"tensor": (), "channel": (6,), "block": (4, 2)}[kind]
    scale = RNG.uniform(0.1, 1.5, shape).astype(np.float32)
    zero = RNG.integers(0, 9, shape).astype(dtype)
    settings = {"axis": 1, **({"block_size": 3} if kind == "block" else {})}
    name = np.dtype(dtype).name
    codes = compute("Quantize", x, scale, zero, to=name, **settings)
    assert np.array_equal(codes, peer("QuantizeLinear", x, scale, zero, **settings))
    values = compute("Dequantize", codes, scale, zero, **settings)
    assert np.array_equal(values, peer("DequantizeLinear", codes, scale, zero, **settings))


def test_quantize_ties_go_to_even(compute):
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5], np.float32)
    assert compute("Quantize", x, np.float32(1), to="int8").tolist() == [0, 2, 2, 0, -2]


@pytest.mark.parametrize("saturate", [0, 1])
def test_quantize_to_fp8_saturates_on_request(saturate, compute):
    x = np.array([1000.0, -1000.0, 448.0, np.inf], np.float32)
    out = compute("Quantize", x, np.float32(1), to="float8_e4m3fn", saturate=saturate)
    if saturate:
        assert out.astype(float).tolist() == [448, -448, 448, 448]
    else:
        assert np.isnan(out.astype(np.float32)).tolist() == [True, True, False, True]


@pytest.mark.parametrize("relu", [0, 1])
@pytest.mark.parametrize("channels", [False, True])
def test_requantize_in_float32(relu, channels, compute):
    acc = RNG.integers(-(2**20), 2**20, (7, 5)).astype(np.int32)
    bias = RNG.integers(-1000, 1000, 5).astype(np.int32)
    multiplier = RNG.uniform(1e-5, 1e-3, 5 if channels else ()).astype(np.float32)
    zero = np.array(-3, np.int8)
    out = compute("Requantize", acc, multiplier, None, zero, bias, to="int8", relu=relu)
    steps = np.rint((acc + bias).astype(np.float32) * multiplier) - 3
    expected = np.clip(steps, -3 if relu else -128, 127)
    assert np.array_equal(out, expected.astype(np.int8))


@pytest.mark.parametrize("arithmetic", ["fixed_single", "fixed_double"])
@pytest.mark.parametrize("axis", [0, 1])
def test_requantize_in_fixed_point(arithmetic, axis, compute):
    acc = np.concatenate([RNG.integers(-(2**24), 2**24, 34), [-1153024]]).astype(np.int32)
    acc = acc.reshape(7, 5)
    count = acc.shape[axis]
    q31 = RNG.integers(2**30, 2**31 - 1, count).astype(np.int32)
    q31[-1] = 2**30
    shift = np.full(count, 42, np.int32)
    out = compute(
        "Requantize", acc, q31, shift, None, None, to="uint8", arithmetic=arithmetic, axis=axis
    )
    for i, j in np.ndindex(7, 5):
        v, m, s = int(acc[i, j]), int(q31[(i, j)[axis]]), 42
        half = 1 << (s - 1)
        if arithmetic == "fixed_double":
            half += (1 << 30) if v >= 0 else -(1 << 30)
        assert out[i, j] == min(max((v * m + half) >> s, 0), 255)


def test_requantize_bias_wraps(compute):
    acc = np.array([[2**31 - 1]], np.int32)
    bias = np.array([1], np.int32)
    out = compute("Requantize", acc, np.float32(1e-9), None, None, bias, to="int8")
    assert out.tolist() == [[-2]]


@pytest.mark.parametrize("to", ["float8_e4m3fn", "float8_e5m2", "float4_e2m1fn", "mxint8"])
@pytest.mark.parametrize("axis", [0, -1])
def test_block_round_trip(to, axis, compute):
    # Powers of two times small integers: every element is on every grid.
    x = (RNG.integers(-1, 2, (40, 70)) * 2.0 ** RNG.integers(0, 2, (40, 70))).astype(np.float32)
    elements, scales = compute("QuantizeBlock", x, outputs=2, to=to, axis=axis)
    mx = (0,) if to == "mxint8" else ()
    back = compute("DequantizeBlock", elements, scales, axis=axis, mx=mx)
    assert np.array_equal(back, x)


CASTS = [
    (np.float32, np.int8), (np.float32, np.uint8), (np.float32, np.int64), (np.int64, np.float32),
    (np.int32, np.int8), (np.int64, np.uint8), (np.float32, np.bool_), (np.bool_, np.float32),
    (np.float32, np.float16), (np.float16, np.float32), (np.float64, np.float32),
    (np.int32, np.float64), (np.uint8, np.float16),
]  # fmt: skip


@pytest.mark.parametrize(("source", "target"), CASTS, ids=str)
def test_cast_against_onnxruntime(source, target, compute, peer):
    from onnx import helper

    x = np.array([0, 1, -1, 3, 100, 2.5, -2.5, 0.4, 1e-3]).astype(source)
    if target in (np.uint8,) and np.dtype(source).kind == "f":
        x = np.abs(x)
    to = helper.np_dtype_to_tensor_dtype(np.dtype(target))
    assert np.array_equal(
        compute("Cast", x, to=np.dtype(target).name), peer("Cast", x, to=to), equal_nan=True
    )


@pytest.mark.parametrize("dtype", [E4M3, E5M2])
@pytest.mark.parametrize("saturate", [0, 1])
def test_cast_to_fp8_against_onnxruntime(dtype, saturate, compute, peer):
    from onnx import helper

    x = np.concatenate([RNG.normal(size=500) * 2.0 ** RNG.integers(-20, 18, 500), [1e6, -1e6]])
    x = np.concatenate([x, [0.0, -0.0]]).astype(np.float32)
    x = x[(np.abs(x) < 61440) | (np.abs(x) >= 65536)]  # there onnxruntime gives NaN, not Inf
    to = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    ours = compute("Cast", x, to=np.dtype(dtype).name, saturate=saturate)
    back = compute("Cast", ours, to="float32")
    # onnxruntime's Python binding does not return FP8: look at the values instead.
    import onnxruntime
    from onnx import TensorProto

    nodes = [
        helper.make_node("Cast", ["x"], ["c"], to=to, saturate=saturate),
        helper.make_node("Cast", ["c"], ["y"], to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [len(x)])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [len(x)])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    assert np.array_equal(back, session.run(None, {"x": x})[0], equal_nan=True)


@pytest.mark.parametrize("mode", ["up", "down", "nearest"])
def test_cast_to_scale(mode, compute):
    x = np.array([1.0, 1.25, 1.5, 3.0], np.float32)
    out = compute("Cast", x, to="float8_e8m0fnu", round_mode=mode).astype(np.float32)
    assert out.tolist() == {"up": [1, 2, 2, 4], "down": [1, 1, 1, 2], "nearest": [1, 1, 2, 4]}[mode]


# -- embedding bags --------------------------------------------------------------------------

LENGTHS = np.array([3, 0, 1, 4, 0, 2, 0], np.int32)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("weighted", [False, True])
def test_sparse_lengths_sum(dtype, weighted, compute):
    table = RNG.integers(-8, 9, (20, 5)).astype(dtype)
    indices = RNG.integers(0, 20, LENGTHS.sum())
    weights = RNG.integers(-3, 4, indices.size).astype(np.float32) if weighted else None
    out = compute("SparseLengthsSum", table, indices, LENGTHS, weights)
    start = 0
    for bag, length in enumerate(LENGTHS):
        rows = table[indices[start : start + length]].astype(np.float64)
        if weights is not None:
            rows *= weights[start : start + length, None]
        assert np.array_equal(out[bag].astype(np.float64), rows.sum(axis=0))
        start += length


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_fused_sparse_lengths_sum(bits, compute, monkeypatch):
    from accelsdk.kernels import embedding

    table = quantize_rows(RNG.normal(size=(30, 13)).astype(np.float32), bits)
    indices = RNG.integers(0, 30, LENGTHS.sum())
    weights = RNG.normal(size=indices.size).astype(np.float32)
    settings = {"bits": bits, "columns": 13}
    out = compute("SparseLengthsSumFused", table, indices, LENGTHS, weights, **settings)
    values = dequantize_rows(table, 13, bits)
    start = 0
    for bag, length in enumerate(LENGTHS):
        part = slice(start, start + length)
        terms = values[indices[part]].astype(np.float64) * weights[part, None]
        bound = 4 * 2.0**-24 * np.abs(terms).sum(axis=0)
        assert np.all(np.abs(out[bag] - terms.sum(axis=0)) <= bound)
        start += length
    monkeypatch.setattr(embedding, "_ITEMS", 26)  # two rows at a time
    again = compute("SparseLengthsSumFused", table, indices, LENGTHS, weights, **settings)
    assert np.array_equal(again, out)


def test_embedding_bag_errors(compute):
    table = np.zeros((4, 2), np.float32)
    with pytest.raises(InvalidArgument, match="index 4"):
        compute("SparseLengthsSum", table, np.array([4]), np.array([1]))
    with pytest.raises(InvalidArgument, match="lengths sum to 3"):
        compute("SparseLengthsSum", table, np.array([0, 1]), np.array([1, 2]))


def test_no_bags_and_no_indices(compute):
    table, none = np.ones((4, 2), np.float32), np.zeros(0, np.int64)
    assert compute("SparseLengthsSum", table, none, none).shape == (0, 2)
    assert compute("SparseLengthsSum", table, none, np.zeros(3, np.int64)).tolist() == [[0, 0]] * 3


@pytest.mark.parametrize("source", [np.int8, np.uint16, np.int32, np.int64, np.uint64, np.bool_])
@pytest.mark.parametrize("target", [np.float32, np.float64])
def test_cast_of_integers_rounds_once(source, target, compute):
    bits = 8 * np.dtype(source).itemsize
    numbers = {0, 1} if source is np.bool_ else set()
    for p in range(bits if source is not np.bool_ else 0):
        numbers |= {(1 << p) + d for d in (-1, 0, 1)} | {(1 << p) + (1 << max(p - 24, 0)) + 1}
    limits = None if source is np.bool_ else np.iinfo(source)
    x = np.array(sorted(n for n in numbers if limits is None or n <= limits.max), source)
    actual = compute("Cast", x, to=np.dtype(target).name)
    for given, got in zip(x.tolist(), actual.tolist(), strict=True):
        digits = np.finfo(target).nmant + 1
        drop = max(int(given).bit_length() - digits, 0)
        quotient, rest = divmod(int(given), 1 << drop)
        half = (1 << drop) / 2
        quotient += rest > half or (rest == half and drop > 0 and quotient % 2 == 1)
        assert got == float(quotient << drop)
