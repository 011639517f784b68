"""What drivers report of an execution, checked before anyone believes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from accelsdk.errors import Internal
from accelsdk.graph.types import Shape

if TYPE_CHECKING:
    from accelsdk.runtime.buffer import Buffer


def note_shapes(outputs: Sequence[Buffer], shapes: Sequence[Shape]) -> None:
    """Notes the real shapes of outputs whose size depends on the data.

    Raises:
        Internal: There is not one for each output, or one leaves its bound.
    """
    given = [tuple(shape) for shape in shapes]
    pairs = zip(given, outputs, strict=False)
    fits = len(given) == len(outputs) and all(_within(s, buffer.shape) for s, buffer in pairs)
    if not fits:
        bounds = ", ".join(map(str, (buffer.shape for buffer in outputs)))
        raise Internal(
            f"the driver reports output shapes {given}; the bounds are {bounds}",
            remedy="report it to the vendor of the plugin",
        )
    for buffer, shape in zip(outputs, given, strict=True):
        buffer.valid = shape


def _within(shape: Shape, bound: Shape) -> bool:
    return len(shape) == len(bound) and all(
        isinstance(extent, int) and 0 <= extent <= most
        for extent, most in zip(shape, bound, strict=True)
    )
