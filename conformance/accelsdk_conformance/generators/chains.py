"""Nodes behind other nodes: what a compiler fuses, as an epilogue or otherwise.

A chain begins with the problem of another case whose result is known to the bit, and its own is,
too, whether the device fuses the nodes, keeps the sum in its accumulator in between, or runs one
after the other. There are two kinds:

- The first result is exact. So are the steps, but for one that may round (a conversion): it
  rounds the same number in every order of things.
- The first result is rounded (sums and products over the whole range of a format). Only steps
  that commute with rounding to nearest may follow, moves and what changes a sign: rounding before
  them or behind them gives the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accelsdk.backend.datasheet import NumericsDatasheet, QuantSpec
from accelsdk.formats import BFLOAT16, FLOAT16, FLOAT32, INT8, Format, by_name
from accelsdk.numerics.rounding import Rounding
from accelsdk_conformance.case import Case
from accelsdk_conformance.generators import data
from accelsdk_conformance.generators.held import original
from accelsdk_conformance.oracles import conversion as oracle
from accelsdk_conformance.oracles.tensor import F64, Tensor, encode, from_integers, represent
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

#: Returns the result of a step, given the declaration, what it reads and its further operands.
Apply = Callable[..., Tensor]
#: Returns the further operands of a step, given what it reads and a generator of numbers.
Further = Callable[[Tensor, np.random.Generator], tuple[Tensor, ...]]


@dataclass(frozen=True, slots=True)
class _Link:
    """One step.

    Attributes:
        op: Its op.
        apply: Returns its result.
        attributes: Returns its attributes, given what it reads.
        takes: How many further operands it has.
        further: Makes them.
        constant: Whether these are constants of the program.
        commutes: Whether rounding to nearest gives the same before it and behind it.
        zeros: What it makes of the signs of zeros: they are those that IEEE 754 gives it, known
            if they were; left open, as by the op's own cases (`functions.ZERO_FREE`); or plus.
    """

    op: str
    apply: Apply
    attributes: Callable[[Tensor], Mapping[str, Any]] = lambda x: {}
    takes: int = 0
    further: Further = lambda x, rng: ()
    constant: bool = True
    commutes: bool = False
    zeros: Literal["kept", "open", "plus"] = "kept"


def fused(case: Case, context: Context) -> Problem:
    """The problem of another case, and the steps that the parameter ``then`` names behind it.

    With the parameter ``nan`` the first operand begins with NaN.

    Raises:
        ValueError: What the steps give depends on where a device rounds.
    """
    base = original(case, context)
    if case.parameters.get("nan"):
        base = _with_nan(base)
    links = _CHAINS[str(case.parameters["then"])]
    _refuse_flushed(base, links, context)
    rng = data.rng(case, context)
    chain = partial(_chain, case.id, context.datasheet, links)
    made = chain(base, lambda link, x: link.further(x, rng))
    if base.remake is None:
        return made
    count, remake = len(base.operands), base.remake

    def make(given: tuple[Tensor | None, ...]) -> Problem:
        further = iter(given[count:])
        return chain(remake.make(given[:count]), lambda link, x: tuple(islice(further, link.takes)))

    def axes(given: tuple[Tensor | None, ...]) -> Iterable[Axis]:
        return remake.axes(given[:count])

    return replace(made, remake=Remake(make, axes, remake.fixed))


def _refuse_flushed(base: Problem, links: tuple[_Link, ...], context: Context) -> None:
    """Refuses subnormal numbers where a node of the chain is declared to flush them."""
    given = [x for x in (*base.operands, _first(base)[0]) if x is not None and x.format.is_float]
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


def _chain(
    name: str,
    sheet: NumericsDatasheet,
    links: tuple[_Link, ...],
    base: Problem,
    supply: Callable[[_Link, Tensor], tuple[Tensor | None, ...]],
) -> Problem:
    """Returns a problem with its steps.

    Args:
        name: Id of the case.
        sheet: The declaration.
        links: The steps.
        base: What they stand behind.
        supply: Returns the further operands of a step, given what it reads.

    Raises:
        ValueError: A step that does not commute with rounding reads what is rounded.
    """
    reached, signed_zero = _first(base)
    rounded = not _is_exact(base, reached)
    operands = base.operands
    steps: list[Step] = []
    held: list[int] = []
    for link in links:
        if rounded and not link.commutes:
            raise ValueError(f"{name}: {link.op} reads a rounded result")
        further = supply(link, reached)
        places = tuple(range(len(operands), len(operands) + link.takes))
        operands += further
        steps.append(Step(link.op, link.attributes(reached), places))
        held += places if link.constant else ()
        before = reached
        reached = link.apply(sheet, before, *further)
        converts = link.op in ("Cast", "Quantize")
        rounded |= converts and not np.array_equal(reached.values, before.values)
        signed_zero = {"kept": signed_zero, "open": False, "plus": True}[link.zeros]
    return replace(
        base,
        operands=operands,
        then=tuple(steps),
        constants=frozenset(held),
        oracle=always(expect_exact(reached, signed_zero=signed_zero)),
        explain=None,
    )


def _first(base: Problem) -> tuple[Tensor, bool]:
    """Returns the only result of a problem, and whether the signs of its zeros are known.

    Raises:
        NotApplicable: A device may legally give another one.
    """
    expected = base.oracle(())
    required = dict(expected[0].tiers).get(expected[0].required)
    if len(expected) != 1 or not isinstance(required, Exact) or _leaves_open(required):
        raise NotApplicable("the first result of the chain is not claimed to the bit")
    return answer(expected[0]), required.signed_zero


def _leaves_open(accept: Exact) -> bool:
    return bool(np.any(accept.free) or accept.others)


def _is_exact(base: Problem, result: Tensor) -> bool:
    """Says whether it can be seen that no result of a sum of products was rounded.

    All terms are whole multiples of a unit, that of the operands multiplied. A sum of them that
    is no larger than so many units as the format has numbers in a binade is a number of it.
    """
    if result.format.is_integer:
        return True
    if np.isinf(result.values).any():
        return False
    factors = [x.values for x in base.operands if x is not None]
    factors += [np.array(x) for x in base.attributes.values() if isinstance(x, float)]
    unit = float(np.prod([min(1.0, _unit(x)) for x in factors]))
    known = result.values[np.isfinite(result.values)]
    return bool((np.abs(known) <= unit * 2.0**result.format.precision).all()) and (
        _unit(known) >= unit
    )


def _unit(values: NDArray[Any]) -> float:
    """Returns the largest power of two of which all finite values are whole multiples."""
    fraction, exponent = np.frexp(values[np.isfinite(values) & (values != 0)].astype(np.float64))
    whole = np.ldexp(fraction, 53).astype(np.int64)
    return float(np.ldexp((whole & -whole).astype(np.float64), exponent - 53).min(initial=np.inf))


# -- steps -----------------------------------------------------------------------------------


def _relu(sheet: NumericsDatasheet, x: Tensor) -> Tensor:
    return encode(np.where(np.isnan(x.values), np.nan, np.maximum(x.values, 0)), x.format)


def _small(fmt: Format, values: ArrayLike) -> Tensor:
    """Returns small whole numbers of a format."""
    whole = np.asarray(values, np.float64)
    return from_integers(whole.astype(np.int64), fmt) if fmt.is_integer else represent(whole, fmt)


def _bias(x: Tensor, rng: np.random.Generator) -> tuple[Tensor, ...]:
    return (_small(x.format, rng.integers(-9, 10, x.shape[-1:])),)


def _residual(x: Tensor, rng: np.random.Generator) -> tuple[Tensor, ...]:
    return (_small(x.format, rng.integers(-9, 10, x.shape)),)


def _sum(sheet: NumericsDatasheet, x: Tensor, y: Tensor) -> Tensor:
    if x.format.is_integer:
        return from_integers(x.integers.astype(np.int64) + y.integers, x.format)
    return represent(x.values + y.values, x.format)


def _numbers(x: Tensor) -> F64:
    """Returns the finite values of a result that are not zero."""
    return np.asarray(x.values[np.isfinite(x.values) & (x.values != 0)])


def _bounds(x: Tensor, rng: np.random.Generator) -> tuple[Tensor, ...]:
    """Results with seven of ten others between them."""
    ends = np.quantile(_numbers(x), (0.15, 0.85), method="nearest")
    return tuple(represent(np.array(end), x.format) for end in ends)


def _scaling(x: Tensor, rng: np.random.Generator) -> tuple[Tensor, ...]:
    """A scale with which most results fit in eight bits, but not the largest; a zero point.

    A power of two: quotients are exact, and some are ties. The zero point is odd, so that ties
    tell whether it is added before they are rounded.
    """
    most, largest = np.quantile(np.abs(_numbers(x)), (0.8, 1))
    scale = np.exp2(np.floor(np.log2(min(most / 64, largest / 132))))
    return represent(np.array(scale), x.format), _small(INT8, 3)


def _quantised(sheet: NumericsDatasheet, x: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    if not 0 < scale.values < np.inf:
        raise ValueError("no scale to divide by")
    how = sheet.quantize or QuantSpec()
    return oracle.quantize(
        x.values,
        np.broadcast_to(scale.values, x.shape),
        np.broadcast_to(zero.integers, x.shape),
        INT8,
        scaling=how.scaling,
        zero_point_is=how.zero_point,
        rounding=Rounding(how.rounding),
        work=x.format,
    ).tensor


def _cast(target: Format) -> _Link:
    def apply(sheet: NumericsDatasheet, x: Tensor) -> Tensor:
        spec = sheet.cast(x.format.name, target.name)
        via = by_name(spec.via) if spec is not None and spec.via else None
        return oracle.cast(x, target, via=via).tensor

    return _Link("Cast", apply, attributes=lambda x: {"to": target.name})


_RELU = _Link("Relu", _relu, commutes=True, zeros="open")
_ADD = _Link("Add", _sum, takes=1, further=_residual, constant=False)
_BIAS = _Link("Add", _sum, takes=1, further=_bias)
_HALF = _Link(
    "Mul",
    lambda sheet, x, y: represent(x.values * y.values, x.format),
    takes=1,
    further=lambda x, rng: (represent(np.array(0.5), x.format),),
)

_CHAINS: Mapping[str, tuple[_Link, ...]] = {
    "relu": (_RELU,),
    "neg": (_Link("Neg", lambda sheet, x: encode(-x.values, x.format), commutes=True),),
    "abs": (
        _Link(
            "Abs",
            lambda sheet, x: encode(np.abs(x.values), x.format),
            commutes=True,
            zeros="plus",
        ),
    ),
    "clip": (
        _Link(
            "Clip",
            lambda sheet, x, low, high: represent(
                np.clip(x.values, low.values, high.values), x.format
            ),
            takes=2,
            further=_bounds,
            zeros="open",
        ),
    ),
    "bias": (_BIAS,),
    "bias_relu": (_BIAS, _RELU),
    "residual": (_ADD,),
    "residual_relu": (_ADD, _RELU),
    "relu_residual": (_RELU, _ADD),
    "half": (_HALF,),
    "half_residual": (_HALF, _ADD),
    "cast_fp16": (_cast(FLOAT16),),
    "cast_bf16": (_cast(BFLOAT16),),
    "cast_fp32": (_cast(FLOAT32),),
    "relu_cast_fp16": (_RELU, _cast(FLOAT16)),
    "relu_cast_bf16": (_RELU, _cast(BFLOAT16)),
    "dequantise": (_cast(FLOAT32), _HALF),
    "quantise": (
        _Link(
            "Quantize",
            _quantised,
            attributes=lambda x: {"to": INT8.name},
            takes=2,
            further=_scaling,
        ),
    ),
    "transpose": (
        _Link(
            "Transpose",
            lambda sheet, x: Tensor(x.format, np.ascontiguousarray(x.codes.T)),
            attributes=lambda x: {"perm": tuple(reversed(range(len(x.shape))))},
            commutes=True,
        ),
    ),
    "flat": (
        _Link(
            "Reshape",
            lambda sheet, x: Tensor(x.format, x.codes.reshape(-1)),
            attributes=lambda x: {"shape": (x.codes.size,)},
            commutes=True,
        ),
    ),
}
