"""Embedding bags: sums of table rows."""

from __future__ import annotations

from collections.abc import Sequence

from accelsdk.formats import FLOAT32, UINT8
from accelsdk.graph.families.sets import FLOATS, INDICES
from accelsdk.graph.graph import Node
from accelsdk.graph.opdef import (
    Call,
    Family,
    NumericsClass,
    OpDef,
    Work,
    integer,
    operands,
    required,
    results,
    traffic,
)
from accelsdk.graph.types import TensorType


def _check_bags(call: Call) -> int:
    """Checks indices, lengths and weights; returns the number of bags."""
    indices, lengths, weights = call.operand(1), call.operand(2), call.optional(3)
    call.among(indices, INDICES, "indices")
    call.among(lengths, INDICES, "lengths")
    call.check(indices.rank == 1 and lengths.rank == 1, "rank", "indices and lengths are 1-D")
    if weights is not None:
        call.among(weights, (FLOAT32,), "weights")
    call.has_shape(weights, indices.shape, "weights")
    return lengths.shape[0]


def _sum(call: Call) -> Sequence[TensorType]:
    table = call.operand(0)
    call.among(table, FLOATS, "table")
    call.check(table.rank == 2, "rank", f"the table is {table}; it must be [rows, columns]")
    return (TensorType(table.format, (_check_bags(call), table.shape[1])),)


def fused_row_bytes(columns: int, bits: int) -> int:
    """Returns the bytes of a fused row: packed codes, then scale and bias (FBGEMM).

    8-bit rows carry float32 scale and bias, narrower rows float16 ones.
    """
    return -(-columns * bits // 8) + (8 if bits == 8 else 4)


def _sum_fused(call: Call) -> Sequence[TensorType]:
    table = call.operand(0)
    columns, bits = call.integer("columns"), call.integer("bits")
    call.among(table, (UINT8,), "table")
    wanted = fused_row_bytes(columns, bits)
    call.check(
        columns >= 0 and table.rank == 2 and table.shape[1] == wanted,
        "shape",
        f"the table is {table}; rows of {columns} x {bits} bits take {wanted} bytes",
    )
    return (TensorType(FLOAT32, (_check_bags(call), columns)),)


def _work(node: Node) -> Work:
    # A lookup reads the rows it names, not the table.
    table, lookups = required(node, 0), required(node, 1).type.count
    row = TensorType(table.format, table.shape[1:]).nbytes
    columns = node.result.shape[1]
    # Unpacking a fused code costs a multiply-add, a weight another.
    terms = 1 + (2 if node.op == "SparseLengthsSumFused" else 0)
    terms += 1 if node.operand(3) is not None else 0
    moved = traffic(node) - table.type.nbytes + lookups * row
    return Work(terms * lookups * columns, moved)


ROWS: tuple[OpDef, ...] = (
    OpDef(
        name="SparseLengthsSum",
        family=Family.EMBEDDING,
        help="Bag b is the (weighted) sum of the next lengths[b] rows that indices name: "
        "table [R,D], indices [N], lengths [B], weights [N] -> [B,D]; an empty bag is 0",
        operands=operands("table indices lengths weights?"),
        results=results("y"),
        infer=_sum,
        numerics=NumericsClass.REDUCTION,
        work=_work,
        formats="floats; indices and lengths int32, int64; weights float32",
    ),
    OpDef(
        name="SparseLengthsSumFused",
        family=Family.EMBEDDING,
        help="SparseLengthsSum over row-wise quantised rows (FBGEMM): codes packed from the low "
        "bits, then scale and bias (float32 for 8 bits, else float16); value = scale*q + bias",
        operands=operands("table indices lengths weights?"),
        results=results("y"),
        attributes=(
            integer("bits", help="bits of one code", choices=(8, 4, 2)),
            integer("columns", help="codes in a row"),
        ),
        infer=_sum_fused,
        numerics=NumericsClass.REDUCTION,
        work=_work,
        formats="uint8 table; float32 out",
    ),
)
