"""Product bits, carries, normalisation, promotion, the addend, and whether runs repeat."""

from __future__ import annotations

import numpy as np

from accelsdk_conformance.probe.reading import Reading, unseen
from accelsdk_conformance.probe.session import Session, exact_reach


def measure(session: Session) -> None:
    """Measures what builds on the alignment and on the stored bits."""
    fields = session.fields
    fields["product_bits"] = _product_bits(session)
    fields["carry_bits"] = _carry(session)
    fields["normalisation"] = _normalisation(session)
    period = session.shape.period
    if period is not None:
        fields["promote_bits"] = _promotion(session, period)
    elif "promote_every" in fields:
        fields["promote_bits"] = Reading(None)
    _addend(session)
    fields["deterministic"] = _deterministic(session)


def _product_bits(session: Session) -> Reading:
    """(1 + 2**-i)(1 + 2**-j) and (2 - 2**-m)**2 less all but their last bit."""
    unit, length = session.bench.unit, session.shape.length
    if session.bench.spaced or not (unit.a.is_float and unit.b.is_float):
        return unseen("products share their block's range")
    m = min(unit.a.mantissa_bits, unit.b.mantissa_bits)
    cases = [(i, j) for i in range(1, m + 1) for j in (i, i + 1) if j <= m]
    #: Position of the last bit of each product, and how many bits that product has.
    wanted = [(i + j, i + j + 1) for i, j in cases] + [(2 * m, 2 * m + 2)]
    limit = session.fields["align_bits"]
    places = _places(session, 4)
    if places is None:
        return unseen("no four terms that meet one after the other")
    a, b = np.zeros((len(wanted), length)), np.zeros((len(wanted), length))
    for row, (i, j) in enumerate(cases):
        a[row, places] = [1 + 2.0**-i, -1.0, -(2.0**-i), -(2.0**-j)]
        b[row, places] = [1 + 2.0**-j, 1.0, 1.0, 1.0]
    a[-1, places] = [2 - 2.0**-m, -2.0, 2.0 ** (1 - m), 0.0]
    b[-1, places] = [2 - 2.0**-m, 2.0, 2.0, 0.0]
    found = session.bench.raw(a, b)
    kept, cut = exact_reach((found == [2.0**-last for last, _ in wanted]).tolist())
    if not cut:
        return Reading(None)
    bits = wanted[kept - 1][1] if kept else 2
    stored = session.fields["significand_bits"].value
    if bits >= stored or (limit.measured and limit.value is not None and bits > limit.value):
        return unseen(f"sums keep {stored} bits, fewer than products have")
    return Reading(bits)


def _places(session: Session, count: int) -> list[int] | None:
    chunks = session.shape.chunks
    if session.fused and session.width >= count:
        return chunks[0][:count]
    return [chunk[0] for chunk in chunks[:count]] if len(chunks) >= count else None


def _carry(session: Session) -> Reading:
    """As many of the largest products as a chunk takes: their sum must not wrap."""
    if not session.fused:
        return unseen("no fused chunk")
    count = session.width
    top = session.top - count.bit_length() - 1
    found = session.sums([[2.25 * 2.0**top] * count])[0]
    want = 2.25 * count * 2.0**top
    enough = abs(found - want) <= want / 64
    bits = int(np.floor(np.log2(2.25 * count)))
    return Reading(bits, least=True) if enough else Reading(0, note=f"{want:g} gives {found:g}")


def _normalisation(session: Session) -> Reading:
    """A running sum just below 1 and two products: is it normalised between them?"""
    bits = session.fields["significand_bits"]
    aligned = session.fields["align_bits"]
    tight = aligned.measured and aligned.value is not None and bits.value > aligned.value + 1
    small = 2.0 ** (session.top - bits.value) if bits.measured else 0.0
    coarse = session.bench.unit.a.mantissa_bits < 2
    if not session.fused or bits.least or tight or coarse or 4 * small < 2.0**session.bench.low:
        return unseen("no room for the probe")
    row = [[2.0**session.top, -4 * small], [5 * small, 5 * small], [-(2.0**session.top)]]
    left = session.sums(row)[0] / small
    names = {6.0: "late", 4.0: "immediate", 8.0: "late"}
    return Reading(names[left]) if left in names else unseen(f"the sum leaves {left:g} units")


def _promotion(session: Session, period: int) -> Reading:
    """A bit that the running sum would drop, behind the place where that sum has moved on."""
    length, big = session.shape.length, 2.0**session.top
    shifts = range(1, session.depth + 1)
    rows = np.zeros((len(shifts), length))
    rows[:, 0], rows[:, 2 * period if 2 * period < length else length - 1] = big, -big
    rows[:, period] = [big * 2.0**-s for s in shifts]
    if 2 * period >= length:
        return unseen("K is too short")
    found = session.bench.sums(rows)
    kept, cut = exact_reach((found == rows[:, period]).tolist())
    return Reading(kept + 1, least=not cut)


def _addend(session: Session) -> None:
    """A small C beside X and -X: swallowed if it enters their chunk, kept if it comes after."""
    fields, bench = session.fields, session.bench
    if not bench.unit.has_addend:
        fields["addend"] = unseen("the op has no addend")
        return
    aligned, bits = fields["align_bits"], fields["significand_bits"]
    if len(session.shape.chunks) < 2 or bits.least:
        fields["addend"] = unseen("nothing is ever dropped")
        return
    room = aligned.value if aligned.measured and aligned.value is not None else 0
    big = 2.0 ** min(session.top, 14)
    length = session.shape.length
    products = np.zeros((1, length))
    products[0, [session.shape.chunks[0][0], session.shape.chunks[1][0]]] = big, -big
    small = big * 2.0 ** -(max(room, bits.value) + 2)
    kept = [bench.sums(products, np.array([c]))[0] == c for c in (small, -small)]
    if all(kept):
        fields["addend"] = Reading("separate")
        return
    fields["addend"] = Reading("in_chunk")
    if bits.value <= min(room, 23):
        tail = big * 2.0**-bits.value
        products[0, session.shape.chunks[0][0]] = -big
        products[0, session.shape.chunks[1][0]] = 0.0
        left = bench.sums(products, np.array([big + tail]))[0]
        fields["addend"] = Reading("in_chunk" if left == tail else "initial")


def _deterministic(session: Session) -> Reading:
    """Runs one row of ordinary numbers again and again."""
    rng = np.random.default_rng(7)
    bench, length = session.bench, session.shape.length
    rows = np.ldexp(rng.choice([1.0, 1.5, -1.0], (16, length)), rng.integers(-3, 4, (16, length)))
    runs = [bench.sums(rows).tobytes() for _ in range(6)]
    return Reading(len(set(runs)) == 1)
