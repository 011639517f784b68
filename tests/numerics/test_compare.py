import math

import numpy as np
import pytest

from accelsdk.errors import InvalidArgument
from accelsdk.formats import (
    BFLOAT16,
    E4M3,
    FLOAT16,
    FLOAT32,
    FLOAT64,
    FORMATS,
    INT8,
)
from accelsdk.numerics import codec, compare
from accelsdk.numerics.accumulate import AccumulatorSpec
from accelsdk.numerics.compare import FAR, Equality
from accelsdk.numerics.rounding import Overflow


@pytest.mark.parametrize("fmt", [row for row in FORMATS if row.is_float and row.bits <= 8], ids=str)
def test_distance_counts_the_values_between(fmt):
    codes = np.arange(1 << fmt.bits, dtype=np.uint8)
    values = codec.decode(codes, fmt, np.float64)
    order = sorted(set(values[~np.isnan(values)].tolist()))
    rank = {value: i for i, value in enumerate(order)}
    a, b = (part.ravel() for part in np.meshgrid(codes, codes))
    got = compare.ulp_distance(a.view(fmt.dtype), b.view(fmt.dtype), fmt)
    for x, y, steps in zip(values[a], values[b], got, strict=True):
        if math.isnan(x) or math.isnan(y):
            assert steps == (0 if math.isnan(x) and math.isnan(y) else FAR)
        else:
            assert steps == abs(rank[x] - rank[y])


def test_distance_in_wide_formats():
    one = np.float64(1)
    assert compare.ulp_distance(one, np.nextafter(one, 2), FLOAT64) == 1
    assert compare.ulp_distance(np.float64(-5e-324), np.float64(5e-324), FLOAT64) == 2
    assert compare.ulp_distance(np.float32(-np.inf), np.float32(np.inf), FLOAT32) == 2 * 0x7F800000
    with pytest.raises(InvalidArgument):
        compare.ulp_distance(np.int8(1), np.int8(2), INT8)


@pytest.mark.parametrize("fmt", [FLOAT16, BFLOAT16, E4M3, FLOAT32], ids=str)
def test_ulp_is_the_gap_above(fmt):
    x = np.array([fmt.smallest_subnormal, fmt.smallest_normal, 1.0, 1.5, 2.0, 0.0, -1.0])
    up = codec.encode(x, fmt).view(f"u{fmt.dtype.itemsize}") + 1
    gap = np.abs(codec.decode(up.view(fmt.dtype), fmt, np.float64) - x)
    np.testing.assert_array_equal(compare.ulp(x, fmt), gap)
    assert np.isnan(compare.ulp([np.inf, np.nan], fmt)).all()


def test_equality_modes():
    a, b = np.array([0.0, np.nan, 1.0], np.float32), np.array([-0.0, -np.nan, 1.0], np.float32)
    assert compare.equal(a, b, FLOAT32).tolist() == [True, True, True]
    assert compare.equal(a, b, FLOAT32, Equality.BITS).tolist() == [False, False, True]
    with pytest.raises(InvalidArgument):
        compare.equal(a.astype(np.float64), b, FLOAT32, Equality.BITS)


def test_within_accepts_exactly_the_roundings_of_the_interval():
    fmt = FLOAT16
    one = np.array([1.0], fmt.dtype)
    half_step = 2.0**-11
    assert compare.within(one, [1.0 + half_step], [0.0], fmt)[0]  # a tie, to even
    assert not compare.within(one, [1.0 + 1.001 * half_step], [0.0], fmt)[0]
    assert compare.within(one, [1.0 + 1.5 * half_step], [0.51 * half_step], fmt)[0]
    assert not compare.within(one, [1.0 + 1.5 * half_step], [0.49 * half_step], fmt)[0]
    nan = np.array([np.nan], fmt.dtype)
    assert compare.within(nan, [np.nan], [1.0], fmt)[0]
    assert not compare.within(nan, [1.0], [1.0], fmt)[0]
    top = np.array([np.inf], fmt.dtype)
    assert compare.within(top, [65519.0], [2.0], fmt)[0]
    assert not compare.within(top, [65519.0], [0.5], fmt)[0]


def test_within_where_overflow_is_nan():
    nan, top = np.array([0x7F, 0x7E], np.uint8).view(E4M3.dtype)[:, None]
    assert compare.within(nan, [463.0], [2.0], E4M3, Overflow.SPECIAL)[0]
    assert compare.within(top, [463.0], [2.0], E4M3, Overflow.SPECIAL)[0]
    assert not compare.within(nan, [400.0], [2.0], E4M3, Overflow.SPECIAL)[0]


def test_any_order_bound():
    directed = compare.bound_any_order(1.0, 4)
    assert directed == pytest.approx(4 * 2.0**-23, rel=1e-5)
    nearest = compare.bound_any_order(1.0, 4, AccumulatorSpec())
    assert nearest == pytest.approx(4 * 2.0**-24, rel=1e-5)
    flushed = compare.bound_any_order(0.0, 3, AccumulatorSpec(subnormals_out="flush"))
    assert flushed == pytest.approx(3 * 2.0**-126)
    assert compare.bound_any_order(1.0, 2**25) == np.inf
    cut = compare.bound_any_order(1.0, 1, AccumulatorSpec(input_precision="tf32"))
    assert cut == pytest.approx(2.0**-9, rel=1e-3)
    with pytest.raises(InvalidArgument, match="winograd"):
        compare.bound_any_order(1.0, 1, AccumulatorSpec(algorithm="winograd_f4"))


def test_bounds_vectorise():
    total, n = np.array([1.0, 2.0, 0.0]), np.array([3, 5, 0])
    spec = AccumulatorSpec(width=8, align_bits=13)
    got = compare.bound_free(total, n, 16, np.array([0, 1, 0]), spec)
    for i in range(3):
        assert got[i] == compare.bound_free(total[i], n[i], 16, [0, 1, 0][i], spec)
    assert got[2] == 0


def test_elementwise_bound_has_a_floor():
    assert compare.bound_ulp(1.0, FLOAT32, 3) == 3 * 2.0**-23
    assert compare.bound_ulp(1e-20, FLOAT32, 4, floor=1.0) == 2.0**-23
