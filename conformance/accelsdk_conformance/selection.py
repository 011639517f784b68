"""Which cases a run takes: by profile, level, name, list and shard."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelsdk.errors import InvalidArgument, NotFound
from accelsdk_conformance.case import Case, Level, Profile, select

_NAMED = 5  # unknown ids that a message lists


@dataclass(frozen=True, slots=True)
class Shard:
    """One of ``count`` disjoint parts that together are everything.

    A case belongs to a shard by its id alone, so that machines agree without talking, and a
    case that is added moves no other.

    Attributes:
        index: From 1 to ``count``.
        count: How many there are.
    """

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Reads ``i/n``.

        Raises:
            InvalidArgument: It is not ``i/n`` with 1 <= i <= n.
        """
        found = re.fullmatch(r"(\d+)/(\d+)", text)
        if found and 1 <= int(found[1]) <= int(found[2]):
            return cls(int(found[1]), int(found[2]))
        raise InvalidArgument(
            f"--shard {text!r} is no part of a whole", remedy="write i/n, from 1/n to n/n"
        )

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def holds(self, case_id: str) -> bool:
        """Says whether a case belongs to this shard."""
        number = int.from_bytes(hashlib.sha256(case_id.encode()).digest()[:8])
        return number % self.count == self.index - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What of the suite is to be run.

    Attributes:
        profiles: Empty means all.
        level: How much of them.
        patterns: Parts of ids, or globs; empty means all.
        ids: Exactly these cases, of any level, instead of profiles, level and patterns.
        shard: One part of what the others choose.
    """

    profiles: tuple[Profile, ...] = ()
    level: Level = Level.STANDARD
    patterns: tuple[str, ...] = ()
    ids: tuple[str, ...] | None = None
    shard: Shard | None = None

    @property
    def partial(self) -> bool:
        """Whether something is left out by hand, so that a run can claim nothing."""
        return bool(self.patterns) or self.ids is not None or self.shard is not None

    def as_json(self) -> dict[str, Any]:
        """Returns the selection as data; `from_json` reads it."""
        return {
            "profiles": [str(profile) for profile in self.profiles],
            "level": str(self.level),
            "patterns": list(self.patterns),
            "ids": None if self.ids is None else list(self.ids),
            "shard": None if self.shard is None else str(self.shard),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Selection:
        """Reads what `as_json` wrote."""
        return cls(
            profiles=tuple(Profile(name) for name in data["profiles"]),
            level=Level(data["level"]),
            patterns=tuple(data["patterns"]),
            ids=None if data["ids"] is None else tuple(data["ids"]),
            shard=None if data["shard"] is None else Shard.parse(data["shard"]),
        )

    def choose(self, cases: Sequence[Case]) -> list[Case]:
        """Returns the cases to run, in the order of the suite.

        Raises:
            NotFound: A pattern matches no case, or an id names none.
        """
        if self.ids is None:
            found = select(cases, profiles=self.profiles, level=self.level, patterns=self.patterns)
        else:
            wanted = set(self.ids)
            found = [case for case in cases if case.id in wanted]
            stale = sorted(wanted - {case.id for case in found})
            if stale:
                more = f" and {len(stale) - _NAMED} more" if len(stale) > _NAMED else ""
                raise NotFound(
                    f"the list names cases that do not exist: {', '.join(stale[:_NAMED])}{more}",
                    remedy="remove them; 'accelsdk conformance list' prints what there is",
                )
        return [case for case in found if self.shard is None or self.shard.holds(case.id)]

    def whole(self, cases: Sequence[Case]) -> list[Case]:
        """Returns the cases of the profiles and the level, whatever is selected of them."""
        return select(cases, profiles=self.profiles, level=self.level)


#: The standard level of every profile.
STANDARD = Selection()


def read_ids(path: Path) -> tuple[str, ...]:
    """Reads a list of ids: one a line; empty lines and what follows ``#`` are left out.

    Raises:
        InvalidArgument: It cannot be read, or names nothing.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument(
            f"cannot read the list of cases {path}: {error}",
            remedy="give a text file with one id a line",
        ) from error
    ids = [line.partition("#")[0].strip() for line in lines]
    found = tuple(dict.fromkeys(name for name in ids if name))
    if not found:
        raise InvalidArgument(f"{path} names no case", remedy="write one id a line")
    return found
