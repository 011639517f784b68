"""What the cases exercise of the op table, and what the table's own rules admit.

A row of the table says in code which formats it takes: its inference rule accepts them or raises.
So the scan asks the rule: it takes the nodes that the cases run, puts another format in the place
of one operand (or of all that share its format), and sees whether the node still has a type.
"""

import itertools
from collections import defaultdict
from dataclasses import dataclass, field

from accelsdk.backend.datasheet import NumericsDatasheet
from accelsdk.errors import GraphError
from accelsdk.formats import FORMATS, by_name
from accelsdk.graph import ops
from accelsdk.graph.opdef import AttributeKind
from accelsdk.graph.types import TensorType
from accelsdk_conformance.case import Level, Profile
from accelsdk_conformance.catalogue import bundled
from accelsdk_conformance.problem import Always, BelowProfile, Context, NotApplicable
from accelsdk_conformance.registry import generator
from accelsdk_conformance.seeing import Either, Seeing

#: Modules of generators whose cases differ in data rather than in what they use of the table.
_DEAR = ("contraction", "constructions", "published", "tiers", "seams")


@dataclass
class Seen:
    """What the cases of one op exercise."""

    operands: dict = field(default_factory=lambda: defaultdict(set))  # position: formats
    absent: set = field(default_factory=set)  # positions of operands left out
    results: set = field(default_factory=set)  # how many results were asked for
    attributes: dict = field(default_factory=lambda: defaultdict(set))
    formats: set = field(default_factory=set)  # (first operand, each format attribute)
    ranks: set = field(default_factory=set)  # of the first operand
    templates: dict = field(default_factory=dict)  # nodes of different formats
    cases: int = 0
    unshrinkable: set = field(default_factory=set)  # generators that cannot make it smaller
    dependent: set = field(default_factory=set)  # generators that a replay folder asks again


def cases(level=Level.STANDARD):
    """Yields every case of an op profile; of dear products, one of each generator and formats."""
    known = set()
    for case in bundled():
        if case.profile is Profile.DEVICE or not level.holds(case.level):
            continue
        if case.generator.split(".")[0] in _DEAR:
            words = [key for key in sorted(case.parameters) if key != "to"]
            place = (case.op, case.formats, case.generator, *words, case.parameters.get("to"))
            if place in known:
                continue
            known.add(place)
        yield case


def problems(level=Level.STANDARD):
    """Yields (case, problem) for those cases, as for a backend that claims nothing."""
    context = Context(NumericsDatasheet())
    for case in cases(level):
        try:
            yield case, generator(case.generator)(case, context)
        except (NotApplicable, BelowProfile):
            continue


def scan(level=Level.STANDARD):
    """Returns what is seen of each op."""
    seen = defaultdict(Seen)
    for case, problem in problems(level):
        note(seen[problem.op], problem)
        if problem.remake is None:
            seen[problem.op].unshrinkable.add(case.generator)
        if not isinstance(problem.oracle, Always | Either | Seeing):
            seen[problem.op].dependent.add(case.generator)
    return seen


def note(seen, problem):
    """Adds one problem to what is seen of its op."""
    row = ops.TABLE[problem.op]
    seen.cases += 1
    types = [None if t is None else TensorType(t.format, t.shape) for t in problem.operands]
    for index, kind in enumerate(types):
        if kind is not None:
            seen.operands[min(index, len(row.operands) - 1)].add(kind.format)
    given = [*types, *(None,) * (len(row.operands) - len(types))]
    seen.absent |= {index for index, kind in enumerate(given) if kind is None}
    seen.results.add(problem.outputs)
    values = ops.filled(row, problem.attributes)
    for name, value in values.items():
        seen.attributes[name].add(value)
    named = tuple(values[a.name] for a in format_attributes(row))
    first = types[0]
    seen.ranks.add(first.rank)
    seen.formats.add((first.format.name, *named))
    key = (tuple(kind and kind.format for kind in types), named)
    seen.templates.setdefault(key, (types, dict(values), problem.outputs))


def format_attributes(row):
    """Returns the attributes of a row that name a format."""
    return [a for a in row.attributes if a.kind is AttributeKind.FORMAT]


def admitted(row, seen):
    """Returns, for each operand position, the formats that the row's rule takes."""
    found = defaultdict(set)
    for types, attributes, outputs in list(seen.templates.values()):
        for index, fmt in itertools.product(range(len(types)), FORMATS):
            if types[index] is None or fmt in found[min(index, len(row.operands) - 1)]:
                continue
            for changed, values in variants(row, types, attributes, index, fmt):
                if takes(row, changed, values, outputs):
                    found[min(index, len(row.operands) - 1)].add(fmt)
                    break
    return found


def admitted_pairs(row, seen):
    """Returns (format of the first operand, *format attributes) that the row's rule takes."""
    names = [a.name for a in format_attributes(row)]
    choices = [[*a.choices] for a in format_attributes(row)]
    found = set()
    for types, attributes, outputs in list(seen.templates.values()):
        for fmt, *named in itertools.product(FORMATS, *choices):
            if (fmt.name, *named) in found:
                continue
            given = attributes | dict(zip(names, named, strict=True))
            for changed, values in variants(row, types, given, 0, fmt, retarget=False):
                swapped = retargeted(changed, attributes, values, names)
                if takes(row, swapped, values, outputs):
                    found.add((fmt.name, *named))
                    break
    return found


def retargeted(types, before, after, names):
    """Returns operand types after a format attribute changed: those that must follow it do."""
    moved = {before[name]: after[name] for name in names}
    return [
        types[0],
        *(
            kind and TensorType(by_name(moved.get(kind.format.name, kind.format.name)), kind.shape)
            for kind in types[1:]
        ),
    ]


def variants(row, types, attributes, index, fmt, retarget=True):
    """Yields the node with another format at one operand: alone, and with all of its format."""
    old = types[index].format

    def with_format(kind, change):
        return TensorType(fmt, kind.shape) if kind is not None and change else kind

    yield [with_format(kind, i == index) for i, kind in enumerate(types)], attributes
    group = [with_format(k, k is not None and k.format == old) for k in types]
    yield group, attributes
    if retarget:
        names = [a.name for a in format_attributes(row)]
        moved = {n: fmt.name for n in names if attributes[n] == old.name}
        if moved:
            yield group, attributes | moved


def takes(row, types, attributes, outputs):
    """Says whether the row's rule gives the node a type."""
    try:
        ops.infer(row.name, types, attributes, outputs)
    except GraphError:
        return False
    return True
