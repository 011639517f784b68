"""Conv, ConvInteger and ConvTranspose: padding made explicit."""

from __future__ import annotations

from collections.abc import Sequence

from accelsdk.compiler.rules.common import Rewrite, integer, refuse, required, rule, spatial, text
from accelsdk.compiler.rules.windows import NAMES, halves, window
from accelsdk.graph.graph import Node
from accelsdk.graph.rewrite import Builder, LoweringRule
from accelsdk.graph.types import Value


def _conv(core: str) -> Rewrite:
    def rewrite(b: Builder, node: Node) -> Sequence[Value | None]:
        x, w = required(node, 0), required(node, 1)
        shape = window(node, x.shape, w.shape[2:])
        return [
            b.op(
                core,
                *node.inputs,
                strides=shape.strides,
                pads=shape.pads,
                dilations=shape.dilations,
                group=integer(node, "group", 1),
            )
        ]

    return rewrite


def _conv_transpose(b: Builder, node: Node) -> Sequence[Value | None]:
    x, w = required(node, 0), required(node, 1)
    count = x.type.rank - 2
    kernel = w.shape[2:]
    if node.attributes.get("kernel_shape", kernel) != kernel or count < 1:
        refuse(node, f"kernel {kernel} does not fit operand {x.shape}")
    strides, dilations = spatial(node, "strides", count, 1), spatial(node, "dilations", count, 1)
    extra = spatial(node, "output_padding", count, 0)
    # The extent that the result would have with no padding (ONNX ConvTranspose).
    full = tuple(
        s * (n - 1) + e + (k - 1) * d + 1
        for s, n, e, k, d in zip(strides, x.shape[2:], extra, kernel, dilations, strict=True)
    )
    mode = text(node, "auto_pad", "NOTSET", ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"))
    pads = spatial(node, "pads", 2 * count, 0)
    wanted: tuple[int, ...] | None = None
    if "output_shape" in node.attributes:
        wanted = spatial(node, "output_shape", count, 0)
    elif mode.startswith("SAME"):
        wanted = tuple(n * s for n, s in zip(x.shape[2:], strides, strict=True))
    elif mode == "VALID":
        pads = (0,) * (2 * count)
    if wanted is not None:
        totals = tuple(f - o for f, o in zip(full, wanted, strict=True))
        pads = halves(totals, upper=mode == "SAME_UPPER")
    # A negative pad adds what no window reaches: at the end that is what output_padding does.
    begins, ends = pads[:count], pads[count:]
    before = tuple(max(-pad, 0) for pad in begins)
    bias = node.operand(2)
    made = b.op(
        "ConvTranspose",
        x,
        w,
        None if any(before) else bias,
        strides=strides,
        pads=tuple(max(pad, 0) for pad in pads),
        dilations=dilations,
        group=integer(node, "group", 1),
        output_padding=tuple(e + max(-pad, 0) for e, pad in zip(extra, ends, strict=True)),
    )
    if any(before):
        made = b.op("Pad", made, pads=(0, 0, *before, *(0 for _ in made.shape)))
        if bias is not None:
            made = b.op("Add", made, b.op("Reshape", bias, shape=(*bias.shape, *(1,) * count)))
    return [made]


RULES: tuple[LoweringRule, ...] = (
    rule("Conv", _conv("Conv"), f"{NAMES} group"),
    rule("ConvInteger", _conv("ConvInteger"), f"{NAMES} group"),
    rule("ConvTranspose", _conv_transpose, f"{NAMES} group output_padding output_shape"),
)
