"""A plugin that runs one op alone: everything else must be served by the fallback."""

from __future__ import annotations

from accelsdk.backend.backend import NATIVE, Refusal, Support, refuse
from accelsdk.backend.info import BackendInfo, Target
from accelsdk.graph.graph import Graph, Node
from accelsdk_reference_cpu.backend import ReferenceCpu


class OneOp(ReferenceCpu):
    """The reference's kernels, for one op of the table.

    Args:
        op: Which.
    """

    def __init__(self, op: str) -> None:
        self._op = op

    @property
    def info(self) -> BackendInfo:
        """Who this is."""
        return BackendInfo(name="one_op", vendor="tests", version="1", options=super().info.options)

    def supports(self, graph: Graph, node: Node, target: Target) -> Support:
        """Accepts that op."""
        if node.op == self._op:
            return NATIVE
        return refuse(Refusal.OPERATOR, f"this plugin runs {self._op} alone")
