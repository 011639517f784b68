"""Backends that refuse, graphs that are cut, and plans that are run on NumPy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from accelsdk.backend.backend import NATIVE, Backend, Claim, Refusal, Support, refuse
from accelsdk.backend.info import BackendInfo, Target
from accelsdk.compiler.partition.plan import Place, Plan
from accelsdk.formats import FLOAT32
from accelsdk.graph.graph import Graph, Node
from accelsdk.graph.rewrite import Builder
from accelsdk.kernels.api import evaluate


class Chooser(Backend):
    """Runs what a function of the node says, and claims what another says of the graph."""

    def __init__(self, runs: Callable[[Node], bool | Support], name="chooser", claims=None):
        self.runs, self.name = runs, name
        if claims is not None:
            self.claims = claims

    @property
    def info(self):
        return BackendInfo(name=self.name, vendor="tests", version="1")

    def targets(self, options):
        return [Target(name="t")]

    def enumerate_devices(self, options):
        raise NotImplementedError

    def supports(self, graph, node, target):
        answer = self.runs(node)
        if isinstance(answer, Support):
            return answer
        return NATIVE if answer else refuse(Refusal.OPERATOR, f"no {node.op} on {self.name}")

    def compile(self, graph, target, options, pack):
        raise NotImplementedError

    def open(self, device, options):
        raise NotImplementedError


class Claimer(Chooser):
    """A chooser with claims of its own."""

    def claim(self, graph, target):
        return self.claims(graph)


def place(runs: Callable[[Node], bool | Support], name="chooser", claims=None) -> Place:
    """A place whose backend is a `Chooser`, or a `Claimer` if there are claims."""
    kind = Chooser if claims is None else Claimer
    return Place(backend=kind(runs, name, claims), target=Target(name="t"))


def ops(*names: str) -> Callable[[Node], bool]:
    return lambda node: node.op in names


def anything(node: Node) -> bool:
    return True


CPU = place(anything, "cpu")


def region(*nodes: str, name: str = "region") -> Claim:
    return Claim(nodes=nodes, support=NATIVE, name=name)


def diamond() -> Graph:
    """a -> b -> d and a -> c -> d, and d -> e."""
    b = Builder()
    x = b.input("x", FLOAT32, (4,))
    one = b.op("Neg", x, name="a")
    left, right = b.op("Exp", one, name="b"), b.op("Abs", one, name="c")
    both = b.op("Add", left, right, name="d")
    return b.graph([x], [b.op("Tanh", both, name="e")], "diamond")


def feeds_of(graph: Graph, seed: int = 0) -> dict[str, NDArray]:
    """Small numbers for every input, of its format."""
    rng = np.random.default_rng(seed)
    return {
        value.name: rng.integers(0, 2, value.shape).astype(value.format.dtype)
        for value in graph.inputs
    }


def run_parts(plan: Plan, feeds: Mapping[str, NDArray]) -> dict[str, NDArray]:
    """Runs a plan's parts in order; each place sees only what was made on it or copied to it."""
    held: list[dict[str, NDArray]] = [{} for _ in plan.places]
    held[0].update(feeds)
    todo: Sequence = plan.transfers
    for number, part in enumerate((None, *plan.parts), start=-1):
        if part is not None:
            here = held[part.place]
            # what was copied for a later part must not be needed before it
            needed = {value.name: here[value.name] for value in part.graph.inputs}
            here.update(evaluate(part.graph, needed))
        for transfer in todo:
            if transfer.after == number:
                name = transfer.value.name
                held[transfer.destination][name] = held[transfer.source][name]
    return {value.name: held[0][value.name] for value in plan.graph.outputs}
