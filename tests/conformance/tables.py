"""Tables that programs write into pages: what stands between ``<!-- table: NAME -->`` and
``<!-- end -->``.
"""

from pathlib import Path

from accelsdk.backend.files import written
from accelsdk.errors import NotFound

_DOCS = Path(__file__).parents[2] / "docs"
KILL_MATRIX = _DOCS / "kill-matrix.md"
PROBE = _DOCS / "probe.md"


def update(page: Path, **made: str) -> None:
    """Writes tables into a page, by name."""
    text = page.read_text("utf-8")
    for name, table in made.items():
        text = replaced(text, name, table)
    with written(page) as file:
        file.write(text.encode())


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
