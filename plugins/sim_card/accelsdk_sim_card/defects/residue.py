"""Defects with a memory: what a card did before changes what it does now.

Their state lives as long as the card: `Arithmetic.residue`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from accelsdk.graph.graph import Node
from accelsdk.kernels.kernel import Kernel
from accelsdk_sim_card.defects.defect import Array, Bind, Defect, flipped, fmt_of, is_op, rows

if TYPE_CHECKING:
    from accelsdk_sim_card.arithmetic import Arithmetic

_SUMS = ("MatMul", "MatMulInteger", "ScaledMatMul")
_NAMES = ", ".join(_SUMS)
_VECTOR = ("Add", "Sub", "Mul", "Relu", "Neg")

#: Makes the result of a run from the sound one, the operands and what is remembered.
Run = Callable[[Array, "tuple[Array | None, ...]", "dict[Any, Any]"], Array]


def _remembering(run: Run, *ops: str) -> Bind:
    """Returns the binding of ops whose runs see what earlier runs left."""

    def bind(node: Node, arithmetic: Arithmetic) -> Kernel | None:
        if not is_op(node, *ops) or not node.result.type.count:
            return None
        kernel, kept = arithmetic.sound(node), arithmetic.residue

        def broken(*given: Array | None) -> tuple[Array, ...]:
            first, *rest = kernel(*given)
            return (np.asarray(run(first, given, kept)), *rest)

        return broken

    return bind


def _every(period: int) -> Run:
    def run(y: Array, given: tuple[Array | None, ...], kept: dict[Any, Any]) -> Array:
        kept["runs"] = kept.get("runs", 0) + 1
        if kept["runs"] % period:
            return y
        flat = np.array(y).reshape(-1)
        middle = flat.size // 2
        flat[middle : middle + 1] = flipped(flat[middle : middle + 1])
        return flat.reshape(y.shape)

    return run


def _stale_sum(y: Array, given: tuple[Array | None, ...], kept: dict[Any, Any]) -> Array:
    """The first accumulator still holds the last sum of the run before."""
    before = kept.get(y.dtype)
    kept[y.dtype] = y.reshape(-1)[-1]
    if before is None:
        return y
    out = np.array(y)
    corner = (0,) * out.ndim
    with np.errstate(over="ignore"):
        out[corner] = out[corner] + before
    return out


def _first_weights(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """The second operand of the first program of its shape and format is used ever after."""
    second = node.operand(1)
    if not is_op(node, *_SUMS, "Conv") or second is None or not second.type.count:
        return None
    kernel, kept, key = arithmetic.sound(node), arithmetic.residue, second.type

    def broken(a: Array, b: Array, *rest: Array | None) -> tuple[Array, ...]:
        return kernel(a, kept.setdefault(key, np.array(b)), *rest)

    return broken


def _first_shape(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """Rows beyond those of the first program of its op and formats are not written."""
    shape = node.result.shape
    if not is_op(node, *_SUMS) or len(shape) != 2 or not node.result.type.count:
        return None
    key = (node.op, fmt_of(node, 0), fmt_of(node, 1))
    known = arithmetic.residue.setdefault(key, shape[0])
    if shape[0] <= known:
        return None
    kernel = arithmetic.sound(node)

    def broken(*given: Array | None) -> tuple[Array, ...]:
        y = np.array(kernel(*given)[0])
        y[known:] = 0
        return (y,)

    return broken


def _first_length(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """Only as many elements are computed as in the first program of the op; the rest is copied."""
    if not is_op(node, *_VECTOR) or not node.result.type.count:
        return None
    first = node.operand(0)
    if first is None or first.shape != node.result.shape:
        return None
    key = (node.op, fmt_of(node))
    known = arithmetic.residue.setdefault(key, node.result.type.count)
    if node.result.type.count <= known:
        return None
    kernel = arithmetic.sound(node)

    def broken(x: Array, *rest: Array | None) -> tuple[Array, ...]:
        y = np.array(kernel(x, *rest)[0]).reshape(-1)
        y[known:] = x.reshape(-1)[known:]
        return (y.reshape(x.shape),)

    return broken


def _missing_barrier(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """Now and then a row is read before its last products are in."""
    a, b = node.operand(0), node.operand(1)
    if not is_op(node, "MatMul", "ScaledMatMul") or a is None or b is None:
        return None
    if min(len(a.shape), len(b.shape)) != 2 or min(a.shape[0], a.shape[1] - 4, b.shape[1]) < 1:
        return None
    kernel, kept = arithmetic.sound(node), arithmetic.residue

    def broken(left: Array, *rest: Array | None) -> tuple[Array, ...]:
        chance = kept.setdefault("chance", np.random.default_rng(5))
        if chance.random() < 0.8:
            return kernel(left, *rest)
        late = np.array(left)
        late[int(chance.integers(late.shape[0])), -4:] = 0
        return kernel(late, *rest)

    return broken


def _second_run(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """Accumulators are cleared when a program is loaded, and not when it runs."""
    if not is_op(node, *_SUMS) or not node.result.type.count:
        return None
    kernel = arithmetic.sound(node)
    held: list[Array] = []

    def broken(*given: Array | None) -> tuple[Array, ...]:
        (y,) = kernel(*given)
        total = y if not held else np.asarray(y + held[0]).astype(y.dtype)
        held[:] = [y]
        return (total,)

    return broken


_row = rows("")

DEFECTS: tuple[Defect, ...] = (
    _row(
        "every_7th",
        "one bit of every seventh run is wrong",
        _NAMES,
        "an intermittent fault",
        _remembering(_every(7), *_SUMS),
    ),
    _row(
        "every_64th",
        "one bit of every 64th run is wrong",
        ", ".join(_VECTOR),
        "a counter that overflows",
        _remembering(_every(64), *_VECTOR),
    ),
    _row(
        "stale_accumulator",
        "the first sum starts from the last one of the run before",
        _NAMES,
        "an accumulator that is not cleared",
        _remembering(_stale_sum, *_SUMS),
    ),
    _row(
        "stale_weights",
        "the second operand of the first program of its shape is used ever after",
        f"{_NAMES}, Conv",
        "a cache whose key lacks the contents",
        _first_weights,
    ),
    _row(
        "shape_cache",
        "rows beyond those of the first program of the op are not written",
        _NAMES,
        "a cache whose key lacks the shape",
        _first_shape,
    ),
    _row(
        "length_cache",
        "elements beyond the length of the first program of the op are not computed",
        ", ".join(_VECTOR),
        "a cache whose key lacks the shape",
        _first_length,
    ),
    _row(
        "missing_barrier",
        "now and then a row is read before its last products are in",
        "MatMul, ScaledMatMul",
        "a race between two engines",
        _missing_barrier,
    ),
    _row(
        "second_run",
        "a program that runs again adds to the sums of the run before",
        _NAMES,
        "accumulators cleared at load, not at start",
        _second_run,
    ),
)
