"""Random graphs: what is proven to keep rows apart does, row by row and bit by bit.

Data are small integers in float32, whose sums and products are exact in any order, so that a
difference is a fault of the proof and not of rounding.
"""

from contextlib import suppress

import numpy as np
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st

from accelsdk.compiler.independence.proof import independent_rows
from accelsdk.errors import GraphError, UnsupportedGraph
from accelsdk.formats import FLOAT32, INT64
from accelsdk.graph.graph import Graph
from accelsdk.graph.rewrite import Builder
from accelsdk.graph.verify import verify
from accelsdk.kernels.api import evaluate

EXTENTS = (6, 12)


def build(extent, axis, steps):
    """A graph of a chain of ops on x, whose axis ``axis`` has the extent; the same for each."""
    shape = [2, 3]
    shape.insert(axis, extent)
    builder = Builder()
    x = builder.input("x", FLOAT32, shape)
    values = [x]
    for op, first, second in steps:
        with suppress(GraphError):  # operands that do not fit: the chain goes on without
            values += OPS[op](builder, values, values[first % len(values)], first, second)
    return Graph((x,), tuple(values[-2:]), builder.constants, tuple(builder.nodes))


def emit(builder, op, operands, outputs=1, **attributes):
    made = builder.op(op, *operands, outputs=outputs, **attributes)
    return [made] if outputs == 1 else list(made)


def constant(builder, shape, seed):
    return builder.constant(np.random.default_rng(seed).integers(-2, 3, shape).astype(np.float32))


def of_rank(op, name="axis", outputs=1, **more):
    def step(builder, values, x, a, b):
        if not x.shape:
            return []
        given = {name: (b % len(x.shape),) if name == "axes" else b % len(x.shape)}
        return emit(builder, op, (x,), outputs, **given, **more)

    return step


def reshape_merge(builder, values, x, a, b):
    if len(x.shape) < 2:
        return []
    i = b % (len(x.shape) - 1)
    shape = (*x.shape[:i], x.shape[i] * x.shape[i + 1], *x.shape[i + 2 :])
    return emit(builder, "Reshape", (x,), shape=shape)


def reshape_split(builder, values, x, a, b):
    if not x.shape:
        return []
    i, factor = b % len(x.shape), 2 + a % 2
    if x.shape[i] % factor:
        return []
    parts = (factor, x.shape[i] // factor)
    shape = (*x.shape[:i], *(parts if b % 2 else parts[::-1]), *x.shape[i + 1 :])
    return emit(builder, "Reshape", (x,), shape=shape)


def transpose(builder, values, x, a, b):
    perm = tuple(int(i) for i in np.random.default_rng(b).permutation(len(x.shape)))
    return emit(builder, "Transpose", (x,), perm=perm) if x.shape else []


def binary(op):
    def step(builder, values, x, a, b):
        return emit(builder, op, (x, values[b % len(values)]))

    return step


def with_constant(builder, values, x, a, b):
    if not x.shape:
        return []
    kept = x.shape[-1] if x.shape[-1] in (2, 3) else 1
    return emit(builder, "Mul", (x, constant(builder, (kept,), b)))


def matmul(builder, values, x, a, b):
    y = values[b % len(values)]
    if not x.shape or not y.shape:
        return []
    if y is x and x.shape[-1] in (2, 3):
        return emit(builder, "MatMul", (x, constant(builder, (x.shape[-1], 2), a)))
    return emit(builder, "MatMul", (x, y))


def concat(builder, values, x, a, b):
    y = values[b % len(values)]
    return emit(builder, "Concat", (x, y), axis=a % len(x.shape)) if x.shape else []


def split(builder, values, x, a, b):
    if not x.shape or x.shape[b % len(x.shape)] % 2:
        return []
    half = x.shape[b % len(x.shape)] // 2
    return emit(builder, "Split", (x,), 2, axis=b % len(x.shape), split=(half, half))


def cut(builder, values, x, a, b):
    if not x.shape:
        return []
    start, step = ((0, 1), (1, 1), (0, 2), (-1, -1))[a % 4]
    end = 10**6 if step > 0 else -(10**6)
    axis = b % len(x.shape)
    if x.shape[axis] < 2:
        return []
    return emit(builder, "Slice", (x,), starts=(start,), ends=(end,), axes=(axis,), steps=(step,))


def gather(builder, values, x, a, b):
    if not x.shape:
        return []
    axis = b % len(x.shape)
    if not x.shape[axis]:
        return []
    indices = builder.constant(np.array([0, x.shape[axis] > 1], np.int64), INT64)
    return emit(builder, "Gather", (x, indices), axis=axis)


def look_up(builder, values, x, a, b):
    table = constant(builder, (7, 2), b)
    (index,) = emit(builder, "Cast", (x,), to="int64")
    three = builder.constant(np.int64(7), INT64)
    (index,) = emit(builder, "Mod", (index, three))
    return emit(builder, "Gather", (table, index), axis=0)


def expand(builder, values, x, a, b):
    return emit(builder, "Expand", (x,), shape=(2, *x.shape)) if a % 2 else []


def tile(builder, values, x, a, b):
    repeats = [1] * len(x.shape)
    if repeats:
        repeats[b % len(repeats)] = 2
    return emit(builder, "Tile", (x,), repeats=tuple(repeats)) if x.shape else []


def pad(builder, values, x, a, b):
    pads = [0] * (2 * len(x.shape))
    if pads:
        pads[b % len(pads)] = 1
    return emit(builder, "Pad", (x,), pads=tuple(pads)) if x.shape else []


def positions(builder, values, x, a, b):
    """Adds constants along one axis: alike, numbers of the rows, or a pattern of two."""
    if not x.shape:
        return []
    axis = b % len(x.shape)
    size = x.shape[axis]
    items = (np.ones(size), np.arange(size), np.arange(size) % 2)[a % 3].astype(np.float32)
    column = items.reshape(size, *(1,) * (len(x.shape) - 1 - axis))
    return emit(builder, "Add", (x, builder.constant(column)))


def by_extent(builder, values, x, a, b):
    """Scales by an extent: of an axis that may be the one with the rows."""
    if not x.shape:
        return []
    extent = builder.constant(np.float32(x.shape[b % len(x.shape)]))
    return emit(builder, "Sub", (x, extent))


OPS = {
    "merge": reshape_merge,
    "split axis": reshape_split,
    "transpose": transpose,
    "add": binary("Add"),
    "max": binary("Max"),
    "mul": with_constant,
    "relu": lambda builder, values, x, a, b: emit(builder, "Relu", (x,)),
    "matmul": matmul,
    "concat": concat,
    "split": split,
    "cut": cut,
    "gather": gather,
    "look up": look_up,
    "expand": expand,
    "tile": tile,
    "pad": pad,
    "positions": positions,
    "by extent": by_extent,
    "sum": of_rank("ReduceSum", "axes", keepdims=0),
    "max of": of_rank("ReduceMax", "axes", keepdims=1),
    "running": of_rank("CumSum"),
    "sorted": of_rank("TopK", outputs=2, k=1),
}
CHAINS = st.lists(
    st.tuples(st.sampled_from(sorted(OPS)), st.integers(0, 30), st.integers(0, 30)),
    min_size=1,
    max_size=7,
)


def taken(array, rows, extent, chosen):
    """The chosen rows of an output."""
    if rows is None:
        return array
    split = (*array.shape[: rows.axis], rows.outer, extent, rows.inner)
    apart = array.reshape(*split, *array.shape[rows.axis + 1 :])
    return apart.take(chosen, rows.axis + 1)


@settings(max_examples=400, suppress_health_check=[HealthCheck.filter_too_much])
@given(axis=st.integers(0, 2), steps=CHAINS, seed=st.integers(0, 2**16))
def test_rows_that_are_proven_apart_are(axis, steps, seed):
    graphs = {extent: build(extent, axis, steps) for extent in EXTENTS}
    small, large = (graphs[extent] for extent in EXTENTS)
    assume(len(small.nodes) == len(large.nodes))
    verify(small)
    try:
        found = independent_rows(graphs, {"x": axis})
    except UnsupportedGraph:
        event("refused")
        return
    event("proven")
    rng = np.random.default_rng(seed)
    x = rng.integers(-2, 3, large.inputs[0].shape).astype(np.float32)
    chosen = rng.integers(0, EXTENTS[1], EXTENTS[0])  # any rows, in any order, some twice
    whole = evaluate(large, {"x": x})
    part = evaluate(small, {"x": np.ascontiguousarray(x.take(chosen, axis))})
    for mine, theirs, rows in zip(small.outputs, large.outputs, found, strict=True):
        wanted = taken(whole[theirs.name], rows, EXTENTS[1], chosen)
        got = taken(part[mine.name], rows, EXTENTS[0], np.arange(EXTENTS[0]))
        np.testing.assert_array_equal(got, wanted)
