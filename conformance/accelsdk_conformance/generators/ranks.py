"""Movements at every rank from 1 to 6, no extent 1: codes of the whole range are moved.

A kernel often has one path for up to three axes and another beyond, or one for the last axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from accelsdk.formats import INT64, Format, Kind
from accelsdk_conformance.case import Case
from accelsdk_conformance.generators import data, moves
from accelsdk_conformance.generators.movement import moved
from accelsdk_conformance.generators.moves import Move, PadMode, Shape
from accelsdk_conformance.oracles.tensor import Codes, Tensor, code_dtype
from accelsdk_conformance.problem import Context, Problem

#: A tensor of each rank.
SHAPES: dict[int, Shape] = {
    1: (37,),
    2: (9, 23),
    3: (5, 7, 6),
    4: (3, 5, 4, 7),
    5: (2, 3, 5, 4, 6),
    6: (2, 3, 4, 2, 5, 3),
}


def whole_range(fmt: Format, shape: Shape, first: int = 0) -> Tensor:
    """Returns codes that differ from place to place, of integers over all their range.

    A 64-bit integer among them is beyond what a float64 holds, and every second one of an
    unsigned format would be negative if its first bit were a sign.

    Args:
        fmt: Any format.
        shape: Of the tensor.
        first: Where in the sequence of codes it begins.
    """
    count = math.prod(shape)
    if fmt.kind not in (Kind.INT, Kind.UINT):
        return Tensor(fmt, data.ramp(fmt, (first + count,)).codes[first:].reshape(shape))
    index = np.arange(first + 1, first + count + 1, dtype=np.uint64)
    spread = index * np.uint64(0x9E3779B97F4A7C15)  # 2**64 over the golden ratio
    codes = (spread >> np.uint64(64 - fmt.bits)).astype(code_dtype(fmt))
    return Tensor(fmt, codes.reshape(shape))


def along(case: Case, context: Context) -> Problem:
    """A movement that has an axis, along each axis of each rank, named from either end."""
    shape, axis = SHAPES[int(case.parameters["rank"])], int(case.parameters["axis"])
    return _moved(case, _ALONG[case.op](shape, axis, data.rng(case, context)))


def move(case: Case, context: Context) -> Problem:
    """A movement that concerns every axis of each rank."""
    variants = _moves(case.op, data.rng(case, context))
    return _moved(case, variants[str(case.parameters["variant"])])


def transpose(case: Case, context: Context) -> Problem:
    """Each permutation of axes that a change of layout needs, and some that no layout needs."""
    perm = tuple(int(axis) for axis in case.parameters["perm"])
    shape = SHAPES[len(perm)]
    return _moved(case, moves.transpose(shape, *perm))


def _moved(case: Case, variant: Move) -> Problem:
    fmt = data.format_of(case, 0)
    starts = np.cumsum([0, *map(math.prod, variant[0])])
    tensors = [
        whole_range(fmt, shape, int(start))
        for shape, start in zip(variant[0], starts[:-1], strict=True)
    ]
    return moved(case.op, variant, tensors, INT64)


# -- along an axis -----------------------------------------------------------------------------


def _with(shape: Shape, axis: int, extent: int) -> Shape:
    """Returns a shape with another extent of one axis."""
    changed = list(shape)
    changed[axis] = extent
    return tuple(changed)


def _concat(shape: Shape, axis: int, rng: np.random.Generator) -> Move:
    extents = (shape[axis], 1, shape[axis] + 2)
    shapes = [_with(shape, axis, extent) for extent in extents]
    return moves.concat(axis, *shapes)


def _split(shape: Shape, axis: int, rng: np.random.Generator) -> Move:
    extent = shape[axis]
    parts = (1, extent - 1) if extent < 4 else (2, 1, extent - 3)
    return moves.split(shape, axis, *parts)


def _gather(shape: Shape, axis: int, rng: np.random.Generator) -> Move:
    index = _indices(shape[axis], (shape[axis] + 2,), rng)
    return [shape], [index], {"axis": axis}, lambda x, i: np.take(x, i, axis=axis)


def _indices(extent: int, shape: Shape, rng: np.random.Generator) -> Codes:
    """Returns indices from either end, both ends among them."""
    found = rng.integers(-extent, extent, shape)
    found.flat[0], found.flat[-1] = extent - 1, -extent
    return found


def _gather_elements(shape: Shape, axis: int, rng: np.random.Generator) -> Move:
    index = _indices(shape[axis], _with(shape, axis, shape[axis] + 1), rng)

    def reference(x: Codes, i: Codes) -> Codes:
        return np.take_along_axis(x, i, axis=axis)

    return [shape], [index], {"axis": axis}, reference


def _scatter_elements(shape: Shape, axis: int, rng: np.random.Generator) -> Move:
    extent = shape[axis]
    at = _with(shape, axis, max(extent - 1, 1))
    index = np.argsort(rng.random(shape), axis=axis)  # a permutation of each line
    index = index.take(range(at[axis]), axis=axis)
    index = index - extent * rng.integers(0, 2, at)  # negative ones count from the end

    def reference(x: Codes, updates: Codes, i: Codes) -> Codes:
        out = x.copy()
        np.put_along_axis(out, i, updates, axis=axis)
        return out

    return [shape, at], [index], {"axis": axis, "reduction": "none"}, reference


_ALONG: dict[str, Callable[[Shape, int, np.random.Generator], Move]] = {
    "Concat": _concat,
    "Split": _split,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "ScatterElements": _scatter_elements,
}


# -- every axis --------------------------------------------------------------------------------


def _moves(op: str, rng: np.random.Generator) -> dict[str, Move]:
    """Returns the movements of an op by name.

    Raises:
        ValueError: There are none of this op.
    """
    match op:
        case "Slice":
            return _slices()
        case "Pad":
            return _pads()
        case "Expand":
            return _expanded()
        case "Tile":
            return _tiles()
        case "Reshape":
            return _reshaped()
        case "Split":
            return _long_parts()
        case "GatherND":
            return _gathered(rng)
        case "ScatterND":
            return _scattered(rng)
        case _:
            known = "Slice, Pad, Expand, Tile, Reshape, Split, GatherND, ScatterND"
            raise ValueError(f"{op} is none of {known}")


def _slices() -> dict[str, Move]:
    """Cuts along every axis, along one named from the end, and steps of either direction."""

    def cut(shape: Shape, **given: Shape) -> Move:
        parts = [slice(None)] * len(shape)
        for axis, *of in zip(
            *(given[key] for key in ("axes", "starts", "ends", "steps")), strict=True
        ):
            parts[axis] = slice(*of)
        return moves.slices(shape, tuple(parts), **given)

    found: dict[str, Move] = {}
    for rank, shape in SHAPES.items():
        axes = tuple(range(rank))
        back = tuple(axis % 2 for axis in axes)
        found[f"rank{rank}/all"] = cut(
            shape,
            axes=axes,
            starts=tuple(n - 1 if turned else 1 for n, turned in zip(shape, back, strict=True)),
            ends=tuple(-n - 1 if turned else n for n, turned in zip(shape, back, strict=True)),
            steps=tuple(
                -1 if turned else 1 + (n > 4) for n, turned in zip(shape, back, strict=True)
            ),
        )
        for axis in {0, rank // 2, rank - 1}:
            found[f"rank{rank}/axis{axis - rank}"] = cut(
                shape, axes=(axis - rank,), starts=(1,), ends=(shape[axis],), steps=(1,)
            )
    return found


def _pads() -> dict[str, Move]:
    """Items added at both ends of every axis, in every mode, and at one end of one axis."""

    def pad(shape: Shape, mode: PadMode, begins: Shape, ends: Shape, fill: bool = False) -> Move:
        grown = list(zip(begins, ends, strict=True))

        def reference(x: Codes, *value: Codes) -> Codes:
            if value:
                return np.pad(x, grown, mode="constant", constant_values=value[0])
            return np.pad(x, grown, mode=mode)

        return (
            [shape, ()] if fill else [shape],
            [],
            {"pads": begins + ends, "mode": mode},
            reference,
        )

    modes: tuple[PadMode, ...] = ("constant", "reflect", "edge", "wrap")
    found: dict[str, Move] = {}
    for rank, shape in SHAPES.items():
        begins, ends = (tuple((axis + more) % 2 for axis in range(rank)) for more in (1, 0))
        ends = (*ends[:-1], 1)
        for mode in modes:
            found[f"rank{rank}/{mode}"] = pad(shape, mode, begins, ends, mode == "constant")
        lone = tuple(int(axis == rank - 2) for axis in range(rank))
        found[f"rank{rank}/image"] = pad(
            shape, "constant", (*lone[:-1], 1), (*lone[:-1], 1), fill=True
        )
    return found


def _expanded() -> dict[str, Move]:
    """Axes of extent 1 in either alternation, the last alone, and axes put in front."""
    found: dict[str, Move] = {}
    for rank, shape in SHAPES.items():
        for name, first in (("even", 0), ("odd", 1)):
            thin = tuple(1 if axis % 2 == first else n for axis, n in enumerate(shape))
            found[f"rank{rank}/{name}"] = moves.expand(thin, shape)
        found[f"rank{rank}/last"] = moves.expand((*shape[:-1], 1), shape)
        found[f"rank{rank}/front"] = moves.expand(shape[rank // 2 :], shape)
    return found


def _tiles() -> dict[str, Move]:
    """Repeats of every axis, of the first and of the last alone; rows of many lengths."""
    found: dict[str, Move] = {}
    for rank, shape in SHAPES.items():
        found[f"rank{rank}/all"] = moves.tile(
            tuple(min(n, 5) for n in shape), *(2 + axis % 2 for axis in range(rank))
        )
        found[f"rank{rank}/first"] = moves.tile(shape, 3, *(1,) * (rank - 1))
        found[f"rank{rank}/last"] = moves.tile(shape, *(1,) * (rank - 1), 3)
    for length in (15, 16, 17, 31, 33, 65, 129):
        found[f"row{length}"] = moves.tile((3, length), 2, 2)
    return found


def _reshaped() -> dict[str, Move]:
    shapes = SHAPES.items()
    return {
        f"rank{rank}": moves.reshape(shape, (math.prod(shape[1:]), shape[0]))
        for rank, shape in shapes
    }


def _long_parts() -> dict[str, Move]:
    """Parts of more than a vector, beside short ones, along each axis of three."""
    parts = (17, 3, 33, 16, 65)
    found: dict[str, Move] = {}
    for axis in (0, 1, -1):
        found[f"long/axis{axis}"] = moves.split(_with((2, 3, 2), axis, sum(parts)), axis, *parts)
    for length in (15, 17, 31, 64, 100, 257):
        found[f"parts{length}"] = moves.split((2, 2 * length), 1, length, length)
    return found


def _gathered(rng: np.random.Generator) -> dict[str, Move]:
    """Tuples of every depth in data of every rank, with and without batches."""

    def gather(shape: Shape, depth: int, batch: int) -> Move:
        extents = np.array(shape[batch : batch + depth])
        index = rng.integers(-extents, extents, (*shape[:batch], 9, depth))

        def reference(x: Codes, i: Codes) -> Codes:
            places = np.ndindex(*i.shape[:-1])
            rows = [x[(*place[:batch], *i[place])] for place in places]
            return np.array(rows, x.dtype).reshape(*i.shape[:-1], *x.shape[batch + depth :])

        return [shape], [index], {"batch_dims": batch}, reference

    return {
        f"rank{rank}/depth{depth}/batch{batch}": gather(SHAPES[rank], depth, batch)
        for rank in SHAPES
        for batch in range(min(rank, 3))
        for depth in range(1, rank - batch + 1)
    }


def _scattered(rng: np.random.Generator) -> dict[str, Move]:
    """Slices of every rank, each written once."""

    def scatter(shape: Shape, depth: int) -> Move:
        extents = shape[:depth]
        count = min(math.prod(extents) - 1, 11)
        flat = rng.permutation(math.prod(extents))[:count]
        index: Codes = np.stack(np.unravel_index(flat, extents), axis=-1)
        index = index - np.array(extents) * rng.integers(0, 2, index.shape)

        def reference(x: Codes, updates: Codes, i: Codes) -> Codes:
            out = x.copy()
            for place, to in enumerate(i):
                out[tuple(to)] = updates[place]
            return out

        return [shape, (count, *shape[depth:])], [index], {"reduction": "none"}, reference

    return {
        f"rank{rank}/depth{depth}": scatter(shape, depth)
        for rank, shape in SHAPES.items()
        for depth in range(1, rank + 1)
    }
