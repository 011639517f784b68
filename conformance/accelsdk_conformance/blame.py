"""Which field of the datasheet a failure refutes.

A contraction is looked into by the model of its accumulator. Everywhere else the case is made again
under each declaration that differs from the backend's in one field; a declaration under which
the outputs are right names the field that is false.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np

from accelsdk.backend.datasheet import NumericsDatasheet
from accelsdk.errors import AccelError
from accelsdk.numerics.rounding import Rounding
from accelsdk_conformance.case import Case
from accelsdk_conformance.judge import judge
from accelsdk_conformance.oracles.tensor import Tensor
from accelsdk_conformance.problem import (
    BelowProfile,
    Context,
    Diagnosis,
    Expected,
    NotApplicable,
    Problem,
)
from accelsdk_conformance.registry import generator

#: Values that promise nothing, and so explain much: the last to be tried.
_VAGUE = frozenset({"inexact", "undefined"})
_CLAIM = re.compile(r"(\w+)(?:\[(.*)\])?")
#: What fields without a type of literals may be.
_CHOICES: dict[str, tuple[object, ...]] = {
    "rounding": tuple(mode.value for mode in Rounding if mode is not Rounding.TO_ODD),
    "scale_rule": ("floor", "ceil", "even", "rceil", "tosa", "other"),
    "via": (None, "float16", "bfloat16", "float32"),
    "acc_bits": (16, 20, 24, 32),
    "significand_bits": (8, 11, 24, 53),
    "ulp": (0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 8.0, 16.0, 18.0),
    "floor": (0.0, 0.5, 1.0, 2.0, 4.0),
    "domain": (None, (-16.0, 16.0), (-64.0, 64.0), (-1024.0, 1024.0), (-32768.0, 32768.0)),
}


def blame(
    case: Case,
    context: Context,
    problem: Problem,
    outputs: Sequence[Tensor],
    expected: Sequence[Expected],
) -> Diagnosis:
    """Says of outputs that failed which claim is false, as far as they tell.

    Args:
        case: The case that failed.
        context: Holds the declaration.
        problem: What was run.
        outputs: What came out.
        expected: What was to come out.
    """
    for out, want in zip(outputs, expected, strict=False):
        judged = judge(out, want)
        if judged.passed or judged.demanded is None:
            continue
        if want.diagnose is not None:
            return want.diagnose(out)
        if want.claim:
            return _refined(case, context, problem, tuple(outputs), want.claim)
    return Diagnosis("", "")


def _refined(
    case: Case, context: Context, problem: Problem, outputs: tuple[Tensor, ...], claim: str
) -> Diagnosis:
    found: dict[str, list[object]] = {}
    was: dict[str, object] = {}
    entry = claim.rpartition("].")[0] + "]" if "]." in claim else claim
    others = sorted(_declarations(context.datasheet, entry), key=lambda row: row[2] in _VAGUE)
    for name, old, new, sheet in others:
        if _right_under(case, replace(context, datasheet=sheet), problem, outputs):
            found.setdefault(name, []).append(new)
            was[name] = old
    if not found:
        return Diagnosis(claim, "")
    first, *rest = found
    values = " or ".join(str(value) for value in found[first])
    also = "".join(f"; so would {name}={found[name][0]}" for name in rest)
    reason = f"claim {first}={was[first]} is false: the outputs fit {values}{also}"
    return Diagnosis(f"{entry}.{first}", reason, tuple(found))


def _declarations(
    sheet: NumericsDatasheet, claim: str
) -> Iterator[tuple[str, object, object, NumericsDatasheet]]:
    """Yields field, old and new value, and the datasheet with that one field changed."""
    match = _CLAIM.fullmatch(claim)
    if match is None:
        return
    family, entry = match.groups()
    held = getattr(sheet, family, None)
    if held is None:
        return
    key = tuple(part.strip() for part in entry.split(",")) if entry else ()
    spec = held if not key else _LOOKUPS[family](sheet, *key) if family in _LOOKUPS else None
    if spec is None:
        return
    for name, choices in _fields(type(spec)).items():
        old = getattr(spec, name)
        for new in choices:
            if new != old:
                changed = replace(spec, **{name: new})
                whole: dict[str, Any] = {family: changed if not key else {**held, key: changed}}
                yield name, old, new, replace(sheet, **whole)


_LOOKUPS: dict[str, Any] = {
    "integers": NumericsDatasheet.integer,
    "casts": NumericsDatasheet.cast,
    "mx": NumericsDatasheet.block,
    "functions": NumericsDatasheet.function,
    "reductions": NumericsDatasheet.reduction,
}


def _fields(kind: type[Any]) -> dict[str, tuple[object, ...]]:
    """Returns the values that each field of a spec may have, as far as they can be listed."""
    hints = get_type_hints(kind)
    found: dict[str, tuple[object, ...]] = {}
    for row in fields(kind):
        hint = hints[row.name]
        if hint is bool:
            found[row.name] = (False, True)
        elif get_origin(hint) is Literal:
            found[row.name] = get_args(hint)
        elif row.name in _CHOICES:
            found[row.name] = _CHOICES[row.name]
    return found


def _right_under(
    case: Case, context: Context, problem: Problem, outputs: tuple[Tensor, ...]
) -> bool:
    """Says whether the outputs are right under another declaration, on the same operands."""
    try:
        other = generator(case.generator)(case, context)
        if not _same(problem, other):
            return False
        wanted = other.oracle(outputs)
    except (AccelError, NotApplicable, BelowProfile, ValueError, ArithmeticError):
        return False  # there is no such case under this declaration
    return len(wanted) == len(outputs) and all(
        judge(out, want).passed for out, want in zip(outputs, wanted, strict=True)
    )


def _same(one: Problem, other: Problem) -> bool:
    pairs = zip(one.operands, other.operands, strict=False)
    return all(
        (a is None and b is None)
        or (a is not None and b is not None and np.array_equal(a.codes, b.codes))
        for a, b in pairs
    )
