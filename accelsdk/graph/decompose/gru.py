"""Decomposition of gru."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from accelsdk.graph.graph import Node
from accelsdk.graph.types import Value

if TYPE_CHECKING:
    from accelsdk.graph.rewrite import Builder


def gru(b: Builder, node: Node) -> Sequence[Value | None]:
    """Unrolls the time steps."""
    raise NotImplementedError
