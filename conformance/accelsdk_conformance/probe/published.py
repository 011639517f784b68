"""The published units that a fingerprint resembles most."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from accelsdk_conformance.probe.reading import Fingerprint, Reading


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit as others measured it.

    Attributes:
        name: Vendor, product and mode.
        formats: Operands that it multiplies.
        source: Who measured it.
        fields: What they found, by the names of ``AccumulatorSpec``.
    """

    name: str
    formats: tuple[str, ...]
    source: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Likeness:
    """How a published unit compares with a fingerprint.

    Attributes:
        unit: The unit.
        same: Fields in which both agree.
        different: Fields in which they do not.
    """

    unit: Unit
    same: tuple[str, ...]
    different: tuple[str, ...]

    def __str__(self) -> str:
        known = len(self.same) + len(self.different)
        text = f"{self.unit.name}: {len(self.same)} of {known} fields"
        return f"{text}, not {', '.join(self.different)}" if self.different else text


@cache
def table() -> tuple[Unit, ...]:
    """Returns the published units, from ``published.toml``."""
    text = files(__package__).joinpath("published.toml").read_text("utf-8")
    return tuple(
        Unit(row["name"], tuple(row["formats"]), row["source"], row["fields"])
        for row in tomllib.loads(text)["unit"]
    )


def nearest(fingerprint: Fingerprint) -> list[Likeness]:
    """Returns the published units with the fewest differing fields, all that tie.

    Units of other formats are not considered, nor those whose every field is unmeasured.
    """
    if fingerprint.kind != "contraction" or fingerprint.problem:
        return []
    operand = fingerprint.formats[0]
    found = [_likeness(unit, fingerprint.fields) for unit in table() if operand in unit.formats]
    found = [one for one in found if one.same]
    best = min(((len(one.different), -len(one.same)) for one in found), default=None)
    return [one for one in found if (len(one.different), -len(one.same)) == best]


def _likeness(unit: Unit, readings: Mapping[str, Reading]) -> Likeness:
    same: list[str] = []
    different: list[str] = []
    for name, value in unit.fields.items():
        reading = readings.get(name)
        if reading is None or not reading.measured:
            continue
        (same if _fits(reading, value) else different).append(name)
    return Likeness(unit, tuple(same), tuple(different))


def _fits(reading: Reading, value: object) -> bool:
    if reading.least and isinstance(value, int):
        return bool(value >= reading.value)
    if reading.most and isinstance(value, int):
        return bool(value <= reading.value)
    return bool(reading.value == value)
