"""A failure of any generator shrinks to a few elements, and its folder judges any card alone."""

import pytest

from accelsdk_conformance.catalogue import bundled
from accelsdk_conformance.examine import attempt
from accelsdk_conformance.problem import Context
from accelsdk_conformance.registry import generator
from accelsdk_conformance.replay import case_of, folder_name, from_folder
from accelsdk_conformance.result import Status
from accelsdk_conformance.settings import Settings, Study
from accelsdk_conformance.study import study_case
from accelsdk_conformance.subject import ClientSubject

#: Defect of the simulated card, a case that it fails, and the elements of the smallest input.
PAIRS = [
    ("bias_twice", "fp32/Conv/fp32xfp32/grid/grouped", 3),
    ("bias_twice", "fp32/Conv/fp32xfp32/grouped2d", 3),
    (
        "conv_transpose_flipped",
        "fp32/ConvTranspose/fp32xfp32/grid/rank1/stride2/pad0/extra0/group1/dilation1",
        5,
    ),
    ("bias_twice", "fp32/ConvTranspose/fp32xfp32/extended/bias1", 8),
    ("maxpool_pads_zero", "fp32/MaxPool/fp32/k2s1p1", 4),
    ("avgpool_counts_padding", "fp32/AveragePool/fp32/k2s1p1/include0", 4),
    ("resize_nearest", "fp32/Resize/fp16/linear/up/half_pixel", 4),
    ("softmax_no_max", "fp32/Softmax/fp32/n17/axis0", 4),
    ("normalization_epsilon", "fp32/LayerNormalization/fp32/n2", 8),
    ("last_element_lost", "fp32/Gemm/fp32/a0b0c_row", 8),
    ("attention_scale", "fp32/Attention/fp32/none", 12),
    ("topk_ties_reversed", "fp32/TopK/fp32/k1/largest0", 4),
    (
        "suppress_touching",
        "fp32/NonMaxSuppression/fp32/suppress/boxes40/most3/iou0.5/score0.5/centred1",
        12,
    ),
    ("nonzero_column_major", "fp32/NonZero/fp64/nonzero/cube/half", 4),
    ("unique_last", "fp32/Unique/fp32/unique/rank1/axis0/sorted0", 4),
    ("compress_ends", "fp32/Compress/fp64/compress/axis2/short2/half", 4),
    ("lstm_gate_order", "fp32/LSTM/fp32/forward", 20),
    ("requant_ties_away", "int8/Requantize/int8/float32/power2/bias0/relu0", 4),
    ("quantize_ties_away", "int8/Quantize/uint8/channel1", 4),
    ("mx_scale_ceil", "mx/QuantizeBlock/e4m3/amax", 4),
    ("mx_zero_scale", "mx/DequantizeBlock/e4m3/axis0/tail0", 4),
    ("embedding_nibble_order", "int8/SparseLengthsSumFused/uint8/bits4/weighted0", 12),
    (
        "embedding_weight_order",
        "fp32/SparseLengthsSum/fp32/grid/mixed/columns1/weighted1/int64",
        12,
    ),
    ("scatter_last_update", "fp32/ScatterElements/fp32/axis1", 12),
    ("cumsum_inclusive", "fp32/CumSum/fp32/axis0/exclusive1/reverse0", 4),
    ("where_last", "fp32/Where/fp32/mixed", 6),
    ("clip_drops_nan", "fp32/Clip/fp32/both", 4),
    ("transpose_inverse", "fp32/Transpose/fp64/rank4", 12),
    ("power_by_logarithm", "fp32/Pow/fp32/same", 4),
]


@pytest.fixture(scope="module")
def cases():
    wanted = {name for _, name, _ in PAIRS}
    return {case.id: case for case in bundled() if case.id in wanted}


@pytest.fixture(scope="module")
def sound():
    card = ClientSubject("sim_card", {})
    yield card
    card.close()


@pytest.mark.parametrize(("defect", "name", "most"), PAIRS)
def test_a_failing_case_shrinks_and_its_folder_replays(defect, name, most, cases, sound, tmp_path):
    case, card = cases[name], ClientSubject("sim_card", {"defect": defect})
    settings = Settings(plugin="sim_card", study=Study(repeats=1, folder=str(tmp_path)))
    problem = generator(case.generator)(case, Context(card.datasheet))
    found = study_case(case, card, settings, lambda: None, card.recover)
    assert found.status is Status.FAILED
    assert "not smaller within" not in found.shrunk
    again = case_of(tmp_path / folder_name(name))
    smallest = from_folder(again, Context(card.datasheet))
    assert size(smallest) <= most
    assert size(smallest) < size(problem)
    assert attempt(again, smallest, card).result.status is Status.FAILED
    assert attempt(again, smallest, sound).result.status is Status.PASSED
    card.close()


def size(problem):
    return sum(operand.codes.size for operand in problem.operands if operand is not None)
