"""``accelsdk probe``: fingerprint, verdict on the declaration, nearest unit, exit code."""

import json

import pytest

from accelsdk.cli.main import main
from accelsdk_conformance.probe.published import table
from accelsdk_sim_card.engines.presets import PRESETS

FP8 = ("--op", "ScaledMatMul", "--format", "float8_e5m2")


def probe(*words):
    return main(["probe", *words])


@pytest.mark.parametrize(
    ("preset", "unit"),
    [
        ("ada", "NVIDIA Ada, L40S, FP8: 5 of 5 fields"),
        ("mi300", "AMD MI300 (CDNA3), FP8: 7 of 7 fields"),
    ],
)
def test_a_preset_is_recognised(capsys, preset, unit):
    assert probe("--plugin", "sim_card", "--option", f"preset={preset}", *FP8) == 0
    shown = capsys.readouterr().out
    assert unit in shown
    assert " 0 differs" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_a_false_claim_is_refuted(capsys, tmp_path):
    file = tmp_path / "probe.json"
    defect = ("--option", "defect=accumulator_one_bit_short")
    assert probe("--plugin", "sim_card", *defect, *FP8, "--json", str(file)) == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert "align_bits is declared 25, measured 24" in shown
    found = json.loads(file.read_text())
    assert found["schema"] == 1
    assert found["plugin"]["backend"] == "sim_card"
    differing = {
        field["field"]
        for subject in found["subjects"]
        for field in subject["fields"]
        if field["verdict"] == "differs"
    }
    assert differing == {"align_bits"}


def test_casts_blocks_and_requantisation(capsys):
    ops = ("--op", "Cast", "--op", "QuantizeBlock", "--op", "Requantize", "--op", "MatMulInteger")
    assert probe("--plugin", "reference_cpu", *ops) == 0
    shown = capsys.readouterr().out
    for line in ("scale_rule", "two roundings", "acc_bits", "int8_min"):
        assert line in shown


def test_a_host_adds_as_ieee(capsys):
    assert probe("--plugin", "reference_cpu", "--op", "MatMul", "--format", "float32") == 0
    shown = capsys.readouterr().out
    assert "significand_bits        24" in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--plugin", "nobody"), "nobody"),
        (("--plugin", "sim_card", "--op", "Softmax"), "ops: MatMul"),
        (("--plugin", "sim_card", "--format", "float7"), "float7"),
        (("--plugin", "sim_card", "--option", "preset"), "NAME=VALUE"),
    ],
)
def test_mistakes_are_told(capsys, words, said):
    assert probe(*words) == 3
    assert said in capsys.readouterr().err


#: Published unit of each preset's fields.
NAMED = {
    ("v100", "half"): "NVIDIA V100",
    ("turing", "half"): "NVIDIA Turing",
    ("a100", "half"): "NVIDIA A100, A2, A30, Ada, float16",
    ("a100", "tf32"): "NVIDIA A100, A2, A30, Ada, TF32",
    ("ada", "narrow"): "NVIDIA Ada, L40S, FP8",
    ("h100", "half"): "NVIDIA H100, H200, B200, RTX PRO 6000, float16",
    ("h100", "tf32"): "NVIDIA H100, H200, B200, RTX PRO 6000, TF32",
    ("h100", "narrow"): "NVIDIA H100, H200, FP8 (wgmma)",
    ("b200", "narrow"): "NVIDIA B200, RTX PRO 6000, FP8",
    ("b200", "fp4"): "NVIDIA B200, RTX PRO 6000, MXFP4",
    ("b200", "narrow_to_half"): "NVIDIA H100, H200, B200, FP8 with float16",
    ("mi100", "half"): "AMD MI100 (CDNA1), float16",
    ("mi100", "brain"): "AMD MI100 (CDNA1), bfloat16",
    ("mi200", "half"): "AMD MI210",
    ("mi300", "half"): "AMD MI300 (CDNA3), float16",
    ("mi300", "tf32"): "AMD MI300 (CDNA3), xf32",
    ("mi300", "narrow"): "AMD MI300 (CDNA3), FP8",
}


@pytest.mark.parametrize(("preset", "field"), NAMED)
def test_presets_are_what_is_published(preset, field):
    (unit,) = [unit for unit in table() if unit.name.startswith(NAMED[preset, field])]
    spec = getattr(PRESETS[preset], field)
    published = {k: v for k, v in unit.fields.items() if k != "input_precision"}
    assert published == {name: getattr(spec, name) for name in published}


def test_every_published_unit_is_a_preset_but_the_host():
    named = [any(u.name.startswith(name) for name in NAMED.values()) for u in table()]
    assert named.count(False) == 1
