"""Turns operands of a matrix product into a problem: scales, tiers, claims and floors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from accelsdk.formats import E8M0, FLOAT32, INT32, Format, by_name
from accelsdk.graph.graph import Attribute
from accelsdk.numerics.accumulate import AccumulatorSpec
from accelsdk_conformance.case import Case, Profile
from accelsdk_conformance.generators.tiers import Verdict, weakest
from accelsdk_conformance.oracles.bounds import exact_domain
from accelsdk_conformance.oracles.contraction import Contraction, contract
from accelsdk_conformance.oracles.tensor import F64, Mask, Tensor, encode, from_integers
from accelsdk_conformance.problem import (
    Along,
    Axis,
    BelowProfile,
    Context,
    Oracle,
    Problem,
    Remake,
    always,
    expect_exact,
)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Product:
    """Operands of one matrix product.

    Attributes:
        a: Left codes [M, K].
        b: Right codes [K, N].
        a_scales: E8M0 codes [M, blocks], or float32 scales; None is 1.
        b_scales: E8M0 codes [blocks, N], or float32 scales; None is 1.
        exact: Whether the data promise an exact domain.
        swap: Whether signs of zero and the like are to be ignored.
    """

    a: Tensor
    b: Tensor
    a_scales: Tensor | None = None
    b_scales: Tensor | None = None
    exact: bool = False


def floor_bits(case: Case) -> int:
    """Returns min(p, F+1) of the weakest accumulator that the case's profile admits."""
    return 24 if case.profile is Profile.FP32 else 14


def output_format(case: Case, a: Format) -> Format:
    """Returns the format of the product's result."""
    if case.op != "ScaledMatMul":
        return a
    return by_name(str(case.parameters.get("to", "float32")))


def specification(case: Case, context: Context, a: Format, b: Format) -> AccumulatorSpec | None:
    """Returns the claim for the case's contraction, held against the profile's floor.

    Raises:
        BelowProfile: The claim is weaker than the profile admits.
    """
    out = output_format(case, a)
    spec = context.datasheet.contraction(case.op, a.name, b.name, out.name)
    if spec is None:
        return None
    bits = floor_bits(case)
    for field, value, least in (
        ("significand_bits", spec.significand_bits, bits),
        ("align_bits", spec.align_bits, bits - 1),
    ):
        if value is not None and value < least:
            raise BelowProfile(
                f"contractions[{case.op}, {a}, {b}, {out}].{field} is {value}; "
                f"profile {case.profile} asks for {least} or more"
            )
    if spec.input_precision in ("tf32", "bf16x3", "bf16") and a.precision > 11:
        raise BelowProfile(
            f"input_precision {spec.input_precision} of {a}; profile {case.profile} asks for "
            "bf16x6 or better"
        )
    return spec


def domain_bits(case: Case, spec: AccumulatorSpec | None) -> int:
    """Returns the bits that any sum of the case may use and stay exact in every order."""
    if spec is None:
        return floor_bits(case)
    if spec.align_bits is None:
        return spec.significand_bits
    return min(spec.significand_bits, spec.align_bits + 1)


def problem(
    case: Case,
    context: Context,
    product: Product,
    watch: Callable[[Verdict], Oracle] | None = None,
) -> Problem:
    """Returns the problem of one product of floats, judged at every tier.

    Args:
        case: Says op, profile and block size.
        context: Holds the declaration.
        product: The operands.
        watch: Makes the oracle of the verdict; None: it looks at each element alone.
    """
    verdict = judged(case, context, product)
    if product.exact:
        assert_exact(case, verdict)
    operands, attributes = _node(case, product, verdict.block, verdict.out)

    def again(given: tuple[Tensor | None, ...]) -> Problem:
        return problem(case, context, _replaced(product, given), watch)

    return Problem(
        op=case.op,
        operands=operands,
        attributes=attributes,
        oracle=always(verdict.expected()) if watch is None else watch(verdict),
        explain=explainer(product.a, product.b),
        remake=Remake(again, lambda given: _axes(given, verdict.block)),
    )


def judged(
    case: Case,
    context: Context,
    product: Product,
    addend: F64 | None = None,
    *,
    ordered: bool = True,
) -> Verdict:
    """Returns what a product is held to.

    Args:
        case: Says op, profile and block size.
        context: Holds the declaration.
        product: The operands.
        addend: What is added to the sums [M, N], or None.
        ordered: Whether K has an order that a claim can be about; the taps of a convolution
            have none.
    """
    a, b = product.a, product.b
    spec = specification(case, context, a.format, b.format)
    if spec is not None and not ordered:
        spec = replace(spec, order=None)
    out = output_format(case, a.format)
    block = int(case.parameters.get("block_size", 0))
    exponents = _exponents(product, block)

    def summed(left: F64, right: F64, c: F64 | None) -> Contraction:
        return contract(
            left,
            right,
            a.format,
            b.format,
            a_exponent=exponents[0],
            b_exponent=exponents[1],
            addend=c,
        )

    raw = sums = summed(a.values, b.values, addend)
    if spec is not None and spec.subnormals_in == "flush":
        kept = None if addend is None else np.where(np.abs(addend) < 2.0**spec.emin, 0.0, addend)
        sums = summed(_without_subnormals(a), _without_subnormals(b), kept)
    return Verdict(
        sums=sums,
        spec=spec,
        name=f"contractions[{case.op}, {a.format}, {b.format}, {out}]",
        out=out,
        floor=floor_bits(case),
        scales=tuple(_factors(product, block)),
        block=block,
        nan=_scale_nan(product),
        raw=raw.factors,
    )


def _without_subnormals(x: Tensor) -> F64:
    if not x.format.is_float:
        return x.values
    return np.where(np.abs(x.values) < x.format.smallest_normal, 0.0, x.values)


def _replaced(product: Product, operands: tuple[Tensor | None, ...]) -> Product:
    """Returns the product of other operands; what it had no scales for gets none."""
    a, b, *scales = operands
    left, right = scales if scales else (None, None)
    return replace(
        product,
        a=product.a if a is None else a,
        b=product.b if b is None else b,
        a_scales=None if product.a_scales is None else left,
        b_scales=None if product.b_scales is None else right,
    )


def _axes(operands: Sequence[Tensor | None], block: int) -> tuple[Axis, ...]:
    """Returns rows, K and columns, with the scales that belong to them."""
    unit = block or 1
    rows, inner, columns = [Along(0, 0)], [Along(0, 1, unit), Along(1, 0, unit)], [Along(1, 1)]
    left, right = operands[2:] if len(operands) == 4 else (None, None)
    if block:
        inner += [Along(2, 1), Along(3, 0)]
    if left is not None and left.codes.ndim and left.shape[0] > 1:
        rows.append(Along(2, 0))
    if right is not None and right.codes.ndim and right.shape[-1] > 1:
        columns.append(Along(3, right.codes.ndim - 1))
    return tuple(rows), tuple(inner), tuple(columns)


def _node(
    case: Case, product: Product, block: int, out: Format
) -> tuple[tuple[Tensor | None, ...], Mapping[str, Attribute]]:
    if case.op == "MatMul":
        return (product.a, product.b), {}
    one = encode(np.array(1.0), FLOAT32)
    scales = (product.a_scales, product.b_scales)
    if block:
        count = -(-product.a.shape[1] // block)
        ones = [
            Tensor(E8M0, np.full(shape, 127, np.uint8))
            for shape in ((product.a.shape[0], count), (count, product.b.shape[1]))
        ]
        operands = tuple(given or one for given, one in zip(scales, ones, strict=True))
    else:
        operands = tuple(given or one for given in scales)
    return (product.a, product.b, *operands), {"block_size": block, "to": out.name}


def _exponents(
    product: Product, block: int
) -> tuple[NDArray[np.int64] | None, NDArray[np.int64] | None]:
    """Spreads E8M0 scales over K, as powers of two."""
    if not block:
        return None, None
    k = product.a.shape[1]
    left = right = None
    if product.a_scales is not None:
        left = np.repeat(product.a_scales.codes.astype(np.int64) - 127, block, axis=1)[:, :k]
    if product.b_scales is not None:
        right = np.repeat(product.b_scales.codes.astype(np.int64) - 127, block, axis=0)[:k]
    return left, right


def _factors(product: Product, block: int) -> list[F64]:
    if block:
        return []
    given = [product.a_scales, product.b_scales]
    return [tensor.values for tensor in given if tensor is not None]


def assert_exact(case: Case, verdict: Verdict) -> None:
    """Holds a generator that promises an exact domain to it, for the profile's floor."""
    bits = int(case.parameters.get("bits", verdict.floor))
    if verdict.sums.factors.depth > 1 and not exact_domain(verdict.sums, weakest(bits)).all():
        raise ArithmeticError(f"{case.id}: the data are not in the exact domain of {bits} bits")


def _scale_nan(product: Product) -> Mask:
    """Returns where a scale is NaN: of any block, of the row or of the column."""
    found: Mask = np.zeros((product.a.shape[0], product.b.shape[1]), bool)
    for scales, axis in ((product.a_scales, 1), (product.b_scales, 0)):
        if scales is not None:
            found |= np.atleast_2d(np.isnan(scales.values)).any(axis=axis, keepdims=True)
    return found


def explainer(a: Tensor, b: Tensor) -> Callable[[tuple[int, ...]], str]:
    """Explains an output element by its row and column, zero products left out."""

    def explain(element: tuple[int, ...]) -> str:
        row, column = a.values[element[0]], b.values[:, element[1]]
        live = np.flatnonzero((row != 0) & (column != 0))
        shown = ", ".join(f"[{k}] {row[k]!r}*{column[k]!r}" for k in live[:6])
        more = f", ... ({len(live)} products)" if len(live) > 6 else ""
        return f"{a.format} x {b.format}, K={a.shape[1]}: {shown or 'no nonzero product'}{more}"

    return explain


# -- integers ---------------------------------------------------------------------------------


def _saturated_pairs(a: F64, b: F64) -> F64:
    """Sums products as ``vpmaddubsw`` does: each two neighbours saturate at 16 bits."""
    if a.shape[-1] % 2:
        a, b = np.pad(a, ((0, 0), (0, 1))), np.pad(b, ((0, 1), (0, 0)))
    pairs = a[:, 0::2, None] * b[None, 0::2] + a[:, 1::2, None] * b[None, 1::2]
    return np.asarray(np.clip(pairs, -32768, 32767).sum(axis=1))


def integer_problem(
    case: Case,
    context: Context,
    a: Tensor,
    b: Tensor,
    a_zero: Tensor | None = None,
    b_zero: Tensor | None = None,
) -> Problem:
    """Returns the problem of one integer product: exact, wrapping as declared."""
    left, right = a.values, b.values
    if a_zero is not None:
        left = left - (a_zero.values if a_zero.codes.ndim == 0 else a_zero.values[:, None])
    if b_zero is not None:
        right = right - b_zero.values
    if 2.0**20 * a.shape[-1] >= 2.0**53:
        raise ArithmeticError(f"{case.id}: K is too large for an exact float64 product")
    spec = context.datasheet.integer(case.op, a.format.name, b.format.name, "int32")
    total = left @ right
    if spec is not None and spec.pair16 == "saturate":
        total += _saturated_pairs(a.values, b.values) - a.values @ b.values
    if spec is not None:
        bits = 2.0 ** (spec.acc_bits - 1)
        if spec.overflow == "saturate":
            total = np.clip(total, -bits, bits - 1)
        elif spec.acc_bits < 32:
            total = np.mod(total + bits, 2 * bits) - bits
    expected = expect_exact(
        from_integers(total.astype(np.int64), INT32),
        claim=f"integers[{case.op}, {a.format}, {b.format}, int32]" if spec else "",
    )
    plain = a.codes.ndim == b.codes.ndim == 2

    def again(given: tuple[Tensor | None, ...]) -> Problem:
        left, right, *zeros = given
        left, right = (a if left is None else left), (b if right is None else right)
        return integer_problem(case, context, left, right, *zeros)

    operands = (a, b, a_zero, b_zero)
    return Problem(
        op=case.op,
        operands=operands,
        oracle=always(expected),
        explain=explainer(a, b) if plain else None,
        remake=Remake(again, lambda given: _axes(given, 0)) if plain else None,
    )
