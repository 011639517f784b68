"""``python -m tests.conformance.kill.variants``: correct cards must raise no alarm."""

import argparse
import multiprocessing
import re
import sys
import time
from dataclasses import dataclass, field
from functools import partial

from accelsdk_conformance.case import Case, Level, Profile
from accelsdk_conformance.catalogue import bundled
from accelsdk_conformance.result import Status
from accelsdk_conformance.settings import TOGETHER
from accelsdk_conformance.subject import ClientSubject
from accelsdk_conformance.together import Together, groups
from accelsdk_conformance.worker import run_case
from accelsdk_sim_card.variants import catalogue


@dataclass(kw_only=True)
class Found:
    """What became of one variant.

    Attributes:
        variant: Its name.
        passed: Cases that passed.
        unsupported: Cases that it does not claim.
        alarms: Id and reason of every other.
    """

    variant: str
    passed: int = 0
    unsupported: int = 0
    alarms: list[tuple[str, str]] = field(default_factory=list)


def touched(name: str, level: Level) -> list[Case]:
    """Returns the cases of a level that a variant may change."""
    words = set(re.findall(r"\w+", catalogue.BY_NAME[name].touches))
    every, device = catalogue.BY_NAME[name].touches == "*", "device" in words
    return [
        case
        for case in bundled()
        if level.holds(case.level)
        and (every or case.op in words or (device and case.profile is Profile.DEVICE))
    ]


def judge(level: Level, name: str, cases: list[Case] | None = None) -> Found:
    """Runs cases, by default all that a variant touches, on a card of that variant.

    They share programs as in a run of the suite.
    """
    found = Found(variant=name)
    subject = ClientSubject("sim_card", {"variant": name})
    try:
        for some in groups(touched(name, level) if cases is None else cases, TOGETHER):
            group = Together(subject, 0, lambda case: run_case(case, subject, 0))
            group.run(some)
            for result in group.results.values():
                if result.status is Status.PASSED:
                    found.passed += 1
                elif result.status is Status.UNSUPPORTED:
                    found.unsupported += 1
                else:
                    found.alarms.append((result.id, f"{result.status}: {result.reason}"))
    finally:
        subject.close()
    return found


def main(arguments: list[str]) -> int:
    """Runs the variants; returns 1 if one of them fails a case."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.kill.variants")
    parser.add_argument("--level", default="standard", choices=[*Level], type=Level)
    parser.add_argument("--variant", action="append", help="name of a variant; default all")
    parser.add_argument("--jobs", default=2, type=int)
    given = parser.parse_args(arguments)
    started = time.perf_counter()
    names = given.variant or [*catalogue.BY_NAME]
    with multiprocessing.Pool(given.jobs) as pool:
        rows = []
        for row in pool.imap(partial(judge, given.level), names):
            sys.stdout.write(f"{row.variant}: {row.passed} passed, {row.unsupported} unsupported\n")
            sys.stdout.writelines(f"  ALARM {name}: {why}\n" for name, why in row.alarms)
            sys.stdout.flush()
            rows.append(row)
    wrong = sum(bool(row.alarms) for row in rows)
    seconds = time.perf_counter() - started
    sys.stdout.write(f"{len(rows)} variants, {wrong} with alarms, in {seconds:.0f} s\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
