"""Bounds of sums: linear maps, computed in float64, and once more on magnitudes.

A result is a sum of n terms, each an element or a product of two. Any order of additions is off
by ``gamma_n`` times the sum of the magnitudes, S (docs/numerics.md, T3). On small whole numbers
every partial sum is exact, and the bound is 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from accelsdk import formats as f
from accelsdk.formats import Format
from accelsdk.graph.graph import Node
from accelsdk.graph.opdef import required
from accelsdk.graph.ops import attribute
from accelsdk.graph.types import TensorType, Value
from accelsdk.kernels.api import run
from accelsdk.numerics.embedding import split_rows
from tests.fuzz.carry import Carried, Operands, rounded, tidy, widened

#: Positions of the operands that are added, or multiplied and added.
_TERMS = {
    "MatMul": (0, 1),
    "Conv": (0, 1, 2),
    "ConvTranspose": (0, 1, 2),
    "SparseLengthsSum": (0, 3),
    "SparseLengthsSumFused": (0, 3),
    "ScatterElements": (0, 2),
    "ScatterND": (0, 2),
}

#: Results of the linear map for other contents of some operands.
Map = Callable[[dict[int, np.ndarray]], np.ndarray]


def summed(node: Node, operands: Operands, inner: bool) -> Carried:
    """Returns the sums of a linear node; see `tests.fuzz.carry.carried`."""
    row = node.result.format
    if node.op == "ReduceProd":
        return _multiplied(node, operands)
    if node.op == "Resize":
        found = _resized(node, operands)
    elif node.op == "ScaledMatMul":
        found = _scaled(node, operands)
    else:
        found = _mapped(node, operands, inner)
    narrow = inner and row.precision < 24
    return rounded(found, row) if narrow else found


def _mapped(node: Node, operands: Operands, inner: bool) -> Carried:
    wide, given = _tables(widened(node), operands)
    where = [i for i in _TERMS.get(node.op, (0,)) if i < len(given) and given[i] is not None]

    def apply(arrays: dict[int, np.ndarray]) -> np.ndarray:
        plain = [None if x is None else x.value for x in given]
        (found,) = run(wide, [arrays.get(i, x) for i, x in enumerate(plain)])
        return np.asarray(found, np.float64)

    terms = {i: x for i in where if (x := given[i]) is not None}
    value = apply({})
    if not _adds(node):
        return Carried(value, _reached(value, terms))
    size = apply({i: np.abs(x.value) for i, x in terms.items()})
    passed = np.zeros(value.shape)
    if any(not x.is_exact for x in terms.values()):
        most = apply({i: np.abs(x.value) + x.error for i, x in terms.items()})
        passed = _passed(apply, terms)
        size = most
    # a composite may scale terms before it adds them: then whole numbers are whole no more
    whole = [] if inner else [x.value for x in terms.values()]
    error = passed + _added(node, size, _count(node), whole)
    return _settled(node, value, size, tidy(value, error), terms)


def _adds(node: Node) -> bool:
    return not node.op.startswith("Scatter") or attribute(node, "reduction") in ("add", "mul")


def _reached(value: np.ndarray, terms: dict[int, Carried]) -> np.ndarray:
    exact = all(x.is_exact for x in terms.values())
    return np.zeros(value.shape) if exact else np.full(value.shape, np.inf)


def _passed(apply: Map, terms: dict[int, Carried]) -> np.ndarray:
    """What the errors of the operands make: (|a| + ea)(|b| + eb) - |a||b|, term by term."""
    magnitudes = {i: np.abs(x.value) for i, x in terms.items()}
    errors = {i: x.error for i, x in terms.items()}
    keys = list(terms)
    if len(keys) == 1:
        return apply(errors)
    none = {i: np.zeros_like(m) for i, m in magnitudes.items()}
    first, second = keys[:2]
    most = magnitudes[second] + errors[second]
    total = apply({**none, first: errors[first], second: most})
    total = total + apply({**none, first: magnitudes[first], second: errors[second]})
    if len(keys) == 3:
        total = total + apply({**none, keys[2]: errors[keys[2]]})
    return total


def _count(node: Node) -> int:
    """The most terms of one result, products that are rounded counted twice."""
    shape = required(node, 0).shape
    match node.op:
        case "MatMul":
            return 2 * shape[-1]
        case "Conv":
            return 2 * math.prod(required(node, 1).shape[1:]) + 1
        case "ConvTranspose":
            return 2 * shape[1] * math.prod(required(node, 1).shape[2:]) + 1
        case "ReduceSum":
            axes = attribute(node, "axes")
            return math.prod(shape[axis] for axis in axes) if isinstance(axes, tuple) else 1
        case "CumSum":
            return shape[int(str(attribute(node, "axis")))]
        case "AveragePool":
            return math.prod(_ints(node, "kernel_shape")) + 2
        case "SparseLengthsSum" | "SparseLengthsSumFused":
            return 2 * required(node, 1).type.count + 2
    return 1 + required(node, 1).type.count  # scattered


def _ints(node: Node, name: str) -> tuple[int, ...]:
    found = attribute(node, name)
    return tuple(map(int, found)) if isinstance(found, tuple) else ()


def _added(node: Node, size: np.ndarray, count: int, terms: Sequence[np.ndarray]) -> np.ndarray:
    """T3: the error of ``count`` directed roundings of partial sums up to ``size``."""
    row = node.result.format
    bits = 53 if row == f.FLOAT64 else 24
    if terms and _is_grid(terms, size, bits) and node.op != "AveragePool":
        return np.zeros(size.shape)
    unit = 2.0 ** (1 - bits) * (2 if row == f.FLOAT64 else 1)
    tiny = f.FLOAT64.smallest_subnormal if row == f.FLOAT64 else f.FLOAT32.smallest_subnormal
    gamma = count * unit / (1 - count * unit)
    return np.where(size == 0, 0.0, (gamma * size + count * tiny) * (1 + 2.0**-20))


def _is_grid(terms: Sequence[np.ndarray], size: np.ndarray, bits: int) -> bool:
    """Says whether all terms are multiples of one number, and sums of them exact."""
    quanta = [_quantum(x) for x in terms]
    if len(quanta) > 2:  # a bias is added to products
        product = quanta[0] * quanta[1]
        grid = min(product, quanta[2])
    else:
        grid = math.prod(quanta)
    return bool(grid > 0 and np.all(size < grid * 2.0**bits))


def _quantum(x: np.ndarray) -> float:
    """The largest power of two, from 2**-8, of which all elements are multiples; else 0."""
    if not np.isfinite(x).all():
        return 0.0
    quantum = 0.0
    for power in range(-8, 1):
        scaled = np.ldexp(x, -power)
        if np.all(np.rint(scaled) == scaled):
            quantum = 2.0**power
    return quantum


def _settled(
    node: Node, value: np.ndarray, size: np.ndarray, found: Carried, terms: dict[int, Carried]
) -> Carried:
    """Infinities and NaN of exact operands are certain unless finite sums can overflow."""
    row = f.FLOAT64 if node.result.format == f.FLOAT64 else f.FLOAT32
    if node.op == "AveragePool":
        size = size * _count(node)  # the sum, before it is divided
    error = np.where(np.isfinite(size) & (size > row.max / 2), np.inf, found.error)
    special = ~np.isfinite(value) | ~np.isfinite(size)
    if special.any():
        finite = [
            np.abs(x.value, where=np.isfinite(x.value), out=np.ones(x.value.shape)).max(initial=1.0)
            for x in terms.values()
        ]
        calm = math.prod(finite) * _count(node) < row.max / 2
        exact = all(x.is_exact for x in terms.values())
        error = np.where(special, 0.0 if calm and exact else np.inf, error)
    return tidy(value, error)


def _tables(node: Node, operands: Operands) -> tuple[Node, list[Carried | None]]:
    """Fused rows as the float64 rows that they stand for."""
    given = list(operands)
    if node.op != "SparseLengthsSumFused":
        return node, given
    columns, bits = int(str(attribute(node, "columns"))), int(str(attribute(node, "bits")))
    codes, scale, bias = split_rows(given[0].value, columns, bits)
    product = codes.astype(np.float64) * scale
    value = product + bias
    error = 2.0**-22 * (np.abs(product) + np.abs(bias)) if not _exact_rows(value) else 0 * value
    given[0] = Carried(value, error)
    table = Value("table", TensorType(f.FLOAT64, value.shape))
    return replace(
        node, op="SparseLengthsSum", inputs=(table, *node.inputs[1:]), attributes={}
    ), given


def _exact_rows(value: np.ndarray) -> bool:
    return _quantum(value) > 0 and bool(np.all(np.abs(value) < 2.0**15))


def _scaled(node: Node, operands: Operands) -> Carried:
    """ScaledMatMul: products of codes are exact, each is scaled, and they are added."""
    a, b, sa, sb = (x.value for x in operands if x is not None)
    a_format, b_format = required(node, 0).format, required(node, 1).format
    if a_format == f.MXINT8:
        a = a / 64.0
    if b_format == f.MXINT8:
        b = b / 64.0
    if attribute(node, "block_size"):
        k = a.shape[1]
        sa, sb = np.repeat(_power(sa), 32, axis=1)[:, :k], np.repeat(_power(sb), 32, axis=0)[:k]
    a, b = np.asarray(a * sa, np.float64), np.asarray(b * sb, np.float64)
    value, size = a @ b, np.abs(a) @ np.abs(b)
    count = 2 * a.shape[1] + 4
    gamma = count * 2.0**-23 / (1 - count * 2.0**-23)
    # Exponents of subnormal operands align sums at more than their magnitude.
    error = gamma * size + count * f.FLOAT32.smallest_subnormal
    error = np.where(size == 0, 0.0, error)
    terms = {0: Carried(a, 0 * a), 1: Carried(b, 0 * b)}
    return _settled(node, value, size, tidy(value, error), terms)


def _power(scale: np.ndarray) -> np.ndarray:
    if scale.dtype == np.float64:
        return scale
    codes = scale.view(np.uint8).astype(np.float64)
    return np.where(codes == 255, np.nan, np.exp2(codes - 127))


def _resized(node: Node, operands: Operands) -> Carried:
    """Weights are functions of coordinates, which float32 holds to 2**-23 of the extent."""
    x = operands[0]
    if x is None:
        raise ValueError("Resize without data")
    (value,) = run(widened(node), [x.value])
    nearest = attribute(node, "mode") == "nearest"
    if nearest and x.is_exact:
        return Carried(value, np.zeros(value.shape))
    if not np.isfinite(x.value).all():
        return Carried(value, np.full(value.shape, np.inf))
    extent = max((*required(node, 0).shape, *node.result.shape, 1))
    # 4 taps an axis, weights below 2.5 in sum an axis: 16 terms of at most 8 times the largest.
    size = 8 * np.max(np.abs(x.value) + x.error, initial=0.0)
    error = (32 + 16 * extent) * 2.0**-23 * size
    if size > (f.FLOAT64 if node.result.format == f.FLOAT64 else f.FLOAT32).max:
        error = np.inf
    return tidy(value, np.full(value.shape, error + 8 * np.max(x.error, initial=0.0)))


def _multiplied(node: Node, operands: Operands) -> Carried:
    """Products in any order: relative errors add up; a factor beyond the range frees."""
    x = operands[0]
    if x is None:
        raise ValueError("ReduceProd without data")
    row: Format = node.result.format
    wide = widened(node)
    (value,) = run(wide, [x.value])
    (most,) = run(wide, [np.maximum(np.abs(x.value), 1.0)])
    (least,) = run(wide, [np.where(x.value == 0, 1.0, np.minimum(np.abs(x.value), 1.0))])
    if not x.is_exact:
        return Carried(value, np.full(value.shape, np.inf))
    axes = _ints(node, "axes")
    count = math.prod(required(node, 0).shape[axis] for axis in axes)
    unit = 2.0 ** (1 - row.precision) * (2 if row == f.FLOAT64 else 1)
    error = count * unit * np.abs(value) * (1 + 2.0**-8)
    risky = ~(most < row.max / 2) | ~(least > row.smallest_normal * 4)
    grid = bool(np.all(x.value == np.rint(x.value)) and np.all(most < 2.0**row.precision))
    return tidy(value, np.where(risky, np.inf, 0.0 if grid else error))
