"""What is compared of one case, by whom, and what counts as a difference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from accelsdk.compiler.passes.catalogue import PASSES
from accelsdk.formats import BFLOAT16, FLOAT16
from accelsdk.graph.graph import Graph, Node
from accelsdk.kernels.api import evaluate
from tests.fuzz import implementations, onnxruntime_gaps
from tests.fuzz.carry import Carried, carried, unknown
from tests.fuzz.generator import Arrays, Case
from tests.fuzz.implementations import Choosy, Plugin, exposed
from tests.fuzz.judge import Tally, is_exact, outside, same, soundness, wrong

_INEXACT = frozenset(step.name for step in PASSES if not step.exact) - {"constant-folding"}


@dataclass(frozen=True)
class Difference:
    """Something that two implementations do not agree about.

    Attributes:
        check: Which comparison.
        node: The node whose results differ, if it is one.
        text: How.
        operands: What the node had, by value name.
    """

    check: str
    text: str
    node: Node | None = None
    operands: Arrays = field(default_factory=dict)


Found = Iterator[Difference]


class Bench:
    """Every implementation, opened once, and the checks over them.

    Args:
        defect: Of the simulated card.
    """

    def __init__(self, defect: str = "") -> None:
        self.tallies: dict[str, Tally] = {}
        self.left_out: Counter[str] = Counter()
        self.rewritten = 0
        self.reference = implementations.reference()
        self.card = implementations.card(defect=defect)
        self.plugin = implementations.onnxruntime_plugin()
        # its sums of narrow codes are its own: elsewhere they may have other bits
        self.choosy = Choosy("sim_card", lambda node: node.op == "ScaledMatMul", profile="test")

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *exception: object) -> None:
        for plugin in (self.reference, self.card, self.plugin, self.choosy):
            plugin.close()

    def tally(self, name: str) -> Tally:
        return self.tallies.setdefault(name, Tally())

    def checks(self) -> Mapping[str, Callable[[Case], Found]]:
        """The comparisons, by name."""
        return {
            "kernels": self.kernels,
            "reference_cpu": self.whole_reference,
            "sim_card": self.sim_card,
            "onnxruntime": self.onnxruntime,
            "onnxruntime_cpu": self.onnxruntime_plugin,
            "partition": self.partition,
        }

    # -- the comparisons -----------------------------------------------------------------------

    def kernels(self, case: Case) -> Found:
        """The kernels, node by node, within the bounds."""
        tally = self.tally("kernels")
        for node in case.graph.nodes:
            operands, results = _around(node, case.values)
            tally.nodes[node.op] += 1
            text = soundness(node, operands, results, tally)
            if text:
                yield _at(node, "kernels", text, case.values)

    def whole_reference(self, case: Case) -> Found:
        """reference_cpu through the compiler: the bits of the kernels."""
        found = self.reference.run(case.graph, case.feeds)
        yield from self._whole("reference_cpu", case, found, self.reference)

    def sim_card(self, case: Case) -> Found:
        """sim_card, every node on the operands it had, and the outputs of the plain graph."""
        shown = exposed(case.graph)
        found = self.card.run(shown, case.feeds)
        values = dict(case.values) | _named(shown, found)
        yield from self._nodes("sim_card", case.graph.nodes, case, values)
        plain = self.card.run(case.graph, case.feeds)
        wanted = [values[v.name] for v in case.graph.outputs]
        yield from self._whole("sim_card", case, plain, self.card, wanted)

    def onnxruntime(self, case: Case) -> Found:
        """onnxruntime on the exported graph, every node on the operands it really had."""
        part = implementations.supported_part(case.graph)
        if part is None:
            return
        part = onnxruntime_gaps.without(part, case.values, self.left_out)
        if part is None:
            return
        feeds = {v.name: case.values[v.name] for v in part.inputs}
        found = implementations.run_onnxruntime(part, feeds, expand=case.seed % 4 == 0)
        values = dict(case.values) | found
        yield from self._nodes("onnxruntime", part.nodes, case, values, _halves(part))

    def onnxruntime_plugin(self, case: Case) -> Found:
        """The plugin of onnxruntime with reference_cpu as its fallback, node by node."""
        shown = exposed(case.graph)
        if onnxruntime_gaps.in_plugin(shown, case.values, self.left_out):
            return
        found = self.plugin.run(shown, case.feeds)
        values = dict(case.values) | _named(shown, found)
        yield from self._nodes("onnxruntime_cpu", case.graph.nodes, case, values, _halves(shown))

    def partition(self, case: Case) -> Found:
        """A card that refuses nodes by chance: the bits of the lowered graph as a whole."""
        self.choosy.seed = case.seed
        lowered, found = self.choosy.run_planned(case.graph, case.feeds)
        whole = evaluate(lowered, case.feeds)
        wanted = [whole[value.name] for value in case.graph.outputs]
        yield from self._compared("partition", case, lowered, found, wanted)

    # -- how -----------------------------------------------------------------------------------

    def _nodes(
        self, check: str, nodes, case: Case, values: Arrays, hidden: Collection[str] = ()
    ) -> Found:
        tally = self.tally(check)
        zero = onnxruntime_gaps.EITHER_ZERO if check.startswith("onnxruntime") else ()
        for node in nodes:
            operands, results = _around(node, values)
            known = _around(node, case.values) if check != "kernels" else None
            kernels = None
            if known is not None and all(
                a is b or (a is not None and b is not None and _equal(a, b))
                for a, b in zip(operands, known[0], strict=True)
            ):
                kernels = known[1]
            try:
                text = wrong(
                    node, operands, results, tally, kernels=kernels, hidden=hidden, either_zero=zero
                )
            except Exception as error:  # a finding like any other
                text = f"judging failed: {error!r}"
            if text:
                yield _at(node, check, text, values)

    def _whole(
        self, check: str, case: Case, found, plugin: Plugin, wanted: list | None = None
    ) -> Found:
        wanted = wanted or [case.values[v.name] for v in case.graph.outputs]
        if all(
            not _bits(array, right, value)
            for value, array, right in zip(case.graph.outputs, found, wanted, strict=True)
        ):
            self.tally(f"{check}, whole").elements += sum(array.size for array in found)
            return
        lowered, _ = plugin.run_planned(case.graph, case.feeds)
        yield from self._compared(f"{check}, whole", case, lowered, found, wanted)

    def _compared(self, check: str, case: Case, lowered: Graph, found, wanted) -> Found:
        """Outputs to the bit; sums in another order, and what passes rewrote, by their bounds."""
        tally = self.tally(check)
        bounds = None
        rewritten = any(_INEXACT & set(node.via) for node in lowered.nodes)
        for value, array, right in zip(case.graph.outputs, found, wanted, strict=True):
            tally.elements += array.size
            text = _bits(array, right, value)
            if not text:
                continue
            if not rewritten and not _sums_before(case.graph, value.name):
                yield Difference(check, f"{value}: {text}")
                continue
            self.rewritten += 1
            bounds = bounds or followed(case)
            node = case.graph.producers[value.name]
            text = outside(node, value.format, array, bounds[value.name], tally)
            if text:
                yield Difference(check, f"{value}, in other bits: {text}")


#: Ops that call BLAS, whose sums take the order that the memory's alignment suggests.
_BLAS = frozenset(
    {
        *("MatMul", "Conv", "ConvTranspose", "Gemm", "Attention", "LSTM", "GRU", "RNN"),
        *("LayerNormalization", "RMSNormalization", "InstanceNormalization", "GroupNormalization"),
    }
)


def _sums_before(graph: Graph, name: str) -> bool:
    """Says whether a value depends on a sum that BLAS computes."""
    todo = [name]
    while todo:
        node = graph.producers.get(todo.pop())
        if node is None:
            continue
        if node.op in _BLAS and node.result.format.is_float:
            return True
        todo += [v.name for v in node.inputs if v is not None]
    return False


def followed(case: Case) -> dict[str, Carried]:
    """Every value of a case with the error that any right implementation of the whole may have."""
    known = {
        value.name: Carried.exact(case.values[value.name], value.format)
        for value in (*case.graph.inputs, *(c.value for c in case.graph.constants))
    }
    for node in case.graph.nodes:
        operands = [None if v is None else known[v.name] for v in node.inputs]
        arrays = [None if v is None else case.values[v.name] for v in node.outputs]
        settled = all(x is None or x.is_exact for x in operands)
        if settled and is_exact(node):
            made = [
                Carried.exact(x, v.format)
                for v, x in zip(node.outputs, arrays, strict=True)
                if v is not None and x is not None
            ]
        elif all(v is None or (v.format.is_float and v.format.bits >= 16) for v in node.outputs):
            made = carried(node, operands, inner=True)
        else:
            made = unknown(node, [x for x in arrays if x is not None])
        made_of = iter(made)
        known |= {v.name: next(made_of) for v in node.outputs if v is not None}
    return known


def _halves(graph: Graph) -> frozenset[str]:
    """What onnxruntime keeps in float32 between nodes, as it has no 16-bit arithmetic."""
    made = (v for node in graph.nodes for v in node.outputs if v is not None)
    return frozenset(v.name for v in made if v.format in (FLOAT16, BFLOAT16))


def _around(node: Node, values: Arrays) -> tuple[list, list]:
    operands = [None if v is None else values[v.name] for v in node.inputs]
    return operands, [None if v is None else values.get(v.name) for v in node.outputs]


def _named(graph: Graph, found) -> dict[str, np.ndarray]:
    return {v.name: x for v, x in zip(graph.outputs, found, strict=True)}


def _at(node: Node, check: str, text: str, values: Arrays) -> Difference:
    operands = {v.name: values[v.name] for v in node.inputs if v is not None}
    return Difference(check, text, node, operands)


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and a.tobytes() == b.tobytes()


def _bits(found: np.ndarray, right: np.ndarray, value) -> str:
    if found.shape != right.shape:
        return f"{found.shape}, not {right.shape}"
    bad = ~same(found, right, value.format)
    if not bad.any():
        return ""
    return f"{int(bad.sum())} of {bad.size}: {found[bad][:3]}, not {right[bad][:3]}"
