"""What a generator makes of a case: one node with its data, and what may come out of it.

An `Acceptance` says which outputs are right; the tiers of one output are acceptances from the
strictest to the loosest, and the case demands one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from accelsdk.backend.datasheet import NumericsDatasheet
from accelsdk.formats import Format
from accelsdk.graph.graph import Attribute
from accelsdk_conformance.oracles.doubled import Doubled
from accelsdk_conformance.oracles.tensor import F64, Codes, Mask, Tensor

_EMPTY: Mapping[str, Any] = MappingProxyType({})


class Tier(StrEnum):
    """How closely an output agrees, strictest first (docs/conformance.md, "Tiers")."""

    T0 = "T0"  # bit-exact for everyone
    T1 = "T1"  # bit-exact to the declared accumulator
    T2 = "T2"  # within the bound derived from the declaration
    T3 = "T3"  # within the any-order bound
    U = "U"  # within the op's ULP limit


@dataclass(frozen=True, slots=True, eq=False)
class Exact:
    """These codes and no others.

    Attributes:
        codes: What must come out.
        nan: Where any NaN will do, and nothing but NaN.
        free: Where anything will do.
        signed_zero: Whether +0 and -0 are told apart.
        others: Further sets of codes, each legal element by element.
    """

    codes: Codes
    nan: Mask | None = None
    free: Mask | None = None
    signed_zero: bool = True
    others: tuple[Codes, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Within:
    """A value within a bound of the exact result, or after rounding its neighbourhood.

    Attributes:
        value: The exact result; 0 where it is not finite.
        bound: Largest error allowed before the result is rounded to a narrower output.
        nan: Where only NaN will do.
        positive: Where only +Inf will do.
        negative: Where only -Inf will do.
        overflow: Where finite values within the bound, Inf and NaN are all legal.
        narrow: Whether ``value +- bound`` is rounded to the output format first; else the
            bound covers that rounding already.
        also_zero: Where zero is legal too (declared flushing).
        saturate: Whether a result beyond the largest value becomes that value.
    """

    value: Doubled
    bound: F64
    nan: Mask | None = None
    positive: Mask | None = None
    negative: Mask | None = None
    overflow: Mask | None = None
    narrow: bool = False
    also_zero: Mask | None = None
    saturate: bool = False


Acceptance = Exact | Within


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What a failure says of the declaration.

    Attributes:
        claim: The entry of the datasheet with the field that is false, as far as it is known.
        reason: Why, in words; may be empty.
        fields: Every field whose change alone would explain the outputs.
    """

    claim: str
    reason: str
    fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Expected:
    """What one output must be.

    Attributes:
        format: Format of the output.
        shape: Its shape.
        tiers: Acceptances, strictest first.
        required: The tier that the declaration demands; looser ones are for information.
        claim: The datasheet's field that a failure refutes, or empty.
        diagnose: Asked of outputs that miss the tier: which field of the claim is false.
        objection: What is wrong with these outputs as a whole, although each element may be
            right; empty if nothing is.
    """

    format: Format
    shape: tuple[int, ...]
    tiers: tuple[tuple[Tier, Acceptance], ...]
    required: Tier
    claim: str = ""
    diagnose: Callable[[Tensor], Diagnosis] | None = None
    objection: str = ""


#: Judges outputs that depend on each other (MX scales and elements): returns, from the
#: outputs that the device gave, what each of them must be.
Oracle = Callable[[tuple[Tensor, ...]], tuple[Expected, ...]]


@dataclass(frozen=True, slots=True, eq=False)
class Always:
    """An oracle that does not look at the device's outputs.

    Attributes:
        expected: What each output must be.
    """

    expected: tuple[Expected, ...]

    def __call__(self, outputs: tuple[Tensor, ...]) -> tuple[Expected, ...]:
        """Returns the expectations, whatever the outputs are."""
        return self.expected


class Along(NamedTuple):
    """How an operand lies along an axis of which parts can be left out.

    Attributes:
        operand: Its index.
        axis: The dimension of it.
        unit: Elements that one part has.
        runs: How often the parts follow each other: the gates of a recurrent layer, the groups of
            a convolution. Each run loses the same parts.
    """

    operand: int
    axis: int
    unit: int = 1
    runs: int = 1


#: What can only be left out together: part j of each. K of ``a[M, K] @ b[K, N]`` is
#: ``(Along(0, 1), Along(1, 0))``; with E8M0 scales of 32, ``(Along(0, 1, 32), Along(1, 0, 32),
#: Along(2, 1), Along(3, 0))``.
Axis = tuple[Along, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Remake:
    """How to make the same problem of other operands, so that a failure can be shrunk.

    Attributes:
        make: Makes the problem of operands of any extents that ``axes`` can give, and of any
            values; it raises where these operands are no problem of this kind. The problem may
            hold them changed: a length cut, an index brought back into range.
        axes: What can be left out of such operands.
        fixed: Operands whose values mean something else than numbers (indices, shapes): they
            lose elements with their axes, and are never made simpler.
    """

    make: Callable[[tuple[Tensor | None, ...]], Problem]
    axes: Callable[[tuple[Tensor | None, ...]], Iterable[Axis]]
    fixed: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """A node that reads the first result of the node before it.

    Attributes:
        op: Core op of one result.
        attributes: Attributes of the node.
        operands: Which of the problem's operands are its further ones, by index.
    """

    op: str
    attributes: Mapping[str, Attribute] = field(default_factory=lambda: _EMPTY)
    operands: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Problem:
    """One node, or one with others behind it, its operands and its oracle.

    Attributes:
        op: Core op.
        operands: In order, those of ``then`` last; None is an optional operand left out.
        attributes: Attributes of the node.
        outputs: How many results the node has.
        oracle: What the outputs must be, given what they are.
        constants: Indices of operands that are constants of the graph instead of inputs.
        runs: How often the program runs before its last outputs are judged.
        explain: Which operand elements meet in an output element, in words.
        remake: How to make it again of smaller operands; None if a failure cannot be shrunk.
        before: Operands of an earlier execution of the same loaded program, or None: what it
            leaves in accumulators and scratch memory must not be seen.
        poison: Byte that surrounds operands and fills outputs; 0xFF is NaN in most formats.
        repeats: How often it runs, each time from the start; all give the same bits.
        promise: What a device that refuses this problem would have broken, or None.
        then: Nodes behind the first one; the outputs are those of the last.
    """

    op: str
    operands: tuple[Tensor | None, ...]
    oracle: Oracle
    attributes: Mapping[str, Attribute] = field(default_factory=lambda: _EMPTY)
    outputs: int = 1
    constants: frozenset[int] = frozenset()
    runs: int = 1
    explain: Callable[[tuple[int, ...]], str] | None = None
    remake: Remake | None = None
    before: tuple[Tensor | None, ...] | None = None
    poison: int = 0xA5
    repeats: int = 1
    promise: Promise | None = None
    then: tuple[Step, ...] = ()

    @property
    def own(self) -> tuple[Tensor | None, ...]:
        """The operands of the first node."""
        further = sum(len(step.operands) for step in self.then)
        return self.operands[: len(self.operands) - further]

    def with_operands(self, operands: Sequence[Tensor | None]) -> Problem:
        """Returns the same problem of other operands, which can be made again, too.

        Raises:
            ValueError: Its generator cannot make it of others: a mistake in the suite.
        """
        if self.remake is None:
            raise ValueError(f"the problem of {self.op} cannot be made of other operands")
        return replace(self.remake.make(tuple(operands)), remake=self.remake)


@dataclass(frozen=True, slots=True, eq=False)
class Promise:
    """A claim to take a problem that a device may refuse only with another.

    Attributes:
        claim: The entry of the datasheet with its field.
        given: The problem with which it may.
    """

    claim: str
    given: Problem


class NotApplicable(Exception):
    """The case does not apply to what the backend declares; the text is the reason."""


class BelowProfile(Exception):
    """The declaration is weaker than the profile's floor; the text names field and floor."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a generator may look at besides the case: the declaration, and the run's seed."""

    datasheet: NumericsDatasheet
    seed: int = 0


def expect_exact(
    tensor: Tensor,
    *,
    nan: Mask | None = None,
    free: Mask | None = None,
    signed_zero: bool = True,
    others: tuple[Codes, ...] = (),
    claim: str = "",
) -> Expected:
    """Returns the expectation of exactly these codes (T0)."""
    if nan is None and tensor.format.has_nan:
        nan = np.isnan(tensor.values)
    accept = Exact(tensor.codes, nan, free, signed_zero, others)
    return Expected(tensor.format, tensor.shape, ((Tier.T0, accept),), Tier.T0, claim)


def always(*expected: Expected) -> Oracle:
    """Returns an oracle that does not look at the device's outputs."""
    return Always(expected)


def shrinkable(
    make: Callable[..., Problem],
    operands: Sequence[Tensor | None],
    axes: Callable[..., Iterable[Axis]] | None = None,
    fixed: Iterable[int] = (),
) -> Problem:
    """Makes a problem that can be made again of smaller or simpler operands.

    Args:
        make: Called with the operands, one argument each; returns the problem.
        operands: The operands to begin with.
        axes: Called in the same way; returns what can be left out. Default: the axes of operands
            that broadcast together.
        fixed: Operands whose values must stay.
    """
    chosen = axes or broadcast_axes
    again = Remake(lambda given: make(*given), lambda given: chosen(*given), frozenset(fixed))
    return replace(make(*operands), remake=again)


def broadcast_axes(*operands: Tensor | None) -> tuple[Axis, ...]:
    """Returns each axis of an elementwise result with the operands that have it in full."""
    shapes = {i: operand.shape for i, operand in enumerate(operands) if operand is not None}
    rank = max(map(len, shapes.values()), default=0)
    found = []
    for back in range(1, rank + 1):
        full = [
            Along(i, len(shape) - back)
            for i, shape in shapes.items()
            if len(shape) >= back and shape[-back] != 1
        ]
        if full:
            found.append(tuple(full))
    return tuple(reversed(found))


def separate_axes(*operands: Tensor | None) -> tuple[Axis, ...]:
    """Returns each axis of each operand by itself."""
    return tuple(
        (Along(i, axis),)
        for i, operand in enumerate(operands)
        if operand is not None
        for axis in range(len(operand.shape))
    )
