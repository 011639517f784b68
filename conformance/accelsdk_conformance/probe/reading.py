"""What a probe found: a value, a bound, or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Reading:
    """One measured field.

    Attributes:
        value: What was found; None stands for "no limit seen" or, with a reason, for nothing.
        least: Whether the value is only a lower bound: more cannot be seen from outside.
        most: Whether it is only an upper bound.
        reason: Why nothing could be measured; empty if something was.
        note: What else was seen.
    """

    value: Any = None
    least: bool = False
    most: bool = False
    reason: str = ""
    note: str = ""

    @property
    def measured(self) -> bool:
        """Whether there is a value."""
        return not self.reason

    def text(self, name: str = "") -> str:
        """Returns the reading of a field for people."""
        if self.reason:
            return f"not measurable: {self.reason}"
        bound = "at least " if self.least else "at most " if self.most else ""
        return bound + shown(self.value, name)

    def __str__(self) -> str:
        return self.text()


#: Fields of which None says that there is no such thing; of others, that there is no limit.
_NONE = ("promote_every", "promote_bits", "stage_bits", "via")


def shown(value: object, name: str = "") -> str:
    """Returns a value of a field for people."""
    if value is None:
        return "none" if name in _NONE else "all"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def unseen(reason: str) -> Reading:
    """Returns a reading of nothing, and why."""
    return Reading(reason=reason)


@dataclass(slots=True)
class Fingerprint:
    """All that was measured of one subject: an op on formats, or a conversion.

    Attributes:
        kind: ``contraction``, ``integer``, ``cast``, ``requantize`` or ``mx``.
        op: Op of the table.
        formats: Formats of operands and result, as the datasheet keys them.
        fields: Reading of each field, under the datasheet's name where it has one.
        problem: Why the whole could not be measured; empty if it could.
        executions: How often the device ran.
    """

    kind: str
    op: str
    formats: tuple[str, ...]
    fields: dict[str, Reading] = field(default_factory=dict)
    problem: str = ""
    executions: int = 0

    @property
    def title(self) -> str:
        """Names the subject in one line."""
        *operands, result = self.formats
        return f"{self.op} {', '.join(dict.fromkeys(operands))} -> {result}"
