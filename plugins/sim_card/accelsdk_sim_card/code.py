"""The program's own bytes: the graph, its constants turned into further inputs.

The contents of constants travel beside the code, in the program's manifest, so the code is a
graph file without any: real inputs first, then one value a constant, in manifest order.
"""

from __future__ import annotations

from dataclasses import replace

from accelsdk.backend.program import Program
from accelsdk.errors import IncompatibleProgram, Internal
from accelsdk.graph import serialize
from accelsdk.graph.graph import Array, Constant, Graph


def encode(graph: Graph) -> bytes:
    """Returns the code of a program."""
    constants = tuple(constant.value for constant in graph.constants)
    return serialize.dump(replace(graph, inputs=graph.inputs + constants, constants=()))


def decode(program: Program) -> Graph:
    """Returns the graph of a program; its constants have types and no contents.

    Raises:
        DataLoss: The code is corrupt.
        IncompatibleProgram: Code and header do not belong together.
    """
    graph = serialize.load(program.code)
    count = len(program.header.inputs)
    inputs, constants = graph.inputs[:count], graph.inputs[count:]
    if [value.name for value in constants] != [spec.name for spec in program.constants]:
        raise IncompatibleProgram(
            f"the code and the manifest of program {graph.name} differ",
            remedy="compile the model again",
        )
    return replace(
        graph,
        inputs=inputs,
        constants=tuple(Constant(value, _no_contents) for value in constants),
    )


def _no_contents() -> Array:
    raise Internal("constants of a program are read from its manifest")


def workspace(graph: Graph, alignment: int) -> int:
    """Returns the bytes of device memory that intermediate results need at once."""
    free = {value.name for value in (*graph.inputs, *graph.outputs)}
    free |= {constant.name for constant in graph.constants}
    last: dict[str, int] = {}
    for index, node in enumerate(graph.nodes):
        last.update((value.name, index) for value in node.inputs if value is not None)
    live = peak = 0
    ending: dict[int, int] = {}
    for index, node in enumerate(graph.nodes):
        for value in node.outputs:
            if value is not None and value.name not in free:
                size = -(-value.type.nbytes // alignment) * alignment
                live += size
                end = last.get(value.name, index)
                ending[end] = ending.get(end, 0) + size
        peak = max(peak, live)
        live -= ending.pop(index, 0)
    return peak
