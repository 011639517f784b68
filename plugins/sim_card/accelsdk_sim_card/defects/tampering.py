"""What defects of several modules do alike: the changes of operands, results and attributes."""

from __future__ import annotations

from collections.abc import Callable
from types import EllipsisType
from typing import TYPE_CHECKING, Any

import numpy as np

from accelsdk.formats import BFLOAT16, from_dtype
from accelsdk.graph.graph import Node
from accelsdk.kernels.kernel import Kernel, real
from accelsdk_sim_card.defects.defect import (
    Array,
    Bind,
    Change,
    Tamper,
    When,
    flipped,
    is_op,
    with_attributes,
)

if TYPE_CHECKING:
    from accelsdk_sim_card.arithmetic import Arithmetic

_Place = int | slice | EllipsisType


# -- parts of a tensor -------------------------------------------------------------------------


def _from(axis: int, start: int, rank: int) -> tuple[slice, ...]:
    """Returns the place of what lies from an index on along an axis of so many."""
    return (*(slice(None),) * (axis % rank), slice(start, None))


def flip(*place: _Place) -> Change:
    """Returns the change that flips one bit of every element at a place of the result."""

    def change(y: Array, node: Node) -> Array:
        y[place] = flipped(y[place])
        return y

    return change


def wrong_from(
    axis: int, start: int, view: Callable[[Node], tuple[int, ...]] | None = None
) -> Change:
    """Returns the change of one bit of every element from an index on along an axis.

    Args:
        axis: Counted from the first axis, or, if negative, from the last.
        start: The first index that is wrong; if negative, counted from the end.
        view: The shape in which the result is looked at; None for its own.
    """

    def change(y: Array, node: Node) -> Array:
        seen = y if view is None else y.reshape(view(node))
        return flip(*_from(axis, start, seen.ndim))(seen, node).reshape(y.shape)

    return change


def zeroed_from(index: int, axis: int, start: int) -> Tamper:
    """Returns the change that makes an operand zero from an index on along an axis.

    Args:
        index: Of the operand.
        axis: Counted from the first axis, or, if negative, from the last.
        start: The first index that is lost.
    """

    def change(found: list[Any], node: Node) -> None:
        kept = np.array(found[index])
        kept[_from(axis, start, kept.ndim)] = 0
        found[index] = kept

    return change


def rolled(index: int) -> Tamper:
    """Returns the change that reads each element of an operand from the place before its own."""

    def change(found: list[Any], node: Node) -> None:
        found[index] = np.roll(found[index], 1)

    return change


# -- numbers -----------------------------------------------------------------------------------


def clamped(low: float, high: float) -> Tamper:
    """Returns the change that takes numbers of the first operand beyond two ends for the ends."""

    def change(found: list[Any], node: Node) -> None:
        x = found[0]
        found[0] = np.clip(x, x.dtype.type(low), x.dtype.type(high))

    return change


def without_subnormals(x: Array) -> Array:
    """Returns numbers with zero in place of those below the smallest normal one."""
    smallest = from_dtype(x.dtype).smallest_normal
    return np.where(np.abs(x.astype(np.float64)) < smallest, x.dtype.type(0), x)


def flush_results(y: Array, node: Node) -> Array:
    """Makes zeros of subnormal results."""
    return without_subnormals(y)


def flush_operands(found: list[Any], node: Node) -> None:
    """Reads subnormal numbers of the first two operands as zeros."""
    found[:2] = [without_subnormals(x) for x in found[:2]]


def through_bfloat16(x: Array) -> Array:
    """Returns numbers that bfloat16 has held, in the format that they had."""
    return x.astype(BFLOAT16.dtype).astype(x.dtype)


def through_float(x: Array, held: type[np.floating[Any]], *, exact_end: bool = True) -> Array:
    """Returns integers that a float has held; those that are too large on the way back saturate.

    Args:
        x: Integers of 32 bits or more; anything else stays as it is.
        held: The float.
        exact_end: Whether they become the largest integer of their format, rather than the
            largest that the float can hold.
    """
    if x.dtype.kind not in "iu" or x.dtype.itemsize < 4:
        return x
    largest, near = np.iinfo(x.dtype).max, x.astype(held)
    end = largest if exact_end else int(np.nextafter(held(largest), held(0)))
    beyond = near >= held(largest)
    return np.where(beyond, end, np.where(beyond, 0, near).astype(x.dtype)).astype(x.dtype)


def integers_through(held: type[np.floating[Any]], *indices: int, exact_end: bool = True) -> Tamper:
    """Returns the change of operands whose integers go through a float; see `through_float`.

    Args:
        held: The float.
        indices: Of the operands; none for all of them.
        exact_end: As of `through_float`.
    """

    def change(found: list[Any], node: Node) -> None:
        for index in indices or range(len(found)):
            if found[index] is not None:
                found[index] = through_float(found[index], held, exact_end=exact_end)

    return change


# -- attributes --------------------------------------------------------------------------------


def bfloat16(value: float) -> float:
    """Returns a value rounded to bfloat16."""
    return float(np.float32(value).astype(BFLOAT16.dtype))


def held_as(convert: Callable[[float], float], name: str, when: When, *ops: str) -> Bind:
    """Returns the binding of ops that hold a real attribute with less precision.

    Args:
        convert: Returns a value as it is held.
        name: Of the attribute.
        when: Which nodes are concerned.
        ops: Which ops are.
    """

    def bind(node: Node, arithmetic: Arithmetic) -> Kernel | None:
        if not is_op(node, *ops) or not when(node):
            return None
        return arithmetic.sound(with_attributes(node, **{name: convert(real(node, name))}))

    return bind


def coarse(name: str, *ops: str) -> Bind:
    """Returns the binding of ops that hold a real attribute in bfloat16.

    It concerns nodes whose value, which may be the default, is another in bfloat16.
    """
    return held_as(
        bfloat16, name, lambda node: bfloat16(real(node, name)) != real(node, name), *ops
    )
