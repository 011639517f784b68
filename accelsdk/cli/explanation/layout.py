"""Places the boxes of a directed acyclic graph in layers, and routes its edges between them.

After Sugiyama, Tagawa and Toda (1981): layers by longest path; a long edge becomes a chain of
points, one a layer; each layer is ordered by the barycentres of its neighbours. Coordinates
then go towards the mean of the neighbours', as far as order and widths allow: that is isotonic
regression, solved exactly by pooling adjacent violators (Ayer et al. 1955).

Networks are deep and narrow: what would be a tower is broken into columns, as text is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

#: Space between boxes of a layer, width of a point of a long edge, height of a layer.
GAP, POINT, LAYER = 14.0, 8.0, 46.0
#: Space between columns, and above and below them; layers of the shortest column.
GUTTER, MARGIN, _SHORTEST = 40.0, 18.0, 10
_ORDERINGS, _PLACINGS = 8, 8
#: Points of long edges, for each box, that are worth their ink; longer edges become stubs.
_POINTS = 12
#: What keeps long edges straight: points pull that much harder than boxes.
_PULL = 4.0
#: What keeps deep graphs from drifting aside: each layer is that much nearer to the middle.
_HOME = 0.94


@dataclass(frozen=True, slots=True)
class Net:
    """One value: the box that makes it, and those that read it."""

    source: int
    targets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything lies; x and y of centres.

    Attributes:
        width: Of the drawing.
        height: Of the drawing.
        x: Of boxes, then of the points of long edges.
        y: Of the same.
        column: Column of the same.
        gutters: For each column but the first, x of the space to its left.
        links: Neighbours in adjacent layers that are joined, upper before lower; also from the
            last layer of a column to the first of the next.
        stubs: Boxes whose operand comes from too far away to draw, with where from.
    """

    width: float
    height: float
    x: list[float]
    y: list[float]
    column: list[int]
    gutters: list[float]
    links: list[tuple[int, int]]
    stubs: list[tuple[int, int]]


def lay_out(widths: Sequence[float], nets: Sequence[Net], page: float) -> Layout:
    """Places boxes.

    Args:
        widths: Of the boxes; at least one.
        nets: Sources come before targets in the numbering of boxes, or the source has no
            operands itself.
        page: Width that columns should not exceed.
    """
    layers = _layers(len(widths), nets)
    sizes = list(widths)
    links, stubs = _links(nets, layers, sizes)
    rows: list[list[int]] = [[] for _ in range(max(layers, default=-1) + 1)]
    for item, layer in enumerate(layers):
        rows[layer].append(item)
    above: list[list[int]] = [[] for _ in sizes]
    below: list[list[int]] = [[] for _ in sizes]
    for upper, lower in links:
        above[lower].append(upper)
        below[upper].append(lower)
    _order(rows, above, below)
    x = _coordinates(rows, sizes, above, below, len(widths))
    return _broken(_Tower(rows, sizes, layers, x, links), page, stubs)


@dataclass(frozen=True, slots=True)
class _Tower:
    """A drawing before it is broken into columns."""

    rows: list[list[int]]
    sizes: list[float]
    layers: list[int]
    x: list[float]
    links: list[tuple[int, int]]

    def extent(self, rows: Sequence[list[int]]) -> tuple[float, float]:
        """Returns the left and right border of some layers."""
        items = [item for row in rows for item in row]
        left = min(self.x[item] - self.sizes[item] / 2 for item in items)
        return left, max(self.x[item] + self.sizes[item] / 2 for item in items)


def _broken(tower: _Tower, page: float, stubs: list[tuple[int, int]]) -> Layout:
    """Breaks a tower into as many columns as a page of that width has room for."""
    cuts = _cuts(tower, page)
    x, y = list(tower.x), [0.0] * len(tower.x)
    column = [0] * len(tower.x)
    gutters: list[float] = []
    right = 0.0
    for number, (first, last) in enumerate(pairwise(cuts)):
        rows = tower.rows[first:last]
        left, end = tower.extent(rows)
        start = right + GUTTER
        if number:
            gutters.append(right + GUTTER / 2)
        for depth, row in enumerate(rows):
            for item in row:
                x[item] = tower.x[item] - left + start
                y[item] = MARGIN + LAYER * (depth + 0.5)
                column[item] = number
        right = start + end - left
    tallest = max(last - first for first, last in pairwise(cuts))
    height = LAYER * tallest + 2 * MARGIN
    return Layout(right + GUTTER, height, x, y, column, gutters, tower.links, stubs)


def _cuts(tower: _Tower, page: float) -> list[int]:
    """Returns where columns begin, and the number of layers; where few edges are cut."""
    depth = len(tower.rows)
    crossing = [0] * (depth + 1)
    for _, lower in tower.links:
        crossing[tower.layers[lower]] += 1
    best = [0, depth]
    for columns in range(2, depth // _SHORTEST + 1):
        slack = depth // columns // 5
        cuts = [0]
        for number in range(1, columns):
            middle = depth * number // columns
            near = range(middle - slack, middle + slack + 1)
            cuts.append(min(near, key=lambda at: (crossing[at], abs(at - middle))))
        cuts.append(depth)
        extents = [tower.extent(tower.rows[a:b]) for a, b in pairwise(cuts)]
        if sum(right - left + GUTTER for left, right in extents) + GUTTER > page:
            break
        best = cuts
    return best


def _layers(count: int, nets: Sequence[Net]) -> list[int]:
    """Returns the layer of each box: below all that it reads; what reads nothing comes late."""
    layers = [0] * count
    reads = [False] * count
    first = [0] * count
    by_source: dict[int, list[int]] = defaultdict(list)
    before = [0] * count
    for net in nets:
        for target in net.targets:
            by_source[net.source].append(target)
            before[target] += 1
            reads[target] = True
    ready = [item for item in range(count) if not before[item]]
    while ready:
        item = ready.pop()
        for target in by_source[item]:
            layers[target] = max(layers[target], layers[item] + 1)
            before[target] -= 1
            if not before[target]:
                ready.append(target)
    for item in range(count):
        first[item] = min((layers[target] for target in by_source[item]), default=1)
    return [layer if reads[item] else max(first[item] - 1, 0) for item, layer in enumerate(layers)]


def _links(
    nets: Sequence[Net], layers: list[int], sizes: list[float]
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Returns links of adjacent layers, and stubs; adds the points of long edges at the end."""
    links: list[tuple[int, int]] = []
    stubs: list[tuple[int, int]] = []
    budget = _POINTS * len(sizes)

    def length(net: Net) -> int:
        return max(layers[target] for target in net.targets) - layers[net.source] - 1

    for net in sorted((net for net in nets if net.targets), key=length):
        budget -= length(net)
        if budget < 0:
            for target in net.targets:
                near = layers[target] == layers[net.source] + 1
                (links if near else stubs).append((net.source, target))
            continue
        chain = [net.source]
        for layer in range(layers[net.source] + 1, layers[net.source] + 1 + length(net)):
            links.append((chain[-1], len(sizes)))
            chain.append(len(sizes))
            sizes.append(POINT)
            layers.append(layer)
        links.extend(
            (chain[layers[target] - layers[net.source] - 1], target)
            for target in dict.fromkeys(net.targets)
        )
    return links, stubs


def _order(rows: list[list[int]], above: list[list[int]], below: list[list[int]]) -> None:
    """Orders each layer by the mean position of its neighbours, down and up in turn."""
    position: dict[int, float] = {item: n for row in rows for n, item in enumerate(row)}
    for turn in range(_ORDERINGS):
        down = turn % 2 == 0
        neighbours = above if down else below
        for row in rows if down else reversed(rows):
            keys = {
                item: _mean([position[other] for other in neighbours[item]], position[item])
                for item in row
            }
            row.sort(key=lambda item: (keys[item], position[item]))
            position.update({item: float(n) for n, item in enumerate(row)})


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default


def _coordinates(
    rows: list[list[int]],
    sizes: Sequence[float],
    above: list[list[int]],
    below: list[list[int]],
    boxes: int,
) -> list[float]:
    """Returns x of each item, in the order of its layer and without overlap."""
    x = [0.0] * len(sizes)
    for turn in range(_PLACINGS):
        down = turn % 2 == 0
        neighbours = above if down else below
        for row in rows if down else reversed(rows):
            wanted = [_mean([x[other] for other in neighbours[item]], x[item]) for item in row]
            weights = [1.0 if item < boxes else _PULL for item in row]
            offsets = [0.0]
            for left, right in pairwise(row):
                offsets.append(offsets[-1] + (sizes[left] + sizes[right]) / 2 + GAP)
            aims = [_HOME * aim - offset for aim, offset in zip(wanted, offsets, strict=True)]
            for item, at, offset in zip(row, _isotonic(aims, weights), offsets, strict=True):
                x[item] = at + offset
    return x


def _isotonic(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """Returns the ascending sequence with the least weighted squared distance to ``values``."""
    pools: list[tuple[float, float, int]] = []  # mean, weight, how many
    for value, weight in zip(values, weights, strict=True):
        mean, total, count = value, weight, 1
        while pools and pools[-1][0] > mean:
            other, heft, more = pools.pop()
            mean = (mean * total + other * heft) / (total + heft)
            total, count = total + heft, count + more
        pools.append((mean, total, count))
    return [mean for mean, _, count in pools for _ in range(count)]
