"""Sums of table rows: empty, repeated, weighted bags, and scales and biases in their places."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.formats import FLOAT16, FLOAT32, INT32, INT64, UINT8, Format
from accelsdk_conformance.case import Case
from accelsdk_conformance.generators import data
from accelsdk_conformance.oracles.doubled import Doubled, total, two_product
from accelsdk_conformance.oracles.tensor import F64, Tensor, encode, from_integers, represent
from accelsdk_conformance.problem import Context, Expected, Problem, Tier, Within, always

_ROWS, _MANY = 37, 523


def bags(case: Case, context: Context) -> Problem:
    """SparseLengthsSum and its fused form, on exact or on ordinary numbers.

    A bag of n rows is held to the any-order bound with n + 2 roundings for each term: the
    product with the scale, the addition of the bias and the weight are three of them, the sum the
    others.
    """
    rng = data.rng(case, context)
    bits, columns = int(case.parameters.get("bits", 0)), int(case.parameters["columns"])
    exact = case.parameters["numbers"] == "grid"
    lengths = np.array(_LENGTHS[str(case.parameters["bags"])], np.int64)
    rows = _MANY if case.parameters["bags"] == "many" else _ROWS
    indices = rng.integers(0, rows, int(lengths.sum()))
    if indices.size > 3:
        indices[:3] = [0, rows - 1, rows - 1]  # both ends, and one row twice
    weights = np.ones(len(indices))
    weighted = bool(case.parameters["weighted"])
    if weighted:
        drawn = [0.5, 1.0, 2.0, -1.0, 0.0] if exact else rng.normal(size=64).astype(np.float32)
        weights = rng.choice(np.asarray(drawn, np.float64), len(indices))
    if bits:
        table, scale, code, bias = _fused(bits, (rows, columns), exact, rng)
        out = FLOAT32
    else:
        out = data.format_of(case, 0)
        table = represent(rng.integers(-8, 9, (rows, columns)), out)
        if not exact:
            table = encode(rng.normal(size=(rows, columns)), out)
        scale, code, bias = np.ones((rows, 1)), table.values, np.zeros((rows, 1))
    value, bound = _summed((scale, code, bias), indices, lengths, weights)
    if exact:
        bound = np.zeros_like(bound)
    accept = Within(value, bound, narrow=out.precision < FLOAT32.precision)
    tier = Tier.T0 if exact else Tier.T3
    expected = Expected(out, value.high.shape, ((tier, accept),), tier)
    kinds = {"int32": INT32, "int64": INT64}
    index = kinds[str(case.parameters.get("index", "int64"))]
    return Problem(
        op=case.op,
        operands=(
            table,
            from_integers(indices, index),
            from_integers(lengths, index),
            represent(weights, FLOAT32) if weighted else None,
        ),
        attributes={"bits": bits, "columns": columns} if bits else {},
        oracle=always(expected),
    )


_LENGTHS = {
    "mixed": [0, 1, 5, 0, 33, 2],
    "all_empty": [0, 0, 0, 0],
    "one_each": [1] * 9,
    "long": [257],
    "many": [1, 0, 2, 3] * 18,
    "ends_empty": [0, 3, 4, 0],
}


def _fused(
    bits: int, extents: tuple[int, int], exact: bool, rng: np.random.Generator
) -> tuple[Tensor, F64, F64, F64]:
    """Returns fused rows, and scale, codes and bias of each; no two rows have the same."""
    rows, columns = extents
    codes = rng.integers(0, 1 << bits, (rows, columns))
    scale = np.exp2(rng.integers(-3, 2, (rows, 1)).astype(np.float64))
    bias = rng.integers(-8, 9, (rows, 1)).astype(np.float64)
    kind: Format = FLOAT32 if bits == 8 else FLOAT16
    if not exact:
        scale, bias = (encode(rng.uniform(low, 1, (rows, 1)), kind).values for low in (0.01, -1.0))
    per = 8 // bits
    padded = np.zeros((rows, -(-columns // per) * per), np.int64)
    padded[:, :columns] = codes
    packed = (padded.reshape(rows, -1, per) << (np.arange(per) * bits)).sum(axis=2)
    tail = encode(np.concatenate([scale, bias], axis=1), kind).codes
    raw = np.ascontiguousarray(tail).view(np.uint8).reshape(rows, -1)
    table = Tensor(UINT8, np.concatenate([packed.astype(np.uint8), raw], axis=1))
    return table, scale, codes.astype(np.float64), bias


def _summed(
    rows: tuple[F64, F64, F64],
    indices: NDArray[Any],
    lengths: NDArray[np.int64],
    weights: F64,
) -> tuple[Doubled, F64]:
    """Returns the exact sums of the bags, and the any-order bound of each."""
    scale, code, bias = (part[indices] for part in rows)
    weight = weights[:, None]
    # scale * code has 32 bits; with a weight of 24 bits the product needs two float64.
    scaled = two_product(scale * code, np.broadcast_to(weight, code.shape))
    shift = np.broadcast_to(bias * weight, code.shape)  # 48 bits
    ends = np.cumsum(lengths)
    highs, lows, bounds = [], [], []
    for start, stop in zip(ends - lengths, ends, strict=True):
        part = slice(int(start), int(stop))
        terms = np.concatenate([scaled.high[part], shift[part]])
        rest = np.concatenate([scaled.low[part], np.zeros_like(shift[part])])
        value = total(terms, 0, rest)
        size = np.abs(terms).sum(axis=0)
        count = stop - start + 2
        gamma = count * 2.0**-23 / (1 - count * 2.0**-23)
        highs.append(value.high)
        lows.append(value.low)
        bounds.append(gamma * size + (size > 0) * count * 2.0**-149)
    return Doubled(np.stack(highs), np.stack(lows)), np.stack(bounds)
