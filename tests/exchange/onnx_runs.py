"""Running exported graphs in onnxruntime."""

import numpy as np
import onnx
import onnxruntime

from accelsdk.exchange.export import to_onnx
from accelsdk.exchange.storage import from_storage, to_storage
from accelsdk.graph.graph import Graph
from accelsdk.graph.rewrite import Builder

onnxruntime.set_default_logger_severity(4)


def run(graph: Graph, feeds: dict[str, np.ndarray], expand: bool = False) -> list[np.ndarray]:
    """Outputs of the exported graph, in the dtypes of their formats."""
    model = to_onnx(graph, expand=expand)
    onnx.checker.check_model(model, full_check=True)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    given = {v.name: to_storage(feeds[v.name], v.format) for v in graph.inputs}
    found = session.run(None, given)
    return [
        from_storage(array, value.format) for array, value in zip(found, graph.outputs, strict=True)
    ]


def one_node(op, operands, formats=None, outputs=1, **attributes):
    """A graph of one node on arrays (None: left out), and the feeds for it."""
    from accelsdk.formats import from_dtype

    b = Builder()
    inputs, feeds = [], {}
    for index, array in enumerate(operands):
        if array is None:
            inputs.append(None)
            continue
        format = (formats or {}).get(index) or from_dtype(array.dtype)
        value = b.input(f"x{index}", format, array.shape)
        feeds[value.name] = array
        inputs.append(value)
    made = b.op(op, *inputs, outputs=outputs, **attributes)
    results = made if isinstance(made, tuple) else (made,)
    return b.graph([v for v in inputs if v is not None], results), feeds
