"""Rules of ops that move data: where the rows lie afterwards."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from accelsdk.compiler.independence.rows import Application, Mixed, Rows, Rule, broadcast, same

Results = Sequence[Rows | None]

#: Attributes that may change with the extent, by op; the rules below check how they do.
SHAPED: Mapping[str, frozenset[str]] = {
    "Reshape": frozenset({"shape"}),
    "Expand": frozenset({"shape"}),
    "Resize": frozenset({"output_shape"}),
    "Slice": frozenset({"starts", "ends"}),
    "Split": frozenset({"split"}),
    "Tile": frozenset({"repeats"}),
}


def _reshape(a: Application) -> Results:
    """In memory there are ``before`` stretches of all rows, of ``after`` items each; always."""
    rows = same(a.operands)
    shape, results = a.shape(0), a.results()
    before = math.prod(shape[: rows.axis]) * rows.outer
    after = rows.inner * math.prod(shape[rows.axis + 1 :])
    if not before * after:
        raise Mixed("it is empty, so that nothing tells the rows")
    for axis in range(len(results[0])):
        outer, inner = math.prod(results[0][:axis]), math.prod(results[0][axis + 1 :])
        if not outer or not inner or before % outer or after % inner:
            continue
        found = Rows(axis, before // outer, after // inner)
        if all(found.shape(results[0], n) == s for n, s in zip(a.extents, results, strict=True)):
            as_much = found.outer * found.inner == rows.outer * rows.inner
            return (replace(found, alike=rows.alike and as_much),)
    raise Mixed(f"it merges the rows with what is beside them, {list(shape)} to {list(results[0])}")


def _transpose(a: Application) -> Results:
    rows = same(a.operands)
    return (rows.on(a.ints("perm").index(rows.axis)),)


def _concat(a: Application) -> Results:
    axis = a.axis("axis", a.rank(0))
    if all(rows is None or rows.axis != axis for rows in a.operands):
        return (replace(same(a.operands), alike=False),)
    inner = {rows.inner for rows in a.operands if rows is not None}
    if None in a.operands or len(inner) > 1:
        raise Mixed("it joins rows with more than rows")
    outer = sum(rows.outer for rows in a.operands if rows is not None)
    same([rows if rows is None else replace(rows, outer=outer) for rows in a.operands])
    return (Rows(axis, outer, inner.pop()),)


def _stretches(rows: Rows, bounds: Sequence[tuple[int, int]], extents: Sequence[int]) -> Rows:
    """Returns the rows of a part of the axis, which must be whole stretches for each extent.

    Args:
        rows: Of the whole axis.
        bounds: Begin and end of the part, for each extent.
        extents: Of the open dimension.
    """
    begin, end = bounds[0]
    unit = extents[0] * rows.inner
    first, count = begin // unit, (end - begin) // unit
    for n, given in zip(extents, bounds, strict=True):
        size = n * rows.inner
        if given != (first * size, (first + count) * size) or count < 1:
            raise Mixed("it picks some of the rows")
    return replace(rows, outer=count)


def _slice(a: Application) -> Results:
    rows = same(a.operands)
    rank = a.rank(0)
    axes = [axis % rank for axis in a.ints("axes")]
    fixed = [
        [bound for axis, bound in zip(axes, a.ints(name, g), strict=True) if axis != rows.axis]
        for g in range(len(a.nodes))
        for name in ("starts", "ends")
    ]
    if fixed[::2] != fixed[:1] * len(a.nodes) or fixed[1::2] != fixed[1:2] * len(a.nodes):
        raise Mixed("where it cuts another axis changes with the extent")
    if rows.axis not in axes:
        return (rows,)
    at = axes.index(rows.axis)
    if a.ints("steps")[at] != 1:
        raise Mixed("it picks some of the rows, or turns them round")
    bounds = []
    for graph in range(len(a.nodes)):
        extent = a.shape(0, graph)[rows.axis]
        wanted = slice(a.ints("starts", graph)[at], a.ints("ends", graph)[at])
        bounds.append(wanted.indices(extent)[:2])
    return (_stretches(rows, bounds, a.extents),)


def _split(a: Application) -> Results:
    rows = same(a.operands)
    sizes = [a.ints("split", graph) for graph in range(len(a.nodes))]
    if rows.axis != a.axis("axis", a.rank(0)):
        if any(given != sizes[0] for given in sizes):
            raise Mixed("where it cuts another axis changes with the extent")
        return (rows,) * len(a.node.outputs)
    return [
        _stretches(rows, [(sum(s[:part]), sum(s[: part + 1])) for s in sizes], a.extents)
        for part in range(len(a.node.outputs))
    ]


def _gather(a: Application) -> Results:
    """Slices of an axis by index: a row of indices takes a row, from what is the same to all."""
    axis, depth = a.axis("axis", a.rank(0)), a.rank(1)
    data, indices = a.rows(0), a.rows(1)
    if data is not None and data.axis == axis:
        raise Mixed("it picks rows by their position")
    moved = None
    if data is not None:
        moved = data if data.axis < axis else data.on(data.axis - 1 + depth)
    taken = None if indices is None else indices.on(axis + indices.axis)
    return (replace(same((moved, taken)), alike=False),)


def _elements(a: Application) -> Results:
    """GatherElements and ScatterElements: all operands of one rank, indices along one axis."""
    axis = a.axis("axis", a.rank(0))
    if None in a.operands:
        raise Mixed("not all its operands have rows, so that it counts on their order")
    rows = same(a.operands)
    if rows.axis == axis:
        raise Mixed("its indices are positions of rows")
    return (replace(rows, alike=False),)


def _gather_nd(a: Application) -> Results:
    data, indices = a.rows(0), a.rows(1)
    batch, depth = a.integer("batch_dims"), a.shape(1)[-1]
    if indices is not None and indices.numbered:
        if batch or data != Rows(0, alike=data is not None and data.alike):
            raise Mixed("its indices are numbers of rows")
        return (Rows(indices.axis),)
    moved = None
    if data is not None and data.axis < batch:
        moved = data
        if indices is None:
            raise Mixed("not all its operands have rows, so that it counts on their order")
    elif data is not None:
        if data.axis < batch + depth:
            raise Mixed("its indices are positions of rows")
        moved = data.on(data.axis - batch - depth + a.rank(1) - 1)
    if indices is not None and (
        indices.axis == a.rank(1) - 1 or (indices.axis < batch and data is None)
    ):
        raise Mixed("its indices are positions of rows")
    return (replace(same((moved, indices)), alike=False),)


def _scatter_nd(a: Application) -> Results:
    """Slices replaced by index: rows may lie within the slices alone."""
    data, updates = a.rows(0), a.rows(2)
    a.only(0, 2)
    depth = a.shape(1)[-1]
    if data is None or updates is None or data.axis < depth:
        raise Mixed("its indices are positions of rows")
    same((data.on(data.axis - depth + a.rank(1) - 1), updates))
    return (replace(data, alike=False),)


def _pad(a: Application) -> Results:
    a.only(0)
    rows, pads = same(a.operands), a.ints("pads")
    if pads[rows.axis] or pads[rows.axis + len(pads) // 2]:
        raise Mixed("it adds or removes rows")
    return (replace(rows, alike=False),)


def _grown(a: Application) -> tuple[int, int]:
    """Returns the axis of the result that grows with the extent, and by how much a row."""
    results = a.results()
    axes = [i for i, extents in enumerate(zip(*results, strict=True)) if len(set(extents)) > 1]
    if len(axes) != 1:
        raise Mixed("more than one axis of its result grows with the extent")
    return axes[0], results[0][axes[0]] // a.extents[0]


def _expand(a: Application) -> Results:
    if any(rows is not None for rows in a.operands):
        return (broadcast(a, len(a.node.result.shape), (0,)),)
    axis, items = _grown(a)
    return (Rows(axis, 1, items, alike=True),)


def _tile(a: Application) -> Results:
    rows = a.rows(0)
    if rows is not None:
        return (replace(rows, outer=rows.outer * a.ints("repeats")[rows.axis]),)
    axis, items = _grown(a)
    return (Rows(axis, 1, items, alike=a.shape(0)[axis] == 1),)


def _resize(a: Application) -> Results:
    """Interpolation is separate along each axis, and none where the scale is 1."""
    rows = same(a.operands)
    scales, mode = a.attribute("scales"), a.attribute("coordinate_transformation_mode")
    if mode == "tf_crop_and_resize" or not isinstance(scales, tuple) or scales[rows.axis] != 1:
        raise Mixed("it interpolates between rows")
    return (replace(rows, alike=False),)


RULES: Mapping[str, Rule] = {
    "Reshape": _reshape,
    "Transpose": _transpose,
    "Concat": _concat,
    "Slice": _slice,
    "Split": _split,
    "Gather": _gather,
    "GatherElements": _elements,
    "GatherND": _gather_nd,
    "ScatterElements": _elements,
    "ScatterND": _scatter_nd,
    "Pad": _pad,
    "Expand": _expand,
    "Tile": _tile,
    "Resize": _resize,
}
