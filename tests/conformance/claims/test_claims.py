"""Every field of an accumulator's claim: true ones pass, a false one is refuted by its name."""

from collections import Counter
from dataclasses import replace

import pytest
from simulated import Simulated

from accelsdk.numerics.accumulate import AccumulatorSpec
from accelsdk_conformance.case import Level
from accelsdk_conformance.catalogue import bundled
from accelsdk_conformance.examine import examine
from accelsdk_conformance.result import Status

BASE = AccumulatorSpec(
    guarantee="bit_exact",
    significand_bits=24,
    align_bits=25,
    width=16,
    order="contiguous",
    tree="sequential",
)
_ROWS = {
    "e4m3": "fp8/ScaledMatMul/e4m3xe4m3/",
    "e5m2": "fp8/ScaledMatMul/e5m2xe5m2/",
    "bf16": "fp32/MatMul/bf16xbf16/",
    "fp16": "fp32/MatMul/fp16xfp16/",
    "mx": "mx/ScaledMatMul/e4m3xe4m3xmx/",
    "fp32": "fp32/MatMul/fp32xfp32/",
}
_KINDS = (
    *("probes", "order", "ladder/k33", "all_ones", "all_pairs", "normal/k513", "tosa_s2/k129"),
    *("specials/k17", "subnormal", "scale_edges"),
)


def cases(row):
    return [
        case
        for case in bundled()
        if case.id.startswith(_ROWS[row])
        and case.level is not Level.EXHAUSTIVE
        and any(kind in case.id for kind in _KINDS)
    ]


def false_claims(row, actual, declared, change=None):
    subject = Simulated(actual, declared, change)
    results = [examine(case, subject) for case in cases(row)]
    return [result for result in results if result.status is Status.FAILED]


#: field: (format row, what the device does, what differs in the claim)
FALSE = {
    "guarantee": None,
    "significand_bits": ("e4m3", {"significand_bits": 22, "align_bits": 25}, 24),
    "align_bits": ("e4m3", {"align_bits": 24}, 25),
    "align_rounding": ("e4m3", {"align_rounding": "rne", "align_bits": 24}, "rz"),
    "align_exponent": (
        "e4m3",
        {"align_exponent": "normalized", "align_bits": 23},
        "operand_fields",
    ),
    "align_floor": ("fp32", {"align_floor": -126, "align_bits": 23}, -132),
    "store_rounding": ("e4m3", {"store_rounding": "rz"}, "rne"),
    "sticky": ("e4m3", {"sticky": True, "align_bits": 24}, False),
    "width": ("e4m3", {"width": 8}, 16),
    "order": ("e4m3", {"order": "even_odd"}, "contiguous"),
    "tree": ("e4m3", {"tree": "pairwise"}, "sequential"),
    "inside": ("e4m3", {"inside": "pairwise"}, "fused"),
    "lanes": ("e4m3", {"lanes": 2, "align_bits": 24}, 1),
    "stage_bits": ("e4m3", {"stage_bits": 24}, None),
    "product_bits": ("e4m3", {"product_bits": 6}, None),
    "promote_every": ("e4m3", {"promote_every": 128, "promote_bits": 24}, None),
    "subnormals_in": ("e4m3", {"subnormals_in": "flush"}, "keep"),
    "subnormals_out": ("bf16", {"subnormals_out": "flush"}, "keep"),
    "overflow": ("bf16", {"overflow": "saturate"}, "inf"),
    "product_overflow": ("bf16", {"product_overflow": "inf"}, "wide"),
    "store_range": ("e4m3", {"store_range": "float16", "significand_bits": 14}, None),
    "input_precision": None,
}


@pytest.mark.parametrize("row", _ROWS)
def test_an_honest_claim_passes(row):
    spec = BASE if row != "fp32" else replace(BASE, width=2, align_bits=None)
    assert [(r.id, r.reason) for r in false_claims(row, spec, spec)] == []


HONEST = [
    {"significand_bits": 14, "align_bits": 13, "store_rounding": "rz"},
    {"align_rounding": "rne"},
    {"align_rounding": "ru", "store_rounding": "rd"},
    {"align_exponent": "normalized"},
    {"align_bits": None},
    {"align_bits": None, "width": 1},
    {"sticky": True},
    {"order": "even_odd", "width": 8},
    {"order": "interleaved"},
    {"tree": "pairwise"},
    {"tree": "split_k:4"},
    {"inside": "pairwise"},
    {"lanes": 2, "stage_bits": 31},
    {"promote_every": 128, "promote_bits": 24, "align_bits": 13, "significand_bits": 14},
    {"subnormals_in": "flush"},
    {"product_bits": 7},
    {"width": 0},
]


@pytest.mark.parametrize("changes", HONEST, ids=str)
def test_weaker_and_other_hardware_passes_if_declared(changes):
    spec = replace(BASE, **changes)
    assert [(r.id, r.reason) for r in false_claims("e4m3", spec, spec)] == []


@pytest.mark.parametrize("name", [name for name, row in FALSE.items() if row])
def test_a_false_claim_is_refuted_by_its_name(name):
    row, changes, claimed = FALSE[name]
    actual = replace(BASE, **changes)
    told = {name: claimed}
    if name == "promote_every":
        told["promote_bits"] = None
    failed = false_claims(row, actual, replace(actual, **told))
    assert failed, f"{name}={claimed!r} survives"
    claims = Counter(result.claim.rpartition("].")[2] for result in failed)
    field = "promote" if name == "promote_every" else name
    assert claims[field] == max(claims.values()), claims
    assert f"{field}=" in next(r.reason for r in failed if r.claim.endswith(field))
