"""Decomposition of rnn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from accelsdk.graph.graph import Node
from accelsdk.graph.types import Value

if TYPE_CHECKING:
    from accelsdk.graph.rewrite import Builder


def rnn(b: Builder, node: Node) -> Sequence[Value | None]:
    """Unrolls the time steps."""
    raise NotImplementedError
