"""Graphs as text: one line a node, the same text for the same graph.

graph mlp
input   %x: float32[1,784]
const   %w: float32[784,10]  31,360 bytes
%y: float32[1,10] = MatMul(%x, %w)  # mlp/dense
output  %y: float32[1,10]
"""

from __future__ import annotations

from accelsdk.graph.graph import CORE, Attribute, Graph, Node


def print_graph(graph: Graph) -> str:
    """Returns the graph as text: inputs, constants, nodes in execution order, outputs."""
    lines = [f"graph {graph.name}"]
    lines += [f"  input   {value}" for value in graph.inputs]
    lines += [f"  const   {c.value}  {c.value.type.nbytes:,} bytes" for c in graph.constants]
    lines += [f"  {print_node(node)}" for node in graph.nodes]
    lines += [f"  output  {value}" for value in graph.outputs]
    return "\n".join(lines) + "\n"


def print_node(node: Node) -> str:
    """Returns one line: results and their types, op, operands, attributes, name, origin."""
    results = ", ".join("_" if value is None else str(value) for value in node.outputs)
    operands = ", ".join("_" if value is None else f"%{value.name}" for value in node.inputs)
    domain = "" if node.domain == CORE else f"{node.domain}:"
    settings = ", ".join(f"{k}={_attribute(v)}" for k, v in sorted(node.attributes.items()))
    braces = f" {{{settings}}}" if settings else ""
    origin = tuple(name for name in node.origin if name != node.name)
    source = f" from {', '.join(origin)}" if origin else ""
    return f"{results} = {domain}{node.op}({operands}){braces}  # {node.name}{source}"


def _attribute(item: Attribute) -> str:
    if isinstance(item, tuple):
        return "[" + ", ".join(_attribute(part) for part in item) + "]"
    return repr(item)
