"""A conformance case: a pure value that travels as JSON between processes and into reports."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from accelsdk.errors import InvalidArgument, NotFound

_EMPTY: Mapping[str, Any] = MappingProxyType({})


class Profile(StrEnum):
    """A part of the suite that a backend can conform to by itself."""

    DEVICE = "device"
    FP32 = "fp32"
    INT8 = "int8"
    FP8 = "fp8"
    MX = "mx"


class Level(StrEnum):
    """How much of a profile is run; each level holds the ones before it.

    `SMOKE` is never sufficient for a claim.
    """

    SMOKE = "smoke"
    STANDARD = "standard"
    EXHAUSTIVE = "exhaustive"

    def holds(self, other: Level) -> bool:
        """Says whether a run at this level includes what is marked with the other."""
        order = [*Level]
        return order.index(other) <= order.index(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One thing that a backend must do right.

    Attributes:
        id: Stable and readable: ``profile/op/formats/what/parameters``.
        profile: Part of the suite.
        op: Op under test, or the area of the device API.
        formats: Names of the formats that the report files the case under.
        generator: Registered name of what makes the data: ``module.function``.
        parameters: Arguments of the generator.
        seed: Seed of its random data; a run's ``--seed`` is added to it.
        level: The least level that runs it.
    """

    id: str
    profile: Profile
    op: str
    formats: tuple[str, ...]
    generator: str
    parameters: Mapping[str, Any] = field(default_factory=lambda: _EMPTY)
    seed: int = 0
    level: Level = Level.STANDARD

    @property
    def column(self) -> str:
        """Column of the report's matrix that the case belongs to."""
        return "x".join(self.formats) or "-"

    def to_json(self) -> str:
        """Returns the case as one line of JSON."""
        data = {name: getattr(self, name) for name in _NAMES}
        return json.dumps(data | {"parameters": dict(self.parameters)}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Case:
        """Reads what `to_json` wrote.

        Raises:
            InvalidArgument: The text is not a case.
        """
        try:
            return cls.from_data(json.loads(text))
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidArgument(
                f"not a conformance case: {error}",
                remedy="give a case id, or a file that a failing run wrote",
            ) from error

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Case:
        """Reads what `to_json` wrote, parsed; what is missing or wrong raises as Python does."""
        return cls(
            id=data["id"],
            profile=Profile(data["profile"]),
            op=data["op"],
            formats=tuple(data["formats"]),
            generator=data["generator"],
            parameters=data["parameters"],
            seed=data["seed"],
            level=Level(data["level"]),
        )


_NAMES = tuple(item.name for item in fields(Case))


def select(
    cases: Iterable[Case],
    *,
    profiles: Sequence[Profile] = (),
    level: Level = Level.STANDARD,
    patterns: Sequence[str] = (),
) -> list[Case]:
    """Returns the cases of these profiles and this level whose id matches a pattern.

    Args:
        cases: Where to choose from.
        profiles: Empty means all.
        level: Leaves out what is marked with a higher one.
        patterns: Shell patterns, or plain parts of an id; empty means all.

    Raises:
        NotFound: A pattern matches nothing at all.
    """
    chosen = [
        case
        for case in cases
        if (not profiles or case.profile in profiles) and level.holds(case.level)
    ]
    if not patterns:
        return chosen
    for pattern in patterns:
        if not any(_matches(case.id, pattern) for case in chosen):
            raise NotFound(
                f"no case of these profiles and this level matches {pattern!r}",
                remedy="see the ids with 'accelsdk conformance list'",
            )
    return [case for case in chosen if any(_matches(case.id, pattern) for pattern in patterns)]


def _matches(case_id: str, pattern: str) -> bool:
    if any(sign in pattern for sign in "*?["):
        return fnmatch.fnmatchcase(case_id, pattern)
    return pattern in case_id
