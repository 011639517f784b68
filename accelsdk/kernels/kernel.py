"""What a kernel is, and the few tools that every kernel module uses.

A *binder* looks at a node once (attributes, axes, strides, formats) and returns a *kernel*: a
function that takes one array per operand (None where one was left out) and only computes.
Kernels are pure: they write none of their operands, may run on several threads at once, and
may return views of their operands (movement ops do).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from accelsdk.formats import BFLOAT16, FLOAT16, Format, by_name
from accelsdk.graph.graph import Node
from accelsdk.graph.opdef import required
from accelsdk.graph.ops import attribute
from accelsdk.graph.types import Shape

Kernel = Callable[..., tuple[NDArray[Any], ...]]
Binder = Callable[[Node], Kernel]
Binders = Mapping[str, Binder]
#: A function of arrays that does not look at formats.
Function = Callable[..., NDArray[Any]]

#: Elements handled at a time by kernels with several temporaries, which then stay in cache.
BLOCK = 1 << 14


def integer(node: Node, name: str) -> int:
    """Returns an integer or flag attribute, its default filled in."""
    return cast("int", attribute(node, name))


def real(node: Node, name: str) -> float:
    """Returns a float attribute, its default filled in."""
    return float(cast("float", attribute(node, name)))


def text(node: Node, name: str) -> str:
    """Returns a string attribute, its default filled in."""
    return cast("str", attribute(node, name))


def integers(node: Node, name: str) -> tuple[int, ...]:
    """Returns an attribute that is a tuple of integers, its default filled in."""
    return tuple(cast("tuple[int, ...]", attribute(node, name)))


def reals(node: Node, name: str) -> tuple[float, ...]:
    """Returns an attribute that is a tuple of floats, its default filled in."""
    return tuple(cast("tuple[float, ...]", attribute(node, name)))


def format_of(node: Node, name: str) -> Format:
    """Returns the format that an attribute names."""
    return by_name(text(node, name))


def shape_of(node: Node, index: int) -> Shape:
    """Returns the shape of an operand that must be there."""
    return required(node, index).shape


def operand_format(node: Node, index: int) -> Format:
    """Returns the format of an operand that must be there."""
    return required(node, index).format


def axis_of(node: Node, name: str = "axis", operand: int = 0) -> int:
    """Returns an axis attribute as a non-negative number."""
    return integer(node, name) % max(len(shape_of(node, operand)), 1)


def axes_of(node: Node, name: str = "axes") -> tuple[int, ...]:
    """Returns an axes attribute as non-negative numbers."""
    rank = max(len(shape_of(node, 0)), 1)
    return tuple(axis % rank for axis in integers(node, name))


def wants(node: Node, index: int) -> bool:
    """Says whether somebody reads result ``index``."""
    return index < len(node.outputs) and node.outputs[index] is not None


def trailing(*index: slice | int | None) -> tuple[Any, ...]:
    """Returns the index that applies to the last axes."""
    return (..., *index)


def is_half(fmt: Format) -> bool:
    """Says whether a format is computed with in float32, and rounded to at the end."""
    return fmt is FLOAT16 or fmt is BFLOAT16


def computing(fmt: Format, function: Function) -> Function:
    """Returns ``function`` for operands of ``fmt``: 16-bit floats go through float32.

    float32 has more than twice their precision plus two bits, so that sums, products,
    quotients and square roots of normal range round as if once (Figueroa, SIGNUM 30(3), 1995).
    """
    if not is_half(fmt):
        return function
    dtype = fmt.dtype

    def through_float32(*operands: NDArray[Any]) -> NDArray[Any]:
        return function(*(x.astype(np.float32) for x in operands)).astype(dtype)

    return through_float32


def one(function: Function) -> Kernel:
    """Returns the kernel of a function with one result."""

    def kernel(*operands: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        return (np.asarray(function(*operands)),)

    return kernel
