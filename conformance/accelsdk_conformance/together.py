"""Cases that share a program: what compiling, copies and a launch cost is paid once for all.

A case passes if its own part of the outputs is right. One that does not is run again by itself,
and what comes of that counts; a program that is refused or ends in an error is halved until the
cases stand alone. So every failure is a failure of one case on its own, with one exception: what
is right alone and wrong in company has failed too, and names its company (decision 13).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

from accelsdk.errors import AccelError, OutOfMemory, Unimplemented
from accelsdk_conformance.case import Case, Level, Profile
from accelsdk_conformance.examine import Subject, made, verdict
from accelsdk_conformance.oracles.tensor import Tensor
from accelsdk_conformance.problem import Problem
from accelsdk_conformance.result import Result, Status
from accelsdk_conformance.settings import TOGETHER

_LARGE = 1 << 20  # bytes of operands from which on a case has a program of its own


class Company(Subject, Protocol):
    """A subject that can run several problems at once."""

    def run_together(self, problems: Sequence[Problem]) -> list[tuple[Tensor, ...]]:
        """Runs problems as one program; returns the outputs of each.

        Args:
            problems: Each of which `may_share`.

        Raises:
            UnsupportedGraph: The subject does not claim all ops.
            SentinelOverwritten: Memory around an output changed.
        """

    def recover(self) -> None:
        """Resets a device that has failed; raises an `AccelError` if it does not come back."""


class DeviceLost(Exception):
    """The device does not come back; the text says why."""


def usual_size(level: Level) -> int:
    """Returns how many cases share a program unless it is said otherwise (decision 13)."""
    return 1 if level is Level.EXHAUSTIVE else TOGETHER


def groups(cases: Iterable[Case], size: int) -> Iterator[tuple[Case, ...]]:
    """Yields cases that may share a program: of one op and one row of formats.

    A program of one kind of node is compiled as one node is. In mixed company a backend may choose
    another way for the whole, and what is wrong alone is not seen (decision 13).

    Args:
        cases: In any order; those of a group keep theirs.
        size: Cases of a group, at most; of the device profile each is one by itself.
    """
    open_groups: dict[tuple[str, tuple[str, ...]], list[Case]] = {}
    for case in cases:
        if size == 1 or case.profile is Profile.DEVICE:
            yield (case,)
            continue
        kind = case.op, case.formats
        group = open_groups.setdefault(kind, [])
        group.append(case)
        if len(group) == size:
            yield tuple(open_groups.pop(kind))
    yield from map(tuple, open_groups.values())


def may_share(problem: Problem) -> bool:
    """Says whether a problem can be a part of a program: one run of a node on small inputs.

    What a backend makes of constants and of chains may change what it makes of the others.
    """
    given = (tensor for tensor in problem.operands if tensor is not None)
    return (
        problem.before is None
        and not (problem.constants or problem.then)
        and problem.runs == problem.repeats == 1
        and sum(tensor.codes.nbytes for tensor in given) < _LARGE
    )


class _Part(NamedTuple):
    case: Case
    problem: Problem


@dataclass(slots=True)
class Together:
    """Runs cases in company.

    Args:
        subject: On what.
        seed: Added to every case's own seed.
        run_case: Runs one case by itself.

    Attributes:
        results: By id, of all cases that were run.
    """

    subject: Company
    seed: int
    run_case: Callable[[Case], Result]
    results: dict[str, Result] = field(default_factory=dict)

    def run(self, cases: Sequence[Case]) -> None:
        """Runs the cases: in one program those that can share it, the others by themselves.

        Raises:
            DeviceLost: The device does not come back; ``results`` has what was run before.
        """
        if len(cases) > 1:
            parts = [part for case in cases if (part := self._part(case)) is not None]
            self._settle(parts)
        for case in cases:
            if case.id not in self.results:
                self._alone(case)

    def _alone(self, case: Case) -> Result:
        """Runs a case by itself, and resets the device if it has failed."""
        result = self.results[case.id] = self.run_case(case)
        if not result.status.conformant:
            self._recover(case, result.reason)
        return self.results[case.id]

    def _recover(self, case: Case, why: str) -> None:
        """Resets the device if it has failed; a case that it does not survive is `LOST`."""
        try:
            self.subject.recover()
        except AccelError as error:
            text = " ".join(str(error).split())
            found = self.results.get(case.id) or Result(id=case.id, status=Status.LOST)
            reason = f"{why}; the device is lost: {text}"
            self.results[case.id] = found.having(Status.LOST, reason)
            raise DeviceLost(text) from error

    def _part(self, case: Case) -> _Part | None:
        """Makes a case's problem; None if that does not work, or it can share no program."""
        if case.profile is Profile.DEVICE:
            return None
        try:
            problem = made(case, self.subject.datasheet, self.seed)
        except Exception:  # it is told when the case is run by itself
            return None
        return _Part(case, problem) if isinstance(problem, Problem) and may_share(problem) else None

    def _settle(self, parts: Sequence[_Part]) -> None:
        """Runs parts as one program, and what is not right in it in smaller ones."""
        if len(parts) < 2:
            for part in parts:
                self._alone(part.case)
            return
        started = time.perf_counter()
        try:
            outputs = self.subject.run_together([part.problem for part in parts])
        except (Unimplemented, OutOfMemory):
            why = ""  # a device may refuse a program that is too much for it
        except Exception as error:  # whoever it comes from, it is looked into
            why = f"{type(error).__name__}: {' '.join(str(error).split())}"
            self._recover(parts[0].case, f"{why}, in one program with {len(parts) - 1} others")
        else:
            self._judge(parts, outputs, started)
            return
        half = len(parts) // 2
        self._settle(parts[:half])
        self._settle(parts[half:])
        found = [self.results[part.case.id] for part in parts]
        if why and all(result.status.conformant for result in found):
            self.results[found[-1].id] = _failed_together(found[-1], parts, why)

    def _judge(
        self, parts: Sequence[_Part], outputs: Sequence[tuple[Tensor, ...]], started: float
    ) -> None:
        judged = [_judged(part, out) for part, out in zip(parts, outputs, strict=True)]
        each = round((time.perf_counter() - started) / len(parts), 6)
        for result in judged:
            if result.status is Status.PASSED:
                self.results[result.id] = replace(result, seconds=each)
        for part, result in zip(parts, judged, strict=True):
            if result.status is not Status.PASSED:
                alone = self._alone(part.case)
                if alone.status.conformant:
                    company = self._fewest(part, parts)
                    self.results[alone.id] = _failed_together(alone, company, result.reason)

    def _fewest(self, part: _Part, parts: Sequence[_Part]) -> Sequence[_Part]:
        """Returns a case's company: one other that is enough to make it fail, or all."""
        for other in parts:
            if other is not part:
                pair = [one for one in parts if one is part or one is other]
                try:
                    outputs = self.subject.run_together([one.problem for one in pair])
                except Exception:  # another failure than the one looked for
                    self._recover(part.case, f"in one program with {other.case.id}")
                    continue
                if _judged(part, outputs[pair.index(part)]).status is not Status.PASSED:
                    return pair
        return parts


def _judged(part: _Part, outputs: tuple[Tensor, ...]) -> Result:
    try:
        expected = part.problem.oracle(outputs)
        return verdict(part.case, part.problem, outputs, expected)
    except Exception as error:  # a defect of the suite: told by the run alone
        return Result(id=part.case.id, status=Status.ERROR, reason=str(error))


def _failed_together(result: Result, parts: Iterable[_Part], why: str) -> Result:
    ids = tuple(part.case.id for part in parts)
    return only_together(result, ids, Status.FAILED, why)


def only_together(result: Result, ids: tuple[str, ...], status: Status, why: str) -> Result:
    """Returns what becomes of a case that is right alone, and not in one program with others.

    Args:
        result: Of the case alone.
        ids: Of all that share the program, in their order.
        status: What it is instead.
        why: What was seen.
    """
    others = len(ids) - 1
    company = next(one for one in ids if one != result.id) if others == 1 else f"{others} others"
    reason = f"right alone, but not in one program with {company}: {why}"
    return replace(result, status=status, reason=reason, tier="", company=ids)
