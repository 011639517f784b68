"""LSTM, GRU and RNN as ONNX writes them, against onnxruntime, with every attribute."""

import numpy as np
import onnxruntime
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from accelsdk.compiler import pipeline
from accelsdk.graph.rewrite import apply, decompositions
from accelsdk.kernels.api import evaluate

#: Gates, activations of one direction, and states of each layer.
LAYERS = {"LSTM": (4, 3, 2), "GRU": (3, 2, 1), "RNN": (1, 1, 1)}
#: Activations, and how many of alpha and beta each takes.
ACTIVATIONS = {
    **dict.fromkeys(("Tanh", "Sigmoid", "Relu", "Softsign", "Softplus"), (0, 0)),
    **dict.fromkeys(("LeakyRelu", "ThresholdedRelu", "Elu"), (1, 0)),
    **dict.fromkeys(("Affine", "ScaledTanh", "HardSigmoid"), (1, 1)),
}
ARRAYS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")


def drawn_activations(data, count):
    names = data.draw(st.lists(st.sampled_from(list(ACTIVATIONS)), min_size=count, max_size=count))
    wants = [ACTIVATIONS[name] for name in names]
    few = st.sampled_from([0.25, 0.5, 1.0])
    alpha = [data.draw(few) for alphas, _ in wants for _ in range(alphas)]
    beta = [data.draw(few) for _, betas in wants for _ in range(betas)]
    given_names = {"activations": names}
    given_names |= {"activation_alpha": alpha} if alpha else {}
    return given_names | ({"activation_beta": beta} if beta else {})


def layer(op, data, opset):
    """A model of one layer, and its operands; shapes, operands and attributes are drawn."""
    gates, activations, states = LAYERS[op]
    steps, batch, size, hidden = (data.draw(st.integers(1, most)) for most in (4, 3, 3, 3))
    direction = data.draw(st.sampled_from(["forward", "reverse", "bidirectional"]))
    count = 2 if direction == "bidirectional" else 1
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    shapes = {
        "X": (steps, batch, size),
        "W": (count, gates * hidden, size),
        "R": (count, gates * hidden, hidden),
        "B": (count, 2 * gates * hidden),
        "initial_h": (count, batch, hidden),
        "initial_c": (count, batch, hidden),
        "P": (count, 3 * hidden),
    }
    arrays = {name: rng.normal(0, 0.4, s).astype(np.float32) for name, s in shapes.items()}
    arrays["sequence_lens"] = rng.integers(1, steps + 1, batch).astype(np.int32)
    optional = ["B", "sequence_lens", "initial_h", *(["initial_c", "P"] if op == "LSTM" else [])]
    left_out = {name for name in optional if data.draw(st.booleans())}
    names = [n if n not in left_out and (n in optional or n in "XWR") else "" for n in ARRAYS]
    attributes = {"direction": direction, "hidden_size": hidden}
    if data.draw(st.booleans()):
        attributes |= drawn_activations(data, activations * count)
    if data.draw(st.booleans()):
        attributes["clip"] = data.draw(st.sampled_from([0.3, 1.0, 10.0]))
    extra = {"LSTM": "input_forget", "GRU": "linear_before_reset"}.get(op)
    if extra and data.draw(st.booleans()):
        attributes[extra] = 1
    while not names[-1]:
        names.pop()
    outputs = ["Y", "Y_h", "Y_c"][: 1 + states]
    node = helper.make_node(op, names, outputs, **attributes)
    feeds = {name: arrays[name] for name in names if name}
    infos = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for n, a in feeds.items()
    ]
    results = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs]
    graph = helper.make_graph([node], "g", infos, results)
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8), feeds


def close(found, wanted):
    for value, expected in zip(found, wanted, strict=True):
        assert value.shape == expected.shape
        # A few rounded steps of numbers near 1; unbounded activations let errors grow.
        scale = np.maximum(1, np.abs(expected))
        np.testing.assert_array_less(np.abs(value - expected) / scale, 1e-4)


@pytest.mark.parametrize("op", LAYERS)
@given(data=st.data())
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
def test_layer(op, data):
    model, feeds = layer(op, data, data.draw(st.sampled_from([14, 22])))
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    wanted = session.run(None, feeds)
    assume(all(np.isfinite(array).all() for array in wanted))  # its Softplus overflows from 88 on
    graph = pipeline.to_core(model)
    close(evaluate(graph, feeds).values(), wanted)
    close(evaluate(apply(graph, decompositions()), feeds).values(), wanted)


@pytest.mark.parametrize("op", LAYERS)
@given(data=st.data())
@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
def test_layout_puts_the_batch_first(op, data):
    """onnxruntime has no layout 1: the same layer with transposed operands is the reference."""
    model, feeds = layer(op, data, 22)
    wanted = list(evaluate(pipeline.to_core(model), feeds).values())
    turned = dict(feeds)
    for name in ("X", "initial_h", "initial_c"):
        if name in turned:
            turned[name] = np.ascontiguousarray(turned[name].swapaxes(0, 1))
    node = model.graph.node[0]
    node.attribute.append(helper.make_attribute("layout", 1))
    for item in model.graph.input:
        for dim, extent in zip(
            item.type.tensor_type.shape.dim, turned[item.name].shape, strict=True
        ):
            dim.dim_value = extent
    y, *last = evaluate(pipeline.to_core(model), turned).values()
    close([y, *last], [wanted[0].transpose(2, 0, 1, 3), *(v.swapaxes(0, 1) for v in wanted[1:])])
