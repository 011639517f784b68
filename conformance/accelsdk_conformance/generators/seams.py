"""Where implementations change their code path: one row, a vector, a batch, a second run.

Each case here kills a defect that no other case of the suite kills (docs/kill-matrix.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from accelsdk.formats import FLOAT32, INT32, INT64
from accelsdk_conformance.case import Case
from accelsdk_conformance.generators import axes, data
from accelsdk_conformance.generators.composite import carried_problem
from accelsdk_conformance.generators.movement import MOVES, moved
from accelsdk_conformance.generators.products import Product
from accelsdk_conformance.generators.products import problem as product_problem
from accelsdk_conformance.oracles.carried import Carried
from accelsdk_conformance.oracles.tensor import (
    F64,
    Tensor,
    code_dtype,
    encode,
    from_integers,
    represent,
)
from accelsdk_conformance.problem import (
    Along,
    Axis,
    Context,
    Problem,
    always,
    expect_exact,
    separate_axes,
    shrinkable,
)

_SHAPES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "vector_vector": ((19,), (19,)),
    "vector_matrix": ((19,), (19, 5)),
    "matrix_vector": ((7, 19), (19,)),
    "batch": ((3, 4, 19), (3, 19, 5)),
    "batch_left": ((3, 4, 19), (19, 5)),
    "batch_right": ((4, 19), (3, 19, 5)),
    "batch_spread": ((2, 1, 4, 19), (1, 3, 19, 5)),
    "batch_vector": ((3, 4, 19), (19,)),
}


def thin(case: Case, context: Context) -> Problem:
    """Products of one row or one column, of ordinary data: they have kernels of their own."""
    a_format, b_format = data.format_of(case, 0), data.format_of(case, 1)
    m, k, n = (int(case.parameters[key]) for key in ("m", "k", "n"))
    rng = data.rng(case, context)
    a, b = rng.normal(size=(m, k)), rng.normal(size=(k, n))
    product = Product(a=encode(a, a_format), b=encode(b, b_format))
    return product_problem(case, context, product)


def ranks(case: Case, context: Context) -> Problem:
    """MatMul and MatMulInteger of vectors and batches; whole numbers, exact."""
    formats = data.format_of(case, 0), data.format_of(case, 1)
    a_shape, b_shape = _SHAPES[str(case.parameters["shape"])]
    rng = data.rng(case, context)
    low = -3 if formats[0].is_signed and formats[1].is_signed else 0
    a, b = rng.integers(low, 4, a_shape), rng.integers(low, 4, b_shape)
    put = represent if formats[0].is_float else from_integers
    operands = put(a, formats[0]), put(b, formats[1])
    return shrinkable(lambda a, b: _multiplied(case, a, b), operands, axes.product)


def _multiplied(case: Case, a: Tensor, b: Tensor, *scales: Tensor) -> Problem:
    """Returns the product of whole numbers; its scales are 1."""
    if any((scale.values != 1).any() for scale in scales):
        raise ValueError("scales other than 1")
    if a.format.is_float:
        out = FLOAT32 if case.op == "ScaledMatMul" else a.format
        result = represent(np.asarray(np.matmul(a.values, b.values)), out)
    else:
        result = from_integers(np.asarray(np.matmul(a.integers, b.integers)), INT32)
    expected = expect_exact(result, signed_zero=False)
    return Problem(op=case.op, operands=(a, b, *scales), oracle=always(expected))


def again(case: Case, context: Context) -> Problem:
    """A program that runs three times gives the third time what it gives the first."""
    formats = data.format_of(case, 0), data.format_of(case, 1)
    rng = data.rng(case, context)
    low = -3 if formats[0].is_signed and formats[1].is_signed else 0
    a, b = rng.integers(low, 4, (9, 19)), rng.integers(low, 4, (19, 5))
    put = from_integers if case.op == "MatMulInteger" else represent
    operands = [put(a, formats[0]), put(b, formats[1])]
    if case.op == "ScaledMatMul":
        operands += [data.scalar(1.0), data.scalar(1.0)]
    made = shrinkable(lambda *given: _multiplied(case, *given), operands, axes.product, (2, 3))
    return replace(made, runs=3)


def long(case: Case, context: Context) -> Problem:
    """More elements than any other case of the op: a length kept from before is too short."""
    fmt = data.format_of(case, 0)
    count = int(case.parameters["count"])
    x, y = np.arange(count) % 127 - 63, np.arange(count) % 31 - 15

    def make(x: Tensor, y: Tensor | None = None) -> Problem:
        value = _ARITHMETIC[case.op](x.values, x.values if y is None else y.values)
        expected = expect_exact(represent(value + 0.0, fmt), signed_zero=False)
        operands = (x,) if y is None else (x, y)
        return Problem(op=case.op, operands=operands, oracle=always(expected))

    operands = [represent(x, fmt), represent(y, fmt)][: 1 if case.op in ("Relu", "Neg") else 2]
    return shrinkable(make, operands)


_ARITHMETIC: dict[str, Callable[[F64, F64], F64]] = {
    "Add": lambda x, y: x + y,
    "Sub": lambda x, y: x - y,
    "Mul": lambda x, y: x * y,
    "Relu": lambda x, _: x * (x > 0),
    "Neg": lambda x, _: -x,
}


def nan_payloads(case: Case, context: Context) -> Problem:
    """Every payload of one bit, quiet and signalling: the result is NaN, never an infinity."""
    source, target = data.format_of(case, 0), data.format_of(case, 1)
    infinity = encode(np.array([np.inf]), source).codes[0]
    bits = np.array([1 << shift for shift in range(source.mantissa_bits)], code_dtype(source))
    sign = infinity.dtype.type(1 << (source.bits - 1))
    codes = np.concatenate([infinity | bits, infinity | sign | bits])

    def make(x: Tensor) -> Problem:
        if not np.isnan(x.values).all():
            raise ValueError("a number")
        wanted = encode(np.full(x.shape, np.nan), target)
        return Problem(
            op="Cast",
            operands=(x,),
            attributes={"to": target.name},
            oracle=always(expect_exact(wanted)),
        )

    return shrinkable(make, (Tensor(source, codes),))


def move_specials(case: Case, context: Context) -> Problem:
    """A movement of subnormals, NaN with payloads, infinities and zeros of both signs."""
    fmt = data.format_of(case, 0)
    variant = MOVES[f"{case.op}/{case.parameters['variant']}"]
    infinity = int(encode(np.array([np.inf]), fmt).codes[0])
    sign = 1 << (fmt.bits - 1)
    edges = [0, 1, 2, (1 << fmt.mantissa_bits) - 1, infinity, infinity + 1, infinity + 3]
    pool = np.array([*edges, *(edge | sign for edge in edges)], code_dtype(fmt))
    tensors = [
        Tensor(fmt, np.resize(np.roll(pool, -i), shape).astype(code_dtype(fmt)))
        for i, shape in enumerate(variant[0])
    ]
    return moved(case.op, variant, tensors, INT64)


def pool_nan(case: Case, context: Context) -> Problem:
    """A NaN at each place of a window makes its maximum NaN, or is ignored, as declared."""
    fmt = data.format_of(case, 0)
    values = np.tile(np.arange(9.0).reshape(3, 3), (1, 10, 1, 1)) - 4
    for place in range(9):
        values[0, place, place // 3, place % 3] = np.nan
    spec = context.datasheet.reduction("MaxPool", fmt.name)
    pick = np.nanmax if spec is not None and spec.nan == "ignore" else np.max
    attributes = {"kernel_shape": (3, 3), "strides": (1, 1), "pads": (0,) * 4, "dilations": (1, 1)}

    def make(x: Tensor) -> Problem:
        if x.shape[2:] != (3, 3):
            raise ValueError("not one window")
        result = represent(pick(x.values, axis=(2, 3), keepdims=True), fmt)
        return Problem(
            op="MaxPool",
            operands=(x,),
            attributes=attributes,
            oracle=always(expect_exact(result)),
        )

    return shrinkable(make, (represent(values, fmt),), separate_axes)


def far_reduce(case: Case, context: Context) -> Problem:
    """Norms whose squares, and sums of powers whose powers, lie beyond a narrow format.

    300 squared is beyond float16, exp(100) beyond float32: ReduceL2 needs wide squares, and
    ReduceLogSumExp must subtract the maximum.
    """
    fmt = data.format_of(case, 0)
    rng = data.rng(case, context)
    x = encode(rng.uniform(1.0, 2.0, (5, 17)) * np.array([1, 150, 300, -300, -90])[:, None], fmt)

    def make(x: Tensor) -> Problem:
        value = Carried.exact(x.values, FLOAT32)
        if case.op == "ReduceL2":
            result = (value * value).total().sqrt()
        else:
            top = Carried.exact(x.values.max(axis=1, keepdims=True), FLOAT32)
            result = (value - top).exp(4.0).total().log(4.0) + top
        error = result.error + np.abs(result.value) * 2.0**-fmt.mantissa_bits
        wide = Carried(result.value, error, fmt)
        return carried_problem(case.op, (x,), {"axes": (1,), "keepdims": 1}, [wide])

    return shrinkable(make, (x,), separate_axes)


def epilogue(case: Case, context: Context) -> Problem:
    """A sum that is half way between two results, and an addend that decides.

    2049 is a tie of float16: rounded before 1 is added it gives 2048, and not 2050. A Gemm that
    nothing is claimed of may be the MatMul and the Add that the SDK lowers it to.
    """
    fmt = data.format_of(case, 0)
    top = 2.0 ** (fmt.mantissa_bits + 1)
    a = np.array([[top / 2, top / 2, 1], [-top / 2, -top / 2, -1], [top / 2, top / 2, 3]])
    c = np.array([1.0, -1.0, 1.0])
    if case.op == "Gemm":
        operands = (represent(a, fmt), represent(np.ones((3, 1)), fmt), represent(c[:, None], fmt))
        key = ("Gemm", fmt.name, fmt.name, fmt.name)
        claimed = context.datasheet.contraction(*key) is not None
        claim = f"contractions[{', '.join(key)}]" if claimed else ""
        return shrinkable(partial(_gemm, claim), operands, _gemm_axes)
    image = represent(np.ones((1, 3, 1, 1)), fmt)
    kernel = Tensor(fmt, represent(a, fmt).codes[:, :, None, None])
    return shrinkable(_point, (image, kernel, represent(c, fmt)), axes.convolution)


def _gemm(claim: str, a: Tensor, b: Tensor, c: Tensor) -> Problem:
    """Returns a product of few numbers whose float64 sum is exact."""
    result = _not_zero(encode(a.values @ b.values + c.values, a.format))
    parts = encode(encode(a.values @ b.values, a.format).values + c.values, a.format)
    expected = expect_exact(result, others=() if claim else (parts.codes,), claim=claim)
    return Problem(op="Gemm", operands=(a, b, c), oracle=always(expected))


def _not_zero(result: Tensor) -> Tensor:
    """Refuses sums whose sign depends on their order."""
    if (result.values == 0).any():
        raise ValueError("a sum of zero")
    return result


def _gemm_axes(a: Tensor, b: Tensor, c: Tensor) -> list[Axis]:
    return [(Along(0, 0), Along(2, 0)), (Along(0, 1), Along(1, 0))]


def _point(x: Tensor, w: Tensor, bias: Tensor) -> Problem:
    """Returns a convolution of one place, as `_gemm`."""
    sums = w.values[:, :, 0, 0] @ x.values[0, :, 0, 0] + bias.values
    result = _not_zero(encode(sums[None, :, None, None], x.format))
    attributes: dict[str, Any] = {
        "strides": (1, 1),
        "pads": (0,) * 4,
        "dilations": (1, 1),
        "group": 1,
    }
    return Problem(
        op="Conv",
        operands=(x, w, bias),
        attributes=attributes,
        oracle=always(expect_exact(result)),
    )
