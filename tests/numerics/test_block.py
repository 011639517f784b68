"""MX blocks: every axis, tails, rules at their thresholds, clamps, special values."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsdk.errors import InvalidArgument
from accelsdk.formats import BFLOAT16, E2M1, E4M3, E5M2, E8M0, FLOAT16, FLOAT32, MX_ELEMENTS, MXINT8
from accelsdk.numerics import block, codec, rounding
from accelsdk.numerics.block import InfRule, ScaleRule
from accelsdk.numerics.rounding import Rounding, exact, floor_log2, power_of_two

RULES = list(ScaleRule)


def scale_of(amax, fmt, rule):
    """The rule in exact arithmetic (FLOOR, CEIL, EVEN, TOSA), from its text."""
    if amax == 0:
        return 0
    value, top = exact(float(amax)), exact(fmt.max)
    floor = floor_log2(value)
    match rule:
        case ScaleRule.FLOOR:
            power = floor - fmt.emax
        case ScaleRule.CEIL:
            power = floor + (value != power_of_two(floor)) - fmt.emax
        case ScaleRule.EVEN:
            unit = power_of_two(floor - fmt.mantissa_bits)
            rounded = rounding.round_integer(value / unit, Rounding.NEAREST_AWAY) * unit
            power = floor_log2(rounded) - fmt.emax
        case ScaleRule.TOSA:
            limit = top + power_of_two(fmt.emax - fmt.mantissa_bits - 1)
            ratio = value / limit
            power = floor_log2(ratio)
            power += (ratio != power_of_two(power)) if fmt is E4M3 else 1
    return min(max(power + 127, 0), 254)


def thresholds(fmt):
    rng = np.random.default_rng(0)
    mantissas = [
        1.0,
        1.5,
        1.75,
        1.8125,
        1.875,
        1.9375,
        1.984375,
        1.9921875,
        fmt.max / 2.0**fmt.emax,
        2 - 2.0**-23,
    ]
    mantissas += list(rng.uniform(1, 2, 20))
    powers = [-149, -140, -128, -127, -126, -120, -100, -3, -1, 0, 1, 3, 8, 10, 65, 126, 127]
    points = np.array([np.ldexp(m, p) for m in mantissas for p in powers]).astype(np.float32)
    points = points[points < np.finfo(np.float32).max]
    points = np.concatenate(
        [points, np.nextafter(points, np.float32(0)), np.nextafter(points, np.float32(np.inf))]
    )
    return points


@pytest.mark.parametrize("fmt", MX_ELEMENTS, ids=str)
@pytest.mark.parametrize("rule", [ScaleRule.FLOOR, ScaleRule.CEIL, ScaleRule.EVEN, ScaleRule.TOSA])
def test_scale_rules_in_exact_arithmetic(fmt, rule):
    amax = thresholds(fmt)
    got = block.scale_codes(amax, fmt, rule)
    assert got.tolist() == [scale_of(v, fmt, rule) for v in amax]


@pytest.mark.parametrize("fmt", MX_ELEMENTS, ids=str)
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    "mode", [Rounding.NEAREST_EVEN, Rounding.TOWARD_ZERO, Rounding.UP, Rounding.TO_ODD]
)
def test_elements_are_the_rounded_quotients(fmt, rule, mode):
    rng = np.random.default_rng(1)
    x = np.ldexp(rng.uniform(-2, 2, (12, 16)), rng.integers(-6, 6, (12, 16))).astype(np.float32)
    x *= np.ldexp(1.0, np.array([-140, -127, -120, -60, -10, 0, 3, 40, 90, 110, 120, 121]))[
        :, None
    ].astype(np.float32)
    x[5] = 0
    x[6, :4] = [1e-45, -1e-45, 0.0, -0.0]
    elements, scales = block.quantize_block(x, fmt, block_size=16, rule=rule, rounding=mode)
    codes = scales.view(np.uint8)[:, 0]
    np.testing.assert_array_equal(codes, block.scale_codes(np.abs(x).max(axis=1), fmt, rule))
    for row, code, got in zip(x, codes, elements.view(np.uint8), strict=True):
        for value, element in zip(row, got, strict=True):
            quotient = Fraction(float(value)) / power_of_two(int(code) - 127)
            expected = rounding.encode(quotient if value else float(value), fmt, mode)
            assert element == expected


@pytest.mark.parametrize("rule", RULES)
def test_scales_of_finite_blocks_are_finite(rule):
    top = np.full((1, 32), np.finfo(np.float32).max)
    for fmt in MX_ELEMENTS:
        elements, scales = block.quantize_block(top, fmt, rule=rule)
        assert scales.view(np.uint8)[0, 0] <= block.TOP_SCALE
        assert np.isfinite(codec.decode(elements, fmt)).all()
    elements, scales = block.quantize_block(top, MXINT8, rule=ScaleRule.CEIL)
    assert scales.view(np.uint8)[0, 0] == block.TOP_SCALE
    assert (elements == 127).all()


@given(st.integers(0, 2**31), st.lists(st.integers(0, 9), min_size=1, max_size=4), st.data())
def test_any_axis_and_tail(seed, shape, data):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    size = data.draw(st.integers(1, 12))
    fmt = data.draw(st.sampled_from(MX_ELEMENTS))
    x = (np.random.default_rng(seed).standard_normal(shape) * 10).astype(np.float32)
    elements, scales = block.quantize_block(x, fmt, axis, size)
    assert elements.shape == x.shape
    lines = np.moveaxis(x, axis, -1)
    blocks = -(-lines.shape[-1] // size)
    assert np.moveaxis(scales, axis, -1).shape == (*lines.shape[:-1], blocks)
    got, got_scales = np.moveaxis(elements, axis, -1), np.moveaxis(scales, axis, -1)
    for k in range(blocks):
        part = np.ascontiguousarray(lines[..., k * size : (k + 1) * size])
        one, one_scale = block.quantize_block(part, fmt, -1, size)
        np.testing.assert_array_equal(
            got[..., k * size : (k + 1) * size].astype(np.float32), one.astype(np.float32)
        )
        np.testing.assert_array_equal(
            got_scales[..., k : k + 1].astype(np.float32), one_scale.astype(np.float32)
        )
    values = block.dequantize_block(elements, fmt, scales, axis, size)
    factors = np.repeat(codec.decode(scales, E8M0), size, axis).take(range(x.shape[axis]), axis)
    np.testing.assert_array_equal(values, codec.decode(elements, fmt) * factors)


@pytest.mark.parametrize("fmt", MX_ELEMENTS, ids=str)
def test_special_blocks(fmt):
    x = np.ones((4, 32), np.float32)
    x[0, 3], x[1, 5], x[2, 7] = np.nan, np.inf, -np.inf
    _, scales = block.quantize_block(x, fmt)
    assert scales.view(np.uint8)[:3, 0].tolist() == [255, 255, 255]
    elements, scales = block.quantize_block(x, fmt, inf=InfRule.SATURATE)
    assert scales.view(np.uint8)[:3, 0].tolist() == [255, *[min(255 - fmt.emax, 254)] * 2]
    decoded = codec.decode(elements, fmt)
    assert decoded[1, 5] == fmt.max
    assert decoded[2, 7] == fmt.min
    assert np.isfinite(decoded[1:]).all()
    assert np.isnan(block.dequantize_block(elements, fmt, scales)[0]).all()


def test_known_cases():
    def one(value, fmt=E4M3, **options):
        elements, scales = block.quantize_block(np.array([value], np.float32), fmt, **options)
        return int(scales.view(np.uint8)[0]), int(elements.view(np.uint8)[0])

    assert one(np.nextafter(np.float32(1024), np.float32(0))) == (128, 0x7E)
    assert one(2.0**-120) == (0, 0x70)
    assert one(-0.0) == (0, 0x80)
    assert one(-67001944.0, MXINT8) == (152, 0x80)
    assert one(-67001944.0, MXINT8, int8_symmetric=True) == (152, 0x81)
    for ratio, code in ((0.25, 0x0), (1.25, 0x2), (-2.5, 0xC), (-5.0, 0xE)):
        x = np.array([ratio, 4.0], np.float32)
        assert block.quantize_block(x, E2M1)[0].view(np.uint8)[0] == code
    amax = np.array([0.00042724612285383046], np.float32)
    assert block.scale_codes(amax, E4M3, ScaleRule.RCEIL)[0] == 108


def test_inputs_and_outputs_of_sixteen_bits():
    x = np.linspace(-4, 4, 64, dtype=np.float32)
    for fmt in (FLOAT16, BFLOAT16):
        narrow = codec.encode(x, fmt)
        got = block.quantize_block(narrow, E5M2)
        wide = block.quantize_block(narrow.astype(np.float32), E5M2)
        assert got[0].tobytes() == wide[0].tobytes()
        back = block.dequantize_block(got[0], E5M2, got[1], out=fmt)
        assert back.dtype == fmt.dtype
        np.testing.assert_array_equal(
            back.astype(np.float32), block.dequantize_block(got[0], E5M2, got[1])
        )


def test_large_tensors_are_cut_into_blocks_alike():
    x = np.random.default_rng(0).standard_normal((3, codec.BLOCK + 32)).astype(np.float32)
    elements, scales = block.quantize_block(x, E4M3)
    again, again_scales = block.quantize_block(x.T, E4M3, axis=0)
    assert elements.tobytes() == np.ascontiguousarray(again.T).tobytes()
    assert scales.tobytes() == np.ascontiguousarray(again_scales.T).tobytes()


def test_wrong_arguments():
    x = np.zeros((2, 32), np.float32)
    for options, word in (({"axis": 2}, "axis"), ({"block_size": 0}, "block size")):
        with pytest.raises(InvalidArgument, match=word):
            block.quantize_block(x, E4M3, **options)
    with pytest.raises(InvalidArgument, match="MX element"):
        block.quantize_block(x, FLOAT32)
    with pytest.raises(InvalidArgument, match="float64"):
        block.quantize_block(x.astype(np.float64), E4M3)
    elements, scales = block.quantize_block(x, E4M3)
    with pytest.raises(InvalidArgument, match="shape"):
        block.dequantize_block(elements, E4M3, scales[:1])
