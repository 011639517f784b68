"""Compiling holds no second copy of the weights: they stay in the file, or on the spool."""

import json
import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

MEASURE = """
import json, resource, sys
import accelsdk
import accelsdk.compiler.importer
import accelsdk.compiler.pipeline
from accelsdk.runtime.client import Client
from tests.runtime.plans import OneOp, reference

path, out, partition = sys.argv[1:]
other = Client(reference())
client = Client(OneOp(), fallback=other) if partition == "parts" else other
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
client.compile(path).save(out)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps(1024 * (after - before)))
"""


@pytest.fixture(scope="module", params=[16, 1], ids=["many weights", "one weight"])
def path(request, tmp_path_factory):
    """A chain of matrix products with 96 MiB of weights in all."""
    count, rng = request.param, np.random.default_rng(0)
    size = int((96 << 20) / 4 / count) // 1024
    names = [f"h{i}" for i in range(count)]
    weights, nodes = [], []
    for number, name in enumerate(names):
        shape = (1024, size) if number % 2 == 0 else (size, 1024)
        array = rng.random(shape, np.float32)
        weights.append(numpy_helper.from_array(array, f"w{number}"))
        source = names[number - 1] if number else "x"
        nodes.append(helper.make_node("MatMul", [source, f"w{number}"], [f"{name}_"]))
        nodes.append(helper.make_node("Relu", [f"{name}_"], [name]))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1024])
    y = helper.make_tensor_value_info(names[-1], TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [x], [y], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    made = tmp_path_factory.mktemp("models") / "large.onnx"
    onnx.save(model, made)
    return made


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss counts KiB on Linux only")
@pytest.mark.parametrize("partition", ["whole", "parts"])
def test_peak_memory_is_at_most_one_and_a_half_models(path, tmp_path, partition):
    search = os.pathsep.join(filter(None, [os.getcwd(), *sys.path]))
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path), str(tmp_path / "out"), partition],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": search},
    )
    assert json.loads(done.stdout) <= 1.5 * path.stat().st_size
