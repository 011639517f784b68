"""Defects of floating-point products and their accumulators."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from accelsdk.formats import FLOAT16, FLOAT32
from accelsdk.graph.graph import Node
from accelsdk.graph.types import Value
from accelsdk.kernels.kernel import Kernel, integer
from accelsdk.numerics.accumulate import AccumulatorSpec, Mode
from accelsdk_sim_card.defects.defect import Array, Bind, Defect, after, before, fmt_of, is_op
from accelsdk_sim_card.engines import half, narrow
from accelsdk_sim_card.engines.presets import CARD

if TYPE_CHECKING:
    from accelsdk_sim_card.arithmetic import Arithmetic

_PRODUCTS = ("MatMul", "MatMulInteger", "ScaledMatMul")


def _accumulator(other: Callable[[AccumulatorSpec], AccumulatorSpec], halves: bool = False) -> Bind:
    """Returns the binding of a matrix engine with another accumulator than it claims.

    Args:
        other: Makes the accumulator that it has of the one that it claims.
        halves: Whether products of 16-bit floats are concerned too.
    """

    def bind(node: Node, arithmetic: Arithmetic) -> Kernel | None:
        if is_op(node, "ScaledMatMul"):
            return narrow.bind(node, other(arithmetic.preset.narrow))
        if halves and half.concerns(node):
            return half.bind(node, other(arithmetic.preset.half or CARD))
        return None

    return bind


def _one_bit_short(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    spec = arithmetic.preset.narrow
    if not is_op(node, "ScaledMatMul") or spec.align_bits is None:
        return None
    return narrow.bind(node, replace(spec, align_bits=spec.align_bits - 1))


def _other_rounding(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    spec = arithmetic.preset.narrow
    mode: Mode = "rne" if spec.store_rounding == "rz" else "rz"
    return narrow.bind(node, replace(spec, store_rounding=mode)) if _is_narrow(node) else None


def _is_narrow(node: Node) -> bool:
    return is_op(node, "ScaledMatMul")


def _lost_last(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    if not is_op(node, *_PRODUCTS, "Gemm"):
        return None
    depth = _depth(node)
    if depth < 2:
        return None
    axis = 0 if is_op(node, "Gemm") and integer(node, "transA") else -1

    def drop(operands: list[Array | None]) -> None:
        a = operands[0]
        if a is not None:
            a = a.copy()
            zero = operands[2] if is_op(node, "MatMulInteger") and len(operands) > 2 else None
            np.moveaxis(a, axis, -1)[..., -1] = 0 if zero is None else zero.reshape(-1)[0]
            operands[0] = a

    return before(arithmetic.sound(node), drop)


def _depth(node: Node) -> int:
    first = node.operand(0)
    return first.shape[-1] if first is not None and first.shape else 0


def _doubled(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """The first product counts twice: the operands grow by a copy of it."""
    a, b = node.operand(0), node.operand(1)
    if not is_op(node, *_PRODUCTS) or a is None or b is None or min(len(a.shape), len(b.shape)) < 2:
        return None
    if not _depth(node) or node.attributes.get("block_size", 0):
        return None
    wider = replace(node, inputs=(_grown(a, -1), _grown(b, -2), *node.inputs[2:]))
    kernel = arithmetic.sound(wider)

    def broken(left: Array, right: Array, *rest: Array | None) -> tuple[Array, ...]:
        left = np.concatenate([left, left[..., :1]], axis=-1)
        right = np.concatenate([right, right[..., :1, :]], axis=-2)
        return kernel(left, right, *rest)

    return broken


def _grown(value: Value, axis: int) -> Value:
    shape = list(value.shape)
    shape[axis] += 1
    return replace(value, type=replace(value.type, shape=tuple(shape)))


def _stale_edge(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    shape = node.result.shape if is_op(node, *_PRODUCTS) else ()
    if len(shape) < 2 or shape[-2] < 3 or shape[-2] % 2 == 0:
        return None

    def stale(y: Array) -> Array:
        y = y.copy()
        y[..., -1, :] = y[..., -2, :]
        return y

    return after(arithmetic.sound(node), stale)


def _operands(change: Callable[[Array], Array], *ops: str) -> Bind:
    """Returns the binding of a float32 product whose operands are tampered with."""

    def bind(node: Node, arithmetic: Arithmetic) -> Kernel | None:
        if not is_op(node, *ops) or fmt_of(node) is not FLOAT32:
            return None

        def tamper(operands: list[Array | None]) -> None:
            operands[:2] = [None if x is None else change(x) for x in operands[:2]]

        return before(arithmetic.sound(node), tamper)

    return bind


def _tf32(x: Array) -> Array:
    bits = x.view(np.uint32) if x.flags.c_contiguous else x.copy().view(np.uint32)
    return (bits & np.uint32(0xFFFFE000)).view(np.float32)


def _stuck_bit(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    shape = node.result.shape if is_op(node, "MatMul", "ScaledMatMul", "Gemm") else ()
    if not shape or shape[-1] <= 5 or node.result.format is not FLOAT32:
        return None

    def stick(y: Array) -> Array:
        y = np.array(y)
        lane = np.ascontiguousarray(y[..., 5]).view(np.uint32) | np.uint32(1 << 12)
        y[..., 5] = lane.view(np.float32)
        return y

    return after(arithmetic.sound(node), stick)


def _half_result(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """Sums of float16 products saturate at 65504 on the way: fp16 accumulation."""
    if not half.concerns(node) or fmt_of(node) is not FLOAT16:
        return None
    return half.bind(node, replace(CARD, significand_bits=11, align_bits=12, width=1))


def _bias_twice(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    third = node.operand(2)
    if not is_op(node, "Conv", "ConvTranspose", "Gemm") or third is None:
        return None
    if not third.format.is_float:
        return None

    def twice(operands: list[Array | None]) -> None:
        if operands[2] is not None:
            operands[2] = operands[2] + operands[2]

    return before(arithmetic.sound(node), twice)


def _narrow_row(name: str, summary: str, seen: str, bind: Bind, of: str = "ScaledMatMul") -> Defect:
    return Defect(name=name, summary=summary, breaks=of, seen=seen, bind=bind)


_SUMS = "MatMul, MatMulInteger, ScaledMatMul"
_HALVES = "ScaledMatMul; MatMul and Conv on float16 and bfloat16"

DEFECTS: tuple[Defect, ...] = (
    _narrow_row(
        "accumulator_13_bits",
        "alignment keeps 13 fraction bits and sums 14 bits",
        "FP8 on Hopper and Ada",
        _accumulator(lambda spec: replace(spec, align_bits=13, significand_bits=14)),
    ),
    _narrow_row(
        "accumulator_one_bit_short",
        "alignment keeps one fraction bit less than claimed",
        "a datasheet that counts the hidden bit",
        _one_bit_short,
    ),
    _narrow_row(
        "accumulator_rounding",
        "sums are stored with truncation where nearest even is claimed, or the reverse",
        "all measured NVIDIA tensor cores truncate",
        _other_rounding,
    ),
    _narrow_row(
        "accumulator_fp16",
        "sums are kept with the 11 bits of float16",
        "fp16 accumulation switched on for speed",
        _accumulator(lambda spec: replace(spec, align_bits=13, significand_bits=11), halves=True),
        _HALVES,
    ),
    _narrow_row(
        "accumulator_bf16",
        "sums are kept with the 8 bits of bfloat16",
        "partial sums written to bfloat16 scratch memory",
        _accumulator(lambda spec: replace(spec, align_bits=10, significand_bits=8), halves=True),
        _HALVES,
    ),
    _narrow_row(
        "products_rounded",
        "each product is rounded to 4 bits",
        "a multiplier array that drops its lower half",
        _accumulator(lambda spec: replace(spec, product_bits=4)),
    ),
    Defect(
        name="last_element_lost",
        summary="the last product of every sum is dropped",
        breaks=f"{_SUMS}, Gemm",
        seen="a loop bound off by one",
        bind=_lost_last,
    ),
    Defect(
        name="element_doubled",
        summary="the first product of every sum counts twice",
        breaks=_SUMS,
        seen="a pipeline that replays its first beat",
        bind=_doubled,
    ),
    Defect(
        name="stale_edge_tile",
        summary="the last row repeats the one before where the number of rows is odd",
        breaks=_SUMS,
        seen="an edge tile that is not written",
        bind=_stale_edge,
    ),
    Defect(
        name="tf32_inputs",
        summary="operands are cut to 10 mantissa bits",
        breaks="MatMul, Conv, Gemm on float32",
        seen="TF32 on by default",
        bind=_operands(_tf32, "MatMul", "Conv", "Gemm"),
    ),
    Defect(
        name="fp16_sum_per_product",
        summary="the sum is rounded to float16 after every product",
        breaks="MatMul and Conv on float16",
        seen="hgemm with half accumulation",
        bind=_half_result,
    ),
    Defect(
        name="bias_twice",
        summary="the bias is added twice",
        breaks="Conv, ConvTranspose, Gemm",
        seen="a bias both preloaded and added at the end",
        bind=_bias_twice,
    ),
    Defect(
        name="stuck_lane_bit",
        summary="one mantissa bit of output lane 5 is stuck at one",
        breaks="MatMul, ScaledMatMul, Gemm, float32 results",
        seen="silent data corruption in one lane",
        bind=_stuck_bit,
    ),
)
