"""Bucketed runs: a bounded set of compiled extents serves every extent of an open dimension.

A run on n rows takes the next compiled size: the last row is repeated up to it, which stays in
the data's own domain (no division by a zero that padding brought in, no index out of range), and
the results of those rows are dropped. More rows than the largest size run in several passes.
That is right only where rows do not depend on each other, which is proven first
(`accelsdk.compiler.independence.proof`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from accelsdk.errors import AccelError, InvalidArgument
from accelsdk.graph.graph import Graph
from accelsdk.graph.types import Shape, TensorType
from accelsdk.runtime.executable import FAMILY

if TYPE_CHECKING:
    from accelsdk.compiler.independence.rows import Rows
    from accelsdk.runtime.session import NodeArg

E = TypeVar("E")
Arrays = list[NDArray[Any]]
#: Runs a model on arrays of exactly these shapes.
Run = Callable[[Arrays], Arrays]


@dataclass(frozen=True, slots=True)
class Proven:
    """One output of a model whose rows are proven independent.

    Attributes:
        type: For some number of rows.
        rows: Where they lie; None: the output does not depend on them.
    """

    type: TensorType
    rows: Rows | None

    def empty(self) -> NDArray[Any]:
        """Returns what the model gives for no rows at all."""
        shape = self.type.shape if self.rows is None else self.rows.shape(self.type.shape, 0)
        return np.empty(shape, self.type.format.dtype)

    def join(self, passes: Sequence[tuple[NDArray[Any], int, int]]) -> NDArray[Any]:
        """Returns the output for all rows.

        Args:
            passes: What each pass gave, how many rows it ran, how many of them count.
        """
        rows = self.rows
        if rows is None:
            return passes[0][0]
        before, after = self.type.shape[: rows.axis], self.type.shape[rows.axis + 1 :]
        parts = []
        for array, size, count in passes:
            apart = array.reshape(*before, rows.outer, size, rows.inner, *after)
            parts.append(apart[(slice(None),) * (rows.axis + 1) + (slice(count),)])
        whole = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=rows.axis + 1)
        total = sum(count for _, _, count in passes)
        return np.ascontiguousarray(whole).reshape(*before, rows.extent(total), *after)


class Buckets:
    """The compiled sizes of one open dimension of a model.

    Args:
        sizes: The dimension's name, and its sizes. A dimension without a name is called
            ``INPUT:AXIS``.
        inputs: Of the model.
        read: Returns the model's core graph for shapes of the inputs.

    Attributes:
        name: Of the dimension.
        sizes: Ascending.
        axes: Which axis of each input it is, by input name; inputs without it are left out.

    Raises:
        InvalidArgument: There is no such open dimension, an input has it twice, or sizes are
            none or not positive.
    """

    def __init__(
        self,
        sizes: Mapping[str, Sequence[int]],
        inputs: Sequence[NodeArg],
        read: Callable[[Mapping[str, Shape]], Graph],
    ) -> None:
        if not isinstance(sizes, Mapping) or len(sizes) != 1:
            raise InvalidArgument(
                f"buckets are {sizes!r}",
                remedy='give one open dimension and its sizes, as in {"batch": (1, 4, 16)}',
            )
        ((self.name, given),) = sizes.items()
        self.sizes = _ascending(self.name, given)
        self._read = read
        self._proven: dict[tuple[Shape, ...], tuple[Proven, ...]] = {}
        found = [
            (argument.name, axis)
            for argument in inputs
            for axis, extent in enumerate(argument.shape or ())
            if not isinstance(extent, int) and self.name == (extent or f"{argument.name}:{axis}")
        ]
        self.axes = dict(found)
        self._axes = [self.axes.get(argument.name) for argument in inputs]
        if not found:
            raise InvalidArgument(
                f"buckets: no input has an open dimension {self.name!r}",
                remedy="the model takes " + (", ".join(map(str, inputs)) or "nothing"),
            )
        if len(self.axes) < len(found):
            twice = next(name for name, axis in found if self.axes[name] != axis)
            raise InvalidArgument(
                f"buckets: input {twice!r} has {self.name!r} on two axes, so that its rows "
                "cannot be told apart",
                remedy="leave the buckets out: each shape is compiled as it is",
            )

    def at(
        self, shapes: Mapping[str, tuple[E, ...]], extent: int
    ) -> dict[str, tuple[E | int, ...]]:
        """Returns shapes of the inputs with another extent of the dimension."""
        return {
            name: (*shape[: self.axes[name]], extent, *shape[self.axes[name] + 1 :])
            if name in self.axes
            else shape
            for name, shape in shapes.items()
        }

    def prove_early(self, declared: Mapping[str, tuple[int | str | None, ...]]) -> None:
        """Calls `prove` if the model has no other open dimension."""
        shapes = self.at(declared, self.sizes[0])
        fixed = {
            name: tuple(extent for extent in shape if isinstance(extent, int))
            for name, shape in shapes.items()
        }
        if fixed == shapes:
            self.prove(fixed)

    def prove(self, shapes: Mapping[str, Shape]) -> tuple[Proven, ...]:
        """Returns where the outputs have their rows, proven now or kept from before.

        Compared are the extents 3 and the largest size (5 at least), and the types at 1.

        Args:
            shapes: Of the inputs, for any extent of the dimension.

        Raises:
            UnsupportedGraph: Rows are not proven independent; the message says where.
        """
        key = tuple(self.at(shapes, 0).values())
        found = self._proven.pop(key, None) or self._prove(shapes)
        self._proven[key] = found
        if len(self._proven) > FAMILY:
            del self._proven[next(iter(self._proven))]
        return found

    def _prove(self, shapes: Mapping[str, Shape]) -> tuple[Proven, ...]:
        from accelsdk.compiler.independence.proof import independent_rows, refused

        graphs = {}
        for extent in (3, max(5, self.sizes[-1]), 1):
            try:
                graphs[extent] = self._read(self.at(shapes, extent))
            except AccelError as error:
                raise refused(f"the model does not take {self.name} = {extent}: {error}") from error
        found = independent_rows(graphs, self.axes)
        outputs = next(iter(graphs.values())).outputs
        return tuple(Proven(v.type, rows) for v, rows in zip(outputs, found, strict=True))

    def run(self, arrays: Arrays, outputs: Sequence[Proven], run: Run) -> Arrays:
        """Runs the model on arrays of any extent.

        Args:
            arrays: One an input, in the model's order.
            outputs: What `prove` returned.
            run: Called for compiled sizes alone.

        Raises:
            InvalidArgument: Inputs differ in their extent of the dimension.
        """
        axes = self._axes
        extents = [a.shape[i] for a, i in zip(arrays, axes, strict=True) if i is not None]
        rows = extents[0]
        if any(extent != rows for extent in extents):
            listed = ", ".join(f"{n!r} has {e}" for n, e in zip(self.axes, extents, strict=True))
            raise InvalidArgument(
                f"the inputs differ in {self.name!r}: {listed}", remedy="feed as many rows to each"
            )
        if rows in self.sizes:
            return run(arrays)
        if not rows and all(output.rows is not None for output in outputs):
            return [output.empty() for output in outputs]
        passes = []
        for start, stop, size in self._cut(rows):
            fed = [_rows(a, axis, start, stop, size) for a, axis in zip(arrays, axes, strict=True)]
            passes.append((run(fed), size, stop - start))
        return [
            output.join([(results[index], size, count) for results, size, count in passes])
            for index, output in enumerate(outputs)
        ]

    def _cut(self, rows: int) -> list[tuple[int, int, int]]:
        """Returns begin, end and compiled size of each pass; of no rows, one empty pass."""
        largest = self.sizes[-1]
        found = []
        for start in range(0, max(rows, 1), largest):
            stop = min(start + largest, rows)
            size = next(size for size in self.sizes if size >= stop - start)
            found.append((start, stop, size))
        return found


def _ascending(name: str, given: Sequence[int]) -> tuple[int, ...]:
    right = isinstance(given, Sequence) and not isinstance(given, str) and len(given) > 0
    if not right or not all(isinstance(size, int | np.integer) and size > 0 for size in given):
        raise InvalidArgument(
            f"buckets: {given!r} are no sizes of {name!r}",
            remedy="give one positive integer or more",
        )
    return tuple(sorted({int(size) for size in given}))


def _rows(array: NDArray[Any], axis: int | None, start: int, stop: int, size: int) -> NDArray[Any]:
    """Returns rows ``start`` to ``stop``, the last one repeated up to ``size``; of none, zeros."""
    if axis is None:
        return array
    if start == stop:
        return np.zeros((*array.shape[:axis], size, *array.shape[axis + 1 :]), array.dtype)
    return array.take(np.minimum(np.arange(start, start + size), stop - 1), axis)
