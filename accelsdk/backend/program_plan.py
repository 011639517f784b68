"""What a partitioned model is as programs: where each runs, and what is copied between them."""

from __future__ import annotations

from dataclasses import dataclass

from accelsdk.backend.program import ProgramHeader
from accelsdk.graph.types import Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One program of a plan.

    Attributes:
        name: Unique in the plan.
        place: Index into `Outline.places`.
    """

    name: str
    place: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    """A value that is copied from one place to another.

    Attributes:
        value: Name, as in the headers of the pieces, and type.
        source: Place that it is on.
        destination: Place that needs it.
        after: Index of the piece that makes it; -1 for an input of the model.
        before: Index of the first piece that reads it there; the number of pieces if none
            does, and it is an output of the model.
    """

    value: Value
    source: int
    destination: int
    after: int
    before: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """A plan without its programs. Inputs are fed, and outputs handed back, on place 0.

    Attributes:
        header: The whole model, as if it were one program of place 0.
        places: (backend, target) names; place 0 is the one asked for.
        pieces: One a program, in the order in which they run.
        crossings: In the order of ``after``, then ``before``.
    """

    header: ProgramHeader
    places: tuple[tuple[str, str], ...]
    pieces: tuple[Piece, ...]
    crossings: tuple[Crossing, ...] = ()

    def place_of(self, piece: int) -> str:
        """Returns the backend and target of a piece, for people."""
        return "/".join(self.places[self.pieces[piece].place])
