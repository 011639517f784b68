"""BitShift of signed integers, BitCast, and Mod that follows the divisor's sign."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from accelsdk.compiler.rules.common import integer, refuse, refuse_varying, required, rule, text
from accelsdk.formats import BOOL, Format, Kind, by_name
from accelsdk.graph.graph import Array, Node
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import Value


def _bit_shift(b: Builder, node: Node) -> Sequence[Value | None]:
    """Shifts; of signed integers, right is arithmetic and left drops what leaves the width.

    By opset 26 an amount that is negative, or the width or more, shifts everything out. As an
    unsigned number such an amount is the width or more, which the core op defines alike.
    """
    x, y = required(node, 0), required(node, 1)
    direction = text(node, "direction", "", ("LEFT", "RIGHT"))
    if x.format.kind is not Kind.INT or y.format is not x.format:
        return [b.op("BitShift", x, y, direction=direction)]
    codes = by_name(f"u{x.format.name}")
    amount = b.op("Cast", y, to=codes.name)
    if direction == "LEFT":
        shifted = b.op("BitShift", b.op("Cast", x, to=codes.name), amount, direction=direction)
        return [b.op("Cast", shifted, to=x.format.name)]
    # For negative x: -1 - x has zeros where x has sign bits, and x >> y is ~(~x >> y).
    negative = b.op("Less", x, b.scalar(0, x.format))
    folded = b.op("Where", negative, b.op("BitwiseNot", x), x)
    shifted = b.op("BitShift", b.op("Cast", folded, to=codes.name), amount, direction=direction)
    back = b.op("Cast", shifted, to=x.format.name)
    return [b.op("Where", negative, b.op("BitwiseNot", back), back)]


def _bit_cast(b: Builder, node: Node) -> Sequence[Value | None]:
    """Reinterprets codes: at compile time, or between integers, whose casts keep the bits."""
    x = required(node, 0)
    target = by_name(text(node, "to", ""))
    if x.format.bits != target.bits:
        refuse(node, f"{x.format.name} and {target.name} differ in width")
    if x.format is target:
        return [x]
    known = b.known(x)
    if known is not None:
        return [b.constant(_reinterpreted(known, x.format, target), target)]
    whole = x.format.is_integer or x.format is BOOL
    if whole and target.is_integer and target.bits >= 8:
        return [b.op("Cast", x, to=target.name)]
    what = f"no core op reinterprets {x.format.name} as {target.name}: its operand (operand 0)"
    refuse_varying(node, x, what)


def _reinterpreted(array: Array, source: Format, target: Format) -> Array:
    """The same codes in another format; codes below a byte lie in the low bits of one."""
    codes = np.ascontiguousarray(array)
    if source.bits < 8:
        codes = codes.view(np.uint8) & np.uint8((1 << source.bits) - 1)
        if target.kind is Kind.INT:
            sign = np.uint8(1 << (target.bits - 1))
            codes = (codes ^ sign) - sign
    return codes.view(target.dtype).reshape(array.shape)


def _mod(b: Builder, node: Node) -> Sequence[Value | None]:
    """Remainder; for floats without ``fmod``, as Python's ``%``: it has the divisor's sign.

    fmod is exact, and what has the wrong sign is moved by one divisor, as `numpy.mod` does.
    """
    x, y = required(node, 0), required(node, 1)
    fmod = integer(node, "fmod", 0)
    if fmod or not x.format.is_float:
        return [b.op("Mod", x, y, fmod=fmod)]
    zero = b.scalar(0, x.format)
    rest = b.op("Mod", x, y, fmod=1)
    below = b.op("Less", y, zero)
    differs = b.op("Xor", b.op("Less", rest, zero), below)
    moved = b.op("Where", differs, b.op("Add", rest, y), rest)
    signed_zero = b.op("Where", below, b.scalar(-0.0, x.format), zero)
    return [b.op("Where", b.op("Equal", rest, zero), signed_zero, moved)]


RULES: tuple[LoweringRule, ...] = (
    rule("BitShift", _bit_shift, "direction"),
    rule("BitCast", _bit_cast, "to"),
    rule("Mod", _mod, "fmod"),
)
