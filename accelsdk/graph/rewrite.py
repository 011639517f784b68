"""Making and changing graphs: a builder, lowering rules, and what passes are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal, overload

import numpy as np
from numpy.typing import ArrayLike

from accelsdk.errors import GraphError
from accelsdk.formats import Format
from accelsdk.graph.graph import CORE, Array, Attribute, Constant, Graph, Node
from accelsdk.graph.opdef import OpDef
from accelsdk.graph.ops import TABLE, infer
from accelsdk.graph.types import TensorType, Value

#: Constants of up to this many elements are pooled by a builder.
_POOLED = 64
#: Rules that rewrite each other's results this deep are taken to be a loop.
_DEEPEST = 32


class Builder:
    """Emits typed nodes and constants with fresh names.

    Attributes:
        nodes: Nodes emitted so far.
        origin: Source nodes that the nodes emitted next compute for.
        via: Rules that the nodes emitted next come from, outermost first.
        scope: Prefix of fresh names, such as the name of the node being rewritten.

    Args:
        taken: Names of values and nodes that must not be used again.
        constants: Constants that exist already, for `known`.
    """

    def __init__(
        self, taken: Iterable[str] = (), constants: Mapping[str, Constant] | None = None
    ) -> None:
        self.nodes: list[Node] = []
        self.origin: tuple[str, ...] = ()
        self.via: tuple[str, ...] = ()
        self.scope = ""
        self._taken = set(taken)
        self._counters: dict[str, int] = {}
        self._existing = constants or {}
        self._made: dict[str, Constant] = {}
        self._pool: dict[tuple[TensorType, bytes], Value] = {}

    @classmethod
    def of(cls, graph: Graph) -> Builder:
        """Returns a builder that adds to ``graph`` without reusing its names."""
        taken = [value.name for value in graph.values()]
        taken += [node.name for node in graph.nodes]
        return cls(taken, graph.constant_by_name)

    @property
    def constants(self) -> tuple[Constant, ...]:
        """Constants made so far."""
        return tuple(self._made.values())

    def fresh(self, stem: str) -> str:
        """Returns a name like ``stem``, within the scope, that was never used, and takes it."""
        return self._take(f"{self.scope}/{stem}" if self.scope else stem)

    def _take(self, base: str) -> str:
        name = base
        while name in self._taken:
            self._counters[base] = self._counters.get(base, 0) + 1
            name = f"{base}_{self._counters[base]}"
        self._taken.add(name)
        return name

    def input(self, name: str, format: Format, shape: Sequence[int]) -> Value:
        """Returns a value for a graph input, and takes its name."""
        return Value(self._take(name), TensorType(format, tuple(shape)))

    def constant(self, array: ArrayLike, format: Format | None = None, name: str = "") -> Value:
        """Makes a constant; equal small unnamed ones are made once.

        Args:
            array: Contents, which must not change afterwards.
            format: Number format, whose dtype must hold the contents; default: the one
                that the array's dtype gives.
            name: Stem of its name.
        """
        contents = np.asarray(array, dtype=None if format is None else format.dtype)
        made = Constant.of(name or "const", contents, format)
        kind = made.value.type
        pooled = kind.count <= _POOLED and not name
        key = (kind, contents.tobytes() if pooled else b"")
        if pooled and key in self._pool:
            return self._pool[key]
        value = Value(self.fresh(made.name), kind)
        self._made[value.name] = Constant(value, made.load)
        if pooled:
            self._pool[key] = value
        return value

    def scalar(self, number: float, format: Format) -> Value:
        """Makes a scalar constant of that format."""
        return self.constant(number, format)

    def known(self, value: Value | None) -> Array | None:
        """Returns the contents of ``value`` if it is a constant, else None."""
        if value is None:
            return None
        found = self._made.get(value.name) or self._existing.get(value.name)
        return found.array() if found is not None else None

    @overload
    def op(  # type: ignore[overload-overlap] # 1 is an int too, but gives the value itself
        self,
        op: str,
        *inputs: Value | None,
        outputs: Literal[1] = 1,
        name: str | None = None,
        **attributes: Attribute,
    ) -> Value: ...

    @overload
    def op(
        self,
        op: str,
        *inputs: Value | None,
        outputs: int,
        name: str | None = None,
        **attributes: Attribute,
    ) -> tuple[Value, ...]: ...

    def op(
        self,
        op: str,
        *inputs: Value | None,
        outputs: int = 1,
        name: str | None = None,
        **attributes: Attribute,
    ) -> Value | tuple[Value, ...]:
        """Emits one core node; returns its result, or a tuple if ``outputs`` is not 1.

        Args:
            op: Name of a core op.
            inputs: Operands; None stands for an optional one left out.
            outputs: Number of results to make.
            name: Stem of the node's name; default: the op's name.
            attributes: Attributes; those left out take the op's defaults.

        Raises:
            GraphError: The application breaks a rule of the op.
        """
        node = self.fresh(name or op)
        types = infer(op, [v.type if v else None for v in inputs], attributes, outputs, node)
        results = tuple(Value(self._take(f"{node}:{i}"), t) for i, t in enumerate(types))
        origin = self.origin or (node,)
        self.nodes.append(
            Node(op, inputs, results, MappingProxyType(attributes), CORE, node, origin, self.via)
        )
        return results[0] if outputs == 1 else results

    def split(self, value: Value, axis: int, parts: Sequence[int]) -> tuple[Value, ...]:
        """Emits a Split into ``parts`` along ``axis``; one part is the value itself."""
        if len(parts) == 1:
            return (value,)
        count = len(parts)
        return self.op("Split", value, outputs=count, axis=axis, split=tuple(parts))

    def graph(
        self, inputs: Sequence[Value], outputs: Sequence[Value], name: str = "graph"
    ) -> Graph:
        """Returns everything emitted so far as a graph."""
        return Graph(tuple(inputs), tuple(outputs), self.constants, tuple(self.nodes), name)


Rewrite = Callable[[Builder, Node], Sequence[Value | None]]
Guard = Callable[[Builder, Node], str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoweringRule:
    """How nodes of one op become other nodes.

    Attributes:
        domain: Domain of the op.
        op: The op.
        rewrite: Emits the replacement and returns one value for each output of the node
            (None where the node has None).
        guard: Returns why the rule does not fit a node, or None if it does. Default: fits.
        name: For people, and for `Node.via`; default: the op.
    """

    domain: str
    op: str
    rewrite: Rewrite
    guard: Guard | None = None
    name: str = ""

    def refusal(self, builder: Builder, node: Node) -> str | None:
        """Returns why the rule does not fit ``node``, or None if it does."""
        return self.guard(builder, node) if self.guard is not None else None


def decompositions(rows: Iterable[OpDef] = TABLE.values()) -> tuple[LoweringRule, ...]:
    """Returns one rule per composite among ``rows``: its decomposition."""
    return tuple(
        LoweringRule(domain=row.domain, op=row.name, rewrite=row.decompose)
        for row in rows
        if row.decompose is not None
    )


def apply(
    graph: Graph,
    rules: Iterable[LoweringRule],
    keep: Callable[[Node], bool] | None = None,
    refused: Callable[[Node, str], None] | None = None,
) -> Graph:
    """Rewrites nodes, and what they become, until no rule fits.

    The names and types of the graph's inputs and outputs stay. A node's origin goes to all
    nodes that replace it (a node without one is its own origin), and so does its ``via``, with
    the name of the rule after it.

    Args:
        graph: Not changed.
        rules: The first that fits a node rewrites it.
        keep: Nodes for which it is true stay as they are. Default: none.
        refused: Called with each node that stays though a rule names its op, and the reason.

    Raises:
        GraphError: A rule returns wrong results, or rules rewrite each other's results
            endlessly.
    """
    by_op: dict[tuple[str, str], list[LoweringRule]] = {}
    for rule in rules:
        by_op.setdefault((rule.domain, rule.op), []).append(rule)
    return _Rewriter(graph, by_op, keep or (lambda _: False), refused).run()


class _Rewriter:
    """One run of `apply`."""

    def __init__(
        self,
        graph: Graph,
        rules: Mapping[tuple[str, str], Sequence[LoweringRule]],
        keep: Callable[[Node], bool],
        refused: Callable[[Node, str], None] | None,
    ) -> None:
        self.graph, self.rules, self.keep, self.refused = graph, rules, keep, refused
        self.builder = Builder.of(graph)
        self.renamed: dict[str, Value] = {}

    def run(self) -> Graph:
        done: list[Node] = []
        todo = [(node, 0) for node in reversed(self.graph.nodes)]
        while todo:
            node, depth = todo.pop()
            node = self._renamed_inputs(node)
            made = self._rewritten(node, depth)
            if made is None:
                done.append(node)
            else:
                todo.extend((new, depth + 1) for new in reversed(made))
        constants = (*self.graph.constants, *self.builder.constants)
        made_graph = replace(self.graph, nodes=tuple(done), constants=constants)
        return rename_outputs(made_graph, self.renamed, self.builder)

    def _renamed_inputs(self, node: Node) -> Node:
        if not any(v is not None and v.name in self.renamed for v in node.inputs):
            return node
        inputs = tuple(None if v is None else resolve(self.renamed, v) for v in node.inputs)
        return replace(node, inputs=inputs)

    def _rewritten(self, node: Node, depth: int) -> list[Node] | None:
        """Returns what replaces ``node``, or None if it stays."""
        rules = self.rules.get((node.domain, node.op), ())
        if not rules or self.keep(node):
            return None
        reasons = []
        for rule in rules:
            reason = rule.refusal(self.builder, node)
            if reason is None:
                if depth >= _DEEPEST:
                    raise GraphError(
                        "rules rewrite each other's results endlessly",
                        rule="rewrite-loop",
                        node=node.name,
                    )
                return self._replace(node, rule)
            reasons.append(reason)
        if self.refused is not None:
            self.refused(node, "; ".join(reasons))
        return None

    def _replace(self, node: Node, rule: LoweringRule) -> list[Node]:
        builder = self.builder
        builder.nodes = []
        builder.scope = node.name or node.op
        builder.origin = node.origin or ((node.name,) if node.name else ())
        builder.via = (*node.via, rule.name or rule.op)
        results = rule.rewrite(builder, node)
        _check_results(node, results)
        for old, new in zip(node.outputs, results, strict=False):
            if old is not None and new is not None:
                self.renamed[old.name] = new
        made = builder.nodes
        builder.nodes, builder.scope, builder.origin, builder.via = [], "", (), ()
        return made


def _check_results(node: Node, results: Sequence[Value | None]) -> None:
    """Checks that a rewrite gave each output that is read, with its type."""
    padded = (*results, *(None,) * (len(node.outputs) - len(results)))
    for old, new in zip(node.outputs, padded, strict=False):
        if old is not None and (new is None or new.type != old.type):
            raise GraphError(
                f"the rewrite of {node.op} gave {new} for {old}",
                rule="rewrite-results",
                node=node.name,
            )


def resolve(renamed: Mapping[str, Value], value: Value) -> Value:
    """Returns what ``value`` was replaced by, through any number of steps."""
    while value.name in renamed:
        value = renamed[value.name]
    return value


def rename_outputs(graph: Graph, renamed: Mapping[str, Value], builder: Builder) -> Graph:
    """Applies replacements to a graph's outputs, which keep their names.

    A node's result takes the output's name; what no node makes, or what two outputs share,
    is copied by a Reshape to its own shape.

    Args:
        graph: Its outputs still have their old names.
        renamed: What replaced each value, by name.
        builder: Gives fresh names.
    """
    own = {v.name for node in graph.nodes for v in node.outputs if v is not None}
    own -= {v.name for v in graph.outputs}  # those have the names that they must keep
    new_names: dict[str, str] = {}
    copies: list[Node] = []
    for output in dict.fromkeys(graph.outputs):
        source = resolve(renamed, output)
        if source.name == output.name:
            continue
        if source.name in own and source.name not in new_names:
            new_names[source.name] = output.name
            continue
        name = builder.fresh("copy")
        shape = {"shape": output.shape}
        copies.append(Node("Reshape", (source,), (output,), shape, CORE, name, (output.name,)))
    nodes = (*graph.nodes, *copies)
    return replace(graph, nodes=tuple(with_names(node, new_names) for node in nodes))


def with_names(node: Node, names: Mapping[str, str]) -> Node:
    """Returns ``node`` with values renamed; types stay."""

    def renamed(value: Value | None) -> Value | None:
        if value is None or value.name not in names:
            return value
        return replace(value, name=names[value.name])

    if not any(v is not None and v.name in names for v in (*node.inputs, *node.outputs)):
        return node
    return replace(
        node,
        inputs=tuple(map(renamed, node.inputs)),
        outputs=tuple(map(renamed, node.outputs)),
    )


def substitute(graph: Graph, values: Mapping[str, Value]) -> Graph:
    """Returns a graph in which every use of a value reads another one instead.

    Outputs keep their names. The producers of replaced values stay; see `remove_dead`.

    Args:
        graph: Not changed.
        values: Replacement of each value, by name; made before its first use.
    """
    nodes = tuple(
        replace(
            node,
            inputs=tuple(None if v is None else resolve(values, v) for v in node.inputs),
        )
        for node in graph.nodes
    )
    taken_names = {v.name for v in graph.outputs if v.name in values}
    builder = Builder.of(graph)
    # The old producer of a replaced output gives its name up.
    retired = {name: builder.fresh(f"{name}.replaced") for name in taken_names}
    freed = tuple(
        replace(
            node,
            outputs=tuple(
                replace(v, name=retired[v.name]) if v is not None and v.name in retired else v
                for v in node.outputs
            ),
        )
        for node in nodes
    )
    return rename_outputs(replace(graph, nodes=freed), values, builder)


def remove_dead(graph: Graph) -> Graph:
    """Returns the graph without nodes and constants that no output needs.

    Inputs stay, and so do results that nobody reads of nodes that are needed.
    """
    live = {value.name for value in graph.outputs}
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if any(v is not None and v.name in live for v in node.outputs):
            live.update(v.name for v in node.inputs if v is not None)
            kept.append(node)
    constants = tuple(c for c in graph.constants if c.name in live)
    return replace(graph, nodes=tuple(reversed(kept)), constants=constants)
