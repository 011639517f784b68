"""Reads fenced code out of documentation pages."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^```(\w+)?(?:[ ]+([^\n]*))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block: language, what follows it on the fence line, text, first line."""

    language: str
    info: str
    text: str
    line: int


def blocks(page):
    """Returns the fenced blocks of a page, in order."""
    source = (ROOT / page).read_text(encoding="utf-8")
    return [
        Block(
            match.group(1) or "",
            match.group(2) or "",
            match.group(3),
            source[: match.start(3)].count("\n") + 1,
        )
        for match in _FENCE.finditer(source)
    ]
