"""How a unit multiplies and adds: one probe for each field of ``AccumulatorSpec``.

The probes are those of Fasi, Higham, Mikaitis and Pranesh (PeerJ CS 7:e330, 2021) and of Khattak
and Mikaitis (HPEC 2025), put into one form: a large term, a small one beside it, and the large
one with its sign changed to take it away again. What is left tells what became of the small one.
Each probe packs all its rows into one execution. docs/probe.md lists method and source by field.
"""

from __future__ import annotations

from itertools import groupby

import numpy as np

from accelsdk_conformance.oracles.tensor import F64
from accelsdk_conformance.probe import details, specials, structure
from accelsdk_conformance.probe.reading import Reading, unseen
from accelsdk_conformance.probe.session import Session, exact_reach
from accelsdk_conformance.probe.structure import Structure
from accelsdk_conformance.probe.unit import Bench, Unit

_LENGTH = 192  # three chunks of the widest unit that is published
_OTHER_LENGTHS = (45, 384)  # an odd one, and one that parts of fixed size cut otherwise
_SPACED_LENGTH = 24  # blocks of 32, where a product has a block of its own
#: Multiples of the last place that tell one rounding from another, and what each makes of them.
_TAILS = (0.75, 0.25, -0.25, -0.75)
_ROUNDINGS = {
    (1, 0, 0, -1): "rne",
    (0, 0, 0, 0): "rz",
    (1, 1, 0, 0): "ru",
    (0, 0, -1, -1): "rd",
}


def measure(unit: Unit, length: int = 0) -> tuple[dict[str, Reading], Bench]:
    """Measures every field of a unit.

    Args:
        unit: What multiplies.
        length: K of the probes; 0 takes one that suits the formats.

    Returns:
        The readings, and the bench, which knows the number of executions.
    """
    bench = Bench(unit)
    fields: dict[str, Reading] = {"subnormals_in": specials.subnormals_in(bench)}
    bench.subnormals = fields["subnormals_in"].value != "flush"
    length = length or (_SPACED_LENGTH if bench.spaced else _LENGTH)
    shape = structure.measure(bench, length)
    if shape is None:
        reason = "sums of one large term and units do not tell the order"
        shape = Structure(length, "other", None, None, None, None, [[i] for i in range(length)])
        fields |= {name: unseen(reason) for name in ("width", "order", "tree", "inside")}
    else:
        fields |= _structure(shape, bench)
        if not bench.spaced and shape.width is not None:
            fields |= _at_other_lengths(bench, shape)
    top = min(bench.high, unit.out.emax - 3, 36)
    session = Session(bench, shape, top, fields)
    for probe in (_alignment, _storage, _running, details.measure):
        probe(session)
    fields |= specials.measure(bench, shape)
    return fields, bench


def _structure(shape: Structure, bench: Bench) -> dict[str, Reading]:
    found: dict[str, Reading] = {}
    if shape.width is None:
        runs = [(size, len(list(run))) for size, run in groupby(shape.sizes)]
        sizes = ", ".join(f"{n} x {size}" if n > 1 else str(size) for size, n in runs[:12])
        reason = f"neither chunks nor a chain: leaves join as {sizes}"
        found |= {name: unseen(reason) for name in ("width", "order", "tree", "inside")}
    else:
        scale = 32 if bench.spaced and shape.width else 1
        note = "one product a block of 32 tells no less" if scale > 1 else ""
        found["width"] = Reading(
            shape.width * scale, most=scale > 1 and shape.width == 1, note=note
        )
        ordered = shape.order is not None
        found["order"] = Reading(shape.order) if ordered else unseen("dealt in no known way")
        found["tree"] = Reading(shape.tree) if shape.tree else unseen("no known tree")
        found["inside"] = Reading("pairwise" if shape.kind == "pairwise" else "fused")
    if shape.period is not None:
        found["promote_every"] = Reading(shape.period)
    elif shape.width is not None:
        found["promote_every"] = Reading(None)
    return found


def _at_other_lengths(bench: Bench, shape: Structure) -> dict[str, Reading]:
    """Whether longer and shorter sums are built alike; parts that grow with K are split-K."""
    notes, tree = [], None
    for length in _OTHER_LENGTHS:
        if length > 1 << bench.unit.out.precision or length < 2 * (shape.width or 0):
            continue  # its counts are no results, or it has no two chunks
        other = structure.measure(bench, length)
        if other is None:
            notes.append(f"K = {length}: not to be told")
        elif shape.period is not None and other.period is not None:
            parts = shape.length // shape.period
            if other.period != shape.period and length == parts * other.period:
                tree = f"split_k:{parts}"
        elif _plan(other) != _plan(shape):
            notes.append(f"K = {length}: width {other.width}, tree {other.tree or 'unknown'}")
    found = {"same_order": Reading(not notes, note="; ".join(notes))}
    if tree is not None:
        found |= {"tree": Reading(tree), "promote_every": Reading(None)}
    return found


def _plan(shape: Structure) -> tuple[object, ...]:
    return shape.kind, shape.width, shape.order, shape.tree


def _alignment(session: Session) -> None:
    """X, a small term and -X in one chunk: the small term is kept, or cut at 2**-F of X."""
    fields = session.fields
    names = ("align_bits", "align_rounding", "align_exponent", "lanes")
    if not session.fused:
        reason = "products do not meet in one step"
        return fields.update({name: unseen(reason) for name in names})
    big = 2.0**session.top
    shifts = range(1, session.depth + 1)
    tails = [big * 2.0**-s for s in shifts]
    if session.width >= 3:
        found = session.sums(*([[big, tail, -big]] for tail in tails))
    else:  # the large term arrives as the running sum
        found = session.sums(*([[big], [-big, tail]] for tail in tails))
    kept, cut = exact_reach((found == tails).tolist())
    if not cut:
        fields["align_bits"] = Reading(None, note=f"nothing is cut within {kept} bits")
        fields.update({name: unseen("nothing is cut") for name in names[1:3]})
        fields["lanes"] = unseen("nothing is cut")
        return None
    fields["align_bits"] = Reading(kept)
    fields["align_rounding"], fields["lanes"] = _alignment_rounding(session, kept)
    fields["align_exponent"] = _alignment_exponent(session, kept)
    return None


def _rounding(found: F64, step: float) -> str | None:
    return _ROUNDINGS.get(tuple(np.rint(found / step).astype(np.int64).tolist()))


def _alignment_rounding(session: Session, bits: int) -> tuple[Reading, Reading]:
    big, step = 2.0**session.top, 2.0 ** (session.top - bits)
    if bits + 2 > session.top - session.bench.lowest:
        short = unseen("no product is small enough")
        return short, short
    if session.width < 3:
        found = session.sums(*([[big], [-big, t * step]] for t in _TAILS))
        mode = _rounding(found, step)
        return _mode(mode, found / step), unseen("a chunk of two")
    near = session.sums(*([[big, t * step, -big]] for t in _TAILS))
    mode = _rounding(near, step)
    if session.width < 5:
        return _mode(mode, near / step), Reading(1)
    apart = session.sums(*([[big, 0.0, t * step, 0.0, -big]] for t in _TAILS))
    same = _rounding(apart, step)
    return _mode(same, apart / step), Reading(1 if same == mode else 2)


def _mode(mode: str | None, found: F64) -> Reading:
    if mode is not None:
        return Reading(mode)
    return unseen(f"{_TAILS} of a step become {np.round(found, 3).tolist()}")


def _alignment_exponent(session: Session, bits: int) -> Reading:
    """1.5 * 1.5 counts by its operands' fields, or by its value, which is twice as large."""
    if session.bench.spaced and _aligned_to_scales(session):
        return Reading("block_scale")
    if session.width < 3:
        return unseen("a chunk of two")
    square, tail = 2.25 * 2.0**session.top, 2.0 ** (session.top - bits)
    found = session.sums([[square, tail, -square]])[0]
    return Reading("operand_fields" if found == tail else "normalized")


def _aligned_to_scales(session: Session) -> bool:
    """Whether a block of zeros with a large scale pushes its neighbour out."""
    length = session.shape.length
    a, b = np.zeros((1, length * 32)), np.zeros((1, length * 32))
    first, second = session.shape.chunks[0][:2]
    a[0, first * 32], b[0, first * 32] = 1.5, 1.0
    scales = np.zeros((1, length), np.int64)
    scales[0, first], scales[0, second] = -30, 60
    return bool(session.bench.raw(a, b, None, scales)[0] != 1.5 * 2.0**-30)


#: Sums that stand in a chunk as products, and their values: each carries further than the last.
_BASES: tuple[tuple[int, tuple[float, ...]], ...] = (
    (0, (1.5,)),
    (1, (2.25,)),
    (2, (2.25, 2.25, 2.25)),
    (2, (1.5, 1.5, 1.5, 1.5)),
)


def _bases(session: Session) -> list[tuple[int, list[float]]]:
    most = session.width - 1 if session.fused else 1
    scale = 2.0**session.top
    found = [(carry, [x * scale for x in base]) for carry, base in _BASES if len(base) <= most]
    return found if session.fused else found[:1]


def _left(session: Session, rows: list[tuple[list[float], float]]) -> F64:
    """What the stored sum of base and tail holds beyond the base.

    The base is taken away in the chunk after, where that drops nothing, or by the reader.
    """
    packed = []
    direct = []
    for base, tail in rows:
        negative = [-x for x in base]
        packed.append([[*base, tail], negative] if session.fused else [base, [tail], negative])
        direct.append([*base, tail])
    found = session.sums(*packed)
    if session.fused and session.bench.unit.out.precision >= 24:
        tails = np.array([tail for _, tail in rows])
        seen = session.last(*direct) - np.array([sum(base) for base, _ in rows])
        return np.where(found == tails, found, seen)
    return found


def _storage(session: Session) -> None:
    """A base and a smaller and smaller term beside it: the stored sum keeps p bits."""
    fields = session.fields
    if len(session.shape.chunks) < 2 and session.bench.unit.out.precision < 24:
        reason = "one chunk takes all of K, and the result is too narrow to show its sum"
        fields["significand_bits"] = fields["store_rounding"] = unseen(reason)
        return
    aligned = fields["align_bits"]
    limit = aligned.value if aligned.measured and aligned.value is not None else session.depth
    best, sharp = 0, False
    for carry, base in _bases(session):
        tails = [2.0 ** (session.top - s) for s in range(1, limit + 1)]
        found = _left(session, [(base, tail) for tail in tails])
        kept, cut = exact_reach((found == tails).tolist())
        if kept + carry + 1 > best:
            best, sharp = kept + carry + 1, cut
        elif kept + carry + 1 == best:
            sharp = sharp or cut
    fields["significand_bits"] = Reading(best, least=not sharp)
    fields["store_rounding"] = _store_rounding(session, best, limit)


def _store_rounding(session: Session, bits: int, limit: int) -> Reading:
    for carry, base in _bases(session):
        step = 2.0 ** (session.top + carry - bits + 1)
        if step / 4 < 2.0 ** (session.top - limit):
            continue
        negative = [-x for x in base]
        rows = [(base, 0.75 * step), (base, 0.25 * step)]
        rows += [(negative, -0.25 * step), (negative, -0.75 * step)]
        found = _left(session, rows)
        mode = _rounding(found, step)
        if mode is not None:
            return Reading(mode)
        return unseen(f"{_TAILS} of a step become {(found / step).tolist()}")
    return unseen("alignment drops what would be rounded")


def _running(session: Session) -> None:
    """How a product meets the running sum: at once, or in a second and deeper step."""
    fields = session.fields
    names = ("stage_bits", "sticky")
    bits, mode = fields["significand_bits"], fields["store_rounding"]
    aligned = fields["align_bits"]
    shows = session.fused and len(session.shape.chunks) > 2
    if not (shows and mode.value == "rne" and not bits.least):
        reason = "only a store to nearest shows it" if shows else "no three fused chunks"
        return fields.update({name: unseen(reason) for name in names})
    if fields["align_rounding"].value == "ru":
        reason = "alignment rounds up"
        return fields.update({name: unseen(reason) for name in names})
    big, half = 2.0**session.top, 2.0 ** (session.top - bits.value)
    shifts = range(bits.value + 1, session.top - session.bench.lowest + 1)
    rows = [[[big], [half, 2.0 ** (session.top - s)], [-big]] for s in shifts]
    found = session.sums(*rows) if rows else np.zeros(0)
    seen = [s for s, left in zip(shifts, found, strict=True) if left > 0]
    deepest = max(seen, default=bits.value)
    if not aligned.measured or aligned.value is None:
        fields["stage_bits"] = Reading(None)
        fields["sticky"] = Reading(value=True, note="nothing is cut")
        return None
    if seen and deepest == shifts[-1] and deepest > aligned.value:
        fields["stage_bits"] = Reading(deepest, least=True)
    else:
        fields["stage_bits"] = Reading(deepest if deepest > aligned.value else None)
    below = 2.0 ** (session.top - aligned.value - 1)
    if session.width < 3 or aligned.value < bits.value:
        fields["sticky"] = unseen("alignment leaves no bit to round")
    elif below < 2.0**session.bench.lowest:
        fields["sticky"] = unseen("no product is small enough")
    else:
        left = session.sums([[big, half, below], [-big]])[0]
        fields["sticky"] = Reading(bool(left > 0))
    return None
