"""Rules of ops that work along axes: those axes must not be the one with the rows.

What each op does stands in the op table (`accelsdk.graph.families`); a rule here says on which
axes of its operands it treats every position alike and apart from the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from accelsdk.compiler.independence.rows import Application, Mixed, Rows, Rule, broadcast, same
from accelsdk.graph.opdef import Family
from accelsdk.graph.ops import TABLE

Results = Sequence[Rows | None]


def _elementwise(a: Application) -> Results:
    """Each item of the result comes from one item of each operand, broadcast (NumPy)."""
    rank = len(a.node.result.shape)
    return (broadcast(a, rank, range(len(a.operands))),)


def _copies(a: Application, rows: Rows) -> Results:
    return (replace(rows, alike=False),) * len(a.node.outputs)


def _apart(a: Application, axis: int) -> Rows:
    """Returns the rows of operand 0, which must not lie on ``axis``."""
    return a.first(*(other for other in range(a.rank(0)) if other != axis))


def _one_axis(a: Application) -> Results:
    """Softmax, CumSum, TopK: all results depend on what lies along one axis."""
    return _copies(a, _apart(a, a.axis("axis", a.rank(0))))


def _reduced(a: Application, axes: Sequence[int]) -> Results:
    """A reduction over axes, which vanish unless ``keepdims``."""
    rank = a.rank(0)
    gone = {axis % rank for axis in axes}
    rows = a.first(*(axis for axis in range(rank) if axis not in gone))
    before = 0 if a.integer("keepdims") else sum(axis < rows.axis for axis in gone)
    return _copies(a, rows.on(rows.axis - before))


def _reduce(a: Application) -> Results:
    return _reduced(a, a.ints("axes"))


def _arg(a: Application) -> Results:
    return _reduced(a, (a.integer("axis"),))


def _trailing(a: Application) -> Results:
    """LayerNormalization and RMSNormalization: over all axes from ``axis`` on."""
    return _copies(a, a.first(*range(a.axis("axis", a.rank(0)))))


def _batch_norm(a: Application) -> Results:
    """With given mean and variance: each channel (axis 1) is scaled and shifted."""
    return _copies(a, _apart(a, 1))


def _items(a: Application) -> Results:
    """Convolutions and normalisations that take each item of axis 0 by itself."""
    return _copies(a, a.first(0))


def _pool(a: Application) -> Results:
    if len(a.node.outputs) > 1 and a.node.outputs[1] is not None:
        raise Mixed("its Indices count positions over all rows")
    return _copies(a, a.first(0, 1))


# -- quantisation ------------------------------------------------------------------------------


def _scaled(a: Application) -> Results:
    """Operands after the first are scalars, 1-D along ``axis``, or one item a block of it."""
    rank = a.rank(0)
    axis = a.axis("axis", rank) if rank else 0
    found = []
    for index, rows in enumerate(a.operands):
        spread = rows is not None and a.rank(index) < rank
        found.append(rows.on(axis) if rows is not None and spread else rows)
    shared = same(found)
    blocks = a.node.op in _BLOCKED and a.integer("block_size")
    if blocks and shared.axis == axis:
        raise Mixed(f"its blocks lie along axis {axis}, on which the rows are")
    return _copies(a, shared)


_BLOCKED = ("Quantize", "Dequantize", "QuantizeBlock", "DequantizeBlock")


# -- products ----------------------------------------------------------------------------------


def _product(a: Application) -> Results:
    """MatMul and its kin: A [batch..., M, K], B [batch..., K, N]; scales and zero points follow."""
    ranks = a.rank(0), a.rank(1)
    batch = max(*ranks, 2) - 2
    last = batch + (ranks[0] > 1)
    found: list[Rows | None] = []
    for index, rows in enumerate(a.operands):
        if rows is None:
            continue
        side, rank = index % 2, a.rank(index)
        if index > 1 and rank == 1:  # one zero point a row of A, or a column of B
            found.append(rows.on(last if side else batch))
            continue
        free = rank - 1 if side else rank - 2
        if rank == 1 or (rows.axis >= rank - 2 and rows.axis != free):
            raise Mixed("it sums over the rows")
        place = last if side else batch
        found.append(rows.on(place if rows.axis == free else rows.axis + batch - (rank - 2)))
    return _copies(a, same(found))


def _gemm(a: Application) -> Results:
    found: list[Rows | None] = []
    for index, (name, free) in enumerate((("transA", 0), ("transB", 1))):
        rows = a.rows(index)
        if rows is not None and rows.axis != (1 - free if a.integer(name) else free):
            raise Mixed("it sums over the rows")
        found.append(None if rows is None else rows.on(free))
    if a.rows(2) is not None:
        found.append(broadcast(a, 2, (2,)))
    return _copies(a, same(found))


def _attention(a: Application) -> Results:
    """Each item of axis 0, the batch, attends to itself alone; the mask broadcasts."""
    rows = broadcast(a, 4, range(len(a.operands)))
    if rows.axis != 0:
        raise Mixed("it lets rows attend to each other")
    return _copies(a, rows)


# -- recurrent layers --------------------------------------------------------------------------


def _recurrent(a: Application) -> Results:
    """The batch axis: of X and the states 1 (layout 1: 0), of Y 2 (layout 1: 0)."""
    first = bool(a.integer("layout"))
    a.only(0, 4, 5, 6)
    batch = {0: 0 if first else 1, 4: 0, 5: 0 if first else 1, 6: 0 if first else 1}
    for index, axis in batch.items():
        rows = a.rows(index)
        if rows is not None and rows.axis != axis:
            raise Mixed("its steps in time, or its features, are the rows")
    carried = [a.rows(index) for index in batch]
    rows = same([None if rows is None else rows.on(0) for rows in carried])
    state = rows.on(0 if first else 1)
    y = rows.on(0 if first else 2)
    return [replace(r, alike=False) for r in (y, state, state)[: len(a.node.outputs)]]


RULES: Mapping[str, Rule] = {
    **{
        name: _elementwise
        for name, row in TABLE.items()
        if row.family in (Family.ELEMENTWISE, Family.ACTIVATION)
    },
    "Cast": _elementwise,
    **dict.fromkeys(("Softmax", "LogSoftmax", "CumSum", "TopK"), _one_axis),
    **{name: _reduce for name in TABLE if name.startswith("Reduce")},
    **dict.fromkeys(("ArgMax", "ArgMin"), _arg),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), _trailing),
    "BatchNormalization": _batch_norm,
    **dict.fromkeys(
        (
            *("InstanceNormalization", "GroupNormalization"),
            *("Conv", "ConvTranspose", "ConvInteger"),
        ),
        _items,
    ),
    **dict.fromkeys(("MaxPool", "AveragePool"), _pool),
    **dict.fromkeys((*_BLOCKED, "Requantize"), _scaled),
    **dict.fromkeys(("MatMul", "MatMulInteger", "ScaledMatMul"), _product),
    "Gemm": _gemm,
    "Attention": _attention,
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _recurrent),
}
