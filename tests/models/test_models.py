"""The real models on real inputs, on every backend, against onnxruntime and against float64."""

import functools

import agreement
import numpy as np
import pytest
import zoo
from one_op import OneOp

import accelsdk
from accelsdk.compiler import pipeline
from accelsdk.exchange.export import to_onnx
from accelsdk.graph.graph import Constant, Graph
from accelsdk.graph.verify import verify
from accelsdk.kernels.api import evaluate
from accelsdk.runtime.client import Client

onnxruntime = pytest.importorskip("onnxruntime")

# One process has all tests of a model: they share its float64 run.
MODELS = pytest.mark.parametrize(
    "model",
    [
        pytest.param(model, id=model.name, marks=pytest.mark.xdist_group(model.name))
        for model in zoo.EVERY
    ],
)


@pytest.fixture(autouse=True)
def _installed(model):
    try:
        model.file()
    except zoo.Missing as missing:
        pytest.skip(f"{missing}: see tests/models/requirements.txt")


# Models come in turn, so the newest few are enough; the largest takes half a gigabyte.
_keep = functools.lru_cache(maxsize=2)


@_keep
def _core(model: zoo.Model) -> Graph:
    return pipeline.to_core(model.file(), input_shapes=model.shapes, input_values=model.values)


def _named(session):
    """Makes a session a function of feeds by name; those that are no inputs are left out."""
    outputs = [item.name for item in session.get_outputs()]
    inputs = [item.name for item in session.get_inputs()]

    def run(feeds):
        found = session.run(None, {name: feeds[name] for name in inputs})
        return dict(zip(outputs, found, strict=True))

    return run


def _session(source):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns of what the exporters left in
    return _named(onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"]))


@_keep
def _onnxruntime(model: zoo.Model):
    return _session(str(model.file()))


@functools.cache
def _expected(model: zoo.Model) -> tuple[str, ...]:
    return tuple(model.run(_onnxruntime(model)))


@_keep
def _reference(model: zoo.Model, index: int = 0) -> agreement.Reference:
    # No pass has touched this graph: folding is judged with the rest.
    plain = pipeline.to_core(
        model.file(), input_shapes=model.shapes, input_values=model.values, passes=()
    )
    return agreement.Reference(plain, model.feeds()[index])


def _check(model: zoo.Model, run) -> None:
    """Holds what a runner makes of a model to its meaning, and its numbers to the criterion."""
    assert tuple(model.run(run)) == _expected(model)
    for found in _reference(model).compare(run(model.feeds()[0])):
        assert found, found


@pytest.mark.parametrize(
    "model", [m for m in zoo.EVERY if m.truth is not None], ids=lambda model: model.name
)
def test_labels_are_right(model):
    assert list(_expected(model)) == list(model.truth())


@MODELS
def test_core_graph_keeps_its_interface(model):
    graph = _core(model)
    verify(graph)
    shapes = {name: shape for name, shape in model.shapes.items() if name not in model.values}
    assert {v.name: v.shape for v in graph.inputs}.items() >= shapes.items()
    fed = _onnxruntime(model)(model.feeds()[0])
    assert {v.name: v.shape for v in graph.outputs} == {k: a.shape for k, a in fed.items()}


@MODELS
def test_kernels_agree(model):
    names = [value.name for value in _core(model).inputs]

    def run(feeds):
        return evaluate(_core(model), {name: feeds[name] for name in names})

    _check(model, run)


@MODELS
def test_onnxruntime_passes_the_same_criterion(model):
    for found in _reference(model).compare(_onnxruntime(model)(model.feeds()[0])):
        assert found, found


@MODELS
def test_the_lowered_model_runs_in_onnxruntime(model):
    _check(model, _session(to_onnx(_core(model)).SerializeToString()))


@MODELS
@pytest.mark.parametrize("backend", ["reference_cpu", "sim_card", "onnxruntime_cpu"])
def test_backends_agree(model, backend):
    with accelsdk.connect(backend, fallback=None) as client:
        _check(model, _named(accelsdk.InferenceSession(_core(model), client)))


@MODELS
def test_a_plugin_of_one_op_serves_the_whole_model(model):
    with (
        accelsdk.connect("reference_cpu") as fallback,
        Client(OneOp(model.op), fallback=fallback) as client,
    ):
        program = client.compile(_core(model))
        assert len(program.parts) > 1
        _check(model, _named(accelsdk.InferenceSession(program, client)))


@pytest.mark.parametrize("model", zoo.MODELS, ids=lambda model: model.name)
def test_bfloat16_weights_fail_the_criterion(model):
    coarse, every = _with_coarse_weights(_core(model)), model.feeds()
    # A classifier that is sure of an input says 1 whatever its weights are: another input tells.
    assert not all(
        all(_reference(model, index).compare(evaluate(coarse, feeds)))
        for index, feeds in enumerate(every)
    )


def _with_coarse_weights(graph: Graph) -> Graph:
    """The same graph with every float32 constant cut to 8 bits of significand."""
    mask = np.uint32(0xFFFF0000)
    constants = tuple(
        Constant.of(c.name, (c.array().view(np.uint32) & mask).view(np.float32))
        if c.value.format.name == "float32"
        else c
        for c in graph.constants
    )
    return Graph(graph.inputs, graph.outputs, constants, graph.nodes, graph.name)


@pytest.mark.parametrize("model", [zoo.MINILM], ids=["MiniLM"])
def test_quantised_weights_stay_quantised(model):
    graph = _core(model)
    sizes = {"int8": 0, "float32": 0}
    for constant in graph.constants:
        name = constant.value.format.name
        sizes[name] = sizes.get(name, 0) + constant.value.type.nbytes
    assert sizes["int8"] > 22_000_000
    assert sizes["float32"] < 1_000_000


@pytest.mark.parametrize("model", [zoo.SILERO], ids=["silero"])
def test_speech_is_told_from_noise(model):
    said = _expected(model)
    quarter = len(said) // 4
    shares = [said[i * quarter : (i + 1) * quarter].count("speech") / quarter for i in range(4)]
    assert shares[0] < 0.1 < 0.6 < shares[1]
    assert shares[2] < 0.4 < 0.6 < shares[3]
