"""Accumulator models against GPUs, hand-worked cases, and the bounds against the models."""

import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsdk.errors import InvalidArgument
from accelsdk.formats import BFLOAT16, E4M3, E5M2, FLOAT16, FLOAT32, MXINT8
from accelsdk.numerics import codec, compare
from accelsdk.numerics.accumulate import EXACT, AccumulatorSpec, dot
from accelsdk.numerics.rounding import exact

FOLDER = Path(__file__).parents[1] / "data" / "tensor_cores"
#: The scalar model takes milliseconds a row; the card's engine replays every row.
ROWS = 200
UNIT = replace(EXACT, align_bits=24, store_rounding="rz", width=8)

#: Alignment bits, width and floor as fitted in the source of the data.
GPUS = {
    "V100_fp16": (FLOAT16, replace(UNIT, width=4, align_bits=23, align_floor=-132)),
    "A100_bf16": (BFLOAT16, replace(UNIT, align_floor=-132)),
    "A100_tf32": (FLOAT32, replace(UNIT, width=4, align_floor=-132)),
    "H100_fp16": (FLOAT16, replace(UNIT, width=16, align_bits=25)),
    "Ada_E4M3": (E4M3, replace(UNIT, width=16, align_bits=13, significand_bits=14)),
    "H100_E4M3": (E4M3, replace(UNIT, width=32, align_bits=13, significand_bits=14)),
    "B200_E5M2": (E5M2, replace(UNIT, width=32, align_bits=25, addend="separate")),
}


def measured(name):
    fmt, spec = GPUS[name]
    with np.load(FOLDER / f"{name}.npz") as archive:
        data = {key: archive[key][:ROWS] for key in ("a", "b", "c", "d_fp32")}
    a, b = (codec.decode(data[key].view(fmt.dtype), fmt, np.float64) for key in "ab")
    c, out = data["c"].view("f4"), data["d_fp32"].view("f4")
    return fmt, spec, a, b, np.zeros_like(c) if name == "H100_E4M3" else c, out


def misses(name, spec):
    fmt, _, a, b, c, out = measured(name)
    got = [dot(*row, spec, a_fmt=fmt, b_fmt=fmt) for row in zip(a, b, map(float, c), strict=True)]
    return int(np.sum(~((got == out) | (np.isnan(got) & np.isnan(out)))))


@pytest.mark.parametrize("name", GPUS)
def test_model_reproduces_the_gpu(name):
    assert misses(name, GPUS[name][1]) == 0


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("V100_fp16", {"align_bits": 24}),
        ("A100_bf16", {"store_rounding": "rne"}),
        ("A100_bf16", {"width": 4}),
        ("H100_fp16", {"align_bits": 24}),
        ("H100_fp16", {"addend": "separate"}),
        ("H100_E4M3", {"significand_bits": 13}),
        ("H100_E4M3", {"width": 16}),
        ("B200_E5M2", {"addend": "in_chunk"}),
        ("Ada_E4M3", {"align_rounding": "rne"}),
        ("V100_fp16", {"align_exponent": "normalized"}),
    ],
)
def test_a_different_model_does_not(name, change):
    assert misses(name, replace(GPUS[name][1], **change)) > 0


@pytest.mark.parametrize("name", [n for n in GPUS if n != "H100_E4M3"])
def test_measured_errors_are_within_the_bounds(name):
    fmt, spec, a, b, c, out = measured(name)
    for x, y, addend, result in zip(a, b, map(float, c), out, strict=True):
        terms = (
            [exact(p) * exact(q) for p, q in zip(x, y, strict=True)]
            if np.isfinite([*x, *y]).all()
            else []
        )
        if not terms or not math.isfinite(addend) or not math.isfinite(result):
            continue
        error = float(abs(exact(float(result)) - sum(terms) - exact(addend)))
        assert error <= compare.bound_declared(x, y, addend, spec, a_fmt=fmt, b_fmt=fmt)
        total, n, field = size_of(x, y, addend, terms, fmt)
        assert error <= compare.bound_free(total, n, len(x), field, spec)


def size_of(x, y, addend, terms, fmt):
    total = float(sum(map(abs, terms), abs(exact(addend))))
    fields = [
        max(math.frexp(p)[1] - 1, fmt.emin) + max(math.frexp(q)[1] - 1, fmt.emin)
        for p, q in zip(x, y, strict=True)
        if p and q
    ]
    fields.append(math.frexp(addend)[1] - 1 if addend else -200)
    return total, sum(map(bool, terms)) + bool(addend), max(fields)


def test_hardest_cases():
    fp8 = {"a_fmt": E4M3, "b_fmt": E4M3}
    a, b = [448.0, 448.0, 15.0, 15.0], [32.0, 4.0, 16.0, 1.0]
    narrow = replace(UNIT, width=0, align_bits=13, significand_bits=14)
    assert dot(a, b, 0.0, narrow, **fp8) == 16383
    assert dot(a, b, 0.0, replace(narrow, significand_bits=13), **fp8) == 16382
    for mode, values in {
        "rne": (0, 2, 4),
        "rz": (0, 0, 2),
        "ru": (2, 2, 4),
        "rd": (0, 0, 2),
    }.items():
        spec = replace(EXACT, store_rounding=mode)
        for x, expected in zip((1.0, 1.5, 3.0), values, strict=True):
            assert dot([x], [1.0], 2.0**24, spec) - 2.0**24 == expected
    spec = replace(EXACT, store_rounding="rd")
    assert [dot([-x], [1.0], -(2.0**24), spec) + 2.0**24 for x in (1.0, 1.5, 3.0)] == [-2, -2, -4]
    kept = dot([4096.0, 1.0], [-4096.0, 1.0], 2.0**24, UNIT)
    assert kept == 1.0
    assert dot([4096.0, 1.0], [-4096.0, 0.5], 2.0**24, replace(UNIT, align_bits=24)) == 0.0
    assert dot([4096.0, 1.0], [-4096.0, 0.5], 2.0**24, replace(UNIT, align_bits=25)) == 0.5
    sticky = replace(UNIT, store_rounding="rne", sticky=True)
    tail = ([1.0, 2.0**-14], [1.0, 1.0], 2.0**24)
    assert dot(*tail, sticky) - 2.0**24 == 2
    assert dot(*tail, replace(sticky, sticky=False)) - 2.0**24 == 0


def test_special_values():
    inf, nan = math.inf, math.nan
    assert math.isnan(dot([nan, 1.0], [0.0, 1.0]))
    assert math.isnan(dot([0.0], [inf]))
    assert dot([inf, -1e30], [1.0, 1e30]) == inf
    assert math.isnan(dot([inf, inf], [1.0, -1.0]))
    assert dot([1.0], [1.0], -inf) == -inf
    big = 2.0**127
    one_by_one = replace(EXACT, width=1)
    assert dot([big, big, -big], [1.0, 1.0, 1.0], 0.0, one_by_one) == inf
    assert dot([big, big, -big], [1.0, 1.0, 1.0], 0.0, replace(one_by_one, overflow="wide")) == big
    assert dot([big, big], [1.0, 1.0], 0.0, replace(EXACT, overflow="saturate")) == FLOAT32.max
    assert dot([], [], 3.0) == 3.0


def test_orders_trees_and_promotion():
    one = replace(EXACT, width=1)
    a, ones = [2.0**24, 1.0, 1.0, 1.0], [1.0] * 4
    assert dot(a, ones, 0.0, one) == 2.0**24
    assert dot(a, ones, 0.0, replace(one, tree="pairwise")) == 2.0**24 + 2
    assert dot(a, ones, 0.0, replace(one, tree="split_k:2")) == 2.0**24 + 2
    assert dot(a, ones, 0.0, replace(EXACT, width=2, order="even_odd")) == 2.0**24 + 2
    assert dot(a, ones, 0.0, EXACT) == 2.0**24 + 4  # 3 rounds to even
    promoted = replace(one, significand_bits=4, promote_every=2, promote_bits=24)
    assert dot([16.0, 1.0, 16.0, 1.0], ones, 0.0, promoted) == 32
    assert dot([16.0, 2.0, 16.0, 2.0], ones, 0.0, promoted) == 36
    assert dot([16.0, 2.0, 16.0, 2.0], ones, 0.0, replace(one, significand_bits=4)) == 32


def test_two_steps_cut_downwards():
    """CDNA3: a sum of products meets C cut to 24 and 31 bits, both toward minus infinity."""
    unit = replace(EXACT, width=8, align_bits=24, stage_bits=31)
    ones = [1.0, 1.0]
    assert dot([-(2.0**-26), 0.0], ones, 1.0, unit) == 1.0 - 2.0**-26 + 2.0**-26  # RNE, 31 bits
    assert dot([1.0, 0.0], ones, -(2.0**-26), unit) == 1.0 - 2.0**-24  # C is cut to one step
    assert dot([1.0, -(2.0**-26)], ones, 0.0, unit) == 1.0  # among products: toward zero
    near = replace(unit, align_bits=4, stage_bits=4, significand_bits=24)
    assert dot([1.0, -(2.0**-5)], ones, 0.0, near) == 1.0
    assert dot([1.0, -(2.0**-5)], ones, 0.0, replace(near, lanes=2)) == 1.0 - 2.0**-4


def test_pairs_and_interleaved_chunks():
    pairs = replace(EXACT, width=4, inside="pairwise")
    ones = [1.0] * 8
    assert dot([2.0**24, 1.0, 1.0, 1.0], ones[:4], 0.0, pairs) == 2.0**24 + 2
    assert (
        dot([2.0**24, 1.0, 1.0, 1.0], ones[:4], 0.0, replace(pairs, inside="fused")) == 2.0**24 + 4
    )
    assert dot([2.0**-100], [2.0**-27], 0.0, replace(pairs, subnormals_out="flush")) == 0.0
    dealt = replace(EXACT, width=4, order="interleaved")
    assert dealt.deal(range(10)) == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9]]
    # 1.5 joins 2**24 in one chunk: rounded up; 0.75 twice, in two: each rounded off.
    assert dot([2.0**24, 0.0, 0.75, 0.0, 0.75, 0, 0, 0], ones, 0.0, dealt) == 2.0**24
    assert dot([2.0**24, 0.0, 0.0, 0.0, 0.75, 0.75, 0, 0], ones, 0.0, dealt) == 2.0**24 + 2


def test_ranges():
    half = replace(EXACT, significand_bits=11, store_range="float16", addend="separate")
    assert dot([2.0**15, 2.0**15], [1.0, 1.0], 0.0, half) == math.inf
    assert dot([2.0**-25, 2.0**-25], [1.0, 1.0], 0.0, half) == 2.0**-24
    assert dot([1.0], [1.0], 2.0**-11, half) == 1.0  # added in float16 too
    finer = replace(half, significand_bits=20)
    assert dot([1.0, 2.0**-19], [1.0, 1.0], 0.0, finer) == 1 + 2.0**-19  # zero adds nothing
    assert dot([1.0, 2.0**-19], [1.0, 1.0], 2.0**-12, finer) == 1.0
    assert dot([3.0], [5.0], 0.0, replace(half, significand_bits=64)) == 15.0
    wide = replace(EXACT, product_overflow="inf")
    huge = [2.0**64, 2.0**64]
    assert dot(huge, [2.0**64, -(2.0**63)], 0.0, wide) == math.inf
    assert dot(huge, [2.0**64, -(2.0**63)], 0.0, EXACT) == 2.0**127
    assert math.isnan(dot(huge, [2.0**64, -(2.0**64)], 0.0, wide))
    pairs = replace(half, width=4, inside="pairwise")
    top = [2.0**15] * 4
    assert dot(top, [2.0, 1.0, 1.0, 1.0], 0.0, pairs) == math.inf  # one infinity stays
    assert math.isnan(dot(top, [2.0, 0.0, -2.0, 0.0], 0.0, pairs))  # two of them meet
    assert dot(top, [2.0, 0.0, -2.0, 0.0], 0.0, replace(half, width=4)) == 0.0  # fused: none
    with pytest.raises(InvalidArgument, match="align_bits as well"):
        replace(EXACT, lanes=2)


def test_subnormals():
    tiny = 2.0**-9
    assert dot([tiny], [448.0], a_fmt=E4M3, b_fmt=E4M3) == 0.875
    assert dot([tiny], [448.0], 0.0, replace(EXACT, subnormals_in="flush"), a_fmt=E4M3) == 0.0
    spec = replace(EXACT, subnormals_out="flush")
    assert dot([2.0**-100], [2.0**-27], 0.0, spec) == 0.0
    assert dot([2.0**-100], [2.0**-26], 0.0, spec) == 2.0**-126
    # The field of a subnormal is that of the smallest normal: tails align to 2**-6 * 2**8.
    tails = ([tiny, *[1.75] * 31], [448.0, *[2.0**-12] * 31])
    unit = replace(EXACT, align_bits=13, store_rounding="rz")
    assert dot(*tails, 0.0, unit, a_fmt=E4M3) != dot(*tails, 0.0, unit)


def test_block_scales():
    spec = replace(EXACT, width=64, align_bits=25, align_exponent="block_scale")
    a, b = [0.0] * 32 + [1.5] * 32, [1.0] * 64
    assert dot(a, b, 0.0, spec, scales=[1.0] * 64) == 48
    assert dot(a, b, 0.0, spec, scales=[2.0**60] * 32 + [1.0] * 32) == 0.0


@pytest.mark.parametrize(
    "change",
    [
        {"store_rounding": "odd"},
        {"tree": "heap"},
        {"tree": "split_k:0"},
        {"width": -1},
        {"significand_bits": 1},
        {"promote_every": 4},
        {"order": "random"},
    ],
)
def test_a_wrong_spec_names_the_field(change):
    with pytest.raises(InvalidArgument, match=next(iter(change))):
        AccumulatorSpec(**change)


def test_unclaimed_specs_cannot_be_simulated():
    for spec in (
        AccumulatorSpec(),
        replace(EXACT, input_precision="tf32"),
        replace(EXACT, algorithm="fft"),
    ):
        with pytest.raises(InvalidArgument):
            dot([1.0], [1.0], 0.0, spec)


@st.composite
def units(draw):
    return replace(
        EXACT,
        significand_bits=draw(st.sampled_from([14, 24])),
        align_bits=draw(st.sampled_from([None, 13, 23, 25])),
        align_rounding=draw(st.sampled_from(["rz", "rne", "rd"])),
        store_rounding=draw(st.sampled_from(["rz", "rne", "ru"])),
        width=draw(st.sampled_from([1, 2, 4, 0])),
        order=draw(st.sampled_from(["contiguous", "even_odd", "interleaved"])),
        addend=draw(st.sampled_from(["in_chunk", "separate", "initial"])),
        subnormals_out=draw(st.sampled_from(["keep", "flush"])),
    )


def test_an_addend_that_is_stored_first_is_rounded_by_itself():
    """It ties to even below; what the products add to it no longer tips the balance."""
    spec = replace(EXACT, significand_bits=14, store_rounding="rne", width=1, addend="initial")
    tiny, addend = 2.0**-16, 2048.125
    error = abs(exact(dot([tiny], [tiny], addend, spec)) - exact(addend) - exact(tiny) ** 2)
    assert error == Fraction(1, 8) + Fraction(1, 2**32)
    assert error <= Fraction(float(compare.bound_free(addend + tiny**2, 2, 1, 11, spec)))


NUMBERS = st.sampled_from(
    [
        float(v)
        for v in codec.decode(np.arange(256, dtype=np.uint8), E5M2, np.float64)
        if math.isfinite(v)
    ]
)


@settings(max_examples=300)
@given(
    units(),
    st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=12),
    st.floats(-1e4, 1e4, width=32),
)
def test_no_model_exceeds_its_bounds(spec, pairs, c):
    x, y = (list(side) for side in zip(*pairs, strict=True))
    truth = sum((exact(p) * exact(q) for p, q in pairs), exact(c))
    error = abs(exact(dot(x, y, c, spec, a_fmt=E5M2, b_fmt=E5M2)) - truth)
    assert error <= Fraction(compare.bound_declared(x, y, c, spec, a_fmt=E5M2, b_fmt=E5M2))
    terms = [exact(p) * exact(q) for p, q in pairs]
    total, n, field = size_of(x, y, c, terms, E5M2)
    assert error <= Fraction(float(compare.bound_free(total, n, len(x), field, spec)))
    if spec.align_bits is None and spec.addend != "initial":
        assert error <= Fraction(float(compare.bound_any_order(total, n, spec)))


def test_a_fixed_point_operand_has_the_exponent_of_its_leading_digit():
    unit = replace(EXACT, align_bits=4, store_rounding="rz")
    x, y = [2.0**-6, 2.0**-6], [1.0, 2.0**-4]
    error = abs(dot(x, y, 0.0, unit, a_fmt=MXINT8, b_fmt=MXINT8) - 2.0**-6 * (1 + 2.0**-4))
    bound = compare.bound_declared(x, y, 0.0, unit, a_fmt=MXINT8, b_fmt=MXINT8)
    assert error <= bound < 2.0**-8
