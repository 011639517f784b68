"""A real model, quantised by onnxruntime's own tool: opset 11, with ops of com.microsoft."""

import numpy as np
import onnx
import pytest
import zoo

from accelsdk.compiler import pipeline
from accelsdk.kernels.api import evaluate
from tests.compiler.rules.microsoft_peer import peer

quantization = pytest.importorskip("onnxruntime.quantization")


class _Reader(quantization.CalibrationDataReader):
    def __init__(self, feeds):
        self.feeds = iter(feeds)

    def get_next(self):
        return next(self.feeds, None)


@pytest.mark.parametrize("form", ["QOperator", "QDQ", "dynamic"])
def test_textline_classifier(form, tmp_path):
    model = next(m for m in zoo.MODELS if "textline" in m.name)
    try:
        source = str(model.file())
    except zoo.Missing as missing:
        pytest.skip(str(missing))
    feeds, path = list(model.feeds()), tmp_path / "quantised.onnx"
    if form == "dynamic":
        quantization.quantize_dynamic(source, path)
    else:
        kind = quantization.QuantFormat[form]
        quantization.quantize_static(source, path, _Reader(feeds), quant_format=kind)
    made = onnx.load(path)
    graph = pipeline.to_core(made, input_shapes=model.shapes)
    for feed in feeds[:2]:
        (theirs,) = peer(made, feed, optimised=False)
        (ours,) = evaluate(graph, feed).values()
        assert np.argmax(ours) == np.argmax(theirs)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2 / 255)
