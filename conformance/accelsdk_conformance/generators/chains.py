"""Nodes behind other nodes: what a compiler fuses, as an epilogue or otherwise.

A chain begins with the problem of another case whose result is exact, and goes on with steps
that are exact on such numbers. So its result is known to the bit, whether the device fuses the
nodes, keeps the sum in its accumulator in between, or runs one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from accelsdk.errors import InvalidArgument
from accelsdk.formats import FLOAT16, FLOAT32, FLOAT64, INT8, Format
from accelsdk_conformance.case import Case
from accelsdk_conformance.generators import data
from accelsdk_conformance.generators.held import original
from accelsdk_conformance.oracles.tensor import Tensor, encode, from_integers, represent
from accelsdk_conformance.problem import (
    Axis,
    Context,
    Exact,
    NotApplicable,
    Problem,
    Remake,
    Step,
    always,
    expect_exact,
)
from accelsdk_conformance.stand_ins import answer

#: Returns the further operands of a step, given what it reads and a generator of numbers.
Further = Callable[[Tensor, np.random.Generator], tuple[Tensor, ...]]


@dataclass(frozen=True, slots=True)
class _Link:
    """One step.

    Attributes:
        op: Its op.
        apply: Returns its result, given what it reads and its further operands.
        attributes: Returns its attributes, given what it reads.
        takes: How many further operands it has.
        further: Makes them.
        constant: Whether these are constants of the program.
    """

    op: str
    apply: Callable[..., Tensor]
    attributes: Callable[[Tensor], Mapping[str, Any]] = lambda x: {}
    takes: int = 0
    further: Further = lambda x, rng: ()
    constant: bool = True


def fused(case: Case, context: Context) -> Problem:
    """The problem of another case, and the steps that the parameter ``then`` names behind it.

    With the parameter ``nan`` the first operand begins with NaN.
    """
    base = original(case, context)
    if case.parameters.get("nan"):
        base = _with_nan(base)
    links = _CHAINS[str(case.parameters["then"])]
    _refuse_flushed(base, links, context)
    rng = data.rng(case, context)
    reached, further = _first(base), []
    for link in links:
        further.append(link.further(reached, rng))
        reached = link.apply(reached, *further[-1])
    operands = (*base.operands, *(tensor for own in further for tensor in own))
    made = _chain(base, links, operands)
    if base.remake is None:
        return made
    count, remake = len(base.operands), base.remake

    def make(given: tuple[Tensor | None, ...]) -> Problem:
        return _chain(remake.make(given[:count]), links, given)

    def axes(given: tuple[Tensor | None, ...]) -> Iterable[Axis]:
        return remake.axes(given[:count])

    return replace(made, remake=Remake(make, axes, remake.fixed))


def _refuse_flushed(base: Problem, links: tuple[_Link, ...], context: Context) -> None:
    """Refuses subnormal numbers where a node of the chain is declared to flush them."""
    given = [x for x in (*base.operands, _first(base)) if x is not None and x.format.is_float]
    if not any(_has_subnormal(x) for x in given):
        return
    for op in (base.op, *(link.op for link in links)):
        claims = (context.datasheet.function(op, x.format.name) for x in given)
        if any(claim is not None and claim.subnormals == "flush" for claim in claims):
            raise NotApplicable(f"subnormal numbers are declared flushed by {op}")


def _has_subnormal(x: Tensor) -> bool:
    size = np.abs(x.values)
    return bool(((size > 0) & (size < x.format.smallest_normal)).any())


def _with_nan(base: Problem) -> Problem:
    first, *others = base.operands
    if first is None:
        raise ValueError(f"{base.op} has no first operand")
    codes = first.codes.copy()
    codes.reshape(-1)[:1] = encode(np.array(np.nan), first.format).codes
    return base.with_operands((Tensor(first.format, codes), *others))


def _chain(base: Problem, links: tuple[_Link, ...], operands: tuple[Tensor | None, ...]) -> Problem:
    """Returns a problem with its steps, given all operands."""
    reached, at = _first(base), len(base.operands)
    steps: list[Step] = []
    held: list[int] = []
    for link in links:
        places = tuple(range(at, at + link.takes))
        at += link.takes
        steps.append(Step(link.op, link.attributes(reached), places))
        held += places if link.constant else ()
        reached = link.apply(reached, *(operands[i] for i in places))
    return replace(
        base,
        operands=operands,
        then=tuple(steps),
        constants=frozenset(held),
        oracle=always(expect_exact(reached, signed_zero=False)),
        explain=None,
    )


def _first(base: Problem) -> Tensor:
    """Returns the only result of a problem.

    Raises:
        NotApplicable: A device may legally give another one.
    """
    expected = base.oracle(())
    required = dict(expected[0].tiers).get(expected[0].required)
    exact = isinstance(required, Exact) and not (np.any(required.free) or required.others)
    if len(expected) != 1 or not exact:
        raise NotApplicable("the first result of the chain is not claimed to the bit")
    return answer(expected[0])


# -- steps -----------------------------------------------------------------------------------


def _relu(x: Tensor) -> Tensor:
    return encode(np.where(np.isnan(x.values), np.nan, np.maximum(x.values, 0)), x.format)


def _small(fmt: Format, values: ArrayLike) -> Tensor:
    """Returns small whole numbers of a format."""
    whole = np.asarray(values, np.float64)
    return from_integers(whole.astype(np.int64), fmt) if fmt.is_integer else represent(whole, fmt)


def _bias(x: Tensor, rng: np.random.Generator) -> tuple[Tensor, ...]:
    return (_small(x.format, rng.integers(-9, 10, x.shape[-1:])),)


def _residual(x: Tensor, rng: np.random.Generator) -> tuple[Tensor, ...]:
    return (_small(x.format, rng.integers(-9, 10, x.shape)),)


def _sum(x: Tensor, y: Tensor) -> Tensor:
    if x.format.is_integer:
        return from_integers(x.integers.astype(np.int64) + y.integers, x.format)
    return encode(x.values + y.values, x.format)


def _other(x: Tensor) -> Format:
    """Returns a format that holds the same numbers, the narrowest of three."""
    for fmt in (FLOAT16, FLOAT32, FLOAT64):
        if fmt is not x.format:
            with suppress(InvalidArgument):
                represent(x.values, fmt)
                return fmt
    raise NotApplicable("no other format holds the result")


def _quantised(x: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    """Whole numbers divided by 1/2: nothing is rounded."""
    codes = x.values / scale.values + zero.integers
    return from_integers(np.clip(codes, -128, 127).astype(np.int64), INT8)


def _turned(x: Tensor) -> Tensor:
    return Tensor(x.format, np.ascontiguousarray(x.codes.T))


_RELU = _Link("Relu", _relu)
_ADD = _Link("Add", _sum, takes=1, further=_residual, constant=False)
_CAST = _Link(
    "Cast",
    lambda x: represent(x.values, _other(x)),
    attributes=lambda x: {"to": _other(x).name},
)
_HALF = _Link(
    "Mul",
    lambda x, y: encode(x.values * y.values, x.format),
    takes=1,
    further=lambda x, rng: (represent(np.array(0.5), x.format),),
)

_CHAINS: Mapping[str, tuple[_Link, ...]] = {
    "relu": (_RELU,),
    "neg": (_Link("Neg", lambda x: encode(-x.values, x.format)),),
    "abs": (_Link("Abs", lambda x: encode(np.abs(x.values), x.format)),),
    "clip": (
        _Link(
            "Clip",
            lambda x, low, high: represent(np.clip(x.values, low.values, high.values), x.format),
            takes=2,
            further=lambda x, rng: (_small(x.format, -1), _small(x.format, 6)),
        ),
    ),
    "bias": (_Link("Add", _sum, takes=1, further=_bias),),
    "bias_relu": (_Link("Add", _sum, takes=1, further=_bias), _RELU),
    "residual": (_ADD,),
    "residual_relu": (_ADD, _RELU),
    "relu_residual": (_RELU, _ADD),
    "half": (_HALF,),
    "half_residual": (_HALF, _ADD),
    "cast": (_CAST,),
    "relu_cast": (_RELU, _CAST),
    "dequantise": (_CAST, _HALF),
    "quantise": (
        _Link(
            "Quantize",
            _quantised,
            attributes=lambda x: {"to": INT8.name},
            takes=2,
            further=lambda x, rng: (represent(np.array(0.5), x.format), _small(INT8, 3)),
        ),
    ),
    "transpose": (
        _Link(
            "Transpose",
            _turned,
            attributes=lambda x: {"perm": tuple(reversed(range(len(x.shape))))},
        ),
    ),
    "flat": (
        _Link(
            "Reshape",
            lambda x: Tensor(x.format, x.codes.reshape(-1)),
            attributes=lambda x: {"shape": (x.codes.size,)},
        ),
    ),
}
