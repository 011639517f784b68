"""The table of docs/kill-matrix.md."""

import re

from accelsdk.errors import NotFound
from tests.conformance.kill.matrix import Row

_BLOCK = re.compile(r"(<!-- table: kills -->\n).*?(<!-- end -->)", re.DOTALL)
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


def refresh(text: str, rows: list[Row]) -> str:
    """Returns the page with its table replaced.

    Raises:
        NotFound: The page has no place for it.
    """
    found = _BLOCK.search(text)
    if found is None:
        raise NotFound("no table of kills", remedy="keep <!-- table: kills --> and <!-- end -->")
    return text[: found.start()] + found[1] + table(rows) + found[2] + text[found.end() :]
