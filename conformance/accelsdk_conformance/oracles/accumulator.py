"""The declared accumulator, simulated on whole arrays: what tier T1 compares with.

A second writing of the model in ``accelsdk.numerics.accumulate`` (whose scalar form the tests
hold it against), from the same sentence: multiply exactly, align the products of one chunk and
the running sum to their largest exponent, drop what falls below, add, store. Numbers are kept
as float64 while every aligned sum fits 53 bits; where it might not, the case is simulated by
the scalar model.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from accelsdk.formats import FLOAT32, Format
from accelsdk.numerics.accumulate import AccumulatorSpec, dot
from accelsdk_conformance.oracles.contraction import field_exponent, floor_log2
from accelsdk_conformance.oracles.tensor import F64, Tensor

_SCALAR_WORK = 60_000  # products that the scalar model may be asked for in one case


def simulate(
    a: Tensor,
    b: Tensor,
    spec: AccumulatorSpec,
    *,
    a_exponent: NDArray[np.int64] | None = None,
    b_exponent: NDArray[np.int64] | None = None,
    block: int = 0,
) -> F64 | None:
    """Returns ``a[M, K] @ b[K, N]`` as the declared unit computes it.

    Returns:
        The stored sums, or None if the claim leaves open what a simulation needs, or the
        operands hold special values.
    """
    if spec.width is None or spec.order is None or spec.input_precision != "native":
        return None
    if spec.algorithm != "direct" or not (_finite(a) and _finite(b)):
        return None
    if _vectorises(a.format, b.format, spec):
        return _chunks(a, b, spec, a_exponent, b_exponent)
    if a.shape[0] * a.shape[1] * b.shape[1] > _SCALAR_WORK:
        return None
    return _scalar(a, b, spec, a_exponent, b_exponent, block)


def _finite(x: Tensor) -> bool:
    return bool(np.isfinite(x.values).all())


def _vectorises(a: Format, b: Format, spec: AccumulatorSpec) -> bool:
    """Whether an aligned sum of one chunk always fits the 53 bits of a float64."""
    plain = (
        spec.tree in (None, "sequential")
        and spec.promote_every is None
        and spec.product_bits is None
        and spec.align_exponent == "operand_fields"
        and spec.subnormals_in == spec.subnormals_out == "keep"
        and spec.align_rounding in ("rz", "rd", "ru", "rne")
        and not spec.keeps_sticky
        and spec.addend != "separate"
    )
    width = spec.width or 4096
    kept = spec.align_bits if spec.align_bits is not None else 99
    return plain and kept + 3 + width.bit_length() <= 52 and a.precision + b.precision <= 48


def _chunks(
    a: Tensor,
    b: Tensor,
    spec: AccumulatorSpec,
    a_exponent: NDArray[np.int64] | None,
    b_exponent: NDArray[np.int64] | None,
) -> F64:
    left, right = a.values, b.values
    fields = [field_exponent(left, a.format), field_exponent(right, b.format)]
    if a_exponent is not None:
        left, fields[0] = np.ldexp(left, a_exponent), fields[0] + a_exponent
    if b_exponent is not None:
        right, fields[1] = np.ldexp(right, b_exponent), fields[1] + b_exponent
    running = np.zeros((left.shape[0], right.shape[1]))
    for lanes in _lanes(left.shape[1], spec):
        products = left[:, lanes, None] * right[None, lanes, :]
        exponents = fields[0][:, lanes, None] + fields[1][None, lanes, :]
        running = _fuse(products, exponents, running, spec)
    return running


def _lanes(k: int, spec: AccumulatorSpec) -> list[NDArray[np.int64]]:
    """Returns the positions of K that each chunk takes."""
    width = spec.width or max(k, 1)
    every = np.arange(k)
    if spec.order == "even_odd":
        pairs = [every[i : i + 2 * width] for i in range(0, k, 2 * width)]
        return [half for pair in pairs for half in (pair[0::2], pair[1::2]) if len(half)]
    return [every[i : i + width] for i in range(0, k, width)]


def _fuse(products: F64, exponents: NDArray[np.int64], running: F64, spec: AccumulatorSpec) -> F64:
    """One chunk: align, add, store."""
    own = np.where(running != 0, np.maximum(floor_log2(running), spec.emin), -100_000)
    live = np.where(products != 0, exponents, -100_000)
    largest = np.maximum(live.max(axis=1, initial=-100_000), own)
    largest = np.maximum(largest, spec.align_floor)
    unit = np.ldexp(1.0, largest - (spec.align_bits or 0))
    total = _drop(products, unit[:, None, :], spec.align_rounding).sum(axis=1)
    total = total + _drop(running, unit, spec.align_rounding)
    exponent = np.maximum(floor_log2(total), spec.emin)
    step = np.ldexp(1.0, exponent - spec.significand_bits + 1)
    stored = _drop(total, step, spec.store_rounding)
    limit = float((1 << spec.significand_bits) - 1) * 2.0 ** (spec.emax - spec.significand_bits + 1)
    if spec.overflow == "wide":
        return stored
    beyond = limit if spec.overflow == "saturate" else np.inf
    return np.where(np.abs(stored) > limit, np.copysign(beyond, stored), stored)


def _drop(x: F64, unit: F64, mode: str) -> F64:
    steps = x / unit
    match mode:
        case "rz":
            return np.trunc(steps) * unit
        case "rd":
            return np.floor(steps) * unit
        case "ru":
            return np.ceil(steps) * unit
        case _:
            return np.rint(steps) * unit


def _scalar(
    a: Tensor,
    b: Tensor,
    spec: AccumulatorSpec,
    a_exponent: NDArray[np.int64] | None,
    b_exponent: NDArray[np.int64] | None,
    block: int,
) -> F64:
    left, right = a.values, b.values
    found = np.zeros((left.shape[0], right.shape[1]))
    for i, j in np.ndindex(found.shape):
        power = np.zeros(left.shape[1], np.int64)
        if a_exponent is not None:
            power = power + a_exponent[i]
        if b_exponent is not None:
            power = power + b_exponent[:, j]
        found[i, j] = dot(
            left[i].tolist(),
            right[:, j].tolist(),
            0.0,
            spec,
            a_fmt=a.format if a.format.is_float else FLOAT32,
            b_fmt=b.format if b.format.is_float else FLOAT32,
            scales=np.ldexp(1.0, power).tolist() if block else None,
            block_size=block or 32,
        )
    return found
