"""Shrinks a failing problem to the smallest input that still fails.

Delta debugging (Zeller and Hildebrandt, IEEE TSE 28(2), 2002) over what `problem.Remake` says
can be left out: first parts of axes, large ones before small ones, then values, which become 0,
or 1, or lose their sign, the end of their mantissa and half of their exponent. Every candidate
is made anew, with an expectation of its own, and run on the device; it is kept if it fails, too.
The work is counted in executions, never in seconds, so that equal devices give equal results.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from accelsdk.errors import AccelError
from accelsdk.formats import Format, Kind
from accelsdk_conformance.oracles.tensor import Codes, Tensor, code_dtype, from_integers, represent
from accelsdk_conformance.problem import Axis, BelowProfile, NotApplicable, Problem, Remake

_ONES = 64  # elements that are made simpler one by one
_SHOWN = 16  # elements of an operand that are listed

Operands = tuple[Tensor | None, ...]

#: Returns operands with these parts of them, or with these values, left.
Fewer = Callable[[Operands, Sequence[int]], Operands]

#: What a `Remake` may raise for operands that are no problem of its kind.
_NO_PROBLEM = (
    ArithmeticError,
    AccelError,
    BelowProfile,
    LookupError,
    NotApplicable,
    TypeError,
    ValueError,
)


@dataclass(frozen=True, slots=True, eq=False)
class Shrunk:
    """The outcome.

    Attributes:
        problem: The smallest that was found to fail.
        executions: How many candidates were run.
        complete: Whether nothing smaller of the kinds that are tried fails; else the budget
            ran out.
    """

    problem: Problem
    executions: int
    complete: bool


def shrink(problem: Problem, fails: Callable[[Problem], bool], budget: int) -> Shrunk:
    """Returns the smallest problem that was found to fail.

    Args:
        problem: Fails; returned as it is if it has no `Remake`.
        fails: Runs a candidate and says whether it fails, too.
        budget: Candidates to run at most.
    """
    if problem.remake is None:
        return Shrunk(problem, 0, complete=False)
    search = _Search(problem, problem.remake, fails, budget)
    return search.run()


class _Spent(Exception):
    """The budget is used up."""


class _Search:
    def __init__(
        self, problem: Problem, remake: Remake, fails: Callable[[Problem], bool], budget: int
    ) -> None:
        self.problem, self.remake, self.fails, self.budget = problem, remake, fails, budget
        self.executions = 0

    def run(self) -> Shrunk:
        try:
            if self.problem.before is not None:
                self._accepts(self.problem.operands, None)
            while self._parts() | self._values():
                pass  # a smaller input may lose more: until a whole round changes nothing
        except _Spent:
            return Shrunk(self.problem, self.executions, complete=False)
        return Shrunk(self.problem, self.executions, complete=True)

    def _accepts(self, operands: Operands, before: Operands | None) -> bool:
        """Makes a candidate and runs it; takes it over if it fails."""
        try:
            with np.errstate(all="ignore"):  # a candidate may be anything
                made = self.remake.make(operands)
        except _NO_PROBLEM:
            return False
        # How it is run stays: memory around it, repetitions, what ran before it.
        given = self.problem
        how = {name: getattr(given, name) for name in ("runs", "poison", "repeats", "constants")}
        candidate = replace(made, before=before, **how)
        if self.executions >= self.budget:
            raise _Spent
        self.executions += 1
        if not self.fails(candidate):
            return False
        self.problem = candidate
        return True

    def _parts(self) -> bool:
        """Leaves out parts of axes; says whether it could."""
        changed, index = False, 0
        while index < len(axes := tuple(self.remake.axes(self.problem.operands))):
            parts = list(range(_count(self.problem.operands, axes[index])))
            make = partial(_keep, axes[index])
            changed |= len(self._fewer(parts, 1, make, make)) < len(parts)
            index += 1
        return changed

    def _values(self) -> bool:
        """Makes values simpler; says whether it could."""
        changed = False
        for index, operand in enumerate(self.problem.operands):
            if operand is None or index in self.remake.fixed:
                continue
            zero = _code(0, operand.format)
            if zero is not None:
                others = np.flatnonzero(operand.codes.reshape(-1) != zero).tolist()
                kept = self._fewer(others, 0, partial(_zeroed, index, zero), _same)
                changed |= len(kept) < len(others)
            changed |= self._simpler(index)
        return changed

    def _simpler(self, index: int) -> bool:
        """Gives what is neither 0 nor 1 the value 1, or else a simpler one: all, then each."""
        operand = self.problem.operands[index]
        if operand is None:
            return False
        known = [code for code in (_code(0, operand.format), _code(1, operand.format)) if code]
        places = np.flatnonzero(~np.isin(operand.codes.reshape(-1), [0, *known]))
        if not places.size:
            return False
        if self._takes(index, places, _code(1, operand.format)):
            return True
        changed = False
        for place in places[:_ONES]:
            while self._simplest(index, int(place)):
                changed = True
        return changed

    def _simplest(self, index: int, place: int) -> bool:
        """Gives one element the first simpler value with which it fails."""
        operand = self.problem.operands[index]
        if operand is None:
            return False
        code = int(operand.codes.reshape(-1)[place])
        return any(
            self._takes(index, np.array([place]), simpler)
            for simpler in _simpler_codes(code, operand.format)
        )

    def _takes(self, index: int, places: NDArray[np.intp], code: int | None) -> bool:
        """Puts a code at these places, and says whether it still fails."""
        operand = self.problem.operands[index]
        if operand is None or code is None or (places >= operand.codes.size).any():
            return False
        codes = operand.codes.copy()
        codes.reshape(-1)[places] = code
        return self._accepts(_with(self.problem.operands, index, codes), self.problem.before)

    def _fewer(self, parts: list[int], least: int, make: Fewer, make_before: Fewer) -> list[int]:
        """Returns as few of the parts as still fail: drops many at once, then fewer.

        Powers of two, because parts that must stay even or whole blocks are common.
        """
        base, before = self.problem.operands, self.problem.before

        def accepts(keep: Sequence[int]) -> bool:
            earlier = None if before is None else make_before(before, keep)
            return self._accepts(make(base, keep), earlier)

        if least == 0 and parts and accepts([]):
            return []
        size = 1 << max(0, len(parts).bit_length() - 1)
        while size and parts:
            start = 0
            while start < len(parts):
                fewer = parts[:start] + parts[start + size :]
                if len(fewer) >= max(least, 1) and accepts(fewer):
                    parts = fewer
                else:
                    start += size
            size //= 2
        return parts


def _same(operands: Operands, keep: Sequence[int]) -> Operands:
    """Leaves operands of an earlier run as they are."""
    return operands


def _count(operands: Operands, axis: Axis) -> int:
    counts = []
    for along in axis:
        operand = operands[along.operand]
        if operand is not None:
            extent = operand.shape[along.axis]
            counts.append(0 if extent % along.runs else -(-extent // along.runs // along.unit))
    return min(counts, default=0)


def _keep(axis: Axis, operands: Operands, keep: Sequence[int]) -> Operands:
    found = list(operands)
    for index, dimension, unit, runs in axis:
        operand = found[index]
        if operand is None:
            continue
        extent = operand.shape[dimension] // runs
        kept = [i for part in keep for i in range(part * unit, min((part + 1) * unit, extent))]
        wanted = [run * extent + i for run in range(runs) for i in kept]
        found[index] = Tensor(operand.format, np.take(operand.codes, wanted, axis=dimension))
    return tuple(found)


def _zeroed(index: int, zero: int, operands: Operands, keep: Sequence[int]) -> Operands:
    operand = operands[index]
    if operand is None:
        return operands
    codes = np.full_like(operand.codes, zero)
    codes.reshape(-1)[list(keep)] = operand.codes.reshape(-1)[list(keep)]
    return _with(operands, index, codes)


def _with(operands: Operands, index: int, codes: Codes) -> Operands:
    operand = operands[index]
    if operand is None:
        return operands
    return (*operands[:index], Tensor(operand.format, codes), *operands[index + 1 :])


def _code(value: int, fmt: Format) -> int | None:
    """Returns the code of 0 or 1; a scale has no 0."""
    if fmt.kind is Kind.SCALE:
        return 127 if value else None
    if fmt.is_float:
        return int(represent(np.array(float(value)), fmt).codes)
    return int(from_integers(np.array(value), fmt).codes)


def _simpler_codes(code: int, fmt: Format) -> list[int]:
    """Returns simpler codes to try in place of one, the simplest first.

    Each has fewer bits set in its mantissa, an exponent nearer to that of 1, or no sign, and no
    more of the others: one step after the other comes to an end.
    """
    one = _code(1, fmt)
    found = [] if one is None or code == 0 else [one]
    if fmt.is_float and fmt.kind is not Kind.SCALE:
        sign = 1 << (fmt.bits - 1)
        unsigned = code & ~sign
        bits = fmt.mantissa_bits
        cut = [code & ~((1 << bits - kept) - 1) for kept in range(bits)]
        found += [unsigned & c if code & sign else c for c in cut] + cut + [unsigned]
        exponent, middle = unsigned >> bits, (one or 0) >> bits
        nearer = middle + int((exponent - middle) / 2)
        found.append((code & sign) | (nearer << bits) | (code & ((1 << bits) - 1)))
    elif fmt.is_integer:
        value = int(Tensor(fmt, np.array(code, code_dtype(fmt))).integers)
        size = abs(value)
        cut = [size >> drop << drop for drop in range(size.bit_length() - 1, 0, -1)]
        half = 1 << max(size.bit_length() // 2, 1) - 1
        lone = [half, size >> 1] if size & (size - 1) == 0 else [half]
        sizes = [size & -size, *cut, size, size ^ (1 << size.bit_length() >> 1), *lone]
        signs = (1, -1) if value < 0 else (1,)
        mask = (1 << fmt.bits) - 1
        found += [sign * n & mask for n in sizes if 0 < n <= size for sign in signs]
    return [item for item in dict.fromkeys(found) if item != code]


def describe(problem: Problem) -> str:
    """Returns a problem in words, one line: op, attributes, and operands with their values."""
    attributes = ", ".join(f"{key}={value}" for key, value in sorted(problem.attributes.items()))
    shown = [
        "none" if operand is None else f"{operand.format}{list(operand.shape)} {_listed(operand)}"
        for operand in problem.operands
    ]
    behind = "".join(f", then {step.op}" for step in problem.then)
    return f"{problem.op}({attributes}) of " + ", ".join(shown) + behind


def _listed(operand: Tensor) -> str:
    flat = operand.codes.reshape(-1)
    if flat.size <= _SHOWN:
        return "{" + ", ".join(_numbers(operand.format, flat)) + "}"
    live = np.flatnonzero(flat != 0)
    if live.size <= _SHOWN:
        numbers = _numbers(operand.format, flat[live])
        listed = ", ".join(f"[{i}]={x}" for i, x in zip(live.tolist(), numbers, strict=True))
        return "{" + (f"{listed}, else 0" if listed else "all 0") + "}"
    return f"{{{live.size} of {flat.size} elements not 0}}"


def _numbers(fmt: Format, codes: Codes) -> list[str]:
    """Returns values for people; integers in full, for float64 does not hold the wide ones."""
    tensor = Tensor(fmt, codes)
    if fmt.kind is Kind.UINT:
        return [str(code) for code in codes.tolist()]
    if fmt.kind is Kind.INT:
        return [str(value) for value in tensor.integers.tolist()]
    return [f"{value:g}" for value in tensor.values.tolist()]
