"""The roofline cost of each node: how long it keeps which engine busy, in virtual time.

    time = max(operations / peak, device-memory bytes / its rate, SRAM bytes / its rate)

An operand or result that is larger than the SRAM counts as device-memory traffic, and the
rest as SRAM traffic (the model of Glow's partitioner, ``RuntimeTypes``/``PartitionerUtils`` in
pytorch/glow). Operations and bytes come from the op table.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from accelsdk.formats import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, Format
from accelsdk.graph.graph import Graph, Node
from accelsdk.graph.ops import Family, lookup
from accelsdk_sim_card.profile import Profile

MATRIX = "matrix"
VECTOR = "vector"
MOVE = "move"


@dataclass(frozen=True, slots=True)
class NodeCost:
    """What one node costs.

    Attributes:
        node: Name of the node.
        op: Its op.
        engine: Which engine it occupies.
        nanoseconds: For how long.
    """

    node: str
    op: str
    engine: str
    nanoseconds: int


def graph_cost(graph: Graph, profile: Profile) -> tuple[NodeCost, ...]:
    """Returns the cost of each node, in execution order."""
    return tuple(_node_cost(node, profile) for node in graph.nodes)


def _node_cost(node: Node, profile: Profile) -> NodeCost:
    row = lookup(node)
    work = row.work(node)
    engine = _engine(row.family)
    seconds = work.operations / _peak(engine, node, profile)
    values = [v for v in (*node.inputs, *node.outputs) if v is not None]
    spilled = sum(v.type.nbytes for v in values if v.type.nbytes > profile.sram_bytes)
    spilled = min(spilled, work.bytes)  # a gather reads rows, not its whole table
    seconds = max(
        seconds,
        spilled / profile.memory_bandwidth,
        (work.bytes - spilled) / profile.sram_bandwidth,
    )
    return NodeCost(node.name, node.op, engine, profile.node_ns + math.ceil(seconds * 1e9))


def _engine(family: Family) -> str:
    if family in (Family.CONTRACTION, Family.RECURRENT, Family.COMPOUND):
        return MATRIX
    return MOVE if family is Family.MOVEMENT else VECTOR


def _peak(engine: str, node: Node, profile: Profile) -> float:
    """Operations per second of an engine on the format of the node's first operand."""
    first = node.operand(0)
    if engine != MATRIX or first is None:
        return profile.vector_rate
    return _matrix_rate(first.format, profile)


def _matrix_rate(fmt: Format, profile: Profile) -> float:
    if fmt.is_integer:
        return profile.int8_rate
    if fmt in (FLOAT16, BFLOAT16):
        return profile.fp16_rate
    return profile.fp32_rate if fmt in (FLOAT32, FLOAT64) else profile.fp8_rate
