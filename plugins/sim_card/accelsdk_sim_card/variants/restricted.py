"""Variants that can do less: ops, formats, ranks and extents that a card does not claim.

What is not claimed is not wrong: such a card is judged by what it claims, and the report says
what it does not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from accelsdk.backend.datasheet import MxSpec, NumericsDatasheet
from accelsdk.backend.info import DeviceInfo, Threading
from accelsdk.formats import Format
from accelsdk.graph.graph import Node
from accelsdk.graph.types import Value
from accelsdk.kernels.kernel import integer, text
from accelsdk_sim_card.variants.conversions import mx_claims
from accelsdk_sim_card.variants.variant import Variant

_CONTRACTIONS = ("MatMul", "MatMulInteger", "ScaledMatMul", "Gemm")
_SCALED = ("Quantize", "Dequantize", "Requantize")
_ALL = "*"


def _values(node: Node) -> list[Value]:
    return [value for value in (*node.inputs, *node.outputs) if value is not None]


def _holds(node: Node, wanted: Callable[[Format], bool]) -> bool:
    return any(wanted(value.format) for value in _values(node))


def _no_floats(node: Node) -> bool:
    return _holds(node, lambda fmt: not fmt.is_integer)


def _integers_and_scales(node: Node) -> bool:
    return node.op not in _SCALED and _no_floats(node)


def _narrow_floats_only(node: Node) -> bool:
    if node.op == "Cast":
        return not _holds(node, lambda fmt: fmt.is_float and fmt.bits == 8)
    return node.op != "ScaledMatMul"


def _above_rank(limit: int) -> Callable[[Node], bool]:
    return lambda node: any(len(value.shape) > limit for value in _values(node))


def _empty(node: Node) -> bool:
    return any(not value.type.count for value in _values(node))


def _scalars(node: Node) -> bool:
    return any(not value.shape for value in _values(node))


def _odd_depth(node: Node) -> bool:
    """K is no multiple of 32."""
    first = node.operand(0)
    if node.op not in _CONTRACTIONS or first is None or not first.shape:
        return False
    at = 0 if node.op == "Gemm" and integer(node, "transA") else -1
    return first.shape[at] % 32 != 0


def _short_tails(node: Node) -> bool:
    if node.op not in ("QuantizeBlock", "DequantizeBlock"):
        return False
    first = node.operand(0)
    return (
        first is not None and first.shape[integer(node, "axis")] % integer(node, "block_size") != 0
    )


def _not_fixed(node: Node) -> bool:
    return node.op == "Requantize" and text(node, "arithmetic") == "float32"


def _without_gemm(sheet: NumericsDatasheet) -> NumericsDatasheet:
    """The SDK makes Gemm of MatMul and Add, which rounds twice."""
    kept = {key: spec for key, spec in sheet.contractions.items() if key[0] != "Gemm"}
    return replace(sheet, contractions=kept)


def _threaded(kind: Threading) -> Callable[[DeviceInfo], DeviceInfo]:
    return lambda device: replace(device, threading=kind)


_LESS = "what is not claimed is not wrong"
_SAID = "declared in the device"

VARIANTS: tuple[Variant, ...] = (
    Variant(
        "only_integers", "no value is a float, not even a scale", _LESS, _ALL, refuses=_no_floats
    ),
    Variant(
        "only_integers_and_scales",
        "floats are scales of Quantize, Dequantize and Requantize alone",
        _LESS,
        _ALL,
        refuses=_integers_and_scales,
    ),
    Variant(
        "only_fp8",
        "casts from and to FP8, and products of FP8, MX and nothing else",
        _LESS,
        _ALL,
        refuses=_narrow_floats_only,
    ),
    Variant(
        "only_matmul",
        "MatMul and Add, nothing else",
        _LESS,
        _ALL,
        refuses=lambda node: node.op not in ("MatMul", "Add"),
        declare=_without_gemm,
    ),
    Variant("only_nothing", "no op is claimed at all", _LESS, _ALL, refuses=lambda node: True),
    Variant("rank_4", "tensors have four axes at most", _LESS, _ALL, refuses=_above_rank(4)),
    Variant("rank_2", "tensors have two axes at most", _LESS, _ALL, refuses=_above_rank(2)),
    Variant("no_empty", "no tensor is empty", _LESS, _ALL, refuses=_empty),
    Variant("no_scalars", "no tensor has rank 0", _LESS, _ALL, refuses=_scalars),
    Variant(
        "depth_of_32",
        "K is a multiple of 32",
        _LESS,
        ", ".join(_CONTRACTIONS),
        refuses=_odd_depth,
    ),
    Variant(
        "requantize_fixed",
        "multipliers are fixed-point numbers",
        _LESS,
        "Requantize",
        refuses=_not_fixed,
    ),
    Variant(
        "mx_tail_rejected",
        "a last block that is short is not claimed",
        "declared tail",
        "QuantizeBlock, DequantizeBlock",
        refuses=_short_tails,
        declare=mx_claims(MxSpec(tail="reject")),
    ),
    Variant(
        "mx_tail_padded",
        "a last block that is short is filled with zeros",
        "declared tail; the elements and scales are the same",
        "QuantizeBlock",
        declare=mx_claims(MxSpec(tail="zero_pad")),
    ),
    *(
        Variant(
            f"threading_{kind}",
            f"calls are serialised as {kind} says",
            _SAID,
            "device, MatMul",
            device=_threaded(kind),
        )
        for kind in (Threading.PROCESS, Threading.AFFINE)
    ),
    Variant(
        "own_tickets",
        "no card understands another's tickets",
        _SAID,
        "device, MatMul",
        device=lambda device: replace(device, ticket_domain=None),
    ),
    Variant(
        "exclusive",
        "one process may open a card",
        _SAID,
        "device, MatMul",
        device=lambda device: replace(device, exclusive=True),
    ),
)
