"""Scales of matrix products: of their own for every row, column and block, and at their ends."""

from __future__ import annotations

import numpy as np

from accelsdk.formats import E8M0, FLOAT32
from accelsdk_conformance.case import Case
from accelsdk_conformance.generators import data, grids
from accelsdk_conformance.generators.products import Product, floor_bits, problem
from accelsdk_conformance.oracles.tensor import Tensor, encode, represent
from accelsdk_conformance.problem import Context, Problem


def scaled(case: Case, context: Context) -> Problem:
    """Scales on exact sums: every row, column and block has one of its own.

    A scale applied once instead of twice, clamped early, taken from the wrong block or from
    the neighbour's row is off by a power of two.
    """
    a_format, b_format = data.format_of(case, 0), data.format_of(case, 1)
    rng = data.rng(case, context)
    k = int(case.parameters["k"])
    a, b = grids.operands((a_format, b_format), (10, k, 7), floor_bits(case), rng)
    a, b = grids.mixed(a, rng), grids.mixed(b, rng)
    if not int(case.parameters.get("block_size", 0)):
        scales = np.ldexp(1.0, np.concatenate([np.arange(10) * 7 - 30, 20 - np.arange(7) * 5]))
        values = encode(scales, FLOAT32).codes
        return problem(
            case,
            context,
            Product(
                a=a,
                b=b,
                a_scales=Tensor(FLOAT32, values[:10, None]),
                b_scales=Tensor(FLOAT32, values[None, 10:]),
                exact=True,
            ),
        )
    # One block of K at a time is not zero, so sums stay exact whatever the scales are.
    count = -(-k // 32)
    block_of = np.arange(k) // 32
    rows = np.concatenate([np.where(block_of == j, a.codes[:2], 0) for j in range(count)])
    left = (127 + 11 * np.arange(len(rows))[:, None] - 9 * np.arange(count)[None]) % 200 + 20
    right = (127 - 13 * np.arange(7)[None] + 8 * np.arange(count)[:, None]) % 200 + 20
    left = np.where(left[:, :, None] + right[None] > 330, 60, left[:, :, None]).min(axis=2)
    product = Product(
        a=Tensor(a_format, rows.astype(np.uint8)),
        b=b,
        a_scales=Tensor(E8M0, left.astype(np.uint8)),
        b_scales=Tensor(E8M0, right.astype(np.uint8)),
    )
    return problem(case, context, product)


def plain_edges(case: Case, context: Context) -> Problem:
    """Float scales of one operand alone, negative ones, 0, infinities, NaN, and far apart."""
    a_format, b_format = data.format_of(case, 0), data.format_of(case, 1)
    rng = data.rng(case, context)
    far = [2.0**100, 2.0**-100, -(2.0**60), 0.0, -0.0, -1.0, 1.5, np.inf, -np.inf, np.nan]
    near = [1.0, -2.0, 2.0**-20, 2.0**20, -0.75, np.nan]
    a, b = grids.operands((a_format, b_format), (len(far), 19, len(near)), floor_bits(case), rng)
    left = Tensor(FLOAT32, encode(np.array(far), FLOAT32).codes[:, None])
    right = Tensor(FLOAT32, encode(np.array(near), FLOAT32).codes[None])
    side = str(case.parameters["side"])
    product = Product(
        a=a,
        b=b,
        a_scales=left if side != "right" else None,
        b_scales=right if side != "left" else None,
        exact=True,
    )
    return problem(case, context, product)


def scale_edges(case: Case, context: Context) -> Problem:
    """The ends of E8M0: 0xFF is NaN, 0x00 is 2**-127, 2**100 times 2**-100 is 1."""
    a_format, b_format = data.format_of(case, 0), data.format_of(case, 1)
    k = 64
    a = np.zeros((8, k), np.uint8) + represent(np.array(1.0), a_format).codes
    b = np.zeros((k, 4), np.uint8) + represent(np.array(1.0), b_format).codes
    left = np.full((8, 2), 127)
    right = np.full((2, 4), 127)
    left[0, 0], left[1, 1], left[2], left[3], left[4] = 0xFF, 0xFF, 227, 0, 254
    right[:, 1], right[:, 2] = 27, 0
    right[1, 3] = 0xFF
    left[5, 0], left[6, 1] = 187, 187  # 2**60 on a block of zeros beside an ordinary one
    a[5, :32], a[6, 32:] = 0, 0
    product = Product(
        a=Tensor(a_format, a.astype(np.uint8)),
        b=Tensor(b_format, b.astype(np.uint8)),
        a_scales=Tensor(E8M0, left.astype(np.uint8)),
        b_scales=Tensor(E8M0, right.astype(np.uint8)),
    )
    return problem(case, context, product)


def far_scales(case: Case, context: Context) -> Problem:
    """Every pair of codes of E8M0 on a product of ones, as far as float32 holds it."""
    a_format, b_format = data.format_of(case, 0), data.format_of(case, 1)
    step = int(case.parameters["step"])
    codes = np.unique(
        np.concatenate([np.arange(0, 255, step), [0, 1, 126, 127, 128, 253, 254, 255]])
    )
    ones = [grids.whole(fmt)[0][-1] for fmt in (a_format, b_format)]
    count = len(codes)
    a, b = np.zeros((count, 32), ones[0].dtype), np.zeros((32, count), ones[1].dtype)
    a[:, 3], b[3] = ones
    product = Product(
        a=Tensor(a_format, a),
        b=Tensor(b_format, b),
        a_scales=Tensor(E8M0, codes.astype(np.uint8)[:, None]),
        b_scales=Tensor(E8M0, codes.astype(np.uint8)[None]),
    )
    return problem(case, context, product)
