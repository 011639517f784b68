"""What became of one case: a status, and enough to see why."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """What became of a case."""

    PASSED = "passed"
    FAILED = "failed"  # claimed and broken
    BELOW_PROFILE = "below_profile"  # the declaration is weaker than the profile's floor
    UNSUPPORTED = "unsupported"  # not claimed; the reason says why
    CRASHED = "crashed"  # the plugin took its process down
    HUNG = "hung"  # the case did not end in time, and its process was ended
    LOST = "lost"  # the device failed and did not come back: the run ends here
    NOT_RUN = "not_run"  # the run ended before it
    ERROR = "error"  # the suite or the machine could not run it
    XFAIL = "xfail"  # failed, as the waiver file said it would
    XPASS = "xpass"  # passed, although the waiver file said it would not
    WAIVED = "waived"  # failed, and the waiver file accepts it

    @property
    def conformant(self) -> bool:
        """Whether a conformant run may contain it."""
        return self in (Status.PASSED, Status.UNSUPPORTED, Status.XFAIL, Status.WAIVED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One wrong element, in words and numbers.

    Attributes:
        output: Index of the output.
        element: Index within it.
        inputs: The operands that meet in it.
        actual: What came out, value and code.
        expected: What should have.
        bound: Largest error allowed, or ``"exact"``.
        ulp: Distance in units of the last place of the expected value.
    """

    output: int
    element: tuple[int, ...]
    inputs: str
    actual: str
    expected: str
    bound: str
    ulp: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of one case.

    Attributes:
        id: Of the case.
        status: What became of it.
        tier: The strictest tier that every output reached, or empty.
        reason: Why it is not passed, in one line; for a waived case the waiver's reason.
        claim: The field of the datasheet that it was held to, or empty; a failure refutes it.
        elements: How many elements were judged.
        wrong: How many were not accepted.
        ratio: Largest error over bound.
        digest: SHA-256 of all outputs, shortened to 16 digits.
        failures: The smallest failing elements.
        shrunk: The smallest input that still fails, in words; empty if it was not shrunk.
        repeats: What became of it when it was run again on the same unit, in words.
        xor: Where exact bits are known, ``actual ^ expected`` of the first wrong codes, each
            with its offset.
        folder: Name of its replay folder, within the folder of failures; empty if none.
        company: Ids of the cases with which it fails in one program, its own among them, if it
            is right alone; else empty.
        seconds: Duration; kept out of everything that must be reproducible.
    """

    id: str
    status: Status
    tier: str = ""
    reason: str = ""
    claim: str = ""
    elements: int = 0
    wrong: int = 0
    ratio: float = 0.0
    digest: str = ""
    failures: tuple[Failure, ...] = ()
    shrunk: str = ""
    repeats: str = ""
    xor: tuple[str, ...] = ()
    folder: str = ""
    company: tuple[str, ...] = ()
    seconds: float = 0.0

    def to_json(self) -> str:
        """Returns the result as one line of JSON."""
        return json.dumps(self.as_data(), sort_keys=True)

    def as_data(self) -> dict[str, Any]:
        """Returns what JSON holds of the result."""
        # Not asdict of the whole: it copies deeply, which a run does thousands of times.
        data = {name: getattr(self, name) for name in _NAMES}
        return data | {"failures": [asdict(failure) for failure in self.failures]}

    @classmethod
    def from_json(cls, text: str | bytes) -> Result:
        """Reads what `to_json` wrote."""
        return cls.from_data(json.loads(text))

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Result:
        """Reads what `as_data` returned."""
        failures = tuple(
            Failure(**{**item, "element": tuple(item["element"])}) for item in data["failures"]
        )
        known = {"status": Status(data["status"]), "failures": failures}
        return cls(
            **{**data, **known, "xor": tuple(data["xor"]), "company": tuple(data["company"])}
        )

    def having(self, status: Status, reason: str) -> Result:
        """Returns the same result with another status and reason."""
        return replace(self, status=status, reason=reason)


_NAMES = tuple(item.name for item in fields(Result))
