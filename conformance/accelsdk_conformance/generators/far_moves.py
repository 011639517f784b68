"""Movements at the ends: many operands, limits of 64 bits, long axes, crops, tiles of 32."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from accelsdk_conformance.generators.moves import (
    Move,
    PadMode,
    Shape,
    concat,
    expand,
    plain,
    slices,
    split,
    tile,
    transpose,
)

_END = (1 << 63) - 1


def far_moves() -> dict[str, Move]:
    """Returns the movements by name, as `movement.MOVES` has them."""
    return _shaped() | _cut() | _indexed(np.random.default_rng(11)) | _padded()


def _shaped() -> dict[str, Move]:
    return {
        "Transpose/0213": transpose((2, 3, 5, 4), 0, 2, 1, 3),
        "Transpose/tiles": transpose((65, 67), 1, 0),
        "Transpose/batch_tiles": transpose((3, 33, 35), 0, 2, 1),
        "Transpose/long": transpose((2, 1030), 1, 0),
        "Expand/tiles": expand((33, 1), (33, 67)),
        "Tile/long": tile((5, 3), 70, 2),
    }


def _cut() -> dict[str, Move]:
    many = {
        f"Concat/many{count}": concat(1, *((3, 1 + i % 3) for i in range(count)))
        for count in (5, 9, 17, 33)
    }
    return many | {
        "Slice/int_max": slices(
            (7, 3), np.s_[2:], starts=(2,), ends=(_END,), axes=(0,), steps=(1,)
        ),
        "Slice/int_min": slices(
            (7, 3), np.s_[4::-2], starts=(4,), ends=(-_END - 1,), axes=(0,), steps=(-2,)
        ),
        "Slice/int_both": slices(
            (3, 7), np.s_[:, ::-1], starts=(_END,), ends=(-_END - 1,), axes=(1,), steps=(-1,)
        ),
        "Slice/start_below": slices(
            (7, 3), np.s_[:4], starts=(-100,), ends=(4,), axes=(0,), steps=(1,)
        ),
        "Slice/step_beyond": slices(
            (7, 5), np.s_[1::50, 3::-60], starts=(1, 3), ends=(7, -9), axes=(0, 1), steps=(50, -60)
        ),
        "Slice/three": slices(
            (5, 6, 7), np.s_[1:4, 5:0:-2, 2:6], starts=(1, 5, 2), ends=(4, 0, 6), axes=(0, 1, 2),
            steps=(1, -2, 1),
        ),
        "Slice/unordered": slices(
            (5, 6, 7), np.s_[1:4, :, 6:2:-1], starts=(6, 1), ends=(2, 4), axes=(2, 0), steps=(-1, 1)
        ),
        "Split/many": split((17, 3), 0, 1, 2, 3, 1, 4, 1, 2, 3),
        "Split/one": split((4, 3), 1, 3),
        "Split/last": split((2, 3, 9), -1, 2, 4, 3),
    }  # fmt: skip


def _indexed(rng: np.random.Generator) -> dict[str, Move]:
    def gather(shape: Shape, axis: int, at: Shape, low: int = 0) -> Move:
        index = rng.integers(low, shape[axis], at)
        index.flat[0], index.flat[-1] = shape[axis] - 1, -shape[axis]
        return [shape], [index], {"axis": axis}, lambda x, i: np.take(x, i, axis=axis)

    def elements(shape: Shape, at: Shape) -> Move:
        index = rng.integers(-shape[1], shape[1], at)

        def reference(x: NDArray[Any], i: NDArray[Any]) -> NDArray[Any]:
            return np.take_along_axis(x, i, axis=1)

        return [shape], [index], {"axis": 1}, reference

    def scatter(rows: int, count: int) -> Move:
        index = rng.permutation(rows)[:count, None] - rows * rng.integers(0, 2, (count, 1))

        def reference(x: NDArray[Any], updates: NDArray[Any], i: NDArray[Any]) -> NDArray[Any]:
            out = x.copy()
            out[i[:, 0] % rows] = updates
            return out

        return [(rows, 3), (count, 3)], [index], {"reduction": "none"}, reference

    return {
        "Gather/rank3": gather((3, 5, 4), 1, (2, 3, 2)),
        "Gather/long": gather((300, 3), 0, (19,), 256),
        "Gather/longer": gather((65600, 1), 0, (19,), 65536),
        "Gather/wide": gather((5, 131), 0, (7,)),
        "GatherElements/long": elements((3, 300), (3, 17)),
        "ScatterND/long": scatter(300, 70),
    }


def _padded() -> dict[str, Move]:
    def pad(shape: Shape, mode: PadMode, *pads: int) -> Move:
        rank = len(shape)
        begins, ends = pads[:rank], pads[rank:]
        cut = tuple(
            slice(max(-b, 0), n - max(-e, 0)) for n, b, e in zip(shape, begins, ends, strict=True)
        )
        grown = [(max(b, 0), max(e, 0)) for b, e in zip(begins, ends, strict=True)]
        given = {"pads": pads, "mode": mode}
        return plain(shape, given, lambda x: np.pad(x[cut], grown, mode=mode))

    crops = {f"Pad/{mode}_crop": pad((5, 6), mode, -1, 2, 2, -2) for mode in get_args(PadMode)}
    return crops | {"Pad/wide": pad((2, 130), "edge", 1, 3, 0, 67)}
