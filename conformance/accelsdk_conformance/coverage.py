"""Which formats each op takes, which of them the cases exercise, and what is left: the holes.

A row of the op table says in code which formats it takes: its inference rule gives a node a type
or raises. So the rule is asked. One problem of each group of cases is generated, its operands
and format attributes are given every other format, and what still has a type is a signature that
the op takes. A signature that no case exercises is a hole.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from accelsdk.backend.datasheet import NumericsDatasheet
from accelsdk.errors import GraphError
from accelsdk.formats import BOOL, FORMATS, Format, by_name
from accelsdk.graph import ops
from accelsdk.graph.graph import Attribute
from accelsdk.graph.opdef import AttributeKind, Family, OpDef
from accelsdk.graph.types import TensorType
from accelsdk_conformance.case import Case, Level, Profile
from accelsdk_conformance.catalogue import short
from accelsdk_conformance.problem import BelowProfile, Context, NotApplicable, Problem
from accelsdk_conformance.registry import generator

#: Short names of the formats that tell two uses of an op apart: of its data, then of its result
#: where an attribute names it. ``("fp32", "e4m3")`` of Cast; ``("fp32",)`` of Exp.
Signature = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Coverage:
    """What the cases exercise of one op.

    Attributes:
        op: Its name; an area, for the device profile.
        family: Part of the op table; ``device`` for the device profile.
        levels: Cases that a run of each level holds.
        counts: Cases of each signature, in the order of the table of formats; 0 is a hole.
    """

    op: str
    family: str
    levels: Mapping[Level, int]
    counts: Mapping[Signature, int]

    @property
    def holes(self) -> tuple[Signature, ...]:
        """The signatures that the op takes and no case exercises."""
        return tuple(key for key, count in self.counts.items() if not count)


def coverage(cases: Sequence[Case], level: Level = Level.STANDARD) -> list[Coverage]:
    """Returns what the cases exercise: every op of the table, then the device profile.

    Generates one problem for each op and row of formats; of each text among
    its parameters, where the op has formats beside those of its operands.

    Args:
        cases: All there are.
        level: What only a higher level runs counts as not exercised.
    """
    by_op: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        by_op[case.op].append(case)
    found = [_of_op(row, by_op.pop(name, []), level) for name, row in ops.TABLE.items()]
    for op, rest in by_op.items():
        family = "device" if rest[0].profile is Profile.DEVICE else "vendor"
        found.append(Coverage(op, family, _levels(rest), Counter()))
    return found


def _of_op(row: OpDef, cases: Sequence[Case], level: Level) -> Coverage:
    # Where the formats of the operands say everything, one case of each row of formats will do.
    plain = not _named(row)
    groups: dict[tuple[object, ...], list[Case]] = defaultdict(list)
    for case in cases:
        words = () if plain else tuple(filter(_is_text, case.parameters.values()))
        groups[case.formats, words].append(case)
    uses = [(_use(row, group), group) for group in groups.values()]
    known = [(use, group) for use, group in uses if use is not None]
    axes = _axes(row, [use for use, _ in known])
    counts: Counter[Signature] = Counter()
    for use, group in known:
        counts[use.signature(axes)] += sum(level.holds(case.level) for case in group)
    for signature in _taken(axes, [use for use, _ in known]):
        counts.setdefault(signature, 0)
    ordered = dict(sorted(counts.items(), key=lambda item: [_RANK[name] for name in item[0]]))
    return Coverage(row.name, str(row.family), _levels(cases), ordered)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _levels(cases: Iterable[Case]) -> dict[Level, int]:
    least = Counter(case.level for case in cases)
    return {level: sum(least[other] for other in Level if level.holds(other)) for level in Level}


_RANK = {short(fmt.name): rank for rank, fmt in enumerate(FORMATS)}


# -- what one problem uses of an op ------------------------------------------------------------

#: A place of a node that has a format: the index of an operand, or the name of an attribute.
Axis = int | str


@dataclass(frozen=True, slots=True)
class _Use:
    """One application of an op."""

    row: OpDef
    types: tuple[TensorType | None, ...]
    attributes: Mapping[str, Attribute]
    outputs: int

    def format(self, axis: Axis) -> Format | None:
        if isinstance(axis, str):
            return by_name(str(self.attributes[axis]))
        kind = self.types[axis] if axis < len(self.types) else None
        return kind.format if kind is not None else None

    def signature(self, axes: Sequence[Axis]) -> Signature:
        return tuple(short(fmt.name) for axis in axes if (fmt := self.format(axis)) is not None)

    def takes(self, wanted: Mapping[Axis, Format]) -> bool:
        """Says whether the op has a type with these formats in these places.

        An operand elsewhere that has the format of a changed place may have to follow it (a
        zero point has the format of the codes), so it is tried both ways.
        """
        follows: dict[Format, set[Format]] = defaultdict(set)
        for axis, fmt in wanted.items():
            if (old := self.format(axis)) is not None:
                follows[old].add(fmt)
        choices: list[list[TensorType | None]] = []
        for index, kind in enumerate(self.types):
            if kind is None:
                choices.append([None])
            elif index in wanted:
                choices.append([TensorType(wanted[index], kind.shape)])
            else:
                moved = [TensorType(fmt, kind.shape) for fmt in follows[kind.format]]
                choices.append([kind, *(other for other in moved if other != kind)])
        named = {axis: fmt.name for axis, fmt in wanted.items() if isinstance(axis, str)}
        attributes = {**self.attributes, **named}
        # All that may follow follow, or none does: two formats at once decide nothing more.
        tries = {tuple(column[0] for column in choices), tuple(column[-1] for column in choices)}
        return any(self._typed(types, attributes) for types in tries)

    def _typed(
        self, types: Sequence[TensorType | None], attributes: Mapping[str, Attribute]
    ) -> bool:
        try:
            ops.infer(self.row.name, types, attributes, self.outputs)
        except GraphError:
            return False
        return True


def _use(row: OpDef, cases: Sequence[Case]) -> _Use | None:
    """Returns how one case of a group uses the op: the last, for the first are the large ones."""
    for case in reversed(cases):
        try:
            problem = generator(case.generator)(case, Context(NumericsDatasheet()))
        except (NotApplicable, BelowProfile):
            continue
        return _use_of(row, problem)
    return None


def _use_of(row: OpDef, problem: Problem) -> _Use:
    types = tuple(
        None if tensor is None else TensorType(tensor.format, tensor.shape)
        for tensor in problem.own
    )
    return _Use(row, types, ops.filled(row, problem.attributes), problem.outputs)


def _axes(row: OpDef, uses: Sequence[_Use]) -> tuple[Axis, ...]:
    """Returns the places that tell two uses of an op apart.

    They are the data (the first operand, unless that is a condition), both factors of a product
    whose formats are free of each other, and the attributes that name a format.
    """
    named = _named(row)
    if row.family is Family.CONTRACTION and any(map(_independent, uses)):
        return (0, 1, *named)
    conditional = len(row.operands) > 1 and all(use.format(0) == BOOL for use in uses)
    if conditional and not any(
        use.takes({0: fmt}) for fmt in FORMATS if fmt != BOOL for use in uses
    ):
        return (1, *named)
    return (0, *named)


def _named(row: OpDef) -> tuple[str, ...]:
    """Returns the attributes that name a format."""
    return tuple(a.name for a in row.attributes if a.kind is AttributeKind.FORMAT)


def _independent(use: _Use) -> bool:
    """Says whether a product takes factors of different formats."""
    first = use.format(0)
    return first is not None and any(
        fmt != first and use.takes({0: first, 1: fmt}) for fmt in FORMATS
    )


def _taken(axes: Sequence[Axis], uses: Sequence[_Use]) -> Iterator[Signature]:
    """Yields every signature to which the op's rule gives a type."""
    different: dict[tuple[object, ...], _Use] = {}
    for use in uses:
        rest = (f"{key}={use.attributes[key]}" for key in use.attributes if key not in axes)
        given = tuple(kind is not None for kind in use.types)
        different.setdefault((given, *rest), use)
    signatures: dict[Signature, None] = {}
    for use in different.values():
        for formats in itertools.product(*(_alone(use, axis) for axis in axes)):
            signature = tuple(short(fmt.name) for fmt in formats)
            if signature not in signatures and use.takes(dict(zip(axes, formats, strict=True))):
                signatures[signature] = None
    yield from signatures


def _alone(use: _Use, axis: Axis) -> list[Format]:
    """Returns the formats that one place may have, whatever the others then have to have."""
    if isinstance(axis, str):
        definition = use.row.attribute_def(axis)
        choices = definition.choices if definition is not None else ()
        return [by_name(str(name)) for name in choices] or [*FORMATS]
    return [*FORMATS]
