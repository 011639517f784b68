"""Each composite, as ONNX has it and as its decomposition, in onnxruntime.

Both are float32 evaluations of one formula. Where a result comes from ``n`` roundings of
intermediates no larger than ``scale``, each is within ``n * 2**-24 * scale`` of the exact
value, so the two differ by at most twice that; every case states its ``n`` and ``scale``.
"""

import numpy as np
import pytest

from tests.exchange.onnx_runs import one_node, run

EPS = 2.0**-24


def close(found, wanted, roundings, scale=None):
    wanted = np.asarray(wanted)
    if scale is None:
        scale = np.abs(wanted[np.isfinite(wanted)]).max(initial=1.0)
    bound = 2 * roundings * EPS * scale
    with np.errstate(invalid="ignore"):
        same = (found == wanted) | (np.isnan(found) & np.isnan(wanted))
        off = np.where(same, 0, np.abs(found.astype(np.float64) - wanted))
    assert np.all(off <= bound), f"off by {np.nanmax(off)}, bound {bound}"


def rng(seed=0):
    return np.random.default_rng(seed)


def normal(*shape, seed=0):
    return rng(seed).standard_normal(shape).astype(np.float32)


SPECIAL = np.array([0.0, -0.0, 1e-30, -1e-30, 5, -5, 30, -30, 88, -88], np.float32)


def both(op, operands, outputs=1, **attributes):
    graph, feeds = one_node(op, operands, outputs=outputs, **attributes)
    return run(graph, feeds), run(graph, feeds, expand=True)


# Exp, Log, Tanh, Erf of onnxruntime are within a few ULP: 8 roundings stand for one of them.
@pytest.mark.parametrize(
    ("op", "attributes", "roundings", "scale"),
    [
        ("Relu", {}, 0, None),
        ("LeakyRelu", {"alpha": 0.3}, 1, None),
        ("Elu", {"alpha": 1.5}, 12, None),
        ("Selu", {}, 14, None),
        ("Celu", {"alpha": 0.7}, 12, None),
        ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}, 3, 40),
        ("HardSwish", {}, 4, None),
        ("Softplus", {}, 20, None),
        ("Softsign", {}, 3, 1),
        ("Mish", {}, 40, None),
        ("ThresholdedRelu", {"alpha": 0.5}, 0, None),
        ("Swish", {"alpha": 1.5}, 16, None),
        ("Swish", {}, 16, None),
        ("Gelu", {}, 20, None),
        ("Gelu", {"approximate": "tanh"}, 24, None),
    ],
)
def test_activations(op, attributes, roundings, scale):
    x = np.concatenate([SPECIAL, normal(200), 10 * normal(50, seed=1)])
    direct, lowered = both(op, [x], **attributes)
    close(lowered[0], direct[0], roundings, scale)


def test_prelu_and_clip():
    x, slope = normal(2, 3, 4), normal(3, 1)
    direct, lowered = both("PRelu", [x, slope])
    close(lowered[0], direct[0], 1)
    for low, high in ((-0.5, 0.7), (None, 0.2), (0.1, None), (0.5, -0.5)):
        limits = [None if n is None else np.array(n, np.float32) for n in (low, high)]
        direct, lowered = both("Clip", [x, *limits])
        close(lowered[0], direct[0], 0)


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("spread", [1, 1e4])
def test_softmax(op, axis, spread):
    x = normal(3, 7, 5) * np.float32(spread)
    direct, lowered = both(op, [x], axis=axis)
    # max and difference are exact to half an ULP of x; a sum of 7 terms; Exp or Log.
    close(lowered[0], direct[0], 30)
    assert np.isfinite(lowered[0]).all()


@pytest.mark.parametrize(
    "op",
    [
        *("ReduceMean", "ReduceL1", "ReduceL2", "ReduceSumSquare"),
        *("ReduceLogSum", "ReduceLogSumExp"),
    ],
)
@pytest.mark.parametrize(("axes", "keepdims"), [((0,), 1), ((-1, 1), 0), ((0, 1, 2), 0)])
def test_reductions(op, axes, keepdims):
    x = np.abs(normal(4, 5, 6)) if op == "ReduceLogSum" else normal(4, 5, 6)
    direct, lowered = both(op, [x], axes=axes, keepdims=keepdims)
    close(lowered[0], direct[0], 120 + 16)  # at most 120 terms, then one function


def test_log_sum_exp_neither_overflows_nor_vanishes():
    x = np.array([[1000, 999.5], [-1000, -999.5], [-np.inf, -np.inf], [np.inf, 1]], np.float32)
    graph, feeds = one_node("ReduceLogSumExp", [x], axes=(1,), keepdims=0)
    (found,) = run(graph, feeds, expand=True)
    wanted = np.logaddexp.reduce(x.astype(np.float64), axis=1)
    close(found, wanted, 20, 1000)


@pytest.mark.parametrize("axis", [-1, 1])
def test_layer_normalization(axis):
    # A mean far from 0: the two-pass variance must hold where E[x^2] - E[x]^2 fails.
    x = normal(3, 4, 32) + np.float32(100)
    scale, bias = normal(*x.shape[axis:], seed=1), normal(*x.shape[axis:], seed=2)
    direct, lowered = both("LayerNormalization", [x, scale, bias], axis=axis, outputs=3)
    x64 = x.astype(np.float64)
    axes = tuple(range(axis % 3, 3))
    mean = x64.mean(axes, keepdims=True)
    inverse = 1 / np.sqrt(x64.var(axes, keepdims=True) + 1e-5)
    wanted = (x64 - mean) * inverse * scale + bias
    # The mean of n terms of about 100 is off by n/2 ULP of 100, and so is every difference.
    close(lowered[0], wanted, x[0].size, 104 * np.abs(scale).max())
    close(lowered[1], mean, x[0].size, 104)
    close(lowered[2], inverse, x[0].size, 104)
    close(direct[1], lowered[1], x[0].size, 104)


def test_rms_normalization():
    x, scale = normal(3, 4, 32), normal(32, seed=1)
    direct, lowered = both("RMSNormalization", [x, scale], axis=-1)
    close(lowered[0], direct[0], 32 + 6, 4 * np.abs(scale).max())


def test_batch_instance_and_group_normalization():
    x, scale, bias, mean = normal(2, 6, 5, 4), normal(6), normal(6, seed=1), normal(6, seed=2)
    variance = np.abs(normal(6, seed=3)) + np.float32(0.5)
    magnitude = 8 * np.abs(scale).max() * 2 + np.abs(bias).max()
    direct, lowered = both("BatchNormalization", [x, scale, bias, mean, variance])
    close(lowered[0], direct[0], 8, magnitude)
    direct, lowered = both("InstanceNormalization", [x, scale, bias])
    close(lowered[0], direct[0], 20 + 8, magnitude)
    direct, lowered = both("GroupNormalization", [x, scale, bias], num_groups=3)
    close(lowered[0], direct[0], 40 + 8, magnitude)


@pytest.mark.parametrize("turned", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_gemm(turned):
    a = normal(6, 5) if turned[0] else normal(5, 6)
    b = normal(3, 6, seed=1) if turned[1] else normal(6, 3, seed=1)
    given = {"alpha": 0.5, "beta": 2.0, "transA": turned[0], "transB": turned[1]}
    direct, lowered = both("Gemm", [a, b, normal(3, seed=2)], **given)
    close(lowered[0], direct[0], 6 + 3, 20)


def attention_in_float64(q, k, v, mask, scale, causal):
    repeat = q.shape[1] // k.shape[1]
    k, v = (np.repeat(a, repeat, 1).astype(np.float64) for a in (k, v))
    scores = q.astype(np.float64) @ k.swapaxes(2, 3) * (scale or q.shape[3] ** -0.5)
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask
    if causal:
        scores = np.where(np.tri(*scores.shape[2:], dtype=bool), scores, -np.inf)
    top = scores.max(-1, keepdims=True)
    grown = np.exp(scores - np.where(np.isinf(top), 0, top))
    total = grown.sum(-1, keepdims=True)
    return grown / np.where(total == 0, 1, total) @ v


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("kind", ["none", "bool", "float", "all"])
@pytest.mark.parametrize("scale", [0.0, 0.3])
def test_attention(causal, kind, scale):
    q, k, v = normal(2, 4, 5, 8), normal(2, 2, 6, 8, seed=1), normal(2, 2, 6, 3, seed=2)
    mask = {
        "none": None,
        "bool": rng(3).random((2, 1, 5, 6)) < 0.7,
        "float": normal(5, 6, seed=4),
        "all": np.zeros((5, 6), bool),
    }[kind]
    direct, lowered = both("Attention", [q, k, v, mask], scale=scale, is_causal=causal)
    wanted = attention_in_float64(q, k, v, mask, scale, causal)
    # Scores up to 10 from 8 products (an error of e in a score grows a weight by e), 6 weights.
    close(lowered[0], wanted, 10 * (8 + 6) + 30, 4)
    close(direct[0], lowered[0], 0)
    if kind == "all":
        assert not lowered[0].any()


# -- recurrent layers ------------------------------------------------------------------------

GATES = {"LSTM": (4, 8), "GRU": (3, 6), "RNN": (1, 2)}
TIME, BATCH, SIZE, HIDDEN = 6, 3, 5, 4


def layer(op, direction="forward", lengths=None, initial=True, bias=True, peepholes=False):
    d = 2 if direction == "bidirectional" else 1
    gates, biases = GATES[op]
    operands = [
        normal(TIME, BATCH, SIZE),
        normal(d, gates * HIDDEN, SIZE, seed=1) / 2,
        normal(d, gates * HIDDEN, HIDDEN, seed=2) / 2,
        normal(d, biases * HIDDEN, seed=3) if bias else None,
        None if lengths is None else np.array(lengths, np.int32),
        normal(d, BATCH, HIDDEN, seed=4) if initial else None,
    ]
    if op == "LSTM":
        operands.append(normal(d, BATCH, HIDDEN, seed=5) if initial else None)
        operands.append(normal(d, 3 * HIDDEN, seed=6) if peepholes else None)
    return operands


# States stay within about 2. A step sums SIZE + HIDDEN + 2 products, passes about four
# functions, and hands its error on, shrunk by gates below 1, for TIME steps.
STEP = TIME * (SIZE + HIDDEN + 2 + 4 * 8)


def compare(op, operands, **attributes):
    outputs = 3 if op == "LSTM" else 2
    given = {"hidden_size": HIDDEN, **attributes}
    direct, lowered = both(op, operands, outputs=outputs, **given)
    for found, wanted in zip(lowered, direct, strict=True):
        close(found, wanted, STEP, 2 * np.abs(wanted).max())
    return lowered


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("lengths", [None, [6, 2, 4], [6, 6, 6]])
def test_recurrent_layers(op, direction, lengths):
    compare(op, layer(op, direction, lengths), direction=direction)


@pytest.mark.parametrize("op", GATES)
def test_recurrent_layers_without_bias_or_state(op):
    compare(op, layer(op, initial=False, bias=False))


def test_lstm_peepholes():
    compare("LSTM", layer("LSTM", "bidirectional", peepholes=True), direction="bidirectional")


def test_lstm_input_forget():
    compare("LSTM", layer("LSTM"), input_forget=1)


@pytest.mark.parametrize("op", GATES)
def test_clip(op):
    compare(op, layer(op), clip=0.4)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_gru_linear_before_reset(direction):
    given = {"direction": direction, "linear_before_reset": 1}
    compare("GRU", layer("GRU", direction, [6, 3, 1]), **given)
    compare("GRU", layer("GRU", direction, bias=False), **given)


@pytest.mark.parametrize(
    ("op", "names", "alphas", "betas"),
    [
        ("LSTM", ("HardSigmoid", "Softsign", "ScaledTanh"), (0.3, 1.2), (0.4, 0.7)),
        ("LSTM", ("Sigmoid", "Affine", "Tanh"), (0.5,), (0.1,)),
        ("GRU", ("HardSigmoid", "LeakyRelu"), (0.3, 0.2), (0.4,)),
        ("GRU", ("Sigmoid", "Elu"), (0.8,), ()),
        ("RNN", ("Relu",), (), ()),
        ("RNN", ("Softplus",), (), ()),
        ("RNN", ("ThresholdedRelu",), (0.3,), ()),
    ],
)
def test_other_activations(op, names, alphas, betas):
    given = {"activations": names, "activation_alpha": alphas, "activation_beta": betas}
    compare(op, layer(op), **given)


def test_activations_of_two_directions():
    given = {
        "direction": "bidirectional",
        "activations": ("HardSigmoid", "Tanh", "HardSigmoid", "Softsign"),
        "activation_alpha": (0.3, 0.15),
        "activation_beta": (0.4, 0.6),
    }
    compare("GRU", layer("GRU", "bidirectional"), **given)


@pytest.mark.parametrize("op", GATES)
def test_batch_first_layout(op):
    """onnxruntime refuses layout 1: compare with layout 0 and transposed tensors."""
    operands = layer(op, "bidirectional", [6, 2, 4])
    plain = compare(op, operands, direction="bidirectional")
    turned = list(operands)
    turned[0] = np.ascontiguousarray(operands[0].transpose(1, 0, 2))
    for index in (5, 6) if op == "LSTM" else (5,):
        turned[index] = np.ascontiguousarray(operands[index].transpose(1, 0, 2))
    graph, feeds = one_node(
        op, turned, outputs=len(plain), hidden_size=HIDDEN, direction="bidirectional", layout=1
    )
    for expand in (False, True):
        y, *states = run(graph, feeds, expand)
        assert np.array_equal(y.transpose(1, 2, 0, 3), plain[0])
        for found, wanted in zip(states, plain[1:], strict=True):
            assert np.array_equal(found.transpose(1, 0, 2), wanted)


def test_constant_full_lengths_need_no_mask():
    from accelsdk.graph.rewrite import Builder, apply, decompositions

    b = Builder()
    operands = layer("RNN", lengths=[TIME] * BATCH)
    x = b.input("x", *_type(operands[0]))
    rest = [None if a is None else b.constant(a) for a in operands[1:]]
    y = b.op("RNN", x, *rest, hidden_size=HIDDEN)
    lowered = apply(b.graph([x], [y]), decompositions())
    assert "Where" not in {node.op for node in lowered.nodes}


def _type(array):
    from accelsdk.formats import from_dtype

    return from_dtype(array.dtype), array.shape
