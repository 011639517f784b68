"""How far may two right implementations of a model in float32 be apart?

Every result of the graph is disturbed, in float64, by as much as float32 arithmetic may disturb
it, and what reaches the outputs is observed: Monte Carlo arithmetic (Parker, UCLA CSD-970002,
1997). The disturbance of one node is uniform within its own error bound, with u = 2**-24:

- exact ops (movement, comparison): none;
- correctly rounded elementwise ops: u relative;
- functions (Exp, Erf, Tanh, Pow, ...): 4 ULP, that is 8 u relative;
- sums of n terms (MatMul, Conv, ReduceSum, AveragePool, CumSum): sqrt(n) u of the sum of the
  magnitudes, the probabilistic bound of Higham & Mary (SIAM J. Sci. Comput. 41(5), 2019,
  theorem 2.4).

Composites are decomposed first. An output may differ from the undisturbed float64 run by
`SAFETY` times the largest difference seen in `RUNS` disturbed runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod, sqrt

import numpy as np
from numpy.typing import NDArray

from accelsdk.formats import FLOAT32, FLOAT64
from accelsdk.graph.graph import Constant, Graph, Node
from accelsdk.graph.opdef import NumericsClass
from accelsdk.graph.ops import lookup
from accelsdk.graph.rewrite import apply, decompositions
from accelsdk.graph.types import TensorType, Value
from accelsdk.kernels.api import run

U = 2.0**-24
RUNS = 4
SAFETY = 1.0


@dataclass(frozen=True)
class Agreement:
    """What was allowed and what was seen, of one output.

    Attributes:
        output: Name of the output.
        error: Largest difference from the float64 run.
        limit: Largest difference allowed.
        scale: Largest magnitude of the output.
    """

    output: str
    error: float
    limit: float
    scale: float

    def __bool__(self) -> bool:
        return self.error <= self.limit


class Reference:
    """A model in float64, and what float32 may make of it, for one set of feeds."""

    def __init__(self, graph: Graph, feeds: Mapping[str, NDArray]) -> None:
        wide = promote(apply(graph, decompositions()))
        fed = {
            v.name: feeds[v.name].astype(v.format.dtype) if v.format is FLOAT64 else feeds[v.name]
            for v in wide.inputs
        }
        self.truth = _evaluate(wide, fed, None)
        runs = [_evaluate(wide, fed, np.random.default_rng(seed)) for seed in range(RUNS)]
        self.limit = {
            name: SAFETY * max(_distance(disturbed[name], array) for disturbed in runs)
            for name, array in self.truth.items()
        }

    def compare(self, outputs: Mapping[str, NDArray]) -> list[Agreement]:
        """Returns the agreement of each output."""
        return [
            Agreement(
                name,
                _distance(outputs[name], array),
                self.limit[name],
                float(np.abs(array).max(initial=0)),
            )
            for name, array in self.truth.items()
        ]


def _distance(a: NDArray, b: NDArray) -> float:
    assert a.shape == b.shape
    return float(np.abs(a.astype(np.float64) - b).max(initial=0))


def promote(graph: Graph) -> Graph:
    """Returns the same graph with float64 wherever it had float32."""

    def wide(value: Value | None) -> Value | None:
        if value is None or value.format is not FLOAT32:
            return value
        return replace(value, type=TensorType(FLOAT64, value.shape))

    def constant(given: Constant) -> Constant:
        if given.value.format is not FLOAT32:
            return given
        array = given.array().astype(np.float64)
        return Constant.of(given.name, array)

    def node(given: Node) -> Node:
        attributes = {
            name: FLOAT64.name if name == "to" and value == FLOAT32.name else value
            for name, value in given.attributes.items()
        }
        inputs, outputs = (tuple(map(wide, values)) for values in (given.inputs, given.outputs))
        return replace(given, inputs=inputs, outputs=outputs, attributes=attributes)

    return replace(
        graph,
        inputs=tuple(map(wide, graph.inputs)),
        outputs=tuple(map(wide, graph.outputs)),
        constants=tuple(map(constant, graph.constants)),
        nodes=tuple(map(node, graph.nodes)),
    )


def _evaluate(
    graph: Graph, feeds: Mapping[str, NDArray], random: np.random.Generator | None
) -> dict[str, NDArray]:
    values = {c.name: c.array() for c in graph.constants} | dict(feeds)
    for node in graph.nodes:
        operands = [None if v is None else values[v.name] for v in node.inputs]
        for value, array in zip(node.outputs, run(node, operands), strict=True):
            if value is None:
                continue
            if random is not None and value.format is FLOAT64:
                bound = _bound(node, operands, array)
                array = array + bound * random.uniform(-1, 1, array.shape)
            values[value.name] = array
    return {v.name: values[v.name] for v in graph.outputs}


def _bound(node: Node, operands: list[NDArray | None], result: NDArray) -> NDArray | float:
    """The error that float32 arithmetic may make in one node, of each element."""
    match lookup(node).numerics:
        case NumericsClass.EXACT:
            return 0.0
        case NumericsClass.ROUNDED | NumericsClass.QUANTISATION:
            return U * np.abs(result)
        case NumericsClass.FUNCTION:
            return 8 * U * np.abs(result)
    # A sum of products: the same op on magnitudes gives the sum of magnitudes.
    magnitudes = [
        None if a is None else np.abs(a) if a.dtype == np.float64 else a for a in operands
    ]
    (total, *_) = run(node, magnitudes)
    return sqrt(_terms(node)) * U * np.abs(total)


def _terms(node: Node) -> int:
    """How many numbers are added up for one result."""
    first, second = node.inputs[0], node.operand(1)
    assert first is not None
    if node.op == "MatMul":
        return first.shape[-1] + 1
    if node.op in ("Conv", "ConvTranspose"):
        assert second is not None
        return prod(second.shape[1:]) + 1
    if node.op == "AveragePool":
        return prod(node.attributes["kernel_shape"]) + 1
    return max(first.type.count // max(node.result.type.count, 1), 1) + 1
