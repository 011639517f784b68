"""Casts between every pair of formats, packing, and device bytes."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsdk.errors import InvalidArgument
from accelsdk.formats import (
    BFLOAT16,
    BOOL,
    E2M1,
    E4M3,
    E4M3FNUZ,
    E5M2,
    E5M2FNUZ,
    E8M0,
    FLOAT16,
    FLOAT32,
    FLOAT64,
    FORMATS,
    INT2,
    INT4,
    INT8,
    INT32,
    INT64,
    MXINT8,
    UINT2,
    UINT4,
    UINT8,
    UINT64,
)
from accelsdk.numerics import codec, rounding
from accelsdk.numerics.rounding import Overflow, Rounding, ScaleMode


def codes_of(array, fmt):
    raw = (
        array.view(np.uint8) if array.dtype == np.bool_ else array.view(f"u{array.dtype.itemsize}")
    )
    return [int(code) & ((1 << fmt.bits) - 1) for code in raw.reshape(-1)]


def samples(fmt):
    rng = np.random.default_rng(7)
    count = 1 << min(fmt.bits, 8)
    if fmt is BOOL:
        return np.array([False, True])
    if fmt.bits <= 8:
        return codec.from_bytes(codec.pack(np.arange(count, dtype=np.uint8), fmt), fmt, (count,))
    if fmt.is_integer:
        info = np.iinfo(fmt.dtype)
        edges = [
            v
            for k in (0, 1, 7, 8, 15, 16, 24, 31, 32, 53, 54, 63)
            for d in (-1, 0, 1)
            for v in (2**k + d, -(2**k) + d)
        ]
        edges += [2**53 + 1, 2**60 + 2**52, 2**60 + 2**52 + 1, 2**40 + 2**16, 2**56 + 2**48 + 1]
        return np.array([v for v in edges if info.min <= v <= info.max], fmt.dtype)
    values = np.ldexp(rng.uniform(-2, 2, 300), rng.integers(-30, 66, 300))
    values = [
        *values,
        0.0,
        -0.0,
        math.inf,
        -math.inf,
        math.nan,
        0.5,
        1.5,
        -0.5,
        2.5,
        127.5,
        2.0**63,
        -(2.0**63),
    ]
    with np.errstate(over="ignore"):
        return np.array(values).astype(fmt.dtype)


def expected_code(value, source, target):
    """ONNX Cast, one exact value at a time."""
    whole = source.is_integer or source is BOOL
    if whole and target.is_integer:
        return int(value) & ((1 << target.bits) - 1)
    if target is BOOL:
        return int(value != 0)
    exact = rounding.exact(value) if whole and value else value
    if target.is_integer:
        return rounding.encode(exact, target, Rounding.TOWARD_ZERO)
    if target is E8M0:
        return rounding.encode_e8m0(exact, ScaleMode.UP)
    policy = Overflow.SATURATE if target.bits <= 8 else Overflow.SPECIAL
    return rounding.encode(exact, target, overflow=policy)


@pytest.mark.parametrize(("source", "target"), list(itertools.permutations(FORMATS, 2)), ids=str)
def test_every_pair(source, target):
    x = samples(source)
    got = codec.cast(x, source, target)
    assert got.dtype == target.dtype
    for code, result in zip(codes_of(x, source), codes_of(got, target), strict=True):
        value = rounding.decode(code, source)
        if value != value and target.has_nan:
            assert math.isnan(rounding.decode(result, target))
        else:
            assert result == expected_code(value, source, target), (value, source, target)


def test_overflow_can_be_chosen():
    x = np.array([1e30, np.inf], np.float32)
    assert np.isnan(
        codec.cast(x, FLOAT32, E4M3, overflow=Overflow.SPECIAL).astype(np.float32)
    ).all()
    assert codec.cast(x, FLOAT32, FLOAT16, overflow=Overflow.SATURATE).tolist() == [65504, 65504]
    mixed = codec.cast(x, FLOAT32, E5M2, overflow=Overflow.SATURATE_FINITE)
    assert mixed.astype(np.float32).tolist() == [57344, np.inf]


def test_integers_are_rounded_once():
    value = 2**60 + 2**52 + 1  # just above a bfloat16 midpoint, which float64 cannot tell
    assert codec.cast(np.array([value]), INT64, BFLOAT16).astype(np.float64) == 2.0**60 + 2.0**53
    value = np.array([2**63 + 2**39 + 1], np.uint64)
    assert codec.cast(value, UINT64, FLOAT32).astype(np.float64)[0] == 2.0**63 + 2.0**40
    assert codec.decode(value, UINT64)[0] == np.float32(2.0**63 + 2.0**40)


def test_cast_leaves_its_input_alone_and_returns_a_copy():
    x = np.arange(4, dtype=np.float32)
    same = codec.cast(x, FLOAT32, FLOAT32)
    same[0] = 9
    assert x[0] == 0
    with pytest.raises(InvalidArgument, match="float32"):
        codec.cast(x, INT8, FLOAT32)


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
@given(count=st.integers(0, 40), seed=st.integers(0, 2**16))
def test_bytes_round_trip(fmt, count, seed):
    raw = np.random.default_rng(seed).integers(0, 256, count * fmt.dtype.itemsize, np.uint8)
    if fmt.bits < 8:
        raw &= np.uint8((1 << fmt.bits) - 1)
    if fmt is BOOL:
        raw &= np.uint8(1)
    if fmt in (INT2, INT4):
        sign = np.uint8(1 << (fmt.bits - 1))
        raw = (raw ^ sign) - sign
    array = raw.view(fmt.dtype)
    data = codec.to_bytes(array, fmt)
    assert data.nbytes == fmt.nbytes(count)
    back = codec.from_bytes(data, fmt, (count,))
    assert back.dtype == fmt.dtype
    assert back.tobytes() == array.tobytes()


def test_layouts():
    four = np.array([0x1, 0x2, 0xF], np.uint8).view(E2M1.dtype)
    assert codec.pack(four, E2M1).tolist() == [0x21, 0x0F]
    six = np.array([0x3F, 0x01, 0x20, 0x15, 0x3F], np.uint8)
    fmt = FORMATS[[f.name for f in FORMATS].index("float6_e3m2fn")]
    # A bit stream, least significant bit first.
    stream = sum(int(code) << (6 * i) for i, code in enumerate(six))
    assert codec.pack(six.view(fmt.dtype), fmt).tobytes() == stream.to_bytes(4, "little")
    assert codec.pack(np.array([-1, 7, -8]).astype(INT4.dtype), INT4).tolist() == [0x7F, 0x08]
    assert codec.unpack(bytes([0x7F, 0x08]), INT4, 3).astype(int).tolist() == [-1, 7, -8]
    assert codec.pack(np.array([-1, 1, -2, 0, 1]).astype(INT2.dtype), INT2).tolist() == [0x27, 0x01]
    assert codec.unpack(bytes([0x27, 0xFD]), INT2, 5).astype(int).tolist() == [-1, 1, -2, 0, 1]
    assert codec.unpack(bytes([0xE4]), UINT2, 4).astype(int).tolist() == [0, 1, 2, 3]
    assert codec.unpack(bytes([0xF1]), UINT4, 2).astype(int).tolist() == [1, 15]


def test_wide_formats_are_views():
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    data = codec.to_bytes(x, FLOAT32)
    y = codec.from_bytes(data, FLOAT32, (2, 3))
    x[0, 0] = 7
    assert y[0, 0] == 7
    assert y.flags.writeable
    assert not codec.from_bytes(bytes(data), FLOAT32, (2, 3)).flags.writeable
    assert codec.to_bytes(x.T, FLOAT32).tobytes() == x.T.tobytes()


@pytest.mark.parametrize("fmt", [FLOAT32, E2M1, INT4, UINT2], ids=str)
def test_wrong_sizes_are_refused(fmt):
    with pytest.raises(InvalidArgument, match="bytes"):
        codec.from_bytes(bytes(1), fmt, (5,))


def test_wrong_dtypes_are_refused():
    with pytest.raises(InvalidArgument, match="does not hold"):
        codec.to_bytes(np.zeros(3, np.float64), FLOAT32)
    with pytest.raises(InvalidArgument, match="does not hold"):
        codec.decode(np.zeros(3, np.float32), FLOAT16)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (FLOAT32, E4M3),
        (FLOAT32, E5M2),
        (FLOAT32, FLOAT16),
        (FLOAT32, BFLOAT16),
        (INT32, INT8),
        (FLOAT64, FLOAT32),
        (E4M3, FLOAT16),
        (UINT8, FLOAT16),
    ],
    ids=str,
)
def test_against_onnxruntime(source, target):
    ort = pytest.importorskip("onnxruntime")
    import onnx
    from onnx import TensorProto, helper

    types = {
        FLOAT32: TensorProto.FLOAT,
        FLOAT64: TensorProto.DOUBLE,
        FLOAT16: TensorProto.FLOAT16,
        BFLOAT16: TensorProto.BFLOAT16,
        E4M3: TensorProto.FLOAT8E4M3FN,
        E5M2: TensorProto.FLOAT8E5M2,
        INT32: TensorProto.INT32,
        INT8: TensorProto.INT8,
        UINT8: TensorProto.UINT8,
    }
    x = samples(source)
    given_values = helper.make_tensor_value_info("x", types[source], x.shape)
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, x.shape)
    nodes = [
        helper.make_node("Cast", ["x"], ["t"], to=types[target]),
        helper.make_node("Cast", ["t"], ["y"], to=TensorProto.FLOAT),
    ]
    if source is E4M3:  # NumPy feeds have no FP8: start from its values
        given_values = helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)
        nodes[0] = helper.make_node("Cast", ["s"], ["t"], to=types[target])
        nodes.insert(0, helper.make_node("Cast", ["x"], ["s"], to=types[E4M3]))
    graph = helper.make_graph(nodes, "g", [given_values], [result])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model)
    session = ort.InferenceSession(model.SerializeToString())
    feed = codec.decode(x, E4M3) if source is E4M3 else x
    (expected,) = session.run(None, {"x": feed})
    got = codec.cast(codec.cast(x, source, target), target, FLOAT32)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("fmt", [E4M3, E5M2, E4M3FNUZ, E5M2FNUZ, E2M1], ids=str)
def test_against_gfloat(fmt):
    gfloat = pytest.importorskip("gfloat")
    from gfloat import formats as peers

    info = {
        E4M3: peers.format_info_ocp_e4m3,
        E5M2: peers.format_info_ocp_e5m2,
        # IEEE P3109 without infinities has the codes of FNUZ.
        E4M3FNUZ: peers.format_info_p3109(8, 4, domain=gfloat.types.Domain.Finite),
        E5M2FNUZ: peers.format_info_p3109(8, 3, domain=gfloat.types.Domain.Finite),
        E2M1: peers.format_info_ocp_e2m1,
    }[fmt]
    modes = {
        Rounding.NEAREST_EVEN: gfloat.RoundMode.TiesToEven,
        Rounding.NEAREST_AWAY: gfloat.RoundMode.TiesToAway,
        Rounding.TOWARD_ZERO: gfloat.RoundMode.TowardZero,
        Rounding.UP: gfloat.RoundMode.TowardPositive,
        Rounding.DOWN: gfloat.RoundMode.TowardNegative,
    }
    rng = np.random.default_rng(1)
    x = np.ldexp(rng.uniform(-2, 2, 400), rng.integers(-20, 18, 400))
    for ours, theirs in modes.items():
        got = codec.encode(x, fmt, ours)
        expected = [gfloat.round_float(info, float(v), theirs, sat=True) for v in x]
        np.testing.assert_array_equal(codec.decode(got, fmt, np.float64), expected)


def test_against_ml_dtypes():
    x = (
        np.random.default_rng(2)
        .integers(0, 2**32, 200_000, np.uint64)
        .astype(np.uint32)
        .view(np.float32)
    )
    x = x[~np.isnan(x)]
    for fmt in (E4M3, E5M2, E4M3FNUZ, E5M2FNUZ):
        with np.errstate(over="ignore"):
            expected = x.astype(fmt.dtype)
        got = codec.encode(x, fmt, overflow=Overflow.SPECIAL)
        np.testing.assert_array_equal(got.view(np.uint8), expected.view(np.uint8))


@pytest.mark.parametrize(
    "fmt", [E4M3, E5M2, E4M3FNUZ, E5M2FNUZ, E2M1, INT4, UINT4, INT2, UINT2], ids=str
)
def test_values_of_all_codes_are_those_of_ml_dtypes(fmt):
    every = samples(fmt)
    expected = every.astype(np.float64)
    np.testing.assert_array_equal(codec.decode(every, fmt, np.float64), expected)
    if fmt.is_integer:
        back = codec.cast(expected, FLOAT64, fmt)
        np.testing.assert_array_equal(
            back.view(np.uint8), expected.astype(fmt.dtype).view(np.uint8)
        )


def test_mxint8_is_a_fixed_point_number():
    assert codec.cast(np.array([1.5, -2.0, 5.0], np.float32), FLOAT32, MXINT8).tolist() == [
        96,
        -128,
        127,
    ]
    assert codec.cast(np.array([96], np.int8), MXINT8, INT32).tolist() == [1]
