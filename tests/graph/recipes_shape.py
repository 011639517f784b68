"""Recipes of random nodes: movement and composites."""

from __future__ import annotations

from collections.abc import Callable

from accelsdk import formats as f
from accelsdk.formats import FORMATS
from accelsdk.graph.families import sets
from tests.graph.source import Drawn, Recipe, Source

# -- movement --------------------------------------------------------------------------------


def reshape(s: Source) -> Drawn:
    x = s.any(FORMATS)
    return (x,), {"shape": s.pick([(x.type.count,), (1, *x.shape), (*reversed(x.shape),)])}, 1


def transpose(s: Source) -> Drawn:
    x = s.any(FORMATS)
    return (x,), {"perm": s.order(x.type.rank)}, 1


def concat(s: Source) -> Drawn:
    first = s.any(FORMATS, 1)
    axis = s.int(0, first.type.rank - 1)
    shapes = [
        tuple(s.int(1, 3) if i == axis else n for i, n in enumerate(first.shape))
        for _ in range(s.int(0, 2))
    ]
    return (first, *(s.new(first.format, shape) for shape in shapes)), {"axis": axis}, 1


def cut(s: Source) -> Drawn:
    x = s.any(FORMATS, 1)
    axes = s.axes(x.type.rank)
    numbers = [tuple(s.int(-5, 5) for _ in axes) for _ in range(2)]
    steps = tuple(s.pick([-2, -1, 1, 2]) for _ in axes)
    return (x,), {"starts": numbers[0], "ends": numbers[1], "axes": axes, "steps": steps}, 1


def split(s: Source) -> Drawn:
    x = s.any(FORMATS, 1)
    axis = s.int(0, x.type.rank - 1)
    first = s.int(0, x.shape[axis])
    return (x,), {"axis": axis, "split": (first, x.shape[axis] - first)}, 2


def gather(s: Source) -> Drawn:
    x = s.any(FORMATS, 1)
    return (x, s.any(sets.INDICES, 0, 2)), {"axis": s.int(0, x.type.rank - 1)}, 1


def gather_nd(s: Source) -> Drawn:
    x = s.any(FORMATS, 1)
    return (x, s.new(f.INT64, (*s.shape(0, 2), s.int(1, x.type.rank)))), {"batch_dims": 0}, 1


def gather_elements(s: Source) -> Drawn:
    x = s.any(FORMATS, 1)
    return (x, s.new(s.pick(sets.INDICES), x.shape)), {"axis": s.int(0, x.type.rank - 1)}, 1


def scatter_elements(s: Source) -> Drawn:
    x = s.any(sets.NUMBERS, 1)
    indices = s.new(s.pick(sets.INDICES), x.shape)
    given = {"axis": s.int(0, x.type.rank - 1), "reduction": s.pick(["none", "add", "max"])}
    return (x, indices, s.new(x.format, x.shape)), given, 1


def scatter_nd(s: Source) -> Drawn:
    x, count = s.any(FORMATS, 1), s.int(0, 3)
    depth = s.int(1, x.type.rank)
    indices = s.new(f.INT64, (count, depth))
    return (x, indices, s.new(x.format, (count, *x.shape[depth:]))), {}, 1


def pad(s: Source) -> Drawn:
    x = s.any(FORMATS)
    fill = s.new(x.format, ()) if s.flag() else None
    return (x, fill), {"pads": tuple(s.int(0, 2) for _ in range(2 * x.type.rank))}, 1


def expand(s: Source) -> Drawn:
    x = s.any(FORMATS)
    return (x,), {"shape": (s.int(1, 3), *x.shape)}, 1


def tile(s: Source) -> Drawn:
    x = s.any(FORMATS)
    return (x,), {"repeats": tuple(s.int(0, 2) for _ in x.shape)}, 1


def resize(s: Source) -> Drawn:
    x = s.new(s.pick((*sets.FLOATS, *sets.BYTES)), (1, 1, s.int(1, 4), s.int(1, 4)))
    shape = (1, 1, s.int(1, 6), s.int(1, 6))
    scales = tuple(a / b for a, b in zip(shape, x.shape, strict=True))
    mode = s.pick(["nearest", "linear", "cubic"])
    return (x,), {"output_shape": shape, "scales": scales, "mode": mode}, 1


# -- composites ------------------------------------------------------------------------------


def clip(s: Source) -> Drawn:
    x = s.any(sets.NUMBERS)
    limits = [s.new(x.format, ()) if s.flag() else None for _ in range(2)]
    return (x, *limits), {}, 1


def layer_norm(s: Source) -> Drawn:
    x = s.any(sets.FLOATS, 1)
    axis = s.int(0, x.type.rank - 1)
    bias = s.new(x.format, x.shape[axis:]) if s.flag() else None
    return (x, s.new(x.format, x.shape[axis:]), bias), {"axis": axis}, s.int(1, 3)


def rms_norm(s: Source) -> Drawn:
    x = s.any(sets.FLOATS, 1)
    axis = s.int(0, x.type.rank - 1)
    return (x, s.new(x.format, x.shape[axis:])), {"axis": axis}, 1


def per_channel(count: int, rank: int, **options: int) -> Recipe:
    def recipe(s: Source) -> Drawn:
        x = s.any(sets.FLOATS, rank)
        return (x, *(s.new(x.format, (x.shape[1],)) for _ in range(count))), dict(options), 1

    return recipe


def gemm(s: Source) -> Drawn:
    m, k, n, left, right = s.int(1, 3), s.int(1, 4), s.int(1, 3), s.flag(), s.flag()
    a = s.new(s.pick(sets.FLOATS), (k, m) if left else (m, k))
    b = s.new(a.format, (n, k) if right else (k, n))
    c = s.new(a.format, s.narrowed((m, n))) if s.flag() else None
    return (a, b, c), {"alpha": 0.5, "beta": 2.0, "transA": left, "transB": right}, 1


def attention(s: Source) -> Drawn:
    groups, own, size, length, rows = (
        s.int(1, 2),
        s.int(1, 2),
        s.int(1, 4),
        s.int(1, 4),
        s.int(1, 4),
    )
    q = s.new(s.pick(sets.FLOATS), (1, groups * own, rows, size))
    k = s.new(q.format, (1, own, length, size))
    v = s.new(q.format, (1, own, length, s.int(1, 4)))
    mask = s.new(s.pick([f.BOOL, q.format]), (rows, length)) if s.flag() else None
    return (q, k, v, mask), {"is_causal": s.flag(), "scale": s.pick([0.0, 0.25])}, 1


def recurrent(gates: int, biases: int, states: int, outputs: int, **options: Callable) -> Recipe:
    def recipe(s: Source) -> Drawn:
        time, batch, size, hidden = (s.int(1, 3) for _ in range(4))
        direction, layout = s.pick(["forward", "reverse", "bidirectional"]), s.flag()
        d = 2 if direction == "bidirectional" else 1
        x = s.new(s.pick(sets.FLOATS), (batch, time, size) if layout else (time, batch, size))
        kind = x.format
        operands = [x, s.new(kind, (d, gates * hidden, size))]
        operands.append(s.new(kind, (d, gates * hidden, hidden)))
        operands.append(s.new(kind, (d, biases * hidden)) if s.flag() else None)
        operands.append(s.new(f.INT32, (batch,)) if s.flag() else None)
        state = (batch, d, hidden) if layout else (d, batch, hidden)
        operands += [s.new(kind, state) if s.flag() else None for _ in range(states)]
        if states == 2:
            operands.append(s.new(kind, (d, 3 * hidden)) if s.flag() else None)
        given = {"direction": direction, "layout": layout, "hidden_size": hidden}
        given["clip"] = s.pick([0.0, 0.5])
        given |= {name: option(s) for name, option in options.items()}
        return operands, given, s.int(1, outputs)

    return recipe
