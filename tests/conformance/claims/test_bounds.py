"""Both bounds hold for honest accumulators and are tight; the model is the scalar model."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from accelsdk.formats import BFLOAT16, E2M1, E4M3, E5M2, FLOAT16, MXINT8
from accelsdk.numerics.accumulate import AccumulatorSpec, dot
from accelsdk_conformance.oracles import accumulator, bounds
from accelsdk_conformance.oracles.contraction import contract
from accelsdk_conformance.oracles.tensor import Tensor, code_dtype

FORMATS = (E4M3, E5M2, FLOAT16, BFLOAT16, E2M1, MXINT8)


def any_spec(rng):
    """Draws a declaration out of all that can be simulated."""

    def one(*values):
        return values[rng.integers(len(values))]

    align, promote = one(None, 7, 13, 20, 25, 30), one(None, None, 16, 32)
    narrow = one(False, False, True)
    return AccumulatorSpec(
        significand_bits=int(one(8, 11, 14, 20) if narrow else one(8, 11, 14, 24, 24, 30)),
        store_range="float16" if narrow else None,
        align_bits=align,
        align_rounding=one("rz", "rne", "rd", "ru"),
        align_exponent=one("operand_fields", "operand_fields", "normalized", "block_scale"),
        align_floor=int(one(-126, -132, -10)),
        store_rounding=one("rz", "rne", "rd", "ru"),
        sticky=one(None, True, False),
        width=int(one(0, 1, 2, 4, 5, 8, 16, 32)),
        order=one("contiguous", "even_odd", "interleaved"),
        inside=one("fused", "fused", "fused", "pairwise"),
        lanes=1 if align is None else int(one(1, 1, 2)),
        stage_bits=None if align is None else one(None, None, 20, 9),
        tree=one("sequential", "sequential", "pairwise", "split_k:3"),
        addend=one("in_chunk", "separate", "initial"),
        product_bits=one(None, None, 4, 6),
        promote_every=promote,
        promote_bits=None if promote is None else 11 if narrow else int(one(24, 16)),
        subnormals_out=one("keep", "flush"),
        overflow=one("inf", "saturate", "wide"),
        product_overflow=one("wide", "wide", "inf"),
    )


def values(fmt, shape, rng):
    """Draws finite codes, many of them zero, none so large that sums overflow."""
    drawn = rng.integers(0, 1 << fmt.bits, shape).astype(code_dtype(fmt))
    found = Tensor(fmt, drawn).values
    calm = np.isfinite(found) & (np.abs(found) < 2.0**40) & (rng.random(shape) < 0.8)
    return np.where(calm & ((np.abs(found) > 2.0**-60) | (fmt.bits <= 8)), found, 0.0)


def draw(rng):
    spec, fmt = any_spec(rng), FORMATS[rng.integers(len(FORMATS))]
    k = int(rng.integers(0, 50))
    a, b = values(fmt, (2, k), rng), values(fmt, (k, 2), rng)
    powers = [None, None]
    if rng.random() < 0.5:
        count = -(-k // 8)
        powers[0] = np.repeat(rng.integers(-20, 20, (2, count)), 8, axis=1)[:, :k]
        powers[1] = np.repeat(rng.integers(-20, 20, (count, 2)), 8, axis=0)[:k]
    c = rng.normal(size=(2, 2)).astype(np.float32).astype(float) if rng.random() < 0.5 else None
    if c is not None and spec.store_range is not None:
        c = c * 2.0 ** rng.integers(0, 18) * (rng.random((2, 2)) < 0.8)
    sums = contract(a, b, fmt, fmt, a_exponent=powers[0], b_exponent=powers[1], addend=c)
    return spec, fmt, a, b, c, powers, sums


def scalar(spec, fmt, a, b, c, powers, i, j):
    scales = None
    if powers[0] is not None:
        scales = np.ldexp(1.0, powers[0][i] + powers[1][:, j]).tolist()
    addend = 0.0 if c is None else float(c[i, j])
    more = {"scales": scales, "block_size": 8} if scales is not None else {}
    return dot(a[i].tolist(), b[:, j].tolist(), addend, spec, a_fmt=fmt, b_fmt=fmt, **more)


def exact(a, b, c, powers, i, j):
    total = Fraction(0 if c is None else float(c[i, j]))
    for k in range(a.shape[1]):
        power = 0 if powers[0] is None else int(powers[0][i, k] + powers[1][k, j])
        total += Fraction(float(a[i, k])) * Fraction(float(b[k, j])) * Fraction(2) ** power
    return total


@pytest.mark.parametrize("seed", range(6))
def test_the_model_and_both_bounds_hold_for_every_declaration(seed):
    rng = np.random.default_rng(seed)
    judged, infinite = 0, 0
    for _ in range(25):
        spec, fmt, a, b, c, powers, sums = draw(rng)
        block = 8 if powers[0] is not None else 0
        found = accumulator.simulate(sums.factors, spec, block)
        if found is None:
            continue
        inside = bounds.exact_domain(sums, spec)
        limits = bounds.declared_bound(sums, spec, block), bounds.order_free_bound(sums, spec)
        for i, j in np.ndindex(2, 2):
            want = scalar(spec, fmt, a, b, c, powers, i, j)
            assert found[i, j] == want or np.isnan([found[i, j], want]).all(), spec
            infinite += not np.isfinite(want)
            if not np.isfinite(want) or sums.magnitude[i, j] >= 2.0**spec.emax:
                continue
            error = abs(Fraction(want) - exact(a, b, c, powers, i, j))
            assert not (inside[i, j] and error), spec
            for limit in limits:
                assert np.isinf(limit[i, j]) or error <= Fraction(float(limit[i, j])), spec
            judged += 1
    assert judged > 30
    assert infinite > 0


def worst(change, rng_seed=3, tries=150):
    """Climbs to the largest error over a changed bound, for the weakest kinds of unit."""
    rng, best = np.random.default_rng(rng_seed), 0.0
    specs = [
        AccumulatorSpec(align_bits=13, significand_bits=14, store_rounding="rz", width=4,
                        order="contiguous", tree="sequential"),
        AccumulatorSpec(align_bits=25, width=4, order="contiguous", tree="sequential",
                        subnormals_out="flush"),
        AccumulatorSpec(significand_bits=11, width=1, order="contiguous", tree="sequential"),
    ]  # fmt: skip
    for spec in specs:
        a, b = values(E5M2, (1, 8), rng), values(E5M2, (8, 64), rng)
        powers = np.full((1, 8), -124 if spec.subnormals_out == "flush" else 0)
        top = 0.0
        for _ in range(tries):
            i, j = rng.integers(8), rng.integers(64)
            kept = b[i, j]
            b[i, rng.integers(64, size=16)] = values(E5M2, (16,), rng)
            sums = contract(a, b, E5M2, E5M2, a_exponent=powers)
            found = accumulator.simulate(sums.factors, spec)
            error = np.abs(found - sums.value.high)
            limit = change(bounds.in_order_bound(sums, spec), sums, spec)
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = np.where(error > 0, error / limit, 0.0).max()
            if ratio < top:
                b[i, j] = kept
            top = max(top, ratio)
        best = max(best, top)
    return best


def test_no_error_found_by_climbing_exceeds_the_bound():
    assert 0.5 < worst(lambda limit, sums, spec: limit) <= 1


def _without_stores(limit, sums, spec):
    return bounds.in_order_bound(sums, replace(spec, significand_bits=50, store_range="float32"))


MUTANTS = {
    "halved": lambda limit, sums, spec: limit / 2,
    "one_bit_more": lambda limit, sums, spec: bounds.in_order_bound(
        sums, replace(spec, significand_bits=spec.significand_bits + 1)
    ),
    "no_stores": _without_stores,
    "no_flush": lambda limit, sums, spec: bounds.in_order_bound(
        sums, replace(spec, subnormals_out="keep")
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_bound_that_is_too_tight_is_exceeded(name):
    assert worst(MUTANTS[name]) > 1
