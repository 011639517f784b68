"""``python -m tests.conformance.kill.behaviour``: which device cases kill which faulty cards."""

import argparse
import logging
import sys
import time
from dataclasses import dataclass

from tests.conformance import tables
from tests.conformance.device.bench import CASES, first_kill
from tests.conformance.device.faulty import Fault, load_all

_HEAD = """\
| card | what is wrong | area | first killer |
| - | - | - | - |
"""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one faulty card.

    Attributes:
        fault: What is wrong with it.
        killer: The first case of its area that it fails, or empty.
        seconds: Time until then.
    """

    fault: Fault
    killer: str
    seconds: float


def outcome(fault: Fault) -> Outcome:
    """Runs the cases of a fault's area until one fails."""
    started = time.perf_counter()
    ids = [name for name in CASES if name.startswith(f"device/{fault.area}")]
    killer = first_kill(fault.make(), ids)
    seconds = time.perf_counter() - started
    return Outcome(fault=fault, killer=killer.id if killer else "", seconds=seconds)


def table(found: list[Outcome]) -> str:
    """Returns the outcomes as Markdown."""
    lines = [
        f"| `{one.fault.name}` | {' '.join(one.fault.summary.split())} | {one.fault.area} "
        f"| {f'`{one.killer}`' if one.killer else '**survives**'} |\n"
        for one in found
    ]
    return _HEAD + "".join(lines)


def main(arguments: list[str]) -> int:
    """Runs all faulty cards; returns 1 if one survives."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.kill.behaviour")
    parser.add_argument("--page", action="store_true", help="brings docs/kill-matrix.md up to date")
    given = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)
    started = time.perf_counter()
    found = [outcome(fault) for fault in load_all().values()]
    survivors = [one.fault.name for one in found if not one.killer]
    seconds = time.perf_counter() - started
    sys.stdout.write(f"{len(found)} faulty cards, {len(survivors)} survive, in {seconds:.0f} s\n")
    sys.stdout.writelines(f"survives: {name}\n" for name in survivors)
    if given.page:
        tables.update(tables.KILL_MATRIX, cards=table(found))
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
