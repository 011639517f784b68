"""Convolutions and embeddings on whole numbers: sums that are exact in every order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from accelsdk.formats import FLOAT32, INT32, UINT8, Format, by_name
from accelsdk_conformance.case import Case
from accelsdk_conformance.generators import axes, data
from accelsdk_conformance.generators.convolution import Layout
from accelsdk_conformance.generators.embedding import FUSED, PLAIN, Bags, bag_axes
from accelsdk_conformance.generators.integer_claims import claim_of, mild, stored
from accelsdk_conformance.oracles.tensor import F64, Tensor, from_integers, represent
from accelsdk_conformance.problem import (
    Context,
    NotApplicable,
    Problem,
    always,
    expect_exact,
    shrinkable,
)


def convolution(case: Case, context: Context) -> Problem:
    """Conv and ConvInteger on whole numbers: strides, dilations, groups, uneven padding."""
    formats = [data.format_of(case, i) for i in range(2)]
    name = str(case.parameters["shape"])
    layout = Layout(*_CONVOLUTIONS[name])
    x_shape, w_shape = layout.x, layout.w
    rng = data.rng(case, context)
    if case.op == "ConvInteger":
        x, w = (_random(fmt, s, rng) for fmt, s in zip(formats, (x_shape, w_shape), strict=True))
        spec = claim_of(case, context, x, w)
        w = mild(spec, w)
        # Without a zero point it is zero.
        with_x, with_w = (name not in str(case.parameters.get("without", "")) for name in "xw")
        zero_x = _random(formats[0], (), rng) if with_x else None
        shape = () if case.parameters.get("scalar") else (w_shape[0],)
        zero_w = _random(formats[1], shape, rng) if with_w else None

        def make(x: Tensor, w: Tensor, zero_x: Tensor | None, zero_w: Tensor | None) -> Problem:
            now = layout.of(x, w)
            offset = zero_x.values if zero_x else 0.0
            flat = zero_w.values.reshape(-1, *[1] * (len(w.shape) - 1)) if zero_w else 0.0
            value = stored(spec, _convolve(x.values - offset, w.values - flat, now.attributes))
            return Problem(
                op=case.op,
                operands=(x, w, zero_x, zero_w),
                attributes=now.attributes,
                oracle=always(expect_exact(from_integers(value, INT32))),
            )

        return shrinkable(make, (x, w, zero_x, zero_w), axes.convolution)
    fmt = formats[0]
    _direct_sums(case, context, fmt)
    x = represent(rng.integers(-3, 4, x_shape), fmt)
    w = represent(rng.integers(-2, 3, w_shape), fmt)
    bias: Tensor | None = represent(rng.integers(-9, 10, w_shape[0]), fmt)
    if not case.parameters.get("bias", 1):
        bias = None

    def convolved(x: Tensor, w: Tensor, bias: Tensor | None) -> Problem:
        now = layout.of(x, w)
        value = _convolve(x.values, w.values, now.attributes)
        if bias is not None:
            value = value + bias.values.reshape(1, -1, *[1] * (len(w.shape) - 2))
        return Problem(
            op=case.op,
            operands=(x, w, bias),
            attributes=now.attributes,
            oracle=always(expect_exact(represent(value, fmt), signed_zero=False)),
        )

    return shrinkable(convolved, (x, w, bias), axes.convolution)


def _direct_sums(case: Case, context: Context, fmt: Format) -> None:
    """Declines where a fast algorithm is declared: it rounds sums of whole numbers, too.

    Raises:
        NotApplicable: It is; the cases of `convolution` hold it to its bound.
    """
    spec = context.datasheet.contraction(case.op, fmt.name, fmt.name, fmt.name)
    if spec is not None and spec.algorithm != "direct":
        raise NotApplicable(
            f"declared algorithm {spec.algorithm} rounds whole numbers, too: see the cases that "
            "hold it to its bound"
        )


_CONVOLUTIONS: dict[str, tuple[Any, Any, Any, Any, Any, int]] = {
    "plain2d": ((1, 3, 8, 9), (4, 3, 3, 3), (1, 1), (0, 0, 0, 0), (1, 1), 1),
    "padded2d": ((2, 3, 7, 6), (5, 3, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
    "uneven2d": ((1, 2, 7, 8), (3, 2, 3, 2), (2, 1), (0, 1, 2, 0), (1, 1), 1),
    "strided2d": ((1, 4, 11, 10), (6, 4, 3, 3), (2, 3), (1, 0, 1, 0), (1, 1), 1),
    "dilated2d": ((1, 2, 9, 10), (3, 2, 3, 3), (1, 1), (2, 2, 2, 2), (2, 2), 1),
    "grouped2d": ((1, 6, 6, 6), (4, 3, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 2),
    "depthwise2d": ((1, 8, 7, 7), (8, 1, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 8),
    "point2d": ((2, 33, 5, 5), (17, 33, 1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1),
    "line1d": ((2, 3, 20), (4, 3, 5), (2,), (2, 1), (1,), 1),
    "volume3d": ((1, 2, 4, 5, 5), (3, 2, 2, 3, 3), (1, 1, 1), (0, 1, 1, 1, 1, 1), (1, 1, 1), 1),
}


def _random(fmt: Format, shape: tuple[int, ...], rng: np.random.Generator) -> Tensor:
    return Tensor(fmt, rng.integers(0, 1 << fmt.bits, shape).astype(np.uint8))


def _convolve(x: F64, w: F64, attributes: Mapping[str, Any]) -> F64:
    """Direct convolution of whole numbers, exact in float64: one tap at a time."""
    strides, pads = attributes["strides"], attributes["pads"]
    dilations, group = attributes["dilations"], attributes["group"]
    rank = x.ndim - 2
    ends = [(0, 0), (0, 0), *((pads[i], pads[i + rank]) for i in range(rank))]
    padded = np.pad(x, ends)
    extents = [
        (padded.shape[2 + i] - ((w.shape[2 + i] - 1) * dilations[i] + 1)) // strides[i] + 1
        for i in range(rank)
    ]
    if min(extents) < 1:
        raise ValueError("a window is wider than its axis")
    out = np.zeros((x.shape[0], w.shape[0], *extents))
    per, inner = w.shape[0] // group, w.shape[1]
    for tap in np.ndindex(*w.shape[2:]):
        place = tuple(
            slice(t * d, t * d + (n - 1) * s + 1, s)
            for t, d, n, s in zip(tap, dilations, extents, strides, strict=True)
        )
        part = padded[(slice(None), slice(None), *place)]
        for g in range(group):
            weights = w[(slice(g * per, (g + 1) * per), slice(None), *tap)]
            block = part[:, g * inner : (g + 1) * inner]
            out[:, g * per : (g + 1) * per] += np.moveaxis(
                np.tensordot(weights, block, axes=([1], [1])), 0, 1
            )
    return out


#: Input, weights, strides, pads, dilations, output padding, groups.
_TRANSPOSED: dict[str, tuple[Any, Any, Any, Any, Any, Any, int]] = {
    "dilated": ((1, 2, 4, 5), (2, 3, 3, 2), (1, 2), (0, 0, 0, 0), (2, 3), (0, 0), 1),
    "extended": ((1, 2, 4, 5), (2, 3, 3, 3), (2, 3), (1, 1, 1, 1), (1, 1), (1, 2), 1),
    "uneven": ((2, 4, 5, 3), (4, 1, 2, 3), (3, 1), (0, 1, 1, 0), (1, 1), (2, 0), 2),
    "line": ((2, 3, 7), (3, 4, 4), (3,), (1, 2), (1,), (1,), 1),
    "volume": (
        (1, 2, 3, 2, 3), (2, 2, 2, 3, 2), (2, 1, 2), (0, 1, 0, 1, 1, 0), (1, 1, 1), (0, 0, 1), 1
    ),
    "channels": ((1, 35, 3, 4), (35, 37, 2, 3), (2, 1), (0, 1, 1, 0), (1, 1), (0, 0), 1),
    "wide": ((1, 2, 3, 70), (2, 3, 3, 3), (1, 2), (1, 1, 1, 1), (1, 1), (0, 1), 1),
    "depthwise": ((1, 3, 4, 4), (3, 1, 3, 3), (2, 2), (1, 1, 1, 1), (1, 1), (1, 1), 3),
    "dilated_extended": ((2, 2, 4, 5), (2, 3, 3, 2), (2, 3), (1, 0, 1, 1), (2, 3), (1, 2), 1),
    "dilated_extended_line": ((2, 3, 6), (3, 4, 3), (3,), (2, 1), (2,), (2,), 1),
    "dilated_extended_volume": (
        (1, 2, 2, 3, 2), (2, 2, 2, 2, 2), (2, 1, 3), (1, 0, 1, 0, 1, 0), (2, 2, 1), (1, 0, 2), 1
    ),
    "dilated_grouped": ((1, 4, 4, 3), (4, 3, 2, 3), (1, 2), (1, 0, 0, 1), (3, 2), (0, 1), 2),
    "dilated_depthwise": ((1, 5, 4, 3), (5, 1, 3, 3), (2, 2), (2, 2, 2, 2), (2, 2), (1, 1), 5),
    "depthwise_line": ((2, 5, 7), (5, 1, 4), (2,), (1, 1), (1,), (0,), 5),
    "depthwise_volume": (
        (1, 3, 2, 3, 2), (3, 2, 3, 2, 3), (2, 2, 2), (1, 0, 1, 1, 0, 1), (1, 1, 1), (1, 0, 1), 3
    ),
    "gaps": ((1, 3, 3, 4), (3, 2, 2, 1), (3, 2), (0, 0, 0, 0), (1, 1), (2, 1), 1),
    "batch": ((5, 2, 3, 4), (2, 3, 3, 3), (2, 2), (1, 1, 1, 1), (1, 1), (1, 1), 1),
    "outputs": ((1, 3, 2, 3), (3, 131, 2, 2), (2, 2), (0, 0, 0, 0), (1, 1), (0, 0), 1),
}  # fmt: skip


def transposed(case: Case, context: Context) -> Problem:
    """ConvTranspose on whole numbers: each input value adds its kernel to the output."""
    fmt = data.format_of(case, 0)
    _direct_sums(case, context, fmt)
    given = case.parameters
    if "shape" in given:
        x_shape, w_shape, strides, pads, dilations, extra, group = _TRANSPOSED[str(given["shape"])]
    else:
        stride, pad, more, group = (int(given[k]) for k in ("stride", "pad", "extra", "group"))
        x_shape, w_shape, strides, pads = (2, 4, 5, 6), (4, 3, 3, 3), (stride,) * 2, (pad,) * 4
        dilations, extra = (1, 1), (more, more)
    rng = data.rng(case, context)
    x = represent(rng.integers(-3, 4, x_shape), fmt)
    w = represent(rng.integers(-2, 3, w_shape), fmt)
    bias = represent(rng.integers(-9, 10, w_shape[1] * group), fmt) if given.get("bias") else None
    each = x_shape[1] // group

    def make(x: Tensor, w: Tensor, bias: Tensor | None = None) -> Problem:
        attributes: dict[str, Any] = {
            "strides": strides,
            "pads": pads,
            "dilations": dilations,
            "group": axes.groups_of(x, each),
            "output_padding": extra,
        }
        value = _spread(x.values, w.values, attributes)
        if bias is not None:
            value = value + bias.values.reshape(1, -1, *[1] * (len(w.shape) - 2))
        return Problem(
            op=case.op,
            operands=(x, w) if bias is None else (x, w, bias),
            attributes=attributes,
            oracle=always(expect_exact(represent(value, fmt), signed_zero=False)),
        )

    operands = (x, w) if bias is None else (x, w, bias)
    return shrinkable(make, operands, lambda *given: axes.transposed(each, *given))


def _spread(x: F64, w: F64, attributes: Mapping[str, Any]) -> F64:
    """Adds each input times the kernel where it falls, tap by tap, then cuts the pads off."""
    strides, pads, dilations = (attributes[key] for key in ("strides", "pads", "dilations"))
    extra, group = attributes["output_padding"], attributes["group"]
    rank, extents, kernel = x.ndim - 2, x.shape[2:], w.shape[2:]
    full = [
        (extents[i] - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1 + extra[i]
        for i in range(rank)
    ]
    if any(n <= pads[i] + pads[i + rank] for i, n in enumerate(full)):
        raise ValueError("pads cut everything off")
    out = np.zeros((x.shape[0], w.shape[1] * group, *full))
    inner, outer = x.shape[1] // group, w.shape[1]
    for tap in np.ndindex(*kernel):
        place = tuple(
            slice(tap[i] * dilations[i], tap[i] * dilations[i] + (extents[i] - 1) * strides[i] + 1,
                  strides[i])
            for i in range(rank)
        )  # fmt: skip
        for g in range(group):
            own = slice(g * inner, (g + 1) * inner)
            part = np.tensordot(w[(own, slice(None), *tap)], x[:, own], axes=([0], [1]))
            target = (slice(None), slice(g * outer, (g + 1) * outer), *place)
            out[target] += np.moveaxis(part, 0, 1)
    cut = tuple(slice(pads[i], full[i] - pads[i + rank]) for i in range(rank))
    return out[(slice(None), slice(None), *cut)]


def embedding(case: Case, context: Context) -> Problem:
    """Sums of table rows: repeated, empty and weighted bags, powers of two as scales."""
    bits = int(case.parameters.get("bits", 0))
    weighted = bool(case.parameters["weighted"])
    rng = data.rng(case, context)
    columns, rows = int(case.parameters.get("columns", 19)), 50
    lengths = np.array([0, 1, 5, 0, 33, 2])
    indices = rng.integers(0, rows, lengths.sum())
    weights = rng.choice([0.5, 1.0, 2.0, -1.0], len(indices)) if weighted else np.ones(len(indices))
    if bits:
        table, out = _fused(rows, columns, bits, rng), FLOAT32
    else:
        out = data.format_of(case, 0)
        table = represent(rng.integers(-8, 9, (rows, columns)), out)

    def make(*given: Tensor | None) -> Problem:
        bags = Bags.fitted(*given)
        scale, codes, bias = bags.rows(bits, columns, table)
        index, counts, factors = bags.items()
        sums = np.zeros((len(counts), codes.shape[1]))
        terms = (scale * codes + bias)[index] * factors[:, None]
        np.add.at(sums, np.repeat(np.arange(len(counts)), counts), terms)
        return Problem(
            op=case.op,
            operands=bags.operands,
            attributes={"bits": bits, "columns": codes.shape[1]} if bits else {},
            oracle=always(expect_exact(represent(sums, out), signed_zero=False)),
        )

    operands = (
        table,
        from_integers(indices, by_name(str(case.parameters.get("indices", "int64")))),
        from_integers(lengths, by_name(str(case.parameters.get("lengths", "int32")))),
        represent(weights, FLOAT32) if weighted else None,
    )
    return shrinkable(make, operands, bag_axes, fixed=FUSED if bits else PLAIN)


def _fused(rows: int, columns: int, bits: int, rng: np.random.Generator) -> Tensor:
    """Returns fused rows: codes, scale, bias."""
    codes = rng.integers(0, 1 << bits, (rows, columns))
    scale, bias = rng.choice([0.25, 0.5, 1.0], rows), rng.integers(-4, 5, rows).astype(np.float64)
    per = 8 // bits
    padded = np.zeros((rows, -(-columns // per) * per), np.int64)
    padded[:, :columns] = codes
    shifts = np.arange(per) * bits
    packed = (padded.reshape(rows, -1, per) << shifts).sum(axis=2).astype(np.uint8)
    kind = np.float32 if bits == 8 else np.float16
    tail = np.stack([scale, bias], axis=1).astype(kind).view(np.uint8).reshape(rows, -1)
    return Tensor(UINT8, np.concatenate([packed, tail], axis=1))
