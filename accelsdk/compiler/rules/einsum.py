"""Einsum of one or two operands: Transpose, ReduceSum, and one MatMul over grouped axes.

Every letter of a two-operand equation is of one of four kinds (batch, left, right, summed),
so that the product is a batched matrix product [batch, left, summed] x [batch, summed, right].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from accelsdk.compiler.rules.common import refuse, required, rule, text
from accelsdk.graph.graph import Node
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import Value


@dataclass(frozen=True, slots=True)
class _Term:
    """An operand whose axes are named by letters."""

    value: Value
    letters: str

    def size(self, letters: str) -> int:
        return prod(self.value.shape[self.letters.index(c)] for c in letters)


def _einsum(b: Builder, node: Node) -> Sequence[Value | None]:
    equation = text(node, "equation", "").replace(" ", "")
    if "." in equation:
        refuse(node, "an ellipsis is not supported")
    left, arrow, result = equation.partition("->")
    names = left.split(",")
    if not arrow:
        joined = left.replace(",", "")
        result = "".join(sorted(c for c in set(joined) if joined.count(c) == 1))
    if len(names) != len(node.inputs) or len(names) not in (1, 2):
        refuse(node, f"equation {equation!r} has {len(names)} operands; 1 or 2 are supported")
    terms = [_Term(required(node, i), letters) for i, letters in enumerate(names)]
    for term in terms:
        if len(term.letters) != term.value.type.rank or len(set(term.letters)) < len(term.letters):
            refuse(node, f"{term.letters!r} does not name each axis of {term.value.shape} once")
    others = [*(t.letters for t in terms), result]
    summed = [
        _sum_away(b, term, "".join(others[:i] + others[i + 1 :])) for i, term in enumerate(terms)
    ]
    product = summed[0] if len(summed) == 1 else _product(b, node, summed[0], summed[1], result)
    return [_permute(b, product, result)]


def _sum_away(b: Builder, term: _Term, needed: str) -> _Term:
    """Sums the axes that neither the result nor another operand names."""
    axes = tuple(i for i, c in enumerate(term.letters) if c not in needed)
    if not axes:
        return term
    value = b.op("ReduceSum", term.value, axes=axes, keepdims=0)
    return _Term(value, "".join(c for c in term.letters if c in needed))


def _permute(b: Builder, term: _Term, letters: str) -> Value:
    perm = tuple(term.letters.index(c) for c in letters)
    if perm == tuple(range(len(perm))):
        return term.value
    return b.op("Transpose", term.value, perm=perm)


def _product(b: Builder, node: Node, a: _Term, c: _Term, result: str) -> _Term:
    shared = [letter for letter in a.letters if letter in c.letters]
    if any(a.size(letter) != c.size(letter) for letter in shared):
        refuse(node, "operands differ in the extent of a letter")
    batch = "".join(letter for letter in shared if letter in result)
    inner = "".join(letter for letter in shared if letter not in result)
    rows = "".join(letter for letter in a.letters if letter not in c.letters)
    columns = "".join(letter for letter in c.letters if letter not in a.letters)
    left = _grouped(b, a, batch, rows, inner)
    right = _grouped(b, c, batch, inner, columns)
    made = b.op("MatMul", left, right)
    letters = batch + rows + columns
    sizes = {letter: term.size(letter) for term in (a, c) for letter in term.letters}
    shape = tuple(sizes[letter] for letter in letters)
    return _Term(b.op("Reshape", made, shape=shape), letters)


def _grouped(b: Builder, term: _Term, *groups: str) -> Value:
    """The operand with each group of axes merged into one."""
    moved = _permute(b, term, "".join(groups))
    return b.op("Reshape", moved, shape=tuple(term.size(group) for group in groups))


RULES: tuple[LoweringRule, ...] = (rule("Einsum", _einsum, "equation"),)
