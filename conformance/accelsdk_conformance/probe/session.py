"""What the probes of one unit share: the bench, the order of sums, and what is known so far."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from accelsdk_conformance.oracles.tensor import F64
from accelsdk_conformance.probe import structure
from accelsdk_conformance.probe.reading import Reading
from accelsdk_conformance.probe.structure import Structure
from accelsdk_conformance.probe.unit import Bench


@dataclass(slots=True)
class Session:
    """One unit under measurement: what later probes need of earlier ones.

    Attributes:
        bench: Feeds the unit.
        shape: The order of its sums.
        top: Exponent of the large term.
        fields: What was found so far.
    """

    bench: Bench
    shape: Structure
    top: int
    fields: dict[str, Reading]

    @property
    def depth(self) -> int:
        """Binary orders between the large term and the smallest product or result."""
        low = self.bench.lowest
        out = self.bench.unit.out
        return self.top - max(low, out.emin - out.mantissa_bits)

    @property
    def width(self) -> int:
        """Positions of the first chunk."""
        return len(self.shape.chunks[0])

    @property
    def fused(self) -> bool:
        """Whether the products of a chunk meet at once."""
        return self.shape.kind in ("fused", "exact") and self.width > 1

    def sums(self, *rows: list[list[float]]) -> F64:
        """Runs rows that are given chunk by chunk."""
        return self.bench.sums(np.stack([structure.row(self.shape, *row) for row in rows]))

    def last(self, *rows: list[float]) -> F64:
        """Runs rows of products in the last whole chunk, so that no other realigns the sum."""
        places = [chunk for chunk in self.shape.chunks if len(chunk) == self.width][-1]
        found = np.zeros((len(rows), self.shape.length))
        for line, values in zip(found, rows, strict=True):
            line[places[: len(values)]] = values
        return self.bench.sums(found)


def exact_reach(kept: list[bool]) -> tuple[int, bool]:
    """How many leading cases hold, and whether one after them does not."""
    for index, good in enumerate(kept):
        if not good:
            return index, True
    return len(kept), False
