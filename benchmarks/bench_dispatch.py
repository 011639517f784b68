"""Cost of one call: a one-node Add through the SDK, beside onnxruntime's of the same model.

    python benchmarks/bench_dispatch.py [backend]

Every contender runs in this process, in turn, many rounds; the table has medians of the
rounds and the ratio of the medians.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

import accelsdk

ROUNDS = 41
SHAPE = (1, 16)


def add_model() -> bytes:
    """Returns the smallest model there is: one Add of two small tensors."""
    a, b, c = (helper.make_tensor_value_info(n, TensorProto.FLOAT, SHAPE) for n in "abc")
    graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["c"])], "add", [a, b], [c])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    serialised: bytes = model.SerializeToString()
    return serialised


def contenders(backend: str) -> dict[str, Callable[[], object]]:
    """Returns what is measured, by name; onnxruntime first."""
    model = add_model()
    feeds = {name: np.ones(SHAPE, np.float32) for name in "ab"}
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    theirs = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
    client = accelsdk.connect(backend)
    loaded = client.load(client.compile(model))
    binding = loaded.bind()
    for name, array in feeds.items():
        binding.bind_input(name, array)
    binding.run()
    arguments = list(binding.inputs.values())
    outputs = list(binding.outputs)
    options = accelsdk.ExecuteOptions(block=True)
    session = accelsdk.InferenceSession(model, client)
    return {
        "onnxruntime InferenceSession.run": lambda: theirs.run(None, feeds),
        "IoBinding.run": binding.run,
        "LoadedExecutable.execute(block=True)": lambda: loaded.execute(arguments, outputs, options),
        "InferenceSession.run": lambda: session.run(None, feeds),
    }


def measure(calls: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Returns microseconds a call, one figure a round, for each contender."""
    repeats = {name: _repeats(call) for name, call in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            count = range(repeats[name])
            started = time.perf_counter()
            for _ in count:
                call()
            times[name].append((time.perf_counter() - started) / len(count) * 1e6)
    return times


def _repeats(call: Callable[[], object]) -> int:
    """Returns how many calls take about five milliseconds."""
    call()
    started = time.perf_counter()
    for _ in range(20):
        call()
    return max(int(5e-3 / ((time.perf_counter() - started) / 20)), 1)


def main() -> None:
    """Prints the table."""
    backend = sys.argv[1] if len(sys.argv) > 1 else "reference_cpu"
    medians = {k: statistics.median(v) for k, v in measure(contenders(backend)).items()}
    base = next(iter(medians.values()))
    print(f"one-node Add of {list(SHAPE)} float32, backend {backend}, {ROUNDS} rounds\n")
    print("| call | median, microseconds | ratio |\n|---|---:|---:|")
    for name, microseconds in medians.items():
        print(f"| {name} | {microseconds:.2f} | {microseconds / base:.2f} |")


if __name__ == "__main__":
    main()
