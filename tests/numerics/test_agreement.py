"""The vectorised codec against the scalar oracle, on every code and every boundary."""

import math
from fractions import Fraction

import numpy as np
import pytest

from accelsdk.errors import InvalidArgument
from accelsdk.formats import (
    BFLOAT16,
    E2M1,
    E2M3,
    E3M2,
    E4M3,
    E4M3FNUZ,
    E5M2FNUZ,
    E8M0,
    FLOAT16,
    FLOAT32,
    FLOAT64,
    FORMATS,
    INT16,
    MXINT8,
)
from accelsdk.numerics import bitround, codec, rounding
from accelsdk.numerics.rounding import Overflow, Rounding

SMALL_FLOATS = [row for row in FORMATS if row.is_float and row.bits <= 8]
NARROW = [row for row in FORMATS if row.is_integer and row.bits <= 8] + [MXINT8]
ROUNDINGS = list(Rounding)
OVERFLOWS = list(Overflow)


def codes_of(array, fmt):
    return array.view(f"u{fmt.dtype.itemsize}") & np.uint64((1 << fmt.bits) - 1)


def boundaries(fmt, one_step):
    """Every finite value, every midpoint, the overflow edges, each with its two neighbours."""
    codes = np.arange(1 << fmt.bits, dtype=f"u{max(8, fmt.bits) // 8}")
    values = np.array([rounding.decode(int(code), fmt) for code in codes], np.float64)
    values = np.unique(values[np.isfinite(values)])
    step = values[-1] - values[-2]
    values = np.concatenate(
        [values, values[-1] + step * np.arange(1, 4), values[0] - step * np.arange(1, 4)]
    )
    values.sort()
    middle = (values[1:] + values[:-1]) / 2
    points = np.concatenate([values, middle]).astype(one_step)
    edges = np.array(
        [0.0, -0.0, math.inf, -math.inf, math.nan, 1e-30, -1e-30, 3e38, -3e38], one_step
    )
    up, down = np.nextafter(points, one_step(np.inf)), np.nextafter(points, one_step(-np.inf))
    return np.concatenate([points, up, down, edges])


@pytest.mark.parametrize("fmt", [*SMALL_FLOATS, *NARROW, INT16, FLOAT16, BFLOAT16], ids=str)
def test_every_code_decodes_alike_and_encodes_to_itself(fmt):
    codes = np.arange(1 << fmt.bits, dtype=f"u{max(8, fmt.bits) // 8}")
    raw = codes.tobytes() if fmt.bits >= 8 else bytes(codec.pack(codes, fmt))
    elements = codec.from_bytes(raw, fmt, codes.shape)
    expected = np.array([rounding.decode(int(code), fmt) for code in codes])
    got = codec.decode(elements, fmt, np.float64)
    np.testing.assert_array_equal(got, expected)
    for rule in ROUNDINGS:
        again = codec.encode(got, fmt, rule, Overflow.SPECIAL)
        number = ~np.isnan(expected)
        np.testing.assert_array_equal(codes_of(again, fmt)[number], codes[number])
        assert np.isnan(codec.decode(again, fmt, np.float64)[~number]).all()


@pytest.mark.parametrize("rule", ROUNDINGS)
@pytest.mark.parametrize("policy", OVERFLOWS)
@pytest.mark.parametrize("fmt", [*SMALL_FLOATS, *NARROW], ids=str)
def test_boundaries(fmt, rule, policy):
    for dtype in (np.float32, np.float64):
        x = boundaries(fmt, dtype)
        got = codes_of(codec.encode(x, fmt, rule, policy), fmt)
        expected = [rounding.encode(float(v), fmt, rule, policy) for v in x]
        np.testing.assert_array_equal(got, np.array(expected, np.uint64))


@pytest.mark.parametrize("rule", ROUNDINGS)
@pytest.mark.parametrize("fmt", [FLOAT16, BFLOAT16], ids=str)
def test_boundaries_of_sixteen_bits(fmt, rule):
    """All midpoints; the oracle's share is a prime stride, the rest checks against neighbours."""
    x = boundaries(fmt, np.float64)
    for policy in OVERFLOWS:
        got = codes_of(codec.encode(x, fmt, rule, policy), fmt)
        picked = np.arange(0, x.size, 331)
        picked = np.concatenate([picked, np.arange(x.size - 9, x.size)])
        expected = [rounding.encode(float(x[i]), fmt, rule, policy) for i in picked]
        np.testing.assert_array_equal(got[picked], np.array(expected, np.uint64))


@pytest.mark.parametrize("fmt", [FLOAT16, BFLOAT16], ids=str)
def test_every_midpoint_of_sixteen_bits(fmt):
    x = boundaries(fmt, np.float64)
    x = x[np.abs(x) <= fmt.max]
    down, up, zero, away, even, odd = (
        codec.decode(codec.encode(x, fmt, rule), fmt, np.float64)
        for rule in (
            Rounding.DOWN,
            Rounding.UP,
            Rounding.TOWARD_ZERO,
            Rounding.NEAREST_AWAY,
            Rounding.NEAREST_EVEN,
            Rounding.TO_ODD,
        )
    )
    assert (down <= x).all()
    assert (x <= up).all()
    inexact = down != up
    assert ((down == x) == ~inexact).all()
    steps = codes_of(codec.encode(up, fmt), fmt).astype(int) - codes_of(
        codec.encode(down, fmt), fmt
    ).astype(int)
    same_sign = inexact & (np.signbit(up) == np.signbit(down))
    assert (np.abs(steps[same_sign]) == 1).all()
    np.testing.assert_array_equal(zero, np.where(x > 0, down, up))
    below, above = x - down, up - x
    nearest = np.where(below < above, down, up)
    tie = inexact & (below == above)
    np.testing.assert_array_equal(even[~tie], nearest[~tie])
    np.testing.assert_array_equal(away[~tie], nearest[~tie])
    np.testing.assert_array_equal(away[tie], np.where(x > 0, up, down)[tie])
    assert (codes_of(codec.encode(even[tie], fmt), fmt) % 2 == 0).all()
    assert (codes_of(codec.encode(odd[inexact], fmt), fmt) % 2 == 1).all()


@pytest.mark.parametrize("fmt", SMALL_FLOATS, ids=str)
@pytest.mark.parametrize("policy", OVERFLOWS)
def test_table_holds_for_every_upper_half(fmt, policy):
    """Each of 65536 upper halves, with lower halves 0, 1, the middle and all ones."""
    upper = np.arange(1 << 16, dtype=np.uint32) << np.uint32(16)
    for rule in ROUNDINGS:
        for low in (0, 1, 0x7FFF, 0x8000, 0xFFFF):
            x = (upper | np.uint32(low)).view(np.float32)
            got = codes_of(codec.encode(x, fmt, rule, policy), fmt)
            general = bitround.encode_float(bitround.widen(x), fmt, rule, policy)
            np.testing.assert_array_equal(got, general)
            some = np.concatenate([np.arange(low % 2003, x.size, 2003), np.arange(0x7F7E, 0x7F84)])
            expected = [rounding.encode(float(x[i]), fmt, rule, policy) for i in some]
            np.testing.assert_array_equal(got[some], np.array(expected, np.uint64))


@pytest.mark.parametrize("fmt", [FLOAT32, FLOAT64], ids=str)
@pytest.mark.parametrize("policy", OVERFLOWS)
@pytest.mark.parametrize("rule", ROUNDINGS)
def test_wide_formats(fmt, policy, rule):
    rng = np.random.default_rng(3)
    x = np.ldexp(rng.uniform(-2, 2, 400), rng.integers(-160, 135, 400))
    edges = [
        0.0,
        -0.0,
        math.inf,
        -math.inf,
        math.nan,
        2.0**-150,
        3 * 2.0**-150,
        2.0**128 - 2.0**103,
        5e-324,
    ]
    x = np.concatenate([x, edges, np.negative(edges)])
    got = codes_of(codec.encode(x, fmt, rule, policy), fmt)
    expected = [rounding.encode(float(v), fmt, rule, policy) for v in x]
    number = ~np.isnan(x)
    np.testing.assert_array_equal(got[number], np.array(expected, np.uint64)[number])
    assert np.isnan(codec.encode(x, fmt, rule, policy)[~number]).all()


@pytest.mark.parametrize("rule", [r for r in ROUNDINGS if r is not Rounding.TO_ODD])
@pytest.mark.parametrize("policy", OVERFLOWS)
def test_scale_format(rule, policy):
    powers = np.ldexp(1.0, np.arange(-160, 128)).astype(np.float32)
    x = np.concatenate(
        [
            powers,
            powers * np.float32(1.25),
            powers[:-1] * np.float32(1.5),
            powers * np.float32(1.75),
        ]
    )
    x = np.concatenate(
        [
            x,
            np.nextafter(x, np.float32(0)),
            np.array([0, -0.0, -1, np.inf, -np.inf, np.nan], np.float32),
        ]
    )
    got = codec.encode(x, E8M0, rule, policy).view(np.uint8)
    assert got.tolist() == [rounding.encode(float(v), E8M0, rule, policy) for v in x]


def test_float64_is_rounded_once():
    x = np.array([1.0625 + 2.0**-40, -1.0625 - 2.0**-40, 464 + 2.0**-30])
    got = codec.encode(x, E4M3, overflow=Overflow.SPECIAL).view(np.uint8)
    assert got.tolist() == [0x39, 0xB9, 0x7F]
    assert codec.encode(np.array([1 + 2.0**-8 + 2.0**-40]), BFLOAT16)[0] == BFLOAT16.dtype.type(
        1 + 2.0**-7
    )


def test_fractions_are_rounded_as_the_rationals_they_are():
    assert rounding.encode(Fraction(17, 16) + Fraction(1, 10**30), E4M3) == 0x39
    assert rounding.round_fraction(Fraction(1, 3), E2M1) == Fraction(1, 2)
    assert rounding.round_integer(Fraction(-5, 2)) == -2
    with pytest.raises(InvalidArgument, match="no exact rational"):
        rounding.exact(math.nan)


@pytest.mark.parametrize("fmt", [E4M3FNUZ, E5M2FNUZ], ids=str)
def test_the_code_of_negative_zero_is_the_one_nan_of_fnuz(fmt):
    top = fmt.max
    x = np.array([-0.0, -1e-30, np.nan, -np.nan, 2 * top, -2 * top, np.inf, -np.inf], np.float32)
    saturated = codec.encode(x, fmt).view(np.uint8)
    assert saturated.tolist() == [0, 0, 0x80, 0x80, 0x7F, 0xFF, 0x7F, 0xFF]
    special = codec.encode(x, fmt, overflow=Overflow.SPECIAL).view(np.uint8)
    assert special.tolist() == [0, 0, *[0x80] * 6]
    mixed = codec.encode(x, fmt, overflow=Overflow.SATURATE_FINITE).view(np.uint8)
    assert mixed.tolist() == [0, 0, 0x80, 0x80, 0x7F, 0xFF, 0x80, 0x80]
    assert rounding.encode(-fmt.smallest_subnormal, fmt, Rounding.UP) == 0x81
    assert rounding.encode(-fmt.smallest_subnormal / 4, fmt, Rounding.UP) == 0
    assert [code for code in range(256) if math.isnan(rounding.decode(code, fmt))] == [0x80]


def test_nan_without_a_code_becomes_the_largest():
    for fmt, code in ((E2M1, 0x7), (E3M2, 0x1F), (E2M3, 0x1F)):
        assert codec.encode(np.array([np.nan], np.float32), fmt).view(np.uint8)[0] == code


def test_shapes_orders_and_sizes():
    for shape in ((), (0,), (3, 0, 2), (1,), (2, 3, 4), (codec.BLOCK + 5,), (2 * codec.BLOCK,)):
        x = np.linspace(-500, 500, math.prod(shape), dtype=np.float32).reshape(shape)
        got = codec.encode(x, E4M3)
        assert got.shape == shape
        np.testing.assert_array_equal(
            got.view(np.uint8), codec.encode(x.astype(np.float64), E4M3).view(np.uint8)
        )
        assert codec.decode(got, E4M3).shape == shape
    x = np.arange(24, dtype=np.float32).reshape(4, 6)
    np.testing.assert_array_equal(
        codec.encode(x.T, E4M3), codec.encode(np.ascontiguousarray(x.T), E4M3)
    )
    np.testing.assert_array_equal(
        codec.encode(x[:, ::2], E4M3), codec.encode(x[:, ::2].copy(), E4M3)
    )


def test_encode_refuses_integers():
    with pytest.raises(InvalidArgument, match="use cast"):
        codec.encode(np.arange(3), E4M3)
