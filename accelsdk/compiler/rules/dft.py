"""DFT and STFT (ONNX DFT-20, STFT-17)."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from accelsdk.compiler.rules.common import axis_of, integer, integers, refuse, required, rule
from accelsdk.compiler.rules.fourier import DIRECT, matrix, product, transform
from accelsdk.compiler.rules.sampling import cast, working
from accelsdk.graph.graph import Node
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import Value


def _dft(b: Builder, node: Node) -> Sequence[Value | None]:
    x = required(node, 0)
    rank = x.type.rank
    if rank < 2 or x.shape[-1] not in (1, 2):
        refuse(node, f"{x.type} holds no real or complex numbers along its last axis")
    given = integers(b, node, 2, "axis")
    axis = axis_of(node, -2 if not given else given[0], rank)
    if axis == rank - 1:
        refuse(node, f"axis {axis} is the one of real and imaginary parts")
    inverse, onesided = bool(integer(node, "inverse", 0)), bool(integer(node, "onesided", 0))
    extent = x.shape[axis]
    wanted = integers(b, node, 1, "dft_length")
    default = 2 * (extent - 1) if inverse and onesided else extent
    count = wanted[0] if wanted else default
    if count < 1:
        refuse(node, f"the transform would have length {count}")
    if onesided and (x.shape[-1] == 2) != inverse:
        refuse(node, "onesided takes real numbers forward and complex ones inverse")
    # The transformed axis goes next to the last, other axes become rows.
    perm = (*(i for i in range(rank - 1) if i != axis), axis, rank - 1)
    outer = tuple(x.shape[i] for i in perm[:-2])
    kind = working(x.format)
    rows = b.op("Transpose", cast(b, x, kind), perm=perm)
    rows = b.op("Reshape", rows, shape=(prod(outer), extent, x.shape[-1]))
    if inverse and onesided:
        made = _real_inverse(b, rows, count)
    else:
        made = _forward(b, rows, count, inverse, onesided)
    made = b.op("Reshape", made, shape=(*outer, *made.shape[1:]))
    back = tuple(perm.index(i) for i in range(rank))
    return [cast(b, b.op("Transpose", made, perm=back), x.format)]


def _forward(b: Builder, x: Value, count: int, inverse: bool, onesided: bool) -> Value:
    """Transforms rows [rows, n, 1 or 2], cut or padded to a length, to [rows, m, 2]."""
    results = count // 2 + 1 if onesided else count
    scale = 1 / count if inverse else 1.0
    if count <= DIRECT:
        x = _fitted(b, x, min(count, x.shape[1]))
        weights = matrix(x.shape[1], count, inverse, scale)[:, :results]
        return product(b, x, weights, 2)
    x = _fitted(b, x, count)
    if x.shape[2] == 1:
        x = b.op("Pad", x, pads=(0, 0, 0, 0, 0, 1))
    return _fitted(b, transform(b, x, inverse, scale), results)


def _real_inverse(b: Builder, x: Value, count: int) -> Value:
    """Returns the real signal [rows, count, 1] whose spectrum's first half is ``x``.

    The other half is the conjugate. The imaginary parts of the items that are their own
    conjugates (the first, and the middle one of an even length) do not count.
    """
    half = count // 2 + 1
    if count <= DIRECT:
        x = _fitted(b, x, min(half, x.shape[1]))
        weights = matrix(x.shape[1], count, True, 1 / count)
        twice = np.arange(x.shape[1])
        weights[(twice > 0) & (2 * twice != count)] *= 2
        return product(b, x, weights, 1)
    x = _fitted(b, x, half)
    own = np.ones((half, 2))
    own[0, 1] = 0
    if count % 2 == 0:
        own[-1, 1] = 0
    x = b.op("Mul", x, b.constant(own.astype(x.format.dtype), x.format))
    mirrored = b.op("Slice", x, starts=(count - half,), ends=(0,), axes=(1,), steps=(-1,))
    mirrored = b.op("Mul", mirrored, b.constant(np.array([1, -1], x.format.dtype), x.format))
    full = transform(b, b.op("Concat", x, mirrored, axis=1), True, 1 / count)
    return b.op("Slice", full, starts=(0,), ends=(1,), axes=(2,), steps=(1,))


def _fitted(b: Builder, x: Value, count: int) -> Value:
    """Cuts the middle axis, or pads it with zeros, to an extent."""
    added = count - x.shape[1]
    return b.op("Pad", x, pads=(0, 0, 0, 0, added, 0)) if added else x


def _stft(b: Builder, node: Node) -> Sequence[Value | None]:
    """Gathers frames, weighs them with the window, and transforms each."""
    signal, window = required(node, 0), node.operand(2)
    onesided = bool(integer(node, "onesided", 1))
    if signal.type.rank != 3 or signal.shape[2] not in (1, 2):
        refuse(node, f"{signal.type} holds no signals [batch, length, 1 or 2]")
    if onesided and signal.shape[2] == 2:
        refuse(node, "onesided takes real signals")
    step = (integers(b, node, 1, "frame_step") or (0,))[0]
    length = integers(b, node, 3, "frame_length")
    batch, extent = signal.shape[:2]
    count = length[0] if length else window.shape[0] if window is not None else extent
    if step < 1 or not 1 <= count <= extent:
        refuse(node, f"frames of {count} every {step} items do not fit {extent} items")
    if window is not None and window.shape != (count,):
        refuse(node, f"the window {window.type} does not fit frames of {count}")
    frames = (extent - count) // step + 1
    kind = working(signal.format)
    places = np.arange(frames, dtype=np.int64)[:, None] * step + np.arange(count)
    cut = b.op("Gather", cast(b, signal, kind), b.constant(places), axis=1)
    if window is not None:
        cut = b.op("Mul", cut, b.op("Reshape", cast(b, window, kind), shape=(count, 1)))
    rows = b.op("Reshape", cut, shape=(batch * frames, count, signal.shape[2]))
    made = _forward(b, rows, count, False, onesided)
    return [cast(b, b.op("Reshape", made, shape=(batch, frames, *made.shape[1:])), signal.format)]


RULES: tuple[LoweringRule, ...] = (
    rule("DFT", _dft, "axis inverse onesided"),
    rule("STFT", _stft, "onesided"),
)
