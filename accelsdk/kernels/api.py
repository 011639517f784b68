"""The kernels by op, and the simplest way to run a graph.

Arithmetic exceptions (overflow, division by zero, invalid) are results here, not warnings:
`run` and `evaluate` silence them; whoever calls bound kernels does it around them, once for
many, with ``numpy.errstate(all="ignore")``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.errors import InvalidArgument, Unimplemented
from accelsdk.graph.graph import CORE, Graph, Node
from accelsdk.kernels import (
    activation,
    attention,
    conv,
    elementwise,
    embedding,
    gather,
    matmul,
    movement,
    normalization,
    pool,
    quantization,
    recurrent,
    reduction,
    resize,
    selection,
)
from accelsdk.kernels.kernel import Binder, Kernel

_MODULES = (
    *(elementwise, matmul, conv, pool, reduction, movement, gather, resize, quantization),
    *(embedding, activation, normalization, attention, recurrent, selection),
)

#: What binds the nodes of each core op.
BINDERS: Mapping[str, Binder] = MappingProxyType(
    {op: binder for module in _MODULES for op, binder in module.BINDERS.items()}
)


def bind(node: Node) -> Kernel:
    """Returns the kernel of one node: attributes are read now, arrays only move later.

    Args:
        node: A core node that `accelsdk.graph.verify` accepts.

    Returns:
        A pure function of one array (or None) per operand. It returns one array per result,
        of exactly the declared dtype and shape, possibly views of operands. A bounded result
        has its real shape, which the declared one bounds.

    Raises:
        Unimplemented: There is no kernel for the op.
    """
    binder = BINDERS.get(node.op) if node.domain == CORE else None
    if binder is None:
        raise Unimplemented(f"no kernel for {node.domain}:{node.op}", node=node.name)
    return binder(node)


def run(node: Node, inputs: Sequence[NDArray[Any] | None]) -> tuple[NDArray[Any], ...]:
    """Binds and runs one node on one array (or None) per operand."""
    kernel = bind(node)
    with np.errstate(all="ignore"):
        return kernel(*inputs)


def evaluate(graph: Graph, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Runs a graph of core ops on NumPy, node by node.

    Args:
        graph: Verified.
        feeds: One array per input, by name, of the input's dtype and shape.

    Returns:
        One array per output, by name; they may be views of feeds and constants. A bounded
        output has its real shape.

    Raises:
        InvalidArgument: A feed is missing, or differs from the input in dtype or shape.
    """
    values: dict[str, NDArray[Any]] = {c.name: c.array() for c in graph.constants}
    for value in graph.inputs:
        fed = feeds.get(value.name)
        if fed is None or fed.dtype != value.format.dtype or fed.shape != value.shape:
            found = "nothing" if fed is None else f"{fed.dtype}{list(fed.shape)}"
            raise InvalidArgument(f"input {value} was fed {found}", remedy="feed what it takes")
        values[value.name] = fed
    last = {v.name: i for i, n in enumerate(graph.nodes) for v in n.inputs if v is not None}
    kept = {value.name for value in graph.outputs}
    for position, node in enumerate(graph.nodes):
        results = run(node, [None if v is None else values[v.name] for v in node.inputs])
        for result, array in zip(node.outputs, results, strict=True):
            if result is not None:
                values[result.name] = array
        for operand in node.inputs:
            if operand is not None and last[operand.name] == position and operand.name not in kept:
                values.pop(operand.name, None)
    return {value.name: values[value.name] for value in graph.outputs}
