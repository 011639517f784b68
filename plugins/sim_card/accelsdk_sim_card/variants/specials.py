"""Variants of special values: payloads of NaN, zeros, NaN that is left out, flushed numbers."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np

from accelsdk.backend.datasheet import FunctionSpec, NumericsDatasheet, ReduceSpec
from accelsdk.formats import BFLOAT16, FLOAT16, FLOAT32, Specials
from accelsdk.graph.graph import Node
from accelsdk.kernels.kernel import Kernel, axes_of, integer
from accelsdk_sim_card.defects.defect import Array, Bind, after, fmt_of, is_op
from accelsdk_sim_card.variants.variant import Declare, Variant

if TYPE_CHECKING:
    from accelsdk_sim_card.arithmetic import Arithmetic

_FLOATS = (FLOAT16, BFLOAT16, FLOAT32)
_NAMES = ("float16", "bfloat16", "float32", "float64")
#: Ops that compute; those that move or choose values keep the bits of a NaN.
_COMPUTED = (
    *("Add", "Sub", "Mul", "Div", "Sqrt", "Reciprocal", "Exp", "Log", "Pow", "Sin", "Tanh"),
    *("Sigmoid", "Erf", "Floor", "Ceil", "Round", "Gelu", "Softplus", "Elu", "Max", "Min"),
    *("MatMul", "Gemm", "Conv", "ScaledMatMul", "ReduceSum", "ReduceMax", "ReduceMean"),
    *("Softmax", "LayerNormalization", "Cast", "Dequantize", "DequantizeBlock", "MaxPool"),
    *("AveragePool", "Resize", "Relu", "Clip"),
)
_LIMITS = ("Max", "Min", "Clip", "Relu")


def _payloads(negative: bool) -> Bind:
    """Returns the binding of quiet NaNs whose payload counts up and whose sign is set or not."""

    def bind(node: Node, arithmetic: Arithmetic) -> Kernel | None:
        fmt = node.result.format
        if not is_op(node, *_COMPUTED) or not fmt.is_float or fmt.specials is Specials.FINITE:
            return None
        if fmt.specials is Specials.FNUZ:
            return None

        def mark(y: Array) -> Array:
            y = np.ascontiguousarray(y)
            codes = np.array(y.view(f"u{y.dtype.itemsize}"))
            head = ((1 << fmt.exponent_bits) - 1) << fmt.mantissa_bits
            head |= (1 << (fmt.bits - 1)) if negative else 0
            payload = np.full(codes.shape, (1 << fmt.mantissa_bits) - 1, np.uint64)
            if fmt.specials is Specials.IEEE:
                half = 1 << (fmt.mantissa_bits - 1)
                payload = (half | np.arange(codes.size) % half).astype(np.uint64)
            marked = (np.uint64(head) | payload.reshape(codes.shape)).astype(codes.dtype)
            return np.where(np.isnan(y), marked, codes).view(y.dtype).reshape(y.shape)

        return after(arithmetic.plain(node), mark)

    return bind


def _compares(first: bool) -> Bind:
    """Returns the binding of extremes by one comparison: of equals the first, or the second."""

    def larger(x: Array, y: Array) -> Array:
        wins = x >= y if first else x > y
        return np.where(np.isnan(x) | wins, x, y)

    def smaller(x: Array, y: Array) -> Array:
        wins = x <= y if first else x < y
        return np.where(np.isnan(x) | wins, x, y)

    def bind(node: Node, arithmetic: Arithmetic) -> Kernel | None:
        fmt = fmt_of(node)
        if not is_op(node, *_LIMITS) or fmt is None or not fmt.is_float:
            return None
        zero = np.zeros((), fmt.dtype)
        if node.op == "Relu":
            return lambda x: (larger(x, zero),)
        if node.op == "Clip":

            def clip(
                x: Array, low: Array | None = None, high: Array | None = None
            ) -> tuple[Array, ...]:
                x = x if low is None else larger(x, low)
                return (x if high is None else smaller(x, high),)

            return clip
        choose = larger if node.op == "Max" else smaller
        return lambda *given: (np.array(reduce(choose, given)),)

    return bind


def _ignores_nan(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """MaxNum and minNum of IEEE 754-2008: the operand that is a number."""
    fmt = fmt_of(node)
    if fmt is None or not fmt.is_float or not is_op(node, "Max", "Min", "ReduceMax", "ReduceMin"):
        return None
    choose: np.ufunc = np.fmax if node.op.endswith("Max") else np.fmin
    if not node.op.startswith("Reduce"):
        return lambda *given: (np.array(reduce(choose, given)),)
    value = node.operand(0)
    if value is None or not value.type.count:
        return None
    axes, keep = tuple(axes_of(node)), bool(integer(node, "keepdims"))
    return lambda x, *rest: (np.asarray(choose.reduce(x, axis=axes, keepdims=keep)),)


def _declares_nan(sheet: NumericsDatasheet) -> NumericsDatasheet:
    functions = {
        (op, n): FunctionSpec(ulp=0.5, nan="ignore") for op in ("Max", "Min") for n in _NAMES
    }
    reductions = {
        (op, n): ReduceSpec(nan="ignore") for op in ("ReduceMax", "ReduceMin") for n in _NAMES
    }
    return replace(
        sheet,
        functions={**sheet.functions, **functions},
        reductions={**sheet.reductions, **reductions},
    )


def _empty(value: float) -> Bind:
    """Returns the binding of extremes of nothing."""

    def bind(node: Node, arithmetic: Arithmetic) -> Kernel | None:
        given = node.operand(0)
        if not is_op(node, "ReduceMax", "ReduceMin", "ReduceProd") or given is None:
            return None
        if given.type.count or not given.format.is_float:
            return None
        return after(arithmetic.plain(node), lambda y: np.full_like(y, value))

    return bind


def _declares_empty(spec: ReduceSpec) -> Declare:
    return lambda sheet: replace(
        sheet, reductions={**sheet.reductions, **{("*", name): spec for name in _NAMES}}
    )


#: Error limits of the vector engine where it flushes, in units in the last place.
_EXACT = FunctionSpec(ulp=0.5, subnormals="flush")
_NEAR = FunctionSpec(ulp=2.0, subnormals="flush")
_FAR = FunctionSpec(ulp=4.0, subnormals="flush")
_GENTLE = FunctionSpec(ulp=2.0, floor=2.0, floor_of="|x|", subnormals="flush")
_FLUSHED: dict[str, FunctionSpec] = {
    **dict.fromkeys(("Add", "Sub", "Mul", "Div", "Sqrt", "Reciprocal"), _EXACT),
    **dict.fromkeys(("Abs", "Neg", "Floor", "Ceil", "Round", "Sign", "Relu", "Max"), _EXACT),
    **dict.fromkeys(("Min", "Clip", "LeakyRelu", "PRelu", "ThresholdedRelu"), _EXACT),
    **dict.fromkeys(("Exp", "Sin", "Cos", "Sigmoid", "Elu", "Selu", "Softsign"), _NEAR),
    **dict.fromkeys(("Log", "Tanh", "Erf", "Softplus", "Asin", "Atan", "Sinh", "Pow"), _FAR),
    **dict.fromkeys(("Gelu", "HardSwish"), _GENTLE),
    "HardSigmoid": FunctionSpec(ulp=2.0, floor=2.0, subnormals="flush"),
}


#: Reductions and what is made of them, in a vector unit that flushes.
_FLUSHED_REDUCTIONS = (
    *("ReduceSum", "ReduceMean", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceMax"),
    *("ReduceMin", "ReduceProd", "ReduceLogSum", "ReduceLogSumExp", "CumSum", "MaxPool"),
    *("AveragePool", "Softmax", "LogSoftmax", "LayerNormalization", "RMSNormalization"),
    *("BatchNormalization", "InstanceNormalization", "GroupNormalization"),
)


def _flushes(*ops: str) -> Bind:
    """Returns the binding of a unit that knows no subnormal numbers, in or out."""

    def flush(y: Array | None) -> Array | None:
        found = [fmt for fmt in _FLOATS if y is not None and y.dtype == fmt.dtype]
        if y is None or not found:
            return y
        tiny = np.abs(y) < y.dtype.type(found[0].smallest_normal)
        return np.where(tiny, np.copysign(np.zeros((), y.dtype), y), y).astype(y.dtype)

    def bind(node: Node, arithmetic: Arithmetic) -> Kernel | None:
        floats = [v.format for v in node.inputs if v is not None and v.format.is_float]
        if not is_op(node, *ops) or not all(fmt in _FLOATS for fmt in floats):
            return None
        kernel = arithmetic.plain(node)

        def flushed(*given: Array | None) -> tuple[Array, ...]:
            results = kernel(*(flush(x) for x in given))
            return tuple(y if (z := flush(y)) is None else z for y in results)

        return flushed

    return bind


def _declares_flush(sheet: NumericsDatasheet) -> NumericsDatasheet:
    own = {
        (op, fmt.name): spec if fmt is FLOAT32 else replace(spec, ulp=min(spec.ulp, 2.0))
        for op, spec in _FLUSHED.items()
        for fmt in _FLOATS
    }
    return replace(sheet, functions={**sheet.functions, **own})


def _declares_flushed_reductions(sheet: NumericsDatasheet) -> NumericsDatasheet:
    own = {("*", fmt.name): ReduceSpec(subnormals="flush") for fmt in _FLOATS}
    return replace(sheet, reductions={**sheet.reductions, **own})


VARIANTS: tuple[Variant, ...] = (
    *(
        Variant(
            f"nan_payloads_{sign}",
            f"NaNs that are computed have many payloads, and are {sign}",
            "IEEE 754 6.2: sign and payload of NaN are free",
            ", ".join(_COMPUTED),
            bind=_payloads(sign == "negative"),
        )
        for sign in ("positive", "negative")
    ),
    *(
        Variant(
            f"equals_{which}",
            f"of equal operands the {which} one is the larger and the smaller one",
            "IEEE 754 leaves open which zero is the larger",
            ", ".join(_LIMITS),
            bind=_compares(which == "first"),
        )
        for which in ("first", "second")
    ),
    Variant(
        "nan_ignored",
        "extremes of a NaN and a number are the number",
        "maxNum and minNum of IEEE 754-2008, declared nan",
        "Max, Min, ReduceMax, ReduceMin",
        bind=_ignores_nan,
        declare=_declares_nan,
    ),
    Variant(
        "empty_zero",
        "extremes and products of nothing are zero",
        "declared empty",
        "ReduceMax, ReduceMin, ReduceProd",
        bind=_empty(0.0),
        declare=_declares_empty(ReduceSpec(empty="zero")),
    ),
    Variant(
        "empty_undefined",
        "extremes and products of nothing are anything",
        "declared empty",
        "ReduceMax, ReduceMin, ReduceProd",
        bind=_empty(77.0),
        declare=_declares_empty(ReduceSpec(empty="undefined")),
    ),
    Variant(
        "functions_flush",
        "no function knows subnormal numbers, in or out",
        "declared subnormals = flush",
        ", ".join(_FLUSHED),
        bind=_flushes(*_FLUSHED),
        declare=_declares_flush,
    ),
    Variant(
        "reductions_flush",
        "no reduction, pool or normalisation knows subnormal numbers, in or out",
        "declared subnormals = flush",
        ", ".join(_FLUSHED_REDUCTIONS),
        bind=_flushes(*_FLUSHED_REDUCTIONS),
        declare=_declares_flushed_reductions,
    ),
)
