"""The fingerprint against the declaration: which claims hold, and which are refuted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import StrEnum

from accelsdk.backend.datasheet import CastSpec, IntSpec, MxSpec, NumericsDatasheet, RequantSpec
from accelsdk.numerics.accumulate import AccumulatorSpec
from accelsdk_conformance.probe.reading import Fingerprint, Reading, shown

#: What the datasheet says of the arithmetic that one fingerprint measures.
Spec = AccumulatorSpec | IntSpec | CastSpec | MxSpec | RequantSpec

#: From best to worst; a claim of "at least" is kept by anything before it.
_PRECISIONS = ("native", "bf16x9", "bf16x6", "bf16x3", "tf32", "bf16")
#: Fields that have no value which leaves them open, and say something even with "at least".
_AT_LEAST = (
    *("significand_bits", "align_bits", "product_bits", "store_rounding", "input_precision"),
    *("subnormals_in", "subnormals_out", "deterministic"),
)


class Verdict(StrEnum):
    """What a measured field says of the claim."""

    AGREES = "agrees"
    DIFFERS = "differs"
    UNCLAIMED = "unclaimed"
    UNSEEN = "not measurable"


@dataclass(frozen=True, slots=True)
class Claim:
    """One field: measured and declared.

    Attributes:
        field: Its name in the datasheet.
        reading: What was measured.
        declared: What the datasheet says, for people; empty if nothing.
        verdict: How the two stand.
    """

    field: str
    reading: Reading
    declared: str
    verdict: Verdict

    @property
    def measured(self) -> str:
        """The reading for people."""
        return self.reading.text(self.field)


def claims(fingerprint: Fingerprint, datasheet: NumericsDatasheet) -> list[Claim]:
    """Returns every measured field with what the datasheet says of it."""
    spec = _spec(fingerprint, datasheet)
    return [_claim(name, reading, spec) for name, reading in fingerprint.fields.items()]


def _spec(fingerprint: Fingerprint, datasheet: NumericsDatasheet) -> Spec | None:
    names = fingerprint.formats
    match fingerprint.kind:
        case "contraction":
            return datasheet.contraction(fingerprint.op, *names)
        case "integer":
            return datasheet.integer(fingerprint.op, *names)
        case "cast":
            return datasheet.cast(*names)
        case "mx":
            return datasheet.block(*names)
        case _:
            return datasheet.requantize


def _claim(name: str, reading: Reading, spec: Spec | None) -> Claim:
    if spec is None or name not in {row.name for row in fields(spec)}:
        verdict = Verdict.UNCLAIMED if reading.measured else Verdict.UNSEEN
        return Claim(name, reading, "", verdict)
    declared = getattr(spec, name)
    text = shown(declared, name)
    if isinstance(spec, AccumulatorSpec):
        if name == "sticky":
            declared = spec.keeps_sticky
            text = shown(declared, name)
        if _open(name, spec):
            return Claim(name, reading, "", Verdict.UNCLAIMED)
        if spec.guarantee == "at_least":
            number = isinstance(declared, int) and not isinstance(declared, bool)
            text = f">= {text}" if number else text
    if not reading.measured:
        return Claim(name, reading, text, Verdict.UNSEEN)
    if isinstance(spec, AccumulatorSpec) and spec.guarantee == "at_least":
        held = _exact_enough(reading, spec) if name == "align_bits" and declared is None else False
        held = held or _at_least(name, reading, declared)
    else:
        held = _equal(name, reading, declared)
    verdict = Verdict.AGREES if held else Verdict.DIFFERS
    return Claim(name, reading, text, verdict)


def _exact_enough(reading: Reading, spec: AccumulatorSpec) -> bool:
    """Whether 2**p terms, each cut below 2**-2p of the largest, stay below one last place."""
    return reading.value is None or reading.value >= 2 * spec.significand_bits


def _open(name: str, spec: AccumulatorSpec) -> bool:
    """Whether the record leaves a field unclaimed."""
    if name in ("width", "order", "tree") and getattr(spec, name) is None:
        return True
    return spec.guarantee == "at_least" and name not in _AT_LEAST and name != "width"


def _equal(name: str, reading: Reading, declared: object) -> bool:
    if name == "align_bits" and reading.value is None:
        # No cut was seen: one beyond what operands reach would not show.
        return declared is None or (isinstance(declared, int) and declared >= _seen(reading))
    if reading.least:
        return declared is None or (isinstance(declared, int) and declared >= reading.value)
    if reading.most:
        return isinstance(declared, int) and 0 < declared <= reading.value
    return bool(reading.value == declared)


def _seen(reading: Reading) -> int:
    digits = [int(word) for word in reading.note.split() if word.isdigit()]
    return digits[0] if digits else 0


def _at_least(name: str, reading: Reading, declared: object) -> bool:
    """Whether what was measured is no worse than what was declared."""
    value = reading.value
    better: dict[str, Callable[[], bool]] = {
        "store_rounding": lambda: value == "rne" or value == declared,
        "input_precision": lambda: _PRECISIONS.index(value) <= _PRECISIONS.index(str(declared)),
        "subnormals_in": lambda: value == "keep" or value == declared,
        "subnormals_out": lambda: value == "keep" or value == declared,
        "deterministic": lambda: bool(value) or not declared,
    }
    if name in better:
        return better[name]()
    if name == "width":
        return _equal(name, reading, declared)
    if value is None:
        return True
    if declared is None:
        return False
    return reading.least or (isinstance(declared, int) and value >= declared)
