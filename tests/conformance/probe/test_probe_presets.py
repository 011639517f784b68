"""The probe recovers what each preset was built with, and sees each single change of it."""

from dataclasses import replace

import pytest

from accelsdk import formats as f
from accelsdk_conformance.probe import contraction
from accelsdk_sim_card.engines.presets import CARD, PRESETS
from tests.conformance.probe.models import Engine

#: Field of a preset, formats, result and block with which it is measured.
ROUTES = (
    ("half", f.FLOAT16, f.FLOAT16, 0),
    ("half", f.BFLOAT16, f.BFLOAT16, 0),
    ("brain", f.BFLOAT16, f.BFLOAT16, 0),
    ("tf32", f.FLOAT32, f.FLOAT32, 0),
    ("half_to_half", f.FLOAT16, f.FLOAT16, 0),
    ("narrow", f.E4M3, f.FLOAT32, 0),
    ("fp4", f.E2M1, f.FLOAT32, 32),
    ("narrow_to_half", f.E5M2, f.FLOAT16, 0),
)
FIELDS = (
    *("significand_bits", "align_bits", "align_rounding", "align_exponent", "store_rounding"),
    *("sticky", "width", "order", "tree", "inside", "lanes", "stage_bits", "addend"),
    *("product_bits", "promote_every", "promote_bits", "subnormals_in", "subnormals_out"),
    *("overflow", "product_overflow", "deterministic"),
)


def built():
    """Every different unit of the presets, once for each way to measure it."""
    found = {}
    for preset in PRESETS.values():
        for name, fmt, out, block in ROUTES:
            spec = getattr(preset, name)
            other = preset.brain is not None and (name, fmt) == ("half", f.BFLOAT16)
            if spec is not None and not other:
                label = f"{preset.name}-{name}-{fmt}-{out}"
                found.setdefault((spec, fmt, out, block), label)
    return [pytest.param(*key, id=label) for key, label in found.items()]


def declared(spec, name):
    return spec.keeps_sticky if name == "sticky" else getattr(spec, name)


def seen(spec, fmt, out=f.FLOAT32, block=0):
    readings, _ = contraction.measure(Engine(spec, fmt, out, block))
    return {name: reading for name, reading in readings.items() if reading.measured}


@pytest.mark.parametrize(("spec", "fmt", "out", "block"), built())
def test_a_preset_is_recovered(spec, fmt, out, block):
    found = seen(spec, fmt, out, block)
    assert {name: found[name].value for name in FIELDS if name in found} == {
        name: declared(spec, name) for name in FIELDS if name in found
    }
    needed = {"significand_bits", "store_rounding", "width", "order", "tree", "inside"}
    if spec.align_bits is not None:
        needed |= {"align_bits", "align_rounding", "align_exponent"}
    assert needed <= set(found)


TF32 = PRESETS["h100"].tf32
MI300 = PRESETS["mi300"].narrow
#: Change of a unit, and the fields besides it that the change implies.
MUTANTS = (
    (CARD, f.E4M3, {"significand_bits": 23}, set()),
    (CARD, f.E4M3, {"significand_bits": 13}, {"addend"}),
    (CARD, f.E4M3, {"align_bits": 24}, set()),
    (CARD, f.E4M3, {"align_bits": 26}, set()),
    (CARD, f.E4M3, {"align_rounding": "rne"}, set()),
    (CARD, f.E4M3, {"align_rounding": "rd"}, set()),
    (CARD, f.E4M3, {"align_rounding": "ru"}, {"stage_bits", "sticky"}),
    (CARD, f.E4M3, {"store_rounding": "rz"}, {"stage_bits", "sticky"}),
    (CARD, f.E4M3, {"store_rounding": "ru"}, {"stage_bits", "sticky"}),
    (CARD, f.E4M3, {"store_rounding": "rd"}, {"stage_bits", "sticky"}),
    (CARD, f.E4M3, {"width": 16}, {"carry_bits"}),
    (CARD, f.E4M3, {"width": 5}, {"carry_bits"}),
    (CARD, f.E4M3, {"order": "even_odd"}, set()),
    (CARD, f.E4M3, {"order": "interleaved"}, set()),
    (CARD, f.E4M3, {"lanes": 2}, set()),
    (CARD, f.E4M3, {"stage_bits": 29}, set()),
    (CARD, f.E4M3, {"addend": "separate"}, set()),
    (CARD, f.E4M3, {"product_bits": 6}, set()),
    (CARD, f.E4M3, {"subnormals_in": "flush"}, set()),
    (replace(CARD, significand_bits=20), f.E4M3, {"addend": "initial"}, set()),
    (TF32, f.BFLOAT16, {"subnormals_out": "flush"}, set()),
    (TF32, f.BFLOAT16, {"overflow": "saturate"}, set()),
    (TF32, f.BFLOAT16, {"overflow": "wide"}, set()),
    (TF32, f.BFLOAT16, {"product_overflow": "inf"}, set()),
    (MI300, f.E5M2, {"stage_bits": 27}, set()),
    (MI300, f.E5M2, {"lanes": 1}, set()),
    (
        replace(CARD, significand_bits=14, align_bits=13),
        f.E4M3,
        {"promote_every": 64, "promote_bits": 24},
        {"same_order"},
    ),
)


@pytest.mark.parametrize(("spec", "fmt", "change", "implied"), MUTANTS, ids=range(len(MUTANTS)))
def test_a_change_shows_in_its_own_field_alone(spec, fmt, change, implied):
    base, mutant = seen(spec, fmt), seen(replace(spec, **change), fmt)
    different = {name for name in base.keys() | mutant.keys() if base.get(name) != mutant.get(name)}
    assert set(change) <= different <= set(change) | implied
    assert {name: mutant[name].value for name in change} == change
