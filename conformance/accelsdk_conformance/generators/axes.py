"""What can be left out of operands whose axes belong together, so that a failure can be shrunk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from accelsdk_conformance.oracles.tensor import Tensor
from accelsdk_conformance.problem import Along, Axis, separate_axes


def product(a: Tensor, b: Tensor, *more: Tensor | None) -> Iterator[Axis]:
    """Yields K, rows, columns and batches of a product of any ranks, as of NumPy's matmul."""
    shapes = a.shape, b.shape
    yield Along(0, len(a.shape) - 1), Along(1, max(len(b.shape) - 2, 0))
    if len(a.shape) > 1:
        yield (Along(0, len(a.shape) - 2),)
    if len(b.shape) > 1:
        yield (Along(1, len(b.shape) - 1),)
    for back in range(3, max(map(len, shapes)) + 1):
        yield tuple(
            Along(i, len(shape) - back)
            for i, shape in enumerate(shapes)
            if len(shape) >= back and shape[-back] != 1
        )


def convolution(x: Tensor, w: Tensor, *more: Tensor | None) -> Iterator[Axis]:
    """Yields what can be left out of a convolution, and of its bias or zero points.

    Whole groups, outputs and inputs of every group, items of the batch, places, taps.
    """
    group = x.shape[1] // max(w.shape[1], 1)
    each = w.shape[0] // max(group, 1)
    own = [i for i, other in enumerate(more, 2) if other is not None and other.shape]
    yield Along(0, 1, w.shape[1]), Along(1, 0, each), *(Along(i, 0, each) for i in own)
    yield Along(1, 0, runs=group), *(Along(i, 0, runs=group) for i in own)
    yield Along(0, 1, runs=group), Along(1, 1)
    yield (Along(0, 0),)
    for axis in range(2, len(x.shape)):
        yield (Along(0, axis),)
        yield (Along(1, axis),)


def groups_of(x: Tensor, each: int) -> int:
    """Returns the groups of a transposed convolution whose weights do not tell them.

    Args:
        x: Input.
        each: Channels of a group; of the last group left, some.

    Raises:
        ValueError: Channels do not make whole groups.
    """
    if x.shape[1] > each and x.shape[1] % each:
        raise ValueError(f"{x.shape[1]} channels in groups of {each}")
    return max(x.shape[1] // each, 1)


def transposed(each: int, x: Tensor, w: Tensor, bias: Tensor | None = None) -> Iterator[Axis]:
    """Yields what can be left out of a transposed convolution; arguments as of `groups_of`."""
    groups = max(x.shape[1] // each, 1)
    unit = each if groups > 1 else 1
    yield (
        *(Along(0, 1, unit), Along(1, 0, unit)),
        *((Along(2, 0, w.shape[1]),) if bias is not None and groups > 1 else ()),
    )
    yield Along(1, 1), *((Along(2, 0, runs=groups),) if bias is not None else ())
    yield (Along(0, 0),)
    for axis in range(2, len(x.shape)):
        yield (Along(0, axis),)
        yield (Along(1, axis),)


def granular(axis: int, block: int, x: Tensor, *per: Tensor | None) -> Iterator[Axis]:
    """Yields the axes of data with the scales and zero points that belong to their parts.

    Args:
        axis: That scales lie along.
        block: Elements that share a scale; 0: each of a channel has one.
        x: The data.
        per: One scale, or one of each channel or block.
    """
    rank = len(x.shape)
    own = [i for i, part in enumerate(per, 1) if part is not None and part.shape]
    for at in range(rank):
        if block:
            unit = block if at == axis % rank else 1
            yield Along(0, at, unit), *(Along(i, at) for i in own)
        else:
            yield Along(0, at), *(Along(i, 0) for i in own if at == axis % rank)
    if block:  # of the last block, some
        yield (Along(0, axis % rank),)


def movement(op: str, attributes: Mapping[str, Any], *operands: Tensor) -> Iterator[Axis]:
    """Yields the axes of data that is moved whose extents stand in no attribute."""
    x, *more = operands
    rank = len(x.shape)
    axis = int(attributes.get("axis", 0)) % max(rank, 1)
    others = [at for at in range(rank) if at != axis]
    match op:
        case "Transpose" | "Tile" | "Gather":
            yield from separate_axes(*operands)
        case "Concat" | "GatherElements":
            yield from (tuple(Along(i, at) for i in range(len(operands))) for at in others)
            yield from ((Along(i, axis),) for i in range(len(operands)))
        case "Split":
            yield from ((Along(0, at),) for at in others)
        case "Slice":
            cut = {at % rank for at in attributes["axes"]}
            yield from ((Along(0, at),) for at in range(rank) if at not in cut)
        case "Pad" if min(attributes["pads"]) >= 0 and attributes["mode"] in ("constant", "edge"):
            yield from ((Along(0, at),) for at in range(rank))
        case "ScatterElements":  # nothing along the axis: two indices might become one place
            yield from ((Along(0, at), Along(1, at), Along(2, at)) for at in others)
            yield Along(1, axis), Along(2, axis)
        case "GatherND":
            batch = int(attributes["batch_dims"])
            yield from ((Along(0, at), Along(1, at)) for at in range(batch))
            yield from ((Along(1, at),) for at in range(batch, len(more[0].shape) - 1))
            yield from ((Along(0, at),) for at in range(batch, rank))
        case "ScatterND":
            count, depth = len(more[0].shape) - 1, more[0].shape[-1]
            yield from ((Along(1, at), Along(2, at)) for at in range(count))
            yield from ((Along(0, at), Along(2, at - depth + count)) for at in range(depth, rank))


def gemm(a: Tensor, b: Tensor, c: Tensor | None, trans_a: int, trans_b: int) -> list[Axis]:
    """Returns rows, K and columns, with those of C."""
    own = () if c is None else c.shape
    row = (Along(2, 0),) if len(own) == 2 and own[0] > 1 else ()
    column = (Along(2, len(own) - 1),) if own and own[-1] > 1 else ()
    return [
        (Along(0, trans_a), *row),
        (Along(0, 1 - trans_a), Along(1, trans_b)),
        (Along(1, 1 - trans_b), *column),
    ]


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> list[Axis]:
    """Returns items, groups of heads, heads of a group, queries, keys, and both widths."""
    own = () if mask is None else mask.shape

    def masked(axis: int, unit: int = 1) -> Axis:
        at = axis - 4 + len(own)
        return (Along(3, at, unit),) if at >= 0 and own[at] == q.shape[axis] else ()

    groups = q.shape[1] // max(k.shape[1], 1)
    keys = (Along(3, len(own) - 1),) if own and own[-1] == k.shape[2] else ()
    return [
        (Along(0, 0), Along(1, 0), Along(2, 0), *masked(0)),
        (Along(0, 1, groups), Along(1, 1), Along(2, 1), *masked(1, groups)),
        (Along(0, 2), *masked(2)),
        (Along(1, 2), Along(2, 2), *keys),
        (Along(0, 3), Along(1, 3)),
        (Along(2, 3),),
    ]
