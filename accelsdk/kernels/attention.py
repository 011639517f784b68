"""Attention in one kernel: two batched matrix products around a softmax in place."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.formats import BOOL
from accelsdk.graph.graph import Node
from accelsdk.kernels.kernel import (
    Binders,
    Kernel,
    integer,
    is_half,
    one,
    operand_format,
    real,
    shape_of,
)
from accelsdk.kernels.matmul import product
from accelsdk.kernels.normalization import by_rows, masked_softmax_rows

Array = NDArray[Any]


def _bind_attention(node: Node) -> Kernel:
    q_shape, k_shape = shape_of(node, 0), shape_of(node, 1)
    scale = real(node, "scale") or 1 / math.sqrt(max(q_shape[3], 1))
    half = is_half(operand_format(node, 0))
    mask_value = node.operand(3)
    boolean = mask_value is not None and mask_value.format is BOOL
    causal = np.tri(q_shape[2], k_shape[2], dtype=np.bool_) if integer(node, "is_causal") else None
    repeats = q_shape[1] // max(k_shape[1], 1)

    def attention(q: Array, k: Array, v: Array, mask: Array | None = None) -> Array:
        dtype = q.dtype
        if half:
            q, k, v = (x.astype(np.float32) for x in (q, k, v))
        if repeats > 1:
            k, v = np.repeat(k, repeats, axis=1), np.repeat(v, repeats, axis=1)
        scores = product(q, k.swapaxes(2, 3))
        scores *= scores.dtype.type(scale)
        if mask is not None:
            if boolean:
                np.copyto(scores, -np.inf, where=~mask)
            else:
                scores += mask
        if causal is not None:
            np.copyto(scores, -np.inf, where=~causal)
        return product(by_rows(scores, masked_softmax_rows), v).astype(dtype, copy=False)

    return one(attention)


BINDERS: Binders = {"Attention": _bind_attention}
