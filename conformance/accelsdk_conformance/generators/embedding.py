"""Sums of table rows: empty, repeated, weighted bags, and scales and biases in their places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.formats import FLOAT16, FLOAT32, INT32, INT64, UINT8, Format
from accelsdk_conformance.case import Case
from accelsdk_conformance.generators import data
from accelsdk_conformance.oracles.doubled import Doubled, total, two_product
from accelsdk_conformance.oracles.tensor import (
    F64,
    Tensor,
    code_dtype,
    encode,
    from_integers,
    represent,
)
from accelsdk_conformance.problem import (
    Along,
    Axis,
    Context,
    Expected,
    Problem,
    Tier,
    Within,
    always,
    shrinkable,
)

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
        table, out = _fused(bits, (rows, columns), exact, rng), FLOAT32
    else:
        out = data.format_of(case, 0)
        table = represent(rng.integers(-8, 9, (rows, columns)), out)
        if not exact:
            table = encode(rng.normal(size=(rows, columns)), out)
    tier = Tier.T0 if exact else Tier.T3

    def make(*given: Tensor | None) -> Problem:
        bags = Bags.fitted(*given)
        value, bound = _summed(bags.rows(bits, columns, table), *bags.items())
        accept = Within(value, bound * (not exact), narrow=out.precision < FLOAT32.precision)
        expected = Expected(out, value.high.shape, ((tier, accept),), tier)
        width = value.high.shape[1]
        return Problem(
            op=case.op,
            operands=bags.operands,
            attributes={"bits": bits, "columns": width} if bits else {},
            oracle=always(expected),
        )

    kinds = {"int32": INT32, "int64": INT64}
    index = kinds[str(case.parameters.get("index", "int64"))]
    operands = (
        table,
        from_integers(indices, index),
        from_integers(lengths, index),
        represent(weights, FLOAT32) if weighted else None,
    )
    return shrinkable(make, operands, bag_axes, fixed=FUSED if bits else PLAIN)


@dataclass(frozen=True, slots=True, eq=False)
class Bags:
    """Operands of a sum of table rows.

    Attributes:
        table: Rows, plain or fused.
        indices: Items of all bags.
        lengths: Of the bags.
        weights: Of the items, or None.
    """

    table: Tensor
    indices: Tensor
    lengths: Tensor
    weights: Tensor | None

    @classmethod
    def fitted(cls, *operands: Tensor | None) -> Bags:
        """Brings operands together that have lost rows, items or bags.

        Indices beyond the table become its last row; lengths end where the items do.
        """
        table, indices, lengths, weights = operands
        if table is None or indices is None or lengths is None:
            raise TypeError("an operand is missing")
        ends = np.minimum(np.cumsum(lengths.integers), len(indices.codes))
        count = int(ends[-1])
        held = np.minimum(indices.integers[:count], len(table.codes) - 1)
        return cls(
            table,
            from_integers(held, indices.format),
            from_integers(np.diff(ends, prepend=0), lengths.format),
            weights and Tensor(weights.format, weights.codes[:count]),
        )

    @property
    def operands(self) -> tuple[Tensor | None, ...]:
        """In the node's order."""
        return self.table, self.indices, self.lengths, self.weights

    def items(self) -> tuple[NDArray[Any], NDArray[np.int64], F64]:
        """Returns indices, lengths, and the weight of each item."""
        plain = np.ones(self.indices.shape)
        weights = plain if self.weights is None else self.weights.values
        return self.indices.integers, self.lengths.integers, weights

    def rows(self, bits: int, columns: int, origin: Tensor) -> tuple[F64, F64, F64]:
        """Returns scale, codes and bias of each row.

        Args:
            bits: Of a code; 0: rows are plain.
            columns: That there were to begin with.
            origin: The table that there was to begin with.

        Raises:
            ValueError: A fused row has lost bytes of its scale or bias, or all others.
        """
        if not bits:
            shape = (len(self.table.codes), 1)
            return np.ones(shape), self.table.values, np.zeros(shape)
        kind = FLOAT32 if bits == 8 else FLOAT16
        size, per = 2 * kind.bits // 8, 8 // bits
        packed, tail = np.split(self.table.codes, [-size], axis=1)
        if not {bytes(row) for row in tail} <= {bytes(row) for row in origin.codes[:, -size:]}:
            raise ValueError("other scales and biases")
        if not packed.shape[1]:
            raise ValueError("no columns")
        pair = Tensor(kind, np.ascontiguousarray(tail).view(code_dtype(kind))).values
        codes = (packed[:, :, None] >> (np.arange(per) * bits)) & ((1 << bits) - 1)
        plain = codes.reshape(len(packed), -1)[:, :columns].astype(np.float64)
        return pair[:, :1], plain, pair[:, 1:]


#: Operands whose values must stay: indices, lengths, and fused rows.
PLAIN, FUSED = (1, 2), (0, 1, 2)


def bag_axes(table: Tensor, indices: Tensor, lengths: Tensor, weights: Tensor | None) -> list[Axis]:
    """Returns items, bags, columns and rows."""
    item = (Along(1, 0), *(() if weights is None else (Along(3, 0),)))
    return [item, (Along(2, 0),), (Along(0, 1),), (Along(0, 0),)]


_LENGTHS = {
    "mixed": [0, 1, 5, 0, 33, 2],
    "all_empty": [0, 0, 0, 0],
    "one_each": [1] * 9,
    "long": [257],
    "many": [1, 0, 2, 3] * 18,
    "ends_empty": [0, 3, 4, 0],
    "longer": [3, 700, 1, 129],
    "hundreds": [1, 0, 2, 3, 1] * 60,
}


def _fused(bits: int, extents: tuple[int, int], exact: bool, rng: np.random.Generator) -> Tensor:
    """Returns fused rows: codes, scale and bias; no two rows have the same."""
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
    return Tensor(UINT8, np.concatenate([packed.astype(np.uint8), raw], axis=1))


def _summed(
    table: tuple[F64, F64, F64],
    indices: NDArray[Any],
    lengths: NDArray[np.int64],
    weights: F64,
) -> tuple[Doubled, F64]:
    """Returns the exact sums of the bags, and the any-order bound of each."""
    scale, code, bias = (part[indices] for part in table)
    weight = weights[:, None]
    # scale * code has 32 bits; with a weight of 24 bits the product needs two float64.
    scaled = two_product(scale * code, np.broadcast_to(weight, code.shape))
    shift = np.broadcast_to(bias * weight, code.shape)  # 48 bits
    high, low, bound = (np.zeros((len(lengths), code.shape[1])) for _ in range(3))
    starts = np.cumsum(lengths) - lengths
    for length in np.unique(lengths).tolist():  # the bags of one length at once
        bags = np.flatnonzero(lengths == length)
        rows = starts[bags, None] + np.arange(length)
        terms = np.concatenate([scaled.high[rows], shift[rows]], axis=1)
        rest = np.concatenate([scaled.low[rows], np.zeros_like(shift[rows])], axis=1)
        high[bags], low[bags] = total(terms, 1, rest)
        size = np.abs(terms).sum(axis=1)
        count = length + 2
        gamma = count * 2.0**-23 / (1 - count * 2.0**-23)
        bound[bags] = gamma * size + (size > 0) * count * 2.0**-149
    return Doubled(high, low), bound
