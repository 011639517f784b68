"""Variants of the device: alignments, optional capabilities, ops that are not claimed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from accelsdk.backend.info import Capability, Target
from accelsdk.graph.graph import Node
from accelsdk_sim_card.variants.variant import Variant


def _aligned(size: int) -> Callable[[Target], Target]:
    return lambda target: replace(target, view_alignment=size, alignment=max(size, 64))


def _without(*lost: Capability) -> Callable[[Target], Target]:
    return lambda target: replace(target, capabilities=target.capabilities - {*lost})


def _lacks(*ops: str) -> Callable[[Node], bool]:
    return lambda node: node.op in ops


_OFFERED = "an offer, not a duty"
_SAMPLE = "MatMul, Add, Reshape, ReduceSum, Cast"

VARIANTS: tuple[Variant, ...] = (
    *(
        Variant(
            f"view_alignment_{size}",
            f"views begin at multiples of {size} bytes",
            "declared in the target",
            f"device, {_SAMPLE}",
            target=_aligned(size),
        )
        for size in (16, 64, 256, 4096)
    ),
    Variant(
        "no_telemetry",
        "no health, no telemetry, no profiling",
        _OFFERED,
        "device",
        target=_without(Capability.HEALTH, Capability.TELEMETRY, Capability.PROFILING),
    ),
    Variant(
        "no_cancel",
        "work that was submitted cannot be cancelled",
        _OFFERED,
        "device",
        target=_without(Capability.CANCEL),
    ),
    Variant(
        "no_peer_copy",
        "copies between cards go through the host",
        _OFFERED,
        "device",
        target=_without(Capability.PEER_COPY),
    ),
    Variant(
        "no_queues",
        "no queues: the SDK runs every command by itself",
        _OFFERED,
        "device",
        target=_without(Capability.QUEUES, Capability.CANCEL, Capability.PROFILING),
    ),
    Variant(
        "no_options",
        "no optional capability at all",
        _OFFERED,
        "device, MatMul, NonZero",
        target=lambda target: replace(target, capabilities=frozenset()),
    ),
    Variant(
        "no_partial_tensors",
        "results have the size that was compiled for",
        _OFFERED,
        "device, NonZero, Compress, Unique",
        target=_without(Capability.PARTIAL_TENSORS),
    ),
    Variant(
        "no_recurrence",
        "recurrent layers and selection by data are not claimed",
        "an op that is not claimed is not wrong",
        "LSTM, GRU, RNN, NonZero, Unique, Compress, NonMaxSuppression",
        refuses=_lacks("LSTM", "GRU", "RNN", "NonZero", "Unique", "Compress", "NonMaxSuppression"),
    ),
    Variant(
        "integers_only",
        "float matrix products are not claimed",
        "an op that is not claimed is not wrong",
        "MatMul, ScaledMatMul, Conv, Gemm, MatMulInteger",
        refuses=_lacks("MatMul", "ScaledMatMul", "Conv", "Gemm", "ConvTranspose"),
    ),
)
