"""Where recipes of random nodes get operands and numbers from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from hypothesis import strategies as st

from accelsdk import formats as f
from accelsdk.formats import FORMATS, Format, Kind
from accelsdk.graph.rewrite import Builder
from accelsdk.graph.types import Value

REAL = (f.FLOAT32, f.FLOAT16, f.BFLOAT16)
CODES = tuple(row for row in FORMATS if row.kind is Kind.FLOAT)


@dataclass
class Source:
    """Where a recipe gets operands and numbers from."""

    draw: Callable
    least: int = 1
    formats: Sequence[Format] = FORMATS
    builder: Builder = field(default_factory=Builder)
    inputs: list[Value] = field(default_factory=list)
    pool: list[Value] = field(default_factory=list)

    def int(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def flag(self) -> int:
        return self.int(0, 1)

    def pick(self, options):
        return self.draw(st.sampled_from(list(options)))

    def order(self, count: int) -> tuple[int, ...]:
        return tuple(self.draw(st.permutations(range(count))))

    def shape(self, low: int = 0, high: int = 4) -> tuple[int, ...]:
        return tuple(self.int(self.least, 4) for _ in range(self.int(low, high)))

    def new(self, format: Format, shape: Sequence[int]) -> Value:
        """An operand of that type: one that exists, a new input or a new constant."""
        same = [v for v in self.pool if v.format == format and v.shape == tuple(shape)]
        if same and self.flag():
            return self.pick(same)
        if self.int(0, 3) == 0:
            zeros = np.zeros(tuple(shape), format.dtype)
            value = self.builder.constant(zeros, format, name=f"c{len(self.pool)}")
        else:
            value = self.builder.input(f"x{len(self.inputs)}", format, shape)
            self.inputs.append(value)
        self.pool.append(value)
        return value

    def any(self, formats: Sequence[Format], low: int = 0, high: int = 4) -> Value:
        """An operand of one of the formats, of a rank within bounds."""
        formats = [row for row in formats if row in self.formats] or list(formats)
        fits = [v for v in self.pool if v.format in formats and low <= v.type.rank <= high]
        if fits and self.int(0, 2):
            return self.pick(fits)
        return self.new(self.pick(formats), self.shape(low, high))

    def narrowed(self, shape: Sequence[int]) -> tuple[int, ...]:
        """A shape that broadcasts to ``shape``."""
        kept = shape[self.int(0, len(shape)) :]
        return tuple(1 if self.flag() else extent for extent in kept)

    def axes(self, rank: int) -> tuple[int, ...]:
        return tuple(axis for axis in range(rank) if self.flag())


Drawn = tuple[Sequence[Value | None], dict, int]
Recipe = Callable[[Source], Drawn]
