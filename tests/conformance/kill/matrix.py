"""Which cases of the suite kill which defects of the simulated card.

A defect is *killed* by a case that the sound card passes and the card with the defect fails.
Cases that a defect cannot touch are not run: it is laid around nodes one by one, and says by
itself which of them it concerns. Where it concerns a node, and no output differs from the sound
card's, the verdict is the sound card's.
"""

import math
import re
import time
from collections import Counter
from dataclasses import asdict, dataclass, field

from accelsdk.errors import AccelError, Unimplemented, UnsupportedGraph
from accelsdk_conformance.case import Case, Level, Profile
from accelsdk_conformance.catalogue import bundled
from accelsdk_conformance.examine import SentinelOverwritten
from accelsdk_conformance.judge import judge
from accelsdk_conformance.oracles.tensor import Tensor
from accelsdk_conformance.problem import Context, Problem
from accelsdk_conformance.registry import generator
from accelsdk_conformance.settings import TOGETHER
from accelsdk_conformance.subject import ClientSubject, graph_of
from accelsdk_conformance.together import Together, groups
from accelsdk_conformance.worker import run_case
from accelsdk_sim_card.arithmetic import Arithmetic, preset_of
from accelsdk_sim_card.defects import catalogue, residue
from accelsdk_sim_card.defects.defect import Defect

_REMEMBERING = frozenset(defect.name for defect in residue.DEFECTS)


@dataclass(kw_only=True)
class Row:
    """What became of one defect.

    Attributes:
        defect: Its name.
        summary: What is wrong.
        breaks: Where.
        ran: Cases that it could have changed and that were run.
        changed: Of these, how many gave other outputs than the sound card.
        killers: Ids of the cases that it failed, in the order that they ran.
        smoke: How many of them the smoke level has.
        faults: How many runs ended in an error of the device.
        before: Cases run up to the first kill, that one included.
        seconds: Time until the first kill.
    """

    defect: str
    summary: str
    breaks: str
    ran: int = 0
    changed: int = 0
    killers: list[str] = field(default_factory=list)
    smoke: int = 0
    faults: int = 0
    before: int = 0
    seconds: float = 0.0

    def to_json(self) -> dict[str, object]:
        """Returns the row as data."""
        return asdict(self)


def op_cases(level: Level = Level.STANDARD) -> list[Case]:
    """Returns the cases of the op profiles that a level runs."""
    return [c for c in bundled() if c.profile is not Profile.DEVICE and level.holds(c.level)]


def concerned(breaks: str, cases: list[Case]) -> list[Case]:
    """Returns the cases of the ops that a defect names, the first of each group first."""
    words = set(re.findall(r"\w+", breaks))
    ops = [case for case in cases if case.op in words]
    narrow = [case for case in cases if {"e2m1", "int4"} & set(case.formats)]
    return varied(ops or narrow)


def varied(cases: list[Case]) -> list[Case]:
    """Returns the cases with the first of each group first, then the second of each."""
    seen: Counter[tuple[object, ...]] = Counter()
    ranked = []
    for case in cases:
        group = (case.op, case.formats, case.generator)
        ranked.append((seen[group], case))
        seen[group] += 1
    return [case for _, case in sorted(ranked, key=lambda pair: pair[0])]


class Broken:
    """A card with one defect, and which nodes the defect concerns."""

    def __init__(self, defect: Defect) -> None:
        self.defect = defect
        self.row = Row(defect=defect.name, summary=defect.summary, breaks=defect.breaks)
        self._probe = Arithmetic(preset_of({}), defect)
        self._words = set(re.findall(r"\w+", defect.breaks))
        self._subject: ClientSubject | None = None

    @property
    def subject(self) -> ClientSubject:
        """The card; opened when it is first needed."""
        if self._subject is None:
            self._subject = ClientSubject("sim_card", {"defect": self.defect.name})
        return self._subject

    def concerns(self, problem: Problem) -> bool:
        """Says whether the defect is laid around a node of a problem."""
        if self.defect.name in _REMEMBERING:
            return problem.op in self._words
        nodes = graph_of(problem).nodes
        return any(self.defect.bind(node, self._probe) is not None for node in nodes)

    def close(self) -> None:
        """Gives the card back."""
        if self._subject is not None:
            self._subject.close()


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A case that the sound card passes.

    Attributes:
        problem: Its data and oracle.
        packed: The sound card's outputs.
        seconds: What it took to make and to run it once.
    """

    problem: Problem
    packed: list[bytes]
    seconds: float


class Bench:
    """Makes the data of cases, and runs them on the sound card.

    Attributes:
        alarms: Ids of the cases that the sound card fails.
    """

    def __init__(self) -> None:
        self.sound = ClientSubject("sim_card", {})
        self.context = Context(self.sound.datasheet, 0)
        self.alarms: list[str] = []

    def problem(self, case: Case) -> Problem:
        """Returns the data of a case."""
        return generator(case.generator)(case, self.context)

    def prepare(self, case: Case, problem: Problem) -> Prepared | None:
        """Runs a case on the sound card; None if it does not pass."""
        started = time.perf_counter()
        try:
            right = self.sound.run(problem, poison=0xA5)
        except (UnsupportedGraph, Unimplemented):
            return None
        if not passes(problem, right):
            self.alarms.append(case.id)
            return None
        packed = [bytes(out.packed()) for out in right]
        return Prepared(problem=problem, packed=packed, seconds=time.perf_counter() - started)


class Kept(Bench):
    """A bench that remembers the cases that it has run, for many defects one by one."""

    def __init__(self) -> None:
        super().__init__()
        self._problems: dict[str, Problem] = {}
        self._prepared: dict[str, Prepared | None] = {}

    def problem(self, case: Case) -> Problem:
        """Returns the data of a case."""
        if case.id not in self._problems:
            self._problems[case.id] = super().problem(case)
        return self._problems[case.id]

    def prepare(self, case: Case, problem: Problem) -> Prepared | None:
        """Runs a case on the sound card, once; None if it does not pass."""
        if case.id not in self._prepared:
            self._prepared[case.id] = super().prepare(case, problem)
        return self._prepared[case.id]


def passes(problem: Problem, outputs: tuple[Tensor, ...]) -> bool:
    """Says whether outputs are right; why they are not takes longer to say (`verdict`)."""
    expected = problem.oracle(outputs)
    return len(outputs) == len(expected) and all(
        judge(out, want).passed for out, want in zip(outputs, expected, strict=True)
    )


def attempt(card: Broken, case: Case, prepared: Prepared) -> None:
    """Runs a case on a card with a defect, and writes down what became of it."""
    row, begun, problem = card.row, time.perf_counter(), prepared.problem
    row.ran += 1
    try:
        outputs = card.subject.run(problem, poison=0xA5)
    except (AccelError, SentinelOverwritten):
        row.faults += 1
        killed = True
        card.subject.recover()
    else:
        changed = prepared.packed != [bytes(out.packed()) for out in outputs]
        row.changed += changed
        killed = changed and not passes(problem, outputs)
    if not row.killers:
        row.before += 1
        row.seconds += prepared.seconds + time.perf_counter() - begun
    if killed:
        row.killers.append(case.id)
        row.smoke += case.level is Level.SMOKE


def first(name: str, cases: list[Case], bench: Bench) -> Row:
    """Runs the cases of a defect's ops until one kills it."""
    card = Broken(catalogue.BY_NAME[name])
    try:
        for case in concerned(card.row.breaks, cases):
            problem = bench.problem(case)
            prepared = bench.prepare(case, problem) if card.concerns(problem) else None
            if prepared is not None:
                attempt(card, case, prepared)
            if card.row.killers:
                break
    finally:
        card.close()
    return card.row


def together(name: str, cases: list[Case]) -> Row:
    """Runs the programs that a run of the suite makes of the cases until one kills a defect.

    Args:
        name: Of the defect.
        cases: Of a level, in the order of the suite: it says which share a program.
    """
    card = Broken(catalogue.BY_NAME[name])
    made = [*groups(cases, TOGETHER)]
    place = {case.id: number for number, group in enumerate(made) for case in group}
    likely = dict.fromkeys(place[case.id] for case in concerned(card.row.breaks, cases))
    begun = time.perf_counter()
    try:
        for number in likely:
            group = Together(card.subject, 0, lambda case: run_case(case, card.subject, 0))
            group.run(made[number])
            card.row.ran += len(made[number])
            wrong = [r.id for r in group.results.values() if not r.status.conformant]
            if wrong:
                card.row.killers += wrong
                break
    finally:
        card.close()
    card.row.before, card.row.seconds = card.row.ran, time.perf_counter() - begun
    return card.row


def full(names: list[str], cases: list[Case], bench: Bench, budget: float = math.inf) -> list[Row]:
    """Runs every case on every card that it can tell from the sound one, while time lasts."""
    end = time.monotonic() + budget
    cards = [Broken(catalogue.BY_NAME[name]) for name in names]
    try:
        for case in cases:
            if time.monotonic() > end:
                break
            problem = bench.problem(case)
            touched = [card for card in cards if card.concerns(problem)]
            prepared = bench.prepare(case, problem) if touched else None
            for card in touched if prepared is not None else ():
                attempt(card, case, prepared)
    finally:
        for card in cards:
            card.close()
    return [card.row for card in cards]
