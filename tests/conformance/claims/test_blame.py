"""Claims of conversions and blocks: a false one is refuted by its name, on the simulated card."""

from collections import Counter
from dataclasses import replace

import pytest

from accelsdk_conformance.catalogue import bundled
from accelsdk_conformance.examine import examine
from accelsdk_conformance.result import Status
from accelsdk_conformance.subject import ClientSubject


class Lying:
    """The simulated card with another datasheet than its own."""

    def __init__(self, subject, **changed):
        self.subject = subject
        self.datasheet = replace(subject.datasheet, **changed)

    def run(self, problem, poison):
        return self.subject.run(problem, poison)


@pytest.fixture(scope="module")
def card():
    subject = ClientSubject("sim_card", {})
    yield subject
    subject.close()


def changed(sheet, family, **fields):
    """Returns the entries of a family, or its one spec, with fields changed."""
    held = getattr(sheet, family)
    if not hasattr(held, "items"):
        return replace(held, **fields)
    return {key: replace(spec, **fields) for key, spec in held.items()}


#: family, field, a value that is not true of the card, and ids of cases that tell
FALSE = [
    ("casts", "rounding", "toward_zero", ["fp8/Cast/fp32xe4m3/", "fp32/Cast/fp32xfp16/"]),
    ("casts", "overflow", "saturate", ["fp8/Cast/fp32xe4m3/", "fp8/Cast/fp32xe5m2/"]),
    ("casts", "inf_to", "special", ["fp8/Cast/fp32xe4m3/", "fp8/Cast/fp32xe5m2/"]),
    ("casts", "via", "bfloat16", ["fp8/Cast/fp32xe4m3/"]),
    ("quantize", "scaling", "reciprocal", ["int8/Quantize/"]),
    ("quantize", "zero_point", "before", ["int8/Quantize/"]),
    ("quantize", "rounding", "nearest_away", ["int8/Quantize/"]),
    ("integers", "overflow", "saturate", ["int8/MatMulInteger/uint8xuint8/extremes"]),
    ("integers", "pair16", "saturate", ["int8/MatMulInteger/uint8xint8/pairs"]),
    ("mx", "scale_rule", "rceil", ["mx/QuantizeBlock/"]),
    ("mx", "inf_rule", "max", ["mx/QuantizeBlock/"]),
    ("mx", "flush_fp32_subnormals", True, ["mx/QuantizeBlock/"]),
    ("mx", "int8_min", -127, ["mx/QuantizeBlock/mxint8/"]),
    ("integers", "acc_bits", 24, ["int8/MatMulInteger/uint8xuint8/extremes"]),
]


@pytest.mark.parametrize(("family", "field", "value", "ids"), FALSE, ids=lambda x: str(x)[:24])
def test_a_false_claim_of_a_conversion_is_refuted_by_its_name(card, family, field, value, ids):
    subject = Lying(card, **{family: changed(card.datasheet, family, **{field: value})})
    cases = [case for case in bundled() if any(part in case.id for part in ids)][:60]
    failed = [r for r in (examine(c, subject) for c in cases) if r.status is Status.FAILED]
    assert failed, f"{family}.{field}={value!r} survives"
    claims = Counter(result.claim.rpartition(".")[2] for result in failed)
    assert claims[field] == max(claims.values()), claims
