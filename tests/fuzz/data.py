"""Contents of random operands: typed, of mixed scales, and legal where values have a meaning."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum

import numpy as np

from accelsdk import formats as f
from accelsdk.formats import Format, Kind
from accelsdk.graph.types import TensorType
from accelsdk.numerics.codec import encode


class Mode(StrEnum):
    """What the operands of a graph look like."""

    GRID = "grid"  # small whole numbers: sums and products are exact in any order
    MIXED = "mixed"  # numbers of mixed scales, integers in their full range
    SPECIAL = "special"  # the same, with infinities, NaN, signed zeros, subnormals, extremes


class Contents:
    """Draws arrays by a seed.

    Args:
        rng: Where all randomness comes from.
        mode: What floats and integers look like.
    """

    def __init__(self, rng: np.random.Generator, mode: Mode) -> None:
        self.rng, self.mode = rng, mode

    def general(self, kind: TensorType) -> np.ndarray:
        """An operand without a meaning of its own."""
        row, shape = kind.format, kind.shape
        if row == f.BOOL:
            return self.rng.integers(0, 2, shape).astype(np.bool_)
        if row.kind in (Kind.INT, Kind.UINT, Kind.FIXED):
            return self._integers(row, shape)
        if row.kind is Kind.SCALE:
            low, high = (0, 256) if self.mode is Mode.SPECIAL else (119, 136)
            return self.rng.integers(low, high, shape).astype(np.uint8).view(row.dtype)
        if row.bits <= 8 and self.mode is not Mode.GRID:
            return self._codes(row, shape)
        return self.floats(self._numbers(row, shape), row)

    @staticmethod
    def floats(values: np.ndarray, row: Format) -> np.ndarray:
        """Numbers in a float format."""
        values = np.asarray(values, np.float64)
        if row.bits <= 8:
            return np.asarray(encode(values, row))
        with np.errstate(over="ignore"):
            return values.astype(row.dtype)

    def _integers(self, row: Format, shape: Sequence[int]) -> np.ndarray:
        signed = row.kind is not Kind.UINT
        low, high = (
            (-(1 << row.bits - 1), (1 << row.bits - 1) - 1) if signed else (0, (1 << row.bits) - 1)
        )
        small = self.rng.integers(max(low, -4), min(high, 8) + 1, shape)
        if self.mode is Mode.GRID or self.rng.random() < 0.3:
            return np.asarray(small).astype(row.dtype)
        wide = np.int64 if signed else np.uint64
        full = self.rng.integers(low, high, shape, dtype=wide, endpoint=True)
        ends = self.rng.choice(np.array([low, high, 0, 1], dtype=wide), shape)
        return np.where(self.rng.random(shape) < 0.1, ends, full).astype(row.dtype)

    def _codes(self, row: Format, shape: Sequence[int]) -> np.ndarray:
        codes = self.rng.integers(0, 1 << row.bits, shape).astype(np.uint8).view(row.dtype)
        if self.mode is Mode.SPECIAL:
            return codes
        finite = np.isfinite(codes.astype(np.float32))
        return np.where(finite, codes, np.zeros((), row.dtype))

    def _numbers(self, row: Format, shape: Sequence[int]) -> np.ndarray:
        rng = self.rng
        if self.mode is Mode.GRID:
            return rng.integers(-4, 5, shape) * 2.0 ** rng.integers(-2, 1)
        spread = rng.integers(0, 7)  # of exponents, within one operand
        values = rng.standard_normal(shape) * 2.0 ** rng.integers(-spread, spread + 1, shape)
        if self.mode is Mode.SPECIAL:
            ends = [np.inf, -np.inf, np.nan, 0.0, -0.0, row.max, -row.max]
            ends += [row.smallest_normal, row.smallest_subnormal, -row.smallest_subnormal, 1e4]
            share = rng.choice([0.02, 0.3])
            values = np.where(rng.random(shape) < share, rng.choice(ends, shape), values)
        return np.asarray(values)


class Illegal(Exception):  # not an error: the node is drawn anew
    """No contents give the operand a meaning."""


Types = Sequence[TensorType | None]
Attributes = Mapping[str, object]
#: Makes an operand from contents, its type, the types of all operands, and the attributes.
Maker = Callable[["Contents", TensorType, Types, Attributes], np.ndarray]


def _kind(types: Types, index: int) -> TensorType:
    found = types[index]
    if found is None:
        raise Illegal
    return found


def _within(c: Contents, extent: int, shape: Sequence[int], *, negative: bool) -> np.ndarray:
    if not extent and math.prod(shape):
        raise Illegal
    return c.rng.integers(-extent if negative else 0, max(extent, 1), shape)


def _axis(types: Types, given: Attributes) -> int:
    return int(str(given["axis"])) % _kind(types, 0).rank


def _index(c: Contents, kind: TensorType, types: Types, given: Attributes) -> np.ndarray:
    extent = _kind(types, 0).shape[_axis(types, given)]
    return _within(c, extent, kind.shape, negative=True)


def _permutation(c: Contents, kind: TensorType, types: Types, given: Attributes) -> np.ndarray:
    """Indices of ScatterElements: distinct in each lane, unless what meets is reduced."""
    if given.get("reduction", "none") != "none":
        return _index(c, kind, types, given)
    return np.argsort(c.rng.random(kind.shape), axis=_axis(types, given))


def _places(c: Contents, kind: TensorType, types: Types, given: Attributes) -> np.ndarray:
    """Indices of GatherND and ScatterND; the latter's are distinct."""
    depth = kind.shape[-1]
    extents = _kind(types, 0).shape[:depth]
    count, room = math.prod(kind.shape[:-1]), math.prod(extents)
    distinct = "batch_dims" not in given
    if count and (not room or (distinct and count > room)):
        raise Illegal
    flat = c.rng.permutation(room)[:count] if distinct else c.rng.integers(0, max(room, 1), count)
    return np.stack(np.unravel_index(flat, extents), axis=-1).reshape(kind.shape)


def _rows(c: Contents, kind: TensorType, types: Types, given: Attributes) -> np.ndarray:
    return _within(c, _kind(types, 0).shape[0], kind.shape, negative=False)


def _lengths(c: Contents, kind: TensorType, types: Types, given: Attributes) -> np.ndarray:
    count, bags = _kind(types, 1).shape[0], kind.shape[0]
    if not bags:
        if count:
            raise Illegal
        return np.zeros(0)
    cuts = np.sort(c.rng.integers(0, count + 1, bags - 1))
    return np.diff(np.concatenate([[0], cuts, [count]]))


def _fused(c: Contents, kind: TensorType, types: Types, given: Attributes) -> np.ndarray:
    bits, columns = int(str(given["bits"])), int(str(given["columns"]))
    real = np.float32 if bits == 8 else np.float16
    rows = kind.shape[0]
    codes = c.rng.integers(0, 256, (rows, -(-columns * bits // 8))).astype(np.uint8)
    ends = [c.rng.integers(-4, 5, (rows, 1)).astype(real) / real(4) for _ in range(2)]
    return np.concatenate([codes, *(end.view(np.uint8) for end in ends)], axis=1)


def _scale(c: Contents, kind: TensorType, types: Types, given: Attributes) -> np.ndarray:
    if kind.format == f.E8M0:
        return c.rng.integers(122, 132, kind.shape).astype(np.uint8).view(kind.format.dtype)
    powers = np.exp2(c.rng.integers(-5, 4, kind.shape))
    return powers if c.mode is Mode.GRID else powers * c.rng.uniform(1, 2, kind.shape)


def _code_zero(c: Contents, kind: TensorType, types: Types, given: Attributes) -> np.ndarray:
    if kind.format.is_float:  # narrow floats have no other zero point
        return np.zeros(kind.shape, kind.format.dtype)
    return c.general(kind)


def _multiplier(c: Contents, kind: TensorType, types: Types, given: Attributes) -> np.ndarray:
    if kind.format == f.INT32:
        return c.rng.integers(1 << 30, 1 << 31, kind.shape)
    return np.exp2(c.rng.uniform(-24, 0, kind.shape))


def _shift(c: Contents, kind: TensorType, types: Types, given: Attributes) -> np.ndarray:
    return c.rng.integers(31, 55, kind.shape)


def _bits(c: Contents, kind: TensorType, types: Types, given: Attributes) -> np.ndarray:
    return c.rng.integers(0, kind.format.bits, kind.shape)


def _steps(c: Contents, kind: TensorType, types: Types, given: Attributes) -> np.ndarray:
    x = _kind(types, 0)
    return c.rng.integers(1, x.shape[1 if given.get("layout") else 0] + 1, kind.shape)


def _variance(c: Contents, kind: TensorType, types: Types, given: Attributes) -> np.ndarray:
    return np.exp2(c.rng.integers(-4, 5, kind.shape))


def _base(c: Contents, kind: TensorType, types: Types, given: Attributes) -> np.ndarray:
    if kind.format.is_integer:
        return c.rng.integers(-9, 10, kind.shape)
    return c.rng.choice([0.5, 1.0, 1.7, 2.0, 3.3, 9.0, -2.0, 0.0], kind.shape)


def _exponent(c: Contents, kind: TensorType, types: Types, given: Attributes) -> np.ndarray:
    whole = c.rng.integers(0, 5, kind.shape)
    if kind.format.is_float and c.rng.random() < 0.4:
        return whole - 1.5
    return whole


def _threshold(c: Contents, kind: TensorType, types: Types, given: Attributes) -> np.ndarray:
    return c.rng.choice([0.0, 0.25, 0.5, 0.75], kind.shape)


#: Operands with a meaning, by op and position. They are always fresh: no other value fits.
ROLES: Mapping[tuple[str, int], Maker] = {
    ("Gather", 1): _index,
    ("GatherElements", 1): _index,
    ("ScatterElements", 1): _permutation,
    ("GatherND", 1): _places,
    ("ScatterND", 1): _places,
    ("SparseLengthsSum", 1): _rows,
    ("SparseLengthsSum", 2): _lengths,
    ("SparseLengthsSumFused", 0): _fused,
    ("SparseLengthsSumFused", 1): _rows,
    ("SparseLengthsSumFused", 2): _lengths,
    **{(op, 1): _scale for op in ("Quantize", "Dequantize")},
    **{(op, 2): _code_zero for op in ("Quantize", "Dequantize")},
    **{("ScaledMatMul", index): _scale for index in (2, 3)},
    ("Requantize", 1): _multiplier,
    ("Requantize", 2): _shift,
    ("BitShift", 1): _bits,
    **{(op, 4): _steps for op in ("LSTM", "GRU", "RNN")},
    ("BatchNormalization", 4): _variance,
    ("Pow", 0): _base,
    ("Pow", 1): _exponent,
    **{("NonMaxSuppression", index): _threshold for index in (2, 3)},
}


def contents_of(
    c: Contents, op: str, index: int, types: Types, attributes: Attributes
) -> np.ndarray | None:
    """Contents of an operand that has a meaning; None if any will do.

    Raises:
        Illegal: There are none, for these types.
    """
    maker = ROLES.get((op, index))
    if maker is None:
        return None
    kind = _kind(types, index)
    made = np.asarray(maker(c, kind, types, attributes))
    return made if made.dtype == kind.format.dtype else made.astype(kind.format.dtype)
