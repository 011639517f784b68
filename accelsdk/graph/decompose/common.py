"""Attribute access and small shape steps that decompositions share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from accelsdk.formats import BFLOAT16, FLOAT16, FLOAT32, Format
from accelsdk.graph.graph import Attribute, Node
from accelsdk.graph.types import Value

if TYPE_CHECKING:
    from accelsdk.graph.rewrite import Builder


def given(node: Node, name: str) -> Attribute:
    """Returns an attribute of a core node with its default filled in."""
    # Imported here: the table, which holds the defaults, is made of rows that name us.
    from accelsdk.graph.ops import attribute

    return attribute(node, name)


def whole(node: Node, name: str) -> int:
    """Returns an integer attribute."""
    return cast("int", given(node, name))


def floating(node: Node, name: str) -> float:
    """Returns a float attribute."""
    return cast("float", given(node, name))


def text(node: Node, name: str) -> str:
    """Returns a string attribute."""
    return cast("str", given(node, name))


def axes_of(node: Node, rank: int) -> tuple[int, ...]:
    """Returns the ``axes`` attribute as non-negative numbers."""
    return tuple(axis % rank for axis in cast("tuple[int, ...]", given(node, "axes")))


def cast_to(b: Builder, x: Value, format: Format) -> Value:
    """Emits a Cast, unless ``x`` has that format already."""
    return x if x.format == format else b.op("Cast", x, to=format.name)


def widened(b: Builder, x: Value) -> Value:
    """Brings ``x`` to float32 at least: 16-bit floats neither hold nor count long sums."""
    return cast_to(b, x, FLOAT32) if x.format in (FLOAT16, BFLOAT16) else x


def reshape(b: Builder, x: Value, *shape: int) -> Value:
    """Emits a Reshape, unless ``x`` has that shape already."""
    return x if x.shape == shape else b.op("Reshape", x, shape=shape)


def transpose(b: Builder, x: Value, *perm: int) -> Value:
    """Emits a Transpose, unless it would permute nothing."""
    return x if perm == tuple(range(len(perm))) else b.op("Transpose", x, perm=perm)


def joined(b: Builder, parts: Sequence[Value], axis: int) -> Value:
    """Emits a Concat, unless there is one part alone."""
    return parts[0] if len(parts) == 1 else b.op("Concat", *parts, axis=axis)
