"""Variants of convolutions: fast algorithms, declared, and other orders of their sums."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from accelsdk.backend.datasheet import NumericsDatasheet
from accelsdk.formats import BFLOAT16, FLOAT16, FLOAT32
from accelsdk.graph.graph import Node
from accelsdk.kernels.kernel import Kernel, integer, integers, shape_of
from accelsdk.numerics import codec
from accelsdk.numerics.accumulate import AccumulatorSpec
from accelsdk.numerics.rounding import Overflow
from accelsdk_sim_card.defects.defect import Array, Bind, fmt_of, is_op
from accelsdk_sim_card.engines.windows import Windows
from accelsdk_sim_card.variants.variant import Declare, Variant

if TYPE_CHECKING:
    from accelsdk_sim_card.arithmetic import Arithmetic

_FLOATS = (FLOAT32, FLOAT16, BFLOAT16)
#: Convolves a padded image [N, C, H, W] with weights [O, C, R, S], with strides of one.
Dense = Callable[[Array, Array], Array]
#: Transforms of input, weights and result (Lavin and Gray, arXiv 1509.09308, section 4).
_F2 = (
    ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1)),
    ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1)),
    ((1, 1, 1, 0), (0, 1, -1, -1)),
)
_F4 = (
    (
        (4, 0, -5, 0, 1, 0),
        (0, -4, -4, 1, 1, 0),
        (0, 4, -4, -1, 1, 0),
        (0, -2, -1, 2, 1, 0),
        (0, 2, -1, -2, 1, 0),
        (0, 4, 0, -5, 0, 1),
    ),
    (
        (1 / 4, 0, 0),
        (-1 / 6, -1 / 6, -1 / 6),
        (-1 / 6, 1 / 6, -1 / 6),
        (1 / 24, 1 / 12, 1 / 6),
        (1 / 24, -1 / 12, 1 / 6),
        (0, 0, 1),
    ),
    ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1)),
)


def _winograd(made: tuple[tuple[tuple[float, ...], ...], ...]) -> Dense:
    """Returns Winograd's convolution of 3 by 3 weights, all of it in float32."""
    into, of_weights, out = (np.array(matrix, np.float32) for matrix in made)
    side, step = len(into), len(out)

    def convolve(x: Array, w: Array) -> Array:
        height, width = x.shape[2] - 2, x.shape[3] - 2
        tiles = [-(-extent // step) for extent in (height, width)]
        more = [tiles[i] * step + 2 - x.shape[2 + i] for i in (0, 1)]
        x = np.pad(x, [(0, 0), (0, 0), (0, more[0]), (0, more[1])])
        seen = np.lib.stride_tricks.sliding_window_view(x, (side, side), (2, 3))
        data = into @ seen[:, :, ::step, ::step] @ into.T  # [N, C, tiles, tiles, side, side]
        kernels = of_weights @ w @ of_weights.T
        product = np.einsum("ncyxij,ocij->noyxij", data, kernels)
        result = out @ product @ out.T
        whole = result.swapaxes(3, 4).reshape(*result.shape[:2], tiles[0] * step, tiles[1] * step)
        return np.asarray(whole[:, :, :height, :width])

    return convolve


def _fourier(x: Array, w: Array) -> Array:
    """Products of spectra, all of them in single precision."""
    size = x.shape[2:]
    kernels = np.fft.rfft2(w[..., ::-1, ::-1], s=size)
    spectrum = np.einsum("nchw,ochw->nohw", np.fft.rfft2(x), kernels)
    whole = np.fft.irfft2(spectrum, s=size)
    return np.asarray(whole[:, :, w.shape[2] - 1 :, w.shape[3] - 1 :].astype(np.float32))


def _dense(convolve: Dense, square: bool) -> Bind:
    """Returns the binding of convolutions with strides and dilations of one."""

    def bind(node: Node, arithmetic: Arithmetic) -> Kernel | None:
        if not is_op(node, "Conv") or fmt_of(node) not in _FLOATS or Windows(node).empty:
            return None
        shape, group = shape_of(node, 1), integer(node, "group")
        if len(shape) != 4 or {*integers(node, "strides"), *integers(node, "dilations")} != {1}:
            return None
        if square and shape[2:] != (3, 3):
            return None
        top, left, bottom, right = integers(node, "pads")

        def conv(x: Array, w: Array, bias: Array | None = None) -> tuple[Array, ...]:
            edges = [(0, 0), (0, 0), (top, bottom), (left, right)]
            images = np.split(np.pad(x.astype(np.float32), edges), group, axis=1)
            kernels = np.split(w.astype(np.float32), group)
            parts = [convolve(i, k) for i, k in zip(images, kernels, strict=True)]
            total = np.concatenate(parts, axis=1)
            if bias is not None:
                total = total + bias.astype(np.float32)[:, None, None]
            return (_rounded(total, node),)

        return conv

    return bind


def _rounded(total: Array, node: Node) -> Array:
    target = node.result.format
    wide = np.ascontiguousarray(total, np.float32)
    if target is FLOAT32:
        return wide
    return np.asarray(codec.cast(wide, FLOAT32, target, overflow=Overflow.SPECIAL))


def _by_taps(node: Node, arithmetic: Arithmetic) -> Kernel | None:
    """One multiply-add after the other, the taps of all channels in turn, the bias first."""
    if not is_op(node, "Conv") or fmt_of(node) not in _FLOATS or Windows(node).empty:
        return None
    windows = Windows(node)

    def conv(x: Array, w: Array, bias: Array | None = None) -> tuple[Array, ...]:
        columns = windows.columns(x.astype(np.float32))
        weights = windows.weights(w.astype(np.float32))
        total: Array = np.zeros((), np.float32)
        if bias is not None:
            total = bias.astype(np.float32).reshape(windows.group, 1, -1)
        order = np.arange(windows.depth).reshape(windows.w_shape[1], -1).T.reshape(-1)
        for k in order:
            total = np.asarray(total + columns[:, :, k, None] * weights[:, None, k])
        return (_rounded(windows.result(total), node),)

    return conv


def _claiming(spec: AccumulatorSpec) -> Declare:
    """Returns the maker of a datasheet with this claim for every float convolution."""

    def declare(sheet: NumericsDatasheet) -> NumericsDatasheet:
        own = {("Conv", *(fmt.name,) * 3): spec for fmt in _FLOATS}
        return replace(sheet, contractions={**sheet.contractions, **own})

    return declare


VARIANTS: tuple[Variant, ...] = (
    *(
        Variant(
            f"conv_{spec.algorithm}",
            summary,
            "declared algorithm",
            "Conv",
            bind=_dense(convolve, square),
            declare=_claiming(spec),
        )
        for spec, summary, convolve, square in (
            (
                AccumulatorSpec(algorithm="winograd_f2"),
                "Winograd's convolution, tiles of 2 by 2",
                _winograd(_F2),
                True,
            ),
            (
                AccumulatorSpec(algorithm="winograd_f4"),
                "Winograd's convolution, tiles of 4 by 4",
                _winograd(_F4),
                True,
            ),
            (
                AccumulatorSpec(algorithm="fft"),
                "convolution as a product of spectra",
                _fourier,
                False,
            ),
        )
    ),
    Variant(
        "conv_by_taps",
        "one multiply-add after the other, channels innermost, the bias first",
        "the order of a convolution is unclaimed",
        "Conv",
        bind=_by_taps,
    ),
)
