"""Matrix products and convolutions against onnxruntime and exact arithmetic."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

RNG = np.random.default_rng(11)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


MATMUL = [
    ((3,), (3,)), ((3,), (3, 4)), ((2, 3), (3,)), ((5, 7), (7, 3)), ((1, 1), (1, 1)),
    ((2, 5, 7), (7, 3)), ((2, 1, 4, 6), (3, 6, 2)), ((4, 6), (2, 3, 6, 5)), ((2, 0), (0, 3)),
    ((0, 4), (4, 2)), ((3, 4, 0), (0, 2)), ((33, 129), (129, 65)),
]  # fmt: skip


@pytest.mark.parametrize(("a_shape", "b_shape"), MATMUL)
def test_matmul(a_shape, b_shape, compute, within_sum):
    a, b = normal(*a_shape), normal(*b_shape)
    exact = np.matmul(a.astype(np.float64), b.astype(np.float64))
    size = np.matmul(np.abs(a).astype(np.float64), np.abs(b))
    within_sum(compute("MatMul", a, b), exact, size, a_shape[-1] + 1, peers=1)


def test_matmul_takes_any_layout(compute):
    a, b = normal(8, 6, 10), normal(10, 8, 12)
    expected = compute("MatMul", a, b.transpose(1, 0, 2).copy())
    assert np.array_equal(compute("MatMul", a, b.transpose(1, 0, 2)), expected)
    flipped = normal(5, 4)
    assert np.array_equal(
        compute("MatMul", flipped[::-1, ::-1], flipped.T),
        compute("MatMul", flipped[::-1, ::-1].copy(), flipped.T.copy()),
    )


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_matmul_of_16_bit_floats_accumulates_in_float32(dtype, compute):
    # On a grid of small integers every order and width gives the same bits.
    a, b = (RNG.integers(-4, 5, (9, 40)).astype(dtype), RNG.integers(-4, 5, (40, 5)).astype(dtype))
    exact = a.astype(np.float64) @ b.astype(np.float64)
    assert np.array_equal(compute("MatMul", a, b), exact.astype(np.float32).astype(dtype))


@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.int64, np.uint64])
@pytest.mark.parametrize("span", [10, 1 << 20, None])  # sums within 32 bits, 53 bits, beyond
def test_integer_matmul_wraps(dtype, span, compute):
    info = np.iinfo(dtype)
    low, high = (info.min, info.max) if span is None else (max(-span, info.min), span)
    a = RNG.integers(low, high, (3, 5), dtype, endpoint=True)
    b = RNG.integers(low, high, (5, 4), dtype, endpoint=True)
    actual = compute("MatMul", a, b)
    for i, j in np.ndindex(3, 4):
        total = sum(int(a[i, k]) * int(b[k, j]) for k in range(5)) % (1 << info.bits)
        assert int(actual[i, j]) % (1 << info.bits) == total


@pytest.mark.parametrize("a_type", [np.uint8, np.int8])
@pytest.mark.parametrize("b_type", [np.uint8, np.int8])
@pytest.mark.parametrize("depth", [0, 1, 300, 1500])
def test_matmul_integer(a_type, b_type, depth, compute):
    a = RNG.integers(np.iinfo(a_type).min, np.iinfo(a_type).max, (3, depth), a_type, endpoint=True)
    b = RNG.integers(np.iinfo(b_type).min, np.iinfo(b_type).max, (depth, 4), b_type, endpoint=True)
    for a_zero, b_zero in [
        (None, None),
        (np.array(5, a_type), np.array(7, b_type)),
        (np.arange(3).astype(a_type), np.arange(4).astype(b_type)),
    ]:
        wide_a = a.astype(np.int64) - (0 if a_zero is None else a_zero.reshape(-1, 1).astype(int))
        wide_b = b.astype(np.int64) - (0 if b_zero is None else b_zero.astype(int))
        expected = (wide_a @ wide_b).astype(np.int32)
        assert np.array_equal(compute("MatMulInteger", a, b, a_zero, b_zero), expected)


def test_matmul_integer_against_onnxruntime(compute, peer):
    a = RNG.integers(0, 255, (2, 7, 33), np.uint8)
    b = RNG.integers(-128, 127, (33, 5), np.int8)
    zeros = (np.array(3, np.uint8), np.array(-2, np.int8))
    assert np.array_equal(
        compute("MatMulInteger", a, b, *zeros), peer("MatMulInteger", a, b, *zeros)
    )


CODES = [
    ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, ml_dtypes.float6_e3m2fn,
    ml_dtypes.float6_e2m3fn, ml_dtypes.float4_e2m1fn,
]  # fmt: skip


@pytest.mark.parametrize("a_type", CODES)
@pytest.mark.parametrize("to", ["float32", "float16", "bfloat16"])
def test_scaled_matmul_per_row_and_column(a_type, to, compute):
    # Operands of small integers: the sum is exact, so the rule about scales shows.
    a = RNG.integers(-3, 4, (4, 17)).astype(a_type)
    b = RNG.integers(-3, 4, (17, 3)).astype(ml_dtypes.float8_e4m3fn)
    a_scale = RNG.uniform(0.1, 2, (4, 1)).astype(np.float32)
    b_scale = RNG.uniform(0.1, 2, (1, 3)).astype(np.float32)
    sums = (a.astype(np.float64) @ b.astype(np.float64)).astype(np.float32)
    target = np.dtype(getattr(ml_dtypes, to, to))
    for scales in ((a_scale, b_scale), (np.float32(0.3), b_scale), (a_scale, np.float32(1.7))):
        expected = (sums * scales[0] * scales[1]).astype(target)
        assert np.array_equal(compute("ScaledMatMul", a, b, *scales, to=to), expected)


@pytest.mark.parametrize("a_type", CODES)
@pytest.mark.parametrize("depth", [1, 32, 45, 96])
def test_scaled_matmul_in_blocks(a_type, depth, compute):
    blocks = -(-depth // 32)
    a = RNG.integers(-3, 4, (4, depth)).astype(a_type)
    b = RNG.integers(-3, 4, (depth, 3)).astype(ml_dtypes.float4_e2m1fn)
    sa = RNG.integers(120, 134, (4, blocks)).astype(np.uint8)
    sb = RNG.integers(120, 134, (blocks, 3)).astype(np.uint8)
    e8m0 = ml_dtypes.float8_e8m0fnu
    expected = np.zeros((4, 3))
    for k in range(depth):
        scale = 2.0 ** (sa[:, k // 32, None].astype(float) + sb[None, k // 32].astype(float) - 254)
        expected += scale * np.outer(a[:, k].astype(float), b[k].astype(float))
    actual = compute("ScaledMatMul", a, b, sa.view(e8m0), sb.view(e8m0), block_size=32)
    assert np.array_equal(actual, expected.astype(np.float32))


def test_scaled_matmul_nan_scale_and_extreme_scales(compute):
    e8m0 = ml_dtypes.float8_e8m0fnu
    ones = np.ones((1, 32), ml_dtypes.float8_e4m3fn)
    low, high, nan = (np.array([[code]], np.uint8).view(e8m0) for code in (0, 254, 255))
    one = np.array([[127]], np.uint8).view(e8m0)
    assert compute("ScaledMatMul", ones, ones.T, low, high, block_size=32) == 32.0
    assert compute("ScaledMatMul", ones, ones.T, high, high, block_size=32) == np.inf
    assert compute("ScaledMatMul", ones, ones.T, low, low, block_size=32) == 0.0
    assert compute("ScaledMatMul", ones, ones.T, low, one, block_size=32) == 2.0**-122
    assert np.isnan(compute("ScaledMatMul", ones, ones.T, nan, one, block_size=32))


def test_scaled_matmul_of_mxint8(compute):
    e8m0 = ml_dtypes.float8_e8m0fnu
    a = np.arange(-64, 64, 4, dtype=np.int8).reshape(1, 32)
    b = np.ones((32, 1), ml_dtypes.float8_e4m3fn)
    scale = np.array([[127]], np.uint8).view(e8m0)
    actual = compute("ScaledMatMul", a, b, scale, scale, block_size=32, mx=(0,))
    assert actual == a.astype(float).sum() / 64


# -- convolution -----------------------------------------------------------------------------

CONV = [
    # x, w, group, strides, pads, dilations
    ((1, 3, 9), (4, 3, 3), 1, (1,), (1, 1), (1,)),
    ((2, 3, 20), (4, 3, 5), 1, (3,), (0, 2), (2,)),
    ((1, 1, 64), (6, 1, 16), 1, (8,), (0, 0), (1,)),
    ((2, 4, 9, 11), (6, 4, 3, 3), 1, (1, 1), (1, 1, 1, 1), (1, 1)),
    ((2, 4, 9, 11), (6, 2, 3, 3), 2, (2, 1), (0, 1, 2, 3), (1, 2)),
    ((1, 5, 1, 1), (3, 5, 1, 1), 1, (1, 1), (0, 0, 0, 0), (1, 1)),
    ((2, 6, 8, 7), (4, 6, 1, 1), 1, (1, 1), (0, 0, 0, 0), (1, 1)),
    ((2, 6, 8, 7), (4, 3, 1, 1), 2, (2, 3), (0, 0, 0, 0), (1, 1)),
    ((1, 6, 8, 7), (4, 6, 1, 1), 1, (1, 1), (1, 0, 0, 1), (1, 1)),
    ((2, 8, 12, 10), (8, 1, 3, 3), 8, (1, 1), (1, 1, 1, 1), (1, 1)),
    ((1, 8, 12, 10), (16, 1, 5, 5), 8, (2, 2), (2, 2, 2, 2), (1, 1)),
    ((1, 8, 6, 10), (8, 1, 3, 3), 8, (2, 1), (1, 1, 1, 1), (2, 2)),
    ((1, 3, 5, 5), (2, 3, 5, 5), 1, (1, 1), (0, 0, 0, 0), (1, 1)),
    ((1, 2, 4, 30), (3, 2, 4, 1), 1, (7, 5), (3, 0, 3, 0), (1, 1)),
    ((1, 2, 5, 6, 7), (4, 2, 3, 2, 3), 1, (1, 2, 1), (1, 0, 1, 1, 0, 1), (1, 1, 2)),
    ((1, 4, 5, 6, 7), (4, 1, 2, 2, 2), 4, (2, 1, 1), (0, 0, 0, 0, 0, 0), (1, 1, 1)),
    ((0, 3, 5, 5), (2, 3, 3, 3), 1, (1, 1), (0, 0, 0, 0), (1, 1)),
    ((1, 64, 40, 40), (96, 64, 3, 3), 1, (1, 1), (1, 1, 1, 1), (1, 1)),
]  # fmt: skip


def conv_arguments(case):
    _, _, group, strides, pads, dilations = case
    return {"group": group, "strides": strides, "pads": pads, "dilations": dilations}


@pytest.mark.parametrize("case", CONV, ids=str)
@pytest.mark.parametrize("biased", [False, True])
def test_conv_against_onnxruntime(case, biased, compute, peer, within_sum):
    x, w = normal(*case[0]), normal(*case[1])
    operands = (x, w, normal(case[1][0])) if biased else (x, w)
    settings = conv_arguments(case)
    actual = compute("Conv", *operands, **settings)
    if x.size == 0:
        return
    size = compute("Conv", *map(np.abs, operands), **settings)
    terms = int(np.prod(case[1][1:])) + 1 + biased
    within_sum(actual, peer("Conv", *operands, **settings), size * (1 + 1e-3), terms)


def test_conv_in_chunks_has_no_seams(compute, monkeypatch):
    from accelsdk.kernels import conv

    x, w = normal(3, 4, 11, 9), normal(5, 4, 3, 3)
    settings = {"group": 1, "strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1)}
    whole = compute("Conv", x, w, **settings)
    monkeypatch.setattr(conv, "_GATHERED", 4096)
    size = compute("Conv", np.abs(x), np.abs(w), **settings)
    assert np.all(np.abs(compute("Conv", x, w, **settings) - whole) <= 40 * 2.0**-24 * size)


def test_conv_keeps_nan_and_inf_where_they_are(compute):
    x = np.zeros((1, 2, 6, 6), np.float32)
    x[0, 1, 2, 3] = np.nan
    ones = {"group": 1, "strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1)}
    dense = compute("Conv", x, np.ones((1, 2, 3, 3), np.float32), **ones)
    assert np.argwhere(np.isnan(dense[0, 0])).tolist() == [
        [i, j] for i in (1, 2, 3) for j in (2, 3, 4)
    ]
    deep = compute("Conv", x, np.ones((2, 1, 3, 3), np.float32), **{**ones, "group": 2})
    assert np.isnan(deep).sum() == 9


def test_conv_over_no_channels_is_the_bias(compute):
    settings = {"group": 1, "strides": (1, 1), "pads": (0, 0, 0, 0), "dilations": (1, 1)}
    x, w = np.ones((1, 0, 4, 4), np.float32), np.ones((2, 0, 3, 3), np.float32)
    bias = np.array([1.5, -2.0], np.float32)
    out = compute("Conv", x, w, bias, **settings)
    assert np.array_equal(out, np.broadcast_to(bias[:, None, None], (1, 2, 2, 2)))


@pytest.mark.parametrize("case", [c for c in CONV if len(c[0]) == 4 and 0 not in c[0]], ids=str)
@pytest.mark.parametrize("w_type", [np.int8, np.uint8])
def test_conv_integer_is_exact(case, w_type, compute):
    info = np.iinfo(w_type)
    x = RNG.integers(0, 255, case[0], np.uint8, endpoint=True)
    w = RNG.integers(info.min, info.max, case[1], w_type, endpoint=True)
    settings = conv_arguments(case)
    zero = np.arange(case[1][0]).astype(w_type)
    actual = compute("ConvInteger", x, w, np.array(9, np.uint8), zero, **settings)
    centred = w.astype(np.float64) - zero.reshape(-1, 1, 1, 1)
    expected = compute("Conv", x.astype(np.float64) - 9, centred, **settings)
    assert np.array_equal(actual, expected)


def test_conv_integer_against_onnxruntime(compute, peer):
    x = RNG.integers(0, 255, (1, 3, 7, 8), np.uint8)
    w = RNG.integers(0, 255, (4, 3, 3, 3), np.uint8)
    settings = {"group": 1, "strides": (2, 1), "pads": (1, 0, 1, 2), "dilations": (1, 1)}
    zeros = (np.array(128, np.uint8), np.array(3, np.uint8))
    assert np.array_equal(
        compute("ConvInteger", x, w, *zeros, **settings),
        peer("ConvInteger", x, w, *zeros, **settings),
    )


TRANSPOSED = [
    ((1, 3, 5), (3, 4, 3), 1, (2,), (1, 1), (1,), (1,)),
    ((2, 4, 5, 6), (4, 3, 3, 2), 1, (2, 3), (0, 1, 1, 0), (1, 1), (0, 0)),
    ((1, 4, 5, 6), (4, 2, 2, 2), 2, (2, 2), (0, 0, 0, 0), (1, 1), (1, 0)),
    ((1, 2, 4, 4), (2, 1, 3, 3), 2, (1, 1), (1, 1, 1, 1), (2, 1), (0, 0)),
    ((1, 2, 3, 3, 3), (2, 2, 2, 2, 2), 1, (2, 1, 2), (0,) * 6, (1, 1, 1), (0, 0, 1)),
]


@pytest.mark.parametrize("case", TRANSPOSED, ids=str)
def test_conv_transpose_against_onnxruntime(case, compute, peer, within_sum):
    x, w, bias = normal(*case[0]), normal(*case[1]), normal(case[1][1] * case[2])
    settings = {**conv_arguments(case[:6]), "output_padding": case[6]}
    actual = compute("ConvTranspose", x, w, bias, **settings)
    size = compute("ConvTranspose", np.abs(x), np.abs(w), np.abs(bias), **settings)
    terms = int(np.prod(case[1])) + 2
    within_sum(actual, peer("ConvTranspose", x, w, bias, **settings), size * 1.001, terms)
