"""The matrix engine, under each preset, gives the bits that real units gave."""

from dataclasses import replace

import numpy as np
import pytest

from accelsdk import formats
from accelsdk.errors import Unimplemented
from accelsdk.numerics import accumulate, codec
from accelsdk_sim_card.engines import accumulator
from accelsdk_sim_card.engines.accumulator import Operand
from accelsdk_sim_card.engines.presets import CARD, PRESETS
from tests.plugins.sim_card.measured import (
    HALVES,
    SETS,
    half_mismatches,
    mismatches,
    spec_of,
)


def test_all_32_sets_are_there():
    assert len(SETS) == 32


@pytest.mark.parametrize("name", SETS)
def test_a_preset_gives_the_measured_bits(name):
    assert mismatches(name, spec_of(name)) == 0


def test_16_sets_have_float16_results():
    assert len(HALVES) == 16


@pytest.mark.parametrize("name", HALVES)
def test_a_preset_gives_the_measured_float16_bits(name):
    assert half_mismatches(name, spec_of(name, "fp16")) == 0


@pytest.mark.parametrize("field", [{"order": "contiguous"}, {"width": 8}, {"addend": "in_chunk"}])
@pytest.mark.parametrize("name", ["H100_E5M2", "B200_E4M3"])
def test_float16_results_of_fp8_tell_how_k_is_dealt(name, field):
    assert half_mismatches(name, replace(spec_of(name, "fp16"), **field)) > 100


@pytest.mark.parametrize("name", ["Ada_E4M3", "V100_fp16", "H100_bf16"])
def test_the_measurements_tell_one_alignment_bit(name):
    spec = spec_of(name)
    assert mismatches(name, replace(spec, align_bits=spec.align_bits - 1)) > 50


MODELS = [
    *dict.fromkeys(
        spec
        for preset in PRESETS.values()
        for spec in (
            preset.narrow,
            preset.half,
            preset.brain,
            preset.tf32,
            preset.fp4,
            preset.half_to_half,
            preset.narrow_to_half,
        )
        if spec is not None and spec.align_exponent == "operand_fields"
    ),
    replace(PRESETS["mi300"].narrow, stage_bits=20, align_rounding="rne", width=5),
    replace(PRESETS["mi200"].half, width=5, significand_bits=12),
    replace(CARD, product_overflow="inf", store_range="float16", significand_bits=11),
    accumulate.EXACT,
    replace(accumulate.EXACT, width=7, store_rounding="rz"),
    replace(CARD, order="even_odd", width=4, align_rounding="rne", store_rounding="rd"),
    replace(CARD, promote_every=40, promote_bits=24, width=16, significand_bits=14),
    replace(CARD, product_bits=5, subnormals_out="flush", align_rounding="ru"),
    replace(CARD, overflow="saturate", store_rounding="ru", addend="initial"),
]


@pytest.mark.parametrize("spec", MODELS, ids=range(len(MODELS)))
@pytest.mark.parametrize("depth", [0, 1, 5, 33, 70])
@pytest.mark.parametrize(
    "fmt",
    [
        *(formats.E4M3, formats.E5M2, formats.E2M1, formats.MXINT8),
        *(formats.FLOAT16, formats.BFLOAT16),
    ],
    ids=str,
)
def test_the_engine_equals_the_scalar_model(spec, depth, fmt):
    rng = np.random.default_rng(depth)
    store = np.dtype(f"u{max(fmt.bits // 8, 1)}")

    def draw(*shape):
        codes = rng.integers(0, 1 << fmt.bits, shape).astype(store)
        values = codec.decode(codes.view(fmt.dtype), fmt, np.float64)
        return np.nan_to_num(values, nan=1.0, posinf=2.0, neginf=3.0)

    a, b = draw(3, depth), draw(depth, 4)
    if fmt is formats.BFLOAT16 and depth > 5:  # results that are not all infinite
        a, b = np.ldexp(np.frexp(a)[0], 40), np.ldexp(np.frexp(b)[0], -30)
    c = rng.standard_normal((3, 4)).astype(np.float32) if depth != 33 else None
    left, right = Operand.of(a, fmt, spec=spec), Operand.of(b, fmt, spec=spec)
    got = accumulator.contract(left, right, spec, c)
    for (i, j), value in np.ndenumerate(got):
        addend = 0.0 if c is None else float(c[i, j])
        want = accumulate.dot(a[i], b[:, j], addend, spec, a_fmt=fmt, b_fmt=fmt)
        with np.errstate(over="ignore"):
            np.testing.assert_equal(value, np.float32(want))


def test_block_scales_set_the_exponents():
    """Groups of 16 are exact; a block of zeros at 2**60 drops the one beside it."""
    spec, fmt = PRESETS["b200"].fp4, formats.E2M1
    rng = np.random.default_rng(4)
    values = np.array([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
    a = rng.choice(np.concatenate([values, -values]), (6, 128))
    b = rng.choice(values, (128, 3))
    powers = np.repeat(rng.integers(-30, 30, (6, 4)), 32, axis=1).astype(np.int16)
    a[0, :32], powers[0, :32] = 0.0, 60
    left = Operand.of(a, fmt, powers, spec)
    right = Operand.of(b, fmt, np.zeros(b.shape, np.int16), spec)
    got = accumulator.contract(left, right, spec)
    for (i, j), value in np.ndenumerate(got):
        scales = np.ldexp(1.0, powers[i]).tolist()
        want = accumulate.dot(a[i], b[:, j], 0.0, spec, a_fmt=fmt, b_fmt=fmt, scales=scales)
        assert value == np.float32(want)


def test_special_operands_follow_ieee():
    fmt = formats.E5M2
    a = np.array([[np.inf, 1.0], [np.nan, 1.0], [np.inf, -np.inf], [0.0, 1.0]])
    b = np.array([[1.0], [1.0]])
    got = accumulator.contract(Operand.of(a, fmt), Operand.of(b, fmt), CARD)[:, 0]
    np.testing.assert_array_equal(got, np.array([np.inf, np.nan, np.nan, 1.0], np.float32))


def test_an_accumulator_that_cannot_be_built_is_refused():
    with pytest.raises(Unimplemented, match="claim width"):
        accumulator.check(replace(CARD, tree="pairwise"))


@pytest.mark.parametrize("op", ["MatMul", "Conv"])
def test_a_preset_reaches_the_ops_and_the_datasheet(rigs, op):
    rig = rigs(preset="h100")
    spec = rig.backend.datasheet(rig.target).contraction(op, "float16", "float16", "float16")
    assert replace(spec, addend="in_chunk") == PRESETS["h100"].half
    rng = np.random.default_rng(0)
    a = rng.standard_normal((2, 40)).astype(np.float16)
    b = rng.standard_normal((40, 3)).astype(np.float16)
    if op == "MatMul":
        (got,) = rig.op(op, a, b)
    else:
        geometry = {"strides": (1,), "pads": (0, 0), "dilations": (1,), "group": 1}
        (got,) = rig.op(op, a[:, :, None], b.T[:, :, None].copy(), **geometry)
        got = got[:, :, 0]
    for (i, j), value in np.ndenumerate(got):
        fmt = formats.FLOAT16
        want = accumulate.dot(a[i], b[:, j], 0.0, spec, a_fmt=fmt, b_fmt=fmt)
        assert value == np.float16(want)
