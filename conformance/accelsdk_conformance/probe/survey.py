"""What there is to measure on a plugin, and the measurement of all of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from accelsdk import formats as f
from accelsdk.errors import AccelError, Unimplemented, UnsupportedGraph
from accelsdk.formats import Format
from accelsdk_conformance.probe import contraction, conversion, integer
from accelsdk_conformance.probe.reading import Fingerprint
from accelsdk_conformance.probe.unit import Bench, SdkUnit, works
from accelsdk_conformance.subject import ClientSubject

_SCALED: tuple[tuple[Format, int], ...] = (
    (f.E4M3, 0),
    (f.E5M2, 0),
    (f.E2M1, 32),
    (f.E2M3, 32),
    (f.E3M2, 32),
    (f.MXINT8, 32),
)
_CASTS: tuple[tuple[Format, Format], ...] = (
    (f.FLOAT32, f.FLOAT16),
    (f.FLOAT32, f.BFLOAT16),
    (f.FLOAT32, f.E4M3),
    (f.FLOAT32, f.E5M2),
    (f.FLOAT32, f.E2M1),
    (f.FLOAT16, f.E4M3),
    (f.FLOAT16, f.E5M2),
)


@dataclass(frozen=True, slots=True)
class Target:
    """One thing to measure.

    Attributes:
        kind: As in `Fingerprint`.
        op: Op of the table.
        formats: Names of the formats, operands first.
        measure: Fills the fingerprint.
    """

    kind: str
    op: str
    formats: tuple[str, ...]
    measure: Callable[[ClientSubject, Fingerprint], None]


def targets() -> Iterator[Target]:
    """Yields everything that can be measured, in the order of the report."""
    for op in ("MatMul", "Conv"):
        for fmt in (f.FLOAT16, f.BFLOAT16, f.FLOAT32):
            yield _product(op, fmt, fmt, fmt, 0)
    for fmt, block in _SCALED:
        yield _product("ScaledMatMul", fmt, fmt, f.FLOAT32, block)
    yield _product("ScaledMatMul", f.E4M3, f.E5M2, f.FLOAT32, 0)
    yield _product("ScaledMatMul", f.E4M3, f.E4M3, f.FLOAT16, 0)
    for op in ("MatMulInteger", "ConvInteger"):
        for a, b in integer.PAIRS:
            yield _integers(op, a, b)
    yield Target("requantize", "Requantize", ("int32", "int8"), _requantize)
    for source, target in _CASTS:
        yield _cast(source, target)
    for element in f.MX_ELEMENTS:
        yield _block(element)


def survey(
    subject: ClientSubject,
    ops: Sequence[str] = (),
    names: Sequence[str] = (),
    progress: Callable[[str], None] = lambda _: None,
) -> list[Fingerprint]:
    """Measures a plugin.

    Args:
        subject: The device.
        ops: Only these ops; empty for all.
        names: Only what has one of these formats; empty for all.
        progress: Called with what is measured next.
    """
    found = []
    for target in targets():
        if (ops and target.op not in ops) or (names and not set(names) & set(target.formats)):
            continue
        fingerprint = Fingerprint(target.kind, target.op, target.formats)
        progress(fingerprint.title)
        try:
            target.measure(subject, fingerprint)
        except (UnsupportedGraph, Unimplemented) as error:
            fingerprint.problem = "not supported: " + " ".join(str(error).split())
        except AccelError as error:
            fingerprint.problem = f"{type(error).__name__}: " + " ".join(str(error).split())
            subject.recover()
        found.append(fingerprint)
    return found


def _product(op: str, a: Format, b: Format, out: Format, block: int) -> Target:
    def measure(subject: ClientSubject, fingerprint: Fingerprint) -> None:
        unit = SdkUnit(subject, op, a, b, out, block)
        fingerprint.problem = works(Bench(unit))
        if not fingerprint.problem:
            fingerprint.fields, bench = contraction.measure(unit)
            fingerprint.executions = bench.executions

    return Target("contraction", op, (a.name, b.name, out.name), measure)


def _integers(op: str, a: Format, b: Format) -> Target:
    def measure(subject: ClientSubject, fingerprint: Fingerprint) -> None:
        unit = integer.IntegerUnit(subject, op, a, b)
        fingerprint.fields = integer.measure(unit)
        fingerprint.executions = unit.executions

    return Target("integer", op, (a.name, b.name, "int32"), measure)


def _requantize(subject: ClientSubject, fingerprint: Fingerprint) -> None:
    fingerprint.fields = integer.requantize(subject)


def _cast(source: Format, target: Format) -> Target:
    def measure(subject: ClientSubject, fingerprint: Fingerprint) -> None:
        fingerprint.fields = conversion.cast(subject, source, target)

    return Target("cast", "Cast", (source.name, target.name), measure)


def _block(element: Format) -> Target:
    def measure(subject: ClientSubject, fingerprint: Fingerprint) -> None:
        fingerprint.fields = conversion.block(subject, f.FLOAT32, element)

    return Target("mx", "QuantizeBlock", (f.FLOAT32.name, element.name), measure)
