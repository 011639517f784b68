"""Variants of float32 products on the vector engine: other orders, wider sums, splits.

They are declared as the sound card's are (at least 24 bits, order unclaimed), or more exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from accelsdk.backend.datasheet import NumericsDatasheet
from accelsdk.formats import FLOAT32
from accelsdk.graph.graph import Node
from accelsdk.kernels.kernel import Kernel
from accelsdk.numerics.accumulate import AccumulatorSpec
from accelsdk_sim_card.defects.defect import Array, Bind, fmt_of, is_op
from accelsdk_sim_card.variants.variant import Declare, Variant

if TYPE_CHECKING:
    from accelsdk_sim_card.arithmetic import Arithmetic

_SINGLE = ("MatMul", "float32", "float32", "float32")


def _products(total: Callable[[Array, Array], Array]) -> Bind:
    """Returns the binding of float32 matrix products that are computed in another way."""

    def bind(node: Node, arithmetic: Arithmetic) -> Kernel | None:
        a, b = node.operand(0), node.operand(1)
        if not is_op(node, "MatMul") or a is None or b is None or fmt_of(node) is not FLOAT32:
            return None
        if min(len(a.shape), len(b.shape)) < 2 or not a.type.count or not b.type.count:
            return None

        def multiply(left: Array, right: Array) -> tuple[Array, ...]:
            return (np.ascontiguousarray(total(left, right), np.float32),)

        return multiply

    return bind


def _terms(a: Array, b: Array, k: int) -> Array:
    return np.asarray(a[..., :, k, None] * b[..., k, None, :])


def _along(places: Iterable[int], a: Array, b: Array) -> Array:
    """Sums the products at these places of K, one after the other."""
    running = np.zeros((), np.float32)
    for k in places:
        running = np.asarray(running + _terms(a, b, k))
    return running


def _in_order(order: Callable[[int], Iterable[int]]) -> Callable[[Array, Array], Array]:
    """Returns a sum of products one after the other."""
    return lambda a, b: _along(order(a.shape[-1]), a, b)


def _parts(count: int) -> Callable[[Array, Array], Array]:
    """Returns a sum of ``count`` contiguous parts of K, each summed in order."""

    def total(a: Array, b: Array) -> Array:
        ends = np.array_split(np.arange(a.shape[-1]), count)
        sums = [_along(part, a, b) for part in ends if len(part)]
        result = sums[0]
        for other in sums[1:]:
            result = np.asarray(result + other)
        return result

    return total


def _strided(a: Array, b: Array) -> Array:
    """Eight lanes, each with every eighth product, joined as a tree."""
    lanes = [_along(range(lane, a.shape[-1], 8), a, b) for lane in range(8)]
    return _tree(lanes)


def _tree(sums: list[Array]) -> Array:
    while len(sums) > 1:
        pairs = [sums[i : i + 2] for i in range(0, len(sums), 2)]
        sums = [np.asarray(p[0] + p[1]) if len(p) > 1 else p[0] for p in pairs]
    return sums[0]


def _pairwise(a: Array, b: Array) -> Array:
    return _tree([_terms(a, b, k) for k in range(a.shape[-1])])


def _wide(a: Array, b: Array) -> Array:
    return np.asarray(np.matmul(a.astype(np.float64), b.astype(np.float64)))


def _fused(a: Array, b: Array) -> Array:
    """Fused multiply-add: product and sum exact to 53 bits, rounded to odd, then once."""
    left, right = a.astype(np.float64), b.astype(np.float64)
    running = np.zeros((), np.float32)
    for k in range(a.shape[-1]):
        product, before = _terms(left, right, k), running.astype(np.float64)
        total = np.asarray(product + before)
        part = total - product
        error = (product - (total - part)) + (before - part)
        bits = total.view(np.int64)
        step = np.where((error > 0) == (total > 0), 1, -1)
        odd = np.where((error != 0) & (bits & 1 == 0) & np.isfinite(total), step, 0)
        running = (bits + odd).view(np.float64).astype(np.float32)
    return running


def _compensated(a: Array, b: Array) -> Array:
    """Kahan's sum."""
    running, lost = np.zeros((), np.float32), np.zeros((), np.float32)
    for k in range(a.shape[-1]):
        term = _terms(a, b, k) - lost
        total = np.asarray(running + term)
        kept = np.where(np.isfinite(total), (total - running) - term, np.float32(0))
        running, lost = total, np.asarray(kept, np.float32)
    return running


def _shuffled() -> Callable[[Array, Array], Array]:
    """Another order in every run, as split-K with atomic additions has."""
    chance = np.random.default_rng(3)
    return lambda a, b: _in_order(chance.permutation)(a, b)


def _limbs(x: Array) -> list[Array]:
    """Cuts float32 into three numbers of 8 bits, which hold it exactly.

    Their exponents have the range of the vector unit: no limb of a small number is lost.
    """
    rest = np.where(np.isfinite(x), x, 0).astype(np.float64)
    parts: list[Array] = []
    for _ in range(3):
        step = np.ldexp(1.0, np.frexp(rest)[1] - 8)
        part = np.where(rest == 0, 0.0, np.trunc(rest / step) * step)
        rest = rest - part
        parts.append(part.astype(np.float32))
    return parts


def _split(depth: int) -> Callable[[Array, Array], Array]:
    """Returns products of bfloat16 limbs whose places add up to less than ``depth``."""

    def total(a: Array, b: Array) -> Array:
        plain = np.asarray(np.matmul(a, b))
        left, right = _limbs(a), _limbs(b)
        places = [(i, j) for i in range(3) for j in range(3) if i + j < depth]
        result = np.zeros(plain.shape, np.float32)
        for i, j in sorted(places, key=sum, reverse=True):  # the smallest first
            result = result + np.matmul(left[i], right[j])
        rows, columns = np.asarray(np.isfinite(a).all(-1)), np.asarray(np.isfinite(b).all(-2))
        return np.where(rows[..., :, None] & columns[..., None, :], result, plain)

    return total


def _strassen(a: Array, b: Array) -> Array:
    """One level of Strassen's algorithm; odd extents are padded."""
    m, k, n = a.shape[-2], a.shape[-1], b.shape[-1]
    if a.ndim > 2 or b.ndim > 2 or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return np.asarray(np.matmul(a, b))
    left = np.pad(a, [(0, m % 2), (0, k % 2)])
    right = np.pad(b, [(0, k % 2), (0, n % 2)])
    a11, a12, a21, a22 = _quarters(left)
    b11, b12, b21, b22 = _quarters(right)
    p1, p2 = (a11 + a22) @ (b11 + b22), (a21 + a22) @ b11
    p3, p4 = a11 @ (b12 - b22), a22 @ (b21 - b11)
    p5, p6 = (a11 + a12) @ b22, (a21 - a11) @ (b11 + b12)
    p7 = (a12 - a22) @ (b21 + b22)
    top = np.concatenate([p1 + p4 - p5 + p7, p3 + p5], axis=1)
    bottom = np.concatenate([p2 + p4, p1 - p2 + p3 + p6], axis=1)
    return np.concatenate([top, bottom])[:m, :n]


def _quarters(x: Array) -> tuple[Array, Array, Array, Array]:
    i, j = x.shape[0] // 2, x.shape[1] // 2
    return x[:i, :j], x[:i, j:], x[i:, :j], x[i:, j:]


def _claiming(claim: Callable[[AccumulatorSpec], AccumulatorSpec]) -> Declare:
    """Returns the maker of a datasheet with another claim for float32 products."""

    def declare(sheet: NumericsDatasheet) -> NumericsDatasheet:
        spec = claim(sheet.contractions[_SINGLE])
        return replace(sheet, contractions={**sheet.contractions, _SINGLE: spec})

    return declare


def _row(
    name: str,
    summary: str,
    legal: str,
    total: Callable[[Array, Array], Array],
    claim: Callable[[AccumulatorSpec], AccumulatorSpec] = lambda spec: spec,
) -> Variant:
    return Variant(
        f"order_{name}",
        summary,
        legal,
        "MatMul",
        bind=_products(total),
        declare=_claiming(claim),
    )


_FREE = "the order of sums is unclaimed"

VARIANTS: tuple[Variant, ...] = (
    _row("sequential", "products are summed from first to last", _FREE, _in_order(range)),
    _row(
        "reversed",
        "products are summed from last to first",
        _FREE,
        _in_order(lambda k: range(k)[::-1]),
    ),
    _row("pairwise", "products are summed as a tree", _FREE, _pairwise),
    _row("split_2", "two parts of K are summed apart", _FREE, _parts(2)),
    _row("split_4", "four parts of K are summed apart", _FREE, _parts(4)),
    _row("split_8", "eight parts of K are summed apart", _FREE, _parts(8)),
    _row("strided", "eight lanes with every eighth product", "vector units of eight", _strided),
    _row("wide", "sums of 53 bits, rounded once", "more bits than claimed", _wide),
    _row("compensated", "Kahan's sum", "more bits than claimed", _compensated),
    _row(
        "fused",
        "fused multiply-add, from first to last, claimed to the bit",
        "declared bit_exact",
        _fused,
        lambda spec: replace(
            spec,
            guarantee="bit_exact",
            width=1,
            order="contiguous",
            tree="sequential",
            align_bits=None,
        ),
    ),
    _row(
        "shuffled",
        "another order in every run",
        "declared: not deterministic",
        _shuffled(),
        lambda spec: replace(spec, deterministic=False),
    ),
    _row(
        "bf16x9",
        "nine products of bfloat16 limbs",
        "declared input_precision",
        _split(5),
        lambda spec: replace(spec, input_precision="bf16x9"),
    ),
    _row(
        "bf16x6",
        "six products of bfloat16 limbs",
        "declared input_precision",
        _split(3),
        lambda spec: replace(spec, input_precision="bf16x6"),
    ),
    _row(
        "strassen",
        "one level of Strassen's algorithm",
        "declared algorithm",
        _strassen,
        lambda spec: replace(spec, algorithm="strassen"),
    ),
)
