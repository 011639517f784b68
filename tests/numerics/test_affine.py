"""Affine quantisation, requantisation, integer products and embedding rows beyond the goldens."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsdk.errors import InvalidArgument
from accelsdk.formats import (
    BFLOAT16,
    E2M1,
    E4M3,
    E4M3FNUZ,
    E8M0,
    FLOAT16,
    INT2,
    INT4,
    INT8,
    INT16,
    UINT2,
    UINT4,
    UINT8,
)
from accelsdk.numerics import affine, codec, embedding, integer, rounding
from accelsdk.numerics.affine import AffineRule, ZeroPoint

SMALL = st.integers(0, 2**31)


@pytest.mark.parametrize("fmt", [INT8, UINT8, INT4, UINT4, INT2, UINT2, INT16], ids=str)
def test_against_exact_arithmetic(fmt):
    rng = np.random.default_rng(5)
    x = (rng.standard_normal(400) * 40).astype(np.float32)
    x[:4] = [np.inf, -np.inf, 3e38, -3e38]
    for scale, zero in ((0.37, 3), (1.0, 0), (2.0**-3, 1)):
        got = affine.quantize(x, scale, zero, fmt).astype(int)
        with np.errstate(over="ignore"):
            quotient = x / np.float32(scale)
        for q, value in zip(got, quotient, strict=True):
            if not np.isfinite(value):
                assert q == (fmt.max if value > 0 else fmt.min)
                continue
            whole = rounding.round_integer(Fraction(float(value))) + zero
            assert q == min(max(whole, int(fmt.min)), int(fmt.max))
        back = affine.dequantize(affine.quantize(x, scale, zero, fmt), fmt, scale, zero)
        np.testing.assert_array_equal(back, (got - zero).astype(np.float32) * np.float32(scale))


def test_nan_is_the_lowest_code():
    assert affine.quantize(np.array([np.nan], np.float32), 1.0, 5, INT8)[0] == -128


def test_float_formats():
    x = np.array([500.0, -1.5, 0.3, np.inf], np.float32)
    got = codec.decode(affine.quantize(x, 0.5, None, E4M3), E4M3)
    assert got.tolist() == [448, -3, 0.625, 448]
    fnuz = affine.quantize(np.float32([-0.0, -1e-9, np.inf]), 0.5, None, E4M3FNUZ)
    assert fnuz.view(np.uint8).tolist() == [0, 0, 0x7F]
    assert np.isnan(codec.decode(affine.quantize(x, 0.5, None, E4M3, saturate=False), E4M3))[
        [0, 3]
    ].all()
    assert codec.decode(affine.quantize(x, 0.5, None, E2M1, saturate=False), E2M1).tolist() == [
        6,
        -3,
        0.5,
        6,
    ]
    with pytest.raises(InvalidArgument, match="zero point"):
        affine.quantize(x, 0.5, 1, E4M3)


def test_scale_types():
    x = np.linspace(-3, 3, 50, dtype=np.float32).reshape(5, 10)
    exact = affine.quantize(x, np.float32(0.25), 0, INT8)
    np.testing.assert_array_equal(
        affine.quantize(x, np.array(125, np.uint8).view(E8M0.dtype), 0, INT8), exact
    )
    half = np.float16(0.3)
    expected = np.clip(np.rint((x.astype(np.float16) / half).astype(np.float32)), -128, 127)
    np.testing.assert_array_equal(affine.quantize(x.astype(np.float16), half, 0, INT8), expected)
    for out in (FLOAT16, BFLOAT16):
        got = affine.dequantize(exact, INT8, half, 0, out_fmt=out)
        wanted = codec.encode(exact.astype(np.float64) * float(half), out)
        np.testing.assert_array_equal(got, wanted)


@given(SMALL, st.integers(1, 40), st.integers(1, 7), st.integers(0, 1))
def test_blocks_are_slices(seed, length, size, axis):
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((3, length) if axis else (length, 3)) * 50).astype(np.float32)
    blocks = -(-length // size)
    shape = (3, blocks) if axis else (blocks, 3)
    scale = rng.uniform(0.1, 2, shape).astype(np.float32)
    zero = rng.integers(-5, 6, shape).astype(np.int8)
    got = affine.quantize(x, scale, zero, INT8, axis, size)
    for k in range(blocks):
        part = (
            (slice(None), slice(k * size, (k + 1) * size))
            if axis
            else slice(k * size, (k + 1) * size)
        )
        lane = scale[:, k] if axis else scale[k]
        zeros = zero[:, k] if axis else zero[k]
        expected = affine.quantize(x[part], lane, zeros, INT8, 1 - axis)
        np.testing.assert_array_equal(got[part], expected)


def test_rules_differ_where_published():
    x = np.array([0.5], np.float32)
    assert affine.quantize(x, 1.0, 5, INT8)[0] == 5
    assert affine.quantize(x, 1.0, 5, INT8, rule=affine.TORCH)[0] == 6
    assert affine.quantize(x, 1.0, 5, INT8, rule=AffineRule(zero_point=ZeroPoint.BEFORE))[0] == 6
    # PyTorch multiplies by the reciprocal: 31 where division gives 32.
    x, scale = np.array([2.017864942550659], np.float32), np.float32(0.06405920535326004)
    assert affine.quantize(x, scale, 0, UINT8)[0] == 32
    assert affine.quantize(x, scale, 0, UINT8, rule=affine.TORCH)[0] == 31


@pytest.mark.parametrize(
    ("scale", "axis", "size"),
    [(np.ones(3), None, 0), (np.ones(3), 1, 0), (np.ones((2, 2)), 1, 4), (np.ones(2), 5, 0)],
)
def test_shapes_that_do_not_fit(scale, axis, size):
    with pytest.raises(InvalidArgument):
        affine.quantize(np.zeros((2, 4), np.float32), scale, None, INT8, axis, size)


def test_dynamic_quantize_against_onnxruntime():
    ort = pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper

    nodes = [helper.make_node("DynamicQuantizeLinear", ["x"], ["y", "s", "z"])]
    outputs = [
        helper.make_tensor_value_info(n, t, s)
        for n, t, s in (("y", 2, ["n"]), ("s", 1, []), ("z", 2, []))
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])], outputs
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=10)
    session = ort.InferenceSession(model.SerializeToString())
    rng = np.random.default_rng(0)
    cases = [
        np.zeros(3),
        [1.0, 2, 3],
        [-1.0, -5],
        *(rng.standard_normal(50) * 10 ** rng.uniform(-3, 3) for _ in range(50)),
    ]
    for case in cases:
        x = np.asarray(case, np.float32)
        for got, expected in zip(
            affine.dynamic_quantize(x), session.run(None, {"x": x}), strict=True
        ):
            np.testing.assert_array_equal(got, expected)


def test_requantize_adds_the_zero_point_after_rounding():
    acc = np.array([1, 3, -1, 128], np.int32)
    assert affine.requantize(acc, 0.5, 5, UINT8).tolist() == [5, 7, 5, 69]
    assert affine.requantize(acc, 0.5, 5, UINT8, relu=True).tolist() == [5, 7, 5, 69]
    assert affine.requantize(-acc * 20, 0.5, 50, UINT8, relu=True).tolist() == [50, 50, 60, 50]
    channels = affine.requantize(np.array([[4], [4]], np.int32), [0.5, 2.0], [1, 2], INT8, axis=0)
    assert channels.tolist() == [[3], [10]]
    assert (
        affine.requantize(np.array([2**31 - 1], np.int32), 1.0, 0, INT16, bias=np.int32([1]))[0]
        == -32768
    )
    with pytest.raises(InvalidArgument, match="int32"):
        affine.requantize(acc.astype(np.int64), 0.5, 0, UINT8)


@given(
    st.integers(-(2**31), 2**31 - 1), st.floats(2.0**-30, 0.875, width=32), st.integers(-128, 127)
)
def test_fixed_point_is_the_rounded_rational(acc, multiplier, zero):
    q31, shift = affine.choose_requantization_multiplier(multiplier)
    assert 2**30 <= q31 < 2**31
    assert abs(Fraction(q31, 2**shift) - Fraction(multiplier)) <= Fraction(multiplier) / 2**31
    exact = Fraction(acc) * q31 / 2**shift
    single = (exact + Fraction(1, 2)).__floor__()
    values = np.array([acc], np.int32)
    assert affine.fixed_multiply(values, q31, shift)[0] == single
    clamped = min(max(single + zero, -128), 127)
    assert affine.requantize_fixed(values, q31, shift, zero, INT8)[0] == clamped


def test_known_fixed_point_values():
    acc = np.array([-1153024], np.int32)
    assert affine.fixed_multiply(acc, 2**30, 42)[0] == -281
    assert affine.fixed_multiply(acc, 2**30, 42, double_round=True)[0] == -282
    zero = np.array([0], np.int32)  # the second rounding begins beyond a shift of 31
    assert affine.fixed_multiply(zero, 2**30, 31, double_round=True)[0] == 0
    with pytest.raises(InvalidArgument, match="shift"):
        affine.fixed_multiply(acc, 2**30, 63)
    with pytest.raises(InvalidArgument, match="multiplier"):
        affine.choose_requantization_multiplier(0.0)
    assert affine.choose_requantization_multiplier(1.5) == (3 << 29, 30)


OPERANDS = st.sampled_from([np.int8, np.uint8, np.int16, INT4.dtype, UINT4.dtype])


@given(SMALL, OPERANDS, OPERANDS, st.integers(0, 5), st.integers(0, 1500), st.integers(0, 5))
def test_integer_products_are_exact(seed, left, right, m, k, n):
    rng = np.random.default_rng(seed)
    a, b = extremes(rng, (m, k), left), extremes(rng, (k, n), right)
    rows, columns = rng.integers(0, 16, m), rng.integers(-8, 8, n)
    exact = (a.astype(np.int64) - rows[:, None]) @ (b.astype(np.int64) - columns)
    got = integer.matmul_int32(a, b, rows, columns)
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, exact.astype(np.int32))


def extremes(rng, shape, dtype):
    """Mostly the ends of the range, where sums are largest."""
    fmt = next(f for f in (INT8, UINT8, INT16, INT4, UINT4) if f.dtype == np.dtype(dtype))
    ends = np.array([int(fmt.min), int(fmt.max)])
    values = np.where(
        rng.random(shape) < 0.9,
        ends[int(rng.integers(2))],
        rng.integers(ends[0], ends[1] + 1, shape),
    )
    return values.astype(np.int16).astype(dtype)


def test_block_lengths():
    assert integer.block_length(128 * 128) == (1024, np.float32)
    assert integer.block_length(255 * 128) == (514, np.float32)
    assert integer.block_length(2**30)[1] == np.float64


def test_sums_wrap_at_32_bits():
    a = np.full((1, 131072), -128, np.int8)
    assert integer.matmul_int32(a, a.T)[0, 0] == -(2**31)
    u = np.full((1, 65794 + 2), 255, np.uint8)
    exact = 255 * -128 * u.size
    assert (
        integer.matmul_int32(u, np.full((u.size, 1), -128, np.int8))[0, 0]
        == (exact + 2**31) % 2**32 - 2**31
    )


def test_batches_and_vectors():
    rng = np.random.default_rng(0)
    a, b = (
        rng.integers(-128, 128, (2, 1, 3, 2000), np.int8),
        rng.integers(0, 256, (5, 2000, 4), np.uint8),
    )
    np.testing.assert_array_equal(
        integer.matmul_int32(a, b), a.astype(np.int64) @ b.astype(np.int64)
    )
    assert integer.matmul_int32(a[0, 0, 0], b[0, :, 0]) == a[0, 0, 0].astype(np.int64) @ b[
        0, :, 0
    ].astype(np.int64)
    with pytest.raises(InvalidArgument, match="multiply"):
        integer.matmul_int32(a, b[:, :5])
    with pytest.raises(InvalidArgument, match="integers"):
        integer.matmul_int32(a.astype(np.float32), b)


def test_pair_saturation():
    a, b = np.array([[254, 255]], np.uint8), np.array([[127], [2]], np.int8)
    assert integer.matmul_acc16(a, b, 2)[0, 0] == 32767
    assert integer.matmul_int32(a, b)[0, 0] == 32768
    assert integer.matmul_acc16(a[:, :1], b[:1], 2)[0, 0] == 254 * 127
    with pytest.raises(InvalidArgument, match="even"):
        integer.matmul_acc16(a, b, 3)


@pytest.mark.parametrize("bits", embedding.WIDTHS)
@given(seed=SMALL, dim=st.integers(1, 33), rows=st.integers(0, 4))
def test_embedding_rows_hold_their_values(bits, seed, dim, rows):
    table = np.random.default_rng(seed).standard_normal((rows, dim)).astype(np.float32)
    packed = embedding.quantize_rows(table, bits)
    assert packed.shape == (rows, embedding.row_bytes(dim, bits))
    codes, scale, bias = embedding.split_rows(packed, dim, bits)
    assert codes.shape == (rows, dim)
    values = embedding.dequantize_rows(packed, dim, bits)
    np.testing.assert_array_equal(values, codes.astype(np.float32) * scale + bias)
    # Half a step, and for float16 rows the rounding of scale and bias besides.
    slack = 1e-6 if bits == 8 else 2.0**-10 * (np.abs(bias) + scale * (1 << bits))
    assert (np.abs(values - table) <= scale * 0.51 + slack).all()


def test_embedding_errors_and_constants():
    constant = np.full((1, 4), 2.5, np.float32)
    for bits in embedding.WIDTHS:
        assert embedding.dequantize_rows(
            embedding.quantize_rows(constant, bits), 4, bits
        ).tolist() == [[2.5] * 4]
    with pytest.raises(InvalidArgument, match="bits"):
        embedding.quantize_rows(constant, 3)
    with pytest.raises(InvalidArgument, match="bytes"):
        embedding.dequantize_rows(np.zeros((1, 5), np.uint8), 4, 8)
