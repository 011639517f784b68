"""How a value carries an open dimension, and what the rules of ops are written with.

The *rows* of a value are its parts along the open dimension: row r of every input belongs
together. A value carries rows along one axis, whose extent is ``outer * n * inner`` for n rows:
a Reshape of [n, 32, 384] to [n * 32, 384] leaves ``inner`` = 32, a Transpose before it ``outer``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import cast

from accelsdk.graph.graph import Attribute, Node
from accelsdk.graph.ops import attribute
from accelsdk.graph.types import Shape


@dataclass(frozen=True, slots=True)
class Rows:
    """Where a value carries the open dimension.

    Attributes:
        axis: Of the value.
        outer: The axis is ``outer`` stretches one after the other, each of all rows.
        inner: Items of a row in each stretch.
        alike: Whether all items along the axis are equal, so that any other ``outer`` and
            ``inner`` of the same product would be as true.
        numbered: Whether rows are equal but for item 0 of the last axis, which is the number
            of the row: indices that exporters make to pick from each row. Only what picks by
            them may read such a value.
    """

    axis: int
    outer: int = 1
    inner: int = 1
    alike: bool = False
    numbered: bool = False

    def extent(self, rows: int) -> int:
        """Returns the extent of the axis for a number of rows."""
        return self.outer * rows * self.inner

    def on(self, axis: int) -> Rows:
        """Returns the same rows on another axis."""
        return replace(self, axis=axis)

    def shape(self, shape: Shape, rows: int) -> Shape:
        """Returns ``shape`` with the axis as it is for another number of rows."""
        return (*shape[: self.axis], self.extent(rows), *shape[self.axis + 1 :])


class Mixed(Exception):
    """Rows meet, or cannot be told apart; the text says why, as the end of a sentence."""


@dataclass(frozen=True, slots=True)
class Application:
    """One node, as it is for each extent of the open dimension.

    Attributes:
        nodes: The node, once for each extent.
        extents: Of the open dimension, 2 or more each, all different.
        operands: How each operand carries rows; None: it has none, or is left out.
    """

    nodes: tuple[Node, ...]
    extents: tuple[int, ...]
    operands: tuple[Rows | None, ...]

    @property
    def node(self) -> Node:
        """The node for the first extent."""
        return self.nodes[0]

    def rows(self, index: int) -> Rows | None:
        """Returns how an operand carries rows; None if it does not, or is left out."""
        return self.operands[index] if index < len(self.operands) else None

    def shape(self, index: int, graph: int = 0) -> Shape:
        """Returns the shape of an operand that is there, in one of the graphs."""
        value = self.nodes[graph].operand(index)
        return () if value is None else value.shape

    def rank(self, index: int) -> int:
        """Returns the rank of an operand that is there."""
        return len(self.shape(index))

    def results(self) -> Sequence[Shape]:
        """Returns the shape of the first result for each extent."""
        return [node.result.shape for node in self.nodes]

    def attribute(self, name: str) -> Attribute:
        """Returns an attribute, for the first extent."""
        return attribute(self.node, name)

    def integer(self, name: str) -> int:
        """Returns an INT or FLAG attribute."""
        return cast("int", self.attribute(name))

    def ints(self, name: str, graph: int = 0) -> tuple[int, ...]:
        """Returns an INTS attribute, in one of the graphs."""
        return cast("tuple[int, ...]", attribute(self.nodes[graph], name))

    def axis(self, name: str, rank: int) -> int:
        """Returns an attribute that is an axis, counted from the front."""
        axis = self.integer(name)
        return axis + rank if axis < 0 else axis

    def only(self, *allowed: int) -> None:
        """Raises `Mixed` if an operand carries rows that is not among those allowed."""
        for index, rows in enumerate(self.operands):
            if rows is not None and index not in allowed:
                value = self.node.operand(index)
                raise Mixed(f"operand {value.name if value else index!r} changes with the rows")

    def first(self, *free: int) -> Rows:
        """Returns the rows of operand 0, the only one that has any, on an axis of ``free``."""
        self.only(0)
        rows = self.operands[0]
        if rows is None or rows.axis not in free:
            at = "nowhere" if rows is None else f"on axis {rows.axis}"
            raise Mixed(f"it takes the rows {at} together")
        return rows


#: Returns how each result of an application carries rows; raises `Mixed` if rows meet. Called
#: where an operand has rows, or an attribute changes with the extent.
Rule = Callable[[Application], Sequence[Rows | None]]


def same(found: Sequence[Rows | None]) -> Rows:
    """Returns the rows that all operands share, of those which have any; see `Rows.alike`.

    Raises:
        Mixed: They lie on different axes, or in different order; or there are none.
    """
    carried = [rows for rows in found if rows is not None]
    axes = sorted({rows.axis for rows in carried})
    if not axes:
        raise Mixed("no operand has the rows that its result has")
    if len(axes) > 1:
        raise Mixed(f"it pairs rows on axis {axes[0]} with rows on axis {axes[1]}")
    differing = [rows for rows in carried if not rows.alike]
    if any(rows != differing[0] for rows in differing):
        raise Mixed("its operands have their rows in different orders")
    return differing[0] if differing else carried[0]


def broadcast(application: Application, rank: int, indices: Sequence[int]) -> Rows:
    """Returns the rows of operands that broadcast to a result of that rank; see `same`."""
    found = []
    for index in indices:
        rows = application.rows(index)
        shift = rank - application.rank(index)
        found.append(None if rows is None else rows.on(rows.axis + shift))
    return same(found)
