"""Activations whose attributes need all 24 bits that ONNX gives them: 0.2, 1 / 6, 1.0507."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from accelsdk.formats import Format
from accelsdk_conformance.case import Case
from accelsdk_conformance.generators import data, elementwise
from accelsdk_conformance.oracles.tensor import Tensor, code_dtype, encode, represent
from accelsdk_conformance.problem import Context, Oracle, Problem, shrinkable
from accelsdk_conformance.seeing import Either


def function(case: Case, context: Context) -> Problem:
    """An activation of ordinary numbers, and of those beside where its formula bends.

    ONNX holds attributes in float32, and its function bodies convert them to the format of the
    data (CastLike): in 16 bits both are right, but a device may not mix them.
    """
    fmt = data.format_of(case, 0)
    given = {name: float(np.float32(value)) for name, value in case.parameters.items()}
    narrow = {name: float(encode(np.array(v), fmt).values) for name, v in given.items()}
    functions = [_few(case, context, narrow)] if fmt.bits == 16 and narrow != given else []
    functions.append(_few(case, context, given))

    def make(x: Tensor) -> Problem:
        made = [problem.with_operands((x,)) for problem in functions]
        choices = [choice for problem in made for choice in _choices(problem.oracle, x)]
        oracle = made[-1].oracle if len(choices) == 1 else Either(tuple(choices))
        return replace(made[-1], attributes=given, oracle=oracle)

    x = _places(fmt, given, data.rng(case, context))
    if case.op == "LeakyRelu" and fmt.bits == 16:
        x = _alike(x, given["alpha"])
    return shrinkable(make, (x,))


def _few(case: Case, context: Context, attributes: Mapping[str, float]) -> Problem:
    """Returns the problem of one function, of few numbers."""
    return elementwise.unary(replace(case, parameters={**attributes, "shape": "five"}), context)


def _choices(oracle: Oracle, x: Tensor) -> tuple[tuple[Any, ...], ...]:
    return oracle.choices if isinstance(oracle, Either) else (oracle((x,)),)


def _places(fmt: Format, attributes: Mapping[str, float], rng: np.random.Generator) -> Tensor:
    """Returns edges, ordinary numbers of several sizes, and neighbours of every bend."""
    wide = rng.normal(size=700) * np.exp2(rng.integers(-6, 5, 700))
    edges = represent(data.specials(fmt), fmt)
    alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 0.5)
    bends = [alpha, beta, -beta / alpha, (1 - beta) / alpha]
    near = encode(np.abs(np.array(bends)), fmt).codes.astype(np.int64)
    steps = np.arange(-3, 4)
    if fmt.bits > 16:  # what a detour through 8 or 11 bits of mantissa moves a bend to
        far = 1 << (fmt.mantissa_bits - 7)
        steps = np.concatenate([steps, far * np.arange(-8, 9) // 8])
    around = np.abs(near[:, None] + steps).ravel().astype(code_dtype(fmt))
    bent = Tensor(fmt, around).values
    found = [encode(wide, fmt).codes, edges.codes, represent(data.both_signs(bent), fmt).codes]
    return Tensor(fmt, rng.permutation(np.concatenate(found)))


def _alike(x: Tensor, alpha: float) -> Tensor:
    """Returns the numbers whose product with alpha is the same by way of float32, and without.

    A product of a 16-bit number and a float32 may be a tie once it is rounded to float32.
    """
    product = np.asarray(alpha * x.values)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        twice = encode(product.astype(np.float32).astype(np.float64), x.format).codes
    return Tensor(x.format, x.codes[twice == encode(product, x.format).codes])
