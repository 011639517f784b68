"""Data movement, on codes that differ from place to place: nothing is computed, all is exact."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.formats import INT32, INT64, Format
from accelsdk_conformance.case import Case
from accelsdk_conformance.generators import axes, data
from accelsdk_conformance.generators.far_moves import far_moves
from accelsdk_conformance.generators.moves import (
    Move,
    PadMode,
    Shape,
    concat,
    expand,
    reshape,
    slices,
    split,
    tile,
    transpose,
)
from accelsdk_conformance.oracles.tensor import Codes, Tensor, from_integers, represent
from accelsdk_conformance.problem import (
    Along,
    Axis,
    Context,
    Exact,
    Expected,
    Problem,
    Tier,
    always,
    expect_exact,
    shrinkable,
)

_CUBE = (3, 5, 4)


def _shaped() -> dict[str, Move]:
    """Returns movements that rearrange axes: Reshape, Transpose, Expand, Tile."""
    return {
        "Reshape/flat": reshape(_CUBE, (60,)),
        "Reshape/rank6": reshape(_CUBE, (1, 3, 5, 2, 2, 1)),
        "Reshape/empty": reshape((0, 4), (2, 0)),
        "Reshape/scalar": reshape((1, 1), ()),
        "Reshape/vector": reshape((12,), (3, 4)),
        "Reshape/unscalar": reshape((), (1, 1, 1)),
        "Reshape/odd": reshape((7, 3), (3, 7)),
        "Transpose/210": transpose(_CUBE, 2, 1, 0),
        "Transpose/021": transpose(_CUBE, 0, 2, 1),
        "Transpose/120": transpose(_CUBE, 1, 2, 0),
        "Transpose/matrix": transpose((33, 17), 1, 0),
        "Transpose/rank4": transpose((2, 3, 4, 5), 0, 2, 3, 1),
        "Transpose/rank6": transpose((2, 1, 3, 2, 3, 2), 5, 3, 0, 4, 2, 1),
        "Transpose/vector": transpose((7,), 0),
        "Transpose/scalar": transpose(()),
        "Transpose/empty": transpose((3, 0, 2), 2, 0, 1),
        "Expand/rank": expand((5, 1), (3, 5, 4)),
        "Expand/scalar": expand((), (2, 3)),
        "Expand/ones": expand((3, 1, 4), (1, 2, 1)),
        "Expand/empty": expand((1, 3), (0, 3)),
        "Tile/both": tile((3, 2), 2, 3),
        "Tile/rank4": tile((1, 3, 1, 2), 2, 1, 3, 2),
        "Tile/none": tile((3, 2), 0, 2),
    }


def _cut() -> dict[str, Move]:
    """Returns movements that join and cut: Concat, Split, Slice."""
    found = {
        f"Concat/axis{axis}": concat(
            axis, *(tuple(n + i * (a == axis) for a, n in enumerate(_CUBE)) for i in range(3))
        )
        for axis in (0, 1, 2)
    }
    return found | {
        "Concat/last": concat(-1, (3, 1), (3, 5), (3, 2), (3, 7)),
        "Concat/one": concat(0, (5, 3)),
        "Concat/empty": concat(1, (3, 2), (3, 0), (3, 3)),
        "Concat/vector": concat(0, (3,), (1,), (5,)),
        "Concat/twice": concat(1, (3, 4), (3, 2), (3, 4)),
        "Split/uneven": split((4, 9), 1, 2, 3, 4),
        "Split/first": split((5, 3), 0, 1, 4),
        "Split/empty": split((3, 5), -1, 0, 3, 0, 2),
        "Split/middle": split((3, 5, 3), 1, 1, 3, 1),
        "Slice/steps": slices(
            (9, 10), np.s_[1:9:3, 8:1:-2], starts=(1, 8), ends=(9, 1), axes=(0, 1), steps=(3, -2)
        ),
        "Slice/reverse": slices(
            (7, 3), np.s_[::-1], starts=(6,), ends=(-8,), axes=(0,), steps=(-1,)
        ),
        "Slice/odd": slices(
            (5, 7), np.s_[1:4, 3:6], starts=(1, 3), ends=(4, 6), axes=(0, 1), steps=(1, 1)
        ),
        "Slice/negative": slices(
            (6, 4, 7), np.s_[:, 1:3, 2:5:2], starts=(-5, -3), ends=(-2, -1), axes=(-1, 1),
            steps=(2, 1),
        ),
        "Slice/clamped": slices(
            (5, 6), np.s_[2:5, ::-1], starts=(2, 100), ends=(100, -100), axes=(0, 1),
            steps=(1, -1),
        ),
        "Slice/empty": slices((5, 3), np.s_[3:3], starts=(3,), ends=(2,), axes=(0,), steps=(1,)),
        "Slice/vector": slices((77,), np.s_[3:70], starts=(3,), ends=(70,), axes=(0,), steps=(1,)),
    }  # fmt: skip


def _gathered(rng: np.random.Generator) -> dict[str, Move]:
    """Returns movements by index: Gather, GatherND, GatherElements."""

    def gather(shape: Shape, axis: int, at: Shape) -> Move:
        index = rng.integers(-shape[axis], shape[axis], at)
        return [shape], [index], {"axis": axis}, lambda x, i: np.take(x, i, axis=axis)

    def gather_nd(shape: Shape, depth: int, count: Shape, batch: int = 0) -> Move:
        extents = np.array(shape[batch : batch + depth])
        index = rng.integers(-extents, extents, (*shape[:batch], *count, depth))

        def reference(x: Codes, i: Codes) -> Codes:
            rows = [x[(*place[:batch], *i[place])] for place in np.ndindex(*i.shape[:-1])]
            return np.array(rows, x.dtype).reshape(*i.shape[:-1], *x.shape[batch + depth :])

        return [shape], [index], {"batch_dims": batch}, reference

    def elements(shape: Shape, axis: int, at: Shape) -> Move:
        index = rng.integers(-shape[axis], shape[axis], at)
        parts = tuple(slice(n if a != axis % len(at) else None) for a, n in enumerate(at))

        def reference(x: Codes, i: Codes) -> Codes:
            return np.take_along_axis(x[parts], i, axis=axis)

        return [shape], [index], {"axis": axis}, reference

    found = {f"Gather/axis{axis}": gather(_CUBE, axis, (2, 3)) for axis in (0, 1, 2)}
    return found | {
        "Gather/scalar": gather(_CUBE, 1, ()),
        "Gather/last": gather((4, 9), -1, (13,)),
        "Gather/empty": gather(_CUBE, 0, (0,)),
        "GatherND/rows": gather_nd(_CUBE, 2, (7,)),
        "GatherND/full": gather_nd(_CUBE, 3, (2, 5)),
        "GatherND/first": gather_nd(_CUBE, 1, (4,)),
        "GatherND/batch": gather_nd((3, 5, 4), 1, (6,), batch=1),
        "GatherND/batch2": gather_nd((2, 3, 5, 2), 1, (4,), batch=2),
        "GatherElements/axis1": elements(_CUBE, 1, (3, 6, 4)),
        "GatherElements/axis0": elements(_CUBE, 0, (7, 5, 4)),
        "GatherElements/last": elements(_CUBE, -1, (2, 3, 9)),
    }


def _scattered(rng: np.random.Generator) -> dict[str, Move]:
    """Returns movements into places, each written once: ScatterElements, ScatterND."""

    def elements(shape: Shape, axis: int, at: Shape) -> Move:
        lines = [rng.permutation(shape[axis])[: at[axis]] for _ in range(math.prod(at) // at[axis])]
        rest = tuple(n for a, n in enumerate(at) if a != axis % len(at))
        index = np.moveaxis(np.array(lines).reshape(*rest, at[axis]), -1, axis)
        index = index - shape[axis] * rng.integers(0, 2, at)  # negative ones count from the end

        def reference(x: Codes, updates: Codes, i: Codes) -> Codes:
            out = x.copy()
            for place in np.ndindex(*i.shape):
                to = [*place]
                to[axis] = i[place]
                out[tuple(to)] = updates[place]
            return out

        return [shape, at], [index], {"axis": axis, "reduction": "none"}, reference

    def rows(shape: Shape, depth: int, count: Shape) -> Move:
        extents = shape[:depth]
        flat = rng.permutation(math.prod(extents))[: math.prod(count)]
        index: Codes = np.stack(np.unravel_index(flat, extents), axis=-1).reshape(*count, depth)
        back = rng.integers(0, 2, index.shape)  # negative ones count from the end
        index = index - np.array(extents) * back

        def reference(x: Codes, updates: Codes, i: Codes) -> Codes:
            out = x.copy()
            for place in np.ndindex(*i.shape[:-1]):
                out[tuple(i[place])] = updates[place]
            return out

        shapes = [shape, (*count, *shape[depth:])]
        return shapes, [index], {"reduction": "none"}, reference

    return {
        "ScatterElements/axis1": elements(_CUBE, 1, (3, 2, 4)),
        "ScatterElements/axis0": elements((7, 3), 0, (5, 2)),
        "ScatterElements/last": elements((2, 3, 9), -1, (2, 2, 4)),
        "ScatterND/rows": rows(_CUBE, 2, (3,)),
        "ScatterND/full": rows(_CUBE, 3, (2, 7)),
        "ScatterND/first": rows(_CUBE, 1, (2,)),
    }


def _padded() -> dict[str, Move]:
    """Returns every mode of Pad, with the value given and left out, adding and removing."""

    def pad(shape: Shape, pads: Shape, mode: PadMode, fill: bool = False) -> Move:
        rank = len(shape)
        cut = tuple(
            slice(max(-pads[a], 0), n - max(-pads[a + rank], 0)) for a, n in enumerate(shape)
        )
        ends = [(max(pads[a], 0), max(pads[a + rank], 0)) for a in range(rank)]

        def reference(x: Codes, *value: Codes) -> Codes:
            if value:
                return np.pad(x[cut], ends, mode="constant", constant_values=value[0])
            return np.pad(x[cut], ends, mode=mode)

        shapes = [shape, ()] if fill else [shape]
        return shapes, [], {"pads": pads, "mode": mode}, reference

    ends = (1, 2, 3, 0)
    return {
        "Pad/constant": pad((4, 5), ends, "constant"),
        "Pad/edge": pad((4, 5), ends, "edge"),
        "Pad/wrap": pad((4, 5), ends, "wrap"),
        "Pad/reflect": pad((4, 5), ends, "reflect"),
        "Pad/crop": pad((4, 5), (-1, 2, 0, -2), "constant"),
        "Pad/fill": pad((4, 5), (1, 2, 3, -1), "constant", fill=True),
        "Pad/fill3": pad((2, 3, 5), (0, 1, 2, 1, 0, 1), "constant", fill=True),
        "Pad/edge3": pad((2, 3, 5), (1, 0, 4, 0, 2, 3), "edge"),
        "Pad/reflect3": pad((2, 4, 5), (1, 3, 0, 0, 2, 4), "reflect"),
        "Pad/wrap3": pad((2, 3, 5), (1, 3, 0, 2, 2, 5), "wrap"),
        "Pad/empty": pad((0, 3), (1, 0, 1, 2), "constant", fill=True),
        "Pad/vector": pad((13,), (3, 5), "edge"),
    }


def _moves() -> dict[str, Move]:
    """Returns every movement case by name: op, then variant."""
    rng = np.random.default_rng(7)
    return _shaped() | _cut() | _gathered(rng) | _scattered(rng) | _padded() | far_moves()


MOVES = _moves()


def move(case: Case, context: Context) -> Problem:
    """One movement of one format, on a ramp of codes that runs on from operand to operand."""
    fmt = data.format_of(case, 0)
    variant = MOVES[f"{case.op}/{case.parameters['variant']}"]
    sizes = [math.prod(shape) for shape in variant[0]]
    run = data.ramp(fmt, (sum(sizes),)).codes
    parts = np.split(run, np.cumsum(sizes)[:-1])
    tensors = [Tensor(fmt, p.reshape(shape)) for p, shape in zip(parts, variant[0], strict=True)]
    if case.parameters["variant"] == "twice":  # one value, and one buffer, in two places
        tensors[-1] = tensors[0]
    return moved(case.op, variant, tensors, INT32 if case.parameters.get("index") else INT64)


def moved(op: str, variant: Move, tensors: Sequence[Tensor], kind: Format) -> Problem:
    """Returns the problem of moving codes: a NaN keeps its payload.

    Args:
        op: The node's op.
        variant: What is moved where.
        tensors: Of the variant's shapes.
        kind: Format of indices.
    """
    _, indices, attributes, reference = variant
    index = [from_integers(i, kind) for i in indices]
    operands = (tensors[0], *index, *tensors[1:]) if index else tuple(tensors)

    def make(*given: Tensor) -> Problem:
        own = given[1 : 1 + len(index)]
        placed = [given[0], *given[1 + len(own) :]]
        wanted = reference(*(t.codes for t in placed), *(i.integers for i in own))
        results = wanted if isinstance(wanted, list) else [wanted]
        expected = [_moved(Tensor(given[0].format, np.asarray(r, order="C"))) for r in results]
        return Problem(
            op=op,
            operands=given,
            attributes=attributes,
            outputs=len(results),
            oracle=always(*expected),
        )

    return shrinkable(
        make,
        operands,
        lambda *given: axes.movement(op, attributes, *given),
        fixed=range(1, 1 + len(index)),
    )


def _moved(tensor: Tensor) -> Expected:
    """Returns the expectation of exactly these codes."""
    return Expected(tensor.format, tensor.shape, ((Tier.T0, Exact(tensor.codes)),), Tier.T0)


_UFUNCS = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


def combine(case: Case, context: Context) -> Problem:
    """ScatterElements and ScatterND that combine: places are hit often, and sums are exact."""
    fmt = data.format_of(case, 0)
    rng = data.rng(case, context)
    how = str(case.parameters["reduction"])
    shape = (5, 7)
    before, updates = _whole(fmt, shape, how, rng), _whole(fmt, (9, 7), how, rng)
    attributes: dict[str, Any] = {"reduction": how}
    if case.op == "ScatterElements":
        index = rng.integers(-5, 5, (9, 7))
        attributes["axis"] = 0
    else:
        index = rng.integers(-5, 5, 9)[:, None]

    def make(before: Tensor, index: Tensor, updates: Tensor) -> Problem:
        rows = index.integers
        if ((rows < -before.shape[0]) | (rows >= before.shape[0])).any():
            raise IndexError("an index beyond its axis")
        place: tuple[Codes, ...] = (rows[:, 0],)
        if case.op == "ScatterElements":
            place = (rows, np.broadcast_to(np.arange(rows.shape[1]), rows.shape))
        after = _numbers(before).copy()
        _UFUNCS[how].at(after, place, _numbers(updates))
        return Problem(
            op=case.op,
            operands=(before, index, updates),
            attributes=attributes,
            oracle=always(expect_exact(_wrap(after, fmt), signed_zero=False)),
        )

    def parts(before: Tensor, index: Tensor, updates: Tensor) -> list[Axis]:
        column = (Along(1, 1),) if case.op == "ScatterElements" else ()
        return [(Along(1, 0), Along(2, 0)), (Along(0, 1), Along(2, 1), *column), (Along(0, 0),)]

    operands = (_wrap(before, fmt), from_integers(index, INT64), _wrap(updates, fmt))
    return shrinkable(make, operands, parts, fixed=(1,))


def _numbers(x: Tensor) -> NDArray[Any]:
    return x.values if x.format.is_float else x.integers


def _whole(fmt: Format, shape: Shape, how: str, rng: np.random.Generator) -> NDArray[np.int64]:
    if how == "mul":
        few = [1, -1, 1, 2] if fmt.is_signed else [1, 1, 1, 2]
        return rng.choice(few, shape)
    return rng.integers(-6 if fmt.is_signed else 0, 12, shape)


def _wrap(values: NDArray[Any], fmt: Format) -> Tensor:
    return represent(values, fmt) if fmt.is_float else from_integers(values, fmt)
