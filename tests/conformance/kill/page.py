"""The table of docs/kill-matrix.md."""

from accelsdk.errors import NotFound
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


def refresh(text: str, rows: list[Row]) -> str:
    """Returns the page with its table of defects replaced."""
    return replaced(text, "kills", table(rows))


def replaced(text: str, name: str, made: str) -> str:
    """Returns a page with one of its tables replaced.

    Raises:
        NotFound: The page has no place for it.
    """
    head, end = f"<!-- table: {name} -->\n", "<!-- end -->"
    before, found, rest = text.partition(head)
    if not found or end not in rest:
        raise NotFound(f"no table {name!r}", remedy=f"keep {head.strip()} and {end} in the page")
    return before + head + made + end + rest.partition(end)[2]


def names(wrong: list[str]) -> str:
    """Returns mutants of the checker as a list."""
    return "".join(f"- {name}\n" for name in wrong)
