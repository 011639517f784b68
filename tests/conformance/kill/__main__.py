"""``python -m tests.conformance.kill``: runs the kill matrix and writes its page."""

import argparse
import json
import math
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

from accelsdk.backend.files import written
from accelsdk_conformance.case import Level
from accelsdk_sim_card.defects import catalogue
from tests.conformance import tables
from tests.conformance.kill import page
from tests.conformance.kill.matrix import Bench, Kept, Row, first, full, op_cases, together, varied


def main(arguments: list[str]) -> int:
    """Runs the matrix; returns 1 if a defect survives."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.kill", description=__doc__)
    parser.add_argument("--full", action="store_true", help="every case, not the first kill alone")
    parser.add_argument(
        "--together", action="store_true", help="cases share programs, as in a run of the suite"
    )
    parser.add_argument("--level", default="standard", choices=[*Level], type=Level)
    parser.add_argument("--defect", action="append", help="name of a defect; default all")
    parser.add_argument("--time", default=math.inf, type=float, help="seconds that --full may take")
    parser.add_argument("--jobs", default=2, type=int)
    parser.add_argument("--json", type=Path, help="writes all rows as data")
    parser.add_argument("--page", action="store_true", help="brings docs/kill-matrix.md up to date")
    given = parser.parse_args(arguments)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    names = given.defect or [*catalogue.BY_NAME]
    started = time.perf_counter()
    if given.full:
        rows = _full(names, given.level, given.jobs, given.time)
    else:
        rows = _first(names, given.level, given.jobs, _company if given.together else _one)
    seconds = time.perf_counter() - started
    survivors = [row.defect for row in rows if not row.killers]
    text = (
        f"{len(rows)} defects, {len(rows) - len(survivors)} killed at {given.level}, "
        f"{len(survivors)} survive, in {seconds:.0f} s"
    )
    sys.stdout.write(text + "\n" + "".join(f"survives: {name}\n" for name in survivors))
    if given.json:
        found = {"level": given.level, "seconds": seconds, "rows": [row.to_json() for row in rows]}
        with written(given.json) as file:
            file.write(json.dumps(found, indent=1).encode())
    if given.page:
        tables.update(tables.KILL_MATRIX, kills=page.table(rows))
    return 1 if survivors else 0


def _first(
    names: list[str], level: Level, jobs: int, one: Callable[[Level, str], Row]
) -> list[Row]:
    with multiprocessing.Pool(jobs) as pool:
        return pool.map(partial(one, level), names, chunksize=8)


@cache
def _bench() -> Kept:
    return Kept()


def _one(level: Level, name: str) -> Row:
    return first(name, op_cases(level), _bench())


def _company(level: Level, name: str) -> Row:
    return together(name, op_cases(level))


def _full(names: list[str], level: Level, jobs: int, budget: float) -> list[Row]:
    """Each process has a share of the cases, of every op alike, and all defects."""
    with multiprocessing.Pool(jobs) as pool:
        parts = pool.map(partial(_share, names, level, jobs, budget), range(jobs), chunksize=1)
    for _, alarms in parts:
        sys.stdout.writelines(f"the sound card fails {name}\n" for name in alarms)
    rows = [rows for rows, _ in parts]
    return [_joined(list(same)) for same in zip(*rows, strict=True)]


def _share(
    names: list[str], level: Level, jobs: int, budget: float, index: int
) -> tuple[list[Row], list[str]]:
    bench, cases = Bench(), varied(op_cases(level))
    return full(names, cases[index::jobs], bench, budget), bench.alarms


def _joined(parts: list[Row]) -> Row:
    """Adds up what the processes found of one defect."""
    quickest = min(parts, key=lambda row: (not row.killers, row.before))
    return Row(
        defect=quickest.defect,
        summary=quickest.summary,
        breaks=quickest.breaks,
        ran=sum(row.ran for row in parts),
        changed=sum(row.changed for row in parts),
        killers=[killer for row in parts for killer in row.killers],
        smoke=sum(row.smoke for row in parts),
        faults=sum(row.faults for row in parts),
        before=quickest.before,
        seconds=quickest.seconds,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
