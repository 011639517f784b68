"""Einsum: Transpose, ReduceSum, and one product over grouped axes for each pair of operands.

Every label of a pair is of one of four kinds (batch, left, right, summed), so that the product
is a batched matrix product [batch, left, summed] x [batch, summed, right]; without summed
labels it is Mul. Axes that an ellipsis stands for get labels of their own. Pairs are chosen
greedily, the smallest product first (Daniel Smith and Johnnie Gray, "opt_einsum", JOSS 3(26),
2018).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import prod

from accelsdk.compiler.rules.common import refuse, required, rule, text
from accelsdk.graph.graph import Node
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import Value

#: Labels of the axes that an ellipsis stands for: the last one is always the last of these.
_HIDDEN = "".join(chr(0x2460 + i) for i in range(64))


@dataclass(frozen=True, slots=True)
class _Term:
    """An operand whose axes are named by labels."""

    value: Value
    labels: str

    def size(self, labels: str) -> int:
        return prod(self.value.shape[self.labels.index(c)] for c in labels)


def _einsum(b: Builder, node: Node) -> Sequence[Value | None]:
    names, result = _parsed(node)
    terms = [_diagonal(b, node, required(node, i), labels) for i, labels in enumerate(names)]
    extents = _extents(node, terms)
    terms = [_squeezed(b, term, extents) for term in terms]
    missing = [c for c in result if c not in extents]
    if missing or len(set(result)) < len(result):
        refuse(node, f"its result {result!r} names what no operand has, or an axis twice")
    while len(terms) > 1:
        left, right = min(
            combinations(terms, 2), key=lambda pair: _product_size(pair, terms, result, extents)
        )
        others = [term for term in terms if term is not left and term is not right]
        needed = "".join([result, *(term.labels for term in others)])
        terms = [*others, _product(b, left, right, needed)]
    return [_permuted(b, _summed(b, terms[0], result), result)]


def _parsed(node: Node) -> tuple[list[str], str]:
    """Returns one label an axis for each operand and for the result, no ellipsis left."""
    equation = text(node, "equation", "").replace(" ", "")
    left, arrow, result = equation.partition("->")
    names = left.split(",")
    if len(names) != len(node.inputs):
        refuse(node, f"equation {equation!r} has {len(names)} operands, not {len(node.inputs)}")
    widest = 0
    full = []
    for index, labels in enumerate(names):
        rank = required(node, index).type.rank
        hidden = rank - len(labels.replace("...", "", 1))
        letters = labels.replace("...", "", 1)
        if not all(c.isascii() and c.isalpha() for c in letters) or hidden < 0:
            refuse(node, f"{labels!r} of {equation!r} does not name the axes of rank {rank}")
        if hidden and "..." not in labels:
            refuse(node, f"{labels!r} of {equation!r} does not name the axes of rank {rank}")
        full.append(labels.replace("...", _HIDDEN[len(_HIDDEN) - hidden :]))
        widest = max(widest, hidden)
    ellipsis = _HIDDEN[len(_HIDDEN) - widest :]
    if not arrow:
        joined = left.replace(",", "").replace("...", "")
        result = ellipsis + "".join(sorted(c for c in set(joined) if joined.count(c) == 1))
    return full, result.replace("...", ellipsis)


def _diagonal(b: Builder, node: Node, value: Value, labels: str) -> _Term:
    """Takes the diagonal of axes that share a label: every (n + 1)-th item of both merged."""
    for label in dict.fromkeys(labels):
        while labels.count(label) > 1:
            first = labels.index(label)
            second = labels.index(label, first + 1)
            extent = value.shape[first]
            if value.shape[second] != extent:
                refuse(node, f"extents {extent} and {value.shape[second]} share label {label!r}")
            rest = [i for i in range(value.type.rank) if i not in (first, second)]
            moved = b.op("Transpose", value, perm=(*rest, first, second))
            outer = moved.shape[:-2]
            merged = b.op("Reshape", moved, shape=(*outer, extent * extent))
            axis, step = len(outer), extent + 1
            value = b.op(
                "Slice", merged, starts=(0,), ends=(extent * extent,), axes=(axis,), steps=(step,)
            )
            labels = "".join(labels[i] for i in rest) + label
    return _Term(value, labels)


def _extents(node: Node, terms: Sequence[_Term]) -> dict[str, int]:
    """Returns the extent of every label; 1 stretches to any other."""
    found: dict[str, int] = {}
    for term in terms:
        for label, extent in zip(term.labels, term.value.shape, strict=True):
            known = found.setdefault(label, extent)
            if known == 1:
                found[label] = extent
            elif extent not in (1, known):
                refuse(node, f"operands differ in the extent of a label: {known} and {extent}")
    return found


def _squeezed(b: Builder, term: _Term, extents: Mapping[str, int]) -> _Term:
    """Drops axes of extent 1 that stretch to another operand's extent."""
    kept = [i for i, c in enumerate(term.labels) if term.value.shape[i] != 1 or extents[c] == 1]
    if len(kept) == len(term.labels):
        return term
    shape = tuple(term.value.shape[i] for i in kept)
    return _Term(b.op("Reshape", term.value, shape=shape), "".join(term.labels[i] for i in kept))


def _product_size(
    pair: tuple[_Term, _Term], terms: Sequence[_Term], result: str, extents: Mapping[str, int]
) -> int:
    """Items that the product of two terms has, less those of the terms it replaces."""
    others = [term.labels for term in terms if term is not pair[0] and term is not pair[1]]
    needed = set(result).union(*others)
    made = {*pair[0].labels, *pair[1].labels} & needed
    items = prod(extents[c] for c in made)
    return items - pair[0].value.type.count - pair[1].value.type.count


def _summed(b: Builder, term: _Term, needed: str) -> _Term:
    """Sums the axes whose labels are not needed."""
    axes = tuple(i for i, c in enumerate(term.labels) if c not in needed)
    if not axes:
        return term
    value = b.op("ReduceSum", term.value, axes=axes, keepdims=0)
    return _Term(value, "".join(c for c in term.labels if c in needed))


def _permuted(b: Builder, term: _Term, labels: str) -> Value:
    perm = tuple(term.labels.index(c) for c in labels)
    if perm == tuple(range(len(perm))):
        return term.value
    return b.op("Transpose", term.value, perm=perm)


def _product(b: Builder, left: _Term, right: _Term, needed: str) -> _Term:
    """Multiplies two terms and sums the labels that nothing else needs."""
    left = _summed(b, left, needed + right.labels)
    right = _summed(b, right, needed + left.labels)
    shared = [c for c in left.labels if c in right.labels]
    batch = "".join(c for c in shared if c in needed)
    inner = "".join(c for c in shared if c not in needed)
    rows = "".join(c for c in left.labels if c not in right.labels)
    columns = "".join(c for c in right.labels if c not in left.labels)
    op = "MatMul" if inner else "Mul"
    made = b.op(
        op, _grouped(b, left, batch, rows, inner), _grouped(b, right, batch, inner, columns)
    )
    shape = (*(left.size(c) for c in batch + rows), *(right.size(c) for c in columns))
    return _Term(b.op("Reshape", made, shape=shape), batch + rows + columns)


def _grouped(b: Builder, term: _Term, *groups: str) -> Value:
    """The operand with each group of axes merged into one."""
    moved = _permuted(b, term, "".join(groups))
    return b.op("Reshape", moved, shape=tuple(term.size(group) for group in groups))


RULES: tuple[LoweringRule, ...] = (rule("Einsum", _einsum, "equation"),)
