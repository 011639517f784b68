"""One allocation for all tensors of a program, with poison before, between and behind them.

The host writes the whole of it once (results and guards hold a poison byte), runs the program,
and reads the whole of it back: a result that was not written keeps the poison, a write beside a
result shows in the guards, and a damaged operand shows too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from accelsdk.graph.types import TensorType
from accelsdk_conformance.examine import SentinelOverwritten
from accelsdk_conformance.oracles.tensor import Tensor, unpack
from accelsdk_conformance.problem import Problem


@dataclass(frozen=True, slots=True)
class Place:
    """Where one tensor lies in the allocation."""

    type: TensorType
    offset: int

    @property
    def end(self) -> int:
        """First byte behind it."""
        return self.offset + self.type.nbytes


@dataclass(frozen=True, slots=True)
class Part:
    """The part of the allocation that one problem has.

    Attributes:
        given: The operands that are inputs of the program.
        operands: Where they lie.
        results: Where the results lie.
        begin: First byte of the part.
        end: First byte behind it.
        poison: What it is filled with before.
    """

    given: list[Tensor]
    operands: list[Place]
    results: list[Place]
    begin: int
    end: int
    poison: int


def inputs_of(problem: Problem, operands: Sequence[Tensor | None]) -> list[Tensor]:
    """Returns which operands are inputs of the program: no constants, none left out."""
    return [
        tensor
        for i, tensor in enumerate(operands)
        if tensor is not None and i not in problem.constants
    ]


def lay_out(problems: Sequence[Problem], results: Iterable[TensorType], step: int) -> list[Part]:
    """Lays out the operands and results of each problem behind those of the one before.

    Args:
        problems: In the order of the program.
        results: Types of all results, in order.
        step: Alignment of every tensor, and least bytes of poison around it.
    """
    left = iter(results)
    parts: list[Part] = []
    end = 0
    for problem in problems:
        given = inputs_of(problem, problem.operands)
        types = [TensorType(tensor.format, tensor.shape) for tensor in given]
        types += islice(left, problem.outputs)
        places: list[Place] = []
        begin, end = end, end + step
        for kind in types:
            places.append(Place(kind, end))
            end += -(-kind.nbytes // step) * step + step
        count = len(given)
        parts.append(Part(given, places[:count], places[count:], begin, end, problem.poison))
    return parts


def image(parts: Sequence[Part]) -> bytearray:
    """Returns the bytes of the allocation: operands in their places, poison elsewhere."""
    filled = bytearray(parts[-1].end)
    for part in parts:
        filled[part.begin : part.end] = bytes([part.poison]) * (part.end - part.begin)
        for tensor, place in zip(part.given, part.operands, strict=True):
            filled[place.offset : place.end] = tensor.packed()
    return filled


def result(after: bytearray, place: Place, shape: tuple[int, ...]) -> Tensor:
    """Returns a result, of which ``shape`` is valid, from the bytes of the allocation."""
    kind = TensorType(place.type.format, shape)
    return unpack(memoryview(after)[place.offset : place.offset + kind.nbytes], kind.format, shape)


def check_guards(before: bytearray, after: bytearray, parts: Iterable[Part]) -> None:
    """Raises `SentinelOverwritten` if anything but the results has changed."""
    results = [place for part in parts for place in part.results]
    covered = bytearray(after)
    for place in results:
        covered[place.offset : place.end] = before[place.offset : place.end]
    if covered == before:
        return
    at = next(i for i, (a, b) in enumerate(zip(before, covered, strict=True)) if a != b)
    near = min(results, key=lambda place: min(abs(at - place.offset), abs(at - place.end)))
    raise SentinelOverwritten(
        f"byte {at} of the allocation changed from 0x{before[at]:02X} to 0x{covered[at]:02X}; "
        f"the nearest result, {near.type}, lies at {near.offset} to {near.end}"
    )
