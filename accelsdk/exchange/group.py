"""Several core ops that are written as one op of ONNX."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from accelsdk.exchange.emitter import Emitter


@dataclass(frozen=True, slots=True)
class Group:
    """Nodes that are written together.

    Attributes:
        nodes: Their names. What they hand to each other is read by none but them.
        at: The one in whose place they are written: all operands are made before it, and no
            result is read before it.
        name: Op of ONNX.
        emit: Writes them.
    """

    nodes: frozenset[str]
    at: str
    name: str
    emit: Callable[[Emitter], None]
