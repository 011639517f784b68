"""How much device memory a program needs for its intermediate results."""

from __future__ import annotations

from accelsdk.graph.graph import Graph


def workspace_bytes(graph: Graph, alignment: int) -> int:
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
