"""Which field of a declaration is false: a search among its neighbours.

Where outputs miss the declared accumulator, every declaration that differs in one field is
simulated; those that give exactly the outputs name the field that lied.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import replace

import numpy as np

from accelsdk.errors import InvalidArgument
from accelsdk.numerics.accumulate import AccumulatorSpec
from accelsdk_conformance.oracles.accumulator import chunks, simulate
from accelsdk_conformance.oracles.contraction import F64, Factors

_STEPS = 96  # chunks of a case that is looked into

#: Values tried besides the neighbours of the declared number; in the order of likelihood.
_CHOICES: dict[str, tuple[object, ...]] = {
    "align_bits": (None, 13, 12, 10, 23, 24, 25, 26, 27, 11),
    "significand_bits": (24, 14, 11, 8, 13, 10, 22, 23, 32, 48),
    "store_rounding": ("rne", "rz", "rd", "ru"),
    "align_rounding": ("rz", "rne", "rd", "ru"),
    "width": (1, 2, 4, 8, 16, 32, 64, 128, 0),
    "order": ("contiguous", "even_odd", "interleaved"),
    "tree": ("sequential", "pairwise", "split_k:2", "split_k:4", "split_k:8"),
    "sticky": (True, False),
    "addend": ("in_chunk", "separate", "initial"),
    "inside": ("fused", "pairwise"),
    "lanes": (1, 2),
    "stage_bits": (None, 24, 25, 31),
    "product_bits": (None, 4, 6, 7, 8, 10, 11, 16, 24),
    "align_exponent": ("operand_fields", "normalized", "block_scale"),
    "align_floor": (-126, -132, -133, -149),
    "promote": (None, (128, 24), (64, 24), (32, 24), (256, 24), (512, 24)),
    "subnormals_in": ("keep", "flush"),
    "subnormals_out": ("keep", "flush"),
    "overflow": ("inf", "saturate", "wide"),
    "product_overflow": ("wide", "inf"),
    "store_range": (None, "float16"),
    "input_precision": ("native", "tf32", "bf16", "bf16x3"),
}
_NEAR = {"align_bits", "significand_bits", "align_floor", "product_bits", "stage_bits"}
_INPUT_BITS = {"tf32": 11, "bf16": 8, "bf16x3": 16}


def explanations(
    factors: Factors,
    spec: AccumulatorSpec,
    block: int,
    fits: Callable[[F64], bool],
    names: Collection[str] = tuple(_CHOICES),
) -> list[tuple[str, object]]:
    """Returns the changes of one field after which the declaration gives the outputs.

    Args:
        factors: Operands, subnormals kept.
        spec: The declaration; what it leaves open is taken as one chunk in order.
        block: Products that share a scale, or 0.
        fits: Whether stored sums are what the device gave.
        names: Fields to look at.
    """
    plain = settled(spec)
    if spec.algorithm != "direct" or len(chunks(factors.depth, plain)) > _STEPS:
        return []
    found: list[tuple[str, object]] = []
    for name, value, changed, cut in _neighbours(plain, names):
        sums = simulate(_cut(factors, cut) if cut else factors, changed, block)
        if sums is not None and fits(sums):
            found.append((name, value))
    return found


def settled(spec: AccumulatorSpec) -> AccumulatorSpec:
    """Returns a claim with what it leaves open taken as one chunk, in order."""
    return replace(
        spec,
        width=0 if spec.width is None else spec.width,
        order=spec.order or "contiguous",
        tree=spec.tree or "sequential",
    )


def _neighbours(
    spec: AccumulatorSpec, names: Collection[str]
) -> Iterator[tuple[str, object, AccumulatorSpec, int]]:
    """Yields field, value, the spec changed in it, and bits to cut the operands to."""
    for name, choices in _CHOICES.items():
        if name not in names:
            continue
        if name == "promote":
            now: object = spec.promote_every and (spec.promote_every, spec.promote_bits)
        else:
            now = getattr(spec, name)
        near: list[object] = []
        if name in _NEAR and isinstance(now, int):
            near = [now + i for i in (-1, 1, -2, 2, -3, 3)]
        for value in dict.fromkeys([*near, *choices]):
            if value == now:
                continue
            if name == "input_precision" and value != "native":
                yield name, value, replace(spec, input_precision="native"), _INPUT_BITS[str(value)]
                continue
            try:
                yield name, value, _changed(spec, name, value), 0
            except InvalidArgument:
                continue  # the combination is none


def _changed(spec: AccumulatorSpec, name: str, value: object) -> AccumulatorSpec:
    if name == "promote":
        every, bits = value if isinstance(value, tuple) else (None, None)
        return replace(spec, promote_every=every, promote_bits=bits)
    changes = {name: value}
    return replace(spec, **changes)  # type: ignore[arg-type] # checked by the record


def _cut(factors: Factors, bits: int) -> Factors:
    """Returns operands rounded to fewer significand bits."""
    return replace(factors, a=_rounded(factors.a, bits), b=_rounded(factors.b, bits))


def _rounded(x: F64, bits: int) -> F64:
    mantissa, exponent = np.frexp(x)
    return np.asarray(np.ldexp(np.rint(mantissa * 2.0**bits), exponent - bits))
