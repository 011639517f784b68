"""Stand-ins for a device: one that is always right, and ones that are wrong in a plain way.

They answer from what the oracle expects, so they need no backend: the suite runs on them to
test itself (`selftest`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from accelsdk.backend.datasheet import NumericsDatasheet
from accelsdk.formats import E8M0
from accelsdk.numerics.rounding import nan_code
from accelsdk_conformance.oracles.tensor import Tensor, encode
from accelsdk_conformance.problem import Exact, Expected, Problem, Within

#: Makes a wrong output of a right one.
Change = Callable[[Problem, Tensor], Tensor]


class Perfect:
    """Answers with what the oracle expects: it must pass every case.

    Args:
        datasheet: What it claims; nothing by default.
    """

    def __init__(self, datasheet: NumericsDatasheet | None = None) -> None:
        self._datasheet = datasheet or NumericsDatasheet()

    @property
    def datasheet(self) -> NumericsDatasheet:
        """What it claims."""
        return self._datasheet

    def run(self, problem: Problem, poison: int) -> tuple[Tensor, ...]:
        """Returns the right outputs of a problem."""
        if problem.op != "QuantizeBlock":
            return tuple(answer(expected) for expected in problem.oracle(()))
        blank = Tensor(E8M0, np.zeros(0, np.uint8))
        scales = answer(problem.oracle((blank, blank))[1])
        return answer(problem.oracle((blank, scales))[0]), scales

    def run_together(self, problems: Sequence[Problem]) -> list[tuple[Tensor, ...]]:
        """Returns the outputs of each problem."""
        return [self.run(problem, problem.poison) for problem in problems]

    def recover(self) -> None:
        """Does nothing: it never fails for good."""


class Changed(Perfect):
    """Answers with the right outputs after a change.

    Args:
        change: Makes the wrong output.
        datasheet: What it claims.
    """

    def __init__(self, change: Change, datasheet: NumericsDatasheet | None = None) -> None:
        super().__init__(datasheet)
        self._change = change

    def run(self, problem: Problem, poison: int) -> tuple[Tensor, ...]:
        """Returns the right outputs, changed."""
        return tuple(self._change(problem, out) for out in super().run(problem, poison))


class Sociable(Perfect):
    """Is right about a problem alone, and not about several at once.

    Args:
        wrong: Changes the outputs of the last problem of several, or raises.
    """

    def __init__(self, wrong: Change) -> None:
        super().__init__()
        self._wrong = wrong

    def run_together(self, problems: Sequence[Problem]) -> list[tuple[Tensor, ...]]:
        """Returns the outputs of each problem, those of the last one changed."""
        outputs = super().run_together(problems)
        if len(problems) > 1:
            outputs[-1] = tuple(self._wrong(problems[-1], out) for out in outputs[-1])
        return outputs


class Raising(Perfect):
    """Raises instead of answering.

    Args:
        error: What it raises.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def run(self, problem: Problem, poison: int) -> tuple[Tensor, ...]:
        """Raises."""
        raise self._error


def answer(expected: Expected) -> Tensor:
    """Returns an output that satisfies the demanded acceptance, and stricter ones if it can."""
    demanded = next(accept for tier, accept in expected.tiers if tier is expected.required)
    accepts = [demanded, *(accept for _, accept in expected.tiers)]
    exact = next((accept for accept in accepts if isinstance(accept, Exact)), None)
    if exact is not None:
        codes = exact.codes
        if exact.nan is not None and expected.format.has_nan:
            codes = np.where(exact.nan, nan_code(expected.format), codes)
        return Tensor(expected.format, codes.astype(exact.codes.dtype))
    within = next(accept for accept in accepts if isinstance(accept, Within))
    value = np.array(within.value.high)
    for mask, shown in (
        (within.nan, np.nan),
        (within.positive, np.inf),
        (within.negative, -np.inf),
    ):
        if mask is not None:
            value[mask] = shown
    return encode(value, expected.format, low=within.value.low)


def zeros(problem: Problem, out: Tensor) -> Tensor:
    """Nothing was computed: all zero."""
    return Tensor(out.format, np.zeros_like(out.codes))


def echo(problem: Problem, out: Tensor) -> Tensor:
    """The first operand comes back."""
    first = next(t for t in problem.operands if t is not None)
    mask = np.uint64((1 << out.format.bits) - 1)
    codes = np.resize(first.codes, out.shape).astype(np.uint64) & mask
    return Tensor(out.format, codes.astype(out.codes.dtype))


def poisoned(problem: Problem, out: Tensor) -> Tensor:
    """The output was not written."""
    return Tensor(out.format, np.full_like(out.codes, 0xA5 % (1 << out.format.bits)))


def at(place: int, change: Callable[[Tensor], int]) -> Change:
    """Returns the change of one element.

    Args:
        place: Index in the flattened output; negative counts from the end.
        change: Returns its code, given the output.
    """

    def wrong(problem: Problem, out: Tensor) -> Tensor:
        codes = np.array(out.codes)
        if codes.size:
            codes.flat[place] = change(out)
        return Tensor(out.format, codes)

    return wrong
