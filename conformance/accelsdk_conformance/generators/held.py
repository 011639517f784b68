"""Operands that are constants of the program, on the data of other cases.

A device packs constants, folds them and places them when a program is loaded: other code than
that which reads inputs. So the ops of several operands have cases in which all but one of them
are constants, in which the first one is, and in which the last one is.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from accelsdk_conformance.case import Case
from accelsdk_conformance.catalogue import bundled
from accelsdk_conformance.problem import Context, Problem
from accelsdk_conformance.registry import generator


@cache
def _known() -> dict[str, Case]:
    return {case.id: case for case in bundled()}


def original(case: Case, context: Context) -> Problem:
    """Returns the problem of the case that a case's parameter ``of`` names.

    Raises:
        KeyError: There is no such case.
    """
    base = _known()[str(case.parameters["of"])]
    return generator(base.generator)(base, context)


def constants(case: Case, context: Context) -> Problem:
    """The problem of another case, with constants among its operands."""
    made = original(case, context)
    given = [i for i, operand in enumerate(made.operands) if operand is not None]
    held = {"first": given[:1], "others": given[1:], "last": given[-1:]}
    return replace(made, constants=frozenset(held[str(case.parameters["which"])]))
