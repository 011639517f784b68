"""Types of graph values: a number format and a shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import index

from accelsdk.errors import InvalidArgument
from accelsdk.formats import Format, by_name


@dataclass(frozen=True, slots=True)
class Dim:
    """A dimension that is known only at run time, within bounds (both included).

    Only targets with the ``dynamic-shapes`` capability may see one.
    """

    name: str
    min: int
    max: int

    def __post_init__(self) -> None:
        if not 0 <= self.min <= self.max:
            raise InvalidArgument(
                f"dimension {self.name!r} has bounds {self.min}..{self.max}",
                remedy="give 0 <= min <= max",
            )

    def __str__(self) -> str:
        return f"{self.name}:{self.min}..{self.max}"


Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TensorType:
    """The type of a value: number format and static shape.

    Attributes:
        format: Number format of the elements.
        shape: Extents, outermost first. ``()`` is a scalar; an extent may be 0.
    """

    format: Format
    shape: Shape

    @property
    def rank(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def count(self) -> int:
        """Number of elements (1 for a scalar)."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes in device memory: dense, row-major, sub-byte formats packed."""
        return self.format.nbytes(self.count)

    def __str__(self) -> str:
        return f"{self.format}[{','.join(map(str, self.shape))}]"


def type_of(format: Format | str | TensorType, shape: Sequence[int] | None = None) -> TensorType:
    """Returns a tensor type that somebody wrote down, checked.

    Args:
        format: Number format, its name, or a whole type.
        shape: Extents, unless ``format`` is a whole type; None is a scalar.

    Raises:
        InvalidArgument: There is no such format, or an extent is negative or no integer.
    """
    if isinstance(format, TensorType):
        shape, format = format.shape, format.format
    row = by_name(format) if isinstance(format, str) else format
    if not isinstance(row, Format):
        raise InvalidArgument(
            f"{row!r} is no number format", remedy="give a name such as 'float32', or a Format"
        )
    try:
        extents = tuple(map(index, () if shape is None else shape))
    except TypeError:
        extents = (-1,)
    if min(extents, default=0) < 0:
        raise InvalidArgument(
            f"{shape!r} is no shape", remedy="give a sequence of integers of 0 or more"
        )
    return TensorType(row, extents)


@dataclass(frozen=True, slots=True)
class Value:
    """A named, typed tensor in a graph. Two values of one graph differ in name."""

    name: str
    type: TensorType

    @property
    def format(self) -> Format:
        """Number format of the elements."""
        return self.type.format

    @property
    def shape(self) -> Shape:
        """Extents, outermost first."""
        return self.type.shape

    def __str__(self) -> str:
        return f"%{self.name}: {self.type}"
