"""Matrix-product composites: Gemm and Attention."""

from __future__ import annotations

from collections.abc import Sequence

from accelsdk.formats import BOOL
from accelsdk.graph.decompose import compound as decompose
from accelsdk.graph.families.sets import FLOATS, SUMMABLE
from accelsdk.graph.graph import Node
from accelsdk.graph.opdef import (
    Call,
    Family,
    NumericsClass,
    OpDef,
    Work,
    flag,
    operands,
    real,
    required,
    results,
    traffic,
)
from accelsdk.graph.types import TensorType


def _gemm(call: Call) -> Sequence[TensorType]:
    a, b, c = call.operand(0), call.operand(1), call.optional(2)
    call.among(a, SUMMABLE)
    call.same_format(a, b, c)
    call.check(a.rank == 2 and b.rank == 2, "rank", f"A is {a}, B is {b}; both must be matrices")
    m, k = a.shape[::-1] if call.integer("transA") else a.shape
    k2, n = b.shape[::-1] if call.integer("transB") else b.shape
    call.check(k == k2, "shape", f"inner extents {k} and {k2} differ")
    if c is not None:
        call.check(call.broadcast(c.shape, (m, n)) == (m, n), "broadcast", f"C {c} for {(m, n)}")
    return (TensorType(a.format, (m, n)),)


def _attention(call: Call) -> Sequence[TensorType]:
    q, k, v, mask = (*(call.operand(i) for i in range(3)), call.optional(3))
    call.among(q, FLOATS)
    call.same_format(q, k, v)
    call.check(q.rank == k.rank == v.rank == 4, "rank", f"Q {q}, K {k}, V {v}; all are 4-D")
    batch, heads, rows, size = q.shape
    call.check(
        k.shape[:2] == v.shape[:2]
        and k.shape[0] == batch
        and k.shape[1] > 0
        and heads % k.shape[1] == 0,
        "group",
        f"K {k} and V {v} do not serve the {heads} heads of Q {q}",
    )
    call.check(k.shape[3] == size, "shape", f"K {k} differs from Q {q} in the last extent")
    call.check(k.shape[2] == v.shape[2], "shape", f"K {k} and V {v} differ in length")
    if mask is not None:
        call.among(mask, (BOOL, q.format), "mask")
        full = (batch, heads, rows, k.shape[2])
        call.check(call.broadcast(mask.shape, full) == full, "broadcast", f"mask {mask} for {full}")
    return (TensorType(q.format, (batch, heads, rows, v.shape[3])),)


def _gemm_work(node: Node) -> Work:
    a = required(node, 0)
    inner = a.type.count // max(node.result.shape[0], 1)
    extra = node.result.type.count * (2 if node.operand(2) is not None else 0)
    return Work(2 * node.result.type.count * inner + extra, traffic(node))


def _attention_work(node: Node) -> Work:
    q, k, v = (required(node, index) for index in range(3))
    scores = q.type.count // max(q.shape[3], 1) * k.shape[2]
    # Two matrix products; scale, mask and softmax take about eight operations a score.
    return Work(2 * scores * (q.shape[3] + v.shape[3]) + 8 * scores, traffic(node))


ROWS: tuple[OpDef, ...] = (
    OpDef(
        name="Gemm",
        family=Family.COMPOUND,
        help="alpha * A' B' + beta * C; A and B transposed on request, C broadcasts",
        operands=operands("A B C?"),
        results=results("Y"),
        attributes=(real("alpha", 1.0), real("beta", 1.0), flag("transA", 0), flag("transB", 0)),
        infer=_gemm,
        numerics=NumericsClass.COMPOSITE,
        work=_gemm_work,
        decompose=decompose.gemm,
        formats="floats, 32- and 64-bit integers",
    ),
    OpDef(
        name="Attention",
        family=Family.COMPOUND,
        help="softmax(Q K' * scale + mask) V over [batch,heads,length,size]; a bool mask keeps "
        "where true; a fully masked row gives zeros; K and V may have fewer heads (groups)",
        operands=operands("Q K V mask?"),
        results=results("Y"),
        attributes=(
            real("scale", 0.0, "0 stands for 1/sqrt(size)"),
            flag("is_causal", 0, "whether a query sees only keys up to its own position"),
        ),
        infer=_attention,
        numerics=NumericsClass.COMPOSITE,
        work=_attention_work,
        decompose=decompose.attention,
        formats="floats; mask bool or as Q",
    ),
)
