"""Attention with masks of every shape, many heads, wide heads and long rows of keys."""

from __future__ import annotations

from typing import Any

import numpy as np

from accelsdk.formats import BOOL, Format
from accelsdk_conformance.case import Case
from accelsdk_conformance.generators import data
from accelsdk_conformance.generators.composite import attention_problem
from accelsdk_conformance.oracles.tensor import F64, Tensor, encode
from accelsdk_conformance.problem import Context, Problem

#: Extents by name: items, heads of Q, heads of K and V, queries, keys, and both widths.
_Extents = tuple[int, int, int, int, int, int, int]


def attention(case: Case, context: Context) -> Problem:
    """Attention of given extents.

    The extents are items, heads, heads of keys, queries, keys, size of a head, size of a value.
    The mask is ``bool`` or ``float`` and has an axis for each letter of ``axes``: B, H, L and S
    are those of the scores, 1 broadcasts. With ``found``, some queries see one key above all
    others.
    """
    fmt = data.format_of(case, 0)
    given = case.parameters
    rng = data.rng(case, context)
    batch, heads, groups, rows, keys, size, width = _extents(given["extents"])
    q = rng.normal(size=(batch, heads, rows, size))
    k = rng.normal(size=(batch, groups, keys, size))
    v = rng.normal(size=(batch, groups, keys, width))
    if given.get("found", 0):
        _found(q, k)
    kind, extents = str(given.get("mask", "none")), (batch, heads, rows, keys)
    mask = None if kind == "none" else _mask(kind, str(given["axes"]), extents, fmt, rng)
    # What ONNX's attribute of 32 bits holds.
    scale = float(np.float32(given.get("scale", 0.0)))
    attributes: dict[str, Any] = {"scale": scale, "is_causal": int(given.get("causal", 0))}
    operands = (encode(q, fmt), encode(k, fmt), encode(v, fmt), mask)
    return attention_problem(operands, attributes, context)


def _extents(given: list[int]) -> _Extents:
    batch, heads, groups, rows, keys, size, width = given
    return batch, heads, groups, rows, keys, size, width


def _found(q: F64, k: F64) -> None:
    """Turns keys towards queries, from the last key to the first as queries go on.

    A row of many keys is the mean of many values else, of which none counts for much. A key is
    turned towards one head of those that share it, of each query another; where there are more
    queries than keys, towards the last of the queries that come to it.
    """
    rows, keys = q.shape[2], k.shape[2]
    each = q.shape[1] // k.shape[1]
    size = np.sqrt(q.shape[3])
    for row in range(rows):
        place = (keys - 1 - row * keys // rows) % keys
        for head in range(k.shape[1]):
            found = q[:, head * each + row % each, row]
            length = np.sqrt((found * found).sum(axis=-1, keepdims=True))
            k[:, head, place] = found * size / length


def _mask(
    kind: str, axes: str, extents: tuple[int, ...], fmt: Format, rng: np.random.Generator
) -> Tensor:
    """Returns a mask whose items, heads and queries differ, as far as it has an axis for them."""
    named = dict(zip("BHLS", extents, strict=True))
    shape = () if axes == "scalar" else tuple(named.get(letter, 1) for letter in axes)
    seen = np.asarray(rng.random(shape) < 0.6)
    if seen.size:
        seen.reshape(-1)[-1] = True  # of a mask of one element, the one
    if kind == "bool":
        return Tensor(BOOL, seen.astype(np.uint8))
    added = np.rint(rng.normal(size=shape) * 8) / 8
    return encode(np.where(seen, added, -np.inf), fmt)
