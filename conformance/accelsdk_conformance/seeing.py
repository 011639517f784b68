"""Oracles that see the outputs before they say what these must be, and can be written down.

A closure would do for a run. A replay folder needs more: it must judge without the generator
that made the problem (`replay`).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from accelsdk.errors import NotFound
from accelsdk_conformance.judge import judge
from accelsdk_conformance.oracles.tensor import Tensor
from accelsdk_conformance.problem import Expected

#: Returns, of operands, parameters (whatever JSON holds) and outputs, what the outputs must be.
Rule = Callable[
    [Sequence[Tensor | None], Mapping[str, Any], tuple[Tensor, ...]], tuple[Expected, ...]
]


@dataclass(frozen=True, slots=True, eq=False)
class Seeing:
    """Applies a rule that is known by name: a function of a module.

    Attributes:
        rule: What judges.
        operands: Of the problem.
        how: The rule's parameters.
    """

    rule: Rule
    operands: Sequence[Tensor | None]
    how: Mapping[str, Any]

    @property
    def name(self) -> str:
        """``module:function``, for `named`."""
        return f"{self.rule.__module__}:{self.rule.__qualname__}"

    def __call__(self, outputs: tuple[Tensor, ...]) -> tuple[Expected, ...]:
        """Returns what the rule demands of these outputs."""
        return self.rule(self.operands, self.how, outputs)


@dataclass(frozen=True, slots=True, eq=False)
class Either:
    """Holds the outputs to one of some expectations as a whole: they may not be mixed.

    Attributes:
        choices: The expectations; the last is shown where none is met.
    """

    choices: tuple[tuple[Expected, ...], ...]

    def __call__(self, outputs: tuple[Tensor, ...]) -> tuple[Expected, ...]:
        """Returns the first expectation that the outputs meet, or the last."""
        for wanted in self.choices[:-1]:
            if len(wanted) == len(outputs) and all(
                judge(out, want).passed for out, want in zip(outputs, wanted, strict=True)
            ):
                return wanted
        return self.choices[-1]


def named(name: str) -> Rule:
    """Returns a rule by its name.

    Raises:
        NotFound: There is none.
    """
    module, _, function = name.partition(":")
    try:
        found: Rule = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise NotFound(
            f"no rule {name!r}: {error}",
            remedy="replay the folder with the suite that wrote it",
        ) from error
    return found
