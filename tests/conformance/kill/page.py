"""The tables of docs/kill-matrix.md that are made of rows and mutants."""

from collections.abc import Iterable

from tests.conformance.kill.matrix import Row

_HEAD = """\
| defect | breaks | killed by | changed | first killer | level |
| - | - | - | - | - | - |
"""


def table(rows: list[Row]) -> str:
    """Returns the rows as Markdown."""
    lines = [
        f"| `{row.defect}` | {row.breaks} | {len(row.killers)} of {row.ran} | {row.changed} "
        f"| {_first(row)} | {_level(row)} |\n"
        for row in rows
    ]
    return _HEAD + "".join(lines)


def _first(row: Row) -> str:
    return f"`{row.killers[0]}`" if row.killers else "**survives**"


def _level(row: Row) -> str:
    if not row.killers:
        return "-"
    return "smoke" if row.smoke else "standard"


def names(wrong: Iterable[str]) -> str:
    """Returns mutants of the checker as a list."""
    return "".join(f"- {name}\n" for name in wrong)
