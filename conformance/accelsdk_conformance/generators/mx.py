"""Block quantisation to OCP MX formats: every rule, lane, tail and special value."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.backend.datasheet import MxSpec
from accelsdk.formats import E8M0, FLOAT32, MXINT8, Format, by_name
from accelsdk_conformance.case import Case
from accelsdk_conformance.generators import axes, data
from accelsdk_conformance.oracles import conversion as oracle
from accelsdk_conformance.oracles.tensor import F64, Tensor, encode
from accelsdk_conformance.problem import (
    Context,
    Exact,
    Expected,
    Problem,
    Promise,
    Tier,
    always,
    expect_exact,
    shrinkable,
)
from accelsdk_conformance.seeing import Seeing

#: Makes float32 data, and says along which axis their blocks lie.
BlockSet = Callable[[Format, np.random.Generator], tuple[F64, int]]


def quantize_block(case: Case, context: Context) -> Problem:
    """One set of blocks under one scale rule; the elements are held to the device's scales.

    Formats are (element), or (source, element) where the source is not float32.
    """
    element = data.format_of(case, -1)
    source = data.format_of(case, 0) if len(case.formats) > 1 else FLOAT32
    rng = data.rng(case, context)
    given, axis = _block_set(str(case.parameters["set"]))(element, rng)
    size = int(case.parameters.get("block_size", 32))
    spec = context.datasheet.block(source.name, element.name)
    rule = str(case.parameters.get("rule") or (spec.scale_rule if spec else "floor"))
    attributes: dict[str, Any] = {"to": element.name, "axis": axis, "block_size": size}
    if rule != "other":
        attributes["rule"] = rule

    how = {
        **{"axis": axis, "block_size": size, "element": element.name, "rule": rule},
        "spec": asdict(spec) if spec else None,
    }

    def make(operand: Tensor) -> Problem:
        made = Problem(
            op="QuantizeBlock",
            operands=(operand,),
            attributes=attributes,
            outputs=2,
            oracle=Seeing(judged_blocks, (operand,), how),
        )
        rest = operand.shape[axis] % size
        if spec is None or spec.tail == "reject" or not rest or rest == operand.shape[axis]:
            return made
        whole = np.moveaxis(np.moveaxis(operand.codes, axis, 0)[:-rest], 0, axis)
        claim = f"mx[{source}, {element}].tail"
        return replace(made, promise=Promise(claim, make(Tensor(operand.format, whole))))

    return shrinkable(
        make, (_narrowed(given, source),), lambda *given: axes.granular(axis, size, *given)
    )


def judged_blocks(
    operands: Sequence[Tensor | None], how: Mapping[str, Any], outputs: tuple[Tensor, ...]
) -> tuple[Expected, ...]:
    """Judges QuantizeBlock: elements are held to the scales that the device gave."""
    (x,) = operands
    if x is None:
        raise TypeError("QuantizeBlock of nothing")
    element, spec = by_name(how["element"]), MxSpec(**how["spec"]) if how["spec"] else None
    return _block_expected(
        x.values, how["axis"], how["block_size"], element, how["rule"], spec, outputs[1]
    )


def _narrowed(x: F64, source: Format) -> Tensor:
    """Rounds float32 values to another source; what it cannot hold becomes its largest value."""
    tensor = encode(x, source)
    lost = np.isfinite(x) & ~np.isfinite(tensor.values)
    return encode(np.where(lost, np.copysign(source.max, x), x), source)


def _block_expected(
    x: F64,
    axis: int,
    size: int,
    element: Format,
    rule: str,
    spec: MxSpec | None,
    scales: Tensor,
) -> tuple[Expected, ...]:
    how = spec or MxSpec()
    grouped, restore = oracle.blocks(x, axis, size)
    base = "floor" if rule == "other" else rule
    wanted = oracle.block_scales(
        grouped, element, base, inf_rule=how.inf_rule, flush=how.flush_fp32_subnormals
    )
    others: tuple[NDArray[Any], ...] = ()
    if rule == "other":
        others = (np.minimum(wanted + 1, 254),)
    infinite = np.asarray(np.isinf(grouped).any(axis=-1) & ~np.isnan(grouped).any(axis=-1))
    claim = f"mx[float32, {element}].scale_rule" if spec else ""
    moved = tuple(np.moveaxis(part, -1, axis).astype(np.uint8) for part in (wanted, *others))
    # OCP MX leaves infinities open; a claim is one of the rule that it names.
    claimed = spec is not None and spec.scale_rule == rule and how.inf_rule != "other"
    left_open = infinite & (not claimed)
    if how.nan_rule == "other":
        left_open |= np.isnan(grouped).any(axis=-1)
    free = np.moveaxis(left_open, -1, axis)
    scale_codes = Exact(moved[0], None, free, True, moved[1:])
    scale = Expected(E8M0, moved[0].shape, ((Tier.T0, scale_codes),), Tier.T0, claim)
    own = wanted
    if scales.shape == moved[0].shape:
        own = np.moveaxis(scales.codes.astype(np.int64), axis, -1)
    plain = np.where(np.isfinite(grouped), grouped, 0.0)
    if how.flush_fp32_subnormals:
        plain = np.where(np.abs(plain) < 2.0**-126, 0.0, plain)
    rounded = restore(oracle.block_elements(plain, own, element).codes.astype(np.float64))
    codes: NDArray[np.uint8] = rounded.astype(np.uint8)
    ignored = restore(np.repeat((own == 0xFF)[..., None], size, axis=-1).astype(np.float64)) > 0
    ignored |= ~np.isfinite(x)
    lowest: tuple[NDArray[Any], ...] = ()
    if element == MXINT8:
        second = np.where(codes == 0x80, 0x81, codes).astype(np.uint8)
        codes, lowest = (second, ()) if how.int8_min == -127 else (codes, (second,))
        if spec is not None and how.int8_min == -128:
            lowest = ()
    elements = expect_exact(
        Tensor(element, codes),
        nan=np.zeros(codes.shape, bool),
        free=ignored,
        signed_zero=False,
        others=lowest,
        claim=f"mx[float32, {element}]" if spec else "",
    )
    return elements, scale


def _amax_set(element: Format, rng: np.random.Generator) -> tuple[F64, int]:
    """Each mantissa at which a rule turns over, as amax in every lane and of both signs."""
    largest = element.max / 2.0**element.emax
    step = 2.0 ** -(element.mantissa_bits + 1)
    turning = np.array([1.0, largest, largest + step, 2 - step, 1.5, 2 - 2.0**-23, 1 + 2.0**-23])
    near = np.concatenate([turning, turning - 2.0**-23, turning + 2.0**-23])
    mantissas = np.unique(near[(near >= 1) & (near < 2)])
    rows = []
    for index, mantissa in enumerate(mantissas):
        for exponent in (0, -20, 31, 100, -126 + element.emax, -118):
            block = rng.uniform(-1, 1, 32) * 2.0**exponent
            lane = (index * 7 + exponent) % 32
            block[lane] = (-1) ** index * mantissa * 2.0**exponent
            rows.append(block)
    for lane in range(32):
        for sign in (1, -1):
            block = rng.uniform(-0.9, 0.9, 32)
            block[lane] = sign * 1.375
            rows.append(block)
    return oracle.float32(np.array(rows)), -1


def _edge_set(element: Format, rng: np.random.Generator) -> tuple[F64, int]:
    """Just below powers of two, subnormals, zeros, and blocks that hold one tiny number."""
    tops = [np.nextafter(np.float32(2.0**k), np.float32(0)) for k in (3, 8, 10, 32, 65, 127)]
    amaxes = [*tops, 1024 * (1 - 2.0**-20), 2.0**-120, 2.0**-127, 2.0**-149, 2.0**-126, 0.0]
    rows = []
    for amax in amaxes:
        for fill in (0.0, 0.3, 1.0):
            block = rng.uniform(-1, 1, 32) * fill * float(amax)
            block[int(rng.integers(32))] = float(amax)
            rows.append(block)
    rows += [np.zeros(32), -np.zeros(32)]
    return oracle.float32(np.array(rows)), -1


def _special_set(element: Format, rng: np.random.Generator) -> tuple[F64, int]:
    """NaN and infinities in every lane, alone and beside each other."""
    rows = []
    for lane in range(32):
        for value in (np.nan, np.inf, -np.inf):
            block = rng.normal(size=32)
            block[lane] = value
            rows.append(block)
    both = rng.normal(size=32)
    both[3], both[29] = np.inf, np.nan
    return oracle.float32(np.array([*rows, both, rng.normal(size=32)])), -1


def _special_tail_set(element: Format, rng: np.random.Generator) -> tuple[F64, int]:
    """NaN and infinities in every lane of a short last block, behind a whole one without."""
    rows = rng.normal(size=(17, 37))
    rows[np.arange(15), 32 + np.arange(15) // 3] = np.tile([np.nan, np.inf, -np.inf], 5)
    rows[15, 33], rows[15, 36] = np.inf, np.nan
    return oracle.float32(rows), -1


def _tie_set(element: Format, rng: np.random.Generator) -> tuple[F64, int]:
    """Element midpoints and their neighbours under a known scale, at several exponents."""
    if element.is_float:
        grid = data.boundaries(element, FLOAT32)
    else:
        grid = data.both_signs(np.arange(0, 256) / 128)
    grid = grid[np.abs(grid) <= element.max]
    count = -(-len(grid) // 31)
    body = np.zeros(count * 31)
    body[: len(grid)] = grid
    lead = np.full((count, 1), 2.0**element.emax)
    block = np.concatenate([lead, body.reshape(count, 31)], axis=1)
    return np.concatenate([block, block * 2.0**-40, block * 2.0**60]), -1


def _noise_set(element: Format, rng: np.random.Generator) -> tuple[F64, int]:
    """Ordinary data with outliers and wide ranges."""
    x = rng.normal(size=(16, 256)) * np.exp2(rng.integers(-12, 12, (16, 256)))
    return oracle.float32(x), -1


def _shaped(shape: tuple[int, ...], axis: int) -> BlockSet:
    def make(element: Format, rng: np.random.Generator) -> tuple[F64, int]:
        ramp = np.exp2(np.arange(math.prod(shape)).reshape(shape) % 23 - 11)
        return oracle.float32(ramp * rng.uniform(-1.9, 1.9, shape)), axis

    return make


def _stale_set(element: Format, rng: np.random.Generator) -> tuple[F64, int]:
    """Rows of odd lengths, each far smaller than the next: a lane too many shows in the scale."""
    size = np.exp2(rng.permutation(np.arange(-60, 60, 5)))
    rows = rng.uniform(0.5, 1.9, (24, 37)) * np.sort(size)[:, None]
    return oracle.float32(rows * rng.choice([-1.0, 1.0], rows.shape)), -1


def _neighbour_set(element: Format, rng: np.random.Generator) -> tuple[F64, int]:
    """Blocks of one row that differ by powers of two: a block's border in the wrong place shows."""
    steps = np.repeat(np.exp2(rng.permutation(np.arange(-20, 20, 2))), 16)
    rows = rng.uniform(1.0, 1.99, (3, len(steps))) * steps
    return oracle.float32(rows * rng.choice([-1.0, 1.0], rows.shape)), -1


def _block_set(name: str) -> BlockSet:
    if name.startswith("tail"):
        return _shaped((5, 32 + int(name[4:])), -1)
    return _BLOCK_SETS[name]


_BLOCK_SETS: dict[str, BlockSet] = {
    "amax": _amax_set,
    "edges": _edge_set,
    "specials": _special_set,
    "special_tails": _special_tail_set,
    "ties": _tie_set,
    "noise": _noise_set,
    "stale": _stale_set,
    "neighbours": _neighbour_set,
    "short": _shaped((7, 5), -1),
    "vector": _shaped((77,), 0),
    "rank4": _shaped((2, 3, 40, 2), -2),
    "empty": _shaped((3, 0), -1),
    "none": _shaped((0, 33), 1),
    "axis0": _shaped((70, 9), 0),
    "axis1": _shaped((3, 65, 5), 1),
}


def dequantize_block(case: Case, context: Context) -> Problem:
    """Every code under every scale: edges, NaN scale, subnormal and overflowing products.

    Blocks of a row have different scales, and rows have them in another order.
    """
    element = data.format_of(case, 0)
    target = data.format_of(case, 1) if len(case.formats) > 1 else FLOAT32
    axis, size = int(case.parameters.get("axis", -1)), int(case.parameters.get("block_size", 32))
    codes = np.arange(1 << element.bits)
    scales = np.array([0, 1, 2, 60, 117, 126, 127, 128, 140, 200, 246, 247, 253, 254, 255])
    if case.parameters.get("scales") == "all":  # five codes under each of the 256 scales
        scales = np.arange(256)
        codes = codes[:: max(1, len(codes) // 5)]
    width = -(-len(codes) // size) * size
    extent = {"0": width, "1": width - 5, "one": width + 1}[str(case.parameters.get("tail", 0))]
    grid = np.resize(codes, (len(scales), extent))
    blocks = -(-grid.shape[1] // size)
    order = np.arange(len(scales))[:, None] + 4 * np.arange(blocks)
    scale_grid = scales[order % len(scales)]
    elements, scale = grid.astype(np.uint8), scale_grid.astype(np.uint8)
    if axis == 0:
        elements, scale = elements.T, scale.T
    if axis == 1:  # in the middle
        elements, scale = (np.stack([part, part[::-1]], axis=-1) for part in (elements, scale))

    def make(elements: Tensor, scale: Tensor) -> Problem:
        if scale.shape[axis] != -(-elements.shape[axis] // size):
            raise ValueError("no scale for each block")
        wide = np.repeat(scale.codes.astype(np.int64), size, axis=axis)
        wide = wide.take(range(elements.shape[axis]), axis=axis)
        converted = oracle.dequantize_block(elements.values[..., None], wide, target)
        tensor = Tensor(target, converted.tensor.codes[..., 0])
        expected = expect_exact(tensor, free=converted.free[..., 0], signed_zero=False)
        return Problem(
            op="DequantizeBlock",
            operands=(elements, scale),
            attributes={"axis": axis, "block_size": size, "to": target.name},
            oracle=always(expected),
        )

    operands = (Tensor(element, elements), Tensor(E8M0, scale))
    return shrinkable(make, operands, lambda *given: axes.granular(axis, size, *given))
