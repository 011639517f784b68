"""Proves that an open dimension of a model is one of independent rows.

It is if row r of every output depends on row r of the inputs alone, in a way that is the same
for every r and for every extent. A model may then be run on more rows than wanted, or on some
rows at a time, with the same results: what batching means, and what padding relies on.

The proof reads the model's graph as it is for several extents. Their nodes must correspond one
to one; attributes and constants must agree unless they have the extent in their shape; and each
node must keep rows apart (`accelsdk.compiler.independence.along`, ``movement``). What is not
proven counts as not independent. What a model does at extents other than those compared follows
as far as its shape arithmetic is linear between them: an exporter's ``if batch == 7`` would
have to be among the extents to be seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from accelsdk.compiler.independence import along, movement
from accelsdk.compiler.independence.rows import Application, Mixed, Rows, Rule
from accelsdk.errors import InvalidArgument, UnsupportedGraph
from accelsdk.graph.graph import CORE, Array, Constant, Graph, Node
from accelsdk.graph.ops import bounded
from accelsdk.graph.types import Shape, Value

#: How rows pass through each op; an op without a rule must have none.
RULES: Mapping[str, Rule] = {**along.RULES, **movement.RULES}

_REMEDY = "leave the buckets out: the model is then compiled for each extent as it is"


def independent_rows(
    graphs: Mapping[int, Graph], inputs: Mapping[str, int]
) -> tuple[Rows | None, ...]:
    """Returns how each output of a model carries the rows of its inputs.

    Args:
        graphs: The model's core graph for two extents of the open dimension, or more. For
            the extents 0 and 1, for which shapes broadcast, types alone are compared.
        inputs: The axis of each input that has the open dimension, by name.

    Returns:
        One entry an output; None: it does not depend on the rows.

    Raises:
        UnsupportedGraph: Not proven; carries the node and the reason.
        InvalidArgument: Fewer than two extents of 2 or more are given.
    """
    compared = {extent: graph for extent, graph in graphs.items() if extent > 1}
    if len(compared) < 2:
        raise InvalidArgument("a proof needs the model at two extents of 2 or more")
    found = _Proof(compared, inputs).outputs()
    first = next(iter(compared.values()))
    for extent, graph in graphs.items():
        for value, was, rows in zip(graph.outputs, first.outputs, found, strict=True):
            shape = was.shape if rows is None else rows.shape(was.shape, extent)
            if value.shape != shape:
                raise refused(
                    f"output {value.name!r} is {list(value.shape)} at extent {extent}, which "
                    f"does not follow from its shape at others, {list(was.shape)}"
                )
    return found


def refused(reason: str) -> UnsupportedGraph:
    """Returns the error that says why a dimension is not proven independent."""
    return UnsupportedGraph(
        "the open dimension is not proven to be one of independent rows",
        reasons=[reason],
        remedy=_REMEDY,
    )


class _Proof:
    """Walks the graphs for all extents at once, node by node.

    A value is known by its name in the first graph; ``_partners`` has its names in the others.
    """

    def __init__(self, graphs: Mapping[int, Graph], inputs: Mapping[str, int]) -> None:
        self._extents = tuple(graphs)
        self._graphs = tuple(graphs.values())
        self._rows: dict[str, Rows | None] = {}
        self._partners: dict[str, tuple[str, ...]] = {}
        self._constants: dict[tuple[str, ...], Rows | None] = {}
        self._bounded: set[str] = set()
        for values in zip(*(graph.inputs for graph in self._graphs), strict=True):
            axis = inputs.get(values[0].name)
            try:
                self._note(values, None if axis is None else Rows(axis))
            except Mixed as mixed:
                raise refused(f"input {values[0].name!r}: {mixed}") from None

    def outputs(self) -> tuple[Rows | None, ...]:
        counts = [len(graph.nodes) for graph in self._graphs]
        for nodes in zip(*(graph.nodes for graph in self._graphs), strict=False):
            self._visit(nodes)
        if len(set(counts)) > 1:
            raise refused(
                f"the model has {counts[0]} nodes at extent {self._extents[0]} and "
                f"{max(counts[1:], key=lambda n: n != counts[0])} at another"
            )
        found = []
        for values in zip(*(graph.outputs for graph in self._graphs), strict=True):
            try:
                rows = self._operand(values)
                self._check_numbers([rows], values[:1])
            except Mixed as mixed:
                raise refused(f"output {values[0].name!r}: {mixed}") from None
            if rows is not None and values[0].name in self._bounded:
                raise refused(f"the size of output {values[0].name!r} depends on the data")
            found.append(rows)
        return tuple(found)

    def _visit(self, nodes: Sequence[Node]) -> None:
        node = nodes[0]
        origin = f" from {', '.join(node.origin)}" if node.origin else ""
        try:
            found = self._results(nodes)
            for index, values in enumerate(zip(*(n.outputs for n in nodes), strict=True)):
                given = [value for value in values if value is not None]
                if given:
                    self._note(given, found[index])
        except Mixed as mixed:
            raise refused(f"node {node.name!r} ({node.op}){origin}: {mixed}") from None
        self._bounded |= bounded(node)

    def _results(self, nodes: Sequence[Node]) -> Sequence[Rows | None]:
        node = nodes[0]
        if any((n.op, n.domain) != (node.op, node.domain) for n in nodes):
            raise Mixed("another op stands in its place at another extent")
        arities = {(len(n.inputs), len(n.outputs)) for n in nodes}
        if len(arities) > 1:
            raise Mixed("it has other operands at another extent")
        operands = [
            self._operand(values) for values in zip(*(n.inputs for n in nodes), strict=True)
        ]
        changing = _changing(nodes)
        if not changing and all(rows is None for rows in operands):
            return (None,) * len(node.outputs)
        unexplained = changing - movement.SHAPED.get(node.op, frozenset())
        if unexplained:
            name = min(unexplained)
            given = " and ".join(str(n.attributes.get(name)) for n in nodes[:2])
            raise Mixed(f"its {name} changes with the extent: {given}")
        rule = RULES.get(node.op) if node.domain == CORE else None
        if rule is None:
            raise Mixed(_WHY.get(node.op, "nothing is known of how it treats rows"))
        read = len(operands) if node.op != "GatherND" else 1
        self._check_numbers(operands[:read], node.inputs[:read])
        return rule(Application(tuple(nodes), self._extents, tuple(operands)))

    def _check_numbers(
        self, operands: Sequence[Rows | None], values: Sequence[Value | None]
    ) -> None:
        for rows, value in zip(operands, values, strict=True):
            if rows is not None and rows.numbered and value is not None:
                raise Mixed(f"constant {value.name!r} differs from row to row")

    def _note(self, values: Sequence[Value], rows: Rows | None) -> None:
        """Keeps what is known of a value, checked against its types."""
        shapes = [value.shape for value in values]
        wanted = [shapes[0] if rows is None else rows.shape(shapes[0], n) for n in self._extents]
        if shapes != wanted or len({value.format for value in values}) > 1:
            listed = " and ".join(str(value.type) for value in values[:2])
            raise Mixed(f"{values[0].name!r} does not scale with the extent: {listed}")
        self._rows[values[0].name] = rows
        self._partners[values[0].name] = tuple(value.name for value in values)

    def _operand(self, values: Sequence[Value | None]) -> Rows | None:
        names = tuple(value.name for value in values if value is not None)
        if not names:
            return None
        if len(names) < len(values):
            raise Mixed("it has other operands at another extent")
        known = self._partners.get(names[0])
        if known is None:
            return self._constant(names)
        if known != names:
            raise Mixed("its operands come from elsewhere at another extent")
        return self._rows[names[0]]

    def _constant(self, names: tuple[str, ...]) -> Rows | None:
        if names not in self._constants:
            found = [g.constant_by_name.get(n) for g, n in zip(self._graphs, names, strict=True)]
            constants = [constant for constant in found if constant is not None]
            if len(constants) < len(names):
                raise Mixed(f"operand {names[0]!r} is constant at some extents only")
            self._constants[names] = _constant_rows(constants, self._extents)
        return self._constants[names]


_WHY: Mapping[str, str] = {
    **dict.fromkeys(
        ("NonZero", "Compress", "Unique", "NonMaxSuppression"),
        "how much it selects depends on the data of all rows",
    ),
    **dict.fromkeys(
        ("SparseLengthsSum", "SparseLengthsSumFused"),
        "where a bag begins depends on the lengths of all bags before it",
    ),
}


def _changing(nodes: Sequence[Node]) -> frozenset[str]:
    """Returns the attributes that are not the same in all."""
    names = {name for node in nodes for name in node.attributes}
    first = nodes[0].attributes
    return frozenset(
        name
        for name in names
        if any(repr(node.attributes.get(name)) != repr(first.get(name)) for node in nodes[1:])
    )


# -- constants ---------------------------------------------------------------------------------


def _constant_rows(constants: Sequence[Constant], extents: Sequence[int]) -> Rows | None:
    """Returns how a constant carries rows, which must then all be equal."""
    name, shapes = constants[0].name, [constant.value.shape for constant in constants]
    if len({constant.value.format for constant in constants}) > 1:
        raise Mixed(f"constant {name!r} has another format at another extent")
    if all(shape == shapes[0] for shape in shapes):
        if not _equal(constants):
            raise Mixed(f"constant {name!r} changes with the extent")
        return None
    if len({len(shape) for shape in shapes}) > 1:
        raise Mixed(f"constant {name!r} has another rank at another extent")
    axes = [i for i, found in enumerate(zip(*shapes, strict=True)) if len(set(found)) > 1]
    items, rest = divmod(shapes[0][axes[0]], extents[0])
    scaled = Rows(axes[0], 1, items)
    if rest or [scaled.shape(shapes[0], n) for n in extents] != shapes:
        raise Mixed(f"constant {name!r} does not scale with the extent")
    raw = [_bytes(constant.array()) for constant in constants]
    first = raw[0].take([0], axes[0])
    if all((array == first).all() for array in raw):
        return Rows(axes[0], 1, items, alike=True)
    for outer in range(1, items + 1):
        if items % outer == 0:
            rows = Rows(axes[0], outer, items // outer)
            if _repeats(raw, rows, extents):
                return rows
    if items == 1 and _numbered([c.array() for c in constants], axes[0], extents):
        return Rows(axes[0], numbered=True)
    raise Mixed(f"constant {name!r} differs from row to row")


def _numbered(arrays: Sequence[Array], axis: int, extents: Sequence[int]) -> bool:
    """Says whether rows are as `Rows.numbered` has them, at all extents."""
    rank = arrays[0].ndim
    if axis == rank - 1 or arrays[0].dtype.kind not in "iu" or not arrays[0].size:
        return False
    first = arrays[0].take([0], axis)
    for array, n in zip(arrays, extents, strict=True):
        number = np.arange(n).reshape(n, *(1,) * (rank - 2 - axis))
        right = (array[..., 0] == number).all() and (array[..., 1:] == first[..., 1:]).all()
        if not right:
            return False
    return True


def _repeats(raw: Sequence[Array], rows: Rows, extents: Sequence[int]) -> bool:
    """Says whether all rows, at all extents, are equal."""
    first = None
    for array, n in zip(raw, extents, strict=True):
        shape: Shape = array.shape
        split = (*shape[: rows.axis], rows.outer, n, rows.inner, *shape[rows.axis + 1 :])
        apart = array.reshape(split)
        first = apart.take([0], rows.axis + 1) if first is None else first
        if not (apart == first).all():
            return False
    return True


def _equal(constants: Sequence[Constant]) -> bool:
    first = constants[0]
    others = [c for c in constants[1:] if c.location is None or c.location != first.location]
    if not others:
        return True
    wanted = _bytes(first.array())
    return all(np.array_equal(wanted, _bytes(other.array())) for other in others)


def _bytes(array: Array) -> Array:
    """Returns an array as its bytes, the last axis those of one item: NaNs compare too."""
    whole = np.ascontiguousarray(array)
    return whole.reshape(-1).view(np.uint8).reshape(*array.shape, array.dtype.itemsize)
