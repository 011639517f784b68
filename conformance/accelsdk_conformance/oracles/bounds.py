"""What a declared accumulator may miss the exact sum by, in its own order and in any.

The derivation follows the error analysis of fused multi-term adders by Fasi, Higham, Mikaitis
and Pranesh, PeerJ CS 7:e330 (2021): a chunk of n terms aligned to exponent E with F fraction
bits loses at most ``alpha n 2**(E-F)``, and a store of p bits at exponent e at most
``rho 2**(e-p+1)``, where alpha and rho are 1/2 to nearest and 1 otherwise. Exponents are those
that the exact partial sums can reach with the error so far. docs/datasheet.md states both bounds.
"""

from __future__ import annotations

import math

import numpy as np

from accelsdk.numerics.accumulate import AccumulatorSpec
from accelsdk_conformance.oracles.accumulator import Lane, chunks, orders
from accelsdk_conformance.oracles.contraction import (
    F64,
    NOTHING,
    Accumulator,
    Contraction,
    Factors,
    Mask,
    any_order_bound,
    floor_log2,
    oracle_error,
)

_STEPS = 300  # chunks that are followed one by one; beyond, the order-free bound

#: Relative error of a product, and partial products, of operands that are cut or split.
SPLITS = {
    "native": (0.0, 1),
    "tf32": (2.0**-9, 1),
    "bf16x9": (0.0, 9),
    "bf16x6": (2.0**-22, 6),
    "bf16x3": (3 * 2.0**-16, 3),
    "bf16": (2.0**-7, 1),
}
_INPUT_BITS = {"native": 53, "tf32": 11}  # bfloat16 pieces: 8

#: Growth of the error by a fast algorithm: the product of the norms of its transforms, squared
#: for two dimensions (Barabasz et al., ACM TOMS 46(4), 2020); normwise, never elementwise.
_GROWTH = {"winograd_f2": 81.0, "winograd_f4": 36100.0, "fft": 64.0}


def declared_bound(sums: Contraction, spec: AccumulatorSpec, block: int = 0) -> F64:
    """T2: the bound of the declared order, or of any order where none is declared.

    Args:
        sums: The exact sums.
        spec: The claim.
        block: Products that share a scale, or 0.
    """
    if spec.algorithm != "direct":
        return _normwise(sums, spec)
    native = spec.input_precision == "native"
    plain = spec.tree == "sequential" and spec.promote_every is None and spec.inside == "fused"
    if orders(spec) and plain and native and len(chunks(sums.factors.depth, spec)) <= _STEPS:
        return in_order_bound(sums, spec, block)
    return order_free_bound(sums, spec)


def in_order_bound(sums: Contraction, spec: AccumulatorSpec, block: int = 0) -> F64:
    """T2 in order: follows the running sum chunk by chunk.

    Args:
        sums: The exact sums.
        spec: A claim with width, order and a sequential tree.
        block: Products that share a scale, or 0.
    """
    factors = sums.factors
    alpha, rho, lanes = _alpha(spec), _rho(spec), _cuts(spec)
    start = factors.addend if spec.addend != "separate" else None
    exact = np.zeros(sums.value.high.shape) if start is None else start
    size, error = np.abs(exact), np.zeros(exact.shape)
    if spec.addend == "initial" and start is not None:
        error = _stored(exact, error, spec)
    for lane in chunks(factors.depth, spec):
        values = factors.a.T[lane, :, None] * factors.b[lane, None, :]
        live, field = _aligned(factors, lane, values, spec, block)
        reach = np.abs(exact) + error
        own = np.where(reach > 0, np.maximum(floor_log2(reach), spec.emin), NOTHING)
        top = np.maximum(np.maximum(field, own), spec.align_floor)
        if spec.product_bits is not None:
            leading = np.ldexp(1.0, floor_log2(values).clip(-1070)) * (values != 0)
            error = error + rho * leading.sum(axis=0) * 2.0 ** (1 - spec.product_bits)
        if spec.align_bits is not None:
            error = error + (alpha * (live + (reach > 0)) + lanes) * np.ldexp(
                1.0, top - spec.align_bits
            )
        if spec.stage_bits is not None:
            error = error + np.ldexp(1.0, top - spec.stage_bits)
        size = size + np.abs(values).sum(axis=0)
        exact = exact + values.sum(axis=0)
        # The prefix itself is only as exact as float64; its own error is part of what it reaches.
        error = _stored(exact, error + size * (factors.depth + 2) * 2.0**-53, spec)
    if spec.addend == "separate" and factors.addend is not None:
        reach = np.abs(exact + factors.addend) + error
        exponent = np.maximum(floor_log2(reach), spec.emin)
        error = error + 0.5 * np.ldexp(1.0, exponent - spec.range_format.precision + 1)
    return np.where(sums.terms == 0, 0.0, error)


def _aligned(
    factors: Factors, lane: Lane, values: F64, spec: AccumulatorSpec, block: int
) -> tuple[F64, F64]:
    """Returns how many terms of a chunk are aligned, and the largest exponent among them."""
    match spec.align_exponent:
        case "block_scale":
            scales = factors.a_scale.T[lane, :, None] + factors.b_scale[lane, None, :]
            blocks = len(np.unique(np.arange(factors.depth)[lane] // min(block or 32, 16)))
            live = np.full(values.shape[1:], float(blocks))
            return live, scales.max(axis=0).astype(np.float64).astype(np.int64)
        case "normalized":
            return (values != 0).sum(axis=0), floor_log2(values).max(axis=0) + (
                spec.product_bits is not None
            )
        case _:
            fields = factors.a_field.T[lane, :, None] + factors.b_field[lane, None, :]
            return (values != 0).sum(axis=0), fields.max(axis=0).astype(np.int64)


def _stored(exact: F64, error: F64, spec: AccumulatorSpec) -> F64:
    """The error after a sum near ``exact`` has been stored."""
    reach = np.abs(exact) + error
    exponent = np.maximum(floor_log2(reach), spec.emin)
    rounded = np.where(
        reach > 0, _rho(spec) * np.ldexp(1.0, exponent - spec.significand_bits + 1), 0.0
    )
    if spec.subnormals_out == "flush":
        tiny = (reach > 0) & (np.abs(exact) - error < 2.0**spec.emin)
        rounded = np.where(tiny, np.maximum(rounded, 2.0**spec.emin), rounded)
    return error + rounded


def order_free_bound(sums: Contraction, spec: AccumulatorSpec) -> F64:
    """T2 without an order: ``alpha (n+m) 2**(Ea-F) + rho m 2**(E-p+1) + pi``.

    n counts the nonzero terms, m the stores; E is the largest exponent that a partial sum can
    have, Ea the largest that anything is aligned to; pi is the rounding of the products.
    """
    p, k = spec.significand_bits, sums.factors.depth
    split, pieces = SPLITS[spec.input_precision]
    terms = sums.terms.astype(np.float64) * pieces
    steps = _steps(terms, k, spec)
    bits = spec.product_bits
    if bits is None and sums.factors.bits > p:
        bits = p
    pi = np.zeros(terms.shape)
    if bits is not None:
        pi = _rho(spec) * sums.low_bits * 2.0 ** (1 - bits)
    field = sums.field
    if spec.align_exponent == "block_scale":
        scales = sums.factors.a_scale.max(initial=0), sums.factors.b_scale.max(initial=0)
        field = np.full(field.shape, int(scales[0]) + int(scales[1]))
    p = min(p, spec.promote_bits or p)
    if spec.addend == "separate" and sums.factors.addend is not None:
        p = min(p, spec.range_format.precision)
    bound = np.zeros(terms.shape)
    for _ in range(12):
        top = np.maximum(floor_log2(sums.magnitude + bound), spec.emin)
        align = np.maximum(np.maximum(top, field), spec.align_floor)
        found = _rho(spec) * steps * np.ldexp(1.0, top - p + 1) + pi
        if spec.align_bits is not None:
            lost = _alpha(spec) * (terms + steps) + _cuts(spec) * steps
            found += lost * np.ldexp(1.0, align - spec.align_bits)
        if spec.stage_bits is not None:
            found += steps * np.ldexp(1.0, align - spec.stage_bits)
        if spec.subnormals_out == "flush":
            # Added, not the larger of the two: every store may flush what others have rounded.
            found += steps * 2.0**spec.emin
        found += split * sums.magnitude
        if np.array_equal(found, bound):
            break
        bound = found
    else:
        bound = np.where(found > bound, np.inf, found)  # p is too small for any bound
    return np.where(sums.terms == 0, 0.0, bound + oracle_error(sums, k))


def stores(sums: Contraction, spec: AccumulatorSpec) -> float:
    """Returns how often a running sum of any output may be stored, products not counted."""
    steps = _steps(sums.terms.astype(np.float64), sums.factors.depth, spec)
    return float(steps.max(initial=1.0))


def _steps(terms: F64, k: int, spec: AccumulatorSpec) -> F64:
    """How often a running sum may be stored."""
    if spec.inside == "pairwise":  # every product is stored, every node of the tree, every chunk
        return 3 * np.maximum(terms, 1)
    steps = terms - 1
    if spec.width == 0:
        steps = np.minimum(steps, 1)
    elif spec.width is not None and spec.width > 1:
        steps = np.minimum(steps, -(-k // (spec.width - 1)) + 8)
    kind, _, count = (spec.tree or "").partition(":")
    more = int(count or 1) - 1 if kind == "split_k" else 0
    if kind == "pairwise":
        more = -(-k // max(spec.width or k, 1))
    if spec.promote_every is not None:
        more += 2 * -(-k // spec.promote_every)
    return np.maximum(steps, 1) + more + (spec.addend != "in_chunk")


def _alpha(spec: AccumulatorSpec) -> float:
    """Error of aligning one term, in units of the last bit that is kept."""
    nearest = spec.align_rounding == "rne" or spec.keeps_sticky
    return 0.0 if spec.align_bits is None else 0.5 if nearest else 1.0


def _cuts(spec: AccumulatorSpec) -> int:
    """Further terms that a unit of two lanes or stages cuts, in each chunk."""
    return (2 if spec.lanes > 1 else 0) + (spec.lanes > 1 or spec.stage_bits is not None)


def _rho(spec: AccumulatorSpec) -> float:
    """Error of one store, in units of the last place."""
    return 0.5 if spec.store_rounding == "rne" else 1.0


def _normwise(sums: Contraction, spec: AccumulatorSpec) -> F64:
    """A fast algorithm is bounded by norms alone: one number for the whole output."""
    k = max(sums.factors.depth, 1)
    unit = 2.0 ** (1 - spec.significand_bits) * _rho(spec)
    growth = _GROWTH.get(spec.algorithm, 0.0)
    if spec.algorithm == "strassen":  # Higham, ASNA section 23.2.2, recursion down to 16
        growth = 336.0 * max(k / 16, 1.0) ** math.log2(12) / k
    norms = np.abs(sums.factors.a).max(initial=0.0) * np.abs(sums.factors.b).max(initial=0.0)
    bound = np.full(sums.terms.shape, growth * k * unit * norms)
    plain = any_order_bound(sums, k, any_order(spec))
    return bound + plain


def any_order(spec: AccumulatorSpec) -> Accumulator:
    """Returns the fields of a claim that the any-order bound depends on."""
    split, pieces = SPLITS[spec.input_precision]
    return Accumulator(
        significand_bits=spec.significand_bits,
        nearest_store=spec.store_rounding == "rne",
        flush=spec.subnormals_out == "flush",
        emin=spec.emin,
        split=split,
        pieces=pieces,
    )


def exact_domain(sums: Contraction, spec: AccumulatorSpec) -> Mask:
    """Says of each output whether every order, width and rounding must give the same bits.

    Some power of two g divides every term; no partial sum, in any order, can reach ``2**q g``,
    where q is the smaller of p and F+1; and no exponent field is so high that aligning to it
    drops a bit of g.
    """
    kept = [bits for bits in (spec.align_bits, spec.stage_bits) if bits is not None]
    bits = min([spec.significand_bits, spec.promote_bits or 64, *(bits + 1 for bits in kept)])
    if spec.addend == "separate" and sums.factors.addend is not None:
        bits = min(bits, spec.range_format.precision)
    if spec.algorithm != "direct":  # zero products beside others are not exact zeros there
        return np.full(sums.terms.shape, not sums.factors.a.any() or not sums.factors.b.any())
    if spec.align_exponent == "block_scale":
        return np.asarray(sums.terms == 0)
    held = _INPUT_BITS.get(spec.input_precision, 8)
    least = spec.emin if spec.subnormals_out == "flush" else spec.emin - spec.significand_bits + 1
    top = int(sums.factors.a_field.max(initial=NOTHING)) + int(
        sums.factors.b_field.max(initial=NOTHING)
    )
    if sums.factors.addend is not None:
        top = max(top, int(floor_log2(np.abs(sums.factors.addend).max(initial=0.0))))
    coarse = (
        least <= sums.unit < -NOTHING
        and held >= sums.factors.bits
        and (spec.product_bits is None or sums.factors.bits <= spec.product_bits)
        and all(max(top, spec.align_floor) - cut <= sums.unit for cut in kept)
    )
    if coarse and sums.magnitude.max(initial=0.0) < np.ldexp(1.0, min(sums.unit + bits, 1023)):
        return np.ones(sums.terms.shape, bool)  # all of it, without looking at each product
    grain = sums.grain
    limit = np.ldexp(1.0, np.minimum(grain + bits, 1023))
    inside = np.asarray(sums.magnitude <= limit * (1 - 2.0**-49))
    for cut in kept:
        inside &= np.maximum(sums.field, spec.align_floor) - cut <= grain
    if spec.product_bits is not None:
        inside &= sums.factors.bits <= spec.product_bits
    inside &= grain >= least
    if held < sums.factors.bits:
        inside &= np.asarray(_fits(sums.factors.a, held).all(axis=1))[:, None]
        inside &= np.asarray(_fits(sums.factors.b, held).all(axis=0))[None, :]
    return np.asarray(inside | (sums.terms == 0))


def _fits(x: F64, bits: int) -> Mask:
    """Says which numbers need no more significand bits than these."""
    mantissa, _ = np.frexp(x)
    steps = mantissa * 2.0**bits
    return np.asarray(steps == np.rint(steps))
