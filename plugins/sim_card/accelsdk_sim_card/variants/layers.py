"""Variants of composites: decompositions of normalisations, pools, activations and resizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import erf
from typing import TYPE_CHECKING

import numpy as np

from accelsdk.backend.datasheet import NumericsDatasheet, ReduceSpec
from accelsdk.formats import FLOAT32
from accelsdk.graph.graph import Node
from accelsdk.kernels.kernel import Kernel, axis_of, integer, real, text
from accelsdk_sim_card.defects.defect import Array, Bind, fmt_of, is_op
from accelsdk_sim_card.variants.variant import Declare, Variant

if TYPE_CHECKING:
    from accelsdk_sim_card.arithmetic import Arithmetic

F32 = np.float32


def _single(function: Callable[..., Array], op: str) -> Bind:
    """Returns the binding of a float32 function."""

    def bind(node: Node, arithmetic: Arithmetic) -> Kernel | None:
        if not is_op(node, op) or fmt_of(node) is not FLOAT32:
            return None
        if op == "Gelu" and text(node, "approximate") != "none":
            return None

        def compute(*given: Array) -> tuple[Array, ...]:
            with np.errstate(all="ignore"):
                return (np.asarray(function(*given), np.float32),)

        return compute

    return bind


def _folded(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """BatchNormalization as one multiply-add with folded constants, as compilers do."""
    if not is_op(node, "BatchNormalization") or fmt_of(node) is not FLOAT32:
        return None
    epsilon = F32(real(node, "epsilon"))

    def normalise(
        x: Array, scale: Array, bias: Array, mean: Array, variance: Array
    ) -> tuple[Array, ...]:
        factor = scale / np.sqrt(variance + epsilon)
        offset = bias - mean * factor
        spread = (1, -1, *(1,) * (x.ndim - 2))
        return (np.asarray(x * factor.reshape(spread) + offset.reshape(spread), np.float32),)

    return normalise


def _norm(moments: Callable[[Array], tuple[Array, Array]]) -> Bind:
    """Returns the binding of layer normalisation over the last axis, all of it in float32."""

    def bind(node: Node, arithmetic: Arithmetic) -> Kernel | None:
        if not is_op(node, "LayerNormalization") or fmt_of(node) is not FLOAT32:
            return None
        if axis_of(node) != len(node.result.shape) - 1 or not node.result.shape[-1]:
            return None
        epsilon, count = F32(real(node, "epsilon")), len(node.outputs)

        def normalise(x: Array, scale: Array, bias: Array | None = None) -> tuple[Array, ...]:
            mean, variance = moments(x)
            deviation = F32(1) / np.sqrt(np.maximum(variance, 0) + epsilon)
            y = (x - mean) * deviation * scale
            y = y if bias is None else y + bias
            return (np.asarray(y, np.float32), mean, deviation)[:count]

        return normalise

    return bind


def _folded_groups(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """Instance- and GroupNormalization as a slope and an offset of each channel, in float32."""
    shape = node.result.shape
    if not is_op(node, "InstanceNormalization", "GroupNormalization") or 0 in shape:
        return None
    if fmt_of(node) is not FLOAT32:
        return None
    groups = shape[1] if node.op == "InstanceNormalization" else integer(node, "num_groups")
    epsilon, spread = F32(real(node, "epsilon")), (*shape[:2], *(1,) * (len(shape) - 2))

    def normalise(x: Array, scale: Array, bias: Array) -> tuple[Array, ...]:
        mean, variance = _two_pass(x.reshape(shape[0], groups, -1))
        deviation = F32(1) / np.sqrt(variance + epsilon)
        means, deviations = (
            np.repeat(of[..., 0], shape[1] // groups, 1) for of in (mean, deviation)
        )
        slope = deviations * scale
        offset = bias - means * slope
        return (np.asarray(x * slope.reshape(spread) + offset.reshape(spread), np.float32),)

    return normalise


def _mean(x: Array) -> Array:
    return np.asarray(np.add.accumulate(x, axis=-1)[..., -1:] * F32(1 / x.shape[-1]))


def _one_pass(x: Array) -> tuple[Array, Array]:
    mean = _mean(x)
    return mean, _mean(x * x) - mean * mean


def _two_pass(x: Array) -> tuple[Array, Array]:
    mean = _mean(x)
    return mean, _mean((x - mean) * (x - mean))


def _welford(x: Array) -> tuple[Array, Array]:
    mean = np.zeros((*x.shape[:-1], 1), np.float32)
    squares = np.zeros_like(mean)
    for k in range(x.shape[-1]):
        delta = x[..., k : k + 1] - mean
        mean = mean + delta * F32(1 / (k + 1))
        squares = squares + delta * (x[..., k : k + 1] - mean)
    return mean, squares * F32(1 / x.shape[-1])


def _claims(spec: ReduceSpec) -> Declare:

    def declare(sheet: NumericsDatasheet) -> NumericsDatasheet:
        own = {("*", name): spec for name in ("float16", "bfloat16", "float32")}
        return replace(sheet, reductions={**sheet.reductions, **own})

    return declare


def _online_softmax(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """One pass: the sum is scaled whenever the maximum grows (Milakov, Gimelshein 2018)."""
    if not is_op(node, "Softmax") or fmt_of(node) is not FLOAT32:
        return None
    axis = axis_of(node)

    def softmax(x: Array) -> tuple[Array, ...]:
        moved = np.moveaxis(x, axis, -1)
        top = np.full((*moved.shape[:-1], 1), -np.inf, np.float32)
        total = np.zeros_like(top)
        with np.errstate(all="ignore"):
            for k in range(0, moved.shape[-1], 4):
                part = moved[..., k : k + 4]
                found = np.maximum(top, part.max(axis=-1, keepdims=True))
                safe = np.where(np.isneginf(found), F32(0), found)
                total = total * np.exp(top - safe) + np.exp(part - safe).sum(-1, keepdims=True)
                top = found
            y = np.exp(moved - np.where(np.isneginf(top), F32(0), top)) / total
        return (np.ascontiguousarray(np.moveaxis(y, -1, axis)),)

    return softmax


def _log_softmax(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """(x - max) - log(sum), rounded at every step."""
    if not is_op(node, "LogSoftmax") or fmt_of(node) is not FLOAT32:
        return None
    axis = axis_of(node)

    def log_softmax(x: Array) -> tuple[Array, ...]:
        with np.errstate(all="ignore"):
            distance = x - x.max(axis=axis, keepdims=True, initial=-np.inf)
            total = np.exp(distance).sum(axis=axis, keepdims=True)
            return (np.asarray(distance - np.log(total), np.float32),)

    return log_softmax


def _gemm_scales_first(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """Alpha is multiplied into A, beta into C."""
    if not is_op(node, "Gemm") or fmt_of(node) is not FLOAT32:
        return None
    alpha, beta = F32(real(node, "alpha")), F32(real(node, "beta"))
    turned = integer(node, "transA"), integer(node, "transB")

    def gemm(a: Array, b: Array, c: Array | None = None) -> tuple[Array, ...]:
        left, right = (x.T if turn else x for x, turn in zip((a, b), turned, strict=True))
        total = (left * alpha) @ right
        return (np.asarray(total if c is None else total + c * beta, np.float32),)

    return gemm


def _sigmoid(x: Array) -> Array:
    return np.asarray(F32(1) / (F32(1) + np.exp(-x)))


def _softplus(x: Array) -> Array:
    return np.asarray(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))


def _tanh(x: Array) -> Array:
    e = np.expm1(F32(-2) * np.abs(x))
    return np.asarray(np.copysign(e / (F32(2) + e), x))


def _gelu(x: Array) -> Array:
    wide = x.astype(np.float64) / np.sqrt(2.0)
    of = np.asarray(np.frompyfunc(erf, 1, 1)(wide), np.float32)
    return np.asarray(F32(0.5) * x * (F32(1) + of))


def _mish(x: Array) -> Array:
    return np.asarray(x * np.tanh(_softplus(x)))


def _elu_like(x: Array) -> Array:
    return np.asarray(np.exp(np.minimum(x, 0)) - F32(1))


def _elu(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """Alpha * (exp(x) - 1), rounded at every step."""
    if not is_op(node, "Elu") or fmt_of(node) is not FLOAT32:
        return None
    alpha = F32(real(node, "alpha"))
    return lambda x: (np.asarray(np.where(x > 0, x, alpha * _elu_like(x)), np.float32),)


_DECOMPOSED = "within the limit of its decomposition"

VARIANTS: tuple[Variant, ...] = (
    Variant(
        "batch_norm_folded",
        "one multiply-add with folded constants",
        "what every compiler of inference does",
        "BatchNormalization",
        bind=_folded,
    ),
    *(
        Variant(
            f"norm_{spec.variance}_float32",
            f"layer normalisation in float32, variance by {words}",
            "declared variance",
            "LayerNormalization",
            bind=_norm(moments),
            declare=_claims(spec),
        )
        for spec, words, moments in (
            (ReduceSpec(variance="two_pass"), "two passes", _two_pass),
            (ReduceSpec(variance="one_pass"), "a difference of means", _one_pass),
            (ReduceSpec(variance="welford"), "Welford's recurrence", _welford),
        )
    ),
    Variant(
        "group_norm_folded",
        "instance and group normalisation as a slope and an offset of each channel",
        "declared normalization = folded; so do PyTorch's and onnxruntime's kernels",
        "InstanceNormalization, GroupNormalization",
        bind=_folded_groups,
        declare=_claims(ReduceSpec(normalization="folded")),
    ),
    Variant(
        "softmax_online",
        "one pass; the sum is scaled when the maximum grows",
        _DECOMPOSED,
        "Softmax",
        bind=_online_softmax,
    ),
    Variant(
        "log_softmax_decomposed",
        "(x - max) - log(sum), rounded at every step",
        _DECOMPOSED,
        "LogSoftmax",
        bind=_log_softmax,
    ),
    Variant(
        "gemm_scales_first",
        "alpha is multiplied into A, beta into C",
        "the order of a Gemm is unclaimed",
        "Gemm",
        bind=_gemm_scales_first,
    ),
    *(
        Variant(f"{op.lower()}_decomposed", summary, _DECOMPOSED, op, bind=_single(function, op))
        for op, summary, function in (
            ("Sigmoid", "1 / (1 + exp(-x)), rounded at every step", _sigmoid),
            ("Softplus", "max(x, 0) + log(1 + exp(-|x|))", _softplus),
            ("Tanh", "e / (2 + e) with e = expm1(-2|x|)", _tanh),
            ("Gelu", "x / 2 * (1 + erf(x / sqrt 2)), rounded at every step", _gelu),
            ("Mish", "x * tanh(softplus(x)), rounded at every step", _mish),
        )
    ),
    Variant("elu_decomposed", "alpha * (exp(x) - 1)", _DECOMPOSED, "Elu", bind=_elu),
)
