"""Convolutions as the matrix products that they are: windows times weights, judged at every tier.

A transposed convolution is the convolution of its input, zeros put between the elements, with the
kernel turned around. Grouped weights become a matrix with zeros where a window's channel belongs
to another group; zero products count in no bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsdk.formats import INT32, Format
from accelsdk_conformance.case import Case
from accelsdk_conformance.generators import axes, data, grids
from accelsdk_conformance.generators.integer_claims import claim_of, mild, stored
from accelsdk_conformance.generators.products import Product, assert_exact, floor_bits, judged
from accelsdk_conformance.oracles.tensor import Codes, Tensor, encode, from_integers, represent
from accelsdk_conformance.problem import Context, Problem, always, expect_exact, shrinkable


@dataclass(frozen=True, slots=True)
class Layout:
    """Extents of one convolution.

    Attributes:
        x: Input, [N, C, ...].
        w: Kernel, [O, C / group, ...].
        strides: One for each spatial axis, as are the dilations.
        pads: Begins, then ends.
        dilations: Distance of taps.
        group: Groups of channels.
    """

    x: tuple[int, ...]
    w: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dilations: tuple[int, ...]
    group: int = 1

    @property
    def attributes(self) -> dict[str, Any]:
        """Attributes of the node."""
        return {
            "strides": self.strides,
            "pads": self.pads,
            "dilations": self.dilations,
            "group": self.group,
        }

    def of(self, x: Tensor, w: Tensor) -> Layout:
        """Returns the layout of other operands.

        Raises:
            ValueError: Their channels do not fit.
        """
        group, rest = divmod(x.shape[1], w.shape[1])
        if rest or not group or w.shape[0] % group:
            raise ValueError(f"weights {w.shape} of {x.shape[1]} channels")
        return replace(self, x=x.shape, w=w.shape, group=group)


LAYOUTS = {
    "plain": Layout((1, 3, 8, 9), (4, 3, 3, 3), (1, 1), (0, 0, 0, 0), (1, 1)),
    "padded": Layout((2, 3, 7, 6), (5, 3, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1)),
    "uneven": Layout((1, 2, 7, 8), (3, 2, 3, 2), (2, 1), (0, 1, 2, 0), (1, 1)),
    "begin_only": Layout((1, 2, 6, 7), (3, 2, 3, 3), (1, 1), (2, 1, 0, 0), (1, 1)),
    "end_only": Layout((1, 2, 6, 7), (3, 2, 3, 3), (1, 1), (0, 0, 1, 2), (1, 1)),
    "far_pads": Layout((1, 2, 3, 4), (3, 2, 3, 3), (1, 1), (4, 3, 3, 4), (1, 1)),
    "strided": Layout((1, 4, 11, 10), (6, 4, 3, 3), (2, 3), (1, 0, 1, 0), (1, 1)),
    "sparse_stride": Layout((1, 3, 12, 11), (4, 3, 2, 2), (4, 5), (0, 0, 0, 0), (1, 1)),
    "dilated": Layout((1, 2, 9, 10), (3, 2, 3, 3), (1, 1), (2, 2, 2, 2), (2, 2)),
    "dilated_uneven": Layout((1, 2, 11, 10), (3, 2, 2, 3), (1, 2), (1, 0, 0, 3), (3, 2)),
    "grouped": Layout((1, 6, 6, 6), (4, 3, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 2),
    "grouped3": Layout((2, 9, 5, 4), (6, 3, 3, 1), (1, 1), (1, 0, 1, 0), (1, 1), 3),
    "depthwise": Layout((1, 8, 7, 7), (8, 1, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 8),
    "multiplier": Layout((1, 4, 6, 6), (12, 1, 3, 3), (2, 2), (1, 1, 1, 1), (1, 1), 4),
    "point": Layout((2, 33, 5, 5), (17, 33, 1, 1), (1, 1), (0, 0, 0, 0), (1, 1)),
    "point_strided": Layout((1, 31, 7, 6), (9, 31, 1, 1), (2, 3), (0, 0, 0, 0), (1, 1)),
    "whole": Layout((3, 5, 4, 6), (7, 5, 4, 6), (1, 1), (0, 0, 0, 0), (1, 1)),
    "deep": Layout((1, 129, 4, 4), (3, 129, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1)),
    # Sums of 255 * 255 that are odd beyond 2**24, where float32 ends, and that wrap 32 bits.
    "sums_of_25_bits": Layout((2, 37, 2, 7), (4, 37, 1, 7), (1, 1), (0, 0, 0, 0), (1, 1)),
    "sums_of_32_bits": Layout((2, 33029, 1, 1), (2, 33029, 1, 1), (1, 1), (0, 0, 0, 0), (1, 1)),
    "line": Layout((2, 3, 20), (4, 3, 5), (2,), (2, 1), (1,)),
    "line_dilated": Layout((1, 4, 23), (6, 2, 3), (3,), (0, 4), (4,), 2),
    "volume": Layout((1, 2, 4, 5, 5), (3, 2, 2, 3, 3), (1,) * 3, (0, 1, 1, 1, 1, 1), (1,) * 3),
    "volume_strided": Layout(
        (1, 4, 5, 4, 6), (4, 2, 2, 2, 3), (2, 1, 2), (1, 0, 0, 0, 1, 2), (1, 2, 1), 2
    ),
    "wide": Layout((1, 3, 4, 150), (4, 3, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1)),
    "outputs": Layout((1, 5, 4, 5), (70, 5, 1, 1), (1, 1), (0, 0, 0, 0), (1, 1)),
    "tails": Layout((3, 37, 5, 5), (19, 37, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1)),
    "point_padded": Layout((1, 3, 4, 5), (4, 3, 1, 1), (1, 1), (1, 0, 2, 1), (1, 1)),
    "beyond": Layout((1, 2, 3, 4), (3, 2, 5, 6), (1, 1), (2, 2, 1, 3), (1, 1)),
    "seven": Layout((1, 2, 11, 12), (3, 2, 7, 7), (2, 2), (3, 3, 3, 3), (1, 1)),
    "depthwise_dilated": Layout((1, 6, 9, 9), (6, 1, 3, 3), (1, 1), (2, 1, 2, 3), (2, 2), 6),
    "depthwise_many": Layout((1, 67, 5, 5), (67, 1, 3, 3), (2, 1), (1, 1, 1, 1), (1, 1), 67),
    "grouped_many": Layout((1, 51, 4, 4), (34, 3, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 17),
    # What the layers of models have, and seams lie between: many outputs, inputs of a group and
    # images, one channel a group along each number of axes, long and large kernels.
    "outputs130": Layout((1, 3, 4, 3), (130, 3, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1)),
    "outputs257": Layout((1, 4, 2, 3), (257, 4, 1, 1), (1, 1), (0, 0, 0, 0), (1, 1)),
    "outputs_line": Layout((2, 3, 9), (145, 3, 3), (2,), (1, 1), (1,)),
    "outputs_grouped": Layout((1, 6, 3, 3), (264, 3, 1, 2), (1, 1), (0, 0, 0, 0), (1, 1), 2),
    "inputs_grouped": Layout((1, 518, 2, 3), (4, 259, 1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 2),
    "batch4": Layout((4, 3, 5, 4), (5, 3, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1)),
    "batch9": Layout((9, 4, 4, 5), (6, 2, 3, 2), (2, 1), (1, 0, 1, 1), (1, 1), 2),
    "batch_line": Layout((5, 3, 11), (4, 3, 3), (1,), (2, 0), (1,)),
    "batch_volume": Layout(
        (6, 2, 3, 3, 4), (3, 2, 2, 2, 3), (1,) * 3, (0, 1, 1, 1, 0, 1), (1,) * 3
    ),
    "batch33": Layout((33, 2, 3, 2), (3, 2, 1, 1), (1, 1), (0, 0, 0, 0), (1, 1)),
    "depthwise_line": Layout((2, 7, 13), (7, 1, 3), (1,), (1, 1), (1,), 7),
    "depthwise_line_uneven": Layout((1, 5, 17), (10, 1, 4), (2,), (3, 0), (2,), 5),
    "depthwise_volume": Layout((1, 5, 4, 5, 3), (5, 1, 3, 3, 3), (1,) * 3, (1,) * 6, (1,) * 3, 5),
    "depthwise_volume_uneven": Layout(
        (2, 3, 5, 4, 6), (6, 1, 2, 1, 3), (2, 1, 3), (1, 0, 2, 0, 0, 1), (1, 1, 2), 3
    ),
    "depthwise_strided": Layout((2, 6, 9, 8), (6, 1, 5, 5), (2, 2), (2, 2, 2, 2), (1, 1), 6),
    "grouped_dilated": Layout((2, 6, 9, 8), (8, 3, 3, 2), (2, 1), (2, 0, 1, 2), (2, 3), 2),
    "column": Layout((1, 3, 11, 4), (4, 3, 7, 1), (1, 1), (3, 0, 3, 0), (1, 1)),
    "row": Layout((1, 3, 4, 11), (4, 3, 1, 7), (1, 2), (0, 3, 0, 3), (1, 1)),
    "large_kernel": Layout((1, 3, 12, 9), (3, 1, 21, 13), (1, 1), (10, 6, 10, 6), (1, 1), 3),
    "tall": Layout((1, 2, 140, 3), (3, 2, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1)),
    "long_line": Layout((1, 2, 300), (3, 2, 5), (1,), (4, 0), (1,)),
    "no_batch": Layout((0, 3, 5, 5), (2, 3, 3, 3), (1, 1), (0, 0, 0, 0), (1, 1)),
    "one": Layout((1, 1, 1, 1), (1, 1, 1, 1), (1, 1), (0, 0, 0, 0), (1, 1)),
}


def convolution(case: Case, context: Context) -> Problem:
    """Conv and ConvInteger on exact grids, ordinary numbers, or a bias larger than any sum."""
    layout = LAYOUTS[str(case.parameters["shape"])]
    formats = data.format_of(case, 0), data.format_of(case, 1)
    rng = data.rng(case, context)
    if case.op == "ConvInteger":
        return _integer(case, context, layout, formats, rng)
    kind = str(case.parameters["kind"])

    def make(x: Tensor, w: Tensor, bias: Tensor | None) -> Problem:
        now = layout.of(x, w)
        return _judged(case, context, now, (x, w, bias), x, w)

    operands = _operands(formats[0], layout.x, layout.w, layout.w[0], kind, floor_bits(case), rng)
    return shrinkable(make, operands, axes.convolution)


def transposed(case: Case, context: Context) -> Problem:
    """ConvTranspose, with output padding, dilation and uneven pads."""
    fmt = data.format_of(case, 0)
    rank = int(case.parameters.get("rank", 2))
    stride, pad, extra, group, dilation = (
        int(case.parameters.get(key, default))
        for key, default in (("stride", 1), ("pad", 0), ("extra", 0), ("group", 1), ("dilation", 1))
    )
    x_shape, kernel = (2, 4, *(4, 5, 3)[:rank]), (3, 2, 2)[:rank]
    kind, rng = str(case.parameters["kind"]), data.rng(case, context)
    operands = _operands(fmt, x_shape, (4, 6 // group, *kernel), 6, kind, floor_bits(case), rng)
    pads = (pad,) * rank + (max(pad - 1, 0),) * rank
    attributes: dict[str, Any] = {
        "strides": (stride,) * rank,
        "pads": pads,
        "dilations": (dilation,) * rank,
        "output_padding": (extra,) * rank,
    }

    def make(x: Tensor, w: Tensor, bias: Tensor | None) -> Problem:
        groups = axes.groups_of(x, 4 // group)
        stuffed, turned = _stuffed(x, stride), _turned(w, groups)
        reach = [(size - 1) * dilation for size in w.shape[2:]]
        inner = Layout(
            stuffed.shape,
            turned.shape,
            (1,) * rank,
            (
                *(r - p for r, p in zip(reach, pads, strict=False)),
                *(r - p + extra for r, p in zip(reach, pads[rank:], strict=False)),
            ),
            (dilation,) * rank,
            groups,
        )
        made = _judged(case, context, inner, (x, w, bias), stuffed, turned)
        return replace(made, attributes={**attributes, "group": groups})

    return shrinkable(make, operands, lambda *given: axes.transposed(4 // group, *given))


def _stuffed(x: Tensor, stride: int) -> Tensor:
    """Returns the input with zeros between its elements."""
    extents = [(n - 1) * stride + 1 for n in x.shape[2:]]
    codes = np.zeros((*x.shape[:2], *extents), x.codes.dtype)
    codes[(slice(None), slice(None), *(slice(None, None, stride),) * len(extents))] = x.codes
    return Tensor(x.format, codes)


def _turned(w: Tensor, groups: int) -> Tensor:
    """Returns weights [C, O / group, ...] as [O, C / group, ...], turned around in space."""
    inputs, outputs, *kernel = w.shape
    codes = w.codes.reshape(groups, inputs // groups, outputs, *kernel).swapaxes(1, 2)
    codes = codes.reshape(groups * outputs, inputs // groups, *kernel)
    return Tensor(w.format, np.flip(codes, axis=tuple(range(2, len(w.shape)))))


def _operands(
    fmt: Format,
    x_shape: tuple[int, ...],
    w_shape: tuple[int, ...],
    outputs: int,
    kind: str,
    bits: int,
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor, Tensor | None]:
    if kind == "normal":
        x, w, bias = (encode(rng.normal(size=s), fmt) for s in (x_shape, w_shape, (outputs,)))
        return x, w, bias
    limit = 3 if fmt.bits <= 16 else 15
    x = grids.mixed(grids.draw(fmt, x_shape, rng, limit), rng)
    w = grids.mixed(grids.draw(fmt, w_shape, rng, 2 if fmt.bits <= 16 else 15), rng)
    if kind == "no_bias":
        return x, w, None
    size = 2.0 ** (bits - 4) if kind == "large_bias" and fmt.bits > 16 else 8.0
    bias = represent(rng.choice([-3.0, -1.0, 1.0, 2.0], outputs) * size, fmt)
    return x, w, bias


def _judged(
    case: Case,
    context: Context,
    layout: Layout,
    operands: tuple[Tensor | None, ...],
    x: Tensor,
    w: Tensor,
) -> Problem:
    columns, extents = windows(x.codes, layout)
    product = Product(a=Tensor(x.format, columns), b=Tensor(w.format, weights(w.codes, layout)))
    bias = operands[2]
    addend = None
    if bias is not None:
        addend = np.broadcast_to(bias.values, (len(columns), layout.w[0]))
    verdict = judged(case, context, product, addend, ordered=False)
    if case.parameters["kind"] != "normal":
        assert_exact(case, verdict)
    batch, channels = layout.x[0], layout.w[0]

    def to_output(matrix: NDArray[Any]) -> NDArray[Any]:
        parted = matrix.reshape(batch, math.prod(extents), channels)
        return parted.swapaxes(1, 2).reshape(batch, channels, *extents)

    def to_matrix(output: NDArray[Any]) -> NDArray[Any]:
        parted = output.reshape(batch, channels, math.prod(extents))
        return parted.swapaxes(1, 2).reshape(-1, channels)

    turned = verdict.turned(to_output, to_matrix)
    return Problem(
        op=case.op,
        operands=operands,
        attributes=layout.attributes,
        oracle=always(turned.expected()),
    )


def windows(x: Codes, layout: Layout) -> tuple[Codes, tuple[int, ...]]:
    """Returns what each output sees, [N * places, C * taps], and the output's extents."""
    rank = x.ndim - 2
    ends = [(layout.pads[i], layout.pads[i + rank]) for i in range(rank)]
    x = np.pad(x, [(0, 0), (0, 0), *((max(b, 0), max(e, 0)) for b, e in ends)])
    cut = (slice(max(-b, 0), x.shape[2 + i] - max(-e, 0)) for i, (b, e) in enumerate(ends))
    x = x[(slice(None), slice(None), *cut)]
    reach = [(k - 1) * d + 1 for k, d in zip(layout.w[2:], layout.dilations, strict=True)]
    axes = tuple(range(2, 2 + rank))
    seen = np.lib.stride_tricks.sliding_window_view(x, reach, axes)
    places = (slice(None, None, step) for step in layout.strides)
    taps = (slice(None, None, step) for step in layout.dilations)
    seen = seen[(slice(None), slice(None), *places, *taps)]
    extents = seen.shape[2 : 2 + rank]
    order = (0, *range(2, 2 + rank), 1, *range(2 + rank, 2 + 2 * rank))
    depth = x.shape[1] * math.prod(layout.w[2:])
    return seen.transpose(order).reshape(-1, depth), extents


def weights(w: Codes, layout: Layout) -> Codes:
    """Returns the kernel as [C * taps, O], zero where a channel is of another group."""
    taps = math.prod(layout.w[2:])
    outputs, inner = layout.w[:2]
    found = np.zeros((layout.group, inner * taps, outputs), w.dtype)
    each = outputs // layout.group
    flat = w.reshape(outputs, inner * taps)
    for group in range(layout.group):
        part = slice(group * each, (group + 1) * each)
        found[group, :, part] = flat[part].T
    return found.reshape(layout.group * inner * taps, outputs)


def _integer(
    case: Case,
    context: Context,
    layout: Layout,
    formats: tuple[Format, Format],
    rng: np.random.Generator,
) -> Problem:
    """Full-range codes and zero points; padding stands for zero, whatever the zero point.

    ``ends``: each image and each kernel is all at one end of its range, for the largest sums.
    """
    kind = str(case.parameters["kind"])
    x, w = (
        Tensor(fmt, rng.integers(0, 1 << fmt.bits, shape).astype(np.uint8))
        for fmt, shape in zip(formats, (layout.x, layout.w), strict=True)
    )
    spec = claim_of(case, context, x, w)
    if kind == "ends":
        x, w = (_ends(tensor) for tensor in (x, w))
    w = mild(spec, w)
    zero_x = zero_w = None
    if kind == "ends":
        # As far from either end as a zero point can be: differences reach 255.
        zero_x = from_integers(np.array(formats[0].min), formats[0])
        zero_w = from_integers(np.resize([formats[1].min, formats[1].max], layout.w[0]), formats[1])
    elif kind != "no_zeros":
        point = formats[0].min if kind == "low_zeros" else formats[0].max - 2
        zero_x = from_integers(np.array(point), formats[0])
        count = () if kind == "scalar" else (layout.w[0],)
        drawn = rng.integers(0, 1 << formats[1].bits, count)
        zero_w = Tensor(formats[1], np.asarray(drawn).astype(np.uint8))

    def make(x: Tensor, w: Tensor, zero_x: Tensor | None, zero_w: Tensor | None) -> Problem:
        now = layout.of(x, w)
        left = x.values if zero_x is None else x.values - zero_x.values
        right = w.values
        if zero_w is not None:
            right = right - zero_w.values.reshape(-1, *[1] * (len(w.shape) - 1))
        columns, extents = windows(left, now)
        value = stored(spec, columns @ weights(right, now))
        value = value.reshape(now.x[0], math.prod(extents), now.w[0]).swapaxes(1, 2)
        shaped = value.reshape(now.x[0], now.w[0], *extents).astype(np.int64)
        return Problem(
            op=case.op,
            operands=(x, w, zero_x, zero_w),
            attributes=now.attributes,
            oracle=always(expect_exact(from_integers(shaped, INT32))),
        )

    return shrinkable(make, (x, w, zero_x, zero_w), axes.convolution)


def _ends(tensor: Tensor) -> Tensor:
    """Returns a tensor of which every other first index is all lowest, the others all highest."""
    fmt, shape = tensor.format, tensor.shape
    ends = np.resize([fmt.max, fmt.min], shape[0]).reshape(-1, *[1] * (len(shape) - 1))
    return from_integers(np.broadcast_to(ends, shape), fmt)
