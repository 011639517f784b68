"""What a declared integer accumulator makes of the sums of a convolution."""

from __future__ import annotations

import numpy as np

from accelsdk.backend.datasheet import IntSpec
from accelsdk_conformance.case import Case
from accelsdk_conformance.oracles.tensor import F64, Tensor, from_integers
from accelsdk_conformance.problem import Context


def claim_of(case: Case, context: Context, x: Tensor, w: Tensor) -> IntSpec | None:
    """Returns the claim for the case's integer products, or None if they are unclaimed."""
    return context.datasheet.integer(case.op, x.format.name, w.format.name, "int32")


def mild(spec: IntSpec | None, w: Tensor) -> Tensor:
    """Returns 8-bit weights; small ones where pairs of products are declared to saturate.

    Which taps are neighbours in a convolution is the device's own matter. With weights up to 64
    no two products of 8-bit codes leave 16 bits (2 * 255 * 64 = 32640), whichever they are.
    """
    if spec is None or spec.pair16 == "none":
        return w
    return from_integers(w.integers >> (1 if w.format.is_signed else 2), w.format)


def stored(spec: IntSpec | None, total: F64) -> F64:
    """Returns exact sums as the declared accumulator holds them."""
    if spec is None:
        return total
    half = 2.0 ** (spec.acc_bits - 1)
    if spec.overflow == "saturate":
        return np.clip(total, -half, half - 1)
    return np.mod(total + half, 2 * half) - half if spec.acc_bits < 32 else total
