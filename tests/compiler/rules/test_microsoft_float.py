"""Fused float ops, normalisations and the rest of com.microsoft against onnxruntime."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsdk.errors import UnsupportedGraph
from tests.compiler.rules.microsoft_peer import SEEDS, SMALL, Data, check_floats, here, model

SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)


@SMALL
@given(
    op=st.sampled_from(["Gelu", "BiasGelu", "FastGelu", "QuickGelu"]),
    shape=SHAPES,
    bias=st.booleans(),
    seed=SEEDS,
)
def test_gelu(op, shape, bias, seed):
    make = Data(seed)
    operands = [make.reals(*shape) * 3]
    if op == "BiasGelu" or (op == "FastGelu" and bias):
        operands.append(make.reals(shape[-1]))
    # x times a function in [0, 1], which onnxruntime approximates to some units of 1.
    terms = max(np.abs(operands[0]).max(), 1)
    alpha = {"alpha": 1.3} if op == "QuickGelu" and bias else {}
    check_floats(op, operands, terms=terms, **alpha)


@SMALL
@given(
    activation=st.sampled_from(
        [
            ("", None),
            ("Relu", None),
            ("Tanh", None),
            ("Sigmoid", None),
            ("LeakyRelu", [0.2]),
            ("Clip", [-0.5, 0.5]),
            ("HardSigmoid", [0.2, 0.4]),
        ]
    ),
    group=st.integers(1, 2),
    extra=st.booleans(),
    mode=st.sampled_from(["NOTSET", "SAME_UPPER", "VALID"]),
    seed=SEEDS,
)
def test_conv(activation, group, extra, mode, seed):
    make, (name, parameters) = Data(seed), activation
    node = {"pads": [1, 0, 1, 2]} if mode == "NOTSET" else {"auto_pad": mode}
    node |= {"activation": name} if name else {}
    node |= {"activation_params": parameters} if parameters else {}
    shape = {"NOTSET": (6, 6), "SAME_UPPER": (6, 6), "VALID": (4, 4)}[mode]
    operands = [
        *(make.reals(1, 2 * group, 6, 6), make.reals(2 * group, 2, 3, 3), make.reals(2 * group)),
        *([make.reals(1, 2 * group, *shape)] if extra else []),
    ]
    check_floats("FusedConv", operands, terms=18, group=group, **node)


@SMALL
@given(
    activation=st.sampled_from(["Relu", "Tanh", "LeakyRelu", "Sigmoid", "HardSigmoid", "Elu"]),
    trans=st.tuples(*[st.integers(0, 1)] * 2),
    seed=SEEDS,
)
def test_gemm(activation, trans, seed):
    make = Data(seed)
    operands = [
        make.reals(*((4, 3) if trans[0] else (3, 4))),
        make.reals(*((5, 4) if trans[1] else (4, 5))),
        make.reals(5),
    ]
    node = {"transA": trans[0], "transB": trans[1], "alpha": 0.5, "beta": 0.7}
    node |= {"activation_alpha": 0.2, "activation_beta": 0.3}
    check_floats("FusedGemm", operands, terms=4, activation=activation, **node)


@SMALL
@given(
    trans=st.tuples(*[st.integers(0, 1)] * 2),
    batch=st.tuples(*[st.integers(0, 1)] * 2),
    plain=st.booleans(),
    seed=SEEDS,
)
def test_matmul(trans, batch, plain, seed):
    make = Data(seed)
    if plain:
        batch = (0, 0)

    def shape(rows, columns, turned, moved):
        rows, columns = (columns, rows) if turned else (rows, columns)
        return (rows, 3, columns) if moved else (3, rows, columns)

    operands = [
        make.reals(*shape(4, 5, trans[0], batch[0])),
        make.reals(*shape(5, 6, trans[1], batch[1])),
    ]
    node = {"transA": trans[0], "transB": trans[1], "alpha": 0.5}
    if plain:
        check_floats("TransposeMatMul", operands, terms=5, **node)
    node |= {"transBatchA": batch[0], "transBatchB": batch[1]}
    check_floats("FusedMatMul", operands, terms=5, **node)


def test_an_unknown_activation_is_refused():
    operands = [np.zeros((2, 2), np.float32)] * 2
    with pytest.raises(UnsupportedGraph, match=r"FusedGemm.*activation 'Gelu'"):
        here(model("FusedGemm", operands, activation="Gelu"), {})


# -- normalisation -----------------------------------------------------------------------------


@SMALL
@given(
    rank=st.integers(2, 3),
    beta=st.booleans(),
    bias=st.booleans(),
    whole=st.booleans(),
    epsilon=st.sampled_from([1e-12, 1e-3]),
    seed=SEEDS,
)
def test_skip_layer_normalization(rank, beta, bias, whole, epsilon, seed):
    make = Data(seed)
    shape = (2, 3, 8)[-rank:]
    skip = shape if whole or rank == 2 else (1, 3, 8)
    pair, gamma = [make.reals(*shape), make.reals(*skip)], make.reals(8)
    extra = make.reals(8) if bias else None
    read = (1, 0, 0, 1)
    node = {"epsilon": epsilon, "outputs": read}
    full = [*pair, gamma, make.reals(8) if beta else None, extra]
    check_floats("SkipLayerNormalization", full, terms=8, **node)
    check_floats("SkipSimplifiedLayerNormalization", [*pair, gamma, extra], terms=8, **node)


@pytest.mark.parametrize("axis", [-1, 1])
@pytest.mark.parametrize("outputs", [1, 2])
def test_simplified_layer_normalization(axis, outputs):
    make = Data(1)
    operands = [make.reals(2, 3, 8), make.reals(*((8,) if axis == -1 else (3, 8)))]
    node = {"axis": axis, "epsilon": 1e-3, "outputs": outputs}
    check_floats("SimplifiedLayerNormalization", operands, terms=8, domain="", **node)


@SMALL
@given(
    segment=st.booleans(),
    mask=st.booleans(),
    positions=st.booleans(),
    length=st.integers(1, 5),
    seed=SEEDS,
)
def test_embed_layer_normalization(segment, mask, positions, length, seed):
    make = Data(seed)
    operands = [
        make.indices(9, 2, length),
        make.indices(2, 2, length) if segment else None,
        *(make.reals(9, 8), make.reals(6, 8)),
        make.reals(2, 8) if segment else None,
        *(make.reals(8), make.reals(8)),
        make.indices(2, 2, length) if mask else None,
        make.indices(6, 2, length) if positions else None,
    ]
    node = {"outputs": 3, "epsilon": 1e-3}
    check_floats("EmbedLayerNormalization", operands, terms=8, **node)


@SMALL
@given(segment=st.booleans(), mask=st.booleans(), length=st.integers(1, 5), seed=SEEDS)
def test_quantised_embed_layer_normalization(segment, mask, length, seed):
    make = Data(seed)
    optional = [make.scale() if segment else None, make.zero(np.uint8) if segment else None]
    operands = [
        make.indices(9, 2, length),
        make.indices(2, 2, length) if segment else None,
        *(make.codes(np.uint8, 9, 8), make.codes(np.uint8, 6, 8)),
        make.codes(np.uint8, 2, 8) if segment else None,
        *(make.codes(np.uint8, 8), make.codes(np.uint8, 8)),
        make.indices(2, 2, length) if mask else None,
        *(make.scale(), make.scale(), optional[0], make.scale(), make.scale()),
        *(make.zero(np.uint8), make.zero(np.uint8), optional[1]),
        *(make.zero(np.uint8), make.zero(np.uint8)),
    ]
    check_floats("QEmbedLayerNormalization", operands, outputs=2, terms=8, epsilon=1e-3)


# -- what ai.onnx has too ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("op", "operands", "held", "node"),
    [
        ("Pad", [(4, 3), [0, 1, 2, 0], ()], (1,), {"mode": "constant"}),
        ("Pad", [(4, 3), [0, 1, 2, 0]], (1,), {"mode": "reflect"}),
        ("Trilu", [(2, 4, 4)], (), {"upper": 0}),
        ("GridSample", [(1, 2, 5, 5), (1, 3, 3, 2)], (), {}),
        ("GridSample", [(1, 2, 5, 5), (1, 3, 3, 2)], (), {"mode": "nearest"}),
        (
            "GridSample",
            [(1, 2, 5, 5), (1, 3, 3, 2)],
            (),
            {"mode": "bicubic", "padding_mode": "border", "align_corners": 1},
        ),
        ("ExpandDims", [(3, 4), np.array(-2, np.int32)], (1,), {}),
        ("GatherND", [(3, 4), np.array([[0, 1], [2, 2]])], (), {}),
        ("Range", [np.array(2.5, np.float32), np.array(7, np.float32)], (0, 1), {}),
        ("Range", [np.array(9), np.array(2), np.array(-2)], (0, 1, 2), {}),
    ],
)
def test_same_as_onnx(op, operands, held, node):
    make = Data(2)
    arrays = [
        a if isinstance(a, np.ndarray) else np.array(a) if isinstance(a, list) else make.reals(*a)
        for a in operands
    ]
    check_floats(op, arrays, held=held, terms=16, **node)


@pytest.mark.parametrize(
    ("op", "words"),
    [
        ("Unique", "depend on the data"),
        ("Inverse", "no core op that inverts"),
        ("Sampling", "random"),
        ("MatMulBnb4", "no number format"),
        ("Frobnicate", "no lowering rule for com.microsoft:Frobnicate"),
    ],
)
@pytest.mark.parametrize("opset", [11, 23])
def test_refused(op, words, opset):
    made = model(op, [np.zeros((2, 2), np.float32)], opset_of=opset)
    with pytest.raises(UnsupportedGraph, match=rf"'{op}' \({op}\).*{words}"):
        here(made, {})
