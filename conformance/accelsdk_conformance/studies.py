"""After a run: the failures are looked at again, in worker processes of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from accelsdk_conformance.case import Case
from accelsdk_conformance.pool import Pool, Refused
from accelsdk_conformance.result import Result, Status
from accelsdk_conformance.settings import Settings, Study

_BROKEN = (Status.FAILED, Status.CRASHED, Status.HUNG)
_EXCUSED = (Status.XFAIL, Status.WAIVED)


def studied(
    settings: Settings, study: Study, results: Sequence[Result], cases: Mapping[str, Case]
) -> list[Result]:
    """Returns the results, broken ones with what `study` found out about them.

    At most ``study.limit`` failures are looked at: the first of each op and format come first,
    and those that are excused last.

    Args:
        settings: Of the run.
        study: How closely to look.
        results: Of the run.
        cases: By id.
    """
    broken = _representative(results, cases, _BROKEN)
    chosen = (broken + _representative(results, cases, _EXCUSED))[: study.limit]
    if not chosen:
        return list(results)
    found: dict[str, Result] = {}
    pool = Pool(
        replace(settings, study=study, timeout=settings.timeout * (study.repeats + 2)),
        lambda result: found.update({result.id: result}),
    )
    try:
        pool.run([cases[result.id] for result in chosen])
    except Refused:  # the run has its results: that the device is gone now is told by them
        return list(results)
    return [_merged(result, found.get(result.id)) for result in results]


def _representative(
    results: Sequence[Result], cases: Mapping[str, Case], statuses: Sequence[Status]
) -> list[Result]:
    first: list[Result] = []
    rest: list[Result] = []
    seen = set()
    for result in results:
        if result.status not in statuses or result.id not in cases or result.company:
            continue  # what fails in company alone would pass its study
        case = cases[result.id]
        key = (case.op, case.column)
        (rest if key in seen else first).append(result)
        seen.add(key)
    return first + rest


def _merged(result: Result, study: Result | None) -> Result:
    if study is None or study.status is Status.NOT_RUN:
        return result
    if study.status in (Status.CRASHED, Status.HUNG):
        return replace(result, repeats=f"{study.status} when it was run again")
    return replace(
        result,
        shrunk=study.shrunk,
        repeats=study.repeats,
        xor=study.xor or result.xor,
        folder=study.folder,
    )
