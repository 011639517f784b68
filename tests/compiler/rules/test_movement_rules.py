"""Rules that move elements, make constants, or convert formats."""

import math

import numpy as np
import pytest

from tests.compiler.rules.inexact import exact, wide
from tests.compiler.rules.peers import (
    ANY,
    FLOATS,
    NUMBERS,
    Case,
    Draw,
    Recipes,
    check,
    fmt_of,
)

RECIPES = Recipes()
INT32, INT64 = np.dtype("i4"), np.dtype("i8")


def _ints(numbers) -> np.ndarray:
    return np.array(list(numbers), np.int64)


def _any(d: Draw, opset: int, low=0, high=4) -> np.ndarray:
    """An operand of any format and of a rank within bounds."""
    return d.array(d.format(ANY, opset), d.shape(low, high), special=True)


# -- nothing moves ---------------------------------------------------------------------------


@RECIPES("Dropout", "ratio seed")
def _dropout(d: Draw) -> Case:
    opset = d.opset()
    x = d.array(d.format(FLOATS, opset), d.shape(), special=True)
    more = []
    if opset < 12:
        d.attr("ratio", 0.5, (0.25, 0.75))
    else:
        d.attr("seed", None, (3, 7))
        ratio, training = np.array(0.5, np.float32), np.array(False)
        more = d.pick(([], [ratio], [ratio, training], [None, training]))
    # Before opset 10 the mask has the format of the data.
    mask = np.ones(x.shape, bool) if d.flag() and opset >= 10 else None
    return Case([x, *more], [exact(x, wide(fmt_of(x))), mask], constant=(2,), opset=opset)


@RECIPES("Shape", "start end")
def _shape(d: Draw) -> Case:
    opset = d.opset()
    x = _any(d, opset)
    start, end = 0, None
    if opset >= 15:
        start = d.attr("start", 0, (-3, -1, 0, 1, 2, 9))
        end = d.attr("end", None, (-9, -1, 0, 2, 5))
    return Case([x], [_ints(x.shape[start:end])], opset=opset)


@RECIPES("Size")
def _size(d: Draw) -> Case:
    opset = d.opset()
    x = _any(d, opset)
    return Case([x], [np.array(x.size, np.int64)], opset=opset)


# -- shapes ----------------------------------------------------------------------------------


@RECIPES("Reshape", "allowzero")
def _reshape(d: Draw) -> Case:
    opset = d.opset()
    x = _any(d, opset)
    factors = list(x.shape)
    if len(factors) > 1 and d.flag():
        factors = [factors[0] * factors[1], *factors[2:]]
    target = [*d.draw(_permutations(factors)), *[1] * d.int(0, 2)]
    zero = d.attr("allowzero", 0, (0, 1)) if opset >= 14 else 0
    wanted = list(target)
    for axis, extent in enumerate(target):
        # A 0 copies the extent, unless allowzero makes it an extent of 0.
        if not zero and axis < x.ndim and extent == x.shape[axis] and (d.flag() or extent == 0):
            wanted[axis] = 0
    if not zero and any(
        e == 0 and w == 0 and (i >= x.ndim or x.shape[i])
        for i, (e, w) in enumerate(zip(target, wanted, strict=True))
    ):
        target, wanted = list(x.shape), list(x.shape)
    rest = [e for e, w in zip(target, wanted, strict=True) if w]
    if rest and x.size and d.flag():
        wanted[wanted.index(rest[0])] = -1
    return Case([x, _ints(wanted)], [x.reshape(target)], constant=(1,), opset=opset)


def _permutations(items):
    from hypothesis import strategies as st

    return st.permutations(items)


@RECIPES("Flatten", "axis")
def _flatten(d: Draw) -> Case:
    opset = d.opset()
    x = _any(d, opset, 1)
    least = -x.ndim if opset >= 11 else 0
    axis = d.attr("axis", 1, range(least, x.ndim + 1))
    rows = math.prod(x.shape[:axis])
    columns = math.prod(x.shape[axis:])
    return Case([x], [x.reshape(rows, columns)], opset=opset)


@RECIPES("Squeeze", "axes")
def _squeeze(d: Draw) -> Case:
    opset = d.opset()
    kind, shape = d.format(ANY, opset), [d.extent() for _ in range(d.int(0, 3))]
    places = [d.int(0, len(shape)) for _ in range(d.int(0, 2))]
    for place in places:
        shape.insert(place, 1)
    x = d.array(kind, shape, special=True)
    ones = [i for i, extent in enumerate(shape) if extent == 1]
    chosen = d.draw(_permutations(ones))[: d.int(0, len(ones))] or ones
    signed = [a - x.ndim if d.flag() and opset >= 11 else a for a in chosen]
    if not signed or d.int(0, 2) == 0:
        return Case([x], [np.squeeze(x)], opset=opset)
    y = np.squeeze(x, tuple(chosen))
    if opset < 13:
        d.attr("axes", None, (signed,), required=True)
        return Case([x], [y], opset=opset)
    return Case([x, _ints(signed)], [y], constant=(1,), opset=opset)


@RECIPES("Unsqueeze", "axes")
def _unsqueeze(d: Draw) -> Case:
    opset = d.opset()
    x = _any(d, opset, 0, 3)
    rank = x.ndim + d.int(1, 2)
    axes = d.draw(_permutations(range(rank)))[: rank - x.ndim]
    signed = [a - rank if d.flag() and opset >= 11 else a for a in axes]
    y = np.expand_dims(x, tuple(axes))
    if opset < 13:
        d.attr("axes", None, (signed,), required=True)
        return Case([x], [y], opset=opset)
    return Case([x, _ints(signed)], [y], constant=(1,), opset=opset)


@RECIPES("Transpose", "perm")
def _transpose(d: Draw) -> Case:
    opset = d.opset()
    x = _any(d, opset, 0, 5)
    perm = None
    if x.ndim:
        perm = d.attr("perm", None, (list(d.draw(_permutations(range(x.ndim)))),))
    return Case([x], [np.transpose(x, perm)], opset=opset)


@RECIPES("Expand")
def _expand(d: Draw) -> Case:
    opset = d.opset()
    whole = d.shape()
    x = d.array(d.format(ANY, opset), d.narrowed(whole), special=True)
    # Broadcasting goes both ways: the wanted shape may be the shorter, and have ones.
    wanted = [
        1 if i >= len(whole) - x.ndim and x.shape[i - len(whole)] == e and d.flag() else e
        for i, e in enumerate(whole)
    ]
    while wanted and wanted[0] == 1 and d.flag():
        wanted.pop(0)
    y = np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(wanted)))
    return Case([x, _ints(wanted)], [y], constant=(1,), opset=opset)


@RECIPES("Tile")
def _tile(d: Draw) -> Case:
    opset = d.opset()
    x = _any(d, opset, 1, 3)
    repeats = [d.int(0, 3) for _ in x.shape]
    return Case([x, _ints(repeats)], [np.tile(x, repeats)], constant=(1,), opset=opset)


# -- joining and cutting -----------------------------------------------------------------------


@RECIPES("Concat", "axis")
def _concat(d: Draw) -> Case:
    opset = d.opset()
    kind, shape = d.format(ANY, opset), d.shape(1, 4)
    axis = d.int(0 if opset < 11 else -len(shape), len(shape) - 1)
    d.attr("axis", None, (axis,), required=True)
    parts = []
    for _ in range(d.int(1, 4)):
        extents = list(shape)
        extents[axis] = d.extent()
        parts.append(d.array(kind, extents, special=True))
    return Case(parts, [np.concatenate(parts, axis)], opset=opset)


@RECIPES("Split", "axis split num_outputs", examples=50)
def _split(d: Draw) -> Case:
    opset = d.opset()
    sizes = [d.extent() for _ in range(d.int(1, 4))]
    how = d.pick(("sizes", "equal", "count"))
    if how == "count" and opset >= 18:
        count = d.int(1, 4)
        size = d.int(1, 3)
        # The last may be smaller; ONNX has the others ceil(extent / count) long.
        sizes = [size] * (count - 1) + [d.int(max(1, size - count + 1), size)]
    elif how != "sizes":
        sizes = [sizes[0]] * len(sizes)
    shape = list(d.shape(1, 3))
    axis = d.attr("axis", 0, range(0 if opset < 11 else -len(shape), len(shape)))
    shape[axis] = sum(sizes)
    x = d.array(d.format(ANY, opset), shape, special=True)
    given = []
    if how == "count" and opset >= 18:
        d.attr("num_outputs", None, (len(sizes),), required=True)
    elif how == "equal" and opset < 18:
        pass  # as many equal parts as there are results
    elif opset < 13:
        d.attr("split", None, (sizes,), required=True)
    else:
        given = [_ints(sizes)]
    parts = np.split(x, np.cumsum(sizes)[:-1], axis)
    return Case([x, *given], parts, constant=(1,), opset=opset)


@RECIPES("Slice", "starts ends axes", examples=60)
def _slice(d: Draw) -> Case:
    opset = d.opset()
    x = _any(d, opset, 1, 4)
    axes = d.axes(x.ndim, 1) if d.flag() else tuple(range(d.int(1, x.ndim)))
    if opset < 10:
        axes = tuple(a % x.ndim for a in axes)
    edges = (-9, -4, -2, -1, 0, 1, 2, 3, 9, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63))
    starts, ends = ([d.pick(edges) for _ in axes] for _ in range(2))
    steps = [d.pick((1, 1, 2, 3, -1, -2)) for _ in axes] if opset >= 10 and d.flag() else None
    y = x
    for position, axis in enumerate(axes):
        y = np.take(
            y,
            _taken(starts[position], ends[position], (steps or [1] * 9)[position], x.shape[axis]),
            axis,
        )
    ordered = axes == tuple(range(len(axes)))
    given = None if ordered and d.flag() else list(axes)
    if opset < 10:
        d.attr("starts", None, (starts,), required=True)
        d.attr("ends", None, (ends,), required=True)
        if given is not None:
            d.attr("axes", None, (given,), required=True)
        return Case([x], [y], opset=opset)
    more = [None if v is None else _ints(v) for v in (given, steps)]
    return Case([x, _ints(starts), _ints(ends), *more], [y], constant=range(1, 5), opset=opset)


def _taken(start: int, end: int, step: int, extent: int) -> np.ndarray:
    """Positions by the words of ONNX Slice: add the extent once if negative, then clamp.

    onnx's ReferenceEvaluator uses Python slices, which take nothing where a backward start
    lies before the first item; ONNX clamps the start to the first item.
    """
    start, end = (v + extent if v < 0 else v for v in (start, end))
    if step > 0:
        start, end = min(max(start, 0), extent), min(max(end, 0), extent)
    else:
        start, end = min(max(start, 0), extent - 1), min(max(end, -1), extent - 1)
    return np.arange(start, end, step, dtype=np.int64)


@RECIPES("DepthToSpace", "blocksize mode")
def _depth_to_space(d: Draw) -> Case:
    opset = d.opset()
    s = d.attr("blocksize", None, (1, 2, 3), required=True)
    mode = d.attr("mode", "DCR", ("DCR", "CRD")) if opset >= 11 else "DCR"
    n, c, h, w = (d.extent() for _ in range(4))
    x = d.array(d.format(FLOATS if opset < 13 else ANY, opset), (n, c * s * s, h, w), special=True)
    y = np.empty((n, c, h * s, w * s), x.dtype)
    for i, j in np.ndindex(s, s):
        first = (i * s + j) * c
        part = x[:, first : first + c] if mode == "DCR" else x[:, i * s + j :: s * s]
        y[:, :, i::s, j::s] = part
    return Case([x], [y], opset=opset)


@RECIPES("SpaceToDepth", "blocksize mode")
def _space_to_depth(d: Draw) -> Case:
    opset = d.pick((28, d.opset()))
    column = opset >= 28 and d.attr("mode", "DCR", ("DCR", "CRD")) == "CRD"
    s = d.attr("blocksize", None, (1, 2, 3), required=True)
    n, c, h, w = (d.extent() for _ in range(4))
    x = d.array(d.format(FLOATS if opset < 13 else ANY, opset), (n, c, h * s, w * s), special=True)
    y = np.empty((n, c * s * s, h, w), x.dtype)
    for i, j in np.ndindex(s, s):
        block = i * s + j
        taken = slice(block, None, s * s) if column else slice(block * c, (block + 1) * c)
        y[:, taken] = x[:, :, i::s, j::s]
    return Case([x], [y], opset=opset)


@RECIPES("Pad", "mode pads", examples=60)
def _pad(d: Draw) -> Case:
    opset = d.opset()
    modes = ("constant", "reflect", "edge", *(("wrap",) if opset >= 19 else ()))
    mode = d.attr("mode", "constant", modes)
    kind = d.format(FLOATS if opset < 11 else NUMBERS if opset < 13 else ANY, opset)
    x = d.array(kind, d.shape(1, 4), special=True)
    axes = d.axes(x.ndim) if opset >= 18 and d.flag() else None
    padded = range(x.ndim) if axes is None else [a % x.ndim for a in axes]
    pads = np.zeros((2, x.ndim), int)
    for axis in padded:
        most = {"constant": 3, "reflect": x.shape[axis] - 1}.get(mode, 3 * (x.shape[axis] > 0))
        pads[:, axis] = d.int(0, max(most, 0)), d.int(0, max(most, 0))
        if x.shape[axis] > 1 and d.int(0, 4) == 0:
            pads[d.int(0, 1), axis] = -1  # a crop
    begins, ends = np.maximum(pads, 0)
    crops = tuple(slice(-min(a, 0), n + min(b, 0)) for a, b, n in zip(*pads, x.shape, strict=True))
    cut, fill = x[crops], None
    if mode == "constant" and opset >= 11 and d.flag():
        fill = d.array(kind, ())
    widths = list(zip(begins, ends, strict=True))
    if mode == "constant":
        y = np.full(
            [n + a + b for n, (a, b) in zip(cut.shape, widths, strict=True)],
            0 if fill is None else fill,
            kind,
        )
        y[tuple(slice(a, a + n) for n, (a, _) in zip(cut.shape, widths, strict=True))] = cut
    else:
        if any(
            n <= 1 or min(p) < 0
            for n, p in zip(cut.shape, pads.T, strict=True)
            if mode == "reflect" and p.any()
        ):
            pads[:], cut, widths = 0, x, [(0, 0)] * x.ndim  # cropping below what is reflected
        y = np.pad(cut, widths, mode=mode)
    flat = [int(pads[side, axis]) for side in (0, 1) for axis in padded]
    if opset < 11:
        d.attr("pads", None, (flat,), required=True)
        return Case([x], [y], opset=opset)
    chosen = None if axes is None else _ints(axes)
    return Case([x, _ints(flat), fill, chosen], [y], constant=(1, 3), opset=opset)


@pytest.mark.parametrize("op", RECIPES.by_op)
def test_rule(op):
    check(op, RECIPES.by_op[op])
