"""The oracles against the scalar truth, the golden vectors and the scalar accumulator."""

from fractions import Fraction
from pathlib import Path

import mpmath
import numpy as np
import pytest

from accelsdk.formats import (
    BFLOAT16,
    E2M1,
    E2M3,
    E3M2,
    E4M3,
    E5M2,
    FLOAT16,
    FLOAT32,
    FLOAT64,
    INT4,
    INT8,
    MX_ELEMENTS,
    MXINT8,
    UINT8,
)
from accelsdk.numerics import rounding
from accelsdk.numerics.accumulate import AccumulatorSpec, dot
from accelsdk.numerics.rounding import Overflow, Rounding
from accelsdk_conformance.oracles import accumulator, conversion, functions, tensor
from accelsdk_conformance.oracles.contraction import contract
from accelsdk_conformance.oracles.doubled import total

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
NAMES = {"e4m3": E4M3, "e5m2": E5M2, "e3m2": E3M2, "e2m3": E2M3, "e2m1": E2M1, "int8": MXINT8}


@pytest.mark.parametrize("fmt", [FLOAT16, BFLOAT16], ids=str)
def test_every_16_bit_code_decodes_as_the_scalar_truth(fmt):
    codes = np.arange(1 << 16)
    expected = [rounding.decode(code, fmt) for code in range(1 << 16)]
    np.testing.assert_array_equal(tensor.decode(codes, fmt), expected)


@pytest.mark.parametrize("fmt", [E4M3, E5M2, E3M2, E2M3, E2M1, FLOAT16, MXINT8, INT8], ids=str)
@pytest.mark.parametrize("mode", [m for m in Rounding if m is not Rounding.TO_ODD])
@pytest.mark.parametrize("overflow", [Overflow.SATURATE, Overflow.SPECIAL])
def test_encode_agrees_with_the_scalar_truth(fmt, mode, overflow):
    rng = np.random.default_rng(1)
    x = rng.normal(size=300) * np.exp2(rng.integers(-20, 18, 300))
    if fmt.is_float and fmt.bits <= 8:
        table = tensor.magnitudes(fmt)
        middle = (table[1:] + table[:-1]) / 2
        near = [middle, table, np.nextafter(middle, 0), np.nextafter(middle, np.inf)]
        x = np.concatenate([x, *near, *(-part for part in near), [np.nan, np.inf, -np.inf]])
    expected = [rounding.encode(float(v), fmt, mode, overflow) for v in x]
    np.testing.assert_array_equal(tensor.encode(x, fmt, mode, overflow).codes, expected)


def test_low_half_of_a_double_double_decides_ties():
    x = np.array([1.0625, 1.0625, 1.0625])  # the midpoint of 1 and 1.125 in E4M3
    low = np.array([-(2.0**-60), 0.0, 2.0**-60])
    values = tensor.encode(x, E4M3, low=low).values
    np.testing.assert_array_equal(values, [1.0, 1.0, 1.125])
    wide = np.full(2, 1 + 2.0**-24)
    codes = tensor.encode(wide, FLOAT32, low=np.array([2.0**-80, -(2.0**-80)])).codes
    np.testing.assert_array_equal(codes, [0x3F800001, 0x3F800000])


@pytest.mark.parametrize("fmt", [E2M1, E3M2, INT4, UINT8, FLOAT16], ids=str)
@pytest.mark.parametrize("count", [0, 1, 3, 4, 17])
def test_packing_round_trips_in_the_documented_bit_order(fmt, count):
    codes = (np.arange(count) * 7 + 3) % (1 << fmt.bits)
    original = tensor.Tensor(fmt, codes.astype(tensor.code_dtype(fmt)))
    data = original.packed()
    assert len(data) == fmt.nbytes(count)
    stream = sum(int(code) << (i * fmt.bits) for i, code in enumerate(codes))
    assert int.from_bytes(data, "little") == stream
    np.testing.assert_array_equal(tensor.unpack(data, fmt, (count,)).codes, original.codes)


@pytest.mark.parametrize("name", NAMES)
def test_mx_blocks_equal_the_golden_vectors(name):
    golden, fmt = np.load(GOLDEN / f"mx_{name}.npz"), NAMES[name]
    x = golden["x_bits"].view(np.float32).astype(np.float64)
    exact = golden["status"] == 0
    scales = conversion.block_scales(x, fmt, "floor")
    np.testing.assert_array_equal(scales[exact], golden["scale"][exact])
    elements = conversion.block_elements(x[exact], scales[exact], fmt).codes
    np.testing.assert_array_equal(elements, golden["elems"][exact])


@pytest.mark.parametrize("name", [name for name in NAMES if name != "int8"])
def test_casts_equal_the_golden_vectors(name):
    golden, fmt = np.load(GOLDEN / f"cast_{name}.npz"), NAMES[name]
    found = conversion.cast(tensor.Tensor(FLOAT32, golden["x_bits"]), fmt, saturate=True)
    exact = golden["status_sat"] == 0
    np.testing.assert_array_equal(found.tensor.codes[exact], golden["code_sat"][exact])


@pytest.mark.parametrize("fmt", MX_ELEMENTS, ids=str)
@pytest.mark.parametrize("rule", ["floor", "ceil", "even", "rceil", "tosa"])
def test_scale_rules_follow_their_definitions(fmt, rule):
    rng = np.random.default_rng(2)
    amax = rng.uniform(1, 2, 200).astype(np.float32).astype(float) * np.exp2(
        rng.integers(-9, 9, 200)
    )
    top, half = Fraction(fmt.max), Fraction(2) ** (fmt.emax - fmt.mantissa_bits - 1)
    for value, exponent in zip(amax, conversion.scale_exponent(amax, fmt, rule), strict=True):
        x, unit = Fraction(value), Fraction(2) ** int(exponent)
        if rule == "rceil":
            assert x <= top * unit
            assert x > top * unit / 2
        if rule == "tosa":
            assert x <= (top + half) * unit
        if rule == "floor":
            assert unit * Fraction(2) ** fmt.emax <= x < unit * Fraction(2) ** (fmt.emax + 1)


def test_double_double_sums_are_exact_to_100_bits():
    rng = np.random.default_rng(3)
    terms = rng.normal(size=(513, 4)) * np.exp2(rng.integers(-40, 40, (513, 4)))
    found = total(terms, 0)
    for column in range(4):
        exact = sum(map(Fraction, terms[:, column]))
        got = Fraction(found.high[column]) + Fraction(found.low[column])
        size = sum(abs(Fraction(t)) for t in terms[:, column])
        assert abs(got - exact) <= size * Fraction(1, 1 << 100)


def test_special_values_of_a_product_follow_from_its_operands():
    a = np.array([[np.inf, 1.0], [np.nan, 0.0], [0.0, 0.0], [np.inf, -np.inf], [-np.inf, 2.0]])
    b = np.array([[1.0, 0.0], [1.0, np.inf]])
    sums = contract(a, b, FLOAT32, FLOAT32)
    with np.errstate(invalid="ignore"):
        plain = a @ b
    np.testing.assert_array_equal(sums.nan, np.isnan(plain))
    np.testing.assert_array_equal(sums.positive, plain == np.inf)
    np.testing.assert_array_equal(sums.negative, plain == -np.inf)


@pytest.mark.parametrize("spread", [1, 40, 400])
def test_exponents_of_products_are_those_of_each_product(spread):
    """As far apart as float64 holds their powers, and farther."""
    rng = np.random.default_rng(spread)
    a, b = (
        rng.integers(-3, 4, shape) * np.exp2(rng.integers(-spread, spread + 1, shape))
        for shape in ((7, 33), (33, 5))
    )
    a[0], a[1, 3] = 0, 0
    sums = contract(a, b, FLOAT64, FLOAT64)
    products = a[:, :, None] * b[None]
    live = products != 0
    leading = np.frexp(a)[1][:, :, None] + np.frexp(b)[1][None] - 2
    some = live.any(axis=1)
    field = np.where(live, leading, -10_000).max(axis=1)
    np.testing.assert_array_equal(sums.field[some], field[some])
    assert (sums.field[~some] < -10_000).all()
    for i, j in np.argwhere(some):
        exact = [Fraction(x) for x in products[i, live[i, :, j], j]]
        grain = int(sums.grain[i, j])
        assert all((x / Fraction(2) ** grain).denominator == 1 for x in exact)
        assert any((x / Fraction(2) ** (grain + 1)).denominator == 2 for x in exact)
    assert sums.unit <= sums.grain[some].min()
    np.testing.assert_array_equal(sums.terms, live.sum(axis=1))


SPECS = {
    "hopper_fp8": AccumulatorSpec(
        significand_bits=14,
        align_bits=13,
        store_rounding="rz",
        width=32,
        order="contiguous",
        tree="sequential",
    ),
    "even_odd": AccumulatorSpec(
        align_bits=24, align_rounding="rd", width=16, order="even_odd", tree="sequential"
    ),
    "directed": AccumulatorSpec(
        align_bits=25,
        align_rounding="ru",
        store_rounding="rd",
        width=8,
        order="contiguous",
        tree="sequential",
    ),
    "sequential": AccumulatorSpec(width=1, order="contiguous", tree="sequential"),
    "exact_all": AccumulatorSpec(width=0, order="contiguous", tree="sequential"),
    "pairwise": AccumulatorSpec(width=4, order="contiguous", tree="pairwise"),
    "rounded_pairs": AccumulatorSpec(
        width=4, order="contiguous", tree="sequential", inside="pairwise", subnormals_in="flush"
    ),
    "two_steps": AccumulatorSpec(
        align_bits=24, stage_bits=31, lanes=2, width=16, order="interleaved", tree="sequential"
    ),
}


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("k", [1, 7, 33, 64])
def test_simulation_equals_the_scalar_accumulator(name, k):
    spec, rng = SPECS[name], np.random.default_rng(k)
    codes = rng.integers(0, 0x7F, (2, 5 * k)).astype(np.uint8) | (
        rng.integers(0, 2, (2, 5 * k)) << 7
    )
    a = tensor.Tensor(E4M3, codes[0].astype(np.uint8).reshape(5, k))
    b = tensor.Tensor(E4M3, codes[1].astype(np.uint8).reshape(k, 5))
    sums = contract(a.values, b.values, E4M3, E4M3)
    found = accumulator.simulate(sums.factors, spec)
    assert found is not None
    for i, j in np.ndindex(5, 5):
        row, column = a.values[i].tolist(), b.values[:, j].tolist()
        assert found[i, j] == dot(row, column, 0.0, spec, a_fmt=E4M3, b_fmt=E4M3)


def test_pairs_may_overflow_both_ways():
    """Chunks are added as numbers of their own: +Inf from one, -Inf from the next."""
    spec = SPECS["rounded_pairs"]
    a = np.array([[2.0**67, 2.0**67, 0, 0, -(2.0**67), -(2.0**67), 0, 0]])
    found = accumulator.simulate(
        contract(a, np.full((8, 1), 2.0**60), BFLOAT16, BFLOAT16).factors, spec
    )
    want = dot(a[0].tolist(), [2.0**60] * 8, 0.0, spec, a_fmt=BFLOAT16, b_fmt=BFLOAT16)
    assert found is not None
    assert np.isnan(found[0, 0])
    assert np.isnan(want)


def _mish(x):
    return x * mpmath.tanh(mpmath.log1p(mpmath.exp(x)))


#: Functions in arbitrary precision, and the arguments on which they are compared.
TRUTH = {
    "Exp": (mpmath.exp, (-80, 80)),
    "Log": (mpmath.log, (1e-30, 1e30)),
    "Sin": (mpmath.sin, (-3e4, 3e4)),
    "Cos": (mpmath.cos, (-3e4, 3e4)),
    "Tan": (mpmath.tan, (-3e4, 3e4)),
    "Asin": (mpmath.asin, (-1, 1)),
    "Acos": (mpmath.acos, (-1, 1)),
    "Atan": (mpmath.atan, (-1e6, 1e6)),
    "Sinh": (mpmath.sinh, (-80, 80)),
    "Cosh": (mpmath.cosh, (-80, 80)),
    "Tanh": (mpmath.tanh, (-20, 20)),
    "Asinh": (mpmath.asinh, (-1e6, 1e6)),
    "Acosh": (mpmath.acosh, (1, 1e6)),
    "Atanh": (mpmath.atanh, (-1, 1)),
    "Sigmoid": (lambda x: 1 / (1 + mpmath.exp(-x)), (-80, 80)),
    "Erf": (mpmath.erf, (-6, 6)),
    "Gelu": (lambda x: x * mpmath.erfc(-x / mpmath.sqrt(2)) / 2, (-12, 12)),
    "Softplus": (lambda x: mpmath.log1p(mpmath.exp(x)), (-80, 80)),
    "Mish": (_mish, (-20, 20)),
    "Swish": (lambda x: x / (1 + mpmath.exp(-x)), (-80, 80)),
    "Elu": (lambda x: x if x > 0 else mpmath.expm1(x), (-20, 20)),
}


@pytest.mark.parametrize("op", TRUTH)
def test_function_references_are_far_finer_than_any_limit(op):
    """The references share NumPy with kernels; here is an implementation that does not."""
    truth, (low, high) = TRUTH[op]
    rng = np.random.default_rng(7)
    even = rng.uniform(low, high, 200)
    small = rng.uniform(-1, 1, 200) * np.exp2(rng.integers(-24, 1, 200))
    x = np.float32(np.concatenate([even, small])).astype(np.float64)
    x = x[(x > low) & (x < high)]
    got = functions.unary(op, {})(x)
    with mpmath.workprec(160):
        expected = [truth(mpmath.mpf(v)) for v in x]
        errors = [abs(mpmath.mpf(g) - e) / abs(e) for g, e in zip(got, expected, strict=True) if e]
    # 2**-24 is half a unit in the last place of float32.
    assert max(errors) < 2.0**-44
