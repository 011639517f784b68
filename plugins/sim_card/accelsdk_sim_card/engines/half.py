"""The matrix engine on float16 and bfloat16, where a preset says how its unit accumulates."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.graph.graph import CORE, Node
from accelsdk.kernels.kernel import (
    Kernel,
    is_half,
    operand_format,
    shape_of,
)
from accelsdk.numerics import codec
from accelsdk.numerics.accumulate import AccumulatorSpec
from accelsdk.numerics.rounding import Overflow
from accelsdk_sim_card.engines import accumulator
from accelsdk_sim_card.engines.narrow import stacked
from accelsdk_sim_card.engines.windows import Windows

Array = NDArray[Any]

#: Ops that the matrix engine computes by itself.
OPS = ("MatMul", "Conv")


def concerns(node: Node) -> bool:
    """Says whether a node is a product of 16-bit floats."""
    first = node.operand(0)
    return node.domain == CORE and node.op in OPS and first is not None and is_half(first.format)


def bind(node: Node, spec: AccumulatorSpec) -> Kernel:
    """Returns the kernel of a MatMul or Conv: float32 sums, rounded once to the format."""
    accumulator.check(spec)
    return _bind_matmul(node, spec) if node.op == "MatMul" else _bind_conv(node, spec)


def _bind_matmul(node: Node, spec: AccumulatorSpec) -> Kernel:
    fmt = operand_format(node, 0)
    a_rank, b_rank = len(shape_of(node, 0)), len(shape_of(node, 1))

    def matmul(a: Array, b: Array) -> tuple[Array, ...]:
        left, right = a.astype(np.float64), b.astype(np.float64)
        left = left[None, :] if a_rank == 1 else left
        right = right[:, None] if b_rank == 1 else right
        out = stacked(left, right, (fmt, fmt), spec)
        out = out[..., 0, :] if a_rank == 1 else out
        out = out[..., 0] if b_rank == 1 else out
        return (codec.encode(out, fmt, overflow=Overflow.SPECIAL),)

    return matmul


def _bind_conv(node: Node, spec: AccumulatorSpec) -> Kernel:
    fmt = operand_format(node, 0)
    windows = Windows(node)

    def conv(x: Array, w: Array, bias: Array | None = None) -> tuple[Array, ...]:
        out = np.zeros(windows.shape, np.float32)
        if not windows.empty:
            columns = windows.columns(x.astype(np.float64))
            weights = windows.weights(w.astype(np.float64))
            out = windows.result(stacked(columns, weights, (fmt, fmt), spec))
        if bias is not None:
            out += bias.astype(np.float32)[(slice(None), *(None,) * windows.rank)]
        return (codec.encode(out, fmt, overflow=Overflow.SPECIAL),)

    return conv
